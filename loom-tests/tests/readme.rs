//! The example that `README.md` shows is the one that `your_own_protocol.rs` runs, word for word.

const README: &str = include_str!("../README.md");
const EXAMPLE: &str = include_str!("your_own_protocol.rs");

#[test]
fn the_readme_shows_the_example_that_runs() {
    let (_header, code) = EXAMPLE.split_once("\n\n").expect("a header, an empty line, the code");
    assert!(README.contains(&format!("```rust\n{code}```\n")), "copy the example to README.md");
}

//! What the documentation says of the code is true where a machine can tell: every kind of error is in
//! the page on errors, every text of one, too; links lead somewhere; and every page with code is one
//! whose code the doc tests compile.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

/// README, CHANGELOG and so on, and all of docs.
fn pages() -> Vec<(PathBuf, String)> {
    let mut pages = Vec::new();
    for folder in [root(), root().join("docs"), root().join("loom-tests")] {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "md") {
                pages.push((path.clone(), fs::read_to_string(path).unwrap()));
            }
        }
    }
    assert!(pages.len() > 15, "{pages:?}");
    pages
}

/// The variants of an enum, as its source has them.
fn variants(source: &str, name: &str) -> BTreeSet<String> {
    let body = source.split_once(&format!("pub enum {name} {{")).unwrap().1;
    let body = body.split_once("\n}").unwrap().0;
    let names = body.lines().filter_map(|line| {
        let rest = line.strip_prefix("    ").filter(|rest| rest.starts_with(char::is_uppercase))?;
        Some(rest.trim_end_matches([',', '{', ' ']).split('(').next()?.to_owned())
    });
    names.collect()
}

#[test]
fn every_kind_of_error_is_in_the_page_on_errors() {
    let page = read("docs/errors.md");
    let kinds = variants(&read("crates/treering/src/error.rs"), "ErrorKind");
    assert!(kinds.len() > 15 && kinds.contains("Poisoned"), "{kinds:?}");
    for kind in &kinds {
        let row = format!("| `{kind}` | ");
        assert!(page.contains(&row), "docs/errors.md has no row for {kind}");
        let groups = page.lines().filter(|line| line.starts_with("| [") && line.contains("](#"));
        let names = groups.filter(|line| line.contains(&format!("`{kind}`"))).count();
        assert_eq!(names, 1, "{kind} is in one group of the table at the top");
    }
}

/// The texts of the errors, cut where something is filled in.
fn texts(source: &str) -> Vec<String> {
    let mut found = Vec::new();
    for attribute in source.split("#[error(").skip(1) {
        let Some(text) = attribute.split('"').nth(1).filter(|_| !attribute.starts_with("trans"))
        else {
            continue;
        };
        let text = text.replace("\\\n", "").split_whitespace().collect::<Vec<_>>().join(" ");
        let mut literal = text.split(['{', '}']).step_by(2).map(str::trim);
        let longest = literal.by_ref().max_by_key(|part| part.len()).unwrap_or_default();
        found.push(longest.trim_end_matches('\\').to_owned());
    }
    found
}

#[test]
fn every_text_of_an_error_is_in_the_page_on_errors() {
    let page = read("docs/errors.md").split_whitespace().collect::<Vec<_>>().join(" ");
    let texts = texts(&read("crates/txn/src/error.rs"));
    assert!(texts.len() > 14, "{texts:?}");
    for text in texts.iter().filter(|text| text.len() > 3) {
        assert!(page.contains(text.as_str()), "docs/errors.md does not have {text:?}");
    }
    let kinds = variants(&read("crates/pagefile/src/error.rs"), "FileErrorKind");
    assert_eq!(kinds.len(), 9, "a new kind of file error belongs into docs/errors.md: {kinds:?}");
}

/// How the heading of a page is linked to.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text.chars().filter(|letter| letter.is_alphanumeric() || " -_".contains(*letter));
    kept.collect::<String>().replace(' ', "-")
}

#[test]
fn links_between_pages_lead_somewhere() {
    let mut looked_at = 0;
    for (path, text) in pages() {
        for link in text.split("](").skip(1) {
            let link = link.split(')').next().unwrap();
            if link.contains("://") || link.contains(' ') || link.is_empty() {
                continue;
            }
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = match file {
                "" => path.clone(),
                file => path.parent().unwrap().join(file),
            };
            assert!(target.exists(), "{} links to {link}", path.display());
            if !heading.is_empty() {
                let there = fs::read_to_string(&target).unwrap();
                let headings = there.lines().filter(|line| line.starts_with('#'));
                let found = headings.map(anchor).any(|anchor| anchor == heading);
                assert!(found, "{} links to {link}, and there is no such heading", path.display());
            }
            looked_at += 1;
        }
    }
    assert!(looked_at > 60, "only {looked_at} links were found");
}

#[test]
fn code_on_a_page_is_compiled_by_the_doc_tests() {
    let lib = read("crates/treering/src/lib.rs");
    let mut with_code = 0;
    for (path, text) in pages() {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.parent().unwrap().ends_with("loom-tests") || !text.contains("\n```rust") {
            continue;
        }
        with_code += 1;
        let included = lib.contains(&format!("/{name}\")]"));
        assert!(included, "the code of {name} is not among the doc tests of lib.rs");
    }
    assert!(with_code > 5, "only {with_code} pages have code");
}

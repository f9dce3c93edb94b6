//! The `treering` program. All of it is in the library, where its readers of text can be fuzzed.

fn main() -> std::process::ExitCode {
    treering_cli::main()
}

//! Runs one target on the bytes of files: `cargo run -p treering-fuzz --example one -- page FILE..`

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().unwrap_or_default();
    let Some((_, run)) = treering_fuzz::TARGETS.iter().find(|(target, _)| *target == name) else {
        eprintln!("one TARGET FILE..: there is no target {name:?}");
        return ExitCode::from(2);
    };
    for path in arguments {
        match std::fs::read(&path) {
            Ok(data) => run(&data),
            Err(error) => {
                eprintln!("{path} cannot be read: {error}");
                return ExitCode::from(2);
            }
        }
    }
    ExitCode::SUCCESS
}

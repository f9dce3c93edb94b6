//! `--help`, `completions` and `man` know the same commands, and what they print is taken by those
//! that it is for.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Stdio};

use crate::common::Place;

/// The commands that `--help` lists: indented lines between the usage and the options.
fn listed(help: &str) -> BTreeSet<String> {
    let (_, groups) = help.split_once("Usage:").unwrap();
    let (groups, _) = groups.split_once("\nOptions:").unwrap();
    let lines = groups.lines().filter(|line| line.starts_with("  "));
    lines.map(|line| line.split_whitespace().next().unwrap().to_owned()).collect()
}

#[test]
fn help_lists_the_commands_in_groups() {
    let place = Place::new();
    let help = place.run("--help").fine();
    for title in ["Records:", "Trees:", "What is inside:", "Keeping it:", "This program:"] {
        assert!(help.contains(&format!("\n\n{title}\n  ")), "{title} in {help}");
    }
    assert!(!help.contains("Commands:"), "clap's own list would be a second one: {help}");
    for line in help.lines() {
        assert!(line.len() <= 100, "{line}");
    }
    for command in listed(&help) {
        let long = place.run_args(["help", &command]).fine();
        assert!(long.contains(&format!("Usage: treering {command}")), "{long}");
    }
    // The short help has the same list.
    assert_eq!(listed(&place.run("-h").fine()), listed(&help));
}

#[test]
fn there_is_a_manual_page_for_each_command() {
    let place = Place::new();
    let said = place.run("man pages/man1").fine();
    assert!(said.contains("pages/man1"), "{said}");
    let mut commands = listed(&place.run("--help").fine());
    assert!(commands.remove("help"));
    let mut expected: BTreeSet<String> =
        commands.iter().map(|command| format!("treering-{command}.1")).collect();
    expected.insert("treering.1".into());
    let pages = fs::read_dir(place.path("pages/man1")).unwrap();
    let pages: BTreeSet<String> =
        pages.map(|page| page.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(pages, expected);
    for page in pages {
        let text = fs::read_to_string(place.path("pages/man1").join(&page)).unwrap();
        assert!(text.lines().any(|line| line == ".SH NAME"), "{page}: {text}");
        assert!(text.lines().any(|line| line.starts_with(".TH treering")), "{page}: {text}");
    }
    // In a place where no folder can be, it says so.
    place.write("file", "");
    let error = place.run("man file").failed(1);
    assert!(error.contains("writing the manual pages to file"), "{error}");
}

#[test]
fn each_shell_gets_a_script_with_all_commands() {
    let place = Place::new();
    let commands = listed(&place.run("--help").fine());
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = place.run_args(["completions", shell]).fine();
        for command in &commands {
            assert!(script.contains(command.as_str()), "{shell} does not know {command}");
        }
    }
    place.run("completions sh").failed_at_the_command_line();
}

#[test]
fn bash_completes_a_command() {
    let place = Place::new();
    let script = place.run("completions bash").fine();
    place.write("completion.bash", script);
    let completing = "source completion.bash && COMP_WORDS=(treering ren) COMP_CWORD=1 && \
                      _treering treering ren treering && echo \"${COMPREPLY[@]}\"";
    let bash = Command::new("bash")
        .args(["--norc", "-c", completing])
        .current_dir(place.path(""))
        .stdin(Stdio::null())
        .output();
    let Ok(ran) = bash else {
        eprintln!("skipped: there is no bash");
        return;
    };
    assert_eq!(String::from_utf8(ran.stdout).unwrap(), "rename-tree\n");
}

//! The commands in groups, as `--help` lists them: clap itself lists them in one.
//!
//! The lines are made from the definition of the commands. A command that is in no group would be
//! missing in the list, and one that is no command would be a mistake: a test sees to both.

use std::fmt::Write;

use clap::Command;

/// Each command once.
const GROUPS: [(&str, &[&str]); 5] = [
    ("Records", &["load", "get", "put", "del", "find", "scan", "count"]),
    ("Trees", &["trees", "rename-tree", "drop-tree"]),
    ("What is inside", &["stat", "top", "map", "verify"]),
    ("Keeping it", &["backup", "dump", "restore", "checkpoint", "compact"]),
    ("This program", &["demo", "bench", "threadskv", "completions", "man", "help"]),
];

/// `help` is clap's own and has no line before the command is built.
const HELP: &str = "Print all of one command";

/// The same program, with its commands in groups in `--help`.
pub(super) fn with_groups(program: Command) -> Command {
    let header = program.get_styles().get_header();
    let template = format!(
        "{{about-with-newline}}\n{{usage-heading}} {{usage}}\n{}\n{header}Options:{header:#}\n\
         {{options}}{{after-help}}",
        list(&program)
    );
    program.help_template(template)
}

fn list(program: &Command) -> String {
    let header = program.get_styles().get_header();
    let literal = program.get_styles().get_literal();
    let width = GROUPS.iter().flat_map(|(_, names)| *names).map(|name| name.len()).max();
    let width = width.unwrap_or(0);
    let mut text = String::new();
    for (title, names) in GROUPS {
        let _ = writeln!(text, "\n{header}{title}:{header:#}");
        for name in names {
            let about = program.find_subcommand(name).and_then(Command::get_about);
            let about = about.map_or_else(|| HELP.to_owned(), ToString::to_string);
            let _ = writeln!(text, "  {literal}{name:width$}{literal:#}  {about}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_command_is_in_one_group() {
        let program = super::super::definition();
        let commands = program.get_subcommands().map(|command| command.get_name().to_owned());
        let mut commands: BTreeSet<String> = commands.collect();
        commands.insert("help".into());
        for name in GROUPS.iter().flat_map(|(_, names)| *names) {
            assert!(commands.remove(*name), "{name} is no command, or in two groups");
        }
        assert_eq!(commands, BTreeSet::new(), "in no group");
    }
}

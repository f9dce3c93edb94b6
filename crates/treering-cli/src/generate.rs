//! `completions` and `man`: both are made from the definition of the command line, so they know what
//! the program knows.

use std::fs;

use crate::args::{CompletionsArgs, ManArgs, definition};
use crate::error::{Failure, Verdict};
use crate::output::{Output, say};

pub(crate) fn completions(args: &CompletionsArgs) -> Result<Verdict, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut definition(), "treering", &mut script);
    let mut out = Output::new();
    out.bytes(&script)?;
    out.finish()?;
    Ok(Verdict::Fine)
}

pub(crate) fn man(args: &ManArgs) -> Result<Verdict, Failure> {
    let folder = &args.folder;
    let written =
        fs::create_dir_all(folder).and_then(|()| clap_mangen::generate_to(definition(), folder));
    let folder = folder.display();
    written.map_err(|error| {
        Failure::wrong(format!("writing the manual pages to {folder}: {error}"))
    })?;
    say(format_args!("the manual pages are in {folder}: treering.1 names the others"))?;
    Ok(Verdict::Fine)
}

//! `trees`: the trees of a database and what they were made with; `rename-tree` and
//! `drop-tree`.

use treering::{Gap, TreeOptions};

use crate::args::{DatabaseArgs, DropTreeArgs, EngineArgs, RenameTreeArgs};
use crate::error::{Failure, Verdict};
use crate::open::{Missing, with_database};
use crate::output::Output;

pub(crate) async fn run(engine: &EngineArgs, args: DatabaseArgs) -> Result<Verdict, Failure> {
    let trees = with_database(engine, &args.database, Missing::Refuse, async |database| {
        Ok(database.trees())
    })
    .await?;
    let mut out = Output::new();
    for (name, options) in trees {
        out.line(format_args!("{}\t{}", name.escape_debug(), shown(&options)))?;
    }
    out.finish()?;
    Ok(Verdict::Fine)
}

pub(crate) async fn rename(engine: &EngineArgs, args: RenameTreeArgs) -> Result<Verdict, Failure> {
    with_database(engine, &args.database.database, Missing::Refuse, async |database| {
        Ok(database.rename_tree(&args.old, &args.new).await?)
    })
    .await?;
    Ok(Verdict::Fine)
}

pub(crate) async fn drop_tree(engine: &EngineArgs, args: DropTreeArgs) -> Result<Verdict, Failure> {
    with_database(engine, &args.database.database, Missing::Refuse, async |database| {
        Ok(database.drop_tree(&args.name).await?)
    })
    .await?;
    Ok(Verdict::Fine)
}

/// What differs from the defaults, separated by blanks.
fn shown(options: &TreeOptions) -> String {
    let mut parts = Vec::new();
    if options.duplicates {
        parts.push("duplicates".to_owned());
    }
    match options.gap {
        Gap::None => parts.push("gap=none".to_owned()),
        Gap::OneIn(slots) => parts.push(format!("gap=1/{slots}")),
        _ => {}
    }
    if let Some(key) = &options.key_type {
        parts.push(format!("keys={} version={}", key.name, key.version));
    }
    parts.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_not_the_default_is_shown() {
        assert_eq!(shown(&TreeOptions::new()), "");
        let options =
            TreeOptions::new().duplicates(true).gap(Gap::OneIn(4)).key_type("(u64,str)", 2);
        assert_eq!(shown(&options), "duplicates gap=1/4 keys=(u64,str) version=2");
    }
}

//! One key: `get`, `put`, `del`.

use std::os::unix::ffi::OsStrExt;

use crate::args::{EngineArgs, KeyArgs, PairArgs};
use crate::error::{Failure, Verdict};
use crate::open::{Missing, with_tree};
use crate::output::{Output, complain};

pub(crate) async fn get(engine: &EngineArgs, args: KeyArgs) -> Result<Verdict, Failure> {
    let key = args.key.as_bytes();
    let value =
        with_tree(engine, &args.tree, Missing::Refuse, async |_, tree| Ok(tree.get(key).await?))
            .await?;
    let Some(value) = value else { return Ok(not_there(key)) };
    let mut out = Output::new();
    out.bytes(&value)?;
    out.bytes(b"\n")?;
    out.finish()?;
    Ok(Verdict::Fine)
}

pub(crate) async fn put(engine: &EngineArgs, args: PairArgs) -> Result<Verdict, Failure> {
    let (key, value) = (args.key.key.as_bytes(), args.value.as_bytes());
    with_tree(engine, &args.key.tree, Missing::Make, async |_, tree| {
        Ok(tree.put(key, value).await?)
    })
    .await?;
    Ok(Verdict::Fine)
}

pub(crate) async fn del(engine: &EngineArgs, args: KeyArgs) -> Result<Verdict, Failure> {
    let key = args.key.as_bytes();
    let was_there = with_tree(engine, &args.tree, Missing::Refuse, async |_, tree| {
        Ok(tree.delete(key).await?)
    })
    .await?;
    Ok(if was_there { Verdict::Fine } else { not_there(key) })
}

fn not_there(key: &[u8]) -> Verdict {
    let _ = complain(format_args!("there is no key \"{}\"", key.escape_ascii()));
    Verdict::Wrong
}

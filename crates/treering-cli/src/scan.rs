//! Going through a tree in key order: `scan` and `count`.

use std::ffi::OsString;
use std::ops::Bound;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use crate::args::{EngineArgs, ScanArgs, TreeArgs};
use crate::error::{Failure, Verdict};
use crate::open::{Missing, with_tree};
use crate::output::{Output, say};

pub(crate) async fn scan(engine: &EngineArgs, args: ScanArgs) -> Result<Verdict, Failure> {
    let from = args.from.map_or(Bound::Unbounded, |key| Bound::Included(bytes(key)));
    let to = args.to.map_or(Bound::Unbounded, |key| Bound::Excluded(bytes(key)));
    let mut left = args.limit.unwrap_or(u64::MAX);
    with_tree(engine, &args.tree, Missing::Refuse, async |_, tree| {
        let range = match &args.prefix {
            Some(prefix) => tree.prefix(prefix.as_bytes()),
            None => tree.range((from, to)),
        };
        let mut range = if args.reverse { range.rev() } else { range };
        let mut out = Output::new();
        while left > 0
            && let Some(chunk) = range.next_chunk().await?
        {
            for (key, value) in chunk.iter().take(usize::try_from(left).unwrap_or(usize::MAX)) {
                out.bytes(key)?;
                out.bytes(b"\t")?;
                out.bytes(value)?;
                out.bytes(b"\n")?;
            }
            left = left.saturating_sub(chunk.len() as u64);
        }
        out.finish()
    })
    .await?;
    Ok(Verdict::Fine)
}

pub(crate) async fn count(engine: &EngineArgs, args: TreeArgs) -> Result<Verdict, Failure> {
    let count = with_tree(engine, &args, Missing::Refuse, async |_, tree| {
        let mut range = tree.range(..);
        let mut count = 0u64;
        while let Some(chunk) = range.next_chunk().await? {
            count += chunk.len() as u64;
        }
        Ok(count)
    })
    .await?;
    say(count)?;
    Ok(Verdict::Fine)
}

fn bytes(key: OsString) -> Vec<u8> {
    key.into_vec()
}

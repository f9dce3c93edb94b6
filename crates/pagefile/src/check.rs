//! Does the space map say what the page map says? For `verify`.

use std::fmt;

use crate::page::{Extent, PageId};
use crate::space::{Geometry, Run, SpaceMap};

/// Who claims an extent.
#[derive(Clone, Copy)]
enum Owner {
    Page(PageId),
    Map,
    Pending,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Owner::Page(page) => write!(f, "{page}"),
            Owner::Map => write!(f, "the page map"),
            Owner::Pending => write!(f, "an extent pending release"),
        }
    }
}

/// One line for each contradiction. `taken` slots may be in use without anybody's claim.
pub(crate) fn compare(
    geometry: &Geometry,
    space: &SpaceMap,
    live: &[(PageId, Extent)],
    metadata: &[Run],
    pending: &[Extent],
    taken: usize,
) -> Vec<String> {
    let mut problems = Vec::new();
    let mut claims: Vec<(Run, Owner)> = metadata.iter().map(|run| (*run, Owner::Map)).collect();
    let pages = live.iter().map(|(page, extent)| (*extent, Owner::Page(*page)));
    for (extent, owner) in pages.chain(pending.iter().map(|extent| (*extent, Owner::Pending))) {
        let run = geometry.run_of(extent);
        match run.filter(|run| run.len == 1 && run.end() <= space.slots()) {
            Some(run) => claims.push((run, owner)),
            None => problems.push(format!(
                "{owner} at offset {} is {} bytes long: no page of this file",
                extent.offset, extent.len
            )),
        }
    }
    claims.sort_unstable_by_key(|(run, _)| run.start);

    let mut unclaimed = Unclaimed::default();
    let mut at = 0;
    let mut before = Owner::Map;
    for (run, owner) in claims {
        let offset = geometry.end_of(run.start);
        if run.start < at {
            problems.push(format!("{before} and {owner} overlap at offset {offset}"));
        }
        if (run.start..run.end()).any(|slot| !space.is_used(slot)) {
            problems.push(format!("{owner} at offset {offset} is marked free"));
        }
        unclaimed.count(space, at..run.start);
        at = at.max(run.end());
        before = owner;
    }
    unclaimed.count(space, at..space.slots());
    if unclaimed.slots > taken {
        problems.push(format!(
            "{} pages' worth of space is marked used and belongs to nothing (writes in flight: \
             {taken}), the first at offset {}",
            unclaimed.slots,
            geometry.end_of(unclaimed.first.unwrap_or(0))
        ));
    }
    problems
}

#[derive(Default)]
struct Unclaimed {
    slots: usize,
    first: Option<usize>,
}

impl Unclaimed {
    fn count(&mut self, space: &SpaceMap, slots: std::ops::Range<usize>) {
        for slot in slots.filter(|slot| space.is_used(*slot)) {
            self.slots += 1;
            self.first.get_or_insert(slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_contradiction_is_named() {
        let geometry = Geometry::new(512);
        let at = |start| geometry.extent_of(Run { start, len: 1 });
        let mut space = SpaceMap::new(100);
        space.set(Run { start: 0, len: 10 });
        let map = [Run { start: 0, len: 2 }];
        let live: Vec<_> = (2..9).map(|slot| (PageId(slot as u64), at(slot))).collect();
        let all = |live: &[(PageId, Extent)], taken| {
            compare(&geometry, &space, live, &map, &[at(9)], taken).join("\n")
        };
        assert_eq!(all(&live, 0), "");

        assert!(all(&live[..6], 0).contains("1 pages' worth of space"));
        assert!(all(&live[..6], 0).contains(&format!("offset {}", at(8).offset)));
        assert_eq!(all(&live[..6], 1), "", "a write in flight explains it");
        let with = |page, extent| [live.as_slice(), &[(PageId(page), extent)]].concat();
        assert!(all(&with(77, at(4)), 0).contains("page 4 and page 77 overlap"));
        assert!(all(&with(77, at(1)), 0).contains("the page map and page 77 overlap"));
        assert!(all(&with(77, at(50)), 0).contains("page 77 at offset 58368 is marked free"));
        assert!(all(&with(77, at(200)), 0).contains("no page of this file"));
    }
}

//! The tree: a B-link tree (Lehman and Yao 1981; Malbrain's threadskv) of slotted pages.
//!
//! What this crate guarantees to the crates above it:
//!
//! * **I1** A descent ([`Forest::get`], [`Forest::scan`], [`Forest::nearest`]) holds nothing between two pages, and
//!   nothing at all when it returns. What is not in memory is named, not waited for.
//! * **I2** A change is planned completely ([`Leaves::plan`]) and then done ([`Plan::commit`])
//!   without anything that could fail.
//! * **I3** A page that somebody can reach is consistent: every page has both fences, its level, its
//!   tree and its right link, and a split that the parent does not know yet is flagged.
//! * **I11** Latches are taken tree by tree, from the leaves up, left to right.
//!
//! Nothing here knows of the log, of durability or of files. Pages are read through words that
//! others may be writing ([`Words`]), and what was read is validated before it is believed; all
//! reading code is total on arbitrary bytes.
//!
//! Where to begin reading: `layout` (a page, byte by byte), `descend`, `apply`, `post`.

// Loom does not see what `event_listener` does; in a model its names mean `treering_latch`'s stand-ins.
#[cfg(treering_loom)]
extern crate treering_latch as event_listener;

mod ahead;
mod apply;
mod build;
mod check;
mod cursor;
mod descend;
mod edit;
mod entries;
mod forest;
mod gap;
mod graft;
mod layout;
mod leaves;
mod merge;
mod order;
mod page;
mod partition;
mod post;
mod scan;
mod spare;
mod stored;
mod words;

pub use apply::{Edit, Plan};
pub use build::{Image, PageSpec, build};
pub use check::check;
pub use cursor::Nearest;
pub use descend::Way;
pub use entries::Entries;
pub use forest::{Blocked, Forest, Step, TreeError, TreeRef};
pub use gap::Gap;
pub use graft::Graft;
pub use layout::{MAX_PAGE_SIZE, MIN_PAGE_SIZE, is_page_size, max_key_len, max_record_len};
pub use leaves::Leaves;
pub use merge::Merged;
pub use page::{Page, Position};
pub use partition::{Part, Policy, partition};
pub use post::Epochs;
pub use scan::{Chunk, Direction, From, Scan};
pub use stored::{Kind, REFERENCE_LEN, Reference, Stored};
pub use words::{Words, WordsMut, copy_page, key_head};

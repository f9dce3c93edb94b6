//! The latches of one page in a B-link tree: six modes in four sets.
//!
//! What the modes are for, and their order, is on [`Mode`]. The sets are independent of each other,
//! so each is a latch of its own: sets 1 and 3 are [`PhaseFair`] (neither readers nor writers
//! starve), 2 and 4 [`Ticket`] (first come, first served).
//!
//! No re-entry: the seed lets a thread that has a mode exclusively have it again, which a task that
//! changes threads cannot rely on. Here the guard is the evidence: hand on a reference to it.

use std::fmt;

use crate::phase_fair::{PhaseFair, ReadGuard, WriteGuard};
use crate::planted_bug;
use crate::ticket::{Ticket, TicketGuard};

/// One of the six ways to hold a [`PageLatch`].
///
/// | set | mode | keeps out | what a B-link tree takes it for |
/// |---|---|---|---|
/// | 1 | `AccessIntent` | `NodeDelete` | I have a pointer to the page and am about to latch it |
/// | 1 | `NodeDelete` | `AccessIntent`, `NodeDelete` | nobody is on the way to it any more: it may be freed |
/// | 2 | `AtomicModification` | itself | the page belongs to my batch, through all of its steps |
/// | 3 | `Read` | `Write` | its bytes stay as they are |
/// | 3 | `Write` | `Read`, `Write` | its bytes are mine |
/// | 4 | `ParentModification` | itself | its fence is being posted in the parent; the next one after me |
///
/// The sets are independent of each other: a page is read while its fence is being posted, and
/// written while others have announced that they will come.
///
/// # The order
///
/// Who takes several modes of one page takes them in the order of the table, 1 to 4. The one rule
/// that is not obvious is that `NodeDelete` comes first: somebody with `AccessIntent` waits for
/// `Read`, so waiting for `NodeDelete` with the page's `Write` held is waiting in a circle. Between
/// pages: whatever order the tree has (I11), except that `AccessIntent` to a page is taken before
/// the latch on the page that points to it is let go, which is what it is for. Modes are released in
/// any order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Set 1, shared: about to latch the page. Keeps `NodeDelete` out.
    AccessIntent,
    /// Set 1, exclusive: nobody is about to latch the page.
    NodeDelete,
    /// Set 2, exclusive, first come, first served: the page is part of a batch.
    AtomicModification,
    /// Set 3, shared: the bytes do not change.
    Read,
    /// Set 3, exclusive: the bytes are the holder's.
    Write,
    /// Set 4, exclusive, first come, first served: the parent is being told of the page's fence.
    ParentModification,
}

impl Mode {
    /// All six, in the order in which one holder takes them.
    pub const ALL: [Mode; 6] = [
        Mode::AccessIntent,
        Mode::NodeDelete,
        Mode::AtomicModification,
        Mode::Read,
        Mode::Write,
        Mode::ParentModification,
    ];

    /// The set, 1 to 4. Modes of different sets have nothing to do with each other; who takes
    /// several takes them by ascending set.
    pub const fn set(self) -> u8 {
        match self {
            Mode::AccessIntent | Mode::NodeDelete => 1,
            Mode::AtomicModification => 2,
            Mode::Read | Mode::Write => 3,
            Mode::ParentModification => 4,
        }
    }

    /// Whether holders may share it with each other.
    pub const fn is_shared(self) -> bool {
        matches!(self, Mode::AccessIntent | Mode::Read)
    }

    /// Whether one holder may be in this mode while another is in `other`.
    pub const fn is_compatible(self, other: Mode) -> bool {
        self.set() != other.set() || (self.is_shared() && other.is_shared())
    }
}

/// The latch of one page, in six modes. [`Mode`] has the modes and their order.
///
/// treering's own tree needs only set 3 (`docs/latches.md` says what stands for the others); this
/// is for trees that work with all of them, and for model-checking such protocols.
#[derive(Default)]
pub struct PageLatch {
    access: PhaseFair,
    atomic: Ticket,
    bytes: PhaseFair,
    parent: Ticket,
}

impl PageLatch {
    /// A latch that nobody holds.
    pub fn new() -> Self {
        Self::default()
    }

    /// Enters in `mode`. Blocks the thread while others are inside in a mode that is not compatible,
    /// and behind those that came before: see [`PhaseFair`] for sets 1 and 3, [`Ticket`] for 2 and
    /// 4. Released when the guard is dropped.
    ///
    /// To be called in the order of sets; not re-entrant.
    pub fn enter(&self, mode: Mode) -> PageGuard<'_> {
        let mode = self.planted(mode);
        let _held = match mode {
            Mode::AccessIntent => Held::Shared(self.access.read()),
            Mode::NodeDelete => Held::Exclusive(self.access.write()),
            Mode::AtomicModification => Held::Turn(self.atomic().enter()),
            Mode::Read => Held::Shared(self.bytes.read()),
            Mode::Write => Held::Exclusive(self.bytes.write()),
            Mode::ParentModification => Held::Turn(self.parent.enter()),
        };
        PageGuard { mode, _held }
    }

    /// Enters in `mode` if nobody is inside in a mode that is not compatible, and nobody waits in
    /// whose way that would be. Never waits, and leaves no trace if it fails; so it may be called in
    /// any order.
    pub fn try_enter(&self, mode: Mode) -> Option<PageGuard<'_>> {
        let mode = self.planted(mode);
        let _held = match mode {
            Mode::AccessIntent => Held::Shared(self.access.try_read()?),
            Mode::NodeDelete => Held::Exclusive(self.access.try_write()?),
            Mode::AtomicModification => Held::Turn(self.atomic().try_enter()?),
            Mode::Read => Held::Shared(self.bytes.try_read()?),
            Mode::Write => Held::Exclusive(self.bytes.try_write()?),
            Mode::ParentModification => Held::Turn(self.parent.try_enter()?),
        };
        Some(PageGuard { mode, _held })
    }

    /// The latch under sets 3's modes, for its version and optimistic reads: a [`Mode::Write`] moves
    /// it.
    pub fn bytes(&self) -> &PhaseFair {
        &self.bytes
    }

    /// How many wait for `mode` at this moment: for tests and diagnostics, out of date when it
    /// returns.
    pub fn waiting(&self, mode: Mode) -> usize {
        match mode {
            Mode::AccessIntent => self.access.waiting().0,
            Mode::NodeDelete => self.access.waiting().1,
            Mode::AtomicModification => self.atomic().waiting(),
            Mode::Read => self.bytes.waiting().0,
            Mode::Write => self.bytes.waiting().1,
            Mode::ParentModification => self.parent.waiting(),
        }
    }

    fn atomic(&self) -> &Ticket {
        if planted_bug!(OneTicketForTwoSets) { &self.parent } else { &self.atomic }
    }

    /// The planted bugs take a weaker mode than they were told.
    fn planted(&self, mode: Mode) -> Mode {
        match mode {
            Mode::NodeDelete if planted_bug!(DeleteIsMereIntent) => Mode::AccessIntent,
            Mode::AtomicModification if planted_bug!(BatchesShareAPage) => Mode::AccessIntent,
            Mode::ParentModification if planted_bug!(PostingsShareAPage) => Mode::AccessIntent,
            mode => mode,
        }
    }
}

impl fmt::Debug for PageLatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PageLatch")
            .field("access", &self.access)
            .field("atomic", &self.atomic)
            .field("bytes", &self.bytes)
            .field("parent", &self.parent)
            .finish()
    }
}

/// Holds a [`PageLatch`] in one mode until it is dropped. `!Send`: to be dropped in the poll, and by
/// the thread, that took it.
#[must_use = "the latch is released when the guard is dropped"]
pub struct PageGuard<'a> {
    mode: Mode,
    _held: Held<'a>,
}

/// What is held underneath; dropping it releases.
enum Held<'a> {
    Shared(#[allow(dead_code, reason = "kept for its drop")] ReadGuard<'a>),
    Exclusive(#[allow(dead_code, reason = "kept for its drop")] WriteGuard<'a>),
    Turn(#[allow(dead_code, reason = "kept for its drop")] TicketGuard<'a>),
}

impl PageGuard<'_> {
    /// The mode that it holds.
    pub fn mode(&self) -> Mode {
        self.mode
    }
}

impl fmt::Debug for PageGuard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PageGuard").field(&self.mode).finish()
    }
}

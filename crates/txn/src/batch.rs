//! Operations gathered to be applied as one.

use std::ops::Range;

use treering_blink::TreeRef;

use crate::duplicates;
use crate::error::Error;

/// What an operation does with its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpKind {
    /// Gives the key this value, whatever was there.
    Put,
    /// As `Put`, and fails if the key is there.
    Insert,
    /// Adds a duplicate of the key, in a tree with [`crate::duplicates`]. Its sequence is drawn when
    /// the commit begins.
    InsertDup,
    /// As `Put`, and fails if the key is not there.
    Update,
    /// Takes the key away; nothing happens if it is not there.
    Delete,
    /// Changes nothing, and fails if the key is there.
    RequireAbsent,
    /// Changes nothing, and fails if the key is not there.
    RequirePresent,
    /// Changes nothing, and fails unless the key is there with this value.
    RequireValue,
}

impl OpKind {
    /// Whether the value that is there decides, or is reported when the key should be absent.
    pub(crate) fn asks_for_value(self) -> bool {
        matches!(self, OpKind::Insert | OpKind::RequireAbsent | OpKind::RequireValue)
    }

    /// Whether it gives its key a value.
    /// Whether it may fail for what is there.
    pub(crate) fn has_condition(self) -> bool {
        !matches!(self, OpKind::Put | OpKind::InsertDup | OpKind::Delete)
    }

    /// Whether it takes the key away.
    pub(crate) fn takes_away(self) -> bool {
        self == OpKind::Delete
    }

    pub(crate) fn gives_value(self) -> bool {
        matches!(self, OpKind::Put | OpKind::Insert | OpKind::InsertDup | OpKind::Update)
    }
}

#[derive(Clone, Debug)]
struct Op {
    tree: TreeRef,
    kind: OpKind,
    key: Range<usize>,
    value: Range<usize>,
}

/// Operations that are applied together or not at all. Those on one key are applied in the order in
/// which they were added, and each sees what those before it did.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    ops: Vec<Op>,
    keeps_old: bool,
}

/// An operation as the engine sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OpView<'b> {
    pub(crate) tree: TreeRef,
    pub(crate) kind: OpKind,
    pub(crate) key: &'b [u8],
    pub(crate) value: &'b [u8],
}

impl Batch {
    /// No operations.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an operation. `value` is ignored by operations that need none.
    pub fn push(&mut self, tree: TreeRef, kind: OpKind, key: &[u8], value: &[u8]) {
        self.bytes.reserve(key.len() + duplicates::SEQUENCE_LEN + value.len());
        let key = match kind {
            OpKind::InsertDup => self.keep(&duplicates::stored(key, 0)),
            _ => self.keep(key),
        };
        let value = self.keep(value);
        self.ops.push(Op { tree, kind, key, value });
    }

    /// Gives the duplicates that it inserts their sequences, and returns them, in the order of the
    /// batch.
    pub(crate) fn draw_sequences(
        &mut self,
        mut next: impl FnMut() -> Result<u64, Error>,
    ) -> Result<Vec<u64>, Error> {
        let mut sequences = Vec::new();
        for op in self.ops.iter().filter(|op| op.kind == OpKind::InsertDup) {
            let sequence = next()?;
            let at = op.key.end - duplicates::SEQUENCE_LEN..op.key.end;
            self.bytes[at].copy_from_slice(&sequence.to_be_bytes());
            sequences.push(sequence);
        }
        Ok(sequences)
    }

    /// Asks for the values that were there before; [`crate::Outcome`] will have them.
    pub fn keep_old(&mut self) {
        self.keeps_old = true;
    }

    /// Whether all that it can do is to take keys away.
    pub(crate) fn only_deletes(&self) -> bool {
        (0..self.len()).all(|index| !self.op(index).kind.gives_value())
    }

    /// How many operations there are.
    pub fn len(&self) -> usize {
        self.ops.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// Bytes of all keys and values.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn keeps_old(&self) -> bool {
        self.keeps_old
    }

    pub(crate) fn op(&self, index: usize) -> OpView<'_> {
        let op = &self.ops[index];
        OpView {
            tree: op.tree,
            kind: op.kind,
            key: &self.bytes[op.key.clone()],
            value: &self.bytes[op.value.clone()],
        }
    }

    /// The positions of the operations, sorted by tree and key; stable, so that those on one key
    /// stay in their order.
    pub(crate) fn order(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.ops.len()).collect();
        order.sort_by(|&a, &b| {
            let (a, b) = (self.op(a), self.op(b));
            a.tree.cmp(&b.tree).then_with(|| a.key.cmp(b.key))
        });
        order
    }

    fn keep(&mut self, bytes: &[u8]) -> Range<usize> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        start..self.bytes.len()
    }
}

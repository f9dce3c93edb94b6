//! Ranges: streams of pairs in either direction.

use std::future::poll_fn;
use std::ops::{Bound, RangeFrom, RangeFull, RangeInclusive, RangeTo, RangeToInclusive};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures::future::BoxFuture;
use futures::stream::Stream;
use treering_blink::{Chunk as Leaf, Direction, From};
use treering_txn::Error as Inner;

use crate::error::Error;
use crate::tree::Tree;
use crate::value::{Key, Value};

type Fetching = BoxFuture<'static, Result<(Leaf, Option<From>), Inner>>;

/// Both ends of a range of keys.
pub type Bounds = (Bound<Vec<u8>>, Bound<Vec<u8>>);

/// What [`Tree::range`] takes: `..`, `a..b`, `a..=b`, `a..`, `..b`, `..=b`, or a pair of bounds, of
/// anything that is bytes.
pub trait KeyRange {
    /// Both ends.
    fn bounds(self) -> Bounds;
}

fn owned(key: impl AsRef<[u8]>) -> Vec<u8> {
    key.as_ref().to_vec()
}

impl KeyRange for RangeFull {
    fn bounds(self) -> Bounds {
        (Bound::Unbounded, Bound::Unbounded)
    }
}

impl<K: AsRef<[u8]>> KeyRange for std::ops::Range<K> {
    fn bounds(self) -> Bounds {
        (Bound::Included(owned(self.start)), Bound::Excluded(owned(self.end)))
    }
}

impl<K: AsRef<[u8]>> KeyRange for RangeInclusive<K> {
    fn bounds(self) -> Bounds {
        let (start, end) = self.into_inner();
        (Bound::Included(owned(start)), Bound::Included(owned(end)))
    }
}

impl<K: AsRef<[u8]>> KeyRange for RangeFrom<K> {
    fn bounds(self) -> Bounds {
        (Bound::Included(owned(self.start)), Bound::Unbounded)
    }
}

impl<K: AsRef<[u8]>> KeyRange for RangeTo<K> {
    fn bounds(self) -> Bounds {
        (Bound::Unbounded, Bound::Excluded(owned(self.end)))
    }
}

impl<K: AsRef<[u8]>> KeyRange for RangeToInclusive<K> {
    fn bounds(self) -> Bounds {
        (Bound::Unbounded, Bound::Included(owned(self.end)))
    }
}

impl<K: AsRef<[u8]>> KeyRange for (Bound<K>, Bound<K>) {
    fn bounds(self) -> Bounds {
        (self.0.map(owned), self.1.map(owned))
    }
}

/// A stream of the pairs in a range. Dropping it has no effect; between two items it holds nothing
/// but a copy of some pairs.
#[must_use = "streams do nothing unless polled"]
pub struct Range {
    tree: Tree,
    bounds: Bounds,
    direction: Direction,
    /// Where the next leaf is; `None` at the end.
    next: Option<From>,
    leaf: Leaf,
    /// The pairs of `leaf` before this one have been returned.
    at: usize,
    fetching: Option<Fetching>,
}

/// Some pairs, in the order of their range: what one leaf had of it.
#[derive(Debug)]
pub struct Chunk {
    leaf: Leaf,
    from: usize,
}

impl Chunk {
    /// How many pairs there are.
    pub fn len(&self) -> usize {
        self.leaf.len() - self.from
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The pairs, key and value, without a copy.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.leaf.iter().skip(self.from)
    }
}

impl Range {
    pub(crate) fn new(tree: Tree, bounds: Bounds) -> Self {
        let next = Some(start(&bounds.0));
        Self {
            tree,
            bounds,
            direction: Direction::Forward,
            next,
            leaf: Leaf::default(),
            at: 0,
            fetching: None,
        }
    }

    /// The same range from its other end, in descending order; what was returned so far is
    /// forgotten.
    pub fn rev(self) -> Self {
        let (direction, next) = match self.direction {
            Direction::Forward => (Direction::Backward, start(&self.bounds.1)),
            Direction::Backward => (Direction::Forward, start(&self.bounds.0)),
        };
        Self { direction, next: Some(next), ..Self::new(self.tree, self.bounds) }
    }

    /// The pairs of the next leaf that has any; `None` at the end. The quick way through a range:
    /// pairs are slices of one copy.
    ///
    /// # Errors
    /// As [`Tree::get`].
    pub async fn next_chunk(&mut self) -> Result<Option<Chunk>, Error> {
        let more = poll_fn(|cx| self.poll_fill(cx)).await?;
        Ok(more.then(|| {
            let chunk = Chunk { leaf: std::mem::take(&mut self.leaf), from: self.at };
            self.at = 0;
            chunk
        }))
    }

    /// Makes sure that there are pairs to return; false at the end.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, Error>> {
        while self.at >= self.leaf.len() {
            let Some(from) = &self.next else { return Poll::Ready(Ok(false)) };
            let engine = &self.tree.database().shared.engine;
            let fetching = match &mut self.fetching {
                Some(fetching) => fetching,
                None => {
                    let tree = self.tree.id();
                    if let Some(next) =
                        engine.scan_now(tree, self.direction, from, &mut self.leaf)?
                    {
                        self.take_leaf(next);
                        continue;
                    }
                    let (from, leaf) = (from.clone(), std::mem::take(&mut self.leaf));
                    let scan = Arc::clone(engine).scan(tree, self.direction, from, leaf);
                    self.fetching.insert(Box::pin(scan))
                }
            };
            let result = ready!(fetching.as_mut().poll(cx));
            self.fetching = None;
            let (leaf, next) = result?;
            self.leaf = leaf;
            self.take_leaf(next);
        }
        Poll::Ready(Ok(true))
    }

    /// Cuts what is beyond the range's end off a new leaf.
    fn take_leaf(&mut self, next: Option<From>) {
        let inside = self.leaf.iter().take_while(|(key, _)| self.is_inside(key)).count();
        let beyond = inside < self.leaf.len();
        self.leaf.truncate(inside);
        self.at = 0;
        self.next = next.filter(|next| !beyond && self.goes_on(next));
    }

    fn is_inside(&self, key: &[u8]) -> bool {
        match (self.direction, &self.bounds) {
            (Direction::Forward, (_, Bound::Included(end))) => key <= end.as_slice(),
            (Direction::Forward, (_, Bound::Excluded(end))) => key < end.as_slice(),
            (Direction::Backward, (Bound::Included(start), _)) => key >= start.as_slice(),
            (Direction::Backward, (Bound::Excluded(start), _)) => key > start.as_slice(),
            _ => true,
        }
    }

    /// Whether the range can have pairs in the leaf at `next`.
    fn goes_on(&self, next: &From) -> bool {
        match next {
            From::At(key) => self.is_inside(key),
            // All keys there are below this one.
            From::Past(key) => match &self.bounds.0 {
                Bound::Included(start) | Bound::Excluded(start) => start < key,
                Bound::Unbounded => true,
            },
            From::End => true,
        }
    }
}

fn start(bound: &Bound<Vec<u8>>) -> From {
    match bound {
        Bound::Included(key) => From::At(key.clone()),
        Bound::Excluded(key) => From::Past(key.clone()),
        Bound::Unbounded => From::End,
    }
}

impl Stream for Range {
    type Item = Result<(Key, Value), Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        match ready!(this.poll_fill(cx)) {
            Err(error) => {
                this.next = None;
                this.leaf = Leaf::default();
                Poll::Ready(Some(Err(error)))
            }
            Ok(false) => Poll::Ready(None),
            Ok(true) => {
                let pair = this
                    .leaf
                    .get(this.at)
                    .map(|(key, value)| Ok((Key::from(key.to_vec()), Value::from(value.to_vec()))));
                this.at += 1;
                Poll::Ready(pair)
            }
        }
    }
}

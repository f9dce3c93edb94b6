//! Ranges: streams of pairs in either direction.

use std::cell::Cell;
use std::future::poll_fn;
use std::ops::{Bound, RangeFrom, RangeFull, RangeInclusive, RangeTo, RangeToInclusive};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures::future::BoxFuture;
use futures::stream::Stream;
use treering_blink::{Chunk as Leaf, Direction, From, Kind, Scan};
use treering_txn::Error as Inner;

use crate::error::Error;
use crate::tree::Tree;
use crate::value::{KeyBytes, ValueBytes};

/// A pair that is not in a copy of a leaf.
type Pair = (Vec<u8>, Vec<u8>);
type Reading = BoxFuture<'static, Result<Option<Vec<u8>>, Inner>>;
type Fetching = BoxFuture<'static, Result<(Scan, Leaf), Inner>>;

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

/// The range of all keys that begin with `prefix`.
pub(crate) fn bounds_of_prefix(prefix: &[u8]) -> Bounds {
    // The least key above all of them: the last byte that can be greater is, and ends it.
    let end = prefix.iter().rposition(|&byte| byte < u8::MAX).map(|last| {
        let mut end = prefix[..=last].to_vec();
        end[last] += 1;
        end
    });
    (Bound::Included(prefix.to_vec()), end.map_or(Bound::Unbounded, Bound::Excluded))
}

/// A stream of the pairs in a range. Dropping it has no effect; between two items it holds nothing
/// but a copy of some pairs.
///
/// What comes next is read ahead, as soon as a range turns out to span leaves: little at first, up
/// to 256 pages or an eighth of the cache.
#[must_use = "streams do nothing unless polled"]
pub struct Range {
    tree: Tree,
    bounds: Bounds,
    direction: Direction,
    /// Where the next leaf is.
    scan: Scan,
    leaf: Recycled,
    /// The pairs of `leaf` before this one have been returned.
    at: usize,
    fetching: Option<Fetching>,
    /// The large value of the pair at `at`, on its way.
    reading: Option<Reading>,
}

/// A copy of a leaf whose memory goes to the thread's next range, if it is not much: a short range
/// would spend more time on getting memory than on its pairs.
struct Recycled(Leaf);

/// Bytes that a thread keeps for its next range, at most.
const RECYCLED_MAX: usize = 64 << 10;

thread_local! {
    static SPARE: Cell<Leaf> = Cell::default();
}

impl Recycled {
    fn new() -> Self {
        Self(SPARE.try_with(Cell::take).unwrap_or_default())
    }
}

impl Drop for Recycled {
    fn drop(&mut self) {
        self.0.clear();
        if self.0.memory() <= RECYCLED_MAX {
            // Where the thread is ending, it just goes.
            let _ = SPARE.try_with(|spare| spare.set(std::mem::take(&mut self.0)));
        }
    }
}

/// Some pairs, in the order of their range: what one leaf had of it.
#[derive(Debug)]
pub struct Chunk<'r> {
    leaf: &'r Leaf,
    pairs: std::ops::Range<usize>,
    /// A pair with a large value, alone.
    large: Option<Pair>,
}

impl Chunk<'_> {
    /// How many pairs there are.
    pub fn len(&self) -> usize {
        self.pairs.len() + usize::from(self.large.is_some())
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The pairs, key and value, without a copy.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let large = self.large.iter().map(|(key, value)| (key.as_slice(), value.as_slice()));
        self.pairs.clone().filter_map(|index| self.leaf.get(index)).chain(large)
    }
}

impl Range {
    pub(crate) fn new(tree: Tree, bounds: Bounds) -> Self {
        Self::directed(tree, bounds, Direction::Forward)
    }

    fn directed(tree: Tree, bounds: Bounds, direction: Direction) -> Self {
        let (first, last) = match direction {
            Direction::Forward => (&bounds.0, &bounds.1),
            Direction::Backward => (&bounds.1, &bounds.0),
        };
        let mut scan = Scan::new(tree.id(), direction, start(first));
        if let Bound::Included(key) | Bound::Excluded(key) = last {
            scan = scan.until(key.clone());
        }
        Self {
            tree,
            bounds,
            direction,
            scan,
            leaf: Recycled::new(),
            at: 0,
            fetching: None,
            reading: None,
        }
    }

    /// The same range from its other end, in descending order; what was returned so far is
    /// forgotten.
    pub fn rev(self) -> Self {
        let direction = match self.direction {
            Direction::Forward => Direction::Backward,
            Direction::Backward => Direction::Forward,
        };
        Self::directed(self.tree, self.bounds, direction)
    }

    /// The pairs of the next leaf that has any; `None` at the end. The quick way through a range:
    /// pairs are slices of one copy, which the range keeps until the next call. A pair with a large
    /// value is a chunk of its own. Dropping the future loses nothing: the next call goes on.
    ///
    /// # Errors
    /// As [`Tree::get`].
    pub async fn next_chunk(&mut self) -> Result<Option<Chunk<'_>>, Error> {
        while poll_fn(|cx| self.poll_fill(cx)).await? {
            let from = self.at;
            let to = self.leaf.0.next_overflow(from).unwrap_or(self.leaf.0.len());
            if to > from {
                self.at = to;
                return Ok(Some(Chunk { leaf: &self.leaf.0, pairs: from..to, large: None }));
            }
            let large = poll_fn(|cx| self.poll_large(cx)).await?;
            if large.is_some() {
                return Ok(Some(Chunk { leaf: &self.leaf.0, pairs: 0..0, large }));
            }
        }
        Ok(None)
    }

    /// Reads the large value of the pair where the range stands, and goes past it; `None` if the key
    /// has been deleted since its leaf was read.
    fn poll_large(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Pair>, Error>> {
        let Some((key, reference)) = self.leaf.0.get(self.at) else { return Poll::Ready(Ok(None)) };
        let reading = self.reading.get_or_insert_with(|| {
            let engine = Arc::clone(&self.tree.database().shared.engine);
            let (tree, key, reference) = (self.tree.id(), key.to_vec(), reference.to_vec());
            Box::pin(async move { engine.get_large(tree, &key, &reference).await })
        });
        let value = ready!(reading.as_mut().poll(cx));
        let pair = value.map(|value| value.map(|value| (key.to_vec(), value)));
        self.reading = None;
        self.at += 1;
        Poll::Ready(pair.map_err(Error::from))
    }

    /// Makes sure that there are pairs to return; false at the end.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, Error>> {
        while self.at >= self.leaf.0.len() {
            if self.scan.next().is_none() {
                return Poll::Ready(Ok(false));
            }
            let engine = &self.tree.database().shared.engine;
            let fetching = match &mut self.fetching {
                Some(fetching) => fetching,
                None => {
                    if engine.scan_now(&mut self.scan, &mut self.leaf.0)? {
                        self.take_leaf();
                        continue;
                    }
                    // After an error, this one goes on from the same place.
                    let (scan, leaf) = (self.scan.clone(), std::mem::take(&mut self.leaf.0));
                    self.fetching.insert(Box::pin(Arc::clone(engine).scan(scan, leaf)))
                }
            };
            let result = ready!(fetching.as_mut().poll(cx));
            self.fetching = None;
            (self.scan, self.leaf.0) = result?;
            self.take_leaf();
        }
        Poll::Ready(Ok(true))
    }

    /// Cuts what is beyond the range's end off a new leaf.
    fn take_leaf(&mut self) {
        let mut leaf = std::mem::take(&mut self.leaf.0);
        let taken = leaf.len();
        leaf.truncate_at(|key| self.is_inside(key));
        let beyond = leaf.len() < taken;
        self.leaf.0 = leaf;
        self.at = 0;
        if beyond || !self.scan.next().is_some_and(|next| self.goes_on(next)) {
            self.scan.end();
        }
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
    type Item = Result<(KeyBytes, ValueBytes), Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let pair = loop {
            match ready!(this.poll_fill(cx)) {
                Err(error) => break Err(error),
                Ok(false) => return Poll::Ready(None),
                Ok(true) if this.leaf.0.kind(this.at) == Kind::Overflow => {
                    if let Some(pair) = ready!(this.poll_large(cx)).transpose() {
                        break pair;
                    }
                }
                Ok(true) => {
                    let pair = this.leaf.0.get(this.at);
                    this.at += 1;
                    if let Some((key, value)) = pair {
                        break Ok((key.to_vec(), value.to_vec()));
                    }
                }
            }
        };
        if pair.is_err() {
            this.scan.end();
            this.leaf.0 = Leaf::default();
        }
        Poll::Ready(Some(pair.map(|(key, value)| (KeyBytes::from(key), ValueBytes::from(value)))))
    }
}

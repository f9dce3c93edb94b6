//! Changes, one at a time.

use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use treering::{Durability, ErrorKind};

use super::history::{Change, Place};
use super::{End, Run, durability, key};
use crate::input::Input;

impl Run {
    pub(super) fn put(&mut self, input: &mut Input<'_>) {
        let (tree, key) = (input.below(2) as u8, key(input));
        let value = vec![input.byte(); input.below(50)];
        self.put_this(tree, key, value, durability(input));
    }

    pub(super) fn put_large(&mut self, input: &mut Input<'_>) {
        let (tree, key) = (input.below(2) as u8, key(input));
        let value = vec![input.byte(); 200 + usize::from(input.u16() % 6000)];
        self.put_this(tree, key, value, durability(input));
    }

    fn put_this(&mut self, tree: u8, key: Vec<u8>, value: Vec<u8>, durability: Durability) {
        let write = self.up().trees[usize::from(tree)].put(&key, &value).durability(durability);
        let end = self.run(write.into_future());
        self.changed(end, change((tree, key), Some(value)), durability == Durability::Durable);
    }

    /// A value in pieces, up to some hundred pages.
    pub(super) fn put_stream(&mut self, input: &mut Input<'_>) {
        let (tree, key, durability) = (input.below(2) as u8, key(input), durability(input));
        let (byte, len) = (input.byte(), usize::from(input.u16()));
        let value: Vec<u8> = (0..len).map(|at| byte.wrapping_add((at / 300) as u8)).collect();
        let pieces = 1 + input.below(5);
        let handle = self.up().trees[usize::from(tree)].clone();
        let end = self.run(async {
            let mut writer = handle.write_stream(&key)?.durability(durability);
            for piece in value.chunks(value.len().div_ceil(pieces).max(1)) {
                writer.write(piece).await?;
            }
            writer.commit().await
        });
        self.changed(end, change((tree, key), Some(value)), durability == Durability::Durable);
    }

    pub(super) fn delete(&mut self, input: &mut Input<'_>) {
        let (tree, key, durability) = (input.below(2) as u8, key(input), durability(input));
        let delete = self.up().trees[usize::from(tree)].delete(&key).durability(durability);
        let place = (tree, key);
        let there = self.history.now().contains_key(&place);
        let end = self.run(delete.into_future());
        if let End::Done(Ok(found)) = end {
            assert_eq!(found, there, "a delete says whether the key was there");
        }
        // Deleting what is not there writes nothing that something could wait for.
        self.changed(end, change(place, None), there && durability == Durability::Durable);
    }

    pub(super) fn batch(&mut self, input: &mut Input<'_>) {
        let durability = durability(input);
        let mut change = Change::new();
        let up = self.up();
        let mut batch = up.database.batch();
        for _ in 0..1 + input.below(40) {
            let place = (input.below(2) as u8, key(input));
            let tree = &up.trees[usize::from(place.0)];
            let there = match change.get(&place) {
                Some(value) => value.is_some(),
                None => self.history.now().contains_key(&place),
            };
            if there && input.byte().is_multiple_of(4) {
                batch.delete(tree, &place.1);
                change.insert(place, None);
            } else {
                let value = vec![input.byte(); input.below(30)];
                batch.put(tree, &place.1, &value);
                change.insert(place, Some(value));
            }
        }
        let end = self.run(batch.commit().durability(durability).into_future());
        self.changed(end, change, durability == Durability::Durable);
    }

    /// Hundreds of keys, which are gone or have a value afterwards: more than one step can do.
    pub(super) fn big_batch(&mut self, input: &mut Input<'_>) {
        let (durability, change) = (durability(input), some_keys(input, &[0, 1]));
        let up = self.up();
        let mut batch = up.database.batch();
        for ((tree, key), value) in &change {
            let tree = &up.trees[usize::from(*tree)];
            match value {
                Some(value) => batch.put(tree, key, value),
                None => batch.delete(tree, key),
            };
        }
        let end = self.run(batch.commit().durability(durability).into_future());
        self.changed(end, change, durability == Durability::Durable);
    }

    /// An insert or an update, which happens if its condition holds.
    pub(super) fn condition(&mut self, input: &mut Input<'_>) {
        let (tree, key, insert) = (input.below(2) as u8, key(input), input.flag());
        let handle = &self.up().trees[usize::from(tree)];
        let write = match insert {
            true => handle.insert(&key, "conditional"),
            false => handle.update(&key, "conditional"),
        };
        let place = (tree, key);
        let there = self.history.now().contains_key(&place);
        let end = self.run(write.into_future());
        let violated = if insert { ErrorKind::KeyExists } else { ErrorKind::KeyMissing };
        match end {
            End::Done(Err(error)) if error.kind() == violated => {
                assert_eq!(there, insert, "a condition that holds: {error}");
            }
            end => {
                assert!(there != insert || !matches!(end, End::Done(Ok(_))), "it does not hold");
                let change = match there != insert {
                    true => change(place, Some(b"conditional".to_vec())),
                    false => Change::new(),
                };
                self.changed(end, change, true);
            }
        }
    }

    pub(super) fn delete_range(&mut self, input: &mut Input<'_>) {
        let tree = input.below(2) as u8;
        let (from, to) = (key(input), key(input));
        let change = self.without(tree, &from, &to);
        let end = self.run(self.up().trees[usize::from(tree)].delete_range(from..to));
        // What it waits for is its own affair: nothing here relies on it.
        self.changed(end, change, false);
    }

    /// What deleting a range changes.
    pub(super) fn without(&self, tree: u8, from: &[u8], to: &[u8]) -> Change {
        let all = self.history.now().keys();
        let inside =
            all.filter(|(of, key)| *of == tree && key.as_slice() >= from && key.as_slice() < to);
        inside.map(|place| (place.clone(), None)).collect()
    }

    /// A write is polled a few times and then dropped.
    pub(super) fn give_up(&mut self, input: &mut Input<'_>) {
        let (tree, key, polls) = (input.below(2) as u8, key(input), input.byte() % 6);
        let value = vec![input.byte(); if input.flag() { 30 } else { 2000 }];
        let write = self.up().trees[usize::from(tree)].put(&key, &value).into_future();
        let end = self.run(async { Ok(Polled { future: write, left: polls }.await) });
        let change = change((tree, key), Some(value));
        match end {
            End::Done(Ok(Some(result))) => self.changed(End::Done(result), change, true),
            End::Done(Ok(None)) => {
                self.history.uncertain(change);
                self.look_again(0);
            }
            End::Done(Err(error)) => unreachable!("only a write can fail: {error}"),
            End::Died => self.changed(End::<()>::Died, change, true),
        }
    }
}

/// One place gets this value, or none.
pub(super) fn change(place: Place, value: Option<Vec<u8>>) -> Change {
    Change::from([(place, value)])
}

/// Up to some hundred keys of one kind, at equal distances, that get a value or go.
pub(super) fn some_keys(input: &mut Input<'_>, trees: &[u8]) -> Change {
    let tree = trees[input.below(trees.len())];
    let (first, step) = (usize::from(input.byte()), 1 + input.below(9));
    let count = 1 + input.below(300);
    let style = input.byte();
    let value = vec![input.byte(); if style & 4 != 0 { input.below(700) } else { input.below(40) }];
    let change = |number: usize| {
        let number = first + number * step;
        let key = match style & 3 {
            0 => format!("{number:02}"),
            1 => format!("{number:04}{}", "q".repeat(60)),
            2 => format!("{}{number}", "p".repeat(90)),
            _ => format!("{:04}", number * 7919 % 9973),
        };
        let gone = style & 8 != 0 && !number.is_multiple_of(3);
        ((tree, key.into_bytes()), (!gone).then(|| value.clone()))
    };
    (0..count).map(change).collect()
}

/// A future that is polled so many times at most; `None` if that was not enough.
pub(super) struct Polled<F> {
    pub(super) future: F,
    pub(super) left: u8,
}

impl<F: Future + Unpin> Future for Polled<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        self.left -= 1;
        match pin!(&mut self.future).poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            // Nobody may ever wake it again: that was its last poll.
            Poll::Pending if self.left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    }
}

//! Changes of the client's own keys, whose outcome it knows beforehand.

use futures::FutureExt;
use std::collections::BTreeSet;
use std::sync::Arc;

use treering::{Error, ErrorKind};
use treering_txn::{Batch, Durability, OpKind, Violation};

use super::{Client, Done, Gone, KEYS};
use crate::journal::{Bytes, Change, Place, State, apply};
use crate::world::{is_end, own_key};

/// One operation of a batch.
pub(super) struct Op {
    pub(super) kind: OpKind,
    pub(super) place: Place,
    pub(super) value: Bytes,
}

/// What a batch comes to.
enum Expected {
    /// It changes this, and these keys were there before.
    Applied(Change, Vec<Option<Bytes>>),
    Violated(usize, Violation),
}

impl Client {
    pub(super) async fn write_one(&mut self) -> Done {
        let Some(place) = self.some_place() else { return Ok(()) };
        let op = self.op(place);
        if self.chance.one_in(5) {
            return self.write_through_the_face(op).await;
        }
        self.commit(vec![op], "single write").await
    }

    pub(super) async fn write_batch(&mut self) -> Done {
        let count = 2 + self.chance.below(8);
        let places: BTreeSet<Place> = (0..count).filter_map(|_| self.some_place()).collect();
        let mut ops: Vec<Op> = places.into_iter().map(|place| self.op(place)).collect();
        if let Some(twice) = ops.first().map(|op| op.place.clone())
            && self.chance.one_in(5)
        {
            ops.push(self.op(twice));
        }
        self.commit(ops, "batch").await
    }

    /// More than a few frames can take at once.
    pub(super) async fn write_big_batch(&mut self) -> Done {
        let mut ops = Vec::new();
        let count = 50 + self.chance.below(100);
        let mut taken = BTreeSet::new();
        for _ in 0..count {
            let Some(place) = self.some_place() else { continue };
            if !taken.insert(place.clone()) {
                continue;
            }
            let kind = if self.chance.one_in(4) { OpKind::Delete } else { OpKind::Put };
            let value = self.small_value(&place.key);
            ops.push(Op { kind, place, value });
        }
        self.commit(ops, "big batch").await
    }

    /// A value with pages of its own, in a batch or as a stream.
    pub(super) async fn write_large(&mut self) -> Done {
        let Some(place) = self.some_place() else { return Ok(()) };
        let len = 200 + self.chance.below(self.habits.large);
        let value = self.value(len);
        if self.chance.one_in(3) {
            return self.write_stream(place, value).await;
        }
        self.commit(vec![Op { kind: OpKind::Put, place, value }], "large value").await
    }

    /// A range of the client's own tree, which has nobody else's keys.
    pub(super) async fn delete_range(&mut self) -> Done {
        let Some(tree) = self.own_tree() else { return Ok(()) };
        let mut ends = [0, 1].map(|_| own_key(self.number, self.chance.below(KEYS)));
        ends.sort();
        let [from, to] = ends;
        let to = (!self.chance.one_in(6)).then_some(to);
        let is_inside = |place: &Place| {
            place.tree == tree && place.key >= from && to.as_ref().is_none_or(|to| place.key < *to)
        };
        // Also keys that are not there: until the range is known to be gone, nothing is to be put there.
        let all = (0..KEYS)
            .map(|number| Place { tree: Arc::clone(&tree), key: own_key(self.number, number) });
        let inside: Vec<Place> = all.filter(is_inside).collect();
        // What is in limbo inside of it may come before or behind it.
        let unclear = inside.iter().any(|place| self.journal().in_limbo(place));
        let Some(handle) = self.db.engine().find_tree(tree.as_bytes()) else {
            self.wrong(&format!("there is no tree {tree:?}"));
        };
        if unclear || to.as_ref() == Some(&from) {
            return Ok(());
        }
        self.world.count("range deleted");
        let change: Change = inside.into_iter().map(|place| (place, None)).collect();
        let durability = self.durability();
        let engine = Arc::clone(self.db.engine());
        let deleting =
            async move { engine.delete_range(handle, from, to, durability).await }.boxed();
        self.make(change, deleting.map(|done| done.map_err(Error::from)).boxed(), durability).await
    }

    fn op(&mut self, place: Place) -> Op {
        let there = self.journal().now().get(&place).cloned();
        let kind = match self.chance.below(100) {
            0..=44 => OpKind::Put,
            45..=64 => OpKind::Delete,
            65..=74 => OpKind::Insert,
            75..=84 => OpKind::Update,
            85..=89 => OpKind::RequirePresent,
            90..=93 => OpKind::RequireAbsent,
            _ => OpKind::RequireValue,
        };
        let value = match (kind, there) {
            (OpKind::RequireValue, Some(there)) if !self.chance.one_in(4) => there,
            _ => self.small_value(&place.key),
        };
        Op { kind, place, value }
    }

    /// Commits a batch and compares what it says.
    pub(super) async fn commit(&mut self, ops: Vec<Op>, event: &'static str) -> Done {
        let engine = Arc::clone(self.db.engine());
        let mut batch = Batch::new();
        for op in &ops {
            let Some(tree) = engine.find_tree(op.place.tree.as_bytes()) else {
                self.wrong(&format!("there is no tree {:?}", op.place.tree));
            };
            batch.push(tree, op.kind, &op.place.key, &op.value);
        }
        let keeps_old = self.chance.one_in(4) && ops.len() < 20;
        if keeps_old {
            batch.keep_old();
        }
        let expected = expected(self.journal().now(), &ops);
        let change = match &expected {
            Expected::Applied(change, _) => change.clone(),
            Expected::Violated(..) => Change::new(),
        };
        let step = self.journal().begin(change);
        let durability = self.durability();
        let committing = async move { engine.commit(batch, durability).await }.boxed();
        let outcome = match &expected {
            Expected::Applied(..) => self.drive(committing).await,
            // Left alone, it might come to its turn when the condition has come to hold.
            Expected::Violated(..) => Some(committing.await),
        };
        let Some(outcome) = outcome else {
            self.journal().abandoned(step);
            return Ok(());
        };
        match (outcome, expected) {
            (Ok(outcome), Expected::Applied(_, before)) => {
                self.world.count(event);
                let durable = durability == Durability::Durable;
                self.world.tell(outcome.sequence, durable);
                self.journal().applied(step, Some(outcome.sequence), false);
                let existed: Vec<bool> = before.iter().map(Option::is_some).collect();
                if outcome.existed != existed {
                    let said = outcome.existed;
                    self.wrong(&format!("{event}: existed {said:?}, not {existed:?}"));
                }
                let old = outcome.old.iter().map(Option::as_deref);
                if keeps_old && !old.eq(before.iter().map(Option::as_deref)) {
                    self.wrong(&format!("{event}: other old values than {before:?}"));
                }
                Ok(())
            }
            (Err(error), expected) => {
                let error = Error::from(error);
                if is_end(&error) {
                    return Err(Gone);
                }
                self.journal().refused(step);
                match expected {
                    Expected::Violated(at, why) if error.operation().is_some() => {
                        self.world.count("condition violated");
                        let said = (error.operation(), error.kind());
                        if said != (Some(at), kind_of(why)) {
                            self.wrong(&format!("violated {said:?}, not {at}: {why:?}"));
                        }
                        Ok(())
                    }
                    _ => self.excuse_write(&error),
                }
            }
            (Ok(_), Expected::Violated(at, why)) => {
                self.wrong(&format!("{event}: applied, though {at} is violated: {why:?}"))
            }
        }
    }

    /// Makes a change by a future that only says when it is done.
    pub(super) async fn make(
        &mut self,
        change: Change,
        making: futures::future::BoxFuture<'static, Result<(), Error>>,
        durability: Durability,
    ) -> Done {
        let step = self.journal().begin(change);
        match self.drive(making).await {
            None => self.journal().abandoned(step),
            Some(Ok(())) => {
                self.journal().applied(step, None, durability == Durability::Durable);
            }
            Some(Err(error)) => {
                if is_end(&error) {
                    return Err(Gone);
                }
                self.journal().refused(step);
                return self.excuse_write(&error);
            }
        }
        Ok(())
    }

    /// As a user of a tree does it, who hears no sequence.
    async fn write_through_the_face(&mut self, op: Op) -> Done {
        let Some(tree) = self.tree(&op.place.tree) else { return Ok(()) };
        let durability = self.durability();
        let (key, value) = (op.place.key.clone(), op.value.clone());
        let expected = expected(self.journal().now(), std::slice::from_ref(&op));
        let (change, violated) = match expected {
            Expected::Applied(change, _) => (change, false),
            Expected::Violated(..) => (Change::new(), true),
        };
        let writing = async move {
            match op.kind {
                OpKind::Insert => tree.insert(key, value).durability(durability).await,
                OpKind::Update => tree.update(key, value).durability(durability).await,
                OpKind::Delete => tree.delete(key).durability(durability).await.map(drop),
                OpKind::Put => tree.put(key, value).durability(durability).await,
                _ => tree.get(key).await.map(drop),
            }
        };
        self.world.count("written through the face");
        let asks = matches!(op.kind, OpKind::Insert | OpKind::Update);
        if violated && asks {
            return match writing.await {
                Err(error) if is_end(&error) => Err(Gone),
                Err(error)
                    if matches!(error.kind(), ErrorKind::KeyExists | ErrorKind::KeyMissing) =>
                {
                    Ok(())
                }
                Err(error) => self.excuse_write(&error),
                Ok(()) => self.wrong("a condition that does not hold was passed over"),
            };
        }
        self.make(change, writing.boxed(), durability).await
    }

    async fn write_stream(&mut self, place: Place, value: Bytes) -> Done {
        let Some(tree) = self.tree(&place.tree) else { return Ok(()) };
        let (durability, key) = (self.durability(), place.key.clone());
        let pieces = 1 + self.chance.below(4);
        let change = Change::from([(place, Some(value.clone()))]);
        self.world.count("value streamed");
        let writing = async move {
            let mut writer = tree.write_stream(key)?.durability(durability);
            for piece in value.chunks(value.len().div_ceil(pieces)) {
                writer.write(piece).await?;
            }
            writer.commit().await
        };
        self.make(change, writing.boxed(), durability).await
    }
}

/// What a batch comes to where this is there.
fn expected(now: &State, ops: &[Op]) -> Expected {
    let mut after: State =
        ops.iter().filter_map(|op| Some((op.place.clone(), now.get(&op.place)?.clone()))).collect();
    let (mut change, mut before) = (Change::new(), Vec::new());
    for (at, op) in ops.iter().enumerate() {
        let there = after.get(&op.place).cloned();
        let violated = match op.kind {
            OpKind::Insert | OpKind::RequireAbsent if there.is_some() => Some(Violation::KeyExists),
            OpKind::Update | OpKind::RequirePresent | OpKind::RequireValue if there.is_none() => {
                Some(Violation::KeyMissing)
            }
            OpKind::RequireValue if there.as_ref() != Some(&op.value) => {
                Some(Violation::ValueDiffers)
            }
            _ => None,
        };
        if let Some(violated) = violated {
            return Expected::Violated(at, violated);
        }
        let new = match op.kind {
            OpKind::Put | OpKind::Insert | OpKind::Update => Some(op.value.clone()),
            OpKind::Delete => None,
            _ => there.clone(),
        };
        let step = Change::from([(op.place.clone(), new)]);
        apply(&mut after, &step);
        change.extend(step);
        before.push(there);
    }
    Expected::Applied(change, before)
}

fn kind_of(violation: Violation) -> ErrorKind {
    match violation {
        Violation::KeyExists => ErrorKind::KeyExists,
        Violation::KeyMissing => ErrorKind::KeyMissing,
        _ => ErrorKind::ValueDiffers,
    }
}

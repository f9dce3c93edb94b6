//! Many operations at once, each in a task of its own, some of them dropped or left alone half-way.
//!
//! Their changes touch different places, so it does not matter in which order they happen: in the end each
//! has happened wholly or not at all, as it was told. Whoever reads meanwhile finds of each place what was
//! there before or what comes of it.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use treering::{Durability, Error, ErrorKind};
use treering_pagefile::sim::{SimTask, Stalled};

use super::history::{Change, Place, State, TREES, apply};
use super::reads::{pairs, tail};
use super::trees::load;
use super::writes::{Polled, change, some_keys};
use super::{End, NAMES, Run, durability, key};
use crate::base::Pair;
use crate::input::Input;

/// One of many operations that are under way at once.
struct Member {
    change: Change,
    durable: bool,
    /// How it has to end if its condition does not hold.
    violated: Option<ErrorKind>,
    said: Arc<Mutex<Option<Result<Answer, Error>>>>,
    task: SimTask<()>,
    is_left_alone: bool,
}

/// What an operation has said.
enum Answer {
    Done,
    /// Nothing was changed, for a good reason.
    Nothing,
    Got(Place, Option<Vec<u8>>),
    Scanned(u8, Vec<u8>, Vec<Pair>),
}

/// What becomes of an operation.
#[derive(Clone, Copy)]
enum Fate {
    Awaited,
    /// It is dropped after so many polls.
    Dropped(u8),
    /// After so many polls it is never polled again.
    LeftAlone(u8),
}

type Operation = Pin<Box<dyn Future<Output = Result<Answer, Error>> + Send>>;

/// What operations of one crowd change.
#[derive(Default)]
struct Taken {
    places: BTreeSet<Place>,
    ranges: Vec<(Place, Place)>,
}

impl Run {
    pub(super) fn crowd(&mut self, input: &mut Input<'_>) {
        let (mut taken, over) = (Taken::default(), Arc::new(AtomicBool::new(false)));
        let mut members = Vec::new();
        for _ in 0..2 + input.below(7) {
            members.extend(self.member(input, &mut taken, &over));
        }
        // Their order is not known, so neither is what a copy may have of them.
        self.flying.iter_mut().for_each(|flight| flight.since = None);
        let ends: Vec<&mut SimTask<()>> = members
            .iter_mut()
            .filter(|member| !member.is_left_alone)
            .map(|member| &mut member.task)
            .collect();
        let end = self.run(async {
            for task in ends {
                task.await;
            }
            Ok(())
        });
        over.store(true, Ordering::Relaxed);
        // What was given up comes to rest first, so that the sync is for all that has happened.
        let synced = match end {
            End::Done(_) => match self.sim.settle() {
                Ok(()) | Err(Stalled::Dead(_)) => self.run(self.up().database.sync()),
                Err(stalled) => panic!("the engine never rests: {stalled}"),
            },
            End::Died => End::Died,
        };
        self.judge(&members, synced);
    }

    fn judge(&mut self, members: &[Member], synced: End<()>) {
        let before = self.history.now().clone();
        let mut after = before.clone();
        members.iter().for_each(|member| apply(&mut after, &member.change));
        let is_synced = matches!(synced, End::Done(Ok(())));
        let (mut certain, mut uncertain, mut is_open) = (Vec::new(), Vec::new(), false);
        for member in members {
            match member.said.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
                Some(Ok(Answer::Done)) => {
                    assert!(member.violated.is_none(), "a condition that does not hold");
                    let is_certain = is_synced || member.durable;
                    if is_certain { &mut certain } else { &mut uncertain }
                        .push(member.change.clone());
                }
                Some(Ok(Answer::Nothing)) => {}
                Some(Ok(read)) => read.check(&before, &after),
                Some(Err(error)) if Some(error.kind()) == member.violated => {}
                Some(Err(error)) if error.kind() == ErrorKind::Full && !self.faulty => {
                    assert!(self.full, "there is room: {error}");
                }
                Some(Err(error)) => {
                    assert!(self.faulty, "nothing fails: {error}");
                    uncertain.push(member.change.clone());
                }
                None => {
                    is_open = true;
                    uncertain.push(member.change.clone());
                }
            }
        }
        let is_durable = is_synced || !certain.is_empty();
        certain.iter().for_each(|change| self.history.changed(change, false));
        if is_durable {
            self.history.all_durable();
        }
        uncertain.into_iter().for_each(|change| self.history.uncertain(change));
        match synced {
            // What nobody waits for may happen as soon as there is room.
            End::Done(Ok(())) if is_open && self.full => self.crash(9),
            End::Done(Ok(())) => {
                let lives = self.lives;
                self.look_again(9);
                if self.lives == lives {
                    self.history.all_durable();
                }
            }
            End::Done(Err(error)) => {
                assert!(self.faulty, "nothing fails: {error}");
                self.after_trouble(&error, 9);
            }
            End::Died => {
                assert!(self.faulty, "the machine died by itself");
                self.crash(9);
            }
        }
    }

    /// Begins one operation, unless others of the crowd change the same.
    fn member(
        &mut self,
        input: &mut Input<'_>,
        taken: &mut Taken,
        over: &Arc<AtomicBool>,
    ) -> Option<Member> {
        let (kind, fate) = (input.byte() % 16, fate(input));
        let (tree, durability) = (input.below(2) as u8, durability(input));
        let (handle, database) =
            (self.up().trees[usize::from(tree)].clone(), self.up().database.clone());
        let mut violated = None;
        let (change, operation): (Change, Operation) = match kind {
            0..=5 => {
                let place = (tree, key(input));
                let value = match kind {
                    0..=3 => vec![input.byte(); input.below(50)],
                    _ => vec![input.byte(); 130 + usize::from(input.u16() % 9000)],
                };
                let write = handle.put(&place.1, &value).durability(durability);
                (change(place, Some(value)), done(write.into_future()))
            }
            6 => {
                let place = (tree, key(input));
                let write = handle.delete(&place.1).durability(durability).into_future();
                (change(place, None), done(async { write.await.map(drop) }))
            }
            7 => {
                let place = (tree, key(input));
                let write = handle.insert(&place.1, "inserted").durability(durability);
                let there = self.history.now().contains_key(&place);
                violated = there.then_some(ErrorKind::KeyExists);
                let change = match there {
                    true => Change::new(),
                    false => change(place, Some(b"inserted".to_vec())),
                };
                (change, done(write.into_future()))
            }
            8 | 9 => {
                let change: Change = match kind {
                    8 => (0..1 + input.below(12))
                        .map(|_| {
                            let place = (input.below(2) as u8, key(input));
                            (place, Some(vec![input.byte(); input.below(30)]))
                        })
                        .collect(),
                    _ => some_keys(input, &[0, 1]),
                };
                let mut batch = database.batch();
                for ((tree, key), value) in &change {
                    let tree = &self.up().trees[usize::from(*tree)];
                    match value {
                        Some(value) => batch.put(tree, key, value),
                        None => batch.delete(tree, key),
                    };
                }
                (change, done(batch.commit().durability(durability).into_future()))
            }
            10 => {
                let (from, to) = (key(input), key(input));
                let change = self.without(tree, &from, &to);
                if !taken.range((tree, from.clone()), (tree, to.clone())) {
                    return None;
                }
                (change, done(async move { handle.delete_range(from..to).await }))
            }
            11 => {
                let number = 2 + tree;
                let name = NAMES[usize::from(number)];
                let (from, to) = ((number, Vec::new()), (number + 1, Vec::new()));
                if !taken.range(from, to) {
                    return None;
                }
                match (self.tree(number), input.flag()) {
                    (None, _) => {
                        let make = async move { database.tree(name).await.map(drop) };
                        (change((TREES, vec![number]), Some(Vec::new())), done(make))
                    }
                    (Some(_), true) => {
                        let drop = async move { database.drop_tree(name).await };
                        (self.without_tree(number), done(drop))
                    }
                    (Some(_), false) => {
                        if self.history.now().keys().any(|(of, _)| *of == number) {
                            return None;
                        }
                        let mut change = some_keys(input, &[number]);
                        change.retain(|_, value| value.is_some());
                        let keys = change.clone();
                        let load = async move {
                            let keys = keys.iter();
                            let keys =
                                keys.filter_map(|((_, key), value)| Some((key, value.as_ref()?)));
                            let loaded = load(&database, name, keys, true).await?;
                            Ok(if loaded { Answer::Done } else { Answer::Nothing })
                        };
                        (change, Box::pin(load))
                    }
                }
            }
            12 => {
                let key = key(input);
                let read = async move {
                    let found = handle.get(&key).await?.map(|value| value.to_vec());
                    Ok(Answer::Got((tree, key), found))
                };
                (Change::new(), Box::pin(read))
            }
            13 => {
                let (from, backward) = (key(input), input.flag());
                let scan = async move {
                    let mut found = pairs(&handle, &from, backward).await?;
                    if backward {
                        found.reverse();
                    }
                    Ok(Answer::Scanned(tree, from, found))
                };
                (Change::new(), Box::pin(scan))
            }
            _ => {
                let kind = input.byte();
                let work = async move {
                    match kind % 4 {
                        0 | 1 => database.checkpoint().await?,
                        2 => drop(database.compact().await?),
                        _ => database.tidy().await?,
                    }
                    Ok(Answer::Nothing)
                };
                (Change::new(), Box::pin(work))
            }
        };
        // A range has been looked at, and the keys in it are nobody else's.
        if kind != 10 && kind != 11 && !taken.places(&change) {
            return None;
        }
        let said = Arc::new(Mutex::new(None));
        let (tell, over) = (Arc::clone(&said), Arc::clone(over));
        let task = self.sim.spawn(async move {
            let ended = match fate {
                Fate::Awaited => Some(operation.await),
                Fate::Dropped(left) => Polled { future: operation, left }.await,
                Fate::LeftAlone(left) => Some(LeftAlone { operation, left, over }.await),
            };
            *tell.lock().unwrap_or_else(PoisonError::into_inner) = ended;
        });
        let durable = durability == Durability::Durable && kind < 10;
        let is_left_alone = matches!(fate, Fate::LeftAlone(_));
        Some(Member { change, durable, violated, said, task, is_left_alone })
    }
}

impl Answer {
    /// What was read was there before or came of a change.
    fn check(&self, before: &State, after: &State) {
        match self {
            Answer::Done | Answer::Nothing => {}
            Answer::Got(place, found) => {
                let found = found.as_ref();
                let fits = before.get(place) == found || after.get(place) == found;
                assert!(fits, "a read among others: {place:?}");
            }
            Answer::Scanned(tree, from, found) => {
                let sorted = found.is_sorted_by(|(one, _), (next, _)| one < next);
                assert!(sorted, "a scan among others is in order");
                let mut keys: BTreeSet<&Vec<u8>> = found.iter().map(|(key, _)| key).collect();
                let kept = tail(before, *tree, from.clone()).map(|(key, _)| key);
                keys.extend(kept);
                for key in keys {
                    let place = (*tree, key.clone());
                    let at = found.binary_search_by(|(other, _)| other.cmp(key));
                    let value = at.ok().map(|at| &found[at].1);
                    let fits = before.get(&place) == value || after.get(&place) == value;
                    assert!(fits && key >= from, "a scan among others: {key:?}");
                }
            }
        }
    }
}

impl Taken {
    /// Takes the places of a change; false if one of them is taken.
    fn places(&mut self, change: &Change) -> bool {
        let is_free = |place: &&Place| {
            let inside = |(from, to): &(Place, Place)| from <= *place && *place < to;
            !self.places.contains(*place) && !self.ranges.iter().any(inside)
        };
        let free = change.keys().all(|place| is_free(&place));
        if free {
            self.places.extend(change.keys().cloned());
        }
        free
    }

    /// Takes all places in a range; false if one of them is taken.
    fn range(&mut self, from: Place, to: Place) -> bool {
        let inside = |place: &Place| *place >= from && *place < to;
        let overlaps = |(start, end): &(Place, Place)| *start < to && from < *end;
        let free = !self.places.iter().any(inside) && !self.ranges.iter().any(overlaps);
        if free {
            self.ranges.push((from, to));
        }
        free
    }
}

fn fate(input: &mut Input<'_>) -> Fate {
    let byte = input.byte();
    match byte % 8 {
        0 => Fate::Dropped(byte / 8 % 8),
        1 => Fate::LeftAlone(byte / 8 % 8),
        _ => Fate::Awaited,
    }
}

fn done(write: impl Future<Output = Result<(), Error>> + Send + 'static) -> Operation {
    Box::pin(async move { write.await.map(|()| Answer::Done) })
}

/// An operation that is polled so many times, while the others are under way, and then never again.
struct LeftAlone {
    operation: Operation,
    left: u8,
    over: Arc<AtomicBool>,
}

impl Future for LeftAlone {
    type Output = Result<Answer, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.left == 0 || self.over.load(Ordering::Relaxed) {
            return Poll::Pending;
        }
        self.left -= 1;
        self.operation.as_mut().poll(cx)
    }
}

//! What is there after a kill, against what was said before.
//!
//! Of each task the operations are known, and up to which one it was told that they are done. If the
//! last durable one of those is number d, and the last of all n, then the task's keys are as after d
//! operations, or more, up to n + 1: the one under way may have happened, wholly. A task for which no
//! such number is found has *lost* something, if an earlier number fits, and else something is *torn*.

use std::path::Path;

use treering::{Database, Durability, Error};

use crate::plan::{Place, Plan, State, TREES, Value};
use crate::{Settings, options};

/// What is known of all tasks.
#[derive(Default)]
pub(crate) struct Known {
    /// Of each task, as of the last check.
    states: Vec<State>,
}

/// What a check found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) lost: Vec<String>,
    pub(crate) torn: Vec<String>,
    /// Operations that nobody was told of, and that are there.
    pub(crate) unheard: u64,
    /// Log records that opening the database applied again.
    pub(crate) replayed: u64,
}

impl Known {
    pub(crate) fn new(tasks: u16) -> Self {
        Self { states: vec![State::new(); tasks.into()] }
    }

    /// Opens the database, checks all of it, and takes what is there for the truth from now on.
    /// `told[task]` is how many operations of this cycle the task was told of.
    pub(crate) async fn check(
        &mut self,
        folder: &Path,
        plan: Plan,
        settings: &Settings,
        told: &[u32],
    ) -> Result<Found, Error> {
        let db = options(settings, plan).open(folder).await?;
        let mut found = Found { replayed: db.recovery().replayed, ..Found::default() };
        let there = self.read(&db, &mut found).await?;
        for (task, there) in there.into_iter().enumerate() {
            self.judge(task, &there, plan, told[task], &mut found);
            self.states[task] = there;
        }
        let report = db.verify().await?;
        found.torn.extend(report.problems);
        // Every other time it ends without a checkpoint, so that the next process has a log to replay.
        if plan.cycle.is_multiple_of(2) {
            db.close().await?;
        }
        Ok(found)
    }

    async fn read(&self, db: &Database, found: &mut Found) -> Result<Vec<State>, Error> {
        let mut there = vec![State::new(); self.states.len()];
        for (tree, name) in TREES.iter().enumerate() {
            let Some(handle) = db.find_tree(name)? else { continue };
            let mut range = handle.range(..);
            while let Some(chunk) = range.next_chunk().await? {
                for (key, bytes) in chunk.iter() {
                    let place = Place::parse(tree, key);
                    let state = place.and_then(|(_, task)| there.get_mut(usize::from(task)));
                    match (place, state, Value::parse(bytes)) {
                        (Some((place, _)), Some(state), Some(value)) => {
                            state.insert(place, value);
                        }
                        _ => {
                            let (key, len) = (key.escape_ascii(), bytes.len());
                            let what = format!("{name}: {len} bytes under \"{key}\" nobody wrote");
                            found.torn.push(what);
                        }
                    }
                }
            }
        }
        Ok(there)
    }

    fn judge(&self, task: usize, there: &State, plan: Plan, told: u32, found: &mut Found) {
        let mut state = self.states[task].clone();
        let (mut durable, mut fits) = (0, None);
        for number in 0..=told + 1 {
            if state == *there {
                fits = Some(number);
            }
            if number <= told {
                let operation = plan.operation(task as u16, number);
                operation.apply(&mut state);
                if number < told && operation.durability == Durability::Durable {
                    durable = number + 1;
                }
            }
        }
        let told_of =
            format!("task {task} in cycle {}, told of {told}, {durable} durable", plan.cycle);
        match fits {
            Some(number) if number >= durable => found.unheard += u64::from(number > told),
            Some(number) => found.lost.push(format!("{told_of}: as after {number} operations")),
            None => found.torn.push(format!("{told_of}: as after no number of operations")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAN: Plan = Plan { seed: 5, cycle: 1 };

    fn after(number: u32) -> State {
        let mut state = State::new();
        (0..number).for_each(|number| PLAN.operation(0, number).apply(&mut state));
        state
    }

    fn judged(there: &State, told: u32) -> Found {
        let mut found = Found::default();
        Known::new(1).judge(0, there, PLAN, told, &mut found);
        found
    }

    #[test]
    fn what_was_told_of_or_was_under_way_is_in_order() {
        let found = judged(&after(30), 30);
        assert!(found.lost.is_empty() && found.torn.is_empty(), "{found:?}");
        let found = judged(&after(31), 30);
        assert!(found.lost.is_empty() && found.torn.is_empty(), "{found:?}");
    }

    #[test]
    fn what_is_missing_or_half_there_is_found() {
        assert!(!judged(&after(20), 30).lost.is_empty(), "ten operations are lost");
        let mut half = after(30);
        half.pop_first();
        assert!(!judged(&half, 30).torn.is_empty(), "a key is missing");
    }
}

//! The scheduler: which thread goes next, as a function of a seed.
//!
//! No single way of choosing finds everything. Choosing anew at each step mixes threads finely, but
//! hardly ever lets one thread stand still while others come a long way, which is what most mistakes
//! need. So each execution has a [`Style`] of its own, drawn from its seed:
//!
//! * *Sticky*: the thread that runs goes on, but for one step in 2, 8, 32, 128 or 512 on average.
//! * *Ranked*: threads have ranks by chance, and the highest that can run does; at one step in 100 to
//!   5000 it falls to the lowest rank. This is the idea of PCT (Burckhardt and others, ASPLOS 2010):
//!   a mistake that needs few preemptions at certain places is found with a probability that has
//!   a bound.
//!
//! A thread that says that it only waits (a spinning latch, a poll that asks to be polled again)
//! lets others go first in any style, and no thread runs for ever.
//!
//! While a thread [sets the stage](quietly), nothing is mixed: making a tree is not what an execution
//! is about.

use std::cell::Cell;
use std::collections::HashMap;
use std::rc::Rc;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use shuttle::scheduler::{Schedule, Scheduler, Task, TaskId};

/// What an execution took.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Points at which another thread could have gone on.
    pub(crate) steps: Cell<u64>,
    /// Points at which one did.
    pub(crate) switches: Cell<u64>,
}

/// How threads are chosen in one execution.
#[derive(Clone, Copy, Debug)]
enum Style {
    Sticky { leave_one_in: u32 },
    Ranked { fall_one_in: u32 },
}

/// Chooses for one execution.
pub(crate) struct Seeded {
    seed: u64,
    begun: bool,
    rng: SmallRng,
    style: Style,
    ranks: HashMap<usize, u64>,
    /// The rank below all others.
    lowest: u64,
    /// Steps in a row of the thread that runs.
    in_a_row: u32,
    counts: Rc<Counts>,
}

/// A thread goes on for so many steps in a row at most: one that polls until others have done something
/// may not say that it waits.
const PATIENCE: u32 = 20_000;
/// Hardly ever.
const QUIETLY: Style = Style::Sticky { leave_one_in: 5000 };

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Runs `body` with as few switches as possible.
pub(crate) fn quietly<R>(body: impl FnOnce() -> R) -> R {
    /// Also when the body panics.
    struct Loud;
    impl Drop for Loud {
        fn drop(&mut self) {
            QUIET.set(false);
        }
    }
    QUIET.set(true);
    let _loud = Loud;
    body()
}

impl Seeded {
    pub(crate) fn new(seed: u64, counts: Rc<Counts>) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let style = match rng.random_range(0..8) {
            0..5 => Style::Sticky { leave_one_in: 2 << (2 * rng.random_range(0..5)) },
            _ => Style::Ranked { fall_one_in: [100, 500, 2000, 5000][rng.random_range(0..4)] },
        };
        let (ranks, lowest) = (HashMap::new(), 1 << 40);
        Self { seed, begun: false, rng, style, ranks, lowest, in_a_row: 0, counts }
    }

    fn choose(&mut self, tasks: &[&Task], current: Option<usize>, yielding: bool) -> usize {
        let others = |id: &usize| !yielding || Some(*id) != current || tasks.len() == 1;
        let mut candidates = tasks.iter().map(|task| usize::from(task.id())).filter(others);
        let goes_on = current.filter(|current| candidates.clone().any(|id| id == *current));
        let style = if QUIET.get() { QUIETLY } else { self.style };
        match style {
            Style::Sticky { leave_one_in } => match goes_on {
                Some(current) if self.in_a_row < PATIENCE && !self.one_in(leave_one_in) => current,
                _ => {
                    let nth = self.rng.random_range(0..candidates.clone().count());
                    candidates.nth(nth).unwrap_or_default()
                }
            },
            Style::Ranked { fall_one_in } => {
                if let Some(current) = current
                    && (yielding || self.in_a_row > PATIENCE || self.one_in(fall_one_in))
                {
                    self.lowest -= 1;
                    self.ranks.insert(current, self.lowest);
                }
                candidates.max_by_key(|&id| self.rank(id)).unwrap_or_default()
            }
        }
    }

    fn rank(&mut self, id: usize) -> u64 {
        let rng = &mut self.rng;
        *self.ranks.entry(id).or_insert_with(|| (1 << 40) + rng.random_range(0..1 << 40))
    }

    fn one_in(&mut self, of: u32) -> bool {
        self.rng.random_range(0..of) == 0
    }
}

impl Scheduler for Seeded {
    fn new_execution(&mut self) -> Option<Schedule> {
        // One execution a scheduler: the seed is all that it takes to have it again.
        (!std::mem::replace(&mut self.begun, true)).then(|| Schedule::new(self.seed))
    }

    fn next_task(
        &mut self,
        tasks: &[&Task],
        current: Option<TaskId>,
        yielding: bool,
    ) -> Option<TaskId> {
        let current = current.map(usize::from);
        let next = self.choose(tasks, current, yielding);
        let same = current == Some(next);
        self.in_a_row = if same { self.in_a_row + 1 } else { 0 };
        self.counts.steps.set(self.counts.steps.get() + 1);
        self.counts.switches.set(self.counts.switches.get() + u64::from(!same));
        tasks.iter().map(|task| task.id()).find(|id| usize::from(*id) == next)
    }

    fn next_u64(&mut self) -> u64 {
        self.rng.random()
    }
}

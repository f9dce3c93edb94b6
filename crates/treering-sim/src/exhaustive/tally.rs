//! What came of checking: numbers, and what was wrong.

/// What came of some work on one workload.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Moments at which the power failed.
    pub moments: u64,
    /// Subsets of what was not durable.
    pub subsets: u64,
    /// Images among them that no other one equals, with what was expected of them.
    pub images: u64,
    /// Images that were opened; of the others, all that is ever read equals one of these.
    pub opened: u64,
    /// I/Os that failed, once or from then on.
    pub failures: u64,
    /// Time, in seconds of one thread.
    pub seconds: f64,
    /// What was wrong.
    pub complaints: Vec<String>,
    /// Complaints beyond which nobody reads on; `None`: whatever comes.
    pub complaints_max: Option<usize>,
}

impl Tally {
    /// Notes what was wrong.
    pub fn complain(&mut self, what: String) {
        self.complaints.push(what);
    }

    /// Whether there is no need to look further.
    pub fn is_enough(&self) -> bool {
        self.complaints_max.is_some_and(|max| self.complaints.len() >= max)
    }

    /// Takes over the numbers and complaints of other work.
    pub fn add(&mut self, other: Tally) {
        self.moments += other.moments;
        self.subsets += other.subsets;
        self.images += other.images;
        self.opened += other.opened;
        self.failures += other.failures;
        self.seconds += other.seconds;
        self.complaints.extend(other.complaints);
    }
}

//! The example of `README.md`: a protocol of somebody else's on our latches, with four preemptions.
//!
//! Protocol: an account moves money between two balances under the latch, and its total is read
//! optimistically. Checked: the total is always 100.
#![cfg(treering_loom)]

use loom::thread;
use treering_latch::PhaseFair;
use treering_latch::sync::Arc;
use treering_latch::sync::atomic::{AtomicU64, Ordering::Relaxed};
use treering_loom_tests::{PREEMPTIONS, explore};

struct Account {
    latch: PhaseFair,
    balances: [AtomicU64; 2],
}

impl Account {
    fn set(&self, first: u64) {
        let _guard = self.latch.write();
        self.balances[0].store(first, Relaxed);
        self.balances[1].store(100 - first, Relaxed);
    }

    fn total(&self) -> u64 {
        let add = || self.balances.iter().map(|balance| balance.load(Relaxed)).sum();
        if let Some(version) = self.latch.optimistic() {
            let total = add();
            if self.latch.validate(version) {
                return total;
            }
        }
        let _guard = self.latch.read();
        add()
    }
}

#[test]
fn no_money_is_made_or_lost() {
    explore(PREEMPTIONS, || {
        let account = Arc::new(Account {
            latch: PhaseFair::new(),
            balances: [AtomicU64::new(100), AtomicU64::new(0)],
        });
        let other = account.clone();
        let writer = thread::spawn(move || other.set(30));
        assert_eq!(account.total(), 100);
        writer.join().unwrap();
    });
}

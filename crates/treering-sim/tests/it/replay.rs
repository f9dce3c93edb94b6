//! A seed is a history: run again, it does the same I/Os, with the same bytes, in the same order.

use treering_sim::history::{run, run_traced};

#[test]
fn a_seed_replays_bit_for_bit() {
    for seed in 1..=6 {
        let (one, two) = (run_traced(seed), run_traced(seed));
        assert!(one.1.len() > 100, "seed {seed} does {} I/Os only", one.1.len());
        let differs = one.1.iter().zip(&two.1).position(|(one, two)| one != two);
        assert_eq!(differs, None, "the first I/O of seed {seed} that differs");
        assert_eq!(one.0, two.0);
        assert_eq!(run(seed), one.0, "recording changes nothing");
    }
}

#[test]
fn another_seed_is_another_history() {
    assert_ne!(run(1).trace, run(2).trace);
}

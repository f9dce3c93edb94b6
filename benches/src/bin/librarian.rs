//! What librarian slots are worth: time of random inserts into leaves of a tree, by size of pages
//! and of records, without fillers and with several gaps. Prints a table.
//!
//! There is no engine around it: the leaves are in memory, found by an ordered map of their low
//! fences, and split like the engine's. So the figures are those of finding the slot, moving slots,
//! and making full leaves anew; everything else that an insert costs comes on top. The time is that
//! of the processor, so that other work of the machine disturbs it little.
//!
//! `cargo run --release -p treering-benches --bin librarian -- [--keys N] [--rounds N]`

use std::collections::BTreeMap;
use std::ops::Bound::{Included, Unbounded};
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use clap::Parser;
use rand::rngs::SmallRng;
use rand::{RngCore, SeedableRng};
use treering_blink::{Entries, Gap, Image, Page, PageSpec, Policy, build, partition};

#[derive(Parser)]
struct Args {
    /// Keys to insert, of ten random bytes.
    #[arg(long, default_value_t = 1_000_000)]
    keys: usize,
    /// Each figure is the best of so many.
    #[arg(long, default_value_t = 2)]
    rounds: usize,
    /// Sizes of pages, as powers of two.
    #[arg(long, value_delimiter = ',', default_values_t = [12, 13, 14, 16, 18, 20])]
    page_bits: Vec<u32>,
    /// Bytes of key and value together; 10 has no value.
    #[arg(long, value_delimiter = ',', default_values_t = [10, 30, 100, 300])]
    records: Vec<usize>,
    /// A filler after every so many live slots.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 2, 4])]
    gaps: Vec<u8>,
}

const KEY_LEN: usize = 10;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The leaves of a tree, by their low fences.
struct Leaves {
    page_size: usize,
    gap: Gap,
    leaves: BTreeMap<Vec<u8>, Vec<AtomicU64>>,
}

impl Leaves {
    fn new(page_size: usize, gap: Gap) -> Result<Self, Failure> {
        let mut leaves = Self { page_size, gap, leaves: BTreeMap::new() };
        let empty = build(&leaves.spec(b"", None), &[]).ok_or("an empty page does not fit")?;
        leaves.leaves.insert(Vec::new(), words_of(&empty));
        Ok(leaves)
    }

    fn spec<'a>(&self, low: &'a [u8], high: Option<&'a [u8]>) -> PageSpec<'a> {
        PageSpec { page_size: self.page_size, tree: 1, level: 0, low, high, gap: self.gap }
    }

    fn insert(&mut self, key: &[u8], value: &[u8]) -> Result<(), Failure> {
        let leaf = self.leaves.range::<[u8], _>((Unbounded, Included(key))).next_back();
        let (low, words) = leaf.ok_or("the first leaf has no low fence")?;
        let leaf = Page::new(&words[..]);
        let Err(slot) = leaf.find(key) else { return Ok(()) };
        if leaf.insert(slot, key, value) {
            return Ok(());
        }
        let (low, mut high) = (low.clone(), Vec::new());
        let finite = leaf.high_into(&mut high);
        let mut entries = Entries::of(&leaf);
        let at = entries.find(key).unwrap_or_else(|at| at);
        entries.insert(at, key, value);
        let spec = self.spec(&low, finite.then_some(&high));
        for part in partition(&spec, &entries.slices(), Policy::Balanced) {
            self.leaves.insert(part.low, words_of(&part.image));
        }
        Ok(())
    }
}

fn words_of(image: &Image) -> Vec<AtomicU64> {
    let words: Vec<AtomicU64> = image.words().iter().map(|_| AtomicU64::new(0)).collect();
    image.write_to(&words[..]);
    words
}

/// How long this thread has been running on a processor.
fn processor_time() -> Result<Duration, Failure> {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let running = stat.split_whitespace().next().ok_or("the kernel counts no time")?;
    Ok(Duration::from_nanos(running.parse()?))
}

/// How long it takes to insert all keys.
fn run(page_size: usize, gap: Gap, keys: &[u8], value: &[u8]) -> Result<Duration, Failure> {
    let mut leaves = Leaves::new(page_size, gap)?;
    let began = processor_time()?;
    for key in keys.as_chunks::<KEY_LEN>().0 {
        leaves.insert(key, value)?;
    }
    let took = processor_time()? - began;
    let pages = leaves.leaves.values().map(|words| Page::new(&words[..]));
    let there: usize = pages.map(|page| page.live_len()).sum();
    if there != keys.len() / KEY_LEN {
        return Err(format!("{there} keys are there").into());
    }
    Ok(took)
}

fn main() -> Result<(), Failure> {
    let args = Args::parse();
    let mut keys = vec![0; args.keys * KEY_LEN];
    SmallRng::seed_from_u64(12).fill_bytes(&mut keys);
    print!("| page KiB | record | entries | ns an insert: none |");
    for gap in &args.gaps {
        print!(" every {gap} |");
    }
    println!(" the rule |");
    println!("|{}", "---:|".repeat(args.gaps.len() + 5));
    for &bits in &args.page_bits {
        for &record in &args.records {
            let page_size = 1 << bits;
            let value = vec![7; record.saturating_sub(KEY_LEN)];
            let mut gaps = vec![Gap::NONE];
            gaps.extend(args.gaps.iter().map(|&gap| Gap::every(gap)));
            let mut best = vec![Duration::MAX; gaps.len()];
            // In turn, so that what else the machine does meets all alike.
            for _ in 0..args.rounds {
                for (best, &gap) in best.iter_mut().zip(&gaps) {
                    *best = run(page_size, gap, &keys, &value)?.min(*best);
                }
            }
            let nanos = |took: &Duration| took.as_secs_f64() * 1e9 / args.keys as f64;
            let none = nanos(&best[0]);
            print!(
                "| {} | {record} | {} | {none:.0} |",
                page_size >> 10,
                page_size / (record + 10)
            );
            for took in &best[1..] {
                print!(" {:.0}: {:.2} |", nanos(took), none / nanos(took));
            }
            let rule = Gap::automatic(page_size, record);
            let chosen = gaps.iter().position(|&gap| gap == rule).and_then(|at| at.checked_sub(1));
            println!(
                " {} |",
                chosen.map_or("none".into(), |at| format!("every {}", args.gaps[at]))
            );
        }
    }
    Ok(())
}

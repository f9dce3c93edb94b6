//! Whether transactions are strictly serializable: whether there is one order of all of them in which
//! each reads what those before it have written, and which keeps one behind another that began when the
//! other had returned (Adya 1999; Elle, Kingsbury and Alvaro 2020).
//!
//! The versions of a key are numbered, and each transaction says which version it read and that its own
//! is the next. That gives the edges of a graph:
//!
//! * *written, then read*: who reads a version comes behind who wrote it;
//! * *written, then written*: who writes a version comes behind who wrote the one before;
//! * *read, then written*: who reads a version comes before who wrote the next;
//! * *returned, then began*: as the clock says.
//!
//! There is such an order exactly if the graph has no cycle. With one key a transaction this is
//! linearizability (Herlihy and Wing 1990).

use std::collections::{BTreeMap, BTreeSet};

use crate::journal::{Place, show};

/// A transaction that has happened.
pub struct Event<'t> {
    /// Its number.
    pub id: u32,
    /// The version of each key that it read, and that it depends on.
    pub reads: &'t BTreeMap<Place, usize>,
    /// Keys among them of which it wrote the next version.
    pub writes: &'t BTreeSet<Place>,
    /// The moment before it began.
    pub began: u64,
    /// The moment after it returned, if it did.
    pub ended: Option<u64>,
}

#[derive(Clone, Copy)]
struct Edge {
    to: usize,
    why: &'static str,
}

/// Looks for an order of these transactions, on keys that have had so many versions before.
///
/// # Errors
/// A cycle, or two transactions that wrote the same version, or one that read what nobody wrote.
pub fn check(before: &BTreeMap<Place, usize>, events: &[Event<'_>]) -> Result<(), String> {
    let writers = writers(events)?;
    // Behind the transactions come the moments, in their order: the edges of the clock go through them.
    let mut moments: Vec<u64> = events.iter().filter_map(|event| event.ended).collect();
    moments.sort_unstable();
    let mut edges: Vec<Vec<Edge>> = vec![Vec::new(); events.len() + moments.len()];
    for moment in 1..moments.len() {
        let to = events.len() + moment;
        edges[to - 1].push(Edge { to, why: "returned before" });
    }
    for (number, event) in events.iter().enumerate() {
        if let Some(ended) = event.ended {
            let moment = moments.partition_point(|moment| *moment < ended);
            edges[number].push(Edge { to: events.len() + moment, why: "returned at" });
        }
        let past = moments.partition_point(|moment| *moment < event.began);
        if past > 0 {
            let why = "and then began";
            edges[events.len() + past - 1].push(Edge { to: number, why });
        }
        for (place, version) in event.reads {
            match version.checked_sub(1).map(|at| (at, writers.get(&(place, at)))) {
                Some((_, Some(writer))) => {
                    edges[*writer].push(Edge { to: number, why: "wrote what was read by" });
                }
                Some((at, None)) if at >= before.get(place).copied().unwrap_or(0) => {
                    let (id, place) = (event.id, show(place));
                    return Err(format!("{id} read version {version} of {place}: nobody wrote it"));
                }
                _ => {}
            }
            if let Some(next) = writers.get(&(place, *version))
                && *next != number
            {
                edges[number].push(Edge { to: *next, why: "read what was replaced by" });
            }
        }
    }
    match cycle(&edges) {
        None => Ok(()),
        Some(cycle) => Err(describe(&cycle, &edges, events)),
    }
}

/// Who wrote which version of which key.
fn writers<'t>(events: &'t [Event<'t>]) -> Result<BTreeMap<(&'t Place, usize), usize>, String> {
    let mut writers = BTreeMap::new();
    for (number, event) in events.iter().enumerate() {
        for place in event.writes {
            let version = event.reads[place];
            if let Some(other) = writers.insert((place, version), number) {
                let (one, two) = (events[other].id, event.id);
                return Err(format!(
                    "{one} and {two} both appended to version {version} of {}: an update is lost",
                    show(place)
                ));
            }
        }
    }
    Ok(writers)
}

/// A cycle of the graph, if there is one, by taking away what nothing comes before.
fn cycle(edges: &[Vec<Edge>]) -> Option<Vec<usize>> {
    let mut before = vec![0_usize; edges.len()];
    for edge in edges.iter().flatten() {
        before[edge.to] += 1;
    }
    let mut free: Vec<usize> = (0..edges.len()).filter(|node| before[*node] == 0).collect();
    let mut left: BTreeSet<usize> = (0..edges.len()).collect();
    while let Some(node) = free.pop() {
        left.remove(&node);
        for edge in &edges[node] {
            before[edge.to] -= 1;
            if before[edge.to] == 0 {
                free.push(edge.to);
            }
        }
    }
    // Everything left has something left before it: going back from anywhere, one comes round.
    let mut back = BTreeMap::new();
    for from in &left {
        for edge in &edges[*from] {
            back.insert(edge.to, *from);
        }
    }
    let mut path = vec![*left.first()?];
    loop {
        let previous = back[path.last()?];
        if let Some(at) = path.iter().position(|node| *node == previous) {
            let mut round = path.split_off(at);
            round.reverse();
            return Some(round);
        }
        path.push(previous);
    }
}

fn describe(cycle: &[usize], edges: &[Vec<Edge>], events: &[Event<'_>]) -> String {
    let name = |node: usize| match events.get(node) {
        Some(event) => format!("{} {:?}", event.id, event.reads.values().collect::<Vec<_>>()),
        None => "a moment".to_owned(),
    };
    let mut text = "no order explains what was read: ".to_owned();
    for (at, node) in cycle.iter().enumerate() {
        let next = cycle[(at + 1) % cycle.len()];
        let why = edges[*node].iter().find(|edge| edge.to == next).map_or("?", |edge| edge.why);
        text += &format!("{} {why} ", name(*node));
    }
    text + &name(cycle[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Case {
        reads: BTreeMap<Place, usize>,
        writes: BTreeSet<Place>,
        time: (u64, u64),
    }

    fn place(key: u8) -> Place {
        Place { tree: "tree".into(), key: vec![key] }
    }

    /// Keys with the version that was read, those of them that were written, and when.
    fn case(reads: &[(u8, usize)], writes: &[u8], time: (u64, u64)) -> Case {
        Case {
            reads: reads.iter().map(|(key, version)| (place(*key), *version)).collect(),
            writes: writes.iter().map(|key| place(*key)).collect(),
            time,
        }
    }

    fn verdict<'c>(cases: &'c [Case]) -> Result<(), String> {
        let event = |(id, case): (usize, &'c Case)| Event {
            id: id as u32,
            reads: &case.reads,
            writes: &case.writes,
            began: case.time.0,
            ended: Some(case.time.1),
        };
        let events: Vec<Event<'c>> = cases.iter().enumerate().map(event).collect();
        check(&BTreeMap::new(), &events)
    }

    #[test]
    fn what_can_be_put_in_order_is_accepted() {
        let first = case(&[(1, 0), (2, 0)], &[1], (1, 10));
        let second = case(&[(1, 1), (2, 0)], &[1, 2], (2, 9));
        let reader = case(&[(2, 1)], &[], (3, 4));
        assert_eq!(verdict(&[first, second, reader]), Ok(()));
    }

    #[test]
    fn a_lost_update_is_noticed() {
        let (one, two) = (case(&[(1, 0)], &[1], (1, 10)), case(&[(1, 0)], &[1], (2, 9)));
        assert!(verdict(&[one, two]).unwrap_err().contains("lost"));
    }

    #[test]
    fn a_write_skew_is_noticed() {
        let one = case(&[(1, 0), (2, 0)], &[1], (1, 10));
        let two = case(&[(1, 0), (2, 0)], &[2], (2, 9));
        assert!(verdict(&[one, two]).unwrap_err().contains("no order"));
    }

    #[test]
    fn a_stale_read_is_noticed() {
        let write = case(&[(1, 0)], &[1], (1, 2));
        let stale = case(&[(1, 0)], &[], (3, 4));
        assert!(verdict(&[write, stale]).unwrap_err().contains("then began"));
    }

    #[test]
    fn a_half_seen_transaction_is_noticed() {
        let write = case(&[(1, 0), (2, 0)], &[1, 2], (1, 10));
        let half = case(&[(1, 1), (2, 0)], &[], (2, 9));
        assert!(verdict(&[write, half]).unwrap_err().contains("no order"));
    }

    #[test]
    fn a_read_of_what_nobody_wrote_is_noticed() {
        assert!(verdict(&[case(&[(1, 1)], &[], (1, 2))]).unwrap_err().contains("nobody"));
    }
}

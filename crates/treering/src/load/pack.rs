//! Records in one buffer.

use treering_blink::key_head;

#[derive(Clone, Copy)]
struct Span {
    start: usize,
    key: usize,
    value: usize,
}

/// Records, in the order in which they were added.
#[derive(Default)]
pub(super) struct Pack {
    bytes: Vec<u8>,
    spans: Vec<Span>,
}

impl Pack {
    pub(super) fn push(&mut self, key: &[u8], value: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(value);
        self.spans.push(Span { start, key: key.len(), value: value.len() });
    }

    /// Memory that its records take, about.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.len() + self.spans.len() * size_of::<Span>()
    }

    pub(super) fn len(&self) -> usize {
        self.spans.len()
    }

    pub(super) fn get(&self, index: usize) -> (&[u8], &[u8]) {
        let Span { start, key, value } = self.spans[index];
        self.bytes[start..start + key + value].split_at(key)
    }
}

/// Records of many packs, sorted; of those with one key, the last.
pub(super) struct Sorted {
    packs: Vec<Pack>,
    order: Vec<Place>,
}

/// Where a record is, and how its key begins: mostly that tells two of them apart, and the keys
/// themselves, which lie anywhere in memory, need not be looked at.
#[derive(Clone, Copy)]
struct Place {
    head: u64,
    pack: u32,
    at: u32,
}

impl Sorted {
    pub(super) fn new(packs: Vec<Pack>) -> Self {
        let mut order = Vec::with_capacity(packs.iter().map(Pack::len).sum());
        for (pack, records) in packs.iter().enumerate() {
            order.extend((0..records.len()).map(|at| Place {
                head: key_head(records.get(at).0),
                pack: pack as u32,
                at: at as u32,
            }));
        }
        let key = |place: &Place| packs[place.pack as usize].get(place.at as usize).0;
        let compare = |a: &Place, b: &Place| a.head.cmp(&b.head).then_with(|| key(a).cmp(key(b)));
        if !order.is_sorted_by(|a, b| compare(a, b).is_le()) {
            order.sort_by(compare);
        }
        // The sort is stable: the last of equal keys came last, and takes the place of the first.
        order.dedup_by(|next, kept| {
            let same = compare(next, kept).is_eq();
            if same {
                *kept = *next;
            }
            same
        });
        Self { packs, order }
    }

    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    pub(super) fn get(&self, index: usize) -> (&[u8], &[u8]) {
        let Place { pack, at, .. } = self.order[index];
        self.packs[pack as usize].get(at as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packs_are_sorted_as_one_and_the_last_value_of_a_key_stays() {
        let mut packs = vec![Pack::default(), Pack::default()];
        for (pack, key, value) in
            [(0, "b", "1"), (0, "a", "2"), (0, "b", "3"), (1, "", "4"), (1, "a", "5"), (1, "c", "")]
        {
            packs[pack].push(key.as_bytes(), value.as_bytes());
        }
        let sorted = Sorted::new(packs);
        let found: Vec<_> = (0..sorted.len()).map(|at| sorted.get(at)).collect();
        let expected = [("", "4"), ("a", "5"), ("b", "3"), ("c", "")];
        let expected = expected.map(|(key, value)| (key.as_bytes(), value.as_bytes()));
        assert_eq!(found, expected);
    }

    /// Keys that begin alike, and shorter ones that are what the longer ones begin with.
    #[test]
    fn keys_are_sorted_as_bytes_are() {
        let mut keys: Vec<Vec<u8>> = Vec::new();
        for len in 0..12 {
            for last in [0, 1, 0x7f, 0x80, 0xff] {
                keys.push([vec![7; len], vec![last]].concat());
                keys.push([vec![0; len], vec![last]].concat());
                keys.push([vec![0xff; len], vec![last]].concat());
            }
        }
        let mut pack = Pack::default();
        keys.iter().for_each(|key| pack.push(key, b""));
        let sorted = Sorted::new(vec![pack]);
        keys.sort();
        keys.dedup();
        let found: Vec<&[u8]> = (0..sorted.len()).map(|at| sorted.get(at).0).collect();
        assert_eq!(found, keys);
    }
}

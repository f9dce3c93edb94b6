//! Records in one buffer.

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
    order: Vec<(u32, u32)>,
}

impl Sorted {
    pub(super) fn new(packs: Vec<Pack>) -> Self {
        let numbers = packs.iter().enumerate();
        let mut order: Vec<(u32, u32)> = numbers
            .flat_map(|(pack, records)| (0..records.len()).map(move |at| (pack as u32, at as u32)))
            .collect();
        let key = |(pack, at): &(u32, u32)| packs[*pack as usize].get(*at as usize).0;
        if !order.is_sorted_by_key(key) {
            order.sort_by(|a, b| key(a).cmp(key(b)));
        }
        // The sort is stable: the last of equal keys came last, and takes the place of the first.
        order.dedup_by(|next, kept| {
            let same = key(next) == key(kept);
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
        let (pack, at) = self.order[index];
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
}

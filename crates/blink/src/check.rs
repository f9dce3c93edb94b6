//! All that can be wrong within one page, in words: what `verify` says of it.

use std::cmp::Ordering;

use crate::layout::{
    CHILD_LEN, FLAG_GAPS, FLAG_HIGH_INFINITE, FLAG_UNPOSTED, HEADER_LEN, KIND_FILLER, KIND_LIVE,
    KIND_OVERFLOW, Lengths, SLOT_LEN, WORD_COUNTS, WORD_GARBAGE, WORD_HIGH, WORD_IDENTITY,
    WORD_LOW, head_of, is_page_size, max_key_len, max_record_len, slot_head, slot_kind,
    slot_offset, split_halves,
};
use crate::page::Page;
use crate::stored::REFERENCE_LEN;
use crate::words::{Words, common_prefix_len, load};

/// Checks the structure of a page of `page_size` bytes that nobody is changing, and names every
/// fault: none means that all reading and editing methods do what they say.
pub fn check<W: Words>(page: &Page<W>, page_size: usize) -> Vec<String> {
    let mut checker = Checker { page, page_size, faults: Vec::new() };
    checker.frame();
    // What follows would drown in faults that have this one cause.
    if checker.faults.is_empty() {
        checker.fences();
        checker.fillers();
    }
    if checker.faults.is_empty() {
        checker.heap();
    }
    if checker.faults.is_empty() {
        checker.keys();
    }
    checker.faults
}

struct Checker<'a, W> {
    page: &'a Page<W>,
    page_size: usize,
    faults: Vec<String>,
}

impl<W: Words> Checker<'_, W> {
    fn fault_if(&mut self, faulty: bool, fault: impl FnOnce() -> String) {
        if faulty {
            self.faults.push(fault());
        }
    }

    fn header(&self, word: usize) -> (usize, usize) {
        split_halves(self.page.words.word(word))
    }

    /// Size, flags, slot count, heap start.
    fn frame(&mut self) {
        let (size, expected) = (self.page.page_size(), self.page_size);
        self.fault_if(size != expected, || format!("it has {size} bytes, not {expected}"));
        self.fault_if(!is_page_size(expected), || format!("no page has {expected} bytes"));
        let flags = self.page.flags();
        let known = FLAG_UNPOSTED | FLAG_HIGH_INFINITE | FLAG_GAPS;
        self.fault_if(flags & !known != 0, || format!("unknown flags {flags:#04x}"));
        let reserved = self.page.words.word(WORD_IDENTITY) >> 48;
        self.fault_if(reserved != 0, || format!("reserved header bytes hold {reserved:#06x}"));
        let (count, heap_start) = self.header(WORD_COUNTS);
        self.fault_if(heap_start > size, || format!("heap start {heap_start} is outside"));
        self.fault_if(HEADER_LEN + count * SLOT_LEN > heap_start, || {
            format!("{count} slots reach into the heap, which starts at {heap_start}")
        });
        let infinite = self.page.is_high_infinite();
        self.fault_if(infinite && self.page.right().is_some(), || {
            "it has a right link and no high fence".into()
        });
        self.fault_if(!infinite && self.page.right().is_none(), || {
            "it has a high fence and no right link".into()
        });
        self.fault_if(self.page.unposted() && self.page.right().is_none(), || {
            "it is flagged as split and has no right link".into()
        });
        self.fault_if(!self.page.is_leaf() && count == 0, || "an inner page without child".into());
    }

    /// Both fences, and the prefix that they have in common.
    fn fences(&mut self) {
        let max_key = max_key_len(self.page_size);
        let infinite = self.page.is_high_infinite();
        let (low_at, low_len) = self.header(WORD_LOW);
        let (high_at, high_len) = self.header(WORD_HIGH);
        for (name, len) in [("low", low_len), ("high", high_len)] {
            self.fault_if(len > max_key, || format!("{name} fence of {len} bytes"));
        }
        self.fault_if(low_at + low_len != self.page_size, || {
            format!("low fence at {low_at} of {low_len} bytes is not at the end")
        });
        self.fault_if(high_at + high_len != low_at, || {
            format!("high fence at {high_at} of {high_len} bytes is not before the low fence")
        });
        self.fault_if(infinite && high_len != 0, || "an infinite high fence with bytes".into());

        let (mut low, mut high) = (Vec::new(), Vec::new());
        self.page.low_into(&mut low);
        let finite = self.page.high_into(&mut high);
        self.fault_if(finite && low >= high, || {
            format!("low fence {} is not below high fence {}", shown(&low), shown(&high))
        });
        let expected = if finite { common_prefix_len(&low, &high) } else { 0 };
        let (_, prefix_len) = self.header(WORD_GARBAGE);
        self.fault_if(prefix_len != expected, || {
            format!("prefix of {prefix_len} bytes, the fences have {expected} in common")
        });
    }

    /// Slots are live, or fillers that lead where the slot behind them does.
    fn fillers(&mut self) {
        let (gaps, leaf) = (self.page.has_gaps(), self.page.is_leaf());
        self.fault_if(gaps && !leaf, || "an inner page that is flagged to have gaps".into());
        let mut next: Option<u64> = None;
        for slot in (0..self.page.len()).rev() {
            let word = self.page.slot(slot);
            let kind = slot_kind(word);
            let known = [KIND_LIVE, KIND_FILLER, KIND_OVERFLOW].contains(&kind);
            self.fault_if(!known, || format!("slot {slot} is of unknown kind {kind}"));
            if kind == KIND_FILLER {
                self.fault_if(!leaf, || format!("slot {slot}: a filler in an inner page"));
                self.fault_if(leaf && !gaps, || {
                    format!("slot {slot}: a filler in a page that is not flagged to have gaps")
                });
                match next {
                    None => self.faults.push(format!("slot {slot}: a filler at the end")),
                    Some(next) => {
                        let (at, next_at) = (slot_offset(word), slot_offset(next));
                        self.fault_if(at != next_at, || {
                            format!("slot {slot}: a filler to {at}, the next slot is to {next_at}")
                        });
                        let (head, next) = (slot_head(word), slot_head(next));
                        self.fault_if(head != next, || {
                            format!(
                                "slot {slot}: a filler with head {head:#010x}, not {next:#010x}"
                            )
                        });
                    }
                }
            }
            next = Some(word);
        }
    }

    /// Every byte of the heap belongs to one record, to a fence, or to the garbage, which has the
    /// fillers, too.
    fn heap(&mut self) {
        let (count, heap_start) = self.header(WORD_COUNTS);
        let fences_start = self.page.fences_start();
        let mut spans = Vec::with_capacity(count);
        for slot in self.page.live_slots() {
            let word = self.page.slot(slot);
            let at = slot_offset(word);
            let lengths = Lengths::decode(load(self.page.words, at));
            self.fault_if(at < heap_start || at + lengths.record() > fences_start, || {
                format!("slot {slot}: record at {at} of {} bytes is outside", lengths.record())
            });
            self.fault_if(lengths != Lengths::new(lengths.suffix, lengths.value), || {
                format!("slot {slot}: lengths are not in their shortest form")
            });
            self.limits(slot, lengths);
            if slot_kind(word) == KIND_OVERFLOW {
                self.reference(slot, lengths);
            }
            spans.push((at, lengths.record(), slot));
        }
        spans.sort_unstable();
        for pair in spans.windows(2) {
            let ((at, len, slot), (next, _, other)) = (pair[0], pair[1]);
            self.fault_if(at + len > next, || {
                format!("the records of slots {slot} and {other} overlap")
            });
        }
        let (garbage, _) = self.header(WORD_GARBAGE);
        let used: usize = spans.iter().map(|(_, len, _)| len).sum();
        let (heap, fillers) = (fences_start.saturating_sub(heap_start), count - spans.len());
        self.fault_if(used + garbage != heap + fillers * SLOT_LEN, || {
            format!(
                "{used} bytes of records and {garbage} of garbage in a heap of {heap} with \
                 {fillers} fillers"
            )
        });
    }

    fn reference(&mut self, slot: usize, lengths: Lengths) {
        self.fault_if(!self.page.is_leaf(), || {
            format!("slot {slot}: a reference to overflow pages in an inner page")
        });
        self.fault_if(lengths.value != REFERENCE_LEN, || {
            format!("slot {slot}: a reference to overflow pages of {} bytes", lengths.value)
        });
    }

    fn limits(&mut self, slot: usize, lengths: Lengths) {
        let key_len = self.page.prefix_len() + lengths.suffix;
        self.fault_if(key_len > max_key_len(self.page_size), || {
            format!("slot {slot}: key of {key_len} bytes")
        });
        if self.page.is_leaf() {
            self.fault_if(key_len + lengths.value > max_record_len(self.page_size), || {
                format!("slot {slot}: key and value of {} bytes", key_len + lengths.value)
            });
        } else {
            self.fault_if(lengths.value != CHILD_LEN, || {
                format!("slot {slot}: child id of {} bytes", lengths.value)
            });
            self.fault_if(slot == 0 && lengths.suffix != 0, || "slot 0: has a separator".into());
        }
    }

    /// Keys in order and within the fences, heads that match them, children all there.
    fn keys(&mut self) {
        let (mut low, mut high) = (Vec::new(), Vec::new());
        self.page.low_into(&mut low);
        let finite = self.page.high_into(&mut high);
        let (mut previous, mut key) = (Vec::new(), Vec::new());
        let mut children = Vec::new();
        for slot in self.page.live_slots() {
            key.clear();
            self.page.key_into(slot, &mut key);
            let order = previous.cmp(&key);
            let first = self.page.live_before(slot).is_none();
            self.fault_if(!first && order != Ordering::Less, || {
                format!(
                    "slot {slot} is out of order: key {} is not above the one before",
                    shown(&key)
                )
            });
            self.fault_if(key < low || finite && key >= high, || {
                format!("slot {slot}: key {} is outside of the fences", shown(&key))
            });
            let is_first_child = slot == 0 && !self.page.is_leaf();
            let suffix = if is_first_child { &[] } else { &key[self.page.prefix_len()..] };
            let (head, expected) = (slot_head(self.page.slot(slot)), head_of(suffix));
            self.fault_if(head != expected, || {
                format!("slot {slot}: head {head:#010x}, its key has {expected:#010x}")
            });
            if !self.page.is_leaf() {
                children.push((self.page.child(slot).0, slot));
            }
            std::mem::swap(&mut previous, &mut key);
        }
        children.sort_unstable();
        for (index, &(child, slot)) in children.iter().enumerate() {
            self.fault_if(child == 0, || format!("slot {slot}: no child"));
            let twin = index > 0 && children[index - 1].0 == child;
            self.fault_if(twin, || format!("slot {slot}: page {child} is a child twice"));
        }
    }
}

/// The first bytes of a key, for a reader.
fn shown(key: &[u8]) -> String {
    let start = &key[..key.len().min(40)];
    let more = if key.len() > 40 { ".." } else { "" };
    format!("\"{}\"{more}", start.escape_ascii())
}

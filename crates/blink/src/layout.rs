//! Where everything stands in a page, byte by byte, and how much fits.
//!
//! Little-endian. The first sixteen bytes belong to the page file (checksum, write stamp, page id).
//!
//! | bytes | |
//! |---|---|
//! | 0..16 | the page file's seal |
//! | 16..20 | tree id |
//! | 20 | level, 0 for a leaf |
//! | 21 | flags: bit 0 `UNPOSTED`, bit 1 `HIGH_INFINITE`, bit 2 `GAPS` |
//! | 22..24 | 0 |
//! | 24..32 | right link: a page id, 0 for none |
//! | 32..36 | slot count |
//! | 36..40 | heap start: the lowest byte that the heap uses |
//! | 40..44 | garbage: bytes of the heap that nothing uses, and of slots that are fillers |
//! | 44..48 | prefix length |
//! | 48..52, 52..56 | low fence: offset, length |
//! | 56..60, 60..64 | high fence: offset, length |
//! | 64.. | slots, eight bytes each, in key order |
//! | .. end | heap, growing down: the low fence last, before it the high fence, then records |
//!
//! **Keys** `k` of a page satisfy `low <= k < high`. The low fence `""` is that of a level's
//! left-most page. The common prefix of both fences is a prefix of every key in between; it is not
//! stored again, it is the first bytes of the low fence (none if the high fence is infinite).
//!
//! **A slot** is one word: the first four bytes of the key after the prefix, zero padded, as a
//! big-endian number in bits 32.., so that comparing numbers is comparing bytes; kind in bits
//! 24..32, 0 for a live slot, 1 for a filler; offset of the record in bits 0..24. A filler has the
//! head and the offset of the next live slot on its right (see [`crate::gap`]).
//!
//! **A record** is the length of the key's suffix (the key without the prefix) and of the value,
//! each as LEB128 of at most four bytes, so that one unaligned load has both, then suffix and value.
//!
//! **Inner pages** (level above 0): the key of slot `i` is the separator at which child `i` begins,
//! its value the child's page id in eight bytes. Slot 0 begins at the low fence; its suffix is
//! stored empty, which is less than or equal to every other.
//!
//! # What fits
//! A page of `P` bytes takes keys, and so fences, of up to `P / 4` bytes. A header, two such fences,
//! and one record with its slot:
//!
//! * a leaf: `64 + 2 * P/4 + 8 + 8 + max_record_len`, which is `P` exactly with
//!   `max_record_len = P/2 - 80` (176 at 512 bytes);
//! * an inner page with slot 0 and one separator of `P/4`: `64 + 2 * P/4 + (8+2+8) + (8+5+P/4+8)`
//!   is `3/4 P + 103`, which is less than `P` from 512 bytes on (487).
//!
//! So a page always has room for one entry more than none, and entries that do not fit one page
//! always fit more of them: [`partition`](fn@crate::partition) cannot fail.

/// The smallest page, in bytes.
pub const MIN_PAGE_SIZE: usize = 1 << 9;
/// The largest page, in bytes.
pub const MAX_PAGE_SIZE: usize = 1 << 24;

/// Bytes before the first slot.
pub(crate) const HEADER_LEN: usize = 64;
/// Bytes of a slot.
pub(crate) const SLOT_LEN: usize = 8;
/// Bytes of the value in an inner page.
pub(crate) const CHILD_LEN: usize = 8;

/// The word of tree id, level and flags.
pub(crate) const WORD_IDENTITY: usize = 2;
/// The word of the right link.
pub(crate) const WORD_RIGHT: usize = 3;
/// The word of slot count (low half) and heap start (high half).
pub(crate) const WORD_COUNTS: usize = 4;
/// The word of garbage (low half) and prefix length (high half).
pub(crate) const WORD_GARBAGE: usize = 5;
/// The word of the low fence: offset (low half) and length (high half).
pub(crate) const WORD_LOW: usize = 6;
/// The word of the high fence, likewise.
pub(crate) const WORD_HIGH: usize = 7;
/// The word of slot 0.
pub(crate) const WORD_SLOTS: usize = HEADER_LEN / 8;

/// Where the level stands in its word, in bits.
pub(crate) const LEVEL_SHIFT: u32 = 32;
/// Where the flags stand in their word, in bits.
pub(crate) const FLAGS_SHIFT: u32 = 40;
/// Flag: the right sibling is not yet known to the parent (I3).
pub(crate) const FLAG_UNPOSTED: u8 = 1;
/// Flag: there is no high fence.
pub(crate) const FLAG_HIGH_INFINITE: u8 = 2;

/// Flag: there may be fillers among the slots.
pub(crate) const FLAG_GAPS: u8 = 4;

/// Slot kind: an ordinary entry.
pub(crate) const KIND_LIVE: u8 = 0;
/// Slot kind: leads to the entry of the next live slot.
pub(crate) const KIND_FILLER: u8 = 1;
/// Slot kind: an entry of a leaf whose value is a reference to overflow pages. Kinds above are
/// reserved.
pub(crate) const KIND_OVERFLOW: u8 = 2;

/// The longest key, in bytes, that a tree with pages of `page_size` bytes takes.
pub const fn max_key_len(page_size: usize) -> usize {
    page_size / 4
}

/// The most bytes that key and value of one leaf entry may have together, stored in the page.
pub const fn max_record_len(page_size: usize) -> usize {
    // A slot, and at most eight bytes of lengths.
    page_size - HEADER_LEN - 2 * max_key_len(page_size) - SLOT_LEN - 8
}

/// Whether pages may have this many bytes: a power of two from 2^9 to 2^24.
pub const fn is_page_size(page_size: usize) -> bool {
    page_size.is_power_of_two() && page_size >= MIN_PAGE_SIZE && page_size <= MAX_PAGE_SIZE
}

/// The first four bytes of a suffix as a slot has them.
#[inline]
pub(crate) fn head_of(suffix: &[u8]) -> u32 {
    match suffix.first_chunk::<4>() {
        Some(bytes) => u32::from_be_bytes(*bytes),
        None => suffix.iter().zip([24, 16, 8]).fold(0, |head, (&b, s)| head | u32::from(b) << s),
    }
}

/// The word of a live slot.
#[inline]
pub(crate) fn slot_word(head: u32, offset: usize) -> u64 {
    u64::from(head) << 32 | u64::from(KIND_LIVE) << 24 | offset as u64
}

/// The word of a filler before the slot with the word `slot`.
#[inline]
pub(crate) fn filler_word(slot: u64) -> u64 {
    slot & !(0xff << 24) | u64::from(KIND_FILLER) << 24
}

/// Where the record of a slot begins.
#[inline]
pub(crate) fn slot_offset(word: u64) -> usize {
    (word & 0xff_ffff) as usize
}

/// The head of the key of a slot.
#[inline]
pub(crate) fn slot_head(word: u64) -> u32 {
    (word >> 32) as u32
}

/// The kind of a slot.
#[inline]
pub(crate) fn slot_kind(word: u64) -> u8 {
    (word >> 24) as u8
}

/// The word of a slot with another kind.
#[inline]
pub(crate) fn with_kind(word: u64, kind: u8) -> u64 {
    word & !(0xff << 24) | u64::from(kind) << 24
}

/// Two 32-bit fields as the halves of their word.
#[inline]
pub(crate) fn halves(low: usize, high: usize) -> u64 {
    debug_assert!(low <= u32::MAX as usize && high <= u32::MAX as usize);
    low as u64 | (high as u64) << 32
}

/// The inverse of [`halves`].
#[inline]
pub(crate) fn split_halves(word: u64) -> (usize, usize) {
    (word as u32 as usize, (word >> 32) as usize)
}

/// Both lengths at the start of a record, decoded, and how many bytes they take themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lengths {
    pub(crate) suffix: usize,
    pub(crate) value: usize,
    pub(crate) header: usize,
}

impl Lengths {
    pub(crate) fn new(suffix: usize, value: usize) -> Self {
        Self { suffix, value, header: varint_len(suffix) + varint_len(value) }
    }

    /// From the first eight bytes of a record. Any bytes give lengths below 2^28.
    #[inline]
    pub(crate) fn decode(bits: u64) -> Self {
        if bits & 0x8080 == 0 {
            return Self {
                suffix: bits as usize & 0x7f,
                value: (bits >> 8) as usize & 0x7f,
                header: 2,
            };
        }
        let (suffix, first) = decode_varint(bits);
        let (value, second) = decode_varint(bits >> (first * 8));
        Self { suffix, value, header: first + second }
    }

    /// The bytes of both lengths; the first [`Lengths::header`] of them count.
    pub(crate) fn encode(self) -> [u8; 8] {
        let first = varint_len(self.suffix);
        (encode_varint(self.suffix) | encode_varint(self.value) << (first * 8)).to_le_bytes()
    }

    /// The bytes of the whole record.
    #[inline]
    pub(crate) fn record(self) -> usize {
        self.header + self.suffix + self.value
    }
}

/// How many bytes a length takes: 1 to 4.
#[inline]
pub(crate) fn varint_len(value: usize) -> usize {
    debug_assert!(value < 1 << 28);
    1 + usize::from(value >= 1 << 7) + usize::from(value >= 1 << 14) + usize::from(value >= 1 << 21)
}

fn encode_varint(mut value: usize) -> u64 {
    let (mut bits, mut shift) = (0, 0);
    while value >= 0x80 {
        bits |= (value as u64 & 0x7f | 0x80) << shift;
        value >>= 7;
        shift += 8;
    }
    bits | (value as u64) << shift
}

/// The length at the start of `bits`, and its own length; a fifth byte is never looked at.
fn decode_varint(bits: u64) -> (usize, usize) {
    let mut value = 0;
    for index in 0..4 {
        let byte = bits >> (index * 8) & 0xff;
        value |= ((byte & 0x7f) as usize) << (index * 7);
        if byte < 0x80 {
            return (value, index + 1);
        }
    }
    (value, 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limits_leave_room_for_an_entry_at_every_page_size() {
        for shift in 9..=24 {
            let size = 1usize << shift;
            assert!(is_page_size(size));
            let (key, record) = (max_key_len(size), max_record_len(size));
            let fences = HEADER_LEN + 2 * key;
            for key_len in [0, 1, 127, 128, key - 1, key] {
                let value_len = record - key_len;
                let entry = SLOT_LEN + Lengths::new(key_len, value_len).record();
                assert!(fences + entry <= size, "leaf of {size}, key of {key_len}");
            }
            let first = SLOT_LEN + Lengths::new(0, CHILD_LEN).record();
            let second = SLOT_LEN + Lengths::new(key, CHILD_LEN).record();
            assert!(fences + first + second <= size, "inner page of {size}");
            // Offsets of records have 24 bits, and the last possible one is below the page size.
            assert!(size - 2 < 1 << 24);
        }
        assert!(!is_page_size(256) && !is_page_size(1 << 25) && !is_page_size(4095));
        assert_eq!((max_key_len(512), max_record_len(512)), (128, 176));
    }

    #[test]
    fn lengths_survive_encoding_at_their_limits() {
        let edges = [0, 1, 127, 128, 16383, 16384, 2097151, 2097152, (1 << 24) - 1, (1 << 28) - 1];
        for suffix in edges {
            for value in edges {
                let lengths = Lengths::new(suffix, value);
                assert_eq!(Lengths::decode(u64::from_le_bytes(lengths.encode())), lengths);
                let noise = !0u64 << (lengths.header * 8 % 64);
                if lengths.header < 8 {
                    let bits = u64::from_le_bytes(lengths.encode()) | noise;
                    assert_eq!(Lengths::decode(bits), lengths, "bytes behind it do not count");
                }
            }
        }
        assert!(Lengths::decode(u64::MAX).header == 8);
    }

    #[test]
    fn heads_order_like_the_bytes_they_hold() {
        assert_eq!(head_of(b""), 0);
        assert_eq!(head_of(b"\0"), 0);
        assert_eq!(head_of(b"ab"), 0x6162_0000);
        assert_eq!(head_of(b"abc"), 0x6162_6300);
        assert_eq!(head_of(b"abcdef"), 0x6162_6364);
        let word = slot_word(0x6162_6364, 0x00ab_cdef);
        assert_eq!(
            (slot_head(word), slot_kind(word), slot_offset(word)),
            (0x6162_6364, 0, 0xab_cdef)
        );
        assert_eq!(split_halves(halves(1, 0xffff_ffff)), (1, 0xffff_ffff));
    }
}

//! What every page on disk begins with, and where a page lives.
//!
//! The first sixteen bytes of a page, little-endian:
//!
//! | bytes | |
//! |---|---|
//! | 0..4 | CRC-32C of the bytes 4.. of the page |
//! | 4..8 | write stamp: the page map holds the same one, so that a lost write is found |
//! | 8..16 | page id, so that a misdirected write is found |

use std::fmt;

/// Bytes at the start of each page that [`seal`] fills in.
pub const PAGE_HEADER_LEN: usize = 16;

/// The logical number of a page. It stays while the page's extent changes with every write.
/// `PageId::NONE` (0) is no page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct PageId(pub u64);

impl PageId {
    /// No page: the right link of a right-most page.
    pub const NONE: PageId = PageId(0);
}

impl fmt::Display for PageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "page {}", self.0)
    }
}

/// A run of bytes of the page file: offset and length, multiples of 512.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Extent {
    /// Where it starts, in bytes.
    pub offset: u64,
    /// How long it is, in bytes: at most 2^24.
    pub len: u32,
}

const UNIT: u64 = 512;

impl Extent {
    /// As 62 bits: offset in units of 512 bytes above 16 bits of length in the same unit.
    pub fn pack(self) -> u64 {
        debug_assert!(self.offset.is_multiple_of(UNIT) && u64::from(self.len).is_multiple_of(UNIT));
        ((self.offset / UNIT) << 16) | (u64::from(self.len) / UNIT)
    }

    /// The inverse of [`Extent::pack`].
    pub fn unpack(packed: u64) -> Self {
        Self { offset: (packed >> 16) * UNIT, len: ((packed & 0xffff) * UNIT) as u32 }
    }
}

/// Why bytes read as a page are not that page (I7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// The checksum does not fit the bytes: torn or decayed.
    Checksum,
    /// A sound page, but another one: a write or a read went to the wrong place.
    WrongPage {
        /// The page that the bytes say they are.
        found: PageId,
    },
    /// The right page, but not its latest image: a write was lost.
    WrongStamp {
        /// The stamp that the map has.
        expected: u32,
        /// The stamp in the page.
        found: u32,
    },
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Damage::Checksum => write!(f, "its checksum does not fit its bytes"),
            Damage::WrongPage { found } => write!(f, "{found} was found in its place"),
            Damage::WrongStamp { expected, found } => {
                write!(f, "an older image was found (stamp {found}, expected {expected})")
            }
        }
    }
}

/// Writes identity, stamp and checksum into the first bytes of `page`.
pub fn seal(page: &mut [u8], id: PageId, stamp: u32) {
    page[4..8].copy_from_slice(&stamp.to_le_bytes());
    page[8..16].copy_from_slice(&id.0.to_le_bytes());
    let crc = crc32c::crc32c(&page[4..]);
    page[0..4].copy_from_slice(&crc.to_le_bytes());
}

/// Checks that `page` is the image of page `id` that was written with `stamp`.
pub fn verify(page: &[u8], id: PageId, stamp: u32) -> Result<(), Damage> {
    let field =
        |at: usize| u32::from_le_bytes([page[at], page[at + 1], page[at + 2], page[at + 3]]);
    if field(0) != crc32c::crc32c(&page[4..]) {
        return Err(Damage::Checksum);
    }
    let found = PageId(u64::from(field(8)) | (u64::from(field(12)) << 32));
    if found != id {
        return Err(Damage::WrongPage { found });
    }
    if field(4) != stamp {
        return Err(Damage::WrongStamp { expected: stamp, found: field(4) });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_page_verifies_and_any_changed_byte_is_found() {
        let mut page = vec![7u8; 512];
        seal(&mut page, PageId(9), 3);
        assert_eq!(verify(&page, PageId(9), 3), Ok(()));
        assert_eq!(verify(&page, PageId(8), 3), Err(Damage::WrongPage { found: PageId(9) }));
        let stale = Damage::WrongStamp { expected: 4, found: 3 };
        assert_eq!(verify(&page, PageId(9), 4), Err(stale));
        for at in 0..page.len() {
            page[at] ^= 1;
            assert_eq!(verify(&page, PageId(9), 3), Err(Damage::Checksum), "byte {at}");
            page[at] ^= 1;
        }
    }

    #[test]
    fn extents_survive_packing_at_the_limits() {
        for (offset, len) in [(0, 512), (512, 1 << 24), (((1u64 << 46) - 1) * 512, 4096)] {
            let extent = Extent { offset, len };
            assert_eq!(Extent::unpack(extent.pack()), extent);
            assert!(extent.pack() < 1 << 62);
        }
    }
}

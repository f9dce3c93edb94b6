//! What a tree was made with, and keeps for its life: unique or not, gaps, the type of its keys.
//!
//! The catalog and the log keep it as bytes, little-endian:
//!
//! | bytes | |
//! |---|---|
//! | u8 | flags: bit 0, duplicates; the others are 0 |
//! | u8 | gap: 0 automatic, 1 none, n a filler after every n - 1 slots |
//! | u16 | length of the key type's name; 0: none was given |
//! | .. | the key type's name, UTF-8 |
//! | u32 | the key type's version; 0 without a key type |
//!
//! The type of the keys is a name and a version to this layer, nothing more: trees with different
//! ones differ in how somebody above encodes their keys.

use treering_blink::Gap as Fillers;

use crate::error::Error;

/// How the keys of a tree are encoded: a name, and a version of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KeyType {
    /// The name: not empty, and as short as the page size demands (a tree's entry in the catalog,
    /// with its name and this one, has to fit into a page).
    pub name: String,
    /// The version.
    pub version: u32,
}

impl std::fmt::Display for KeyType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} version {}", self.name, self.version)
    }
}

/// How many slots of a page are left as gaps when it is split or cleaned up, so that later inserts
/// move fewer of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Gap {
    /// What suits the page size and the size of the records.
    #[default]
    Auto,
    /// None: pages as full as they can be.
    None,
    /// One slot in so many is a gap: from 2, where every other slot is one, to 255.
    OneIn(u8),
}

impl Gap {
    /// How densely fillers are spread over leaves; `None` for what suits their size.
    pub(crate) fn of_leaves(self) -> Option<Fillers> {
        match self {
            Gap::Auto => None,
            Gap::None => Some(Fillers::NONE),
            Gap::OneIn(slots) => Some(Fillers::every(slots.max(2) - 1)),
        }
    }

    fn to_byte(self) -> u8 {
        match self {
            Gap::Auto => 0,
            Gap::None => 1,
            Gap::OneIn(slots) => slots.max(2),
        }
    }

    fn from_byte(byte: u8) -> Self {
        match byte {
            0 => Gap::Auto,
            1 => Gap::None,
            slots => Gap::OneIn(slots),
        }
    }
}

/// The options of a tree. They are stored with it when it is made. Whoever opens it later has to
/// name the same, but for the gap, which is only used when the tree is made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct TreeOptions {
    /// Whether a key may be there several times.
    pub duplicates: bool,
    /// Gaps in its pages.
    pub gap: Gap,
    /// How its keys are encoded; `None` for plain bytes.
    pub key_type: Option<KeyType>,
}

const DUPLICATES: u8 = 1;

impl TreeOptions {
    /// The defaults: keys are plain bytes, each there once at most; automatic gaps.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether a key may be there several times.
    pub fn duplicates(mut self, duplicates: bool) -> Self {
        self.duplicates = duplicates;
        self
    }

    /// Gaps in its pages. `OneIn` of less than 2 is taken as 2.
    pub fn gap(mut self, gap: Gap) -> Self {
        self.gap = gap;
        self
    }

    /// How its keys are encoded. The name must not be empty.
    pub fn key_type(mut self, name: impl Into<String>, version: u32) -> Self {
        self.key_type = Some(KeyType { name: name.into(), version });
        self
    }

    /// Why a tree that was made with these options cannot be opened with others, if so.
    pub(crate) fn mismatch(&self, asked: &Self) -> Option<String> {
        match (self.duplicates, asked.duplicates) {
            (true, false) => {
                return Some(
                    "its keys may have duplicates, and it was opened as one whose keys are unique: \
                     open it with the option `duplicates`"
                        .into(),
                );
            }
            (false, true) => {
                return Some(
                    "its keys are unique, and it was opened as one with duplicates: open it \
                     without that option"
                        .into(),
                );
            }
            _ => {}
        }
        match (&self.key_type, &asked.key_type) {
            (Some(stored), Some(asked)) if stored != asked => {
                Some(format!("its keys are of the type {stored}, and it was opened with {asked}"))
            }
            (Some(stored), None) => Some(format!(
                "its keys are of the type {stored}, and it was opened as one whose keys are plain \
                 bytes: open it with that type, or its bytes as a raw tree"
            )),
            (None, Some(asked)) => Some(format!(
                "its keys are plain bytes, and it was opened with keys of the type {asked}"
            )),
            _ => None,
        }
    }

    /// Bytes of [`TreeOptions::encode`].
    pub(crate) fn encoded_len(&self) -> usize {
        8 + self.key_type.as_ref().map_or(0, |key| key.name.len())
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let (name, version) = match &self.key_type {
            Some(key) => (key.name.as_str(), key.version),
            None => ("", 0),
        };
        out.push(if self.duplicates { DUPLICATES } else { 0 });
        out.push(self.gap.to_byte());
        // It was checked to fit into a page, beside which 2^16 only matters for the largest pages.
        out.extend_from_slice(&(name.len() as u16).to_le_bytes());
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(&version.to_le_bytes());
    }

    /// The inverse of [`TreeOptions::encode`].
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let ([flags, gap], rest) = bytes.split_first_chunk()?;
        let (len, rest) = rest.split_first_chunk()?;
        let (name, version) = rest.split_at_checked(usize::from(u16::from_le_bytes(*len)))?;
        let version = u32::from_le_bytes(version.try_into().ok()?);
        let name = str::from_utf8(name).ok()?;
        if flags & !DUPLICATES != 0 || (name.is_empty() && version != 0) {
            return None;
        }
        let key_type = (!name.is_empty()).then(|| KeyType { name: name.into(), version });
        Some(Self { duplicates: *flags != 0, gap: Gap::from_byte(*gap), key_type })
    }

    /// Whether they can be stored, in a catalog entry that has room for `room` bytes of them.
    pub(crate) fn check(&self, room: usize) -> Result<(), Error> {
        let Some(key) = &self.key_type else { return Ok(()) };
        let max = room.saturating_sub(8).min(usize::from(u16::MAX));
        match key.name.len() {
            1.. if key.name.len() <= max => Ok(()),
            len => Err(Error::KeyTypeName { len, max }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_survive_encoding_and_no_prefix_of_them_is_taken_for_any() {
        let plain = TreeOptions::new();
        let full =
            TreeOptions::new().duplicates(true).gap(Gap::OneIn(7)).key_type("(u64,str)", u32::MAX);
        for options in [plain, full, TreeOptions::new().gap(Gap::None)] {
            let mut bytes = Vec::new();
            options.encode(&mut bytes);
            assert_eq!(bytes.len(), options.encoded_len());
            assert_eq!(TreeOptions::decode(&bytes), Some(options));
            for len in 0..bytes.len() {
                assert_eq!(TreeOptions::decode(&bytes[..len]), None, "{len} bytes");
            }
            bytes[0] |= 4;
            assert_eq!(TreeOptions::decode(&bytes), None, "an unknown flag");
        }
    }

    #[test]
    fn options_that_differ_say_what_is_stored_and_what_was_asked() {
        let plain = TreeOptions::new();
        let dup = TreeOptions::new().duplicates(true);
        let typed = TreeOptions::new().key_type("u64", 1);
        assert_eq!(plain.mismatch(&TreeOptions::new().gap(Gap::None)), None);
        assert_eq!(typed.mismatch(&typed.clone()), None);
        assert!(dup.mismatch(&plain).unwrap().contains("option `duplicates`"));
        assert!(plain.mismatch(&dup).unwrap().contains("are unique"));
        let other = TreeOptions::new().key_type("u64", 2);
        let said = typed.mismatch(&other).unwrap();
        assert!(said.contains("u64 version 1") && said.contains("u64 version 2"), "{said}");
        assert!(typed.mismatch(&plain).unwrap().contains("raw tree"));
        assert!(plain.mismatch(&typed).unwrap().contains("plain bytes"));
    }
}

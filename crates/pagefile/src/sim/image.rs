//! [`SimImage`]: what is on a disk while the machine is off, open to damage by hand.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;

use super::content::{Content, Ranges};
use super::disk::SimDiskOptions;
use super::rng::{Rng, fold};

/// The files of a disk at one moment. Cloning is cheap: the bytes are shared until changed.
///
/// The methods that change a file are for planting damage, and panic if there is no such file:
/// a test that damages nothing shall not pass.
#[derive(Clone, Default)]
pub struct SimImage {
    pub(super) files: BTreeMap<String, ImageFile>,
    pub(super) options: SimDiskOptions,
}

#[derive(Clone, Default)]
pub(super) struct ImageFile {
    pub(super) content: Content,
    pub(super) len: u64,
    pub(super) allocated: Ranges,
}

impl SimImage {
    /// The names of the files, in ascending order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }

    /// The length of a file in bytes, if it is there.
    pub fn len(&self, name: &str) -> Option<u64> {
        self.files.get(name).map(|file| file.len)
    }

    /// Whether there are no files.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// All bytes of a file, if it is there.
    pub fn bytes(&self, name: &str) -> Option<Vec<u8>> {
        let file = self.files.get(name)?;
        Some(file.bytes(0..file.len))
    }

    /// The bytes of `range`, without those beyond the end of the file, if the file is there.
    pub fn read(&self, name: &str, range: Range<u64>) -> Option<Vec<u8>> {
        let file = self.files.get(name)?;
        let end = range.end.min(file.len);
        Some(file.bytes(range.start.min(end)..end))
    }

    /// Puts a file with these bytes into the image, in place of one that has the name.
    pub fn insert(&mut self, name: &str, bytes: &[u8]) {
        self.files.insert(name.to_owned(), ImageFile::default());
        self.write(name, 0, bytes);
    }

    /// Takes a file out; whether it was there.
    pub fn remove(&mut self, name: &str) -> bool {
        self.files.remove(name).is_some()
    }

    /// Replaces bytes of a file, extending it if it is too short.
    ///
    /// # Panics
    /// If there is no such file.
    pub fn write(&mut self, name: &str, offset: u64, bytes: &[u8]) {
        let file = self.file(name);
        let end = offset + bytes.len() as u64;
        file.content.write(offset, bytes);
        file.len = file.len.max(end);
        file.allocated.add(offset..end);
    }

    /// Cuts or extends a file.
    ///
    /// # Panics
    /// If there is no such file.
    pub fn set_len(&mut self, name: &str, len: u64) {
        let file = self.file(name);
        file.content.cut(len);
        file.allocated.cut(len);
        file.len = len;
    }

    /// Flips the lowest bit of one byte: decay.
    ///
    /// # Panics
    /// If there is no such byte.
    pub fn flip_bit(&mut self, name: &str, offset: u64) {
        let byte = self.existing(name, offset..offset + 1)[0];
        self.write(name, offset, &[byte ^ 1]);
    }

    /// Changes every byte of `range`, by the seed.
    ///
    /// # Panics
    /// If not all of the range is in the file.
    pub fn corrupt(&mut self, name: &str, range: Range<u64>, seed: u64) {
        let mut rng = Rng::new(seed);
        let mut bytes = self.existing(name, range.clone());
        for byte in &mut bytes {
            *byte ^= 1 + rng.below(255) as u8;
        }
        self.write(name, range.start, &bytes);
    }

    /// Puts `range` back to what it was in `older`: a lost write.
    ///
    /// # Panics
    /// If not all of the range is in both files.
    pub fn revert(&mut self, name: &str, range: Range<u64>, older: &SimImage) {
        let bytes = older.existing(name, range.clone());
        self.existing(name, range.clone());
        self.write(name, range.start, &bytes);
    }

    /// Copies the bytes of `from` to `to`: with [`SimImage::revert`], a misdirected write.
    ///
    /// # Panics
    /// If not all of the range is in the file.
    pub fn copy_within(&mut self, name: &str, from: Range<u64>, to: u64) {
        let bytes = self.existing(name, from);
        self.write(name, to, &bytes);
    }

    /// A hash of all names, lengths and bytes.
    pub fn digest(&self) -> u64 {
        let mut hash = 0;
        for (name, file) in &self.files {
            hash = fold(hash, u64::from(crc32c::crc32c(name.as_bytes())));
            hash = fold(hash, file.len);
            for (number, bytes) in file.content.chunks() {
                hash = fold(hash, number);
                hash = fold(hash, u64::from(crc32c::crc32c(bytes)));
            }
        }
        hash
    }

    fn file(&mut self, name: &str) -> &mut ImageFile {
        self.files.get_mut(name).unwrap_or_else(|| panic!("no file '{name}' in the image"))
    }

    /// The bytes of a range that has to be there.
    fn existing(&self, name: &str, range: Range<u64>) -> Vec<u8> {
        let len = range.end.saturating_sub(range.start);
        match self.read(name, range.clone()) {
            Some(bytes) if bytes.len() as u64 == len => bytes,
            Some(_) => panic!("'{name}' has no bytes {} to {}", range.start, range.end),
            None => panic!("no file '{name}' in the image"),
        }
    }
}

impl ImageFile {
    fn bytes(&self, range: Range<u64>) -> Vec<u8> {
        let mut bytes = vec![0; (range.end - range.start) as usize];
        self.content.read(range.start, &mut bytes);
        bytes
    }
}

/// Equal names, lengths and bytes; what owns space does not count.
impl PartialEq for SimImage {
    fn eq(&self, other: &Self) -> bool {
        let names: BTreeSet<&String> = self.files.keys().chain(other.files.keys()).collect();
        names.into_iter().all(|name| match (self.files.get(name), other.files.get(name)) {
            (Some(one), Some(two)) => {
                one.len == two.len && one.content.chunks().eq(two.content.chunks())
            }
            _ => false,
        })
    }
}

impl Eq for SimImage {}

impl fmt::Debug for SimImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lengths = self.files.iter().map(|(name, file)| (name, file.len));
        f.debug_map().entries(lengths).finish()
    }
}

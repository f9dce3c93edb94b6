//! Creating and opening a page file.
//!
//! Opening believes nothing that it has not verified: the newest superblock that is sound is followed
//! to its directory and segments, whose checksums must fit, and whose extents must lie within the file
//! and not overlap. If the two copies are of different generations (the power failed between them) and
//! the newer one's map does not verify, the older one is used: nothing it refers to was released yet.

use std::sync::Arc;

use futures::stream::{FuturesOrdered, StreamExt};

use crate::buf::AlignedBuf;
use crate::checkpoint::{Checkpointed, Checkpointer};
use crate::disk::{Disk, FileId, Lane, Op, sync_file, transfer};
use crate::error::{FileError, FileErrorKind, Health};
use crate::file::{MapEntry, PageFile};
use crate::ledger::{Ledger, Room};
use crate::map::{self, DirectoryRef, Layout, Segment};
use crate::space::Geometry;
use crate::superblock::{self, COPY_LEN, CheckpointInfo, Found, NAMES, OFFSETS, Superblock};

/// The page file's name on its disk.
pub(crate) const PAGES: &str = "pages";
/// Slots of a file that was just created.
const INITIAL_SLOTS: usize = 32;
/// Opening skips this many stamps: see [`crate::file`].
const STAMPS_SKIPPED: u32 = 1 << 24;
/// Segments of the map being read at once.
const READS_IN_FLIGHT: usize = 32;

/// What [`PageFile::open`] found.
#[derive(Debug)]
pub struct Opened {
    /// The page file, ready for use.
    pub file: Arc<PageFile>,
    /// What the newest checkpoint says.
    pub checkpoint: CheckpointInfo,
    /// Where each page of the checkpoint is, by rising page id.
    pub entries: Vec<MapEntry>,
    /// Why one of the superblocks could not be used, if so. The other one was, and the damaged one
    /// has been written anew.
    pub damaged_superblock: Option<FileError>,
}

/// Whether a disk holds a page file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// No file of its name.
    Missing,
    /// A file in which nothing was ever written, or of which all is gone. [`PageFile::create`] makes it
    /// one; that there was none is for the caller to know.
    Blank,
    /// A creation that ended before the first checkpoint: it holds nothing, and
    /// [`PageFile::create`] starts over.
    Interrupted,
    /// Something else: [`PageFile::open`] opens it, or says what is wrong with it.
    Present,
}

impl PageFile {
    /// What is there: for a caller that opens or creates.
    ///
    /// # Errors
    /// Kind `Io` if the disk cannot be looked at.
    pub async fn presence(disk: &Arc<dyn Disk>) -> Result<Presence, FileError> {
        if !exists(&**disk)? {
            return Ok(Presence::Missing);
        }
        let place = Place::open(disk, false)?;
        let len = place.len()?;
        let copies = superblock::read_copies(&**disk, place.file, len).await;
        let interrupted = place.is_interrupted(&copies, len);
        Ok(match copies {
            [Found::Blank, Found::Blank] if interrupted => Presence::Blank,
            _ if interrupted => Presence::Interrupted,
            _ => Presence::Present,
        })
    }

    /// Creates an empty page file. Until its first checkpoint the file says only that a creation was
    /// begun; [`PageFile::presence`] then calls it `Interrupted`, opening refuses it, and creating
    /// starts over. Dropping the future leaves no more than that behind.
    ///
    /// # Errors
    /// Kind `PageSize` if `page_size` is no power of two from 2^9 to 2^24 or less than a block of the
    /// disk, `Full` if the disk is, `Io` if there is a page file already or the disk fails.
    pub async fn create(
        disk: Arc<dyn Disk>,
        health: Arc<Health>,
        page_size: usize,
        incarnation: u64,
    ) -> Result<Arc<PageFile>, FileError> {
        health.check()?;
        check_page_size(page_size, &*disk)?;
        if Self::presence(&disk).await? == Presence::Present {
            let exists = std::io::Error::from(std::io::ErrorKind::AlreadyExists);
            return Err(FileError::io(format!("creating the file {PAGES}"), exists));
        }
        let place = Place::open(&disk, true)?;
        // Empty first: so that no pages of the interrupted creation survive behind the new mark.
        disk.set_len(place.file, 0)
            .map_err(|error| FileError::io(format!("emptying {}", place.name), error))?;
        let mark = Superblock {
            page_size,
            next_stamp: 1,
            generation: 0,
            checkpoint: CheckpointInfo::default(),
            directory: DirectoryRef::default(),
        };
        superblock::write_copy(&*disk, place.file, 0, mark.encode_birth_mark()).await?;

        let geometry = Geometry::new(page_size);
        let marked = place.len()?;
        let op = Op::Allocate { len: geometry.end_of(INITIAL_SLOTS) };
        let none = crate::buf::IoBuf::None;
        let (_, allocated) = transfer(&*disk, Lane::Background, place.file, op, 0, none).await;
        if let Err(error) = allocated {
            // Some file systems leave the file with what they had, which may be the rest of the disk.
            if !disk.has_fixed_len(place.file)
                && let Err(error) = disk.set_len(place.file, marked)
            {
                tracing::warn!(%error, file = place.name, "cannot give room back to the disk");
            }
            return Err(FileError::io(format!("allocating {}", place.name), error));
        }
        // As after growth: a reservation counts on the length.
        sync_file(&*disk, place.file)
            .await
            .map_err(|error| FileError::io(format!("syncing {}", place.name), error))?;
        let file = place.file;
        let ledger = Ledger::new(geometry, INITIAL_SLOTS);
        let idle = Checkpointer::Idle(Box::default());
        // On a device there may still be images of a database that was there before.
        let stamp = if disk.has_fixed_len(file) { incarnation as u32 } else { 1 };
        Ok(Self::assemble(disk, health, file, ledger, idle, stamp, false))
    }

    /// Opens the page file at its newest checkpoint, and writes both superblocks anew.
    /// `page_size` is what the caller expects, if anything. Dropping the future leaves what was there,
    /// with one or both superblocks renewed.
    ///
    /// # Errors
    /// Kind `NotADatabase` if there is no page file, or another kind of file, or a creation that was
    /// interrupted; `Version` if it is of another format version; `PageSize` if it has other pages
    /// than expected, or smaller ones than the disk has blocks; `Damaged`, naming the file, the offset
    /// and the piece, if neither superblock leads to a page map that verifies; `Io`.
    pub async fn open(
        disk: Arc<dyn Disk>,
        health: Arc<Health>,
        page_size: Option<usize>,
    ) -> Result<Opened, FileError> {
        Self::open_for(disk, health, page_size, false).await
    }

    /// As [`PageFile::open`], but nothing on the disk is changed, then or later: superblocks stay as
    /// they are, and the file grows in memory only.
    ///
    /// # Errors
    /// As [`PageFile::open`].
    pub async fn open_read_only(
        disk: Arc<dyn Disk>,
        health: Arc<Health>,
        page_size: Option<usize>,
    ) -> Result<Opened, FileError> {
        Self::open_for(disk, health, page_size, true).await
    }

    async fn open_for(
        disk: Arc<dyn Disk>,
        health: Arc<Health>,
        page_size: Option<usize>,
        read_only: bool,
    ) -> Result<Opened, FileError> {
        health.check()?;
        if !exists(&*disk)? {
            let message = format!("this is no treering database: there is no file {PAGES}");
            return Err(FileError::new(FileErrorKind::NotADatabase, message));
        }
        let place = Place::open(&disk, false)?;
        let len = place.len()?;
        let copies = superblock::read_copies(&*disk, place.file, len).await;
        let order = place.usable_copies(&copies, len)?;
        let newest = order[0].1;
        if let Some(expected) = page_size.filter(|expected| *expected != newest.page_size) {
            let message = format!(
                "{} has pages of {} bytes, not of {expected}: open it without naming a size",
                place.name, newest.page_size
            );
            return Err(FileError::new(FileErrorKind::PageSize, message));
        }
        check_page_size(newest.page_size, &*disk)?;

        let mut damaged = place.damaged_copy(&copies);
        let mut loaded = place.load(&newest, len).await;
        let mut chosen = order[0];
        if let (Err(error), Some(older)) = (&loaded, order.get(1))
            && older.1.generation < newest.generation
            && older.1.page_size == newest.page_size
        {
            // The newer checkpoint was cut short before its second superblock: what the older one
            // refers to is untouched.
            damaged = Some(error.clone());
            if let Ok(map) = place.load(&older.1, len).await {
                (loaded, chosen) = (Ok(map), *older);
            }
        }
        let (ledger, mut checkpointed) = loaded?;
        if let Some(error) = &damaged {
            tracing::warn!(%error, "a superblock was damaged; the other one is used");
        }

        checkpointed.generation = newest.generation + 1;
        let renewed = Superblock {
            next_stamp: newest.next_stamp.wrapping_add(STAMPS_SKIPPED),
            generation: checkpointed.generation,
            ..chosen.1
        };
        // The copy that was not followed goes first: until it is written, only the other one is good.
        for copy in [1 - chosen.0, chosen.0].into_iter().filter(|_| !read_only) {
            superblock::write_copy(&*disk, place.file, copy, renewed.encode()).await?;
        }

        let entries = checkpointed.entries();
        let id = place.file;
        let idle = Checkpointer::Idle(Box::new(checkpointed));
        let stamp = renewed.next_stamp;
        let file = Self::assemble(disk, health, id, ledger, idle, stamp, read_only);
        // A file that was cut behind its last page may be short of the floor.
        while !file.ledger().has_room_for(0, Room::Shrinking) {
            file.grow().await?;
        }
        let checkpoint = chosen.1.checkpoint;
        Ok(Opened { file, checkpoint, entries, damaged_superblock: damaged })
    }
}

fn exists(disk: &dyn Disk) -> Result<bool, FileError> {
    let names = disk.names().map_err(|error| FileError::io("listing the files", error))?;
    Ok(names.iter().any(|name| name == PAGES))
}

fn check_page_size(page_size: usize, disk: &dyn Disk) -> Result<(), FileError> {
    let block = disk.block_size();
    let wrong = if !superblock::is_page_size(page_size) {
        format!("a page cannot have {page_size} bytes: it takes a power of two, 512 to 16777216")
    } else if page_size < block {
        format!("pages of {page_size} bytes are smaller than the device's blocks of {block} bytes")
    } else {
        return Ok(());
    };
    Err(FileError::new(FileErrorKind::PageSize, wrong))
}

/// The file being opened.
struct Place<'a> {
    disk: &'a dyn Disk,
    file: FileId,
    name: String,
}

impl<'a> Place<'a> {
    fn open(disk: &'a Arc<dyn Disk>, create: bool) -> Result<Self, FileError> {
        let opened = disk.open(PAGES, create);
        let file = opened.map_err(|error| FileError::io(format!("opening {PAGES}"), error))?;
        Ok(Self { disk: &**disk, file, name: disk.describe(file) })
    }

    fn len(&self) -> Result<u64, FileError> {
        let len = self.disk.len(self.file);
        len.map_err(|error| FileError::io(format!("asking the length of {}", self.name), error))
    }

    /// A creation that left nothing but its mark, or not even that.
    fn is_interrupted(&self, copies: &[Found; 2], len: u64) -> bool {
        match copies {
            [Found::BirthMark, Found::Blank] => true,
            [Found::Blank, Found::Blank] => {
                len <= COPY_LEN as u64 || self.disk.has_fixed_len(self.file)
            }
            _ => false,
        }
    }

    fn damaged(&self, what: impl std::fmt::Display) -> FileError {
        let message = format!("{} is damaged: {what}; restore it from a backup", self.name);
        FileError::new(FileErrorKind::Damaged, message)
    }

    /// The valid copies with their numbers, newest first, at least one.
    fn usable_copies(
        &self,
        copies: &[Found; 2],
        len: u64,
    ) -> Result<Vec<(usize, Superblock)>, FileError> {
        if let Some(version) = copies.iter().find_map(|found| match found {
            Found::Version(version) => Some(version),
            _ => None,
        }) {
            let message = format!(
                "{} is of format version {version}, and this program knows version {} only",
                self.name,
                superblock::FORMAT_VERSION
            );
            return Err(FileError::new(FileErrorKind::Version, message));
        }
        let mut valid: Vec<(usize, Superblock)> = (0..copies.len())
            .filter_map(|copy| copies[copy].valid().map(|found| (copy, *found)))
            .collect();
        valid.sort_by_key(|(copy, found)| (std::cmp::Reverse(found.generation), *copy));
        if !valid.is_empty() {
            return Ok(valid);
        }
        if self.is_interrupted(copies, len) {
            let message = format!(
                "the creation of {} was interrupted before its first checkpoint, and nothing is in \
                 it: create the database again",
                self.name
            );
            return Err(FileError::new(FileErrorKind::NotADatabase, message));
        }
        let nothing = |found: &Found| matches!(found, Found::Foreign | Found::Blank);
        if copies.iter().all(nothing) && copies.iter().any(|f| matches!(f, Found::Foreign)) {
            let message = format!("{} is not a page file of a treering database", self.name);
            return Err(FileError::new(FileErrorKind::NotADatabase, message));
        }
        let why = |copy: usize| copies[copy].complaint().unwrap_or_default();
        Err(self.damaged(format_args!(
            "superblock {} at offset {}: {}; superblock {} at offset {}: {}",
            NAMES[0],
            OFFSETS[0],
            why(0),
            NAMES[1],
            OFFSETS[1],
            why(1)
        )))
    }

    /// What is wrong with the copy beside a valid one, if anything is. That the very first checkpoint
    /// was cut short between its two superblocks is not.
    fn damaged_copy(&self, copies: &[Found; 2]) -> Option<FileError> {
        let copy = copies.iter().position(|found| found.valid().is_none())?;
        let first = copies.iter().filter_map(Found::valid).any(|found| found.generation == 1);
        if first && copy == 1 && matches!(copies[copy], Found::Blank) {
            return None;
        }
        let why = copies[copy].complaint()?;
        let message = format!(
            "superblock {} at offset {} of {} is damaged: {why}; the other copy was used, and this \
             one written anew",
            NAMES[copy], OFFSETS[copy], self.name
        );
        Some(FileError::new(FileErrorKind::Damaged, message))
    }

    /// Reads and verifies the whole map that `superblock` names.
    async fn load(
        &self,
        superblock: &Superblock,
        len: u64,
    ) -> Result<(Ledger, Checkpointed), FileError> {
        let geometry = Geometry::new(superblock.page_size);
        let slots = geometry.slots_in(len);
        let layout = self.load_directory(&geometry, slots, superblock.directory).await?;
        let info = superblock.checkpoint;
        let mut checkpointed = Checkpointed { layout, info, ..Checkpointed::default() };

        let mut segments = checkpointed.layout.segments.iter();
        let mut reads = FuturesOrdered::new();
        reads.extend(
            segments.by_ref().take(READS_IN_FLIGHT).map(|s| self.load_segment(&geometry, s)),
        );
        while let Some(read) = reads.next().await {
            let (segment, bytes): (&Segment, AlignedBuf) = read?;
            let used = segment.count as usize * map::ENTRY_LEN;
            for line in map::decode_segment(&bytes[..used]) {
                checkpointed.image.apply(line).map_err(|_| {
                    let offset = geometry.extent_of(segment.run).offset;
                    self.damaged(format_args!("the map at offset {offset} names {}", line.page))
                })?;
            }
            if let Some(segment) = segments.next() {
                reads.push_back(self.load_segment(&geometry, segment));
            }
        }
        drop(reads);
        let epoch = superblock.checkpoint.epoch;
        let Checkpointed { layout, image, .. } = &checkpointed;
        let ledger = Ledger::rebuild(geometry, slots, epoch, layout, image)
            .map_err(|what| self.damaged(what))?;
        Ok((ledger, checkpointed))
    }

    async fn load_directory(
        &self,
        geometry: &Geometry,
        slots: usize,
        head: DirectoryRef,
    ) -> Result<Layout, FileError> {
        let mut layout = Layout { head, ..Layout::default() };
        let mut next = head;
        while let Some(extent) = next.extent {
            let at = extent.offset;
            let what = |why: &str| {
                self.damaged(format_args!("the page map's directory at offset {at}: {why}"))
            };
            let len = map::directory_len(next.count);
            let run = geometry.run_of(extent).filter(|run| run.end() <= slots);
            let run = run.ok_or_else(|| what("it lies outside the file"))?;
            if len > extent.len as usize || layout.directory.len() >= slots {
                return Err(what("it is too long"));
            }
            let bytes = self.read(at, len, "the page map's directory").await?;
            if crc32c::crc32c(&bytes[..len]) != next.crc {
                return Err(what("its checksum does not fit its bytes"));
            }
            layout.directory.push(run);
            next = map::decode_directory(geometry, &bytes[..len], &mut layout.segments)
                .map_err(what)?;
        }
        if let Some(segment) = layout.segments.iter().find(|segment| segment.run.end() > slots) {
            let at = geometry.extent_of(segment.run).offset;
            return Err(self.damaged(format_args!(
                "the page map at offset {at} lies beyond the end of the file"
            )));
        }
        Ok(layout)
    }

    async fn load_segment<'s>(
        &self,
        geometry: &Geometry,
        segment: &'s Segment,
    ) -> Result<(&'s Segment, AlignedBuf), FileError> {
        let offset = geometry.extent_of(segment.run).offset;
        let len = segment.count as usize * map::ENTRY_LEN;
        let name = segment.kind.name();
        let bytes = self.read(offset, len, name).await?;
        if crc32c::crc32c(&bytes[..len]) != segment.crc {
            return Err(self.damaged(format_args!(
                "{name} at offset {offset}: its checksum does not fit its bytes"
            )));
        }
        Ok((segment, bytes))
    }

    /// Reads the blocks that hold `len` bytes at `offset`.
    async fn read(&self, offset: u64, len: usize, what: &str) -> Result<AlignedBuf, FileError> {
        let len = len.max(1).next_multiple_of(self.disk.block_size().max(512));
        self.disk.read(self.file, offset, len).await.map_err(|error| {
            FileError::io(format!("reading {what} at offset {offset} of {}", self.name), error)
        })
    }
}

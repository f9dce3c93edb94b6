//! The documented bytes of the page file and of the log, written by hand: fuzzing wants to make what
//! the engine never would.
//!
//! That this is the same format as the engine's is what the targets see when nothing is damaged: then
//! everything has to be found.

/// Where the copies of the superblock are.
pub(crate) const SUPERBLOCKS: [usize; 2] = [0, 16 << 10];
/// Where slot 0 is.
pub(crate) const DATA_START: usize = 32 << 10;
/// Bytes of a page here: the smallest.
pub(crate) const PAGE: usize = 512;

/// Bytes of an entry of the page map.
pub(crate) const LINE: usize = 20;
/// Bytes of the header of a directory block, and of each entry.
pub(crate) const ENTRY: usize = 32;

/// Where a slot begins.
pub(crate) fn slot_at(slot: usize) -> usize {
    DATA_START + slot * PAGE
}

/// An extent of slots, packed.
pub(crate) fn extent(slot: u64, slots: u64) -> u64 {
    let unit = PAGE as u64 / 512;
    (DATA_START as u64 / 512).wrapping_add(slot.wrapping_mul(unit)) << 16 | slots.wrapping_mul(unit)
}

/// Offset and length of a packed extent.
pub(crate) fn unpacked(extent: u64) -> (u64, u64) {
    ((extent >> 16) * 512, (extent & 0xffff) * 512)
}

pub(crate) fn put(bytes: &mut [u8], at: usize, new: &[u8]) {
    bytes[at..at + new.len()].copy_from_slice(new);
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

/// What a superblock says; the directory's place, count and checksum are packed as they are stored.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Superblock {
    pub(crate) next_stamp: u32,
    pub(crate) generation: u64,
    pub(crate) incarnation: u64,
    pub(crate) epoch: u64,
    pub(crate) sequence: u64,
    pub(crate) segment: u64,
    pub(crate) offset: u64,
    pub(crate) directory: (u64, u32, u32),
}

impl Superblock {
    /// The sector.
    pub(crate) fn sector(&self) -> [u8; 512] {
        let mut sector = [0; 512];
        put(&mut sector, 0, b"treering-pages\r\n");
        put(&mut sector, 16, &1u32.to_le_bytes());
        put(&mut sector, 24, &(PAGE as u32).to_le_bytes());
        put(&mut sector, 28, &self.next_stamp.to_le_bytes());
        let numbers = [
            self.generation,
            self.incarnation,
            self.epoch,
            self.sequence,
            self.segment,
            self.offset,
            self.directory.0,
        ];
        for (index, number) in numbers.into_iter().enumerate() {
            put(&mut sector, 32 + index * 8, &number.to_le_bytes());
        }
        put(&mut sector, 88, &self.directory.1.to_le_bytes());
        put(&mut sector, 92, &self.directory.2.to_le_bytes());
        reseal_superblock(&mut sector);
        sector
    }
}

/// Makes the checksum of a superblock fit.
pub(crate) fn reseal_superblock(sector: &mut [u8]) {
    put(sector, 20, &[0; 4]);
    let crc = crc32c::crc32c(&sector[..512]);
    put(sector, 20, &crc.to_le_bytes());
}

/// A line of the page map.
pub(crate) fn line(page: u64, extent: u64, stamp: u32) -> [u8; LINE] {
    let mut line = [0; LINE];
    put(&mut line, 0, &page.to_le_bytes());
    put(&mut line, 8, &extent.to_le_bytes());
    put(&mut line, 16, &stamp.to_le_bytes());
    line
}

/// Makes the checksums of the page map fit, from the segments up to the superblocks: of all that lies
/// in the file.
pub(crate) fn reseal_map(file: &mut [u8]) {
    for at in SUPERBLOCKS {
        let (place, count) = (u64_at(file, at + 80), u32_at(file, at + 88));
        let mut blocks = Vec::new();
        let mut next = (place, count);
        while let Some(block) = block_range(file.len(), next.0, u64::from(next.1)) {
            if blocks.contains(&block) || blocks.len() > 16 {
                break;
            }
            let start = block.start;
            blocks.push(block);
            next = (u64_at(file, start + 16), u32_at(file, start + 24));
        }
        for (number, block) in blocks.iter().enumerate().rev() {
            for entry in (block.start + ENTRY..block.end).step_by(ENTRY) {
                let (offset, _) = unpacked(u64_at(file, entry));
                let len = u64::from(u32_at(file, entry + 8)) * LINE as u64;
                if let Some(segment) = range(file.len(), offset, len) {
                    file[segment.clone()].chunks_exact_mut(LINE).for_each(bound_id);
                    let crc = crc32c::crc32c(&file[segment]);
                    put(file, entry + 12, &crc.to_le_bytes());
                }
            }
            let crc = crc32c::crc32c(&file[block.clone()]);
            let holder = if number > 0 { blocks[number - 1].start + 28 } else { at + 92 };
            put(file, holder, &crc.to_le_bytes());
        }
        reseal_superblock(&mut file[at..at + 512]);
    }
}

/// The engine takes some 24 bytes of memory for each page id up to the greatest, which is what a map
/// that was not forged is worth. So ids are small here, or too great for any machine.
fn bound_id(line: &mut [u8]) {
    let page = u64_at(line, 0);
    if page >> 20 != 0 {
        put(line, 0, &(page | 1 << 62).to_le_bytes());
    }
}

fn block_range(file_len: usize, place: u64, count: u64) -> Option<std::ops::Range<usize>> {
    let (offset, _) = unpacked(place);
    range(file_len, offset, ENTRY as u64 * (count + 1)).filter(|_| place != 0)
}

/// A piece of the file, if it lies in it.
fn range(file_len: usize, offset: u64, len: u64) -> Option<std::ops::Range<usize>> {
    let end = offset.checked_add(len).filter(|end| *end <= file_len as u64)?;
    Some(offset as usize..end as usize)
}

/// Bytes of a block of the log.
pub(crate) const BLOCK: usize = 4096;
/// Bytes before the records of a group.
pub(crate) const GROUP_HEADER: usize = 64;

/// The identity of a segment of the log, and of the groups in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) incarnation: u64,
    pub(crate) number: u64,
    pub(crate) size: u64,
}

impl Segment {
    /// Its first block.
    pub(crate) fn first_block(&self) -> Vec<u8> {
        let mut block = vec![0; BLOCK];
        put(&mut block, 4, b"TRLS");
        put(&mut block, 8, &1u32.to_le_bytes());
        put(&mut block, 16, &self.incarnation.to_le_bytes());
        put(&mut block, 24, &self.number.to_le_bytes());
        put(&mut block, 32, &self.size.to_le_bytes());
        reseal_log(&mut block, self.incarnation);
        block
    }

    /// A group at `offset` with these records, of which the first has sequence `first`.
    pub(crate) fn group(&self, offset: u64, first: u64, records: &[Vec<u8>]) -> Vec<u8> {
        let mut group = vec![0; GROUP_HEADER];
        for record in records {
            group.extend_from_slice(&(record.len() as u32).to_le_bytes());
            group.extend_from_slice(record);
        }
        let body = (group.len() - GROUP_HEADER) as u32;
        put(&mut group, 4, b"TRLG");
        put(&mut group, 8, &self.incarnation.to_le_bytes());
        put(&mut group, 16, &self.number.to_le_bytes());
        put(&mut group, 24, &offset.to_le_bytes());
        put(&mut group, 32, &first.to_le_bytes());
        let last = first.wrapping_add(records.len() as u64).wrapping_sub(1);
        put(&mut group, 40, &last.to_le_bytes());
        put(&mut group, 48, &body.to_le_bytes());
        put(&mut group, 52, &(records.len() as u32).to_le_bytes());
        reseal_log(&mut group, self.incarnation);
        group
    }
}

/// Makes the checksum of a first block, or of a group without its padding, fit.
pub(crate) fn reseal_log(bytes: &mut [u8], incarnation: u64) {
    let crc = crc32c::crc32c(&incarnation.to_le_bytes());
    let crc = crc32c::crc32c_append(crc, &bytes[4..]);
    put(bytes, 0, &crc.to_le_bytes());
}

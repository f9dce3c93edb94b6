//! [`SimDisk`]: requests wait in a queue until the simulation completes one of them.
//!
//! `submit` only queues. [`SimDisk::step`] takes one request out and lets it have its effect, in one
//! step under the lock; then it calls the completion. Completions are called, and requests dropped, without any lock of
//! the disk held: both may submit.

use std::io;
use std::sync::Mutex;

use super::content::{Content, Ranges};
use super::faults::{FailMode, Failure, FaultPoint};
use super::file::SimFile;
use super::image::SimImage;
use super::lies::Lie;
use super::requests::{Power, State};
use super::trace::TraceEvent;
use super::{SECTOR, lock};
use crate::disk::{Disk, FileId, Lane, Request};

/// What kind of disk it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SimDiskOptions {
    /// What [`Disk::block_size`] says, in bytes: a power of two from 512 to 4096. Default 512.
    pub block_size: usize,
    /// Room on the device, in bytes over all files. Default: no limit. Beyond it, an `Allocate`,
    /// and a write to bytes that no allocation or earlier write took, end with `StorageFull`.
    pub capacity: u64,
}

impl Default for SimDiskOptions {
    fn default() -> Self {
        Self { block_size: SECTOR, capacity: u64::MAX }
    }
}

/// A disk in memory, deterministic from its seed. The module's page has its rules.
pub struct SimDisk {
    pub(super) state: Mutex<State>,
    block_size: usize,
}

impl SimDisk {
    /// An empty disk with default options.
    pub fn new(seed: u64) -> Self {
        Self::with_options(seed, SimDiskOptions::default())
    }

    /// An empty disk.
    ///
    /// # Panics
    /// If the block size is none.
    pub fn with_options(seed: u64, options: SimDiskOptions) -> Self {
        Self::build(seed, options, Vec::new())
    }

    /// The disk after power came back: everything in the image is durable. The image has the
    /// options too.
    pub fn from_image(image: &SimImage, seed: u64) -> Self {
        let files = image.files.iter().map(|(name, file)| {
            SimFile::new(name, file.content.clone(), file.len, file.allocated.clone())
        });
        Self::build(seed, image.options, files.collect())
    }

    fn build(seed: u64, options: SimDiskOptions, files: Vec<SimFile>) -> Self {
        let block_size = options.block_size;
        assert!(
            block_size.is_power_of_two() && (512..=4096).contains(&block_size),
            "a block has 512, 1024, 2048 or 4096 bytes, not {block_size}"
        );
        let state = State::new(seed, options, files);
        Self { state: Mutex::new(state), block_size }
    }

    /// Completes one of the requests in flight, chosen by the seed. False if there is none, or if
    /// the machine is dead.
    pub fn step(&self) -> bool {
        let (request, result) = {
            let mut state = lock(&self.state);
            let Some(mut pending) = state.pick() else { return false };
            if state.begin(&mut pending) {
                state.pending.push(pending);
                return true;
            }
            let result = state.perform(&mut pending);
            (pending.request, result)
        };
        let Request { done, token, buf, .. } = request;
        done.complete(token, buf, result);
        true
    }

    /// Requests submitted so far; the next one has this index.
    pub fn io_count(&self) -> u64 {
        lock(&self.state).submitted
    }

    /// Requests submitted so far that write.
    pub fn write_count(&self) -> u64 {
        lock(&self.state).writes_submitted
    }

    /// Requests completed so far, with or without an error.
    pub fn completed_count(&self) -> u64 {
        lock(&self.state).completed
    }

    /// Requests that are waiting to be completed.
    pub fn in_flight(&self) -> usize {
        lock(&self.state).pending.len()
    }

    /// Kills the machine when the request with this index is submitted: from then on nothing
    /// completes, neither it nor what is in flight beside it, and nothing changes. Take the image
    /// of your choice then, or [`SimDisk::crash`].
    pub fn stop_at(&self, index: u64) {
        let mut state = lock(&self.state);
        state.stop_at = Some(index);
        if state.submitted > index && state.power == Power::On {
            state.power = Power::Dead;
        }
    }

    /// Kills the machine when so many requests have completed: the last of them still tells whoever
    /// waits for it, and what is submitted from then on is in flight for ever. With
    /// [`SimDisk::stop_at`], these are all moments at which a crash can make a difference.
    pub fn stop_after(&self, completed: u64) {
        let mut state = lock(&self.state);
        state.stop_after = Some(completed);
        if state.completed >= completed && state.power == Power::On {
            state.power = Power::Dead;
        }
    }

    /// Kills the machine now, as [`SimDisk::stop_at`] does later.
    pub fn stop(&self) {
        let mut state = lock(&self.state);
        if state.power == Power::On {
            state.power = Power::Dead;
        }
    }

    /// Whether nothing completes any more.
    pub fn is_dead(&self) -> bool {
        self.power() != Power::On
    }

    /// Whether [`SimDisk::crash`] or [`SimDisk::power_off`] ended the disk.
    pub fn is_off(&self) -> bool {
        self.power() == Power::Off
    }

    pub(super) fn power(&self) -> Power {
        lock(&self.state).power
    }

    /// Ends the disk. Requests in flight, and those submitted later, are dropped without being
    /// completed, their completions with them. Images can still be taken: they are the same as
    /// before.
    pub fn power_off(&self) {
        let dropped = {
            let mut state = lock(&self.state);
            let late = state.changes_in_flight();
            state.late.extend(late);
            state.power = Power::Off;
            std::mem::take(&mut state.pending)
        };
        drop(dropped);
    }

    /// Lets the request with this index fail, or all from it on. A failing write may be applied in
    /// part, sector by sector, and is not durable; a failing sync leaves its data marked clean.
    pub fn fail_at(&self, index: u64, failure: impl Into<Failure>, mode: FailMode) {
        let failure = failure.into();
        self.fail_when(move |point| {
            let struck = match mode {
                FailMode::Once => point.index == index,
                FailMode::FromThenOn => point.index >= index,
            };
            struck.then_some(failure)
        });
    }

    /// Asks `rule` about every request that completes from now on. It is called with the disk's
    /// lock held and must not call the disk.
    pub fn fail_when(&self, rule: impl FnMut(&FaultPoint) -> Option<Failure> + Send + 'static) {
        lock(&self.state).faults.add(Box::new(rule));
    }

    /// Asks `rule` about every request that completes from now on and is not failing: it may have the
    /// disk lie about it. It is called with the disk's lock held and must not call the disk.
    pub fn lie_when(&self, rule: impl FnMut(&FaultPoint) -> Option<Lie> + Send + 'static) {
        lock(&self.state).conduct.add(Box::new(rule));
    }

    /// From now on one in `one_in` requests stands still until there is nothing else to do, or nearly
    /// so: a spike of latency, or the I/O of a future that is long gone. 0 for none.
    pub fn stall(&self, one_in: u64) {
        lock(&self.state).conduct.stalls = one_in;
    }

    /// From now on one in `one_in` transfers of several blocks is done in two parts, the first of them
    /// some time before the other. 0 for none.
    pub fn shorten(&self, one_in: u64) {
        lock(&self.state).conduct.shorts = one_in;
    }

    /// From now on one in `one_in` of the allocations and writes that fail for want of room (by
    /// [`SimDisk::set_capacity`]; allocations also by a failure of that kind) has taken a part of what it
    /// was asked for, from its beginning on, and the file keeps that until it is cut: so ext4 does it.
    /// 0 for none.
    pub fn take_parts(&self, one_in: u64) {
        lock(&self.state).conduct.parts = one_in;
    }

    /// Whether a request stands still.
    pub(super) fn has_stalled(&self) -> bool {
        lock(&self.state).pending.iter().any(|pending| pending.stalled)
    }

    /// Lets one request that stands still go on.
    pub(super) fn release_stalled(&self) {
        lock(&self.state).release_stalled();
    }

    /// Takes all of [`SimDisk::fail_at`], [`SimDisk::fail_when`], [`SimDisk::lie_when`],
    /// [`SimDisk::stall`], [`SimDisk::shorten`] and [`SimDisk::take_parts`] back.
    pub fn clear_faults(&self) {
        let mut state = lock(&self.state);
        state.faults.clear();
        state.conduct.clear();
    }

    /// Changes the room on the device, in bytes over all files. Space in use stays in use.
    pub fn set_capacity(&self, capacity: u64) {
        lock(&self.state).options.capacity = capacity;
    }

    /// Room in use, in bytes over all files.
    pub fn space_used(&self) -> u64 {
        lock(&self.state).space_used()
    }

    /// Keeps every completed request from now on, for [`SimDisk::trace`].
    pub fn record_trace(&self) {
        lock(&self.state).trace.record();
    }

    /// The requests completed since [`SimDisk::record_trace`], in order of completion.
    pub fn trace(&self) -> Vec<TraceEvent> {
        lock(&self.state).trace.events()
    }

    /// A hash of all requests completed so far, their order, bytes and outcome.
    pub fn trace_hash(&self) -> u64 {
        lock(&self.state).trace.hash()
    }
}

impl Disk for SimDisk {
    fn open(&self, name: &str, create: bool) -> io::Result<FileId> {
        let mut state = lock(&self.state);
        if let Some(index) = state.files.iter().position(|file| file.name == name) {
            return Ok(FileId(index as u32));
        }
        if !create {
            let message = format!("no file '{name}' on the simulated disk");
            return Err(io::Error::new(io::ErrorKind::NotFound, message));
        }
        if state.power != Power::On {
            return Err(dead());
        }
        state.files.push(SimFile::new(name, Content::default(), 0, Ranges::default()));
        Ok(FileId(state.files.len() as u32 - 1))
    }

    fn names(&self) -> io::Result<Vec<String>> {
        Ok(lock(&self.state).files.iter().map(|file| file.name.clone()).collect())
    }

    fn len(&self, file: FileId) -> io::Result<u64> {
        Ok(lock(&self.state).file(file)?.len)
    }

    fn set_len(&self, file: FileId, len: u64) -> io::Result<()> {
        let mut state = lock(&self.state);
        state.file(file)?;
        if state.power != Power::On {
            return Err(dead());
        }
        let order = state.next_order();
        state.files[file.0 as usize].set_len(order, len);
        Ok(())
    }

    fn describe(&self, file: FileId) -> String {
        match lock(&self.state).file(file) {
            Ok(file) => format!("sim:{}", file.name),
            Err(_) => format!("sim:file {}", file.0),
        }
    }

    fn block_size(&self) -> usize {
        self.block_size
    }

    fn backend(&self) -> String {
        "simulated disk".to_owned()
    }

    fn submit(&self, _lane: Lane, requests: &mut Vec<Request>) {
        let mut state = lock(&self.state);
        if state.power == Power::Off {
            drop(state);
            requests.clear();
            return;
        }
        for request in requests.drain(..) {
            state.queue(request);
        }
    }

    fn reap(&self) {}
}

fn dead() -> io::Error {
    io::Error::other("the simulated machine is dead")
}

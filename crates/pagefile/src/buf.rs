//! Memory that I/O may touch: its alignment is in the type, and it belongs to the I/O (I12).

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::any::Any;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::Arc;

/// The alignment of every buffer, in bytes: enough for O_DIRECT on any device with blocks of up to
/// 4 KiB, and for reading the buffer as `u64` words.
pub(crate) const ALIGNMENT: usize = 4096;

/// An owned, zeroed buffer aligned for O_DIRECT.
pub struct AlignedBuf {
    ptr: NonNull<u8>,
    len: usize,
}

// SAFETY: the buffer is uniquely owned memory, like a `Box<[u8]>`; nothing in it is thread-bound.
unsafe impl Send for AlignedBuf {}
// SAFETY: as above; shared references only read.
unsafe impl Sync for AlignedBuf {}

impl AlignedBuf {
    /// Allocates `len` zero bytes. `len` must not be zero.
    pub fn zeroed(len: usize) -> Self {
        assert!(len > 0, "an I/O buffer has at least one byte");
        let layout = Self::layout(len);
        // SAFETY: the layout has a non-zero size (asserted above).
        let raw = unsafe { alloc_zeroed(layout) };
        let Some(ptr) = NonNull::new(raw) else { handle_alloc_error(layout) };
        Self { ptr, len }
    }

    fn layout(len: usize) -> Layout {
        Layout::from_size_align(len, ALIGNMENT).expect("an I/O buffer is far below isize::MAX")
    }
}

impl Drop for AlignedBuf {
    fn drop(&mut self) {
        // SAFETY: `ptr` came from `alloc_zeroed` with this very layout, and is freed once.
        unsafe { dealloc(self.ptr.as_ptr(), Self::layout(self.len)) }
    }
}

impl Deref for AlignedBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `ptr` is valid for `len` initialised bytes as long as `self` lives.
        unsafe { std::slice::from_raw_parts(self.ptr.as_ptr(), self.len) }
    }
}

impl DerefMut for AlignedBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`, and `&mut self` makes the access exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.ptr.as_ptr(), self.len) }
    }
}

impl fmt::Debug for AlignedBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AlignedBuf({} bytes)", self.len)
    }
}

/// The buffer of one I/O, owned by the I/O from submission to completion.
#[derive(Debug)]
pub enum IoBuf {
    /// No bytes move: a sync or an allocation.
    None,
    /// A buffer of its own.
    Owned(AlignedBuf),
    /// Part of a larger allocation, such as a frame of the buffer pool.
    Shared(SharedBuf),
}

/// Part of an allocation that `owner` keeps alive.
pub struct SharedBuf {
    ptr: NonNull<u8>,
    len: usize,
    _owner: Arc<dyn Any + Send + Sync>,
}

// SAFETY: `IoBuf::shared`'s caller promised that nobody else touches these bytes in a way that
// conflicts with the I/O; the owner itself is Send and Sync.
unsafe impl Send for SharedBuf {}
// SAFETY: a shared reference gives out no access to the bytes but the raw pointer.
unsafe impl Sync for SharedBuf {}

impl fmt::Debug for SharedBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SharedBuf({} bytes)", self.len)
    }
}

impl IoBuf {
    /// Lends `len` bytes at `ptr` to an I/O; `owner` keeps the allocation alive until the I/O is
    /// over, whatever becomes of the future that asked for it.
    ///
    /// # Safety
    /// `ptr` must be valid for `len` bytes while `owner` lives, and from submission to completion
    /// nobody may write the bytes, nor (for a read into them) rely on what they hold: a reader that
    /// looks all the same must use atomic loads and validate afterwards.
    pub unsafe fn shared(ptr: NonNull<u8>, len: usize, owner: Arc<dyn Any + Send + Sync>) -> Self {
        IoBuf::Shared(SharedBuf { ptr, len, _owner: owner })
    }

    /// Bytes in the buffer.
    pub fn len(&self) -> usize {
        match self {
            IoBuf::None => 0,
            IoBuf::Owned(buf) => buf.len,
            IoBuf::Shared(buf) => buf.len,
        }
    }

    /// Whether the buffer has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where the bytes start. A back end reads or writes through this pointer between submission
    /// and completion only. Dangling for [`IoBuf::None`].
    pub fn as_ptr(&self) -> *mut u8 {
        match self {
            IoBuf::None => NonNull::dangling().as_ptr(),
            IoBuf::Owned(buf) => buf.ptr.as_ptr(),
            IoBuf::Shared(buf) => buf.ptr.as_ptr(),
        }
    }

    /// The owned buffer back; `None` for the other kinds.
    pub fn into_owned(self) -> Option<AlignedBuf> {
        match self {
            IoBuf::Owned(buf) => Some(buf),
            IoBuf::None | IoBuf::Shared(_) => None,
        }
    }
}

//! Plain structs as values, through bytemuck: their bytes as they are in memory.
//!
//! That means the byte order of the machine, which is little-endian wherever the engine runs.

use std::ops::Deref;

use super::error::{DecodeError, EncodeError};
use super::value::{Value, View};

/// A plain struct as a value. Operations take a reference to the inner one.
/// [`crate::TypedTree::get_with`] shows it where it is, without a copy, if it happens to be aligned
/// there, and a copy otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pod<T>(pub T);

impl<T> Deref for Pod<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: bytemuck::NoUninit + bytemuck::AnyBitPattern + Send + Sync> Value for Pod<T> {
    type Borrowed<'v> = &'v T;

    fn as_borrowed(&self) -> &T {
        &self.0
    }

    fn encode(value: &T, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        out.extend_from_slice(bytemuck::bytes_of(value));
        Ok(())
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let value = bytemuck::try_pod_read_unaligned(bytes);
        value.map(Self).map_err(|_| wrong_length::<T>(bytes.len()))
    }
}

impl<T: bytemuck::NoUninit + bytemuck::AnyBitPattern + Send + Sync> View for Pod<T> {
    type Viewed = T;

    fn view<R>(bytes: &[u8], look: impl FnOnce(&T) -> R) -> Result<R, DecodeError> {
        match bytemuck::try_from_bytes(bytes) {
            Ok(value) => Ok(look(value)),
            Err(bytemuck::PodCastError::TargetAlignmentGreaterAndInputNotAligned) => {
                Ok(look(&Self::decode(bytes)?.0))
            }
            Err(_) => Err(wrong_length::<T>(bytes.len())),
        }
    }
}

fn wrong_length<T>(len: usize) -> DecodeError {
    DecodeError::new(format!("there are {len} bytes, and it takes {}", size_of::<T>()))
}

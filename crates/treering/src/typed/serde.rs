//! Values through serde, in the format of `postcard`: compact, and documented byte for byte.
//!
//! It does not describe itself. Of a struct, fields may not be taken away, added or moved once there
//! are values; of an enum, variants may be added at its end.

use std::ops::Deref;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::{DecodeError, EncodeError};
use super::value::Value;

/// Anything that serde can write and read as a value. Operations take a reference to the inner one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Serde<T>(pub T);

impl<T> Deref for Serde<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: Serialize + DeserializeOwned + Send + Sync + 'static> Value for Serde<T> {
    type Borrowed<'v> = &'v T;

    fn as_borrowed(&self) -> &T {
        &self.0
    }

    fn encode(value: &T, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let bytes = postcard::to_allocvec(value);
        out.extend(bytes.map_err(|error| EncodeError::new(error.to_string()))?);
        Ok(())
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        match postcard::take_from_bytes(bytes) {
            Ok((value, [])) => Ok(Self(value)),
            Ok((_, rest)) => Err(DecodeError::too_long(rest.len())),
            Err(error) => Err(DecodeError::new(error.to_string())),
        }
    }
}

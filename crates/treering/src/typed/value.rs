//! Values: types that become bytes, in any order.

use super::composite::is_some;
use super::error::{DecodeError, EncodeError};
use super::strings::text;

/// A type of values. Numbers are little-endian, strings and bytes are as they are, an option has a
/// byte 0 or 1 in front.
///
/// The encoding has to be the inverse of the decoding, and decoding has to come to an end without a
/// panic on any bytes. The type is not stored with the tree: who changes an encoding has to be able
/// to read what is there.
pub trait Value: Sized + Send + Sync + 'static {
    /// What operations take instead of a reference to a value: `&str` for `String`, the number
    /// itself for numbers.
    type Borrowed<'v>;

    /// As [`Value::encode`] takes it.
    fn as_borrowed(&self) -> Self::Borrowed<'_>;

    /// Appends the encoding.
    ///
    /// # Errors
    /// The value has none.
    fn encode(value: Self::Borrowed<'_>, out: &mut Vec<u8>) -> Result<(), EncodeError>;

    /// The inverse of [`Value::encode`].
    ///
    /// # Errors
    /// The bytes are no encoding.
    fn decode(bytes: &[u8]) -> Result<Self, DecodeError>;
}

/// Values that can be looked at where they are, without a copy of one's own
/// ([`crate::TypedTree::get_with`]).
pub trait View: Value {
    /// What is looked at.
    type Viewed: ?Sized;

    /// Shows what the bytes are to `look`.
    ///
    /// # Errors
    /// The bytes are no encoding.
    fn view<R>(bytes: &[u8], look: impl FnOnce(&Self::Viewed) -> R) -> Result<R, DecodeError>;
}

/// A value as it is stored.
pub(crate) fn stored<V: Value>(value: V::Borrowed<'_>) -> Result<Vec<u8>, EncodeError> {
    let mut bytes = Vec::new();
    V::encode(value, &mut bytes)?;
    Ok(bytes)
}

fn exactly<const N: usize>(bytes: &[u8]) -> Result<[u8; N], DecodeError> {
    bytes
        .try_into()
        .map_err(|_| DecodeError::new(format!("there are {} bytes, and it takes {N}", bytes.len())))
}

macro_rules! numbers {
    ($($type:ident)*) => {$(
        impl Value for $type {
            type Borrowed<'v> = Self;

            fn as_borrowed(&self) -> Self {
                *self
            }

            fn encode(value: Self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
                out.extend_from_slice(&value.to_le_bytes());
                Ok(())
            }

            fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
                Ok(Self::from_le_bytes(exactly(bytes)?))
            }
        }
    )*};
}

numbers! { u8 u16 u32 u64 u128 i8 i16 i32 i64 i128 f32 f64 }

/// No bytes: for trees that are sets.
impl Value for () {
    type Borrowed<'v> = ();

    fn as_borrowed(&self) {}

    fn encode((): (), _out: &mut Vec<u8>) -> Result<(), EncodeError> {
        Ok(())
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        exactly(bytes).map(|[]: [u8; 0]| ())
    }
}

impl Value for bool {
    type Borrowed<'v> = bool;

    fn as_borrowed(&self) -> bool {
        *self
    }

    fn encode(value: bool, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        out.push(u8::from(value));
        Ok(())
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        match exactly(bytes)? {
            [0] => Ok(false),
            [1] => Ok(true),
            [other] => Err(DecodeError::new(format!("a bool is 0 or 1, not {other}"))),
        }
    }
}

impl<const N: usize> Value for [u8; N] {
    type Borrowed<'v> = [u8; N];

    fn as_borrowed(&self) -> [u8; N] {
        *self
    }

    fn encode(value: [u8; N], out: &mut Vec<u8>) -> Result<(), EncodeError> {
        out.extend_from_slice(&value);
        Ok(())
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        exactly(bytes)
    }
}

impl Value for Vec<u8> {
    type Borrowed<'v> = &'v [u8];

    fn as_borrowed(&self) -> &[u8] {
        self
    }

    fn encode(value: &[u8], out: &mut Vec<u8>) -> Result<(), EncodeError> {
        out.extend_from_slice(value);
        Ok(())
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        Ok(bytes.to_vec())
    }
}

impl View for Vec<u8> {
    type Viewed = [u8];

    fn view<R>(bytes: &[u8], look: impl FnOnce(&[u8]) -> R) -> Result<R, DecodeError> {
        Ok(look(bytes))
    }
}

impl Value for String {
    type Borrowed<'v> = &'v str;

    fn as_borrowed(&self) -> &str {
        self
    }

    fn encode(value: &str, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        out.extend_from_slice(value.as_bytes());
        Ok(())
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        text(bytes.to_vec())
    }
}

impl View for String {
    type Viewed = str;

    fn view<R>(bytes: &[u8], look: impl FnOnce(&str) -> R) -> Result<R, DecodeError> {
        let text = str::from_utf8(bytes);
        Ok(look(text.map_err(|error| DecodeError::new(format!("no UTF-8: {error}")))?))
    }
}

impl<V: Value> Value for Option<V> {
    type Borrowed<'v> = Option<V::Borrowed<'v>>;

    fn as_borrowed(&self) -> Self::Borrowed<'_> {
        self.as_ref().map(V::as_borrowed)
    }

    fn encode(value: Self::Borrowed<'_>, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        out.push(u8::from(value.is_some()));
        value.map_or(Ok(()), |value| V::encode(value, out))
    }

    fn decode(mut bytes: &[u8]) -> Result<Self, DecodeError> {
        match (is_some(&mut bytes)?, bytes.len()) {
            (true, _) => Ok(Some(V::decode(bytes)?)),
            (false, 0) => Ok(None),
            (false, extra) => Err(DecodeError::too_long(extra)),
        }
    }
}

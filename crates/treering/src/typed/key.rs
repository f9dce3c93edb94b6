//! Keys: types whose encoding orders as they do.

use super::error::DecodeError;

/// A type of keys.
///
/// # What an implementation has to keep
/// * **Order**: `a < b` exactly when the encoding of `a` is bytewise less than that of `b`. Values
///   that are equal have one encoding, and different ones have different ones.
/// * **No encoding is the start of another one**, or none could stand in front of another in a
///   tuple. Integers and other things of one length keep this by themselves; strings need an end.
/// * **Decoding is total**: on any bytes it returns without a panic.
///
/// [`Key::encode_whole`] and [`Key::decode_whole`] are for a key that stands alone, or last. It ends
/// where its bytes end, so that a string needs no end mark there. The first rule holds for them,
/// too, the second does not. The default is the same as for a part.
///
/// The easiest way to an order of one's own is a newtype that turns itself into something that has
/// that order, and lets that encode itself: the example `own_order` does so for strings regardless
/// of case. If the encoding changes, so must [`Key::VERSION`].
pub trait Key: Sized + Send + Sync + 'static {
    /// What operations take instead of a reference to a key: `&str` for `String`, the number itself
    /// for numbers, tuples of those for tuples.
    type Borrowed<'k>: Clone;

    /// The version of the encoding.
    const VERSION: u32 = 1;

    /// The name that is stored with the tree. It has to fit into the catalog beside the tree's name:
    /// short is good.
    fn type_name() -> String;

    /// As [`Key::encode`] takes it.
    fn as_borrowed(&self) -> Self::Borrowed<'_>;

    /// Appends the encoding.
    fn encode(key: Self::Borrowed<'_>, out: &mut Vec<u8>);

    /// Takes an encoding off the front of `bytes`.
    ///
    /// # Errors
    /// The bytes do not begin with one.
    fn decode(bytes: &mut &[u8]) -> Result<Self, DecodeError>;

    /// Appends the encoding of a key behind which nothing follows.
    fn encode_whole(key: Self::Borrowed<'_>, out: &mut Vec<u8>) {
        Self::encode(key, out);
    }

    /// The inverse of [`Key::encode_whole`].
    ///
    /// # Errors
    /// The bytes are no such encoding.
    fn decode_whole(mut bytes: &[u8]) -> Result<Self, DecodeError> {
        let key = Self::decode(&mut bytes)?;
        match bytes.len() {
            0 => Ok(key),
            extra => Err(DecodeError::too_long(extra)),
        }
    }
}

/// A key as it is stored.
pub(crate) fn stored<K: Key>(key: K::Borrowed<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    K::encode_whole(key, &mut bytes);
    bytes
}

/// The name of a type inside another's: its version is part of it, unless it is the first.
pub(crate) fn part_name<K: Key>() -> String {
    match K::VERSION {
        1 => K::type_name(),
        version => format!("{}@{version}", K::type_name()),
    }
}

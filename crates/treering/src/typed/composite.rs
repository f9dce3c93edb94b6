//! Keys made of keys: options, arrays, tuples, and any of them in reverse.
//!
//! Parts stand one behind the other. As no part's encoding is the start of another one of its type,
//! the first part that differs decides.

use std::cmp::Reverse;

use super::error::{DecodeError, take_array};
use super::key::{Key, part_name};

/// `None` comes first.
impl<K: Key> Key for Option<K> {
    type Borrowed<'k> = Option<K::Borrowed<'k>>;

    fn type_name() -> String {
        format!("option({})", part_name::<K>())
    }

    fn as_borrowed(&self) -> Self::Borrowed<'_> {
        self.as_ref().map(K::as_borrowed)
    }

    fn encode(key: Self::Borrowed<'_>, out: &mut Vec<u8>) {
        out.push(u8::from(key.is_some()));
        if let Some(key) = key {
            K::encode(key, out);
        }
    }

    fn decode(bytes: &mut &[u8]) -> Result<Self, DecodeError> {
        is_some(bytes)?.then(|| K::decode(bytes)).transpose()
    }

    fn encode_whole(key: Self::Borrowed<'_>, out: &mut Vec<u8>) {
        out.push(u8::from(key.is_some()));
        if let Some(key) = key {
            K::encode_whole(key, out);
        }
    }

    fn decode_whole(mut bytes: &[u8]) -> Result<Self, DecodeError> {
        match (is_some(&mut bytes)?, bytes.len()) {
            (true, _) => Ok(Some(K::decode_whole(bytes)?)),
            (false, 0) => Ok(None),
            (false, extra) => Err(DecodeError::too_long(extra)),
        }
    }
}

/// The byte in front of an option.
pub(crate) fn is_some(bytes: &mut &[u8]) -> Result<bool, DecodeError> {
    match take_array(bytes)? {
        [0] => Ok(false),
        [1] => Ok(true),
        [other] => Err(DecodeError::new(format!("an option begins with 0 or 1, not {other}"))),
    }
}

/// Element by element: of bytes, just these bytes.
impl<K: Key, const N: usize> Key for [K; N] {
    type Borrowed<'k> = [K::Borrowed<'k>; N];

    fn type_name() -> String {
        format!("[{};{N}]", part_name::<K>())
    }

    fn as_borrowed(&self) -> Self::Borrowed<'_> {
        self.each_ref().map(K::as_borrowed)
    }

    fn encode(key: Self::Borrowed<'_>, out: &mut Vec<u8>) {
        key.into_iter().for_each(|part| K::encode(part, out));
    }

    fn decode(bytes: &mut &[u8]) -> Result<Self, DecodeError> {
        let mut parts = [const { None }; N];
        for part in &mut parts {
            *part = Some(K::decode(bytes)?);
        }
        Ok(parts.map(|part| part.expect("each was just decoded")))
    }
}

/// The other way round: the greatest key first. The encoding is the complement of the key's.
impl<K: Key> Key for Reverse<K> {
    type Borrowed<'k> = Reverse<K::Borrowed<'k>>;

    fn type_name() -> String {
        format!("reverse({})", part_name::<K>())
    }

    fn as_borrowed(&self) -> Self::Borrowed<'_> {
        Reverse(self.0.as_borrowed())
    }

    fn encode(key: Self::Borrowed<'_>, out: &mut Vec<u8>) {
        let start = out.len();
        K::encode(key.0, out);
        out[start..].iter_mut().for_each(|byte| *byte = !*byte);
    }

    fn decode(bytes: &mut &[u8]) -> Result<Self, DecodeError> {
        let turned: Vec<u8> = bytes.iter().map(|byte| !byte).collect();
        let mut rest = turned.as_slice();
        let key = K::decode(&mut rest)?;
        *bytes = &bytes[turned.len() - rest.len()..];
        Ok(Reverse(key))
    }
}

macro_rules! tuples {
    ($($($part:ident $key:ident)* - $last:ident $last_key:ident,)*) => {$(
        /// Part by part. The last is stored as if it stood alone.
        impl<$($part: Key,)* $last: Key> Key for ($($part,)* $last,) {
            type Borrowed<'k> = ($($part::Borrowed<'k>,)* $last::Borrowed<'k>,);

            fn type_name() -> String {
                let names = [$(part_name::<$part>(),)* part_name::<$last>()];
                format!("({})", names.join(","))
            }

            fn as_borrowed(&self) -> Self::Borrowed<'_> {
                let ($($key,)* $last_key,) = self;
                ($($key.as_borrowed(),)* $last_key.as_borrowed(),)
            }

            fn encode(key: Self::Borrowed<'_>, out: &mut Vec<u8>) {
                let ($($key,)* $last_key,) = key;
                $($part::encode($key, out);)*
                $last::encode($last_key, out);
            }

            fn decode(bytes: &mut &[u8]) -> Result<Self, DecodeError> {
                Ok(($($part::decode(bytes)?,)* $last::decode(bytes)?,))
            }

            fn encode_whole(key: Self::Borrowed<'_>, out: &mut Vec<u8>) {
                let ($($key,)* $last_key,) = key;
                $($part::encode($key, out);)*
                $last::encode_whole($last_key, out);
            }

            #[allow(unused_mut, reason = "a tuple of one has no part in front of the last")]
            fn decode_whole(mut bytes: &[u8]) -> Result<Self, DecodeError> {
                Ok(($($part::decode(&mut bytes)?,)* $last::decode_whole(bytes)?,))
            }
        }
    )*};
}

tuples! {
    - A a,
    A a - B b,
    A a B b - C c,
    A a B b C c - D d,
    A a B b C c D d - E e,
    A a B b C c D d E e - F f,
    A a B b C c D d E e F f - G g,
    A a B b C c D d E e F f G g - H h,
}

//! What encoding and decoding can come to.

use std::borrow::Cow;

macro_rules! message_type {
    ($name:ident, $doc:literal) => {
        #[doc = $doc]
        #[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
        #[error("{0}")]
        pub struct $name(Cow<'static, str>);

        impl $name {
            /// With what is wrong, as part of a sentence.
            pub fn new(what: impl Into<Cow<'static, str>>) -> Self {
                Self(what.into())
            }
        }
    };
}

message_type!(DecodeError, "Bytes that are not the encoding of any value of a type.");
message_type!(EncodeError, "A value that cannot be encoded.");

impl DecodeError {
    pub(crate) fn too_short() -> Self {
        Self::new("the bytes end too soon")
    }

    pub(crate) fn too_long(extra: usize) -> Self {
        Self::new(format!("there are {extra} bytes too many"))
    }
}

/// Takes so many bytes off the front.
pub(crate) fn take<'b>(bytes: &mut &'b [u8], len: usize) -> Result<&'b [u8], DecodeError> {
    let (taken, rest) = bytes.split_at_checked(len).ok_or_else(DecodeError::too_short)?;
    *bytes = rest;
    Ok(taken)
}

/// Takes an array off the front.
pub(crate) fn take_array<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], DecodeError> {
    let (taken, rest) = bytes.split_first_chunk().ok_or_else(DecodeError::too_short)?;
    *bytes = rest;
    Ok(*taken)
}

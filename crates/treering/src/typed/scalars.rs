//! Keys of one length: numbers, `bool`, `char`, points in time.
//!
//! Big-endian, so that the first byte that differs decides; signs are turned round so that negative
//! numbers come first.

use std::time::{Duration, SystemTime};

use super::error::{DecodeError, take_array};
use super::key::Key;

macro_rules! copied {
    () => {
        type Borrowed<'k> = Self;

        fn as_borrowed(&self) -> Self {
            *self
        }
    };
}

macro_rules! integers {
    ($($type:ident ^ $flip:expr,)*) => {$(
        impl Key for $type {
            copied!();

            fn type_name() -> String {
                stringify!($type).into()
            }

            fn encode(key: Self, out: &mut Vec<u8>) {
                out.extend_from_slice(&(key ^ $flip).to_be_bytes());
            }

            fn decode(bytes: &mut &[u8]) -> Result<Self, DecodeError> {
                Ok(Self::from_be_bytes(take_array(bytes)?) ^ $flip)
            }
        }
    )*};
}

integers! {
    u8 ^ 0, u16 ^ 0, u32 ^ 0, u64 ^ 0, u128 ^ 0,
    i8 ^ i8::MIN, i16 ^ i16::MIN, i32 ^ i32::MIN, i64 ^ i64::MIN, i128 ^ i128::MIN,
}

macro_rules! floats {
    ($($type:ident as $bits:ident,)*) => {$(
        /// In the order of `total_cmp`: negative NaNs, negative numbers, -0.0, 0.0, positive numbers,
        /// NaNs. All of them are different keys.
        impl Key for $type {
            copied!();

            fn type_name() -> String {
                stringify!($type).into()
            }

            fn encode(key: Self, out: &mut Vec<u8>) {
                const SIGN: $bits = 1 << ($bits::BITS - 1);
                let bits = key.to_bits();
                // Negative numbers grow with their bits downwards.
                let ordered = if bits & SIGN == 0 { bits ^ SIGN } else { !bits };
                out.extend_from_slice(&ordered.to_be_bytes());
            }

            fn decode(bytes: &mut &[u8]) -> Result<Self, DecodeError> {
                const SIGN: $bits = 1 << ($bits::BITS - 1);
                let ordered = $bits::from_be_bytes(take_array(bytes)?);
                let bits = if ordered & SIGN != 0 { ordered ^ SIGN } else { !ordered };
                Ok(Self::from_bits(bits))
            }
        }
    )*};
}

floats! { f32 as u32, f64 as u64, }

impl Key for bool {
    copied!();

    fn type_name() -> String {
        "bool".into()
    }

    fn encode(key: Self, out: &mut Vec<u8>) {
        out.push(u8::from(key));
    }

    fn decode(bytes: &mut &[u8]) -> Result<Self, DecodeError> {
        match take_array(bytes)? {
            [0] => Ok(false),
            [1] => Ok(true),
            [other] => Err(DecodeError::new(format!("a bool is 0 or 1, not {other}"))),
        }
    }
}

impl Key for char {
    copied!();

    fn type_name() -> String {
        "char".into()
    }

    fn encode(key: Self, out: &mut Vec<u8>) {
        u32::encode(u32::from(key), out);
    }

    fn decode(bytes: &mut &[u8]) -> Result<Self, DecodeError> {
        let number = u32::decode(bytes)?;
        char::from_u32(number)
            .ok_or_else(|| DecodeError::new(format!("{number:#x} is no character")))
    }
}

const NANOS_PER_SECOND: u32 = 1_000_000_000;

/// To the nanosecond, before the Unix epoch as well as after it.
impl Key for SystemTime {
    copied!();

    fn type_name() -> String {
        "time".into()
    }

    fn encode(key: Self, out: &mut Vec<u8>) {
        let (seconds, nanos) = match key.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(after) => (i128::from(after.as_secs()), after.subsec_nanos()),
            Err(error) => {
                let before = error.duration();
                match before.subsec_nanos() {
                    0 => (-i128::from(before.as_secs()), 0),
                    // Nanoseconds always count forward from the second before.
                    nanos => (-i128::from(before.as_secs()) - 1, NANOS_PER_SECOND - nanos),
                }
            }
        };
        // The system counts seconds in 64 bits, with a sign.
        i64::encode(seconds.clamp(i64::MIN.into(), i64::MAX.into()) as i64, out);
        u32::encode(nanos, out);
    }

    fn decode(bytes: &mut &[u8]) -> Result<Self, DecodeError> {
        let (seconds, nanos) = (i64::decode(bytes)?, u32::decode(bytes)?);
        let whole = Duration::from_secs(seconds.unsigned_abs());
        let time = match seconds {
            ..0 => SystemTime::UNIX_EPOCH.checked_sub(whole),
            _ => SystemTime::UNIX_EPOCH.checked_add(whole),
        };
        time.filter(|_| nanos < NANOS_PER_SECOND)
            .and_then(|time| time.checked_add(Duration::from_nanos(nanos.into())))
            .ok_or_else(|| DecodeError::new("this is no point in time that the system knows"))
    }
}

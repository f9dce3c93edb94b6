//! Keys without a fixed length: strings and byte strings.
//!
//! Alone, or at the end of a tuple, they are stored as they are. In front of something else they need
//! an end that sorts before everything that could follow instead: the bytes 00 00, while a 00 of
//! their own becomes 00 FF. So `("a", ..)` comes before `("a\0", ..)`, whatever the dots are. (The
//! idea is that of FoundationDB's tuples, whose end is a single 00 because type codes follow there.)

use super::error::{DecodeError, take};
use super::key::Key;

const END: [u8; 2] = [0, 0];
const ESCAPED: [u8; 2] = [0, 0xff];

fn encode_escaped(mut bytes: &[u8], out: &mut Vec<u8>) {
    while let Some(zero) = bytes.iter().position(|&byte| byte == 0) {
        out.extend_from_slice(&bytes[..zero]);
        out.extend_from_slice(&ESCAPED);
        bytes = &bytes[zero + 1..];
    }
    out.extend_from_slice(bytes);
    out.extend_from_slice(&END);
}

fn decode_escaped(bytes: &mut &[u8]) -> Result<Vec<u8>, DecodeError> {
    let mut decoded = Vec::new();
    loop {
        let zero = bytes.iter().position(|&byte| byte == 0).ok_or_else(DecodeError::too_short)?;
        decoded.extend_from_slice(take(bytes, zero)?);
        match take(bytes, 2)? {
            mark if mark == END => return Ok(decoded),
            mark if mark == ESCAPED => decoded.push(0),
            mark => {
                let what =
                    format!("behind a byte 0 comes {:#04x}, and neither 0 nor 0xff", mark[1]);
                return Err(DecodeError::new(what));
            }
        }
    }
}

impl Key for Vec<u8> {
    type Borrowed<'k> = &'k [u8];

    fn type_name() -> String {
        "bytes".into()
    }

    fn as_borrowed(&self) -> &[u8] {
        self
    }

    fn encode(key: &[u8], out: &mut Vec<u8>) {
        encode_escaped(key, out);
    }

    fn decode(bytes: &mut &[u8]) -> Result<Self, DecodeError> {
        decode_escaped(bytes)
    }

    fn encode_whole(key: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(key);
    }

    fn decode_whole(bytes: &[u8]) -> Result<Self, DecodeError> {
        Ok(bytes.to_vec())
    }
}

/// In the order of its bytes, which is that of its characters.
impl Key for String {
    type Borrowed<'k> = &'k str;

    fn type_name() -> String {
        "str".into()
    }

    fn as_borrowed(&self) -> &str {
        self
    }

    fn encode(key: &str, out: &mut Vec<u8>) {
        encode_escaped(key.as_bytes(), out);
    }

    fn decode(bytes: &mut &[u8]) -> Result<Self, DecodeError> {
        text(decode_escaped(bytes)?)
    }

    fn encode_whole(key: &str, out: &mut Vec<u8>) {
        out.extend_from_slice(key.as_bytes());
    }

    fn decode_whole(bytes: &[u8]) -> Result<Self, DecodeError> {
        text(bytes.to_vec())
    }
}

pub(crate) fn text(bytes: Vec<u8>) -> Result<String, DecodeError> {
    String::from_utf8(bytes).map_err(|error| DecodeError::new(format!("no UTF-8: {error}")))
}

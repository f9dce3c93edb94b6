//! Fuzz data as a stream of small decisions.
//!
//! When the data ends, everything is zero: any prefix of an input is an input, and a target stops
//! when it has made what the data asks for.

/// What is left of the data.
pub(crate) struct Input<'d> {
    rest: &'d [u8],
}

impl<'d> Input<'d> {
    pub(crate) fn new(data: &'d [u8]) -> Self {
        Self { rest: data }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }
    /// Everything that is left.
    pub(crate) fn rest(&mut self) -> &'d [u8] {
        std::mem::take(&mut self.rest)
    }

    /// So many bytes, or what is left.
    pub(crate) fn bytes(&mut self, len: usize) -> &'d [u8] {
        let (taken, rest) = self.rest.split_at(len.min(self.rest.len()));
        self.rest = rest;
        taken
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut array = [0; N];
        let taken = self.bytes(N);
        array[..taken.len()].copy_from_slice(taken);
        array
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.array::<1>()[0]
    }

    pub(crate) fn flag(&mut self) -> bool {
        self.byte() & 1 != 0
    }

    pub(crate) fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }

    pub(crate) fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }

    pub(crate) fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }

    /// A number below `bound`, which is at most 2^16 and not 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        let number = if bound <= 256 { usize::from(self.byte()) } else { self.u16().into() };
        number % bound
    }

    /// A number of the kinds that break things: small, near a limit, near `about`, any.
    pub(crate) fn number(&mut self, about: u64) -> u64 {
        match self.byte() % 8 {
            0 => u64::from(self.byte()),
            1 => u64::MAX - u64::from(self.byte()),
            2 => u64::from(u32::MAX).wrapping_add_signed(i64::from(self.byte() as i8)),
            3 => 1 << (self.byte() % 64),
            4 => self.u64(),
            5 => u64::from(self.u32()),
            _ => about.wrapping_add_signed(i64::from(self.byte() as i8)),
        }
    }
}

/// One piece of damage is shorter than this.
const PIECE: usize = 1024;

/// Damages `bytes` in as many places as the input says, `most` at most: bits, bytes, numbers, pieces of
/// it copied or blanked. Returns where something changed.
pub(crate) fn damage(
    input: &mut Input<'_>,
    bytes: &mut [u8],
    most: usize,
) -> Vec<std::ops::Range<usize>> {
    let mut places = Vec::new();
    for _ in 0..input.below(most + 1) {
        if bytes.is_empty() {
            break;
        }
        let at = usize::from(input.u16()) % bytes.len();
        let before = bytes[at..bytes.len().min(at + PIECE)].to_vec();
        let len = match input.byte() % 8 {
            0 => {
                bytes[at] ^= 1 << (input.byte() % 8);
                1
            }
            1 => {
                bytes[at] = input.byte();
                1
            }
            2 => overwrite(bytes, at, &(input.number(0) as u16).to_le_bytes()),
            3 => {
                let about = u64::from_le_bytes(around(bytes, at)) & u64::from(u32::MAX);
                overwrite(bytes, at, &(input.number(about) as u32).to_le_bytes())
            }
            4 => {
                let about = u64::from_le_bytes(around(bytes, at));
                overwrite(bytes, at, &input.number(about).to_le_bytes())
            }
            5 => {
                let from = usize::from(input.u16()) % bytes.len();
                let len = input.below(PIECE).min(bytes.len() - from);
                let piece = bytes[from..from + len].to_vec();
                overwrite(bytes, at, &piece)
            }
            6 => {
                let len = input.below(PIECE).min(bytes.len() - at);
                bytes[at..at + len].fill(0);
                len
            }
            _ => {
                let len = input.below(64);
                overwrite(bytes, at, input.bytes(len))
            }
        };
        if bytes[at..at + len] != before[..len] {
            places.push(at..at + len);
        }
    }
    places
}

/// Writes as much of `new` as there is room for; how much that was.
fn overwrite(bytes: &mut [u8], at: usize, new: &[u8]) -> usize {
    let len = new.len().min(bytes.len() - at);
    bytes[at..at + len].copy_from_slice(&new[..len]);
    len
}

fn around(bytes: &[u8], at: usize) -> [u8; 8] {
    let mut number = [0; 8];
    let len = (bytes.len() - at).min(8);
    number[..len].copy_from_slice(&bytes[at..at + len]);
    number
}

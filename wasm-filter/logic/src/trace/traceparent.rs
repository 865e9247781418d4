//! The `traceparent` header: read strictly, written as version 00.
//!
//! Invariant: a [`Traceparent`] is valid: neither id is all zero, and its text is 55 lower-case characters.

use std::fmt;

/// Set on contexts whose trace id is made of random bits (level 2 of the specification).
const RANDOM: u8 = 0b10;
const SAMPLED: u8 = 0b01;
/// `00-` + 32 + `-` + 16 + `-` + 2.
const LENGTH: usize = 55;

/// A valid trace context, without its version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traceparent {
    trace_id: [u8; 16],
    parent_id: [u8; 8],
    flags: u8,
}

impl Traceparent {
    /// Reads one header value; `None` when it breaks any rule. Space around the value is not part of it in HTTP.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let value = trim(value);
        let (head, rest) = value.split_at_checked(LENGTH)?;
        let (version, head) = hex::<1>(head)?;
        let (trace_id, head) = hex::<16>(dash(head)?)?;
        let (parent_id, head) = hex::<8>(dash(head)?)?;
        let (flags, _) = hex::<1>(dash(head)?)?;
        let ([version], [flags]) = (version, flags);
        let length_fits = match version {
            0x00 => rest.is_empty(),
            0xff => false,
            // A later version may say more, behind a dash.
            _ => matches!(rest, [] | [b'-', ..]),
        };
        let ids_fit = trace_id != [0; 16] && parent_id != [0; 8];
        (length_fits && ids_fit).then_some(Self {
            trace_id,
            parent_id,
            flags,
        })
    }

    /// A new trace from random bytes.
    pub fn fresh(random: &[u8; 24], sampled: bool) -> Self {
        let (trace_id, parent_id) = split(random);
        Self {
            trace_id: not_zero(trace_id),
            parent_id: not_zero(parent_id),
            flags: RANDOM | if sampled { SAMPLED } else { 0 },
        }
    }

    /// The same trace with a parent id from the last eight of the random bytes. Flags of later versions are cleared,
    /// since what is written is version 00.
    pub fn with_parent(self, random: &[u8; 24]) -> Self {
        let (_, parent_id) = split(random);
        Self {
            trace_id: self.trace_id,
            parent_id: not_zero(parent_id),
            flags: self.flags & (SAMPLED | RANDOM),
        }
    }
}

impl fmt::Display for Traceparent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("00-")?;
        for byte in self.trace_id {
            write!(f, "{byte:02x}")?;
        }
        f.write_str("-")?;
        for byte in self.parent_id {
            write!(f, "{byte:02x}")?;
        }
        write!(f, "-{:02x}", self.flags)
    }
}

/// Cuts the optional white space HTTP allows around a value.
pub(super) fn trim(value: &[u8]) -> &[u8] {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = value.iter().position(|byte| !is_space(byte)).unwrap_or(value.len());
    let end = value
        .iter()
        .rposition(|byte| !is_space(byte))
        .map_or(start, |last| last + 1);
    value.get(start..end).unwrap_or_default()
}

fn dash(text: &[u8]) -> Option<&[u8]> {
    text.strip_prefix(b"-")
}

/// Takes `N` bytes written as lower-case hexadecimal.
fn hex<const N: usize>(text: &[u8]) -> Option<([u8; N], &[u8])> {
    let (digits, rest) = text.split_at_checked(N * 2)?;
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let [high, low] = pair else { return None };
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some((bytes, rest))
}

fn digit(character: u8) -> Option<u8> {
    match character {
        b'0'..=b'9' => Some(character - b'0'),
        b'a'..=b'f' => Some(character - b'a' + 10),
        _ => None,
    }
}

fn split(random: &[u8; 24]) -> ([u8; 16], [u8; 8]) {
    let mut trace_id = [0; 16];
    let mut parent_id = [0; 8];
    for (to, from) in trace_id.iter_mut().chain(&mut parent_id).zip(random) {
        *to = *from;
    }
    (trace_id, parent_id)
}

/// An id of zeros is invalid, however random it was.
fn not_zero<const N: usize>(mut id: [u8; N]) -> [u8; N] {
    if id.iter().all(|byte| *byte == 0)
        && let Some(last) = id.last_mut()
    {
        *last = 1;
    }
    id
}

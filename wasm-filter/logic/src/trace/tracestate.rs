//! The `tracestate` header: is the list one that a receiver may use?
//!
//! A list that breaks a rule cannot be trusted as a whole, so the answer is for the whole list. Several headers are one
//! list, in order. Keys that repeat are left as they are: with an unchanged `traceparent` the list must not be edited.

use super::traceparent::trim;

/// More members make the list invalid.
const MOST_MEMBERS: usize = 32;
const MOST_KEY_BYTES: usize = 256;
const MOST_VALUE_BYTES: usize = 256;

/// Whether the values make a valid list with at least one member.
pub fn is_valid(values: &[&[u8]]) -> bool {
    let mut members = 0;
    for member in values.iter().flat_map(|value| value.split(|byte| *byte == b',')) {
        let member = trim(member);
        // Empty members are allowed, and do not count.
        if member.is_empty() {
            continue;
        }
        members += 1;
        if members > MOST_MEMBERS || !is_member(member) {
            return false;
        }
    }
    members > 0
}

fn is_member(member: &[u8]) -> bool {
    let mut parts = member.splitn(2, |byte| *byte == b'=');
    match (parts.next(), parts.next()) {
        (Some(key), Some(value)) => is_key(key) && is_value(value),
        _ => false,
    }
}

fn is_key(key: &[u8]) -> bool {
    let [first, rest @ ..] = key else { return false };
    key.len() <= MOST_KEY_BYTES
        && matches!(first, b'a'..=b'z' | b'0'..=b'9')
        && rest
            .iter()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'*' | b'/' | b'@'))
}

/// Trailing space is cut before, so only the characters and the length are left to check.
fn is_value(value: &[u8]) -> bool {
    !value.is_empty()
        && value.len() <= MOST_VALUE_BYTES
        && value
            .iter()
            .all(|byte| matches!(byte, b' '..=b'~') && !matches!(byte, b',' | b'='))
}

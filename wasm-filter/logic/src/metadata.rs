//! The `leadsman` namespace of an endpoint's metadata, as a host hands it over.
//!
//! The map is: a u32 count, then for each pair the u32 lengths of key and value, then for each pair key, NUL, value, NUL.
//! All integers are little endian. Text arrives as it is; a number arrives as the eight bytes of an f64, which serves a
//! revision as well, because revisions are only compared.
//!
//! Invariant: bytes that are not such a map give nothing, and never more than was there.

use leadsman_proto::endpoint_metadata;

/// What the control plane wrote beside the endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EndpointMetadata<'a> {
    /// The revision at which this endpoint last changed. Empty when the endpoint is not ours.
    pub rev: &'a [u8],
    /// The source it comes from.
    pub src: &'a [u8],
}

/// More keys than this are not ours: the control plane writes a handful.
const MOST_PAIRS: u32 = 64;

impl<'a> EndpointMetadata<'a> {
    /// Reads the map; keys other than `rev` and `src` are for others.
    pub fn parse(map: &'a [u8]) -> Option<Self> {
        let (count, rest) = number(map)?;
        if count > MOST_PAIRS {
            return None;
        }
        let (mut sizes, mut data) = rest.split_at_checked(usize::try_from(count).ok()?.checked_mul(8)?)?;
        let mut found = Self::default();
        while !sizes.is_empty() {
            let (key_size, after_key) = number(sizes)?;
            let (value_size, after_value) = number(after_key)?;
            let (key, after_key) = text(data, key_size)?;
            let (value, after) = text(after_key, value_size)?;
            if key == endpoint_metadata::REVISION.as_bytes() {
                found.rev = value;
            } else if key == endpoint_metadata::SOURCE.as_bytes() {
                found.src = value;
            }
            (sizes, data) = (after_value, after);
        }
        Some(found)
    }
}

fn number(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (first, rest) = bytes.split_first_chunk()?;
    Some((u32::from_le_bytes(*first), rest))
}

fn text(bytes: &[u8], size: u32) -> Option<(&[u8], &[u8])> {
    let (text, rest) = bytes.split_at_checked(usize::try_from(size).ok()?)?;
    Some((text, rest.strip_prefix(b"\0")?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn map(pairs: &[(&[u8], &[u8])]) -> Vec<u8> {
        let mut bytes = (pairs.len() as u32).to_le_bytes().to_vec();
        for (key, value) in pairs {
            bytes.extend((key.len() as u32).to_le_bytes());
            bytes.extend((value.len() as u32).to_le_bytes());
        }
        for (key, value) in pairs {
            bytes.extend([key, &b"\0"[..], value, b"\0"].concat());
        }
        bytes
    }

    #[test]
    fn revision_and_source_are_found_among_other_keys() {
        let bytes = map(&[(b"zone", b"a"), (b"src", b"shop"), (b"rev", b"17\x00x"), (b"", b"")]);
        let expected = EndpointMetadata {
            rev: b"17\x00x",
            src: b"shop",
        };
        assert_eq!(EndpointMetadata::parse(&bytes), Some(expected));
        let none = EndpointMetadata::default();
        assert_eq!(EndpointMetadata::parse(&map(&[])), Some(none));
        assert_eq!(EndpointMetadata::parse(&map(&[(b"Rev", b"1")])), Some(none));
    }

    #[test]
    fn a_number_is_a_revision_too() {
        let bytes = map(&[(b"rev", &7.0_f64.to_le_bytes())]);
        assert_eq!(EndpointMetadata::parse(&bytes).unwrap().rev, 7.0_f64.to_le_bytes());
    }

    #[test]
    fn a_broken_map_gives_nothing() {
        let whole = map(&[(b"rev", b"1"), (b"src", b"shop")]);
        for end in 0..whole.len() {
            assert_eq!(EndpointMetadata::parse(&whole[..end]), None, "{end}");
        }
        assert_eq!(EndpointMetadata::parse(&u32::MAX.to_le_bytes()), None);
    }

    proptest! {
        #![proptest_config(leadsman_property::cases(256))]
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = EndpointMetadata::parse(&bytes);
        }

        #[test]
        fn what_was_written_is_read(rev in proptest::collection::vec(any::<u8>(), 0..9), src in ".*") {
            let bytes = map(&[(b"rev", &rev), (b"src", src.as_bytes())]);
            prop_assert_eq!(
                EndpointMetadata::parse(&bytes),
                Some(EndpointMetadata { rev: &rev, src: src.as_bytes() })
            );
        }
    }
}

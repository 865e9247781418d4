//! What a response has beside its resources, written without a copy: it is made once a delivery, and the rest of a
//! delivery is shared.

use std::fmt::Write;
use std::sync::Arc;

use bytes::{BufMut, BytesMut};
use prost::encoding::{WireType, encode_varint, encoded_len_varint};

use crate::snapshot::Version;

/// Of `ControlPlane`.
const IDENTIFIER_TAG: u8 = 1;
/// Of the largest number.
const MAX_DIGITS: usize = 20;
/// Hexadecimal digits of a version.
const VERSION_LEN: usize = 16;

/// `envoy.service.discovery.v3.DeltaDiscoveryResponse` without its resources.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DeltaResponseFrame<'a> {
    pub(crate) system_version: u64,
    pub(crate) type_url: &'a str,
    pub(crate) nonce: u64,
    pub(crate) removed: &'a [Arc<str>],
    pub(crate) control_plane: &'a str,
}

impl DeltaResponseFrame<'_> {
    pub(crate) fn write(&self, into: &mut BytesMut) {
        number(1, self.system_version, into);
        text(4, self.type_url, into);
        number(5, self.nonce, into);
        for name in self.removed {
            string(6, name, into);
        }
        control_plane(7, self.control_plane, into);
    }
}

/// `envoy.service.discovery.v3.DiscoveryResponse` without its resources.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ResponseFrame<'a> {
    pub(crate) version: Version,
    pub(crate) type_url: &'a str,
    pub(crate) nonce: u64,
    pub(crate) control_plane: &'a str,
}

impl ResponseFrame<'_> {
    pub(crate) fn write(&self, into: &mut BytesMut) {
        begin(1, VERSION_LEN, into);
        // A buffer that grows has room for everything.
        write!(into, "{}", self.version).unwrap_or_default();
        text(4, self.type_url, into);
        number(5, self.nonce, into);
        control_plane(6, self.control_plane, into);
    }
}

/// Every field of a frame is a string or a message: its key has one byte, and so has its length, mostly.
fn begin(tag: u8, len: usize, into: &mut BytesMut) {
    let key = tag << 3 | WireType::LengthDelimited as u8;
    match u8::try_from(len) {
        Ok(len) if len < 1 << 7 => into.put_slice(&[key, len]),
        Ok(_) | Err(_) => {
            into.put_u8(key);
            encode_varint(len as u64, into);
        }
    }
}

fn string(tag: u8, value: &str, into: &mut BytesMut) {
    begin(tag, value.len(), into);
    into.put_slice(value.as_bytes());
}

/// An empty string is not written, as everywhere in protobuf.
fn text(tag: u8, value: &str, into: &mut BytesMut) {
    if !value.is_empty() {
        string(tag, value, into);
    }
}

/// A number as a string.
fn number(tag: u8, value: u64, into: &mut BytesMut) {
    let mut digits = [b'0'; MAX_DIGITS];
    let mut rest = value;
    let mut first = MAX_DIGITS;
    for (place, digit) in digits.iter_mut().enumerate().rev() {
        // The remainder is less than ten.
        *digit += u8::try_from(rest % 10).unwrap_or_default();
        rest /= 10;
        first = place;
        if rest == 0 {
            break;
        }
    }
    let digits = digits.get(first..).unwrap_or_default();
    begin(tag, digits.len(), into);
    into.put_slice(digits);
}

fn control_plane(tag: u8, identifier: &str, into: &mut BytesMut) {
    let field = 1 + encoded_len_varint(identifier.len() as u64) + identifier.len();
    begin(tag, if identifier.is_empty() { 0 } else { field }, into);
    text(IDENTIFIER_TAG, identifier, into);
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    #[derive(Clone, PartialEq, prost::Message)]
    struct Delta {
        #[prost(string, tag = "1")]
        system_version_info: String,
        #[prost(string, tag = "4")]
        type_url: String,
        #[prost(string, tag = "5")]
        nonce: String,
        #[prost(string, repeated, tag = "6")]
        removed_resources: Vec<String>,
        #[prost(message, optional, tag = "7")]
        control_plane: Option<ControlPlane>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    struct StateOfTheWorld {
        #[prost(string, tag = "1")]
        version_info: String,
        #[prost(string, tag = "4")]
        type_url: String,
        #[prost(string, tag = "5")]
        nonce: String,
        #[prost(message, optional, tag = "6")]
        control_plane: Option<ControlPlane>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    struct ControlPlane {
        #[prost(string, tag = "1")]
        identifier: String,
    }

    const NUMBERS: [u64; 8] = [0, 1, 9, 10, 99, 100, 12_345, u64::MAX];

    fn texts() -> [String; 7] {
        [
            "",
            "a",
            "tÿpe",
            &"long".repeat(100),
            &"x".repeat(125),
            &"x".repeat(127),
            &"x".repeat(128),
        ]
        .map(ToOwned::to_owned)
    }

    #[test]
    fn a_delta_frame_has_the_bytes_of_the_message() {
        for number in NUMBERS {
            for text in texts() {
                let removed: Vec<Arc<str>> = vec![text.as_str().into(), "b".into()];
                let mut written = BytesMut::new();
                let frame = DeltaResponseFrame {
                    system_version: number,
                    type_url: &text,
                    nonce: number,
                    removed: &removed,
                    control_plane: &text,
                };
                frame.write(&mut written);
                let message = Delta {
                    system_version_info: number.to_string(),
                    type_url: text.clone(),
                    nonce: number.to_string(),
                    removed_resources: vec![text.clone(), "b".to_owned()],
                    control_plane: Some(ControlPlane { identifier: text }),
                };
                assert_eq!(written, message.encode_to_vec());
            }
        }
    }

    #[test]
    fn a_frame_of_the_state_of_the_world_has_the_bytes_of_the_message() {
        for number in NUMBERS {
            for text in texts() {
                let version: Version = format!("{number:x}").parse().unwrap();
                let mut written = BytesMut::new();
                let frame = ResponseFrame {
                    version,
                    type_url: &text,
                    nonce: number,
                    control_plane: &text,
                };
                frame.write(&mut written);
                let message = StateOfTheWorld {
                    version_info: version.to_string(),
                    type_url: text.clone(),
                    nonce: number.to_string(),
                    control_plane: Some(ControlPlane { identifier: text }),
                };
                assert_eq!(written, message.encode_to_vec());
            }
        }
    }
}

//! Requests and responses of the delta protocol, and the stamp in the assignments they carry.
//!
//! Nothing of a registry's metadata reaches a client, but the locality does. So the first instance of each service lives in
//! a sub-zone that is named after the moment of its last change, and has no region; all others have one. Localities are
//! sent in order, so the stamp stands at the beginning of the assignment.

use super::pb::{Fields, Value, put_bytes, put_number};

pub(crate) const ENDPOINT_TYPE: &str = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";
const INVALID_ARGUMENT: u64 = 3;

/// What the first request of a stream says.
pub(crate) fn put_subscription<'a>(
    out: &mut Vec<u8>,
    node: &str,
    names: impl Iterator<Item = &'a str>,
    known: impl Iterator<Item = (&'a str, &'a str)>,
) {
    let mut inner = Vec::new();
    put_bytes(&mut inner, 1, node.as_bytes());
    put_bytes(&mut inner, 2, b"bench");
    put_bytes(&mut inner, 6, b"envoy");
    put_bytes(out, 1, &inner);
    put_bytes(out, 2, ENDPOINT_TYPE.as_bytes());
    for name in names {
        put_bytes(out, 3, name.as_bytes());
    }
    for (name, version) in known {
        inner.clear();
        put_bytes(&mut inner, 1, name.as_bytes());
        put_bytes(&mut inner, 2, version.as_bytes());
        put_bytes(out, 5, &inner);
    }
}

pub(crate) fn put_ack(out: &mut Vec<u8>, type_url: &[u8], nonce: &[u8]) {
    put_bytes(out, 2, type_url);
    put_bytes(out, 6, nonce);
}

pub(crate) fn put_nack(out: &mut Vec<u8>, type_url: &[u8], nonce: &[u8]) {
    put_ack(out, type_url, nonce);
    let mut status = Vec::new();
    put_number(&mut status, 1, INVALID_ARGUMENT);
    put_bytes(&mut status, 2, b"refused by the bench");
    put_bytes(out, 7, &status);
}

/// A `Resource` of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Resource<'a> {
    pub(crate) name: &'a str,
    pub(crate) version: &'a str,
    /// The assignment itself.
    pub(crate) content: &'a [u8],
}

pub(crate) fn resources(response: &[u8]) -> impl Iterator<Item = Resource<'_>> {
    Fields(response).filter_map(|(field, value)| match (field, value) {
        (2, Value::Bytes(bytes)) => Some(resource(Fields(bytes))),
        _ => None,
    })
}

fn resource(fields: Fields<'_>) -> Resource<'_> {
    Resource {
        name: fields.text(3),
        version: fields.text(1),
        content: fields.bytes(2).and_then(|any| Fields(any).bytes(2)).unwrap_or_default(),
    }
}

/// The type and the nonce, which follow the resources.
pub(crate) fn type_and_nonce(response: &[u8]) -> (&[u8], &[u8]) {
    let fields = Fields(response);
    (fields.bytes(4).unwrap_or_default(), fields.bytes(5).unwrap_or_default())
}

/// Names of a request that subscribe.
pub(crate) fn subscribed(request: &[u8]) -> impl Iterator<Item = &str> {
    Fields(request).filter_map(|(field, value)| match (field, value) {
        (3, Value::Bytes(name)) => std::str::from_utf8(name).ok(),
        _ => None,
    })
}

/// The moment of an assignment's last change, in nanoseconds of the monotonic clock.
pub(crate) fn stamp(assignment: &[u8]) -> u64 {
    let group = Fields(assignment).bytes(2);
    let locality = group.and_then(|group| Fields(group).bytes(1));
    let sub_zone = locality.map(|locality| Fields(locality).text(3));
    sub_zone.and_then(|text| text.parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use envoy_types::pb::envoy::service::discovery::v3::DeltaDiscoveryRequest;
    use prost::Message;

    #[test]
    fn requests_are_what_the_generated_crate_reads() {
        let mut bytes = Vec::new();
        put_subscription(&mut bytes, "n", ["a", "b"].into_iter(), [("a", "v1")].into_iter());
        let request = DeltaDiscoveryRequest::decode(bytes.as_slice()).unwrap();
        assert_eq!(request.node.map(|node| node.id).unwrap(), "n");
        assert_eq!(request.type_url, ENDPOINT_TYPE);
        assert_eq!(request.resource_names_subscribe, ["a", "b"]);
        assert_eq!(
            request.initial_resource_versions.get("a").map(String::as_str),
            Some("v1")
        );
        let mut bytes = Vec::new();
        put_nack(&mut bytes, b"type", b"9");
        let request = DeltaDiscoveryRequest::decode(bytes.as_slice()).unwrap();
        let text = request.error_detail.map(|detail| detail.message).unwrap();
        assert_eq!(
            (request.response_nonce.as_str(), text.as_str()),
            ("9", "refused by the bench")
        );
    }
}

//! What a client says, as far as it is read here.
//!
//! The generated messages copy each name and each version, and put the versions into a hash map; a client that comes back
//! has one of each for every resource. These have the same field numbers, and their names are parts of what was read.
//! Source: `envoy/service/discovery/v3/discovery.proto`.

use bytes::Bytes;
use envoy_types::pb::envoy::config::core::v3::Node;

/// `envoy.service.discovery.v3.DeltaDiscoveryRequest`
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct DeltaDiscoveryRequest {
    #[prost(message, optional, tag = "1")]
    pub(super) node: Option<Node>,
    #[prost(string, tag = "2")]
    pub(super) type_url: String,
    #[prost(bytes = "bytes", repeated, tag = "3")]
    pub(super) resource_names_subscribe: Vec<Bytes>,
    #[prost(bytes = "bytes", repeated, tag = "4")]
    pub(super) resource_names_unsubscribe: Vec<Bytes>,
    #[prost(message, repeated, tag = "5")]
    pub(super) initial_resource_versions: Vec<NameAndVersion>,
    #[prost(string, tag = "6")]
    pub(super) response_nonce: String,
    #[prost(message, optional, tag = "7")]
    pub(super) error_detail: Option<Status>,
}

/// An entry of a map. Of a name that is there twice, the last counts.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct NameAndVersion {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) name: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) version: Bytes,
}

/// `envoy.service.discovery.v3.DiscoveryRequest`
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct DiscoveryRequest {
    #[prost(string, tag = "1")]
    pub(super) version_info: String,
    #[prost(message, optional, tag = "2")]
    pub(super) node: Option<Node>,
    #[prost(bytes = "bytes", repeated, tag = "3")]
    pub(super) resource_names: Vec<Bytes>,
    #[prost(string, tag = "4")]
    pub(super) type_url: String,
    #[prost(string, tag = "5")]
    pub(super) response_nonce: String,
    #[prost(message, optional, tag = "6")]
    pub(super) error_detail: Option<Status>,
}

/// `google.rpc.Status`. Its code means nothing in a refusal: any will do.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Status {
    #[prost(string, tag = "2")]
    pub(super) message: String,
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::envoy::service::discovery::v3 as pb;
    use envoy_types::pb::google::rpc;
    use prost::Message;

    use super::*;

    fn node() -> Node {
        Node {
            id: "edge-1".to_owned(),
            ..Node::default()
        }
    }

    fn refusal() -> rpc::Status {
        rpc::Status {
            code: 13,
            message: "no".to_owned(),
            details: Vec::new(),
        }
    }

    #[test]
    fn a_delta_request_is_read_as_envoy_writes_it() {
        let written = pb::DeltaDiscoveryRequest {
            node: Some(node()),
            type_url: "type".to_owned(),
            resource_names_subscribe: vec!["a".to_owned(), "b".to_owned()],
            resource_names_unsubscribe: vec!["c".to_owned()],
            initial_resource_versions: [("d".to_owned(), "1".to_owned())].into(),
            response_nonce: "7".to_owned(),
            error_detail: Some(refusal()),
            ..pb::DeltaDiscoveryRequest::default()
        };
        let read = DeltaDiscoveryRequest {
            node: Some(node()),
            type_url: "type".to_owned(),
            resource_names_subscribe: vec!["a".into(), "b".into()],
            resource_names_unsubscribe: vec!["c".into()],
            initial_resource_versions: vec![NameAndVersion {
                name: "d".into(),
                version: "1".into(),
            }],
            response_nonce: "7".to_owned(),
            error_detail: Some(Status {
                message: "no".to_owned(),
            }),
        };
        assert_eq!(
            DeltaDiscoveryRequest::decode(written.encode_to_vec().as_slice()),
            Ok(read)
        );
    }

    #[test]
    fn a_state_of_the_world_request_is_read_as_envoy_writes_it() {
        let written = pb::DiscoveryRequest {
            version_info: "1".to_owned(),
            node: Some(node()),
            resource_names: vec!["a".to_owned(), "b".to_owned()],
            type_url: "type".to_owned(),
            response_nonce: "7".to_owned(),
            error_detail: Some(refusal()),
            ..pb::DiscoveryRequest::default()
        };
        let read = DiscoveryRequest {
            version_info: "1".to_owned(),
            node: Some(node()),
            resource_names: vec!["a".into(), "b".into()],
            type_url: "type".to_owned(),
            response_nonce: "7".to_owned(),
            error_detail: Some(Status {
                message: "no".to_owned(),
            }),
        };
        assert_eq!(DiscoveryRequest::decode(written.encode_to_vec().as_slice()), Ok(read));
    }
}

//! Envoy's requests to ours.

use std::sync::Arc;

use bytes::Bytes;
use envoy_types::pb::envoy::config::core::v3 as core_pb;
use envoy_types::pb::envoy::config::core::v3::node::UserAgentVersionType;
use leadsman_core::model::Locality;
use leadsman_core::snapshot::Snapshot;
use leadsman_core::xds::{DiscoveryStream, Interest, Node, ProtocolError, Request, SotwRequest, Variant};
use prost::Message;

use super::request::{DeltaDiscoveryRequest, DiscoveryRequest};

/// What a client says on a stream of one variant.
pub(super) trait Ask: Message + Default + 'static {
    const VARIANT: Variant;
    const NAME: &'static str;

    /// Which type the request is about. Only an aggregated stream has to say so.
    fn type_url(&mut self) -> &mut String;

    /// The nonce of the response that is answered, and why it is refused.
    fn answer(&self) -> (&str, Option<&str>);

    /// Names are shared with the snapshot where it has them.
    fn hand_to(self, stream: &mut DiscoveryStream, snapshot: &Snapshot) -> Result<Vec<Interest>, ProtocolError>;
}

impl Ask for DeltaDiscoveryRequest {
    const VARIANT: Variant = Variant::Delta;
    const NAME: &'static str = "DeltaDiscoveryRequest";

    fn type_url(&mut self) -> &mut String {
        &mut self.type_url
    }

    fn answer(&self) -> (&str, Option<&str>) {
        let error = self.error_detail.as_ref().map(|status| status.message.as_str());
        (&self.response_nonce, error)
    }

    fn hand_to(self, stream: &mut DiscoveryStream, snapshot: &Snapshot) -> Result<Vec<Interest>, ProtocolError> {
        stream.handle_request(delta(self, snapshot)?)
    }
}

impl Ask for DiscoveryRequest {
    const VARIANT: Variant = Variant::StateOfTheWorld;
    const NAME: &'static str = "DiscoveryRequest";

    fn type_url(&mut self) -> &mut String {
        &mut self.type_url
    }

    fn answer(&self) -> (&str, Option<&str>) {
        let error = self.error_detail.as_ref().map(|status| status.message.as_str());
        (&self.response_nonce, error)
    }

    fn hand_to(self, stream: &mut DiscoveryStream, snapshot: &Snapshot) -> Result<Vec<Interest>, ProtocolError> {
        stream.handle_sotw_request(SotwRequest {
            node: self.node.map(node),
            type_url: self.type_url,
            names: shared(&self.resource_names, snapshot)?,
            version_info: self.version_info,
            response_nonce: self.response_nonce,
            error_detail: self.error_detail.map(|status| status.message),
        })
    }
}

/// Versions that are not ours (another control plane's) are versions we know nothing of.
fn delta(request: DeltaDiscoveryRequest, snapshot: &Snapshot) -> Result<Request, ProtocolError> {
    let versions = request.initial_resource_versions.iter();
    let initial_versions = versions
        .map(|held| Ok((snapshot.share(text(&held.name)?), text(&held.version)?.parse().ok())))
        .collect::<Result<_, _>>()?;
    Ok(Request {
        node: request.node.map(node),
        type_url: request.type_url,
        subscribe: shared(&request.resource_names_subscribe, snapshot)?,
        unsubscribe: shared(&request.resource_names_unsubscribe, snapshot)?,
        initial_versions,
        response_nonce: request.response_nonce,
        error_detail: request.error_detail.map(|status| status.message),
    })
}

fn shared(names: &[Bytes], snapshot: &Snapshot) -> Result<Vec<Arc<str>>, ProtocolError> {
    names.iter().map(|name| Ok(snapshot.share(text(name)?))).collect()
}

fn text(bytes: &[u8]) -> Result<&str, ProtocolError> {
    std::str::from_utf8(bytes).map_err(|_| ProtocolError::NotText)
}

fn node(node: core_pb::Node) -> Node {
    let version = match node.user_agent_version_type {
        Some(UserAgentVersionType::UserAgentVersion(version)) => version,
        Some(UserAgentVersionType::UserAgentBuildVersion(build)) => build
            .version
            .map(|v| format!("{}.{}.{}", v.major_number, v.minor_number, v.patch))
            .unwrap_or_default(),
        None => String::new(),
    };
    let locality = node.locality.map(|l| Locality {
        region: l.region,
        zone: l.zone,
        sub_zone: l.sub_zone,
    });
    Node {
        id: node.id,
        cluster: node.cluster,
        locality: locality.unwrap_or_default(),
        user_agent: format!("{} {version}", node.user_agent_name).trim().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::envoy::service::discovery::v3 as pb;
    use leadsman_core::snapshot::ResourceType;
    use leadsman_core::xds::Limits;
    use proptest::prelude::*;

    use super::*;

    fn node_pb() -> core_pb::Node {
        core_pb::Node {
            id: "edge-1".to_owned(),
            ..core_pb::Node::default()
        }
    }

    /// A good request with some of its bytes replaced, or no request at all.
    fn any_bytes(good: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
        let spots = proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
        let spoilt = spots.prop_map(move |spots| {
            let mut bytes = good.clone();
            for (at, byte) in spots {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            bytes
        });
        prop_oneof![4 => spoilt, 1 => proptest::collection::vec(any::<u8>(), 0..200)]
    }

    fn delta_bytes() -> Vec<u8> {
        let versions = [("a".to_owned(), "0123456789abcdef".to_owned())];
        let request = pb::DeltaDiscoveryRequest {
            node: Some(node_pb()),
            type_url: ResourceType::Cluster.type_url().to_owned(),
            resource_names_subscribe: vec!["a".to_owned(), "*".to_owned()],
            resource_names_unsubscribe: vec!["b".to_owned()],
            initial_resource_versions: versions.into(),
            response_nonce: "1".to_owned(),
            ..pb::DeltaDiscoveryRequest::default()
        };
        request.encode_to_vec()
    }

    fn sotw_bytes() -> Vec<u8> {
        let request = pb::DiscoveryRequest {
            node: Some(node_pb()),
            type_url: ResourceType::Listener.type_url().to_owned(),
            resource_names: vec!["a".to_owned(), "b".to_owned()],
            version_info: "1".to_owned(),
            response_nonce: "1".to_owned(),
            ..pb::DiscoveryRequest::default()
        };
        request.encode_to_vec()
    }

    /// As a stream's task does it.
    fn receive<R: Ask>(messages: &[Vec<u8>]) {
        let mut stream = DiscoveryStream::new(R::VARIANT, Limits::default());
        let snapshot = Snapshot::default();
        for bytes in messages {
            let Ok(request) = R::decode(bytes.as_slice()) else {
                return;
            };
            if request.hand_to(&mut stream, &snapshot).is_err() {
                return;
            }
            while let Some(response) = stream.next_response(&snapshot, std::time::Duration::ZERO) {
                response.encode("cp-1");
            }
        }
    }

    #[test]
    fn a_name_that_is_no_text_ends_the_stream() {
        let request = DeltaDiscoveryRequest {
            node: Some(node_pb()),
            type_url: ResourceType::Cluster.type_url().to_owned(),
            resource_names_subscribe: vec![Bytes::from_static(b"\xff")],
            ..DeltaDiscoveryRequest::default()
        };
        let mut stream = DiscoveryStream::new(Variant::Delta, Limits::default());
        let handed = request.hand_to(&mut stream, &Snapshot::default());
        assert_eq!(handed, Err(ProtocolError::NotText));
    }

    proptest! {
        #![proptest_config(leadsman_property::cases(2000))]
        #[test]
        fn whatever_bytes_come_in_nothing_panics(
            delta in proptest::collection::vec(any_bytes(delta_bytes()), 1..6),
            sotw in proptest::collection::vec(any_bytes(sotw_bytes()), 1..6),
        ) {
            receive::<DeltaDiscoveryRequest>(&delta);
            receive::<DiscoveryRequest>(&sotw);
        }
    }
}

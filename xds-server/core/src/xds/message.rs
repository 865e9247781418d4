//! What comes in and what goes out.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use serde::Serialize;
use smallvec::SmallVec;

use crate::model::Locality;
use crate::snapshot::{Resource, ResourceType, Version, pb};

/// Who is asking, as the first request of a stream says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Node {
    pub id: String,
    pub cluster: String,
    pub locality: Locality,
    /// `envoy 1.40.0`, where the client says so.
    pub user_agent: String,
}

/// A `DeltaDiscoveryRequest`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    pub node: Option<Node>,
    pub type_url: String,
    pub subscribe: Vec<Arc<str>>,
    pub unsubscribe: Vec<Arc<str>>,
    /// `None` for a version that is not one of ours. Of a name that is there twice, the last counts.
    pub initial_versions: Vec<(Arc<str>, Option<Version>)>,
    /// Empty in a request that answers nothing.
    pub response_nonce: String,
    /// Present in a NACK, whatever its code.
    pub error_detail: Option<String>,
}

impl Request {
    /// Of what a stream keeps.
    pub(super) fn longest_text(&self) -> usize {
        let names = self
            .subscribe
            .iter()
            .chain(&self.unsubscribe)
            .chain(self.initial_versions.iter().map(|(name, _)| name));
        let node = self.node.iter().flat_map(|node| {
            let Locality { region, zone, sub_zone } = &node.locality;
            [&node.id, &node.cluster, &node.user_agent, region, zone, sub_zone].map(String::len)
        });
        let longest = names.map(|name| name.len()).chain(node).max();
        longest.unwrap_or_default().max(self.type_url.len())
    }
}

/// A `DiscoveryRequest`: the names are all that the client wants, each time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SotwRequest {
    pub node: Option<Node>,
    pub type_url: String,
    pub names: Vec<Arc<str>>,
    /// What the client accepted last; empty when it holds nothing of the type.
    pub version_info: String,
    pub response_nonce: String,
    pub error_detail: Option<String>,
}

/// The two ways to say what changed. One subscription model serves both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// `DeltaDiscoveryRequest`: what changed, resource by resource.
    Delta,
    /// `DiscoveryRequest`: clusters and listeners all together whenever one changes, so that what is left out is gone;
    /// endpoints and routes as they change.
    StateOfTheWorld,
}

/// What a request changes in what the stream is to be told about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Interest {
    Subscribe(ResourceType, Arc<str>),
    Unsubscribe(ResourceType, Arc<str>),
    Everything(ResourceType),
    NotEverything(ResourceType),
}

/// A request that no server can answer. The stream ends with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    #[error("the first request of a stream must carry a node with an id")]
    NoNode,
    #[error("a request on an aggregated stream must carry a type_url")]
    NoTypeUrl,
    #[error("more than {0} resources are subscribed to on one stream")]
    TooManyNames(usize),
    #[error("a name or a version is not UTF-8")]
    NotText,
    #[error("a name, a type or a word about the node is longer than {0} bytes")]
    TooLong(usize),
}

/// What a response has beside resources: a type, a nonce, a version, and who we are.
const FRAME_BYTES: usize = 192;

/// What a response carries: mostly one, without an allocation.
pub type Resources = SmallVec<[Arc<Resource>; 1]>;

/// A response of either variant.
#[derive(Clone, Debug)]
pub struct Response {
    pub variant: Variant,
    pub type_url: Cow<'static, str>,
    pub nonce: u64,
    pub resources: Resources,
    /// Names that are no more; the state of the world has no words for them.
    pub removed: Vec<Arc<str>>,
    pub system_version: u64,
}

impl Response {
    /// The message on the wire.
    pub fn encode(&self, control_plane: &str) -> Bytes {
        let mut bytes = BytesMut::with_capacity(self.len_hint());
        self.write(control_plane, &mut bytes);
        bytes.freeze()
    }

    /// About the length of the message, and not less but for long names.
    pub fn len_hint(&self) -> usize {
        let resources: usize = self.resources.iter().map(|resource| resource.field.len()).sum();
        let removed: usize = self.removed.iter().map(|name| name.len() + 3).sum();
        resources + removed + FRAME_BYTES
    }

    /// Writes the message: a small frame, and the shared bytes of each resource.
    pub fn write(&self, control_plane: &str, into: &mut BytesMut) {
        match self.variant {
            Variant::Delta => {
                let frame = pb::DeltaResponseFrame {
                    system_version: self.system_version,
                    type_url: &self.type_url,
                    nonce: self.nonce,
                    removed: &self.removed,
                    control_plane,
                };
                frame.write(into);
                self.join(|resource| &resource.field, into);
            }
            Variant::StateOfTheWorld => {
                let frame = pb::ResponseFrame {
                    version: self.version(),
                    type_url: &self.type_url,
                    nonce: self.nonce,
                    control_plane,
                };
                frame.write(into);
                self.join(|resource| &resource.any_field, into);
            }
        }
    }

    /// A version of the response as a whole, equal wherever its content is.
    fn version(&self) -> Version {
        Version::of_all(self.resources.iter().map(|resource| resource.version))
    }

    fn join(&self, field: impl Fn(&Resource) -> &Bytes, into: &mut BytesMut) {
        for resource in &self.resources {
            into.put_slice(field(resource));
        }
    }
}

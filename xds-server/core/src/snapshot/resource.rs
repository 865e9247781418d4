//! A published resource: its bytes, and the hash by which clients know what they hold.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use serde::{Serialize, Serializer};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::{api_listener, pb, service_entry};

/// Fields of a delta resource that are written after its version: its body, and its name.
const BODY_TAG: u32 = 2;
const NAME_TAG: u32 = 3;

/// Changes when the meaning of a version does, so that no client is believed to hold what it does not.
const SCHEMA: u64 = 1;

/// The types we publish, in the order in which a change must arrive (make before break:
/// <https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol#eventual-consistency-considerations>).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ResourceType {
    Cluster,
    Endpoint,
    Listener,
    Route,
    /// A service as istiod reads it.
    ServiceEntry,
}

impl ResourceType {
    pub const ALL: [Self; 5] = [
        Self::Cluster,
        Self::Endpoint,
        Self::Listener,
        Self::Route,
        Self::ServiceEntry,
    ];

    pub fn type_url(self) -> &'static str {
        match self {
            Self::Cluster => "type.googleapis.com/envoy.config.cluster.v3.Cluster",
            Self::Endpoint => "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
            Self::Listener => "type.googleapis.com/envoy.config.listener.v3.Listener",
            Self::Route => "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
            // Istio names its types so, and packs them in a message of its own.
            Self::ServiceEntry => "networking.istio.io/v1/ServiceEntry",
        }
    }

    fn message_url(self) -> &'static str {
        match self {
            Self::Cluster | Self::Endpoint | Self::Listener | Self::Route => self.type_url(),
            Self::ServiceEntry => service_entry::RESOURCE_URL,
        }
    }

    /// A message of this type as an `Any`.
    pub(super) fn pack(self, body: Bytes) -> pb::Any {
        pb::Any {
            type_url: self.message_url().to_owned(),
            value: body,
        }
    }

    pub fn from_type_url(type_url: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.type_url() == type_url)
    }

    /// Whether a first request without names asks for everything.
    pub fn has_legacy_wildcard(self) -> bool {
        match self {
            Self::Cluster | Self::Listener | Self::ServiceEntry => true,
            Self::Endpoint | Self::Route => false,
        }
    }

    /// Whether the type is there for those who ask by name only: an Envoy that asks for every listener means its own,
    /// and not one a service.
    pub fn is_by_name(self) -> bool {
        match self {
            Self::Listener | Self::Route => true,
            Self::Cluster | Self::Endpoint | Self::ServiceEntry => false,
        }
    }

    /// Whether a state-of-the-world response says with what it leaves out that it is gone.
    pub fn is_whole(self) -> bool {
        match self {
            Self::Cluster | Self::Listener | Self::ServiceEntry => true,
            Self::Endpoint | Self::Route => false,
        }
    }

    /// Whether a client of the type never says what it holds: istiod comes back with the words of its very first request.
    pub fn is_held_silently(self) -> bool {
        match self {
            Self::ServiceEntry => true,
            Self::Cluster | Self::Endpoint | Self::Listener | Self::Route => false,
        }
    }
}

/// One of something for each type, in the order of [`ResourceType::ALL`], which is that of their declaration.
#[derive(Clone, Debug, Default)]
pub struct PerType<T>([T; ResourceType::ALL.len()]);

impl<T> PerType<T> {
    pub fn new(make: impl FnMut(ResourceType) -> T) -> Self {
        Self(ResourceType::ALL.map(make))
    }

    pub fn of(&self, kind: ResourceType) -> &T {
        &self.0[kind as usize]
    }

    pub fn of_mut(&mut self, kind: ResourceType) -> &mut T {
        &mut self.0[kind as usize]
    }

    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter()
    }
}

/// A hash of the content: equal on every replica and across restarts, so that a client that reconnects anywhere is
/// sent only what changed. 16 hex digits on the wire, because reconnect requests carry one a resource.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(u64);

impl Version {
    /// Our own messages encode in one way only (no hash maps), so equal content has equal bytes.
    pub(super) fn of(bytes: &[u8], parent: Option<Self>) -> Self {
        Self(xxh3_64_with_seed(bytes, SCHEMA ^ parent.map_or(0, |parent| parent.0)))
    }

    /// The version of several resources together, in whatever order they are. The version of one stands for its name too,
    /// which is in its bytes.
    pub(crate) fn of_all(versions: impl Iterator<Item = Self>) -> Self {
        let mut versions: Vec<Self> = versions.collect();
        versions.sort_unstable();
        let bytes: Vec<u8> = versions.iter().flat_map(|version| version.0.to_le_bytes()).collect();
        Self::of(&bytes, None)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for Version {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u64::from_str_radix(text, 16).map(Self)
    }
}

impl Serialize for Version {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A resource as every stream sends it.
#[derive(Clone, Debug)]
pub struct Resource {
    pub name: Arc<str>,
    pub version: Version,
    /// The whole `DeltaDiscoveryResponse.resources` field, tag and length included: a response is a concatenation.
    pub field: Bytes,
    /// The whole `DiscoveryResponse.resources` field. The number of that field is that of the body in a delta resource,
    /// so these are some of the same bytes.
    pub any_field: Bytes,
}

impl Resource {
    pub(super) fn new(kind: ResourceType, name: Arc<str>, body: Bytes, parent: Option<Version>) -> Self {
        let version = Version::of(&body, parent);
        let any = kind.pack(body);
        let body = prost::encoding::message::encoded_len(BODY_TAG, &any);
        let resource = pb::Resource {
            version: version.to_string(),
            resource: Some(any),
            name: name.to_string(),
        };
        let after = prost::encoding::string::encoded_len(NAME_TAG, &resource.name);
        let field: Bytes = pb::ResourceField {
            resource: Some(resource),
        }
        .encode_to_vec()
        .into();
        let end = field.len() - after;
        let any_field = field.slice(end - body..end);
        Self {
            name,
            version,
            field,
            any_field,
        }
    }

    /// What says that there is nothing, to a client that would take silence for a delay: no endpoints, or no route.
    /// Clusters and entries have no such content: a client drops one by itself.
    pub(crate) fn void(kind: ResourceType, name: &Arc<str>) -> Option<Self> {
        let body = match kind {
            ResourceType::Cluster | ResourceType::ServiceEntry => return None,
            ResourceType::Endpoint => pb::ClusterLoadAssignment {
                cluster_name: name.to_string(),
                endpoints: Vec::new(),
            }
            .encode_to_vec(),
            ResourceType::Listener => api_listener::refusing(name),
            ResourceType::Route => api_listener::no_route(name).encode_to_vec(),
        };
        Some(Self::new(kind, name.clone(), body.into(), None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_type_has_its_own() {
        let types = PerType::new(|kind| kind);
        assert!(ResourceType::ALL.into_iter().all(|kind| *types.of(kind) == kind));
        assert_eq!(types.iter().count(), ResourceType::ALL.len());
    }

    #[test]
    fn a_version_is_16_hex_digits_and_reads_back() {
        let version = Version::of(b"x", None);
        let text = version.to_string();
        assert_eq!((text.len(), text.parse()), (16, Ok(version)));
        assert!("not hex".parse::<Version>().is_err());
    }

    #[test]
    fn the_version_of_several_is_that_of_what_they_are_and_not_of_their_order() {
        let [a, b, c] = [b"a", b"b", b"c"].map(|bytes| Version::of(bytes, None));
        let of = |versions: [Version; 2]| Version::of_all(versions.into_iter());
        assert_eq!(of([a, b]), of([b, a]));
        assert_ne!(of([a, b]), of([a, c]));
    }

    #[test]
    fn a_version_depends_on_the_parent() {
        let parent = Version::of(b"cluster", None);
        assert_ne!(Version::of(b"x", None), Version::of(b"x", Some(parent)));
    }
}

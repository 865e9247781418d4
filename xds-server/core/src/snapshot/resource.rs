//! A published resource: its bytes, and the hash by which clients know what they hold.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use serde::{Serialize, Serializer};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::pb;

/// Changes when the meaning of a version does, so that no client is believed to hold what it does not.
const SCHEMA: u64 = 1;

/// The types we publish, in the order in which a change must arrive (make before break:
/// <https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol#eventual-consistency-considerations>).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ResourceType {
    Cluster,
    Endpoint,
}

impl ResourceType {
    pub const ALL: [Self; 2] = [Self::Cluster, Self::Endpoint];

    pub fn type_url(self) -> &'static str {
        match self {
            Self::Cluster => "type.googleapis.com/envoy.config.cluster.v3.Cluster",
            Self::Endpoint => "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
        }
    }

    pub fn from_type_url(type_url: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.type_url() == type_url)
    }

    /// Whether a first request without names asks for everything.
    pub fn has_legacy_wildcard(self) -> bool {
        match self {
            Self::Cluster => true,
            Self::Endpoint => false,
        }
    }
}

/// A hash of the content: equal on every replica and across restarts, so that a client that reconnects anywhere is
/// sent only what changed. 16 hex digits on the wire, because reconnect requests carry one a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(u64);

impl Version {
    /// Our own messages encode in one way only (no hash maps), so equal content has equal bytes.
    pub(super) fn of(bytes: &[u8], parent: Option<Self>) -> Self {
        Self(xxh3_64_with_seed(bytes, SCHEMA ^ parent.map_or(0, |parent| parent.0)))
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
}

impl Resource {
    pub(super) fn new(kind: ResourceType, name: Arc<str>, body: Bytes, parent: Option<Version>) -> Self {
        let version = Version::of(&body, parent);
        let any = pb::Any {
            type_url: kind.type_url().to_owned(),
            value: body,
        };
        let resource = pb::Resource {
            version: version.to_string(),
            resource: Some(any),
            name: name.to_string(),
        };
        let field = pb::ResourceField {
            resource: Some(resource),
        }
        .encode_to_vec()
        .into();
        Self { name, version, field }
    }

    /// The assignment that clears the hosts of a cluster that is not ours any more: a removal would not.
    pub(crate) fn cleared(name: Arc<str>) -> Self {
        let assignment = pb::ClusterLoadAssignment {
            cluster_name: name.to_string(),
            endpoints: Vec::new(),
        };
        Self::new(ResourceType::Endpoint, name, assignment.encode_to_vec().into(), None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_16_hex_digits_and_reads_back() {
        let version = Version::of(b"x", None);
        let text = version.to_string();
        assert_eq!((text.len(), text.parse()), (16, Ok(version)));
        assert!("not hex".parse::<Version>().is_err());
    }

    #[test]
    fn a_version_depends_on_the_parent() {
        let parent = Version::of(b"cluster", None);
        assert_ne!(Version::of(b"x", None), Version::of(b"x", Some(parent)));
    }
}

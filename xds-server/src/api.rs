//! What the admin API answers, as the server writes it and the command line reads it.
//!
//! One set of types for both ends keeps them from drifting apart. Times are RFC 3339 in UTC, durations are written the
//! way the configuration writes them (`1s`, `250ms`), and every list is in a stable order. Fields are only ever added:
//! a reader ignores what it does not know.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, SystemTime};

use leadsman_core::model;
use leadsman_registry as registry;
pub use leadsman_registry::{Breaker, Counters, Overdue};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::proxies::Refusal;

mod explanation;
mod listing;
mod resources;

pub use explanation::{
    Delivery, ExplainedEndpoint, ExplainedProxy, ExplainedSource, Explanation, InIstio, RejectedRecord, Resources,
    Settings,
};

pub use listing::{ListedEndpoint, SourceDetail};
pub use resources::{ProxyResource, ProxyResources, SyncStatus, TypeResources};

/// A moment, written as RFC 3339 with milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub SystemTime);

impl Time {
    /// How long ago this was; zero for a moment to come.
    pub fn age(self, now: SystemTime) -> Duration {
        now.duration_since(self.0).unwrap_or_default()
    }
}

impl From<SystemTime> for Time {
    fn from(at: SystemTime) -> Self {
        Self(at)
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_rfc3339_millis(self.0).fmt(f)
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        humantime::parse_rfc3339(&text).map(Self).map_err(de::Error::custom)
    }
}

/// Where a source stands: how its sessions go ([`registry::SourceState`]), or `Suspect` while endpoints are held that a
/// registry that is not the one it was does not list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceState {
    Connecting,
    Syncing,
    Live,
    Degraded,
    Suspect,
}

impl SourceState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Syncing => "syncing",
            Self::Live => "live",
            Self::Degraded => "degraded",
            Self::Suspect => "suspect",
        }
    }
}

impl fmt::Display for SourceState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl From<registry::SourceState> for SourceState {
    fn from(state: registry::SourceState) -> Self {
        match state {
            registry::SourceState::Connecting => Self::Connecting,
            registry::SourceState::Syncing => Self::Syncing,
            registry::SourceState::Live => Self::Live,
            registry::SourceState::Degraded => Self::Degraded,
        }
    }
}

/// One element of `GET /api/v1/sources`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    pub name: String,
    /// `file`, `etcd`, …
    pub kind: String,
    pub state: SourceState,
    /// When `state` was entered.
    pub since: Time,
    #[serde(default)]
    pub breaker: Breaker,
    /// Whether a full listing has ever arrived.
    pub synced: bool,
    /// The registry's own revision, zero where it has none.
    pub revision: u64,
    pub last_event: Option<Time>,
    pub last_error: Option<String>,
    pub counters: Counters,
    /// Instances that are listed as alive although their leases ran out.
    #[serde(default)]
    pub overdue: Overdue,
    /// Endpoints that are kept although a registry that is not the one it was does not list them: more than none makes
    /// the source suspect.
    #[serde(default)]
    pub held: u64,
    /// Records that belong to no service that could be named.
    #[serde(default)]
    pub unattributed: Vec<RejectedRecord>,
}

impl From<&registry::SourceStatus> for Source {
    fn from(status: &registry::SourceStatus) -> Self {
        Self {
            name: status.name.to_string(),
            kind: status.kind.to_owned(),
            state: status.state.into(),
            since: status.since.into(),
            breaker: status.breaker,
            synced: status.synced,
            revision: status.revision,
            last_event: status.last_event.map(Time),
            last_error: status.last_error.clone(),
            counters: status.counters,
            overdue: status.overdue,
            held: 0,
            unattributed: Vec::new(),
        }
    }
}

/// One element of `GET /api/v1/services`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceSummary {
    pub name: String,
    /// The name Envoy knows the service by.
    pub cluster: String,
    /// The sources that list the service, in the order they are asked.
    pub sources: Vec<String>,
    /// Endpoints in Envoy's assignment.
    pub endpoints: u64,
    /// Of these, the ones Envoy sends new requests to.
    pub healthy: u64,
    /// Records that could not become an endpoint.
    pub rejected: u64,
    /// The version of the assignment, as Envoy shows it.
    pub version: String,
}

/// `GET /api/v1/services/NAME`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceDetail {
    #[serde(flatten)]
    pub summary: ServiceSummary,
    /// What Envoy is told, in the order of the addresses.
    pub members: Vec<Endpoint>,
}

/// An endpoint as Envoy is told about it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Endpoint {
    /// `host:port`.
    pub address: String,
    /// Envoy's word: unknown, healthy, degraded, draining, unhealthy.
    pub health: String,
    pub weight: u32,
    pub locality: Locality,
    pub source: String,
    pub metadata: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Locality {
    pub region: String,
    pub zone: String,
    pub sub_zone: String,
}

impl From<&model::Locality> for Locality {
    fn from(locality: &model::Locality) -> Self {
        Self {
            region: locality.region.clone(),
            zone: locality.zone.clone(),
            sub_zone: locality.sub_zone.clone(),
        }
    }
}

impl fmt::Display for Locality {
    /// `region/zone/sub_zone` without the unset parts at the end, `-` when nothing is set.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let joined = format!("{}/{}/{}", self.region, self.zone, self.sub_zone);
        match joined.trim_end_matches('/') {
            "" => f.pad("-"),
            text => f.pad(text),
        }
    }
}

/// One element of `GET /api/v1/proxies`, and `GET /api/v1/proxies/ID`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proxy {
    /// Unique among the streams of this server: two streams of one node have two ids.
    pub id: String,
    pub node_id: String,
    /// The cluster the node says it belongs to.
    pub cluster: String,
    pub locality: Locality,
    pub user_agent: String,
    /// `host:port` of the connection.
    pub peer: String,
    pub connected_since: Time,
    /// Whether its stream said how it stands; `types` is empty where it was too busy to.
    #[serde(default)]
    pub answering: bool,
    /// One an xDS type, in the order of their urls.
    pub types: Vec<ProxyType>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProxyType {
    pub type_url: String,
    /// The worst of its resources.
    #[serde(default)]
    pub status: SyncStatus,
    /// Resources that the proxy wants and that exist.
    #[serde(default)]
    pub resources: u64,
    /// Of these, the ones of which what is published is still to be sent.
    #[serde(default)]
    pub not_sent: u64,
    /// Whether the proxy wants every resource of the type.
    pub wildcard: bool,
    /// Resources in the subscription.
    pub subscribed: u64,
    /// Resources sent and not answered yet.
    pub sent: u64,
    pub acked: u64,
    /// Resources refused and not replaced since.
    pub rejected: u64,
    /// Of the refused resources, as many as fit.
    #[serde(default)]
    pub quarantined: Vec<Quarantined>,
    pub last_nack: Option<Nack>,
    /// How long the oldest response has waited for its answer.
    pub oldest_unacked_ms: Option<u64>,
}

/// A resource that a proxy refused: it is not sent again before its content changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantined {
    pub name: String,
    pub version: String,
}

/// A refusal in the proxy's own words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nack {
    pub at: Time,
    pub message: String,
}

impl From<Refusal> for Nack {
    fn from(Refusal { at, message }: Refusal) -> Self {
        Self { at: at.into(), message }
    }
}

/// The body of every answer that is not a success.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    pub error: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_survive_the_wire_to_the_millisecond() {
        let time = Time(SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123));
        let text = serde_json::to_string(&time).unwrap();
        assert_eq!(text, r#""2023-11-14T22:13:20.123Z""#);
        assert_eq!(serde_json::from_str::<Time>(&text).unwrap(), time);
    }

    #[test]
    fn a_locality_shows_only_what_is_set() {
        let locality = |region: &str, zone: &str| Locality {
            region: region.to_owned(),
            zone: zone.to_owned(),
            sub_zone: String::new(),
        };
        assert_eq!(locality("eu", "a").to_string(), "eu/a");
        assert_eq!(locality("", "").to_string(), "-");
    }
}

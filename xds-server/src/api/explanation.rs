//! The answer to "why": everything that led to what Envoy is told about one service.

use std::fmt;

use leadsman_core::policy::{Merge, Protocol, ServiceSettings};
use serde::{Deserialize, Serialize};

use super::{Locality, SourceState, Time};

/// `GET /api/v1/explain/NAME`: why every endpoint of a service is there, or is not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    pub service: String,
    pub cluster: String,
    pub settings: Settings,
    /// Every source the service may come from, in the order they are asked.
    pub sources: Vec<ExplainedSource>,
    /// Every endpoint any source knows, whether or not Envoy is told about it, in the order of the addresses.
    pub endpoints: Vec<ExplainedEndpoint>,
    /// Records that could not become an endpoint.
    pub rejected: Vec<RejectedRecord>,
    pub resources: Resources,
    /// How the service appears in Istio; `None` when it does not.
    #[serde(default)]
    pub istio: Option<InIstio>,
    /// Every connected proxy, in the order of their ids.
    pub proxies: Vec<ExplainedProxy>,
}

/// The settings a service ended up with, every default filled in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    pub protocol: Protocol,
    pub connect_timeout: String,
    pub timeout: String,
    /// Empty means every source in the order of their names.
    pub sources: Vec<String>,
    pub merge: Merge,
}

impl From<&ServiceSettings> for Settings {
    fn from(settings: &ServiceSettings) -> Self {
        Self {
            protocol: settings.protocol,
            connect_timeout: humantime::format_duration(settings.connect_timeout).to_string(),
            timeout: humantime::format_duration(settings.timeout).to_string(),
            sources: settings.sources.iter().map(ToString::to_string).collect(),
            merge: settings.merge.clone(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainedSource {
    pub name: String,
    pub state: SourceState,
    /// When the source last said anything.
    pub last_event: Option<Time>,
    /// Whether the source lists the service: `None` while it has not said.
    pub listed: Option<bool>,
    /// What the merge made of it, such as `chosen` or `shadowed by shop`.
    pub decision: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExplainedEndpoint {
    /// `host:port`.
    pub address: String,
    /// Whether Envoy is told about it.
    pub in_envoy: bool,
    /// Why it is there, or is not.
    pub decision: String,
    /// Envoy's word: unknown, healthy, degraded, draining, unhealthy.
    pub health: String,
    pub health_reason: String,
    /// The registry's own number.
    pub weight_raw: f64,
    /// What Envoy is told.
    pub weight: u32,
    pub weight_reason: String,
    pub locality: Locality,
    pub source: String,
    /// The layout that understood the record, such as `kratos`.
    pub layout: String,
    /// The record's place in its registry: an etcd key, or `file.yaml:line`.
    pub record: String,
    /// The record itself, cut.
    pub raw: String,
    pub revision: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RejectedRecord {
    pub source: String,
    pub record: String,
    pub layout: String,
    pub raw: String,
    pub reason: String,
}

/// The versions of what is published for a service; `None` when nothing is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    pub cluster_version: Option<String>,
    pub assignment_version: Option<String>,
}

/// What istiod is told of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InIstio {
    pub namespace: String,
    pub host: String,
    pub port: u32,
    /// `host:port` of those that take requests, in their order: an entry of Istio's has no health.
    pub endpoints: Vec<String>,
}

/// How far a proxy is with a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Delivery {
    #[serde(rename = "acked")]
    Acked,
    /// Sent, and neither accepted nor refused yet.
    #[serde(rename = "sent")]
    Sent,
    /// Refused by the proxy: what it had before is still in use.
    #[serde(rename = "rejected")]
    Rejected,
    /// Subscribed, and not sent yet.
    #[serde(rename = "pending")]
    Pending,
    #[serde(rename = "not subscribed")]
    NotSubscribed,
}

impl Delivery {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Acked => "acked",
            Self::Sent => "sent",
            Self::Rejected => "rejected",
            Self::Pending => "pending",
            Self::NotSubscribed => "not subscribed",
        }
    }
}

impl fmt::Display for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainedProxy {
    pub id: String,
    pub cluster: Delivery,
    pub assignment: Delivery,
    /// The version of the assignment the proxy accepted last.
    pub version: Option<String>,
    /// What the proxy said when it refused.
    pub nack: Option<String>,
}

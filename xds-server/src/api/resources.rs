//! `GET /api/v1/proxies/ID/resources`: every resource one proxy wants, how it stands, and what it says.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Nack;
use crate::holdings::Status;

/// One proxy with all it should have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProxyResources {
    /// Unique among the streams of this server.
    pub id: String,
    pub node_id: String,
    /// The types the proxy asked for, in the order in which they are sent.
    pub types: Vec<TypeResources>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TypeResources {
    pub type_url: String,
    /// The worst of the resources.
    pub status: SyncStatus,
    /// The last refusal of any resource of the type.
    pub last_nack: Option<Nack>,
    /// In the order of their names.
    pub resources: Vec<ProxyResource>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProxyResource {
    pub name: String,
    /// `None` for a name that the proxy asks for and that does not exist.
    pub status: Option<SyncStatus>,
    /// The version that is published.
    pub version: Option<String>,
    /// The version the proxy was sent last, as far as that is known.
    pub sent_version: Option<String>,
    /// The resource that is published, as Envoy's `/config_dump` shows it.
    pub content: Value,
}

/// Where a proxy stands: Envoy's `ConfigStatus`, in the words of the command line and of CSDS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum SyncStatus {
    #[default]
    Synced,
    NotSent,
    /// Sent, and not answered yet.
    Stale,
    /// Refused: what the proxy had before is in use.
    Error,
}

impl SyncStatus {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Synced => "SYNCED",
            Self::NotSent => "NOT SENT",
            Self::Stale => "STALE",
            Self::Error => "ERROR",
        }
    }
}

impl fmt::Display for SyncStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl From<Status> for SyncStatus {
    fn from(status: Status) -> Self {
        match status {
            Status::Synced => Self::Synced,
            Status::NotSent => Self::NotSent,
            Status::Stale => Self::Stale,
            Status::Error => Self::Error,
        }
    }
}

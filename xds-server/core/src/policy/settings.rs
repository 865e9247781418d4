//! What an operator may say about a service.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::SourceName;

/// What the endpoints of a service speak.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    #[default]
    Http1,
    Http2,
    /// HTTP/2 with gRPC on it.
    Grpc,
    Tcp,
}

/// What to do when several sources know a service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Merge {
    /// The first source, in order, that lists the service at all.
    #[default]
    Priority,
    /// Every source; one address known to several is taken from the healthiest, then from the first.
    Union,
    /// The first source, in order, with a usable endpoint; without any, as `priority`.
    Fallback,
}

/// The settings of one service, with every default filled in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ServiceSettings {
    pub protocol: Protocol,
    /// Cluster `connect_timeout`.
    pub connect_timeout: Duration,
    /// Route `timeout`, for clients that take their routes from us.
    pub timeout: Duration,
    /// The sources to ask, most trusted first; empty means every source in the order of their names.
    pub sources: Vec<SourceName>,
    pub merge: Merge,
}

impl Default for ServiceSettings {
    fn default() -> Self {
        Self {
            protocol: Protocol::default(),
            connect_timeout: Duration::from_secs(1),
            timeout: Duration::from_secs(15),
            sources: Vec::new(),
            merge: Merge::default(),
        }
    }
}

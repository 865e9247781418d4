//! What an operator may say about a service.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Istio;
use crate::model::{NameError, SourceName};

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
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Merge {
    /// The first source, in order, that lists the service at all.
    #[default]
    Priority,
    /// Every source; one address known to several is taken from the healthiest, then from the first.
    Union,
    /// The first source, in order, with a usable endpoint; without any, as `priority`.
    Fallback,
    /// The sources that are named, each with its part of the traffic; the others with nothing.
    Percentage(Percentages),
}

/// How much of the traffic each source gets, in percent; the parts make a hundred.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<String, u8>", into = "BTreeMap<SourceName, u8>")]
pub struct Percentages(BTreeMap<SourceName, u8>);

/// Why something is no division of the traffic.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PercentagesError {
    #[error("the percentages make {0}, not 100")]
    Sum(u32),
    #[error("{0}")]
    Name(NameError),
}

impl Percentages {
    /// # Errors
    /// [`PercentagesError::Sum`] when they do not make a hundred.
    pub fn new(parts: BTreeMap<SourceName, u8>) -> Result<Self, PercentagesError> {
        let sum = parts.values().map(|part| u32::from(*part)).sum();
        if sum == 100 {
            Ok(Self(parts))
        } else {
            Err(PercentagesError::Sum(sum))
        }
    }

    /// The part of a source, zero of one that is not named.
    pub fn of(&self, source: &SourceName) -> u8 {
        self.0.get(source).copied().unwrap_or_default()
    }

    /// The sources that are named, with their parts.
    pub fn iter(&self) -> impl Iterator<Item = (&SourceName, u8)> {
        self.0.iter().map(|(source, part)| (source, *part))
    }
}

impl TryFrom<BTreeMap<String, u8>> for Percentages {
    type Error = PercentagesError;

    fn try_from(parts: BTreeMap<String, u8>) -> Result<Self, PercentagesError> {
        let named = parts
            .into_iter()
            .map(|(name, part)| Ok((SourceName::new(&name)?, part)));
        let named: Result<BTreeMap<_, _>, _> = named.collect();
        Self::new(named.map_err(PercentagesError::Name)?)
    }
}

impl From<Percentages> for BTreeMap<SourceName, u8> {
    fn from(percentages: Percentages) -> Self {
        percentages.0
    }
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
    /// Whether endpoints of one weight make a locality of their own, for clients that weigh localities only.
    pub weight_localities: bool,
    /// How the service appears in Istio; it does not without.
    pub istio: Option<Istio>,
}

impl Default for ServiceSettings {
    fn default() -> Self {
        Self {
            protocol: Protocol::default(),
            connect_timeout: Duration::from_secs(1),
            timeout: Duration::from_secs(15),
            sources: Vec::new(),
            merge: Merge::default(),
            weight_localities: false,
            istio: None,
        }
    }
}

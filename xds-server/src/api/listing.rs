//! `GET /api/v1/sources/NAME`: what one source lists, in the registry's own numbers.

use std::collections::BTreeMap;

use leadsman_core::model::{self, Presence, ServiceName};
use serde::{Deserialize, Serialize};

use super::{Locality, Source};

/// One source with its services.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SourceDetail {
    #[serde(flatten)]
    pub source: Source,
    /// `None` while the source has not answered.
    pub services: Option<BTreeMap<String, Vec<ListedEndpoint>>>,
}

/// An endpoint as its registry lists it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ListedEndpoint {
    /// `host:port`.
    pub address: String,
    /// The protocol the instance registered the address with, if it named one.
    #[serde(default)]
    pub scheme: Option<String>,
    /// Envoy's word: unknown, healthy, degraded, draining, unhealthy.
    pub health: String,
    /// The registry's own number.
    pub weight: f64,
    #[serde(default)]
    pub locality: Locality,
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
}

impl SourceDetail {
    pub(crate) fn new(source: Source, listed: Presence<BTreeMap<ServiceName, Vec<model::Endpoint>>>) -> Self {
        let services = match listed {
            Presence::Unknown => None,
            Presence::Known(services) => Some(services),
        };
        let shown = |(name, endpoints): (ServiceName, Vec<model::Endpoint>)| {
            (name.to_string(), endpoints.iter().map(ListedEndpoint::from).collect())
        };
        Self {
            source,
            services: services.map(|services| services.into_iter().map(shown).collect()),
        }
    }
}

impl From<&model::Endpoint> for ListedEndpoint {
    fn from(endpoint: &model::Endpoint) -> Self {
        Self {
            address: endpoint.address.to_string(),
            scheme: endpoint.scheme.as_ref().map(ToString::to_string),
            health: endpoint.health.to_string(),
            weight: endpoint.weight.get(),
            locality: (&endpoint.locality).into(),
            metadata: endpoint.metadata.clone(),
        }
    }
}

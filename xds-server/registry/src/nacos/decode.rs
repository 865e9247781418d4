//! The instances of a service, as records.
//!
//! Pure. The data is hostile: nothing in it can panic, and a bad instance is the rejection of itself.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use leadsman_core::model::{Endpoint, Health, NameError, Provenance, Rejection, ServiceName};
use serde_json::value::RawValue;

use super::config::{Config, Naming};
use super::layout::Instance;
use crate::held::Records;
use crate::layout::entry::{Object, brief, port, text};

/// A service by the two names Nacos knows it by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) group: Arc<str>,
    pub(super) name: Arc<str>,
}

impl Place {
    pub(super) fn new(group: &str, name: &str) -> Self {
        Self {
            group: group.into(),
            name: name.into(),
        }
    }

    /// What the service is called here.
    pub(super) fn service(&self, naming: Naming) -> Result<ServiceName, NameError> {
        match naming {
            Naming::Name => ServiceName::new(&self.name),
            Naming::Grouped => ServiceName::new(&self.to_string()),
        }
    }

    /// Whether the name is one under which Dubbo keeps what nobody can connect to.
    pub(super) fn is_dubbo_bookkeeping(&self) -> bool {
        let category = self.name.split_once(':').map(|(category, _)| category);
        category.is_some_and(|category| matches!(category, "consumers" | "configurators" | "routers"))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@@{}", self.group, self.name)
    }
}

/// What an instance is within its service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Identity {
    ip: String,
    port: i64,
    cluster: String,
}

impl Identity {
    fn of(fields: &Object) -> Self {
        Self {
            ip: text(fields, "ip").to_owned(),
            port: port(fields.get("port")),
            cluster: text(fields, "clusterName").to_owned(),
        }
    }
}

/// What is true while Nacos shows every instance as healthy because too few are.
#[derive(Debug)]
pub(super) enum Truth {
    /// These are healthy.
    Told(BTreeSet<Identity>),
    /// Some versions pretend however they are asked.
    Untold,
}

/// All instances of a service at one moment.
#[derive(Debug, Default)]
pub(super) struct Content {
    pub(super) hosts: Vec<Box<RawValue>>,
    /// While a threshold is reached.
    pub(super) truth: Option<Truth>,
    /// The server's clock when it wrote them.
    pub(super) written: i64,
}

const PRETENDED: (Health, &str) = (
    Health::Unhealthy,
    "healthy=false; Nacos shows it as healthy, because its protectThreshold is reached",
);
/// Envoy spreads over all of them when all are degraded, which is what the threshold is for.
const UNTOLD: (Health, &str) = (
    Health::Degraded,
    "protectThreshold is reached, and this Nacos does not tell who is healthy",
);

/// The instances that a list names.
pub(super) fn identities(hosts: &[Box<RawValue>]) -> BTreeSet<Identity> {
    let fields = hosts.iter().filter_map(|host| serde_json::from_str(host.get()).ok());
    fields.map(|fields: Object| Identity::of(&fields)).collect()
}

pub(super) fn records(config: &Config, place: &Place, content: &Content) -> Records {
    let mut records = Records::new();
    for (index, host) in content.hosts.iter().enumerate() {
        let Ok(fields) = serde_json::from_str::<Object>(host.get()) else {
            let provenance = Provenance {
                // A place in a list names another instance tomorrow.
                stable: false,
                ..Provenance::new(&format!("{place}#{index}"), "", host.get().as_bytes(), 0)
            };
            let rejection = Rejection {
                provenance: provenance.clone(),
                reason: "the instance is not a JSON object".to_owned(),
            };
            records.insert(provenance.record, Box::from([Err(rejection)]));
            continue;
        };
        let identity = Identity::of(&fields);
        if !config.clusters.is_empty() && !config.clusters.contains(&identity.cluster) {
            continue;
        }
        let (ip, cluster) = (brief(&identity.ip), brief(&identity.cluster));
        let record = format!("{place}/{ip}#{}#{cluster}", identity.port);
        let believed = match &content.truth {
            Some(Truth::Told(healthy)) if !healthy.contains(&identity) => Some(PRETENDED),
            Some(Truth::Untold) => Some(UNTOLD),
            Some(Truth::Told(_)) | None => None,
        };
        let outcomes = instance(config, place, (&fields, host.get()), &record, believed);
        // Two clients may register one instance; they are told apart by what they say only.
        let merged = records
            .remove(record.as_str())
            .unwrap_or_default()
            .into_iter()
            .chain(outcomes);
        records.insert(record.into(), merged.collect());
    }
    records
}

fn instance(
    config: &Config,
    place: &Place,
    (fields, raw): (&Object, &str),
    record: &str,
    believed: Option<(Health, &'static str)>,
) -> Vec<Result<Endpoint, Rejection>> {
    let instance = Instance {
        service: &place.name,
        fields,
    };
    let layout = instance.layout(config.layout);
    let (mut health, mut reason) = instance.health();
    if let Some(believed) = believed.filter(|_| health == Health::Healthy) {
        (health, reason) = believed;
    }
    let weight = instance.weight(layout);
    let tags = instance.labels(layout);
    let provenance = Provenance::new(record, layout.as_str(), raw.as_bytes(), 0);
    let places = instance.places(layout).into_iter();
    let outcomes = places.map(|place| match place {
        Ok(place) => Ok(Endpoint {
            weight,
            health,
            health_reason: reason.into(),
            locality: tags.locality.clone(),
            scheme: place.scheme,
            metadata: tags.metadata.clone(),
            ..Endpoint::new(place.address, provenance.clone())
        }),
        Err(reason) => Err(Rejection {
            provenance: provenance.clone(),
            reason,
        }),
    });
    outcomes.collect()
}

#[cfg(test)]
mod tests;

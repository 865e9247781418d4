//! Answers of the HTTP API, as records.
//!
//! Pure. The data is hostile: nothing in it can panic, and a bad instance is the rejection of itself. Only an answer
//! that is no list at all is refused as a whole, and refused is not empty.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use leadsman_core::model::{Endpoint, Provenance, Rejection, ServiceName};
use serde_json::Value;
use serde_json::value::RawValue;

use super::config::Config;
use super::health::judge;
use super::layout::Instance;
use crate::held::{Outcomes, Records};
use crate::layout::entry::{Object, brief, list, map, text};

/// The names in the catalog.
pub(super) fn catalog(body: &[u8]) -> Result<BTreeSet<String>, String> {
    let services: BTreeMap<String, &RawValue> =
        serde_json::from_slice(body).map_err(|error| brief(&format!("the catalog can't be read: {error}")))?;
    Ok(services.into_keys().collect())
}

/// The identities of the nodes in an answer; for the service of the servers, who the cluster is.
pub(super) fn nodes(body: &[u8]) -> Result<BTreeSet<String>, String> {
    let id = |entry: &&RawValue| {
        let entry: Object = serde_json::from_str(entry.get()).ok()?;
        let id = text(map(&entry, "Node")?, "ID").to_owned();
        (!id.is_empty()).then_some(id)
    };
    Ok(entries(body)?.iter().filter_map(id).collect())
}

/// The instances in an answer about a service, by node and ID. Consul does not mind upper and lower case and answers with all
/// that differ in nothing else; the catalog lists only names that somebody bears, and so does this.
pub(super) fn instances_of(config: &Config, service: &ServiceName, body: &[u8]) -> Result<Records, String> {
    let bears = |entry: &&RawValue| {
        let entry: Option<Object> = serde_json::from_str(entry.get()).ok();
        let own = entry.as_ref().and_then(|entry| map(entry, "Service"));
        own.is_none_or(|own| text(own, "Service") == service.as_str())
    };
    if entries(body)?.iter().any(bears) {
        instances(config, body)
    } else {
        Ok(Records::new())
    }
}

pub(super) fn instances(config: &Config, body: &[u8]) -> Result<Records, String> {
    let mut records = Records::new();
    for (place, entry) in entries(body)?.iter().enumerate() {
        let (name, outcomes) = instance(config, entry.get(), place);
        // Slashes in names can make two of them look alike, and none may hide the other.
        let all = records.remove(&name).unwrap_or_default().into_iter().chain(outcomes);
        records.insert(name, all.collect());
    }
    Ok(records)
}

fn entries(body: &[u8]) -> Result<Vec<&RawValue>, String> {
    // An empty list is `[]`; nothing else, not even `null`, says that there is no instance.
    serde_json::from_slice(body).map_err(|error| brief(&format!("the instances can't be read: {error}")))
}

fn instance(config: &Config, raw: &str, place: usize) -> (Arc<str>, Outcomes) {
    let unreadable = |reason: &str| {
        let provenance = Provenance {
            // A place in a list names another instance tomorrow.
            stable: false,
            ..Provenance::new(&format!("#{place}"), "", raw.as_bytes(), 0)
        };
        let rejection = Rejection {
            provenance: provenance.clone(),
            reason: reason.to_owned(),
        };
        (provenance.record, Box::from([Err(rejection)]))
    };
    let Ok(entry) = serde_json::from_str::<Object>(raw) else {
        return unreadable("the instance is not a JSON object");
    };
    let (Some(node), Some(service)) = (map(&entry, "Node"), map(&entry, "Service")) else {
        return unreadable("the instance has no Node or no Service");
    };
    let record = format!("{}/{}", text(node, "Node"), text(service, "ID"));
    let instance = Instance {
        node,
        service,
        tagged_address: config.tagged_address.as_deref(),
    };
    let layout = instance.layout(config.layout);
    let verdict = judge(list(&entry, "Checks").unwrap_or_default());
    let pairs = instance.pairs(layout);
    let tags = instance.labels(layout, &pairs);
    let provenance = Provenance::new(&record, layout.as_str(), raw.as_bytes(), revision(service));
    let endpoint = |outcome: Result<super::layout::Place, String>| match outcome {
        Ok(place) => {
            let mut metadata = tags.metadata.clone();
            if place.secure {
                metadata.insert("secure".to_owned(), "true".to_owned());
            }
            Ok(Endpoint {
                weight: instance.weight(layout, &pairs, verdict.health),
                health: verdict.health,
                health_reason: verdict.reason.as_str().into(),
                locality: tags.locality.clone(),
                scheme: place.scheme,
                metadata,
                ..Endpoint::new(place.address, provenance.clone())
            })
        }
        Err(reason) => Err(Rejection {
            provenance: provenance.clone(),
            reason,
        }),
    };
    let outcomes = instance.places(layout, &pairs).into_iter().map(endpoint).collect();
    (provenance.record.clone(), outcomes)
}

/// When the registration was changed the last time.
fn revision(service: &Object) -> u64 {
    service.get("ModifyIndex").and_then(Value::as_u64).unwrap_or_default()
}

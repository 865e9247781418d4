//! dubbo-go, application level: `/services/<application>/<host>:<port>` -> a Go struct as JSON, names capitalised.
//!
//! One record has one endpoint a protocol, listed as JSON inside a metadata text. Weight 0 of the struct is Go's
//! "never set", and Dubbo itself takes it for 100; a 0 in the metadata was written by somebody, and means drain.

use leadsman_core::model::{Address, Endpoint, Health};
use serde_json::Value;

use crate::layout::Reading;
use crate::layout::entry::{Entry, Object, brief, flag, map, number, port, text, weight};
use crate::layout::tags::Tags;

const DEFAULT_WEIGHT: f64 = 100.0;
/// Dubbo's own plumbing, and what changes at every start.
const NO_TAGS: [&str; 9] = [
    "weight",
    "timestamp",
    "pid",
    "dubbo.endpoints",
    "dubbo.metadata-service.url-params",
    "dubbo.metadata-service.urls",
    "dubbo.metadata.revision",
    "dubbo.metadata.storage-type",
    "dubbo.tag",
];

pub(super) fn read(entry: &Entry<'_>) -> Reading {
    match entry.parent("services/") {
        Some(service) => Reading::Instances(service.to_owned(), instances(entry, service)),
        None => Entry::stray("/services/<application>/<host>:<port>"),
    }
}

fn instances(entry: &Entry<'_>, service: &str) -> Result<Vec<Result<Endpoint, String>>, String> {
    let object = entry.object()?;
    let name = text(object, "ServiceName");
    if !name.is_empty() && name != service && !service.ends_with(&format!("/{name}")) {
        return Err(brief(&format!(
            "the record says that its name is {name:?}, its key says {service:?}"
        )));
    }
    let metadata = map(object, "Metadata");
    let listed = metadata.map_or("", |metadata| text(metadata, "dubbo.endpoints"));
    // Dubbo falls back to the record's own port when the list can't be read, and so do we.
    let listed: Vec<Value> = serde_json::from_str(listed).unwrap_or_default();
    if listed.is_empty() {
        return instance(entry, object, (port(object.get("Port")), None)).map(|endpoint| vec![Ok(endpoint)]);
    }
    let endpoint = |listed: &Value| {
        let listed = listed
            .as_object()
            .ok_or("an item of dubbo.endpoints is not a JSON object")?;
        let protocol = Some(text(listed, "protocol")).filter(|protocol| !protocol.is_empty());
        instance(entry, object, (port(listed.get("port")), protocol))
    };
    Ok(listed.iter().map(endpoint).collect())
}

fn instance(entry: &Entry<'_>, object: &Object, at: (i64, Option<&str>)) -> Result<Endpoint, String> {
    let (port, protocol) = at;
    let address = Address::new(text(object, "Host"), port).map_err(|error| error.to_string())?;
    let metadata = map(object, "Metadata");
    let mut tags = Tags::default();
    let tag = text(object, "Tag");
    let fallback = metadata.map_or("", |metadata| text(metadata, "dubbo.tag"));
    tags.known("tag", if tag.is_empty() { fallback } else { tag });
    tags.known("group", text(object, "GroupName"));
    tags.put_all(metadata, &NO_TAGS);
    let set = number(object.get("Weight")).filter(|weight| *weight > 0.0);
    let raw = set.or_else(|| metadata.and_then(|metadata| number(metadata.get("weight"))));
    let (health, reason) = health(object);
    Ok(Endpoint {
        weight: weight(raw, DEFAULT_WEIGHT),
        health,
        health_reason: reason.into(),
        scheme: protocol.map(|protocol| brief(protocol).into()),
        metadata: tags.metadata,
        locality: tags.locality,
        ..entry.endpoint(address)
    })
}

fn health(object: &Object) -> (Health, &'static str) {
    match (flag(object, "Enable"), flag(object, "Healthy")) {
        (Some(false), _) => (Health::Draining, "Enable=false"),
        (Some(true) | None, Some(false)) => (Health::Unhealthy, "Healthy=false"),
        (Some(true) | None, Some(true)) => (Health::Healthy, "Healthy=true"),
        (Some(true) | None, None) => (Health::Unknown, ""),
    }
}

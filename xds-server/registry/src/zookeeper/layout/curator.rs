//! Curator's record, `/services/<service>/<id>` -> `{"name","id","address","port","sslPort","payload"}`, as Curator,
//! Spring Cloud and Dubbo's application level write it.
//!
//! Where a record has a plain port and one for TLS, the plain one is taken: Envoy speaks plaintext to what it is told of
//! here. Spring Cloud's load balancer takes a weight of zero or less for "not set"; in Dubbo zero means drain.

use leadsman_core::model::{Address, Endpoint, Health};
use serde_json::Value;

use crate::layout::Reading;
use crate::layout::entry::{Entry, Object, brief, flag, map, number, port, text, weight, weight_above_zero};
use crate::layout::tags::Tags;

const DEFAULT_WEIGHT: f64 = 1.0;
const DUBBO_DEFAULT_WEIGHT: f64 = 100.0;
/// What has been understood, and what frameworks put into a payload for themselves.
const NO_TAGS: [&str; 5] = ["weight", "instance_status", "@class", "id", "name"];
/// Dubbo's own plumbing, and what changes at every start.
const NO_DUBBO_TAGS: [&str; 9] = [
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

/// A record of Curator's or of Spring Cloud's.
pub(super) fn read(entry: &Entry<'_>) -> Reading {
    attributed(entry, |object| {
        instance(entry, object).map(|endpoint| vec![Ok(endpoint)])
    })
}

/// A record of a Dubbo application: an endpoint for each of its protocols.
pub(super) fn read_dubbo(entry: &Entry<'_>) -> Reading {
    attributed(entry, |object| dubbo_instances(entry, object))
}

type Instances = Result<Vec<Result<Endpoint, String>>, String>;

fn attributed(entry: &Entry<'_>, instances: impl FnOnce(&Object) -> Instances) -> Reading {
    let Some(service) = entry.parent("services/") else {
        return Entry::stray("<base>/<service>/<id>");
    };
    let read = entry.object().and_then(|object| {
        let name = text(object, "name").trim_matches('/');
        if !name.is_empty() && name != service && !service.ends_with(&format!("/{name}")) {
            return Err(brief(&format!(
                "the record says that its name is {name:?}, its path says {service:?}"
            )));
        }
        instances(object)
    });
    Reading::Instances(service.to_owned(), read)
}

fn instance(entry: &Entry<'_>, object: &Object) -> Result<Endpoint, String> {
    let (port, secure) = ports(object)?;
    let address = Address::new(text(object, "address"), port).map_err(|error| error.to_string())?;
    let payload = map(object, "payload");
    // Without a framework the payload is whatever the program made of it.
    let metadata = payload.and_then(|payload| map(payload, "metadata")).or(payload);
    let (health, reason) = health(object, metadata);
    let mut tags = Tags::default();
    if secure {
        tags.known("secure", "true");
    }
    tags.put_all(metadata, &NO_TAGS);
    let raw = metadata.and_then(|metadata| number(metadata.get("weight")));
    Ok(Endpoint {
        weight: weight_above_zero(raw, DEFAULT_WEIGHT),
        health,
        health_reason: reason.into(),
        metadata: tags.metadata,
        locality: tags.locality,
        ..entry.endpoint(address)
    })
}

/// The port to use, and whether it speaks TLS.
fn ports(object: &Object) -> Result<(i64, bool), String> {
    let given = |name: &str| object.get(name).filter(|value| !value.is_null());
    match (given("port"), given("sslPort")) {
        (Some(plain), _) if port(Some(plain)) > 0 => Ok((port(Some(plain)), false)),
        (_, Some(tls)) => Ok((port(Some(tls)), true)),
        (Some(plain), None) => Ok((port(Some(plain)), false)),
        (None, None) => Err("the record has neither a port nor an sslPort".to_owned()),
    }
}

fn health(object: &Object, metadata: Option<&Object>) -> (Health, String) {
    if flag(object, "enabled") == Some(false) {
        return (Health::Draining, "enabled=false".to_owned());
    }
    let status = metadata.map_or("", |metadata| text(metadata, "instance_status"));
    let health = match status {
        "" => return (Health::Unknown, String::new()),
        "UP" => Health::Healthy,
        "OUT_OF_SERVICE" => Health::Draining,
        "DOWN" => Health::Unhealthy,
        _ => Health::Unknown,
    };
    (health, brief(&format!("instance_status={status}")))
}

fn dubbo_instances(entry: &Entry<'_>, object: &Object) -> Instances {
    let metadata = map(object, "payload").and_then(|payload| map(payload, "metadata"));
    let listed = metadata.map_or("", |metadata| text(metadata, "dubbo.endpoints"));
    // Dubbo falls back to the record's own port when the list can't be read, and so do we.
    let listed: Vec<Value> = serde_json::from_str(listed).unwrap_or_default();
    if listed.is_empty() {
        let (port, _) = ports(object)?;
        return dubbo_instance(entry, object, (port, None)).map(|endpoint| vec![Ok(endpoint)]);
    }
    let endpoint = |listed: &Value| {
        let listed = listed
            .as_object()
            .ok_or("an item of dubbo.endpoints is not a JSON object")?;
        let protocol = Some(text(listed, "protocol")).filter(|protocol| !protocol.is_empty());
        dubbo_instance(entry, object, (port(listed.get("port")), protocol))
    };
    Ok(listed.iter().map(endpoint).collect())
}

fn dubbo_instance(entry: &Entry<'_>, object: &Object, at: (i64, Option<&str>)) -> Result<Endpoint, String> {
    let (port, protocol) = at;
    let address = Address::new(text(object, "address"), port).map_err(|error| error.to_string())?;
    let metadata = map(object, "payload").and_then(|payload| map(payload, "metadata"));
    let mut tags = Tags::default();
    tags.known("tag", metadata.map_or("", |metadata| text(metadata, "dubbo.tag")));
    tags.put_all(metadata, &NO_DUBBO_TAGS);
    let raw = metadata.and_then(|metadata| number(metadata.get("weight")));
    let disabled = flag(object, "enabled") == Some(false);
    let (health, reason) = if disabled {
        (Health::Draining, "enabled=false")
    } else {
        (Health::Unknown, "")
    };
    Ok(Endpoint {
        weight: weight(raw, DUBBO_DEFAULT_WEIGHT),
        health,
        health_reason: reason.into(),
        scheme: protocol.map(|protocol| brief(protocol).into()),
        metadata: tags.metadata,
        locality: tags.locality,
        ..entry.endpoint(address)
    })
}

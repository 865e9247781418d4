//! jupiter: `<scheme>:<name>:v1:<mode>/<address>` -> `{"Op":0,"Addr","MetadataX":{…}}`.
//!
//! Weight 0 means "not set". Records below `/prometheus/job/` tell Prometheus where to scrape.

use leadsman_core::model::{Address, Endpoint, Health};

use crate::layout::Reading;
use crate::layout::entry::{Entry, Object, announces_deletion, brief, flag, map, number, text, weight_above_zero};
use crate::layout::tags::Tags;

const DEFAULT_WEIGHT: f64 = 100.0;

pub(super) fn read(entry: &Entry<'_>) -> Reading {
    if entry.key.starts_with("/prometheus/job/") {
        return Reading::Marker;
    }
    let segments = entry.segments();
    let Some([.., id, _]) = segments.get(..) else {
        return stray();
    };
    let Some((scheme, (name, mode))) = id.split_once(':').and_then(|(scheme, rest)| {
        let parts = rest.split_once(":v1:")?;
        Some((scheme, parts))
    }) else {
        return stray();
    };
    Reading::Instances(name.to_owned(), instances(entry, scheme, mode))
}

fn instances(entry: &Entry<'_>, scheme: &str, mode: &str) -> Result<Vec<Result<Endpoint, String>>, String> {
    let object = entry.object()?;
    if announces_deletion(object) {
        return Ok(Vec::new());
    }
    instance(entry, object, (scheme, mode)).map(|endpoint| vec![Ok(endpoint)])
}

fn instance(entry: &Entry<'_>, object: &Object, (scheme, mode): (&str, &str)) -> Result<Endpoint, String> {
    let address = Address::parse(text(object, "Addr")).map_err(|error| error.to_string())?;
    let empty = Object::new();
    let said = map(object, "MetadataX").unwrap_or(&empty);
    let mut tags = Tags::default();
    for name in ["version", "group", "deployment", "region", "zone"] {
        tags.known(name, text(said, name));
    }
    tags.known("mode", mode);
    tags.put_all(map(said, "metadata"), &[]);
    let (health, reason) = health(said);
    Ok(Endpoint {
        weight: weight_above_zero(number(said.get("weight")), DEFAULT_WEIGHT),
        health,
        health_reason: reason.into(),
        scheme: Some(brief(scheme).into()),
        metadata: tags.metadata,
        locality: tags.locality,
        ..entry.endpoint(address)
    })
}

fn health(said: &Object) -> (Health, &'static str) {
    match (flag(said, "enable"), flag(said, "healthy")) {
        (Some(false), _) => (Health::Draining, "enable=false"),
        (Some(true) | None, Some(false)) => (Health::Unhealthy, "healthy=false"),
        (Some(true) | None, Some(true)) => (Health::Healthy, "healthy=true"),
        (Some(true) | None, None) => (Health::Unknown, ""),
    }
}

fn stray() -> Reading {
    Entry::stray("<scheme>:<name>:v1:<mode>/<address>")
}

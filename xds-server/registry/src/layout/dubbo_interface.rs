//! Dubbo, interface level: `/dubbo/<interface>/providers/<escaped URL>` -> nothing.
//!
//! Everything is in the key. Consumers, routers and configurators are records of the same tree and no instances; the
//! weights and switches that configurators set are for whoever reads the whole interface.

use std::borrow::Cow;
use std::collections::BTreeMap;

use leadsman_core::model::{Address, Endpoint, Health};

use super::Reading;
use super::entry::{Entry, brief, parse_flag, parse_number, weight};
use super::tags::Tags;

const DEFAULT_WEIGHT: f64 = 100.0;
/// What says something about the instance; the rest describes the interface, or changes at every start.
const TAGS: [&str; 10] = [
    "version",
    "group",
    "application",
    "protocol",
    "release",
    "serialization",
    "region",
    "zone",
    "sub_zone",
    "environment",
];

pub(crate) fn read(entry: &Entry<'_>) -> Reading {
    let segments = entry.segments();
    match segments.get(..) {
        Some([.., interface, "providers", url]) if !url.is_empty() => {
            let outcomes = instance(entry, url).map(|endpoint| vec![Ok(endpoint)]);
            Reading::Instances((*interface).to_owned(), outcomes)
        }
        Some([.., "consumers" | "configurators" | "routers", _]) => Reading::Marker,
        Some([_, "mapping" | "metadata" | "config", ..]) => Reading::Marker,
        // dubbo-go creates each directory of the path as an empty record.
        Some(_) | None if entry.value.is_empty() => Reading::Marker,
        Some(_) | None => Entry::stray("/dubbo/<interface>/providers/<URL>"),
    }
}

fn instance(entry: &Entry<'_>, escaped: &str) -> Result<Endpoint, String> {
    let url = unescape(escaped);
    let parts = url.split_once("://").filter(|(protocol, _)| !protocol.is_empty());
    let (protocol, rest) = parts.ok_or_else(|| brief(&format!("{url:?} is not a URL")))?;
    if protocol == "empty" {
        return Err("the URL is empty://: no provider".to_owned());
    }
    let (location, query) = rest.split_once('?').unwrap_or((rest, ""));
    let authority = location.split('/').next().unwrap_or_default();
    let host_port = authority.rsplit_once('@').map_or(authority, |(_, host_port)| host_port);
    let address = Address::parse(host_port).map_err(|error| error.to_string())?;
    let parameters: BTreeMap<Cow<'_, str>, Cow<'_, str>> = form_urlencoded::parse(query.as_bytes()).collect();
    let parameter = |name: &str| parameters.get(name).map_or("", |value| value.as_ref());
    let mut tags = Tags::default();
    for name in TAGS {
        tags.known(name, parameter(name));
    }
    tags.known("tag", parameter("dubbo.tag"));
    if parse_flag(parameter("ssl-enabled")) == Some(true) {
        tags.known("secure", "true");
    }
    let (health, reason) = health(parse_flag(parameter("disabled")), parse_flag(parameter("enabled")));
    Ok(Endpoint {
        weight: weight(parse_number(parameter("weight")), DEFAULT_WEIGHT),
        health,
        health_reason: reason.into(),
        scheme: Some(brief(protocol).into()),
        metadata: tags.metadata,
        locality: tags.locality,
        ..entry.endpoint(address)
    })
}

/// Consoles switch a lasting provider off with `enabled`, and any other one with `disabled`, which counts more.
fn health(disabled: Option<bool>, enabled: Option<bool>) -> (Health, &'static str) {
    match (disabled, enabled) {
        (Some(true), _) => (Health::Draining, "disabled=true"),
        (None, Some(false)) => (Health::Draining, "enabled=false"),
        (Some(false), _) | (None, Some(true) | None) => (Health::Unknown, ""),
    }
}

/// Undoes Go's `QueryEscape` and Java's `URLEncoder`, which agree.
pub(crate) fn unescape(text: &str) -> String {
    // The text is the only value of a form: `&` and `=` are escaped in it, and an unescaped one is taken as it is.
    let spaced = text.replace('+', "%20").replace('&', "%26").replace('=', "%3D");
    form_urlencoded::parse(spaced.as_bytes())
        .map(|(key, _)| key.into_owned())
        .next()
        .unwrap_or_default()
}

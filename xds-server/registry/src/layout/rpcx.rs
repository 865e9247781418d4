//! rpcx: `<base>/<service>/<network>@<host>:<port>` -> a URL query.
//!
//! Servers rewrite their record every interval with fresh `calls` and `connections`: these never reach the endpoint,
//! or each instance would be a change a minute. The base and each service have marker records.

use std::collections::BTreeMap;

use leadsman_core::model::{Address, Endpoint, Health};

use super::Reading;
use super::entry::{Entry, parse_number, weight};
use super::tags::Tags;

const VOLATILE: [&str; 5] = ["calls", "connections", "ops", "weight", "state"];

pub(crate) fn read(entry: &Entry<'_>) -> Reading {
    let Some((network, host_port)) = entry.leaf().split_once('@') else {
        return match entry.text() {
            Ok(text) if text == "rpcx_path" || text == entry.leaf() => Reading::Marker,
            Ok(_) | Err(_) => Entry::stray("<base>/<service>/<network>@<host>:<port>"),
        };
    };
    match entry.parent("") {
        Some(service) => {
            let outcomes = instance(entry, network, host_port).map(|endpoint| vec![Ok(endpoint)]);
            Reading::Instances(service.to_owned(), outcomes)
        }
        None => Entry::stray("<base>/<service>/<network>@<host>:<port>"),
    }
}

fn instance(entry: &Entry<'_>, network: &str, host_port: &str) -> Result<Endpoint, String> {
    let address = Address::parse(host_port).map_err(|error| error.to_string())?;
    // A key may be repeated: an instance in two groups says `group=a&group=b`.
    let mut pairs: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (key, value) in form_urlencoded::parse(entry.value) {
        pairs.entry(key.into_owned()).or_default().push(value.into_owned());
    }
    let first = |name: &str| {
        pairs
            .get(name)
            .and_then(|values| values.first())
            .map_or("", String::as_str)
    };
    let mut tags = Tags::default();
    for (key, values) in &pairs {
        if !VOLATILE.contains(&key.as_str()) {
            tags.known(key, &values.join(","));
        }
    }
    let (health, reason) = match first("state") {
        "inactive" => (Health::Draining, "state=inactive"),
        "active" => (Health::Healthy, "state=active"),
        _ => (Health::Unknown, ""),
    };
    Ok(Endpoint {
        weight: weight(parse_number(first("weight")), 1.0),
        health,
        health_reason: reason.into(),
        scheme: Some(super::entry::brief(network).into()),
        metadata: tags.metadata,
        locality: tags.locality,
        ..entry.endpoint(address)
    })
}

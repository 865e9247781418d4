//! What one instance of Eureka is to Envoy: names, address, health, weight, locality.
//!
//! Pure. A bad instance is the rejection of itself, under the service it belongs to.

use std::sync::Arc;

use leadsman_core::model::{Address, Endpoint, Health, Provenance, Rejection, ServiceName};

use super::config::{Config, Naming};
use super::wire::{Record, Status, text};
use crate::layout::entry::{Object, flag, map, number, port, weight, weight_above_zero};
use crate::layout::tags::Tags;

/// What the configuration says about decoding.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    naming: Naming,
    prefer_secure: bool,
}

impl Rules {
    pub(super) fn of(config: &Config) -> Self {
        Self {
            naming: config.service_name,
            prefer_secure: config.prefer_secure,
        }
    }
}

/// What an instance is.
#[derive(Clone, Debug)]
pub(super) struct Decoded {
    /// The services it belongs to; none when it can't be attributed.
    pub(super) services: Vec<ServiceName>,
    /// `None` for an instance that is not there yet.
    pub(super) outcome: Option<Result<Endpoint, Rejection>>,
}

/// Virtual addresses of one instance: each is a service, and each service a cluster in every Envoy.
const MAX_NAMES: usize = 32;
/// What Spring Cloud's load balancer takes an instance without a weight for.
const DEFAULT_WEIGHT: f64 = 1.0;
/// What kitex and hertz take one for that says nothing, or zero.
const DEFAULT_KITEX: f64 = 10.0;

pub(super) fn decode(record: &Record, rules: Rules) -> Decoded {
    let (app, instance) = &record.id;
    let raw = serde_json::to_vec(&record.body).unwrap_or_default();
    let mut provenance = Provenance::new(&format!("{app}/{instance}"), "eureka", &raw, 0);
    provenance.stable = record.named;
    let reject = |reason: String| Rejection {
        provenance: provenance.clone(),
        reason,
    };
    let services = match services(record, rules) {
        Ok(services) => services,
        Err(reason) => {
            return Decoded {
                services: Vec::new(),
                outcome: Some(Err(reject(reason))),
            };
        }
    };
    if record.status == Status::Starting {
        return Decoded {
            services,
            outcome: None,
        };
    }
    let outcome = endpoint(record, rules, &provenance).map_err(reject);
    Decoded {
        services,
        outcome: Some(outcome),
    }
}

fn services(record: &Record, rules: Rules) -> Result<Vec<ServiceName>, String> {
    let app = record.id.0.as_ref();
    let names = match rules.naming {
        Naming::App => vec![app.to_lowercase()],
        Naming::AppVerbatim => vec![app.to_owned()],
        Naming::Vip => {
            let key = match chosen_port(&record.body, rules) {
                Some((_, Secure::Yes)) if record.body.contains_key("secureVipAddress") => "secureVipAddress",
                Some((_, Secure::Yes | Secure::No)) | None => "vipAddress",
            };
            let list = text(&record.body, key).unwrap_or_default();
            let names = list.split(',').map(str::trim).filter(|name| !name.is_empty());
            names.map(str::to_owned).collect()
        }
    };
    if names.len() > MAX_NAMES {
        return Err(format!("the instance has more than {MAX_NAMES} virtual addresses"));
    }
    if names.is_empty() {
        return Err("the instance has no virtual address to be named by".to_owned());
    }
    if let Some(name) = names.iter().find(|name| name.contains("${")) {
        return Err(format!(
            "the virtual address {name:?} was never filled in by its instance"
        ));
    }
    let names = names.iter().map(|name| ServiceName::new(name));
    let names: Result<Vec<ServiceName>, _> = names.collect();
    names.map_err(|error| format!("the service has no usable name: {error}"))
}

fn endpoint(record: &Record, rules: Rules, provenance: &Provenance) -> Result<Endpoint, String> {
    let body = &record.body;
    let (port, secure) = chosen_port(body, rules).ok_or("neither its port nor its secure port is enabled")?;
    let address = address(body, port)?;
    let metadata = map(body, "metadata");
    let (health, reason) = health(record);
    let scheme = metadata.and_then(|metadata| kratos_scheme(metadata, address));
    let mut tags = Tags::default();
    if secure == Secure::Yes {
        tags.put("secure", "true");
    }
    let kitex = metadata.and_then(kitex);
    tags.put_all(kitex.as_ref().and_then(kitex_tags), &[]);
    let own = if kitex.is_some() { "meta" } else { "" };
    tags.put_all(metadata, &["@class", "weight", own]);
    // The instance's own word for its zone beats that of the machine it runs on.
    let amazon = map(body, "dataCenterInfo").and_then(|info| map(info, "metadata"));
    if let Some(zone) = amazon.and_then(|amazon| text(amazon, "availability-zone")) {
        tags.put("zone", &zone);
    }
    let raw = metadata.and_then(|metadata| number(metadata.get("weight")));
    let weight = match kitex {
        Some(kitex) => {
            let given = number(kitex.get("Weight").or_else(|| kitex.get("weight")));
            weight_above_zero(given, DEFAULT_KITEX)
        }
        None => weight(raw, DEFAULT_WEIGHT),
    };
    Ok(Endpoint {
        weight,
        health,
        health_reason: reason.into(),
        locality: tags.locality,
        scheme,
        metadata: tags.metadata,
        ..Endpoint::new(address, provenance.clone())
    })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Secure {
    Yes,
    No,
}

/// The port to connect to, of the enabled ones.
fn chosen_port(body: &Object, rules: Rules) -> Option<(i64, Secure)> {
    let plain = enabled_port(body, "port", true).map(|port| (port, Secure::No));
    let secure = enabled_port(body, "securePort", false).map(|port| (port, Secure::Yes));
    if rules.prefer_secure {
        secure.or(plain)
    } else {
        plain.or(secure)
    }
}

/// `{"$": 8080, "@enabled": "true"}`, with numbers and flags as such or as texts, or the bare number.
fn enabled_port(body: &Object, key: &str, unless_said: bool) -> Option<i64> {
    let Some(object) = map(body, key) else {
        return (unless_said && body.contains_key(key)).then(|| port(body.get(key)));
    };
    flag(object, "@enabled")
        .unwrap_or(unless_said)
        .then(|| port(object.get("$")))
}

/// The IP address; some clients put a name there, and the IP address where the name belongs.
fn address(body: &Object, port: i64) -> Result<Address, String> {
    let ip = text(body, "ipAddr").unwrap_or_default();
    Address::new(&ip, port).or_else(|error| {
        let host = text(body, "hostName").unwrap_or_default();
        Address::new(&host, port).map_err(|_| format!("ipAddr: {error}"))
    })
}

/// Eureka has applied overrides to `status` already; the override only explains it.
fn health(record: &Record) -> (Health, String) {
    let health = match record.status {
        Status::Up => Health::Healthy,
        Status::OutOfService => Health::Draining,
        // A starting instance is no endpoint at all.
        Status::Down | Status::Unknown | Status::Starting => Health::Unhealthy,
    };
    let body = &record.body;
    let overridden = text(body, "overriddenStatus").or_else(|| text(body, "overriddenstatus"));
    let status = record.status.as_str();
    let reason = match overridden.filter(|overridden| overridden != "UNKNOWN") {
        Some(overridden) => format!("status={status}, overridden to {overridden}"),
        None if record.status == Status::Up => String::new(),
        None => format!("status={status}"),
    };
    (health, reason)
}

/// CloudWeGo's kitex and hertz put their own record into one value of the metadata: `{"Weight":10,"Tags":{}}`.
fn kitex(metadata: &Object) -> Option<Object> {
    let record: Object = serde_json::from_str(&text(metadata, "meta")?).ok()?;
    let has = |key: &str| record.contains_key(key);
    (has("Weight") || has("weight")).then_some(record)
}

fn kitex_tags(record: &Object) -> Option<&Object> {
    map(record, "Tags").or_else(|| map(record, "tags"))
}

/// go-kratos registers an instance for each protocol and keeps its URL. All of a service may share the last one's, so
/// it counts only where it is about this address.
fn kratos_scheme(metadata: &Object, address: Address) -> Option<Arc<str>> {
    text(metadata, "agent").filter(|agent| agent == "go-eureka-client")?;
    let url = text(metadata, "Endpoints")?;
    let (scheme, authority) = url.split_once("://")?;
    let authority = authority.split(['/', '?']).next()?;
    (Address::parse(authority) == Ok(address)).then(|| scheme.to_ascii_lowercase().into())
}

#[cfg(test)]
mod tests;

//! Two ends, resource by resource.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::{Value, json};

use super::envoy::{Held, Member, Members, members};
use crate::api::{ProxyResource, ProxyResources, SyncStatus, TypeResources};
use crate::cli::status::short;

/// A resource that is not the same at both ends.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Difference {
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    pub(super) name: String,
    pub(super) what: What,
    /// How the resource stands in the view of the server.
    pub(super) status: Option<SyncStatus>,
    /// The proxy's last refusal of a resource of the type, where this one is refused.
    pub(super) nack: Option<String>,
    /// What differs in it: empty when one end has nothing at all.
    pub(super) fields: Vec<Field>,
}

/// A member that differs; `null` at the end that does not have it.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Field {
    pub(super) path: String,
    pub(super) server: Value,
    pub(super) envoy: Value,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum What {
    /// The server has it, and Envoy does not.
    Missing,
    /// Envoy has it, and the server does not.
    Extra,
    Different,
    /// Envoy has it, and does not use it before it has its endpoints.
    Warming,
    /// Envoy refused it; what differs is what is in use instead.
    Nacked,
}

/// What differs, clusters first, in the order of their names.
pub(super) fn compare(wanted: &ProxyResources, held: &Held) -> Vec<Difference> {
    let of = |kind: &str| wanted.types.iter().find(|of| short(&of.type_url) == kind);
    let mut differences = of("cds").map_or_else(Vec::new, |of| clusters(of, held));
    differences.extend(of("eds").into_iter().flat_map(|of| assignments(of, held)));
    differences
}

fn clusters(wanted: &TypeResources, held: &Held) -> Vec<Difference> {
    let published = published(wanted);
    let names = published.keys().copied();
    let names: BTreeSet<&str> = names.chain(held.clusters.keys().map(String::as_str)).collect();
    let of = |name: &str| {
        let resource = published.get(name).copied();
        let (what, fields) = match (resource, held.clusters.get(name)) {
            (Some(resource), Some(held)) => (What::Different, fields("", &resource.content, held)),
            (Some(_), None) => (What::Missing, Vec::new()),
            (None, _) => (What::Extra, Vec::new()),
        };
        let warming = resource.is_some() && held.warming.contains_key(name);
        let same = what == What::Different && fields.is_empty();
        let what = if warming { What::Warming } else { what };
        difference("cds", name, (wanted, resource), (what, fields), same && !warming)
    };
    names.into_iter().filter_map(of).collect()
}

fn assignments(wanted: &TypeResources, held: &Held) -> Vec<Difference> {
    let published = published(wanted);
    let dynamic = held.clusters.keys().map(String::as_str);
    let occupied = dynamic.filter(|name| held.endpoints.get(*name).is_some_and(|members| !members.is_empty()));
    let names: BTreeSet<&str> = published.keys().copied().chain(occupied).collect();
    let none = Members::new();
    let of = |name: &str| {
        let resource = published.get(name).copied();
        // A cluster that is missing is said to be; that its endpoints are missing too says nothing more.
        if !held.uses(name) {
            return None;
        }
        let has = held.endpoints.get(name).unwrap_or(&none);
        let should_have = resource.map_or_else(Members::new, |resource| members(&resource.content));
        let fields = endpoints(&should_have, has);
        let what = match resource {
            None => What::Extra,
            Some(_) if has.is_empty() => What::Missing,
            Some(_) => What::Different,
        };
        let same = fields.is_empty();
        difference("eds", name, (wanted, resource), (what, fields), same)
    };
    names.into_iter().filter_map(of).collect()
}

/// What exists of what the proxy wants.
fn published(wanted: &TypeResources) -> BTreeMap<&str, &ProxyResource> {
    let existing = wanted.resources.iter().filter(|resource| !resource.content.is_null());
    existing.map(|resource| (resource.name.as_str(), resource)).collect()
}

/// A refusal is worth saying even where Envoy applied what it refused.
fn difference(
    kind: &'static str,
    name: &str,
    (wanted, resource): (&TypeResources, Option<&ProxyResource>),
    (what, fields): (What, Vec<Field>),
    same: bool,
) -> Option<Difference> {
    let status = resource.and_then(|resource| resource.status);
    let refused = status == Some(SyncStatus::Error);
    (refused || !same).then(|| Difference {
        kind,
        name: name.to_owned(),
        what: if refused { What::Nacked } else { what },
        status,
        nack: wanted
            .last_nack
            .as_ref()
            .filter(|_| refused)
            .map(|nack| nack.message.clone()),
        fields,
    })
}

/// The members that differ, however deep.
fn fields(path: &str, server: &Value, envoy: &Value) -> Vec<Field> {
    if let (Value::Object(a), Value::Object(b)) = (server, envoy) {
        let keys: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
        let of = |key: &String| {
            let path = if path.is_empty() {
                key.clone()
            } else {
                format!("{path}.{key}")
            };
            fields(
                &path,
                a.get(key).unwrap_or(&Value::Null),
                b.get(key).unwrap_or(&Value::Null),
            )
        };
        return keys.into_iter().flat_map(of).collect();
    }
    if server == envoy {
        return Vec::new();
    }
    vec![Field {
        path: path.to_owned(),
        server: server.clone(),
        envoy: envoy.clone(),
    }]
}

fn endpoints(server: &Members, envoy: &Members) -> Vec<Field> {
    let addresses: BTreeSet<&String> = server.keys().chain(envoy.keys()).collect();
    let of = |address: &String| match (server.get(address), envoy.get(address)) {
        (Some(a), Some(b)) => member(address, a, b),
        (a, b) => vec![Field {
            path: address.clone(),
            server: a.map_or(Value::Null, summary),
            envoy: b.map_or(Value::Null, summary),
        }],
    };
    addresses.into_iter().flat_map(of).collect()
}

fn member(address: &str, server: &Member, envoy: &Member) -> Vec<Field> {
    let mut differing = Vec::new();
    let mut note = |part: &str, a: Value, b: Value| {
        if a != b {
            differing.push(Field {
                path: format!("{address} {part}"),
                server: a,
                envoy: b,
            });
        }
    };
    note("health", health(server), health(envoy));
    note("weight", json!(server.weight), json!(envoy.weight));
    note("locality", json!(server.locality), json!(envoy.locality));
    note("priority", json!(server.priority), json!(envoy.priority));
    note("metadata", server.metadata.clone(), envoy.metadata.clone());
    differing
}

/// Envoy takes an unknown endpoint for a healthy one.
fn health(member: &Member) -> Value {
    match member.health.as_str() {
        "UNKNOWN" => json!("HEALTHY"),
        other => json!(other),
    }
}

fn summary(member: &Member) -> Value {
    json!(format!("{} w{}", member.health.to_lowercase(), member.weight))
}

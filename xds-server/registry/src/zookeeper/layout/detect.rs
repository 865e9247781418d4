//! Finds the layout of one node.
//!
//! The name of the node decides where a framework's names can't be anything else, then the names of the JSON fields,
//! then the place where a framework puts its nodes by default: a damaged value is still a record of its service.

use leadsman_core::model::Address;

use super::{Layout, is_url};
use crate::layout::entry::{Entry, Object, list, map, text};

pub(super) fn detect(entry: &Entry<'_>) -> Option<Layout> {
    if let Some(layout) = by_name(entry) {
        return Some(layout);
    }
    if let Ok(object) = entry.object()
        && let Some(layout) = by_fields(entry, object)
    {
        return Some(layout);
    }
    by_base(entry)
}

fn by_name(entry: &Entry<'_>) -> Option<Layout> {
    let leaf = entry.leaf();
    if is_url(leaf) {
        return Some(Layout::DubboInterface);
    }
    let (network, rest) = leaf.split_once('@')?;
    (!network.is_empty() && rest.contains(':')).then_some(Layout::Rpcx)
}

fn by_fields(entry: &Entry<'_>, object: &Object) -> Option<Layout> {
    let has = |name: &str| object.contains_key(name);
    if has("registrationTimeUTC") || (has("serviceType") && has("address")) {
        return Some(curated(object));
    }
    if has("Key") && has("Value") {
        return Some(Layout::Goframe);
    }
    if list(object, "nodes").is_some() && has("name") {
        return Some(Layout::GoMicro);
    }
    if has("endpoints") && (has("name") || has("id")) {
        return Some(Layout::Kratos);
    }
    let weighed = has("Weight") || has("weight");
    if weighed && !has("address") && Address::parse(entry.leaf()).is_ok() {
        return Some(Layout::Kitex);
    }
    has("address").then_some(Layout::Leadsman)
}

/// Dubbo and Spring Cloud write Curator's record with a payload of their own.
fn curated(object: &Object) -> Layout {
    let Some(payload) = map(object, "payload") else {
        return Layout::Curator;
    };
    let class = text(payload, "@class");
    // Spring Cloud applications that speak Dubbo say so in the metadata, and are switched off in Spring's way.
    if class.contains("springframework") {
        return Layout::SpringCloud;
    }
    let of_dubbo = |metadata: &Object| metadata.keys().any(|key| key.starts_with("dubbo."));
    if class.contains("dubbo") || map(payload, "metadata").is_some_and(of_dubbo) {
        return Layout::DubboApp;
    }
    Layout::Curator
}

fn by_base(entry: &Entry<'_>) -> Option<Layout> {
    const BASES: [(&str, Layout); 4] = [
        ("microservices/", Layout::Kratos),
        ("micro-registry/", Layout::GoMicro),
        ("services/", Layout::Curator),
        ("dubbo/", Layout::DubboInterface),
    ];
    let bare = entry.key.strip_prefix('/').unwrap_or(entry.key);
    let found = BASES.into_iter().find(|(base, _)| bare.starts_with(base));
    found.map(|(_, layout)| layout)
}

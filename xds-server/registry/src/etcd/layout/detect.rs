//! Finds the layout of one record.
//!
//! The key decides where a framework's keys can't be anything else, then the names of the JSON fields, then the place
//! where a framework puts its records by default: a damaged value is still a record of its service.

use leadsman_core::model::Address;

use super::Layout;
use crate::layout::entry::{Entry, Object, list};

pub(super) fn detect(entry: &Entry<'_>) -> Option<Layout> {
    if let Some(layout) = by_key(entry) {
        return Some(layout);
    }
    if let Ok(object) = entry.object()
        && let Some(layout) = by_fields(entry, object)
    {
        return Some(layout);
    }
    by_base(entry).or_else(|| by_text(entry))
}

fn by_key(entry: &Entry<'_>) -> Option<Layout> {
    let leaf = entry.leaf();
    if leaf.to_ascii_lowercase().contains("%3a%2f%2f") {
        return Some(Layout::DubboInterface);
    }
    if leaf
        .split_once('@')
        .is_some_and(|(net, rest)| !net.is_empty() && looks_like_host_port(rest))
    {
        return Some(Layout::Rpcx);
    }
    let segments = entry.segments();
    let nth_from_end = |n: usize| segments.len().checked_sub(n).and_then(|at| segments.get(at)).copied();
    if entry.key.starts_with("/prometheus/job/") || nth_from_end(2).is_some_and(|name| name.contains(":v1:")) {
        return Some(Layout::Jupiter);
    }
    let head = segments.first().copied();
    if head == Some("service") && segments.len() == 6 && leaf.contains(':') {
        return Some(Layout::Goframe);
    }
    let reserved = matches!(segments.get(1), Some(&("mapping" | "metadata" | "config")));
    let directory = matches!(leaf, "providers" | "consumers" | "configurators" | "routers");
    if head == Some("dubbo") && (reserved || directory || entry.value.is_empty()) {
        return Some(Layout::DubboInterface);
    }
    None
}

fn by_fields(entry: &Entry<'_>, object: &Object) -> Option<Layout> {
    let has = |name: &str| object.contains_key(name);
    if has("Addr") {
        return Some(if has("MetadataX") {
            Layout::Jupiter
        } else {
            Layout::Grpc
        });
    }
    // APISIX upstreams have `nodes` as well, and a `type`; Curator's records have an `address`.
    if list(object, "nodes").is_some() && has("name") && !has("type") {
        return Some(Layout::GoMicro);
    }
    if has("registrationTimeUTC") || has("nodes") {
        return None;
    }
    if has("endpoints") && (has("name") || has("id")) {
        return Some(Layout::Kratos);
    }
    if has("network") && has("address") {
        return Some(if entry.key.contains("hertz") {
            Layout::Hertz
        } else {
            Layout::Kitex
        });
    }
    if has("ServiceName") && (has("Metadata") || has("Host")) {
        return Some(Layout::DubboApp);
    }
    if has("address") {
        return Some(Layout::Leadsman);
    }
    has("host").then_some(Layout::Skydns)
}

fn by_base(entry: &Entry<'_>) -> Option<Layout> {
    const BASES: [(&str, Layout); 5] = [
        ("microservices/", Layout::Kratos),
        ("micro/registry/", Layout::GoMicro),
        ("kitex/registry-etcd/", Layout::Kitex),
        ("hertz/registry-etcd/", Layout::Hertz),
        ("skydns/", Layout::Skydns),
    ];
    let bare = entry.key.strip_prefix('/').unwrap_or(entry.key);
    let found = BASES.into_iter().find(|(base, _)| bare.starts_with(base));
    found.map(|(_, layout)| layout)
}

fn by_text(entry: &Entry<'_>) -> Option<Layout> {
    let text = entry.text().ok()?;
    if text == "rpcx_path" || (!text.is_empty() && text == entry.leaf()) {
        return Some(Layout::Rpcx);
    }
    looks_like_host_port(text).then_some(Layout::GoZero)
}

/// Whether a text is an address, or would be one if its host were resolved.
fn looks_like_host_port(text: &str) -> bool {
    if Address::parse(text).is_ok() {
        return true;
    }
    let Some((host, port)) = text.rsplit_once(':') else {
        return false;
    };
    let host_like = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '[' | ']' | '%');
    !host.is_empty() && host.chars().all(host_like) && !port.is_empty() && port.chars().all(|c| c.is_ascii_digit())
}

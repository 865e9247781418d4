//! What istiod is told, as Istio itself writes it.

use std::net::{IpAddr, SocketAddr};

use leadsman_core::snapshot::pb;
use leadsman_core::snapshot::pb::istio;
use prost::Message;
use serde_json::{Map, Value, json};

use crate::api::InIstio;

/// A resource for istiod, in the shape of a manifest.
pub(super) fn resource(resource: istio::Resource) -> Value {
    let istio::Resource { metadata, body } = resource;
    let mut shown = Map::new();
    if let Some(istio::Metadata { name, version }) = metadata {
        let (namespace, name) = name.split_once('/').unwrap_or_default();
        let metadata = json!({ "namespace": namespace, "name": name, "resource_version": version });
        shown.insert("metadata".to_owned(), metadata);
    }
    if let Some(pb::Any { type_url, value }) = body {
        let spec = istio::ServiceEntry::decode(value).ok().map(entry);
        shown.insert("spec".to_owned(), spec.unwrap_or(Value::Null));
        shown.insert("@type".to_owned(), json!(type_url));
    }
    shown.into()
}

/// The host of a service, and where it leads to.
pub(super) fn summary(resource: istio::Resource) -> Option<InIstio> {
    let (namespace, _) = resource.metadata.as_ref()?.name.split_once('/')?;
    let entry = istio::ServiceEntry::decode(resource.body?.value).ok()?;
    let endpoints = entry.endpoints.iter().filter_map(|workload| {
        let port = u16::try_from(*workload.ports.values().next()?).ok()?;
        let ip: IpAddr = workload.address.parse().ok()?;
        Some(SocketAddr::new(ip, port).to_string())
    });
    Some(InIstio {
        namespace: namespace.to_owned(),
        host: entry.hosts.first()?.clone(),
        port: entry.ports.first()?.number,
        endpoints: endpoints.collect(),
    })
}

fn entry(entry: istio::ServiceEntry) -> Value {
    let istio::ServiceEntry {
        hosts,
        ports,
        resolution,
        endpoints,
    } = entry;
    let resolution = if resolution == istio::RESOLUTION_STATIC {
        json!("STATIC")
    } else {
        json!(resolution)
    };
    let ports = ports.into_iter().map(|port| {
        let istio::ServicePort { number, protocol, name } = port;
        json!({ "number": number, "protocol": protocol, "name": name })
    });
    json!({
        "hosts": hosts,
        "ports": ports.collect::<Vec<_>>(),
        "resolution": resolution,
        "endpoints": endpoints.into_iter().map(workload).collect::<Vec<_>>(),
    })
}

fn workload(workload: istio::WorkloadEntry) -> Value {
    let istio::WorkloadEntry {
        address,
        ports,
        locality,
        weight,
    } = workload;
    let mut shown = Map::new();
    shown.insert("address".to_owned(), json!(address));
    shown.insert("ports".to_owned(), json!(ports));
    if !locality.is_empty() {
        shown.insert("locality".to_owned(), json!(locality));
    }
    shown.insert("weight".to_owned(), json!(weight));
    shown.into()
}

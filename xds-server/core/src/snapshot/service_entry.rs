//! A service to the `ServiceEntry` of its name, for istiod: one host with one port, and its endpoints with the ports they
//! have, their weights and localities.
//!
//! A `WorkloadEntry` has no health. What Envoy would do with a health is therefore done here: [`listed`].

mod host;

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;

use super::load_assignment::Told;
use super::pb::istio::{Metadata, RESOLUTION_STATIC, Resource, ServiceEntry, ServicePort, WorkloadEntry};
use super::{ClusterName, ClusterSpec, Version, pb};
use crate::model::{Health, Locality, MAX_NAME_BYTES};
use crate::policy::Protocol;

pub(super) const RESOURCE_URL: &str = "type.googleapis.com/istio.mcp.v1alpha1.Resource";
const SERVICE_ENTRY_URL: &str = "type.googleapis.com/istio.networking.v1alpha3.ServiceEntry";

/// Envoy takes its healthy endpoints to be enough while 1.4 times their number is all there are
/// (<https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/upstream/load_balancing/degraded>).
const OVERPROVISIONING_PERCENT: usize = 140;

/// The entry of a cluster that Istio is told of.
pub(super) fn encode<'a>(
    name: &ClusterName,
    spec: &ClusterSpec,
    endpoints: impl Iterator<Item = Told<'a>>,
) -> Option<Bytes> {
    let istio = spec.istio.as_ref()?;
    let (protocol, port) = words(spec.protocol);
    let entry = ServiceEntry {
        hosts: vec![host::of(name, &istio.host)],
        ports: vec![ServicePort {
            number: istio.port.get().into(),
            protocol: protocol.to_owned(),
            name: port.to_owned(),
        }],
        resolution: RESOLUTION_STATIC,
        endpoints: listed(endpoints.collect())
            .map(|endpoint| workload(&endpoint, port))
            .collect(),
    };
    let entry: Bytes = entry.encode_to_vec().into();
    let resource = Resource {
        metadata: Some(Metadata {
            name: format!("{}/{}", istio.namespace, host::labels(name, MAX_NAME_BYTES)),
            version: Version::of(&entry, None).to_string(),
        }),
        body: Some(pb::Any {
            type_url: SERVICE_ENTRY_URL.to_owned(),
            value: entry,
        }),
    };
    Some(resource.encode_to_vec().into())
}

/// What Istio calls a protocol, and the name of a port that speaks it.
fn words(protocol: Protocol) -> (&'static str, &'static str) {
    match protocol {
        Protocol::Http1 => ("HTTP", "http"),
        Protocol::Http2 => ("HTTP2", "http2"),
        Protocol::Grpc => ("GRPC", "grpc"),
        Protocol::Tcp => ("TCP", "tcp"),
    }
}

/// The endpoints that take requests: the healthy ones of the first priority, and of those behind it until one has
/// enough; the degraded ones where none has; and where there is neither, all of them, as Envoy does when it panics, since
/// a service without an endpoint serves nobody.
fn listed(endpoints: Vec<Told<'_>>) -> impl Iterator<Item = Told<'_>> {
    let mut levels: BTreeMap<u16, Level> = BTreeMap::new();
    for endpoint in &endpoints {
        let level = levels.entry(endpoint.priority).or_default();
        match endpoint.health {
            Health::Unknown | Health::Healthy => level.healthy += 1,
            Health::Degraded => level.degraded += 1,
            Health::Unhealthy => level.unhealthy += 1,
            Health::Draining => {}
        }
    }
    let panic = levels.values().all(|level| level.healthy + level.degraded == 0);
    let enough = levels.iter().find(|(_, level)| level.has_enough());
    let last = enough.map(|(priority, _)| *priority);
    endpoints.into_iter().filter(move |endpoint| match endpoint.health {
        Health::Unknown | Health::Healthy => last.is_none_or(|last| endpoint.priority <= last),
        Health::Degraded => last.is_none(),
        Health::Unhealthy | Health::Draining => panic,
    })
}

/// The endpoints of one priority, counted; those that drain do not count.
#[derive(Default)]
struct Level {
    healthy: usize,
    degraded: usize,
    unhealthy: usize,
}

impl Level {
    fn has_enough(&self) -> bool {
        let all = self.healthy + self.degraded + self.unhealthy;
        self.healthy > 0 && self.healthy * OVERPROVISIONING_PERCENT >= all * 100
    }
}

fn workload(endpoint: &Told<'_>, port: &str) -> WorkloadEntry {
    WorkloadEntry {
        address: endpoint.address.ip().to_string(),
        ports: BTreeMap::from([(port.to_owned(), endpoint.address.port().into())]),
        locality: locality(endpoint.locality),
        weight: endpoint.weight,
    }
}

/// `region/zone/sub_zone`, as far as it is known; a slash in a part would begin the next one.
fn locality(locality: &Locality) -> String {
    let Locality { region, zone, sub_zone } = locality;
    let parts = [region, zone, sub_zone].map(|part| part.replace('/', "-"));
    parts.join("/").trim_end_matches('/').to_owned()
}

#[cfg(test)]
mod tests;

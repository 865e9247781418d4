//! Decisions to a `ClusterLoadAssignment`, endpoint by endpoint, so that one changed weight encodes one endpoint.

use std::collections::BTreeMap;

use bytes::Bytes;
use leadsman_proto::endpoint_metadata;
use prost::Message;
use xxhash_rust::xxh3::xxh3_64;

use super::{ClusterName, pb};
use crate::model::{Address, Health, Locality};
use crate::policy::Decision;

/// The encoded endpoints of one cluster, kept from one publication to the next.
#[derive(Debug, Default)]
pub(super) struct Endpoints {
    encoded: BTreeMap<(Locality, Address), Encoded>,
}

#[derive(Debug)]
struct Encoded {
    spec: Spec,
    bytes: Bytes,
}

/// Everything about an endpoint that Envoy gets, but for its address and locality.
#[derive(Clone, Debug, PartialEq)]
struct Spec {
    source: String,
    health: Health,
    weight: u32,
}

/// What a publication changed in a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Difference {
    None,
    Weights,
    More,
}

impl Endpoints {
    /// What publishing these decisions would change.
    pub(super) fn difference<'a>(&self, decisions: impl Iterator<Item = &'a Decision>) -> Difference {
        let mut count = 0;
        let mut difference = Difference::None;
        for decision in decisions {
            count += 1;
            let Some(held) = self.encoded.get(&key(decision)) else {
                return Difference::More;
            };
            let spec = Spec::of(decision);
            if held.spec == spec {
                continue;
            }
            if held.spec
                == (Spec {
                    weight: held.spec.weight,
                    ..spec
                })
            {
                difference = Difference::Weights;
            } else {
                return Difference::More;
            }
        }
        if count == self.encoded.len() {
            difference
        } else {
            Difference::More
        }
    }

    /// The encoded `ClusterLoadAssignment`, with localities and endpoints in their order. No endpoint is an empty
    /// assignment: that, and not a removal, is what clears the hosts of a cluster.
    pub(super) fn encode<'a>(&mut self, name: &ClusterName, decisions: impl Iterator<Item = &'a Decision>) -> Bytes {
        let mut held = std::mem::take(&mut self.encoded);
        for decision in decisions {
            let key = key(decision);
            let spec = Spec::of(decision);
            let encoded = match held.remove(&key) {
                Some(encoded) if encoded.spec == spec => encoded,
                Some(_) | None => {
                    let bytes = spec.encode(&key.0, key.1);
                    Encoded { spec, bytes }
                }
            };
            self.encoded.insert(key, encoded);
        }
        let mut localities: Vec<pb::LocalityLbEndpoints> = Vec::new();
        let mut last: Option<&Locality> = None;
        for ((locality, _), encoded) in &self.encoded {
            if last != Some(locality) {
                localities.push(pb::LocalityLbEndpoints {
                    locality: Some(to_pb(locality)),
                    lb_endpoints: Vec::new(),
                });
                last = Some(locality);
            }
            if let Some(group) = localities.last_mut() {
                group.lb_endpoints.push(encoded.bytes.clone());
            }
        }
        let assignment = pb::ClusterLoadAssignment {
            cluster_name: name.as_str().to_owned(),
            endpoints: localities,
        };
        assignment.encode_to_vec().into()
    }
}

fn key(decision: &Decision) -> (Locality, Address) {
    (decision.endpoint.locality.clone(), decision.endpoint.address)
}

fn to_pb(locality: &Locality) -> pb::Locality {
    let Locality { region, zone, sub_zone } = locality.clone();
    pb::Locality { region, zone, sub_zone }
}

impl Spec {
    fn of(decision: &Decision) -> Self {
        let Decision {
            source, health, weight, ..
        } = decision;
        Self {
            source: source.to_string(),
            health: *health,
            weight: *weight,
        }
    }

    fn encode(&self, locality: &Locality, address: Address) -> Bytes {
        let socket = pb::SocketAddress {
            address: address.ip().to_string(),
            port_value: address.port().into(),
        };
        let mut endpoint = pb::LbEndpoint {
            endpoint: Some(pb::Endpoint {
                address: Some(pb::Address {
                    socket_address: Some(socket),
                }),
            }),
            health_status: health_status(self.health),
            metadata: None,
            load_balancing_weight: Some(pb::UInt32Value { value: self.weight }),
        };
        let mut content = endpoint.encode_to_vec();
        to_pb(locality).encode(&mut content).unwrap_or_default();
        let revision = format!("{:08x}", xxh3_64(&content) >> 32);
        endpoint.metadata = Some(stamp(&revision, &self.source));
        endpoint.encode_to_vec().into()
    }
}

fn stamp(revision: &str, source: &str) -> pb::Metadata {
    let value = |text: &str| pb::Value {
        string_value: Some(text.to_owned()),
    };
    let fields = BTreeMap::from([
        (endpoint_metadata::REVISION.to_owned(), value(revision)),
        (endpoint_metadata::SOURCE.to_owned(), value(source)),
    ]);
    pb::Metadata {
        filter_metadata: BTreeMap::from([(endpoint_metadata::NAMESPACE.to_owned(), pb::Struct { fields })]),
    }
}

fn health_status(health: Health) -> i32 {
    match health {
        Health::Unknown => 0,
        Health::Healthy => 1,
        Health::Unhealthy => 2,
        Health::Draining => 3,
        Health::Degraded => 5,
    }
}

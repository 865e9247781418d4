//! Decisions to a `ClusterLoadAssignment`, endpoint by endpoint, so that one changed weight encodes one endpoint.

use std::collections::{BTreeMap, BTreeSet};
use std::iter::repeat;

use bytes::Bytes;
use leadsman_proto::endpoint_metadata;
use prost::Message;
use xxhash_rust::xxh3::xxh3_64;

use super::{ClusterName, pb};
use crate::model::{Address, Health, Locality};
use crate::policy::Decision;

/// gRPC refuses localities whose weights don't fit 32 bits together, and ignores one without a weight. One bit is left
/// for those that are raised to one.
const MAX_SUM_BITS: u32 = 31;

/// Envoy refuses an assignment with a priority above it.
const MAX_PRIORITY: u32 = 128;

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

/// One locality in the making.
#[derive(Debug, Default)]
struct Group {
    sum: u64,
    endpoints: Vec<Bytes>,
}

/// Everything about an endpoint that Envoy gets, but for its address and locality.
#[derive(Clone, Debug, PartialEq)]
struct Spec {
    source: String,
    priority: u16,
    health: Health,
    weight: u32,
}

/// One endpoint as the assignment says it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Told<'a> {
    pub(super) address: Address,
    pub(super) locality: &'a Locality,
    pub(super) priority: u16,
    pub(super) health: Health,
    pub(super) weight: u32,
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
    pub(super) fn encode<'a>(
        &mut self,
        name: &ClusterName,
        decisions: impl Iterator<Item = &'a Decision>,
        by_weight: bool,
    ) -> Bytes {
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
        let assignment = pb::ClusterLoadAssignment {
            cluster_name: name.as_str().to_owned(),
            endpoints: self.groups(by_weight),
        };
        assignment.encode_to_vec().into()
    }

    /// What was encoded last, by locality and address.
    pub(super) fn told(&self) -> impl Iterator<Item = Told<'_>> {
        self.encoded.iter().map(|((locality, address), encoded)| Told {
            address: *address,
            locality,
            priority: encoded.spec.priority,
            health: encoded.spec.health,
            weight: encoded.spec.weight,
        })
    }

    /// The localities of each priority, or with `by_weight` the endpoints of one weight in each.
    fn groups(&self, by_weight: bool) -> Vec<pb::LocalityLbEndpoints> {
        let ranks = self.ranks();
        let mut groups: BTreeMap<(u32, &Locality, Option<u32>), Group> = BTreeMap::new();
        for ((locality, _), encoded) in &self.encoded {
            let Spec {
                priority,
                health,
                weight,
                ..
            } = encoded.spec;
            let class = by_weight.then_some(weight);
            let rank = ranks.get(&priority).copied().unwrap_or_default();
            let group = groups.entry((rank, locality, class)).or_default();
            // A locality gets its part of the traffic for the endpoints that take some.
            if matches!(health, Health::Unknown | Health::Healthy) {
                group.sum += u64::from(weight);
            }
            group.endpoints.push(encoded.bytes.clone());
        }
        let sum: u64 = groups.values().map(|group| group.sum).sum();
        let shift = (sum >> MAX_SUM_BITS).checked_ilog2().map_or(0, |log| log + 1);
        let mut localities = Vec::with_capacity(groups.len());
        for ((priority, locality, class), group) in groups {
            let mut locality = to_pb(locality);
            if let Some(class) = class {
                locality.sub_zone = format!("{}#{class}", locality.sub_zone);
            }
            let weight = u32::try_from(group.sum >> shift).unwrap_or(u32::MAX).max(1);
            localities.push(pb::LocalityLbEndpoints {
                locality: Some(locality),
                lb_endpoints: group.endpoints,
                load_balancing_weight: Some(pb::UInt32Value { value: weight }),
                priority,
            });
        }
        localities
    }

    /// Envoy and gRPC want priorities from zero and without a gap.
    fn ranks(&self) -> BTreeMap<u16, u32> {
        let priorities: BTreeSet<u16> = self.encoded.values().map(|encoded| encoded.spec.priority).collect();
        priorities
            .into_iter()
            .zip((0..MAX_PRIORITY).chain(repeat(MAX_PRIORITY)))
            .collect()
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
            priority: decision.endpoint.priority,
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

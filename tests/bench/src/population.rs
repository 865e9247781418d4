//! The services of a run: what the registry is told of them, and what clients must then hold.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use serde_json::json;

use crate::wire::pb::{Fields, Value, put_bytes, put_number};

/// Where every server under test reads.
pub(crate) const PREFIX: &str = "/bench/";
/// The name of the source, which the metadata of endpoints carries.
pub(crate) const SOURCE: &str = "bench";
const REGION: &str = "r1";
const WEIGHT: u64 = 10;
const PORT: u16 = 8080;
const HEALTHY: u64 = 1;
const DEGRADED: u64 = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Population {
    pub(crate) services: usize,
    /// Of each service.
    pub(crate) endpoints: usize,
}

/// One instance: of which service, the how manieth, and how often it was replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Instance {
    pub(crate) service: usize,
    pub(crate) number: usize,
    pub(crate) generation: u8,
}

pub(crate) fn name(service: usize) -> String {
    format!("svc-{service:05}")
}

impl Population {
    pub(crate) fn names(self) -> Vec<String> {
        (0..self.services).map(name).collect()
    }

    /// Every key with its value, as of one moment.
    pub(crate) fn records(self, stamp: u64) -> impl Iterator<Item = (String, String)> {
        let instances =
            (0..self.services).flat_map(move |service| (0..self.endpoints).map(move |number| (service, number)));
        instances.map(move |(service, number)| {
            let instance = Instance {
                service,
                number,
                generation: 0,
            };
            (instance.key(), instance.record(stamp))
        })
    }

    /// An assignment with its stamp, as Leadsman sends it but for the revisions.
    pub(crate) fn assignment(self, service: usize, stamp: u64) -> Vec<u8> {
        let mut out = Vec::new();
        put_bytes(&mut out, 1, name(service).as_bytes());
        let instance = |number| Instance {
            service,
            number,
            generation: 0,
        };
        let stamped = instance(0);
        put_group(&mut out, &stamp.to_string(), 3, [stamped].into_iter(), stamp);
        put_group(&mut out, REGION, 1, (1..self.endpoints).map(instance), stamp);
        out
    }
}

impl Instance {
    pub(crate) fn key(self) -> String {
        let Self {
            service,
            number,
            generation,
        } = self;
        format!("{PREFIX}{}/{number}-{generation}", name(service))
    }

    fn address(self) -> String {
        let Self { service, number, .. } = self;
        let [.., a, b] = service.to_be_bytes();
        let [.., c, d] = number.to_be_bytes();
        // A replaced instance comes back on the next port, so that its service keeps its order.
        format!("{}.{b}.{c}.{d}", 10 + a)
    }

    fn port(self) -> u16 {
        PORT + u16::from(self.generation)
    }

    /// The first of a service changes its health with every stamp, and its locality is the stamp.
    fn health(self, stamp: u64) -> u64 {
        if self.number == 0 && stamp % 2 == 1 {
            DEGRADED
        } else {
            HEALTHY
        }
    }

    pub(crate) fn record(self, stamp: u64) -> String {
        let health = if self.health(stamp) == DEGRADED {
            "degraded"
        } else {
            "healthy"
        };
        let locality = if self.number == 0 {
            json!({ "sub_zone": stamp.to_string() })
        } else {
            json!({ "region": REGION })
        };
        let address = self.address();
        json!({ "address": address, "port": self.port(), "weight": WEIGHT, "health": health, "locality": locality })
            .to_string()
    }
}

fn put_group(out: &mut Vec<u8>, locality: &str, field: u64, instances: impl Iterator<Item = Instance>, stamp: u64) {
    let (mut group, mut place) = (Vec::new(), Vec::new());
    put_bytes(&mut place, field, locality.as_bytes());
    put_bytes(&mut group, 1, &place);
    let mut usable = 0;
    for instance in instances {
        put_bytes(&mut group, 2, &endpoint(instance, stamp));
        if instance.health(stamp) == HEALTHY {
            usable += WEIGHT;
        }
    }
    let mut weight = Vec::new();
    put_number(&mut weight, 1, usable.max(1));
    put_bytes(&mut group, 3, &weight);
    put_bytes(out, 2, &group);
}

fn endpoint(instance: Instance, stamp: u64) -> Vec<u8> {
    let wrap = |field, inner: &[u8]| {
        let mut out = Vec::new();
        put_bytes(&mut out, field, inner);
        out
    };
    let mut socket = Vec::new();
    put_bytes(&mut socket, 2, instance.address().as_bytes());
    put_number(&mut socket, 3, instance.port().into());
    let mut fields = Vec::new();
    for (name, value) in [("rev", "00000000"), ("src", SOURCE)] {
        let mut entry = Vec::new();
        put_bytes(&mut entry, 1, name.as_bytes());
        put_bytes(&mut entry, 2, &wrap(3, value.as_bytes()));
        put_bytes(&mut fields, 1, &entry);
    }
    let mut filter = Vec::new();
    put_bytes(&mut filter, 1, b"leadsman");
    put_bytes(&mut filter, 2, &fields);
    let mut weight = Vec::new();
    put_number(&mut weight, 1, WEIGHT);
    let mut out = wrap(1, &wrap(1, &wrap(1, &socket)));
    put_number(&mut out, 2, instance.health(stamp));
    put_bytes(&mut out, 3, &wrap(1, &filter));
    put_bytes(&mut out, 4, &weight);
    out
}

/// An assignment with every revision zeroed: what must be equal whoever made it.
pub(crate) fn without_revisions(assignment: &[u8]) -> Vec<u8> {
    const BEFORE: &[u8] = b"\x0a\x03rev\x12\x0a\x1a\x08";
    const REVISION_BYTES: usize = 8;
    let mut bytes = assignment.to_vec();
    let found: Vec<usize> = bytes
        .windows(BEFORE.len())
        .enumerate()
        .filter_map(|(start, window)| (window == BEFORE).then_some(start + BEFORE.len()))
        .collect();
    for start in found {
        if let Some(revision) = bytes.get_mut(start..start + REVISION_BYTES) {
            revision.fill(b'0');
        }
    }
    bytes
}

/// Address, port, health and sub-zone of every endpoint, in order of the address.
pub(crate) type Endpoints = BTreeMap<(String, u64), (u64, String)>;

/// What an assignment says.
pub(crate) fn decode(assignment: &[u8]) -> anyhow::Result<(String, Endpoints)> {
    let mut endpoints = Endpoints::new();
    let groups = Fields(assignment).filter(|(field, _)| *field == 2);
    for (_, group) in groups {
        let Value::Bytes(group) = group else { continue };
        let sub_zone = Fields(group)
            .bytes(1)
            .map(|locality| Fields(locality).text(3))
            .unwrap_or_default();
        for (field, endpoint) in Fields(group) {
            let (2, Value::Bytes(bytes)) = (field, endpoint) else {
                continue;
            };
            let socket = [1, 1, 1]
                .into_iter()
                .try_fold(bytes, |bytes, field| Fields(bytes).bytes(field));
            let socket = Fields(socket.context("an endpoint without an address")?);
            let says = (Fields(bytes).number(2), sub_zone.to_owned());
            let twice = endpoints.insert((socket.text(2).to_owned(), socket.number(3)), says);
            ensure!(twice.is_none(), "{} is there twice", socket.text(2));
        }
    }
    Ok((Fields(assignment).text(1).to_owned(), endpoints))
}

/// What a record says, in the same words.
pub(crate) fn read_record(value: &[u8], into: &mut Endpoints) -> anyhow::Result<()> {
    let record: serde_json::Value = serde_json::from_slice(value)?;
    let text = |pointer| {
        record
            .pointer(pointer)
            .and_then(serde_json::Value::as_str)
            .unwrap_or_default()
    };
    let port = record
        .pointer("/port")
        .and_then(serde_json::Value::as_u64)
        .unwrap_or_default();
    let health = if text("/health") == "degraded" {
        DEGRADED
    } else {
        HEALTHY
    };
    into.insert(
        (text("/address").to_owned(), port),
        (health, text("/locality/sub_zone").to_owned()),
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::ads;

    #[test]
    fn an_assignment_says_what_the_records_say() {
        let population = Population {
            services: 3,
            endpoints: 4,
        };
        let assignment = population.assignment(2, 77);
        let (name, endpoints) = decode(&assignment).unwrap();
        let mut recorded = Endpoints::new();
        for (key, value) in population.records(77).filter(|(key, _)| key.contains("svc-00002")) {
            assert!(key.starts_with("/bench/svc-00002/"));
            read_record(value.as_bytes(), &mut recorded).unwrap();
        }
        assert_eq!((name.as_str(), endpoints), ("svc-00002", recorded));
        assert_eq!(ads::stamp(&assignment), 77);
        assert_eq!(without_revisions(&assignment), assignment);
    }

    #[test]
    fn assignments_are_what_the_generated_crate_reads() {
        use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
        use prost::Message;
        let population = Population {
            services: 1,
            endpoints: 3,
        };
        let bytes = population.assignment(0, 9);
        let read = ClusterLoadAssignment::decode(bytes.as_slice()).unwrap();
        let counts: Vec<usize> = read.endpoints.iter().map(|group| group.lb_endpoints.len()).collect();
        assert_eq!((read.cluster_name.as_str(), counts), ("svc-00000", vec![1, 2]));
        assert_eq!(read.encode_to_vec().len(), bytes.len());
    }
}

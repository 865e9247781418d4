//! Servers that show what the machine gives at best, and what a plain server costs: they know no registry.
//!
//! The bench tells them of each change on a connection of its own, a line with the service and the stamp.

pub(crate) mod echo;
pub(crate) mod floor;

use crate::population::{Population, name};
use crate::wire::ads::ENDPOINT_TYPE;
use crate::wire::pb::put_bytes;

/// A `Resource`, its version being its stamp.
fn resource(population: Population, service: usize, stamp: u64) -> Vec<u8> {
    let (mut any, mut out) = (Vec::new(), Vec::new());
    put_bytes(&mut any, 1, ENDPOINT_TYPE.as_bytes());
    put_bytes(&mut any, 2, &population.assignment(service, stamp));
    put_bytes(&mut out, 1, stamp.to_string().as_bytes());
    put_bytes(&mut out, 2, &any);
    put_bytes(&mut out, 3, name(service).as_bytes());
    out
}

/// The service and the stamp of a line.
fn parse(line: &str) -> Option<(usize, u64)> {
    let (service, stamp) = line.trim().split_once(' ')?;
    Some((service.parse().ok()?, stamp.parse().ok()?))
}

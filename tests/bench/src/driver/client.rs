//! What one client holds, and what a response does to it.

use std::time::Duration;

use xxhash_rust::xxh3::xxh3_64;

use super::Ledger;
use super::connection::Handler;
use crate::histogram::Histogram;
use crate::machine::now;
use crate::wire::ads;

/// One name of one client; a hash of zero means that nothing came yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) hash: u64,
    pub(crate) stamp: u64,
}

/// The newest that any client has of a service.
#[derive(Clone, Debug, Default)]
pub(crate) struct Latest {
    pub(crate) held: Held,
    pub(crate) holders: usize,
    pub(crate) version: String,
    pub(crate) content: Vec<u8>,
}

/// What all clients add to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stats {
    /// Responses, each of which was answered.
    pub(crate) messages: u64,
    /// Responses that were answered with a NACK.
    pub(crate) refused: u64,
    pub(crate) resources: u64,
    /// Of responses, without frames.
    pub(crate) payload: u64,
    /// Of sockets.
    pub(crate) bytes: u64,
    /// Resources that were older than what the client held.
    pub(crate) backwards: u64,
    /// From each write to each client, one response of the service's newest for several writes included.
    pub(crate) latency: Histogram,
    /// From a write to the first client of all.
    pub(crate) first: Histogram,
    /// When the watched service reached a client.
    pub(crate) arrivals: Vec<u64>,
    pub(crate) loss: Option<String>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) ledger: std::sync::Arc<Ledger>,
    pub(crate) latest: Vec<Latest>,
    pub(crate) stats: Stats,
    /// Writes before this moment are not counted.
    pub(crate) since: u64,
    pub(crate) watched: Option<usize>,
}

/// The names of one client: as many as it holds, from `offset` on, round the end.
#[derive(Debug, Default)]
pub(crate) struct Holdings {
    pub(crate) offset: usize,
    pub(crate) held: Vec<Held>,
    pub(crate) complete: usize,
}

#[derive(Debug)]
pub(crate) struct Receiver<'a> {
    /// The client answers with a NACK.
    pub(crate) refuses: bool,
    pub(crate) shared: &'a mut Shared,
    pub(crate) holdings: &'a mut Holdings,
}

impl Handler for Receiver<'_> {
    fn handle(&mut self, message: &[u8], answer: &mut Vec<u8>) {
        let now = now();
        self.shared.stats.messages += 1;
        self.shared.stats.payload += message.len() as u64;
        for resource in ads::resources(message) {
            self.take(resource, now);
        }
        let (type_url, nonce) = ads::type_and_nonce(message);
        if self.refuses {
            self.shared.stats.refused += 1;
            ads::put_nack(answer, type_url, nonce);
        } else {
            ads::put_ack(answer, type_url, nonce);
        }
    }
}

impl Receiver<'_> {
    fn take(&mut self, resource: ads::Resource<'_>, now: u64) {
        let services = self.shared.latest.len();
        let Some(service) = service(resource.name) else { return };
        let place = (service + services - self.holdings.offset) % services.max(1);
        let Some(held) = self.holdings.held.get_mut(place) else {
            return;
        };
        let new = Held {
            hash: xxh3_64(resource.content).max(1),
            stamp: ads::stamp(resource.content),
        };
        let before = std::mem::replace(held, new);
        self.shared.stats.resources += 1;
        if before.hash == 0 {
            self.holdings.complete += 1;
        } else {
            self.shared.count(service, before.stamp, new.stamp, now);
        }
        self.shared.learn(service, before, new, &resource, now);
    }
}

impl Shared {
    fn count(&mut self, service: usize, before: u64, stamp: u64, now: u64) {
        let Self {
            ledger, stats, since, ..
        } = self;
        if stamp < before {
            stats.backwards += 1;
        }
        ledger.between(service, before.max(*since), stamp, |write| {
            stats.latency.record(Duration::from_nanos(now.saturating_sub(write)));
        });
    }

    fn learn(&mut self, service: usize, before: Held, new: Held, resource: &ads::Resource<'_>, now: u64) {
        if self.watched == Some(service) && new.stamp > self.since {
            self.stats.arrivals.push(now);
        }
        let Some(latest) = self.latest.get_mut(service) else {
            return;
        };
        if new == latest.held {
            latest.holders += usize::from(before != new);
        } else if new.stamp >= latest.held.stamp {
            if latest.held.hash != 0 && new.stamp > self.since {
                let since = Duration::from_nanos(now.saturating_sub(new.stamp));
                self.stats.first.record(since);
            }
            latest.held = new;
            latest.holders = 1;
            resource.version.clone_into(&mut latest.version);
            resource.content.clone_into(&mut latest.content);
        } else if before == latest.held {
            latest.holders -= 1;
        }
    }
}

/// The number at the end of a name.
fn service(name: &str) -> Option<usize> {
    name.rsplit('-').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::population::{Population, name};
    use crate::wire::pb::put_bytes;

    const POPULATION: Population = Population {
        services: 2,
        endpoints: 2,
    };

    /// A client of both services, beginning with the second; what it gets; and its counts.
    fn receive(shared: &mut Shared, holdings: &mut Holdings, service: usize, stamp: u64) {
        let (mut any, mut resource, mut response) = (Vec::new(), Vec::new(), Vec::new());
        put_bytes(&mut any, 2, &POPULATION.assignment(service, stamp));
        put_bytes(&mut resource, 1, format!("v{stamp}").as_bytes());
        put_bytes(&mut resource, 2, &any);
        put_bytes(&mut resource, 3, name(service).as_bytes());
        put_bytes(&mut response, 2, &resource);
        let mut receiver = Receiver {
            refuses: false,
            shared,
            holdings,
        };
        receiver.handle(&response, &mut Vec::new());
    }

    #[test]
    fn receipts_are_set_against_writes_and_a_step_back_is_noticed() {
        let mut shared = Shared {
            ledger: std::sync::Arc::default(),
            latest: vec![Latest::default(); 2],
            stats: Stats::default(),
            since: 0,
            watched: Some(1),
        };
        let client = || Holdings {
            offset: 1,
            held: vec![Held::default(); 2],
            complete: 0,
        };
        let (mut one, mut two) = (client(), client());
        for client in [&mut one, &mut two] {
            receive(&mut shared, client, 0, 10);
            receive(&mut shared, client, 1, 10);
        }
        assert_eq!((one.complete, shared.latest[1].holders), (2, 2));
        assert_eq!(shared.stats.latency.max(), Duration::ZERO, "a first receipt has no age");
        for stamp in [20, 30] {
            shared.ledger.note(1, stamp);
        }
        receive(&mut shared, &mut one, 1, 30);
        assert_eq!((shared.latest[1].held.stamp, shared.latest[1].holders), (30, 1));
        assert_eq!((shared.latest[1].version.as_str(), shared.stats.backwards), ("v30", 0));
        assert!(shared.stats.latency.max() > Duration::ZERO);
        receive(&mut shared, &mut two, 1, 30);
        receive(&mut shared, &mut two, 1, 30);
        assert_eq!((shared.latest[1].holders, shared.latest[0].holders), (2, 2));
        receive(&mut shared, &mut two, 1, 20);
        assert_eq!((shared.latest[1].holders, shared.stats.backwards), (1, 1));
        assert_eq!((shared.stats.resources, shared.stats.arrivals.len()), (8, 6));
    }
}

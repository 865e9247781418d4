//! One aggregated delta stream.
//!
//! Clusters go before endpoints. A cluster that is sent owes its endpoints right behind it, because Envoy waits for them
//! without asking; and nothing waits for the acknowledgement of a cluster, because Envoy gives it only when every
//! cluster has its endpoints.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::subscription::Subscription;
use super::{Interest, Node, ProtocolError, Request, ResourceState, Response, TypeReport};
use crate::snapshot::{MAX_CLUSTERS, ResourceType, Snapshot};

/// Bounds of one stream.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Names a client may subscribe to, over all types.
    pub names: usize,
    /// Responses of a type that may be waiting for their answer; more would only be buffered.
    pub in_flight: usize,
    /// About the largest response: a stream keeps memory of the size of its largest one. Answers with clusters are cut
    /// late, since Envoy takes the first for all there are when it starts.
    pub endpoint_bytes: usize,
    pub cluster_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            names: 2 * MAX_CLUSTERS,
            in_flight: 64,
            endpoint_bytes: 64 << 10,
            cluster_bytes: 4 << 20,
        }
    }
}

/// The state of one stream; see the module.
#[derive(Debug)]
pub struct DeltaStream {
    limits: Limits,
    node: Option<Node>,
    clusters: Subscription,
    endpoints: Subscription,
    /// Answers to types that we do not have: each name is said to be missing, once.
    unknown: VecDeque<(Arc<str>, Vec<Arc<str>>)>,
    /// Types that we do not have and that were asked for, bounded by [`MAX_UNKNOWN_TYPES`].
    unknown_types: BTreeSet<Arc<str>>,
    next_nonce: u64,
}

/// Envoy has about ten types; a client that invents more gets no answer for them.
const MAX_UNKNOWN_TYPES: usize = 32;
/// Names of such a type that are said to be missing; a client that asks for more of what we do not have waits for them.
const MAX_UNKNOWN_NAMES: usize = 1_000;

impl DeltaStream {
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            node: None,
            clusters: Subscription::new(ResourceType::Cluster),
            endpoints: Subscription::new(ResourceType::Endpoint),
            unknown: VecDeque::new(),
            unknown_types: BTreeSet::new(),
            next_nonce: 1,
        }
    }

    /// Who is at the other end, once the first request has said so. Later changes of the node are ignored.
    pub fn node(&self) -> Option<&Node> {
        self.node.as_ref()
    }

    /// Takes a request in and says what it changes in what the stream must be told about.
    ///
    /// The caller registers the interests before it reads the snapshot for [`DeltaStream::next_response`]: then no change
    /// can fall between the two.
    ///
    /// # Errors
    /// [`ProtocolError`] for a request that must end the stream.
    pub fn handle_request(&mut self, request: Request) -> Result<Vec<Interest>, ProtocolError> {
        if self.node.is_none() {
            let node = request.node.clone().filter(|node| !node.id.is_empty());
            self.node = Some(node.ok_or(ProtocolError::NoNode)?);
        }
        if request.type_url.is_empty() {
            return Err(ProtocolError::NoTypeUrl);
        }
        if request.subscribe.len().max(request.initial_versions.len()) > self.limits.names {
            return Err(ProtocolError::TooManyNames(self.limits.names));
        }
        let interests = self.handle_typed(request);
        if self.clusters.len() + self.endpoints.len() > self.limits.names {
            return Err(ProtocolError::TooManyNames(self.limits.names));
        }
        Ok(interests)
    }

    fn handle_typed(&mut self, request: Request) -> Vec<Interest> {
        let Self {
            clusters, endpoints, ..
        } = self;
        match ResourceType::from_type_url(&request.type_url) {
            Some(ResourceType::Cluster) => clusters.handle(&request, &|_| false),
            Some(ResourceType::Endpoint) => {
                // Envoy does not claim the clusters it took from a response that it refused, but it asks for their
                // endpoints when it comes back: one that does not exist any more has to be removed.
                if !endpoints.has_started() {
                    request.subscribe.iter().for_each(|name| clusters.suppose(name));
                }
                // Envoy forgets the endpoints of a cluster that it gets anew, and still claims to hold them.
                endpoints.handle(&request, &|name| clusters.was_sent_here(name))
            }
            None => {
                self.handle_unknown(request);
                Vec::new()
            }
        }
    }

    fn handle_unknown(&mut self, request: Request) {
        let type_url: Arc<str> = request.type_url.into();
        let known = self.unknown_types.contains(&type_url);
        if !known && self.unknown_types.len() >= MAX_UNKNOWN_TYPES {
            return;
        }
        self.unknown_types.insert(type_url.clone());
        let mut names: Vec<Arc<str>> = request
            .subscribe
            .into_iter()
            .filter(|name| name.as_ref() != "*")
            .collect();
        names.truncate(MAX_UNKNOWN_NAMES);
        // A first request is answered even without names: Envoy starts when it has an answer, not when it has resources.
        if !names.is_empty() || !known {
            self.unknown.push_back((type_url, names));
            self.unknown.truncate(MAX_UNKNOWN_TYPES);
        }
    }

    /// A resource is another one, or none, in the snapshot.
    pub fn handle_change(&mut self, kind: ResourceType, name: &Arc<str>) {
        self.of_mut(kind).mark(name);
    }

    /// The snapshot has begun to answer, or absence in it has become proof.
    pub fn handle_certainty(&mut self) {
        self.clusters.recheck();
        self.endpoints.recheck();
    }

    /// The next message for the client, or `None` when there is nothing to say.
    pub fn next_response(&mut self, snapshot: &Snapshot, now: Duration) -> Option<Response> {
        if let Some((type_url, removed)) = self.unknown.pop_front() {
            let nonce = self.take_nonce().to_string();
            return Some(Response {
                type_url,
                nonce,
                resources: Vec::new(),
                removed,
                system_version: snapshot.serial(),
            });
        }
        if !snapshot.is_answering() {
            return None;
        }
        ResourceType::ALL
            .into_iter()
            .find_map(|kind| self.next_of(kind, snapshot, now))
    }

    fn next_of(&mut self, kind: ResourceType, snapshot: &Snapshot, now: Duration) -> Option<Response> {
        let Limits {
            in_flight,
            endpoint_bytes,
            cluster_bytes,
            ..
        } = self.limits;
        let bytes = match kind {
            ResourceType::Cluster => cluster_bytes,
            ResourceType::Endpoint => endpoint_bytes,
        };
        let Self {
            clusters, endpoints, ..
        } = self;
        let batch = match kind {
            ResourceType::Cluster if clusters.in_flight() < in_flight => {
                clusters.next_batch(snapshot, bytes, &|_| false)
            }
            ResourceType::Endpoint if endpoints.in_flight() < in_flight => {
                endpoints.next_batch(snapshot, bytes, &|name| clusters.is_wanted(name))
            }
            ResourceType::Cluster | ResourceType::Endpoint => None,
        }?;
        let nonce = self.take_nonce();
        self.of_mut(kind).sent(nonce, &batch, now);
        if kind == ResourceType::Cluster {
            for resource in &batch.resources {
                self.endpoints.owe(&resource.name);
            }
        }
        Some(Response {
            type_url: kind.type_url().into(),
            nonce: nonce.to_string(),
            resources: batch.resources,
            removed: batch.removed,
            system_version: snapshot.serial(),
        })
    }

    fn take_nonce(&mut self) -> u64 {
        let nonce = self.next_nonce;
        self.next_nonce += 1;
        nonce
    }

    /// Where a resource stands with this client.
    pub fn state(&self, kind: ResourceType, name: &str) -> ResourceState {
        match kind {
            ResourceType::Cluster => self.clusters.state(name),
            ResourceType::Endpoint => self.endpoints.state(name),
        }
    }

    /// Where every type stands with this client.
    pub fn report(&self, now: Duration) -> Vec<TypeReport> {
        vec![self.clusters.report(now), self.endpoints.report(now)]
    }

    /// What takes back every interest, for the end of the stream.
    pub fn farewell(&self) -> Vec<Interest> {
        self.clusters.interests().chain(self.endpoints.interests()).collect()
    }

    fn of_mut(&mut self, kind: ResourceType) -> &mut Subscription {
        match kind {
            ResourceType::Cluster => &mut self.clusters,
            ResourceType::Endpoint => &mut self.endpoints,
        }
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

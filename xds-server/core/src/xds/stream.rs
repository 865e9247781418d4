//! One stream of either variant, aggregated or of a single type.
//!
//! Clusters go before endpoints. A cluster that is sent owes its endpoints right behind it, because Envoy waits for them
//! without asking; and nothing waits for the acknowledgement of a cluster, because Envoy gives it only when every
//! cluster has its endpoints.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::subscription::Subscription;
use super::{
    Interest, Node, ProtocolError, Request, ResourceState, Resources, Response, SotwRequest, TypeReport, Variant,
};
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
pub struct DiscoveryStream {
    variant: Variant,
    limits: Limits,
    node: Option<Node>,
    clusters: Subscription,
    endpoints: Subscription,
    listeners: Subscription,
    routes: Subscription,
    service_entries: Subscription,
    /// Answers to types that we do not have: each name is said to be missing, once.
    unknown: VecDeque<(Arc<str>, Vec<Arc<str>>)>,
    /// Types that we do not have and that were asked for, bounded by [`MAX_UNKNOWN_TYPES`].
    unknown_types: BTreeSet<Arc<str>>,
    next_nonce: u64,
}

/// Of responses that list everything, a few are in flight: each holds all there is.
const WHOLE_IN_FLIGHT: usize = 4;
/// Names of clusters have 253 bytes, those of nodes and of other types are not ours to choose.
const MAX_TEXT_BYTES: usize = 4 << 10;
/// What a stream knows of, beside what it asked for by name, is what is published and what a client brought along.
const KNOWN_PER_WANTED: usize = 2;
/// Envoy has about ten types; a client that invents more gets no answer for them.
const MAX_UNKNOWN_TYPES: usize = 32;
/// Names of such a type that are said to be missing; a client that asks for more of what we do not have waits for them.
const MAX_UNKNOWN_NAMES: usize = 1_000;

impl DiscoveryStream {
    pub fn new(variant: Variant, limits: Limits) -> Self {
        Self {
            variant,
            limits,
            node: None,
            clusters: Subscription::new(ResourceType::Cluster, variant),
            endpoints: Subscription::new(ResourceType::Endpoint, variant),
            listeners: Subscription::new(ResourceType::Listener, variant),
            routes: Subscription::new(ResourceType::Route, variant),
            service_entries: Subscription::new(ResourceType::ServiceEntry, variant),
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
    /// The caller registers the interests before it reads the snapshot for [`DiscoveryStream::next_response`]: then no change
    /// can fall between the two.
    ///
    /// # Errors
    /// [`ProtocolError`] for a request that must end the stream.
    pub fn handle_request(&mut self, request: Request) -> Result<Vec<Interest>, ProtocolError> {
        if request.longest_text() > MAX_TEXT_BYTES {
            return Err(ProtocolError::TooLong(MAX_TEXT_BYTES));
        }
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
        // Whoever wants everything is told of names that it gives up, too, and can invent them.
        let (wanted, known) = (
            self.types().map(Subscription::len).sum::<usize>(),
            self.types().map(Subscription::known).sum::<usize>(),
        );
        if wanted > self.limits.names || known > KNOWN_PER_WANTED * self.limits.names {
            return Err(ProtocolError::TooManyNames(self.limits.names));
        }
        Ok(interests)
    }

    /// As [`DiscoveryStream::handle_request`], for a request that names everything the client wants.
    ///
    /// # Errors
    /// [`ProtocolError`] for a request that must end the stream.
    pub fn handle_sotw_request(&mut self, request: SotwRequest) -> Result<Vec<Interest>, ProtocolError> {
        if request.names.len() > self.limits.names {
            return Err(ProtocolError::TooManyNames(self.limits.names));
        }
        let (subscribe, unsubscribe) = match ResourceType::from_type_url(&request.type_url) {
            Some(kind) => self.of_mut(kind).compare(&request),
            None => (request.names.clone(), Vec::new()),
        };
        self.handle_request(Request {
            node: request.node,
            type_url: request.type_url,
            subscribe,
            unsubscribe,
            initial_versions: Vec::new(),
            response_nonce: request.response_nonce,
            error_detail: request.error_detail,
        })
    }

    fn handle_typed(&mut self, request: Request) -> Vec<Interest> {
        let Self {
            clusters,
            endpoints,
            listeners,
            routes,
            service_entries,
            ..
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
            Some(ResourceType::Listener) => listeners.handle(&request, &|_| false),
            Some(ResourceType::Route) => routes.handle(&request, &|_| false),
            Some(ResourceType::ServiceEntry) => service_entries.handle(&request, &|_| false),
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
        names.sort();
        names.dedup();
        names.truncate(MAX_UNKNOWN_NAMES);
        let answer = match self.variant {
            // A first request is answered even without names: Envoy starts when it has an answer, not when it has resources.
            Variant::Delta => !names.is_empty() || !known,
            // An empty answer would not say which of the names it is about, and Envoy refuses one for a secret.
            Variant::StateOfTheWorld => names.is_empty() && !known,
        };
        if answer {
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
        for kind in ResourceType::ALL {
            self.of_mut(kind).recheck();
        }
    }

    /// The next message for the client, or `None` when there is nothing to say.
    pub fn next_response(&mut self, snapshot: &Snapshot, now: Duration) -> Option<Response> {
        if let Some((type_url, removed)) = self.unknown.pop_front() {
            return Some(Response {
                variant: self.variant,
                type_url: type_url.to_string().into(),
                nonce: self.take_nonce(),
                resources: Resources::new(),
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
        let in_flight = match self.variant {
            Variant::StateOfTheWorld if kind.is_whole() => WHOLE_IN_FLIGHT.min(in_flight),
            Variant::StateOfTheWorld | Variant::Delta => in_flight,
        };
        let bytes = match kind {
            ResourceType::Cluster | ResourceType::Listener | ResourceType::ServiceEntry => cluster_bytes,
            ResourceType::Endpoint | ResourceType::Route => endpoint_bytes,
        };
        let Self {
            clusters,
            endpoints,
            listeners,
            routes,
            service_entries,
            ..
        } = self;
        let led = |name: &str| clusters.is_wanted(name);
        let batch = match kind {
            ResourceType::Endpoint if endpoints.in_flight() < in_flight => endpoints.next_batch(snapshot, bytes, &led),
            ResourceType::Cluster if clusters.in_flight() < in_flight => {
                clusters.next_batch(snapshot, bytes, &|_| false)
            }
            ResourceType::Listener if listeners.in_flight() < in_flight => {
                listeners.next_batch(snapshot, bytes, &|_| false)
            }
            ResourceType::Route if routes.in_flight() < in_flight => routes.next_batch(snapshot, bytes, &|_| false),
            // Every response is the whole mesh, and istiod answers each: what changes meanwhile goes into the next one.
            ResourceType::ServiceEntry if service_entries.in_flight() == 0 => {
                service_entries.next_batch(snapshot, bytes, &|_| false)
            }
            ResourceType::Cluster
            | ResourceType::Endpoint
            | ResourceType::Listener
            | ResourceType::Route
            | ResourceType::ServiceEntry => None,
        }?;
        let nonce = self.take_nonce();
        self.of_mut(kind).sent(nonce, &batch, now);
        if kind == ResourceType::Cluster {
            for resource in &batch.changed {
                self.endpoints.owe(&resource.name);
            }
        }
        let (resources, removed) = batch.into_carried();
        Some(Response {
            variant: self.variant,
            type_url: kind.type_url().into(),
            nonce,
            resources,
            removed,
            system_version: snapshot.serial(),
        })
    }

    fn take_nonce(&mut self) -> u64 {
        let nonce = self.next_nonce;
        self.next_nonce += 1;
        nonce
    }

    /// Whether the client waits for the first list of something until every source has been read in full.
    pub fn is_withholding(&self, snapshot: &Snapshot) -> bool {
        self.types().any(|of| of.withholds(snapshot))
    }

    /// Where a resource stands with this client.
    pub fn state(&self, kind: ResourceType, name: &str) -> ResourceState {
        self.of(kind).state(name)
    }

    /// How many times a resource of a type was found to be the reason of a refusal.
    pub fn quarantines(&self, kind: ResourceType) -> u64 {
        self.of(kind).quarantines()
    }

    /// Where every type stands with this client, in the order of [`ResourceType::ALL`].
    pub fn report(&self, now: Duration) -> Vec<TypeReport> {
        self.types().map(|of| of.report(now)).collect()
    }

    /// What takes back every interest, for the end of the stream.
    pub fn farewell(&self) -> Vec<Interest> {
        self.types().flat_map(Subscription::interests).collect()
    }

    fn types(&self) -> impl Iterator<Item = &Subscription> {
        ResourceType::ALL.into_iter().map(|kind| self.of(kind))
    }

    fn of(&self, kind: ResourceType) -> &Subscription {
        match kind {
            ResourceType::Cluster => &self.clusters,
            ResourceType::Endpoint => &self.endpoints,
            ResourceType::Listener => &self.listeners,
            ResourceType::Route => &self.routes,
            ResourceType::ServiceEntry => &self.service_entries,
        }
    }

    fn of_mut(&mut self, kind: ResourceType) -> &mut Subscription {
        match kind {
            ResourceType::Cluster => &mut self.clusters,
            ResourceType::Endpoint => &mut self.endpoints,
            ResourceType::Listener => &mut self.listeners,
            ResourceType::Route => &mut self.routes,
            ResourceType::ServiceEntry => &mut self.service_entries,
        }
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

//! A model of Envoy against the stream: whatever the order of changes, answers, refusals and reconnects, and whatever a
//! refusal says, once both have nothing more to say the client holds what is published, and no cluster waits for
//! endpoints that nobody sends. The same client speaks either variant.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;

use super::tests::{CDS, EDS, NOW, World, names, request, world_of};
use super::*;
use crate::snapshot::Version;

/// One cluster in Envoy.
#[derive(Clone, Debug, Default)]
struct Cluster {
    /// What it runs with, and what it would say it holds.
    cluster: Option<Version>,
    endpoints: Option<Version>,
    claims_cluster: Option<Version>,
    claims_endpoints: Option<Version>,
    /// Waits for endpoints since it was added or changed.
    warming: bool,
    /// It came back claiming an older cluster than the one it took from a response that it refused. When just that older
    /// one is wanted again, no server that does not remember refusals across streams can tell.
    hidden: bool,
    /// It came back in the middle of warming, claiming endpoints that it had before. When the cluster went from one
    /// content to another and back, these are the ones it waits for; Envoy takes them from its cache after a while.
    interrupted: bool,
}

/// How a client words its refusals.
#[derive(Clone, Copy, Debug)]
enum Words {
    /// Without a name.
    Vague,
    /// As Envoy does for clusters.
    Exact,
    /// With the name of some resource, a culprit or not.
    Misleading,
}

/// Envoy: a wildcard of clusters, and the endpoints of each.
#[derive(Debug)]
struct Client {
    variant: Variant,
    words: Words,
    clusters: BTreeMap<Arc<str>, Cluster>,
    inbox: VecDeque<Response>,
    /// What was refused alone, until the name is heard of in another way, and the last response that was on its way
    /// then: the server can't have known before.
    refused: BTreeMap<(ResourceType, Arc<str>), (Version, u64)>,
}

/// Some contents are refused, by everybody and always.
fn is_bad(version: Version) -> bool {
    version.to_string().ends_with(['0', '1', '2'])
}

impl Client {
    fn new(variant: Variant, words: Words) -> Self {
        Self {
            variant,
            words,
            clusters: BTreeMap::new(),
            inbox: VecDeque::new(),
            refused: BTreeMap::new(),
        }
    }

    /// Why a response is refused, if it is.
    fn refusal(&self, response: &Response) -> Option<String> {
        let bad = response.resources.iter().filter(|resource| is_bad(resource.version));
        let bad: Vec<String> = bad.map(|resource| format!("{}: no", resource.name)).collect();
        let first = response.resources.first()?;
        (!bad.is_empty()).then(|| match self.words {
            Words::Vague => "no".to_owned(),
            Words::Exact => format!("Error adding/updating cluster(s) {}", bad.join(", ")),
            Words::Misleading => format!("something with {} is wrong", first.name),
        })
    }

    /// What the response says is gone: in the state of the world, what it leaves out.
    fn gone(&self, response: &Response, kind: ResourceType) -> Vec<Arc<str>> {
        match (self.variant, kind) {
            (Variant::Delta, _) => response.removed.clone(),
            (Variant::StateOfTheWorld, ResourceType::Cluster) => {
                let listed = |name: &Arc<str>| response.resources.iter().any(|resource| resource.name == *name);
                self.clusters.keys().filter(|name| !listed(name)).cloned().collect()
            }
            (Variant::StateOfTheWorld, _) => Vec::new(),
        }
    }

    /// Reads one response and says what Envoy says.
    fn step(&mut self) -> Vec<Request> {
        let Some(response) = self.inbox.pop_front() else {
            return Vec::new();
        };
        let kind = ResourceType::from_type_url(&response.type_url).unwrap();
        let why = self.refusal(&response);
        let removed = self.gone(&response, kind);
        // What was removed and comes back is something new, whether the client ever took it or not.
        for name in removed.iter().chain(&response.removed) {
            self.refused.remove(&(kind, name.clone()));
        }
        for resource in &response.resources {
            let key = (kind, resource.name.clone());
            let refused = self.refused.remove(&key);
            let again = refused.is_some_and(|(version, last)| version == resource.version && response.nonce > last);
            assert!(!again, "refused bytes were sent again");
            if is_bad(resource.version) && response.resources.len() == 1 {
                let last = self.inbox.back().map_or(response.nonce, |last| last.nonce);
                self.refused.insert(key, (resource.version, last));
            }
        }
        let mut answer = Request {
            response_nonce: response.nonce.to_string(),
            ..request(kind)
        };
        let good = why.is_none();
        answer.error_detail = why;
        match kind {
            ResourceType::Cluster => self.take_clusters(&response, &removed, answer),
            ResourceType::Endpoint => self.take_endpoints(&response, good, answer),
            ResourceType::Listener | ResourceType::Route | ResourceType::ServiceEntry => {
                unreachable!("never asked for")
            }
        }
    }

    /// Good clusters of a refused response are applied, but not claimed.
    fn take_clusters(&mut self, response: &Response, removed: &[Arc<str>], answer: Request) -> Vec<Request> {
        let good = answer.error_detail.is_none();
        let mut interest = request(EDS);
        for resource in response.resources.iter().filter(|resource| !is_bad(resource.version)) {
            let known = self.clusters.contains_key(&resource.name);
            let cluster = self.clusters.entry(resource.name.clone()).or_default();
            if !known {
                // Whoever asks anew is answered, whatever was refused before.
                self.refused.remove(&(EDS, resource.name.clone()));
                interest.subscribe.push(resource.name.clone());
            }
            cluster.hidden = false;
            if cluster.cluster.replace(resource.version) != Some(resource.version) {
                cluster.warming = true;
            }
            if good {
                cluster.claims_cluster = Some(resource.version);
            }
        }
        for name in removed {
            if self.clusters.remove(name).is_some() {
                self.refused.remove(&(EDS, name.clone()));
                interest.unsubscribe.push(name.clone());
            }
        }
        let quiet = interest.subscribe.is_empty() && interest.unsubscribe.is_empty();
        if quiet { vec![answer] } else { vec![interest, answer] }
    }

    /// A refused response of endpoints changes nothing.
    fn take_endpoints(&mut self, response: &Response, good: bool, answer: Request) -> Vec<Request> {
        for resource in response.resources.iter().filter(|_| good) {
            if let Some(cluster) = self.clusters.get_mut(&resource.name) {
                cluster.endpoints = Some(resource.version);
                cluster.claims_endpoints = Some(resource.version);
                cluster.warming = false;
                cluster.interrupted = false;
            }
        }
        vec![answer]
    }

    /// The same request with every name that is wanted.
    fn reword(&self, request: Request) -> SotwRequest {
        let wanted = self.clusters.keys().filter(|_| request.type_url == EDS.type_url());
        SotwRequest {
            node: request.node,
            names: wanted.cloned().collect(),
            type_url: request.type_url,
            version_info: String::new(),
            response_nonce: request.response_nonce,
            error_detail: request.error_detail,
        }
    }

    /// What Envoy says first on a new stream.
    fn hello(&mut self) -> Vec<Request> {
        self.inbox.clear();
        for cluster in self.clusters.values_mut() {
            cluster.interrupted |= cluster.warming;
            cluster.hidden |= cluster.claims_cluster.is_some() && cluster.claims_cluster != cluster.cluster;
        }
        let claims = |of: fn(&Cluster) -> Option<Version>| -> Vec<(Arc<str>, Option<Version>)> {
            let claim = |(name, cluster): (&Arc<str>, &Cluster)| Some((name.clone(), Some(of(cluster)?)));
            self.clusters.iter().filter_map(claim).collect()
        };
        let clusters = Request {
            initial_versions: claims(|cluster| cluster.claims_cluster),
            ..request(CDS)
        };
        let known: Vec<&str> = self.clusters.keys().map(AsRef::as_ref).collect();
        let initial_versions = claims(|cluster| cluster.claims_endpoints);
        let endpoints = Request {
            subscribe: names(&known),
            initial_versions,
            ..request(EDS)
        };
        if known.is_empty() {
            vec![clusters]
        } else {
            vec![clusters, endpoints]
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Weigh(u8, u8),
    Retime(u8, u8),
    Delete(u8),
    /// The server sends one response, if it has any.
    Send,
    /// The client reads one response, if there is any.
    Read,
    Reconnect,
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0_u8..5, 1_u8..9).prop_map(|(name, weight)| Step::Weigh(name, weight)),
        2 => (0_u8..5, 1_u8..9).prop_map(|(name, millis)| Step::Retime(name, millis)),
        1 => (0_u8..5).prop_map(Step::Delete),
        5 => Just(Step::Send),
        5 => Just(Step::Read),
        1 => Just(Step::Reconnect),
    ]
}

fn say(world: &mut World, client: &Client, requests: Vec<Request>) {
    for request in requests {
        match client.variant {
            Variant::Delta => world.stream.handle_request(request).unwrap(),
            Variant::StateOfTheWorld => world.stream.handle_sotw_request(client.reword(request)).unwrap(),
        };
    }
}

fn send(world: &mut World, client: &mut Client) -> bool {
    let response = world.stream.next_response(&world.snapshot, NOW);
    let sent = response.is_some();
    client.inbox.extend(response);
    sent
}

fn play(world: &mut World, client: &mut Client, step: &Step) {
    let name = |name: u8| format!("s{name}");
    match step {
        Step::Weigh(service, weight) => world.weigh(&name(*service), u32::from(*weight)),
        Step::Retime(service, millis) => world.retime(&name(*service), u64::from(*millis)),
        Step::Delete(service) => world.delete(&name(*service)),
        Step::Send => drop(send(world, client)),
        Step::Read => {
            let answers = client.step();
            say(world, client, answers);
        }
        Step::Reconnect => {
            world.reconnect();
            let hello = client.hello();
            say(world, client, hello);
        }
    }
}

proptest! {
    #![proptest_config(leadsman_property::cases(2000))]
    #[test]
    fn when_nobody_has_anything_to_say_the_client_holds_what_is_published(
        steps in proptest::collection::vec(any_step(), 0..60),
        variant in prop_oneof![Just(Variant::Delta), Just(Variant::StateOfTheWorld)],
        words in prop_oneof![Just(Words::Vague), Just(Words::Exact), Just(Words::Misleading)],
    ) {
        let (mut world, mut client) = (world_of(variant, &["s0", "s1"]), Client::new(variant, words));
        let hello = client.hello();
        say(&mut world, &client, hello);
        for step in &steps {
            if matches!(step, Step::Reconnect) {
                // What a client refused before it came back, the server can't know.
                client.refused.clear();
            }
            play(&mut world, &mut client, step);
        }
        let mut turns = 0;
        while send(&mut world, &mut client) || !client.inbox.is_empty() {
            let answers = client.step();
            say(&mut world, &client, answers);
            turns += 1;
            prop_assert!(turns < 1000, "the two never come to rest");
        }
        for resource in world.snapshot.all(CDS).filter(|resource| !is_bad(resource.version)) {
            let cluster = client.clusters.get(&resource.name);
            if cluster.is_some_and(|cluster| cluster.hidden) {
                continue;
            }
            prop_assert_eq!(cluster.and_then(|cluster| cluster.cluster), Some(resource.version), "{}", resource.name);
            let endpoints = world.snapshot.get(EDS, &resource.name).map(|endpoints| endpoints.version);
            if endpoints.is_some_and(|version| !is_bad(version)) {
                let cluster = client.clusters.get(&resource.name).cloned().unwrap_or_default();
                prop_assert_eq!(cluster.endpoints, endpoints, "endpoints of {}", resource.name);
                prop_assert!(!cluster.warming || cluster.interrupted, "{} waits for endpoints", resource.name);
            }
        }
        for name in client.clusters.keys() {
            prop_assert!(world.snapshot.get(CDS, name).is_some(), "{} was removed", name);
        }
    }
}

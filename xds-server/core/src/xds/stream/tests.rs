//! The protocol's rules as short stories: requests and changes in, whole outputs out, silence included. The numbers are
//! those of the conformance table.

mod api_listener;
mod hostile;
mod istio;
mod more;
mod order;
mod refusals;
mod sotw;
mod versions;

use std::collections::BTreeMap;

use super::*;
use crate::model::{Address, Catalog, Endpoint, Evidence, Provenance, Service, ServiceName, SourceName, Weight};
use crate::policy::{ServiceSettings, resolve};
use crate::snapshot::{Builder, Changes, Version};

pub(super) const NOW: Duration = Duration::from_secs(1);
pub(super) const CDS: ResourceType = ResourceType::Cluster;
pub(super) const EDS: ResourceType = ResourceType::Endpoint;

/// A registry, a builder and one client's stream.
pub(super) struct World {
    catalog: Catalog,
    builder: Builder,
    pub(super) snapshot: Snapshot,
    settings: ServiceSettings,
    pub(super) stream: DiscoveryStream,
}

fn source() -> SourceName {
    SourceName::new("test").unwrap()
}

pub(super) fn world(services: &[&str]) -> World {
    world_of(Variant::Delta, services)
}

pub(super) fn world_of(variant: Variant, services: &[&str]) -> World {
    let mut catalog = Catalog::new([source()]);
    catalog.resync(&source(), Vec::new(), &Evidence::Complete, NOW);
    let (builder, snapshot, settings) = (Builder::default(), Snapshot::default(), ServiceSettings::default());
    let stream = DiscoveryStream::new(variant, Limits::default());
    let mut world = World {
        catalog,
        builder,
        snapshot,
        settings,
        stream,
    };
    world.builder.set_certainty(true, true);
    world.snapshot = world.builder.publish();
    services.iter().for_each(|name| world.weigh(name, 1));
    world
}

impl World {
    /// The service has one endpoint with this weight.
    pub(super) fn weigh(&mut self, name: &str, weight: u32) {
        let address = Address::new("10.0.0.1", 80).unwrap();
        let weight = Weight::new(weight.into()).unwrap();
        let endpoint = Endpoint {
            weight,
            ..Endpoint::new(address, Provenance::default())
        };
        let name = ServiceName::new(name).unwrap();
        self.catalog
            .apply(&source(), Service::new(name.clone(), vec![endpoint]));
        self.publish(&name);
    }

    /// The cluster itself changes.
    pub(super) fn retime(&mut self, name: &str, millis: u64) {
        self.settings.connect_timeout = Duration::from_millis(millis);
        self.publish(&ServiceName::new(name).unwrap());
    }

    pub(super) fn delete(&mut self, name: &str) {
        let name = ServiceName::new(name).unwrap();
        self.catalog.delete(&source(), name.clone(), NOW);
        self.catalog.expire(NOW + Catalog::LINGER);
        self.publish(&name);
    }

    fn publish(&mut self, name: &ServiceName) {
        let mut changes = Changes::default();
        let resolution = resolve(&self.catalog, name, &self.settings);
        self.builder.put(&resolution, &self.settings, &mut changes);
        self.snapshot = self.builder.publish();
        for kind in ResourceType::ALL {
            changes
                .of(kind)
                .iter()
                .for_each(|name| self.stream.handle_change(kind, name));
        }
    }

    fn certainty(&mut self, answering: bool, complete: bool) {
        self.builder.set_certainty(answering, complete);
        self.snapshot = self.builder.publish();
        self.stream.handle_certainty();
    }

    fn version(&self, kind: ResourceType, name: &str) -> Version {
        self.snapshot.get(kind, name).unwrap().version
    }

    fn ask(&mut self, request: Request) -> Vec<String> {
        self.stream.handle_request(request).unwrap();
        self.says()
    }

    /// Everything the server says now, a line a response: `nonce TYPE +sent -removed`.
    fn says(&mut self) -> Vec<String> {
        let mut said = Vec::new();
        while let Some(response) = self.stream.next_response(&self.snapshot, NOW) {
            let kind = match ResourceType::from_type_url(&response.type_url) {
                Some(ResourceType::Cluster) => "CDS",
                Some(ResourceType::Endpoint) => "EDS",
                Some(ResourceType::Listener) => "LDS",
                Some(ResourceType::Route) => "RDS",
                Some(ResourceType::ServiceEntry) => "SE",
                None => "other",
            };
            let sent = response.resources.iter().map(|resource| format!(" +{}", resource.name));
            let removed = response.removed.iter().map(|name| format!(" -{name}"));
            said.push(format!(
                "{} {kind}{}",
                response.nonce,
                sent.chain(removed).collect::<String>()
            ));
        }
        said
    }

    fn state(&self, kind: ResourceType, name: &str) -> ResourceState {
        self.stream.state(kind, name)
    }

    /// A new stream of the same client.
    pub(super) fn reconnect(&mut self) {
        self.stream = DiscoveryStream::new(self.stream.variant, Limits::default());
    }
}

pub(super) fn request(kind: ResourceType) -> Request {
    let node = Node {
        id: "envoy-1".to_owned(),
        ..Node::default()
    };
    Request {
        node: Some(node),
        type_url: kind.type_url().to_owned(),
        ..Request::default()
    }
}

pub(super) fn names(names: &[&str]) -> Vec<Arc<str>> {
    names.iter().map(|name| Arc::from(*name)).collect()
}

fn subscribe(kind: ResourceType, to: &[&str]) -> Request {
    Request {
        subscribe: names(to),
        ..request(kind)
    }
}

fn unsubscribe(kind: ResourceType, from: &[&str]) -> Request {
    Request {
        unsubscribe: names(from),
        ..request(kind)
    }
}

fn ack(kind: ResourceType, nonce: &str) -> Request {
    Request {
        response_nonce: nonce.to_owned(),
        ..request(kind)
    }
}

fn nack(kind: ResourceType, nonce: &str) -> Request {
    Request {
        error_detail: Some("refused".to_owned()),
        ..ack(kind, nonce)
    }
}

fn nothing() -> Vec<String> {
    Vec::new()
}

#[test]
fn e02_a_first_request_without_a_node_ends_the_stream() {
    let mut world = world(&[]);
    let request = Request {
        node: None,
        ..request(CDS)
    };
    assert_eq!(world.stream.handle_request(request), Err(ProtocolError::NoNode));
}

#[test]
fn e02_later_requests_need_no_node_and_do_not_change_it() {
    let mut world = world(&["a"]);
    world.ask(request(CDS));
    let renamed = Node {
        id: "other".to_owned(),
        ..Node::default()
    };
    world.ask(Request {
        node: Some(renamed),
        ..ack(CDS, "1")
    });
    world.ask(Request {
        node: None,
        ..subscribe(EDS, &["a"])
    });
    assert_eq!(world.stream.node().unwrap().id, "envoy-1");
}

#[test]
fn e04_a_request_without_a_type_ends_the_stream() {
    let mut world = world(&[]);
    let request = Request {
        type_url: String::new(),
        ..request(CDS)
    };
    assert_eq!(world.stream.handle_request(request), Err(ProtocolError::NoTypeUrl));
}

#[test]
fn e06_names_of_an_unknown_type_are_missing_once_and_the_stream_lives() {
    let mut world = world(&["a"]);
    let listeners = Request {
        type_url: "type.googleapis.com/envoy.x.v3.Other".to_owned(),
        ..subscribe(CDS, &["l"])
    };
    assert_eq!(world.ask(listeners.clone()), ["1 other -l"]);
    assert_eq!(
        world.ask(Request {
            response_nonce: "1".to_owned(),
            subscribe: Vec::new(),
            ..listeners
        }),
        nothing()
    );
    assert_eq!(world.ask(request(CDS)), ["2 CDS +a"]);
}

#[test]
fn e14_asking_again_for_a_known_name_sends_it_again() {
    let mut world = world(&["a"]);
    assert_eq!(world.ask(subscribe(EDS, &["a"])), ["1 EDS +a"]);
    assert_eq!(world.ask(ack(EDS, "1")), nothing());
    assert_eq!(world.ask(subscribe(EDS, &["a"])), ["2 EDS +a"]);
}

#[test]
fn e15_versions_that_come_with_the_first_request_are_believed() {
    let mut world = world(&["a", "b"]);
    let (a, b) = (world.version(EDS, "a"), world.version(EDS, "b"));
    world.reconnect();
    world.weigh("b", 2);
    let held = Vec::from([("a".into(), Some(a)), ("b".into(), Some(b))]);
    assert_eq!(
        world.ask(Request {
            initial_versions: held,
            ..subscribe(EDS, &["a", "b"])
        }),
        ["1 EDS +b"]
    );
    assert_eq!(world.state(EDS, "a"), ResourceState::Acked { version: a });
}

#[test]
fn e16_unsubscribing_and_subscribing_in_one_message_sends_it_again() {
    let mut world = world(&["a"]);
    world.ask(subscribe(EDS, &["a"]));
    let both = Request {
        unsubscribe: names(&["a"]),
        ..subscribe(EDS, &["a"])
    };
    assert_eq!(world.ask(both), ["2 EDS +a"]);
    assert_eq!(world.ask(unsubscribe(EDS, &["never"])), nothing());
}

#[test]
fn e17_unsubscribing_inside_a_wildcard_tells_where_the_resource_stands() {
    let mut world = world(&["a"]);
    world.ask(request(CDS));
    world.ask(Request {
        subscribe: names(&["a", "gone"]),
        ..ack(CDS, "1")
    });
    assert_eq!(world.ask(unsubscribe(CDS, &["a", "gone"])), ["3 CDS +a -gone"]);
}

#[test]
fn e18_an_unsubscribed_name_is_silent_at_once() {
    let mut world = world(&["a"]);
    world.ask(subscribe(EDS, &["a"]));
    world.ask(unsubscribe(EDS, &["a"]));
    world.weigh("a", 2);
    assert_eq!(world.says(), nothing());
}

#[test]
fn e19_and_e20_a_wildcard_keeps_what_was_named_when_it_ends_and_is_not_renewed_by_an_empty_list() {
    let mut world = world(&["a", "b"]);
    assert_eq!(world.ask(request(CDS)), ["1 CDS +a +b"]);
    assert_eq!(world.ask(subscribe(CDS, &["a"])), ["2 CDS +a"]);
    assert_eq!(world.ask(unsubscribe(CDS, &["*"])), nothing());
    world.retime("a", 10);
    world.retime("b", 20);
    assert_eq!(world.says(), ["3 CDS +a"]);
    world.ask(unsubscribe(CDS, &["a"]));
    world.ask(request(CDS));
    world.retime("a", 30);
    assert_eq!(world.says(), nothing());
    assert_eq!(world.ask(subscribe(CDS, &["*"])), ["4 CDS +a +b"]);
}

#[test]
fn e21_an_empty_first_request_for_endpoints_asks_for_nothing() {
    let mut world = world(&["a"]);
    assert_eq!(world.ask(request(EDS)), nothing());
}

#[test]
fn e22_a_wildcard_on_an_empty_store_is_answered_so_that_the_client_can_start() {
    let mut world = world(&[]);
    assert_eq!(world.ask(request(CDS)), ["1 CDS"]);
    assert_eq!(world.ask(ack(CDS, "1")), nothing());
}

#[test]
fn e23_names_that_a_client_brings_and_that_do_not_exist_are_removed() {
    let mut world = world(&["a"]);
    let a = world.version(CDS, "a");
    let held = Vec::from([("a".into(), Some(a)), ("old".into(), None)]);
    assert_eq!(
        world.ask(Request {
            initial_versions: held,
            ..request(CDS)
        }),
        ["1 CDS -old"]
    );
}

#[test]
fn e29_a_missing_name_is_told_once_and_sent_when_it_is_created() {
    let mut world = world(&[]);
    assert_eq!(world.ask(subscribe(EDS, &["a"])), ["1 EDS -a"]);
    assert_eq!(world.ask(ack(EDS, "1")), nothing());
    world.weigh("a", 1);
    assert_eq!(world.says(), ["2 EDS +a"]);
}

#[test]
fn e30_and_e34_a_deleted_cluster_is_removed_once_and_its_endpoints_go_with_it() {
    let mut world = world(&["a"]);
    world.ask(request(CDS));
    world.ask(subscribe(EDS, &["a"]));
    world.delete("a");
    assert_eq!(world.says(), ["3 CDS -a"]);
    assert_eq!(
        world.ask(Request {
            unsubscribe: names(&["a"]),
            ..request(EDS)
        }),
        nothing()
    );
    assert_eq!(world.ask(ack(CDS, "3")), nothing());
}

#[test]
fn e35_a_nonce_of_another_stream_acknowledges_nothing_and_the_names_still_count() {
    let mut world = world(&["a"]);
    assert_eq!(
        world.ask(Request {
            response_nonce: "77".to_owned(),
            ..subscribe(EDS, &["a"])
        }),
        ["1 EDS +a"]
    );
    let version = world.version(EDS, "a");
    world.ask(ack(EDS, "not ours"));
    assert_eq!(world.state(EDS, "a"), ResourceState::Sent { version });
}

#[test]
fn e36_and_e38_several_responses_are_in_flight_and_each_ack_commits_its_own() {
    let mut world = world(&["a", "b"]);
    world.ask(request(CDS));
    world.ask(subscribe(EDS, &["a"]));
    world.ask(subscribe(EDS, &["b"]));
    world.ask(ack(EDS, "2"));
    let (a, b) = (world.version(EDS, "a"), world.version(EDS, "b"));
    assert_eq!(world.state(EDS, "a"), ResourceState::Acked { version: a });
    assert_eq!(world.state(EDS, "b"), ResourceState::Sent { version: b });
    assert_eq!(world.stream.report(NOW)[1].oldest_unacked, Some(Duration::ZERO));
}

#[test]
fn e39_refused_bytes_are_not_sent_again_before_they_change() {
    let mut world = world(&["a"]);
    world.ask(subscribe(EDS, &["a"]));
    let version = world.version(EDS, "a");
    assert_eq!(world.ask(nack(EDS, "1")), nothing());
    assert_eq!(world.state(EDS, "a"), ResourceState::Rejected { version });
    world.stream.handle_change(EDS, &"a".into());
    assert_eq!(world.says(), nothing());
    world.weigh("a", 2);
    assert_eq!(world.says(), ["2 EDS +a"]);
}

#[test]
fn e39_after_a_refusal_going_back_to_what_was_acknowledged_is_sent() {
    let mut world = world(&["a"]);
    world.ask(subscribe(EDS, &["a"]));
    world.ask(ack(EDS, "1"));
    world.weigh("a", 2);
    assert_eq!(world.says(), ["2 EDS +a"]);
    world.ask(nack(EDS, "2"));
    world.weigh("a", 1);
    assert_eq!(world.says(), ["3 EDS +a"], "the client may hold the refused content");
}

#[test]
fn e40_a_changed_cluster_brings_its_endpoints_right_behind_it() {
    let mut world = world(&["a", "b"]);
    world.ask(request(CDS));
    world.ask(subscribe(EDS, &["a", "b"]));
    world.ask(ack(EDS, "2"));
    world.retime("a", 10);
    assert_eq!(world.says(), ["3 CDS +a", "4 EDS +a"]);
}

#[test]
fn e40_endpoints_in_flight_while_their_cluster_changes_are_sent_again() {
    let mut world = world(&["a"]);
    world.ask(request(CDS));
    assert_eq!(world.ask(subscribe(EDS, &["a"])), ["2 EDS +a"]);
    world.retime("a", 10);
    assert_eq!(world.says(), ["3 CDS +a", "4 EDS +a"]);
    assert_eq!(world.ask(ack(EDS, "2")), nothing());
}

#[test]
fn e40_a_cluster_that_is_sent_on_this_stream_voids_what_the_client_says_of_its_endpoints() {
    let mut world = world(&["a"]);
    let endpoints = world.version(EDS, "a");
    assert_eq!(world.ask(request(CDS)), ["1 CDS +a"]);
    let held = Vec::from([("a".into(), Some(endpoints))]);
    assert_eq!(
        world.ask(Request {
            initial_versions: held,
            ..subscribe(EDS, &["a"])
        }),
        ["2 EDS +a"]
    );
}

#[test]
fn e41_nothing_waits_for_the_acknowledgement_of_a_cluster() {
    let mut world = world(&["a"]);
    world.ask(request(CDS));
    world.weigh("b", 1);
    assert_eq!(world.says(), ["2 CDS +b"]);
    assert_eq!(world.ask(subscribe(EDS, &["a", "b"])), ["3 EDS +a +b"]);
}

#[test]
fn e42_a_client_that_comes_back_to_the_same_state_is_sent_nothing() {
    let mut world = world(&["a", "b"]);
    let versions = |kind| {
        let version = |name: &str| (Arc::from(name), Some(world.version(kind, name)));
        Vec::from([version("a"), version("b")])
    };
    let (clusters, endpoints) = (versions(CDS), versions(EDS));
    world.reconnect();
    assert_eq!(
        world.ask(Request {
            initial_versions: clusters,
            ..request(CDS)
        }),
        ["1 CDS"]
    );
    assert_eq!(
        world.ask(Request {
            initial_versions: endpoints,
            ..subscribe(EDS, &["a", "b"])
        }),
        nothing()
    );
}

#[test]
fn e55_a_cluster_removed_and_added_at_once_is_no_change() {
    let mut world = world(&["a"]);
    world.ask(request(CDS));
    world.ask(subscribe(EDS, &["a"]));
    world.delete("a");
    world.weigh("a", 1);
    assert_eq!(world.says(), nothing());
}

#[test]
fn e60_nothing_is_said_before_the_sources_have_answered() {
    let mut world = world(&["a"]);
    world.certainty(false, false);
    assert_eq!(world.ask(request(CDS)), nothing());
    assert_eq!(world.ask(subscribe(EDS, &["a"])), nothing());
    world.certainty(true, true);
    assert_eq!(world.says(), ["1 CDS +a", "2 EDS +a"]);
}

#[test]
fn e60_while_a_source_is_silent_what_a_client_brings_is_not_removed() {
    let mut world = world(&["a"]);
    world.certainty(true, false);
    let held = Vec::from([("unsure".into(), None)]);
    assert_eq!(
        world.ask(Request {
            initial_versions: held,
            ..request(CDS)
        }),
        ["1 CDS +a"]
    );
    assert_eq!(world.ask(subscribe(EDS, &["unsure"])), nothing());
    world.certainty(true, true);
    assert_eq!(world.says(), ["2 CDS -unsure", "3 EDS -unsure"]);
}

#[test]
fn e11_a_slow_client_hears_the_latest_and_not_the_history() {
    let mut world = world(&["a"]);
    world.ask(subscribe(EDS, &["a"]));
    (2..100).for_each(|weight| world.weigh("a", weight));
    assert_eq!(world.says(), ["2 EDS +a"]);
}

#[test]
fn e11_a_client_that_never_answers_has_a_bounded_number_of_responses_in_flight() {
    let mut world = world(&["a"]);
    world.ask(subscribe(EDS, &["a"]));
    let mut said = 1;
    for weight in 2..1000 {
        world.weigh("a", weight);
        said += world.says().len();
    }
    assert_eq!(said, Limits::default().in_flight);
    assert_eq!(
        world.ask(ack(EDS, "1")).len(),
        1,
        "an answer makes room, and the latest goes out"
    );
}

#[test]
fn e58_large_first_answers_are_cut_for_endpoints_and_whole_for_clusters() {
    let services: Vec<String> = (0..300)
        .map(|n| format!("service-{n:03}-{}", "x".repeat(200)))
        .collect();
    let services: Vec<&str> = services.iter().map(String::as_str).collect();
    let mut world = world(&services);
    assert_eq!(world.ask(request(CDS)).len(), 1);
    let said = world.ask(subscribe(EDS, &services));
    assert!(said.len() > 1, "{} responses", said.len());
    assert_eq!(said.iter().map(|line| line.matches('+').count()).sum::<usize>(), 300);
}

/// A stream with room for so many names.
fn narrow(names: usize) -> DiscoveryStream {
    let limits = Limits {
        names,
        ..Limits::default()
    };
    DiscoveryStream::new(Variant::Delta, limits)
}

#[test]
fn more_names_than_the_limit_end_the_stream() {
    let error = narrow(2).handle_request(subscribe(EDS, &["a", "b", "c"]));
    assert_eq!(error, Err(ProtocolError::TooManyNames(2)));
}

#[test]
fn names_that_are_given_up_without_having_been_asked_for_end_the_stream_when_they_are_too_many() {
    let mut stream = narrow(2);
    assert!(stream.handle_request(request(CDS)).is_ok());
    let mut give_up = |name: &str| stream.handle_request(unsubscribe(CDS, &[name]));
    let ends: Vec<bool> = ["a", "b", "c", "d", "e"].map(|name| give_up(name).is_err()).to_vec();
    assert_eq!(ends, [false, false, false, false, true]);
}

#[test]
fn a_refusal_of_megabytes_is_kept_short() {
    let mut world = world(&["a"]);
    world.ask(subscribe(EDS, &["a"]));
    world.ask(Request {
        error_detail: Some("é".repeat(1 << 20)),
        ..ack(EDS, "1")
    });
    assert_eq!(
        world.stream.report(NOW)[1].last_nack.as_ref().map(String::len),
        Some(1024)
    );
}

#[test]
fn a_cluster_that_a_client_holds_without_saying_so_is_removed_when_it_asks_for_its_endpoints() {
    let mut world = world(&["a"]);
    world.ask(request(CDS));
    assert_eq!(
        world.ask(subscribe(EDS, &["a", "from-a-refused-response"])),
        ["2 CDS -from-a-refused-response", "3 EDS +a -from-a-refused-response"]
    );
}

#[test]
fn e31_a_client_with_a_static_cluster_is_sent_an_empty_assignment_when_its_service_goes() {
    let mut world = world(&["a"]);
    assert_eq!(world.ask(subscribe(EDS, &["a"])), ["1 EDS +a"]);
    world.delete("a");
    assert_eq!(world.says(), ["2 EDS +a"], "a removal would leave the hosts");
    assert_eq!(world.ask(ack(EDS, "2")), nothing());
    world.weigh("a", 1);
    assert_eq!(world.says(), ["3 EDS +a"]);
}

#[test]
fn e31_a_client_with_a_static_cluster_that_comes_back_after_its_service_went_is_cleared() {
    let mut world = world(&["a"]);
    let held = Vec::from([("a".into(), Some(world.version(EDS, "a")))]);
    world.delete("a");
    let back = Request {
        initial_versions: held,
        ..subscribe(EDS, &["a"])
    };
    assert_eq!(world.ask(back), ["1 EDS +a"]);
    assert_eq!(world.ask(ack(EDS, "1")), nothing());
}

#[test]
fn e14_asking_for_everything_again_sends_everything_again() {
    let mut world = world(&["a", "b"]);
    world.ask(request(CDS));
    assert_eq!(world.ask(subscribe(CDS, &["*"])), ["2 CDS +a +b"]);
}

#[test]
fn e39_what_was_refused_is_sent_when_it_comes_back_after_something_else() {
    let mut world = world(&["a"]);
    world.ask(subscribe(EDS, &["a"]));
    world.ask(nack(EDS, "1"));
    world.weigh("a", 2);
    assert_eq!(world.says(), ["2 EDS +a"]);
    world.ask(ack(EDS, "2"));
    assert_eq!(world.stream.report(NOW)[1].rejected, []);
    world.weigh("a", 1);
    assert_eq!(world.says(), ["3 EDS +a"]);
}

#[test]
fn e60_what_was_sent_and_is_gone_is_removed_even_while_a_source_is_silent() {
    let mut world = world(&["a"]);
    world.certainty(true, false);
    assert_eq!(world.ask(request(CDS)), ["1 CDS +a"]);
    world.delete("a");
    assert_eq!(world.says(), ["2 CDS -a"]);
}

#[test]
fn naming_the_same_resources_again_counts_them_once() {
    let mut stream = DiscoveryStream::new(
        Variant::Delta,
        Limits {
            names: 3,
            ..Limits::default()
        },
    );
    assert!(stream.handle_request(subscribe(EDS, &["a", "b"])).is_ok());
    assert!(stream.handle_request(subscribe(EDS, &["a", "b"])).is_ok());
    assert!(stream.handle_request(subscribe(EDS, &["c", "d"])).is_err());
}

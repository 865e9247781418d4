//! Rules that need no story of their own elsewhere.

use super::*;

#[test]
fn e03_two_streams_with_one_node_id_know_nothing_of_each_other() {
    let mut world = world(&["a", "b"]);
    assert_eq!(world.ask(subscribe(EDS, &["a"])), ["1 EDS +a"]);
    let mut before = std::mem::replace(
        &mut world.stream,
        DiscoveryStream::new(Variant::Delta, Limits::default()),
    );
    assert_eq!(world.ask(subscribe(EDS, &["a", "b"])), ["1 EDS +a +b"]);
    assert_eq!(world.ask(ack(EDS, "1")), nothing());
    assert_eq!(before.node(), world.stream.node());
    let version = world.version(EDS, "a");
    assert_eq!(world.state(EDS, "a"), ResourceState::Acked { version });
    std::mem::swap(&mut before, &mut world.stream);
    assert_eq!(world.state(EDS, "a"), ResourceState::Sent { version });
    assert_eq!(world.state(EDS, "b"), ResourceState::NotSubscribed);
    world.weigh("b", 2);
    assert_eq!(world.says(), nothing());
}

#[test]
fn e05_each_type_has_its_own_wildcard_names_and_answers() {
    let mut world = world(&["a"]);
    assert_eq!(world.ask(request(CDS)), ["1 CDS +a"]);
    assert_eq!(world.ask(subscribe(EDS, &["a"])), ["2 EDS +a"]);
    world.ask(ack(CDS, "2"));
    let version = world.version(EDS, "a");
    assert_eq!(
        world.state(EDS, "a"),
        ResourceState::Sent { version },
        "the nonce is of another type"
    );
    assert_eq!(world.ask(unsubscribe(CDS, &["*"])), nothing());
    world.weigh("a", 2);
    assert_eq!(world.says(), ["3 EDS +a"]);
}

#[test]
fn e07_and_e08_a_response_says_who_sent_it_and_how_new_it_is() {
    let mut world = world(&["a"]);
    world.stream.handle_request(request(CDS)).unwrap();
    let response = world.stream.next_response(&world.snapshot, NOW).unwrap();
    assert_eq!(response.system_version, world.snapshot.serial());
    let bytes = response.encode("cp-1");
    assert!(bytes.windows(4).any(|window| window == b"cp-1"));
}

#[test]
fn e12_and_e13_names_ride_on_every_message_a_stale_one_too() {
    let mut world = world(&["a", "b", "c"]);
    world.ask(subscribe(EDS, &["a"]));
    let on = |answer: Request, name: &str| Request {
        subscribe: names(&[name]),
        ..answer
    };
    assert_eq!(world.ask(on(nack(EDS, "1"), "b")), ["2 EDS +b"]);
    assert_eq!(world.ask(on(ack(EDS, "99"), "c")), ["3 EDS +c"]);
    let off = Request {
        unsubscribe: names(&["b"]),
        ..ack(EDS, "not ours")
    };
    assert_eq!(world.ask(off), nothing());
    world.weigh("b", 2);
    assert_eq!(world.says(), nothing());
}

#[test]
fn e24_a_missing_name_that_is_asked_for_again_is_answered_again_and_not_by_itself() {
    let mut world = world(&[]);
    assert_eq!(world.ask(subscribe(CDS, &["gone"])), ["1 CDS -gone"]);
    assert_eq!(world.ask(ack(CDS, "1")), nothing());
    world.certainty(true, true);
    assert_eq!(world.says(), nothing());
    assert_eq!(world.ask(subscribe(CDS, &["gone"])), ["2 CDS -gone"]);
}

#[test]
fn e25_a_glob_is_a_name_that_is_missing_and_not_a_wildcard() {
    let mut world = world(&["a"]);
    let glob = "xdstp://authority/envoy.config.cluster.v3.Cluster/*";
    assert_eq!(world.ask(subscribe(CDS, &[glob])), [format!("1 CDS -{glob}")]);
    world.retime("a", 10);
    assert_eq!(world.says(), nothing());
}

#[test]
fn e28_a_cluster_on_demand_is_answered_at_once_and_pushed_when_it_comes_changes_and_goes() {
    let mut world = world(&["a", "b"]);
    assert_eq!(world.ask(subscribe(CDS, &["a", "later"])), ["1 CDS +a -later"]);
    world.weigh("later", 1);
    assert_eq!(world.says(), ["2 CDS +later"]);
    world.retime("later", 10);
    assert_eq!(world.says(), ["3 CDS +later"]);
    world.retime("b", 10);
    assert_eq!(world.says(), nothing());
    world.delete("later");
    assert_eq!(world.says(), ["4 CDS -later"]);
}

#[test]
fn e32_a_name_that_is_asked_for_brought_changed_and_owed_at_once_is_in_the_response_once() {
    let mut world = world(&["a"]);
    let all = Request {
        subscribe: names(&["*", "a", "a", "gone"]),
        initial_versions: Vec::from([("a".into(), None), ("gone".into(), None)]),
        ..request(CDS)
    };
    assert_eq!(world.ask(all), ["1 CDS +a -gone"]);
    assert_eq!(
        world.ask(subscribe(EDS, &["a", "gone", "a", "gone"])),
        ["2 EDS +a -gone"]
    );
    world.weigh("gone", 1);
    world.delete("gone");
    world.retime("a", 10);
    world.weigh("a", 2);
    world.stream.handle_request(subscribe(EDS, &["a", "gone"])).unwrap();
    assert_eq!(world.says(), ["3 CDS +a", "4 EDS +a -gone"]);
}

#[test]
fn e33_a_known_service_without_endpoints_is_an_empty_assignment() {
    let mut world = world(&["a"]);
    world.ask(request(CDS));
    world.ask(subscribe(EDS, &["a"]));
    world.empty("a");
    assert_eq!(world.says(), ["3 EDS +a"]);
}

#[test]
fn e45_versions_without_names_are_no_subscription() {
    let mut world = world(&["a"]);
    let held = Vec::from([("a".into(), None)]);
    let claims = Request {
        initial_versions: held,
        ..request(EDS)
    };
    assert_eq!(world.ask(claims), nothing());
    world.weigh("a", 2);
    assert_eq!(world.says(), nothing());
}

#[test]
fn e47_an_answer_that_was_overtaken_by_a_later_one_commits_nothing() {
    let mut world = world(&["a"]);
    world.ask(subscribe(EDS, &["a"]));
    world.weigh("a", 2);
    assert_eq!(world.says(), ["2 EDS +a"]);
    world.ask(ack(EDS, "2"));
    let version = world.version(EDS, "a");
    world.ask(nack(EDS, "1"));
    assert_eq!(world.state(EDS, "a"), ResourceState::Acked { version });
}

#[test]
fn e65_a_client_whose_answer_takes_a_year_is_served_as_any_other() {
    let (mut world, year) = (world(&["a"]), Duration::from_secs(365 * 24 * 3600));
    world.ask(subscribe(EDS, &["a"]));
    assert!(
        world.stream.next_response(&world.snapshot, year).is_none(),
        "nothing again"
    );
    world.weigh("a", 2);
    let response = world.stream.next_response(&world.snapshot, year).unwrap();
    assert_eq!((response.nonce, response.resources.len()), (2, 1));
    assert_eq!(world.ask(ack(EDS, "1")), nothing());
    assert_eq!(world.ask(ack(EDS, "2")), nothing());
    let version = world.version(EDS, "a");
    assert_eq!(world.state(EDS, "a"), ResourceState::Acked { version });
}

impl World {
    /// The service is there, and none of its endpoints is.
    fn empty(&mut self, name: &str) {
        let name = ServiceName::new(name).unwrap();
        self.catalog.apply(&source(), Service::new(name.clone(), Vec::new()));
        self.publish(&name);
    }
}

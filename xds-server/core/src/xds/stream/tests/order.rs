//! Make before break: the types that one burst of changes touches, one behind the other.

use super::*;

const LDS: ResourceType = ResourceType::Listener;
const RDS: ResourceType = ResourceType::Route;

/// Everything of the services is asked for, in the order that is worst.
fn asked_backwards(services: &[&str], wanted: &[&str]) -> World {
    let mut world = world(services);
    for kind in [RDS, LDS, EDS] {
        world.ask(subscribe(kind, wanted));
    }
    world.ask(subscribe(CDS, wanted));
    world
}

#[test]
fn e52_a_burst_goes_out_as_clusters_endpoints_listeners_routes() {
    let mut world = asked_backwards(&["a", "b"], &["a", "b", "new"]);
    world.reroute("b", 30);
    world.weigh("b", 2);
    world.retime("a", 10);
    world.weigh("new", 1);
    assert_eq!(
        world.says(),
        ["6 CDS +a +new", "7 EDS +b +a +new", "8 LDS +new", "9 RDS +b +a +new"]
    );
}

#[test]
fn e52_what_changes_while_a_burst_goes_out_takes_its_place_in_the_order() {
    let mut world = asked_backwards(&["a"], &["a", "new"]);
    world.reroute("a", 30);
    world.weigh("new", 1);
    let kind = |response: Option<Response>| response.map(|response| response.type_url.to_string());
    let first = world.stream.next_response(&world.snapshot, NOW);
    assert_eq!(kind(first).as_deref(), Some(CDS.type_url()));
    world.retime("a", 10);
    assert_eq!(
        world.says(),
        ["7 CDS +a", "8 EDS +new +a", "9 LDS +new", "10 RDS +a +new"]
    );
}

#[test]
fn e53_a_route_comes_behind_its_cluster_and_the_endpoints_of_it_even_if_it_was_waited_for_first() {
    let mut world = world(&[]);
    assert_eq!(world.ask(subscribe(RDS, &["a"])), ["1 RDS -a"]);
    assert_eq!(world.ask(subscribe(EDS, &["a"])), ["2 EDS -a"]);
    assert_eq!(world.ask(request(CDS)), ["3 CDS"]);
    world.weigh("a", 1);
    assert_eq!(world.says(), ["4 CDS +a", "5 EDS +a", "6 RDS +a"]);
}

#[test]
fn e54_a_route_does_not_wait_for_the_answer_to_its_listener_and_is_not_sent_for_it() {
    let mut world = world(&[]);
    world.ask(subscribe(LDS, &["a"]));
    assert_eq!(world.ask(subscribe(RDS, &["a"])), ["2 RDS -a"]);
    world.weigh("a", 1);
    assert_eq!(world.says(), ["3 LDS +a", "4 RDS +a"], "no answer came");
    assert_eq!(world.ask(nack(LDS, "3")), nothing());
    world.reroute("a", 30);
    assert_eq!(world.says(), ["5 RDS +a"], "a refused listener does not hold it up");
    assert_eq!(
        world.ask(subscribe(LDS, &["a"])),
        ["6 LDS +a"],
        "a listener keeps its routes"
    );
}

#[test]
fn e57_endpoints_wait_until_they_are_asked_for_and_are_sent_then() {
    let mut world = world(&["a"]);
    assert_eq!(world.ask(request(CDS)), ["1 CDS +a"], "nobody has asked for endpoints");
    world.weigh("b", 1);
    assert_eq!(world.says(), ["2 CDS +b"]);
    world.weigh("b", 2);
    assert_eq!(world.says(), nothing());
    assert_eq!(world.ask(subscribe(EDS, &["b"])), ["3 EDS +b"]);
    // A client that dropped what came too early asks again, and nothing that is in flight already is in the way.
    assert_eq!(world.ask(subscribe(EDS, &["b"])), ["4 EDS +b"]);
}

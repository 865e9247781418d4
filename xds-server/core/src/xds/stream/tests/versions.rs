//! What a client says it holds, and what it is sent for it.

use super::*;

type Versions = BTreeMap<Arc<str>, Option<Version>>;

fn all_versions(world: &World, kind: ResourceType) -> Versions {
    let all = world.snapshot.all(kind);
    all.map(|resource| (resource.name.clone(), Some(resource.version)))
        .collect()
}

fn bringing(held: &Versions, request: Request) -> Request {
    Request {
        initial_versions: held.clone().into_iter().collect(),
        ..request
    }
}

#[test]
fn e43_what_is_back_to_what_the_client_has_is_not_sent_and_what_differs_is() {
    let mut world = world(&["a"]);
    world.ask(subscribe(EDS, &["a"]));
    assert_eq!(world.ask(ack(EDS, "1")), nothing());
    world.weigh("a", 1);
    assert_eq!(world.says(), nothing(), "the same again");
    world.weigh("a", 2);
    world.weigh("a", 1);
    assert_eq!(world.says(), nothing(), "there and back before anything was said");
    world.weigh("a", 2);
    assert_eq!(world.says(), ["2 EDS +a"]);
    world.weigh("a", 1);
    assert_eq!(world.says(), ["3 EDS +a"], "acknowledged once, but overtaken since");
}

#[test]
fn e44_a_replica_that_heard_the_same_in_another_order_is_silent_to_a_client_that_comes_over() {
    let mut here = world(&["a", "b", "c"]);
    here.retime("b", 10);
    here.weigh("a", 7);
    here.retime("a", 10);
    here.retime("c", 10);
    let (clusters, endpoints) = (all_versions(&here, CDS), all_versions(&here, EDS));
    let mut there = world(&["z", "c", "b"]);
    there.delete("z");
    there.retime("c", 10);
    there.weigh("a", 3);
    there.weigh("a", 7);
    there.retime("b", 10);
    assert_eq!(there.ask(bringing(&clusters, request(CDS))), ["1 CDS"], "all is held");
    let names = subscribe(EDS, &["a", "b", "c"]);
    assert_eq!(there.ask(bringing(&endpoints, names)), nothing());
    let version = here.version(EDS, "a");
    assert_eq!(there.state(EDS, "a"), ResourceState::Acked { version });
    there.weigh("a", 8);
    assert_eq!(there.says(), ["2 EDS +a"], "and it goes on as if nothing had been");
}

#[test]
fn e44_of_what_is_brought_the_equal_is_skipped_the_different_sent_and_the_gone_removed() {
    let mut world = world(&["equal", "other", "unknown"]);
    let mut held = all_versions(&world, CDS);
    held.insert("unknown".into(), None);
    held.insert("gone".into(), None);
    world.retime("other", 10);
    world.weigh("fresh", 1);
    let said = world.ask(bringing(&held, request(CDS)));
    assert_eq!(said, ["1 CDS +other +unknown +fresh -gone"]);
}

#[test]
fn e46_a_client_that_comes_back_without_versions_is_sent_everything() {
    let mut world = world(&["a", "b"]);
    world.ask(request(CDS));
    world.ask(subscribe(EDS, &["a", "b"]));
    world.ask(ack(CDS, "1"));
    world.ask(ack(EDS, "2"));
    world.reconnect();
    assert_eq!(world.ask(request(CDS)), ["1 CDS +a +b"]);
    assert_eq!(world.ask(subscribe(EDS, &["a", "b"])), ["2 EDS +a +b"]);
}

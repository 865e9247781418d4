//! Listeners and routes: for those who name them.

use super::*;

const LDS: ResourceType = ResourceType::Listener;
const RDS: ResourceType = ResourceType::Route;

#[test]
fn a_service_has_a_listener_and_a_route_for_who_names_it() {
    let mut world = world(&["a", "b"]);
    assert_eq!(world.ask(subscribe(LDS, &["a"])), ["1 LDS +a"]);
    assert_eq!(world.ask(subscribe(RDS, &["a"])), ["2 RDS +a"]);
    world.weigh("a", 2);
    world.retime("a", 10);
    assert_eq!(
        world.says(),
        nothing(),
        "neither the endpoints nor the cluster concern them"
    );
    world.reroute("a", 30);
    assert_eq!(world.says(), ["3 RDS +a"]);
    world.delete("a");
    assert_eq!(world.says(), ["4 LDS -a", "5 RDS -a"]);
}

#[test]
fn an_envoy_that_wants_every_listener_is_answered_with_none() {
    let mut world = world(&["a", "b"]);
    assert_eq!(world.ask(request(LDS)), ["1 LDS"]);
    assert_eq!(world.ask(ack(LDS, "1")), nothing());
    world.weigh("c", 1);
    assert_eq!(world.says(), nothing());
    assert_eq!(world.ask(subscribe(LDS, &["a"])), ["2 LDS +a"], "beside a name");
    let everything = world_of(Variant::StateOfTheWorld, &["a"]).ask_everything(LDS);
    assert_eq!(everything, ["1 LDS"]);
}

#[test]
fn e23_listeners_of_another_control_plane_are_removed() {
    let mut world = world(&["a"]);
    let held = Vec::from([("a".into(), None), ("ingress".into(), None)]);
    let back = Request {
        initial_versions: held,
        ..request(LDS)
    };
    assert_eq!(world.ask(back), ["1 LDS -a -ingress"]);
}

#[test]
fn e29_a_grpc_client_is_told_at_once_that_a_service_is_missing_and_when_it_comes_and_goes() {
    let mut world = world_of(Variant::StateOfTheWorld, &[]);
    assert_eq!(world.ask_for(LDS, "a"), ["1 LDS +a"], "a listener that routes nowhere");
    let nowhere = world.stream.state(LDS, "a");
    world.weigh("a", 1);
    assert_eq!(world.says(), ["2 LDS +a"]);
    assert_ne!(world.stream.state(LDS, "a"), nowhere);
    assert_eq!(world.ask_for(RDS, "a"), ["3 RDS +a"]);
    world.delete("a");
    assert_eq!(world.says(), ["4 LDS +a", "5 RDS +a"]);
    assert_eq!(world.stream.state(LDS, "a"), nowhere);
}

#[test]
fn e60_while_a_source_is_silent_no_service_is_said_to_be_missing() {
    let mut world = world_of(Variant::StateOfTheWorld, &[]);
    world.certainty(true, false);
    assert_eq!(world.ask_for(LDS, "a"), nothing());
    world.certainty(true, true);
    assert_eq!(world.says(), ["1 LDS +a"]);
}

#[test]
fn e66_a_grpc_client_goes_from_the_listener_over_route_and_cluster_to_the_endpoints_in_the_state_of_the_world() {
    let mut world = world_of(Variant::StateOfTheWorld, &["a", "b"]);
    assert_eq!(world.ask_for(LDS, "a"), ["1 LDS +a"]);
    assert_eq!(world.ask_for(RDS, "a"), ["2 RDS +a"]);
    assert_eq!(world.ask_for(CDS, "a"), ["3 CDS +a"]);
    assert_eq!(world.ask_for(EDS, "a"), ["4 EDS +a"]);
    world.weigh("a", 2);
    world.weigh("b", 2);
    assert_eq!(world.says(), ["5 EDS +a"], "and of the other service not a word");
}

impl World {
    /// The route changes, and nothing else.
    pub(super) fn reroute(&mut self, name: &str, seconds: u64) {
        self.settings.timeout = Duration::from_secs(seconds);
        self.publish(&ServiceName::new(name).unwrap());
    }

    fn ask_everything(&mut self, kind: ResourceType) -> Vec<String> {
        self.hear_names(kind, Vec::new())
    }

    fn ask_for(&mut self, kind: ResourceType, name: &str) -> Vec<String> {
        self.hear_names(kind, names(&[name]))
    }

    fn hear_names(&mut self, kind: ResourceType, names: Vec<Arc<str>>) -> Vec<String> {
        let Request { node, type_url, .. } = request(kind);
        let request = SotwRequest {
            node,
            type_url,
            names,
            ..SotwRequest::default()
        };
        self.stream.handle_sotw_request(request).unwrap();
        self.says()
    }
}

//! istiod as a client: it asks for sixteen types in the state of the world, wants everything of each, says a nonce of its
//! own in its very first words, and never says what it holds.

use super::*;
use crate::policy::Istio;

const SE: ResourceType = ResourceType::ServiceEntry;

/// Everything that istiod 1.31 asks of a source of configuration, in its order.
const TYPES: [&str; 16] = [
    "core/v1alpha1/MeshConfig",
    "security.istio.io/v1/AuthorizationPolicy",
    "networking.istio.io/v1/DestinationRule",
    "networking.istio.io/v1alpha3/EnvoyFilter",
    "networking.istio.io/v1/Gateway",
    "security.istio.io/v1/PeerAuthentication",
    "networking.istio.io/v1beta1/ProxyConfig",
    "security.istio.io/v1/RequestAuthentication",
    "networking.istio.io/v1/ServiceEntry",
    "networking.istio.io/v1/Sidecar",
    "telemetry.istio.io/v1/Telemetry",
    "extensions.istio.io/v1alpha1/TrafficExtension",
    "networking.istio.io/v1/VirtualService",
    "extensions.istio.io/v1alpha1/WasmPlugin",
    "networking.istio.io/v1/WorkloadEntry",
    "networking.istio.io/v1/WorkloadGroup",
];

/// What istiod says when it connects, whatever it holds.
fn hello(type_url: &str) -> SotwRequest {
    SotwRequest {
        node: request(SE).node,
        type_url: type_url.to_owned(),
        response_nonce: "2026-11-30 02:06:39.3 +0000 UTC m=+0.05".to_owned(),
        ..SotwRequest::default()
    }
}

fn accepts(type_url: &str, nonce: &str) -> SotwRequest {
    SotwRequest {
        version_info: "accepted".to_owned(),
        response_nonce: nonce.to_owned(),
        ..hello(type_url)
    }
}

fn mesh(services: &[&str]) -> World {
    let mut world = world_of(Variant::StateOfTheWorld, &[]);
    world.settings.istio = Some(Istio::default());
    services.iter().for_each(|name| world.weigh(name, 1));
    world
}

impl World {
    fn told(&mut self, request: SotwRequest) -> Vec<String> {
        self.stream.handle_sotw_request(request).unwrap();
        self.says()
    }

    /// The service appears in Istio from now on, or does not any more.
    fn export(&mut self, name: &str, istio: Option<Istio>) {
        self.settings.istio = istio;
        self.publish(&ServiceName::new(name).unwrap());
    }
}

#[test]
fn every_type_istiod_asks_for_is_answered_although_its_first_words_carry_a_nonce_we_never_sent() {
    let mut world = mesh(&["a"]);
    for (count, type_url) in TYPES.iter().enumerate() {
        let nonce = count + 1;
        let answer = match *type_url {
            "networking.istio.io/v1/ServiceEntry" => format!("{nonce} SE +a"),
            _ => format!("{nonce} other"),
        };
        assert_eq!(world.told(hello(type_url)), [answer], "{type_url}");
    }
    for (count, type_url) in TYPES.iter().enumerate() {
        let nonce = (count + 1).to_string();
        assert_eq!(world.told(accepts(type_url, &nonce)), nothing(), "{type_url}");
    }
    let version = world.version(SE, "a");
    assert_eq!(world.state(SE, "a"), ResourceState::Acked { version });
}

#[test]
fn a_first_nonce_that_could_be_one_of_ours_is_not_taken_for_one() {
    let mut world = mesh(&["a"]);
    world.told(hello(TYPES[0]));
    let ours = SotwRequest {
        response_nonce: "1".to_owned(),
        ..hello(SE.type_url())
    };
    assert_eq!(world.told(ours), ["2 SE +a"]);
    let version = world.version(SE, "a");
    assert_eq!(world.state(SE, "a"), ResourceState::Sent { version });
}

#[test]
fn a_mesh_without_services_is_answered_so_that_istiod_gets_ready() {
    let mut world = mesh(&[]);
    assert_eq!(world.told(hello(SE.type_url())), ["1 SE"]);
    assert_eq!(world.told(accepts(SE.type_url(), "1")), nothing());
    world.weigh("a", 1);
    assert_eq!(world.says(), ["2 SE +a"]);
}

#[test]
fn every_response_lists_the_whole_mesh_and_the_next_one_waits_for_its_answer() {
    let mut world = mesh(&["a", "b"]);
    assert_eq!(world.told(hello(SE.type_url())), ["1 SE +a +b"]);
    world.weigh("a", 2);
    world.weigh("b", 2);
    world.weigh("c", 1);
    assert_eq!(world.says(), nothing(), "istiod has not read the first one yet");
    assert_eq!(world.told(accepts(SE.type_url(), "1")), ["2 SE +a +b +c"]);
    assert_eq!(world.told(accepts(SE.type_url(), "2")), nothing());
    world.delete("b");
    assert_eq!(world.says(), ["3 SE +a +c -b"], "the removal is not on the wire");
    assert_eq!(world.told(accepts(SE.type_url(), "3")), nothing());
    world.retime("a", 10);
    assert_eq!(world.says(), nothing(), "how Envoy connects is no matter of Istio's");
}

#[test]
fn e60_istiod_is_not_made_to_drop_what_a_silent_source_may_still_list() {
    let mut world = mesh(&["a", "b"]);
    assert_eq!(world.told(hello(SE.type_url())), ["1 SE +a +b"]);
    assert_eq!(world.told(accepts(SE.type_url(), "1")), nothing());

    // The server is started again, and one of its sources is down: istiod comes back with the words of a new one.
    let mut world = mesh(&["a"]);
    world.certainty(true, false);
    assert_eq!(world.told(hello(SE.type_url())), nothing());
    assert!(world.stream.is_withholding(&world.snapshot));
    world.weigh("a", 2);
    assert_eq!(world.says(), nothing());
    world.weigh("b", 1);
    world.certainty(true, true);
    assert_eq!(world.says(), ["1 SE +a +b"]);
    assert!(!world.stream.is_withholding(&world.snapshot));
}

#[test]
fn before_anything_is_known_only_the_types_that_we_do_not_have_are_answered() {
    let mut world = mesh(&[]);
    world.certainty(false, false);
    assert_eq!(world.told(hello(TYPES[0])), ["1 other"]);
    assert_eq!(world.told(hello(SE.type_url())), nothing());
    world.certainty(true, true);
    assert_eq!(world.says(), ["2 SE"]);
}

#[test]
fn istiod_that_comes_back_is_told_everything_again() {
    let mut world = mesh(&["a"]);
    world.told(hello(SE.type_url()));
    world.reconnect();
    world.weigh("b", 1);
    assert_eq!(world.told(hello(SE.type_url())), ["1 SE +a +b"]);
}

#[test]
fn only_services_that_are_meant_for_istio_are_told_to_it_and_the_setting_is_live() {
    let mut world = mesh(&["a"]);
    world.settings.istio = None;
    world.weigh("b", 1);
    assert_eq!(world.told(hello(SE.type_url())), ["1 SE +a"]);
    assert_eq!(world.told(accepts(SE.type_url(), "1")), nothing());
    world.export("b", Some(Istio::default()));
    assert_eq!(world.says(), ["2 SE +a +b"]);
    assert_eq!(world.told(accepts(SE.type_url(), "2")), nothing());
    world.export("a", None);
    assert_eq!(world.says(), ["3 SE +b -a"]);
    assert!(world.snapshot.get(CDS, "a").is_some(), "Envoys still have it");
}

#[test]
fn e68_a_refused_entry_leaves_what_istiod_had() {
    let mut world = mesh(&["a", "b"]);
    world.told(hello(SE.type_url()));
    world.told(accepts(SE.type_url(), "1"));
    let good = world.version(SE, "a");
    world.weigh("a", 2);
    assert_eq!(world.says(), ["2 SE +a +b"]);
    let refusal = SotwRequest {
        error_detail: Some("no".to_owned()),
        ..accepts(SE.type_url(), "2")
    };
    assert_eq!(world.told(refusal), nothing());
    world.weigh("b", 2);
    let response = world.stream.next_response(&world.snapshot, NOW).unwrap();
    let listed = response.resources.iter().map(|r| (r.name.as_ref(), r.version));
    assert_eq!(listed.collect::<Vec<_>>(), [("a", good), ("b", world.version(SE, "b"))]);
}

#[test]
fn a_delta_client_gets_entry_by_entry() {
    let mut world = world_of(Variant::Delta, &[]);
    world.settings.istio = Some(Istio::default());
    world.weigh("a", 1);
    world.weigh("b", 1);
    assert_eq!(world.ask(request(SE)), ["1 SE +a +b"]);
    assert_eq!(world.ask(ack(SE, "1")), nothing());
    world.weigh("b", 2);
    assert_eq!(world.says(), ["2 SE +b"]);
    assert_eq!(world.ask(ack(SE, "2")), nothing());
    world.delete("a");
    assert_eq!(world.says(), ["3 SE -a"]);
}

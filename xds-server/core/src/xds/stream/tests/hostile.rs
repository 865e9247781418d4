//! Nothing a client says can panic or grow without bound, in either variant.

use proptest::prelude::*;

use super::*;

fn any_name() -> impl Strategy<Value = Arc<str>> {
    prop_oneof![
        Just("a".to_owned()),
        Just("b".to_owned()),
        Just("*".to_owned()),
        Just(String::new()),
        Just("xdstp://x/y/*".to_owned()),
        ".{0,12}",
    ]
    .prop_map(Arc::from)
}

fn any_names() -> impl Strategy<Value = Vec<Arc<str>>> {
    proptest::collection::vec(any_name(), 0..5)
}

fn any_type() -> impl Strategy<Value = String> {
    let known = ResourceType::ALL.map(|kind| Just(kind.type_url().to_owned()));
    prop_oneof![
        8 => proptest::sample::select(known.map(|Just(url)| url).to_vec()),
        1 => "[a-z.]{1,8}",
    ]
}

#[derive(Clone, Debug)]
enum Event {
    Delta(Request),
    Sotw(SotwRequest),
    Weigh(u32),
    Delete,
    Certainty(bool, bool),
    Send,
}

prop_compose! {
    fn any_delta()(
        type_url in any_type(),
        subscribe in any_names(),
        unsubscribe in any_names(),
        held in proptest::collection::btree_map(any_name(), proptest::option::of("[0-9a-f]{16}"), 0..4),
        nonce in prop_oneof!["", "[0-9]{1,2}", ".{0,8}"],
        error in proptest::option::of(prop_oneof!["", "cluster\\(s\\) a: no, b: no", ".{0,40}"]),
    ) -> Request {
        Request {
            type_url,
            subscribe,
            unsubscribe,
            initial_versions: held.into_iter().map(|(name, v)| (name, v.and_then(|v| v.parse().ok()))).collect(),
            response_nonce: nonce,
            error_detail: error,
            ..request(CDS)
        }
    }
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => any_delta().prop_map(Event::Delta),
        4 => any_delta().prop_map(|request| Event::Sotw(SotwRequest {
            node: request.node,
            type_url: request.type_url,
            names: request.subscribe,
            version_info: String::new(),
            response_nonce: request.response_nonce,
            error_detail: request.error_detail,
        })),
        2 => (1_u32..9).prop_map(Event::Weigh),
        1 => Just(Event::Delete),
        1 => any::<(bool, bool)>().prop_map(|(answering, complete)| Event::Certainty(answering, complete)),
        4 => Just(Event::Send),
    ]
}

proptest! {
    #![proptest_config(leadsman_property::cases(1000))]
    #[test]
    fn whatever_is_said_the_stream_stays_whole_and_comes_to_rest(
        events in proptest::collection::vec(any_event(), 0..40),
        sotw in any::<bool>(),
    ) {
        let variant = if sotw { Variant::StateOfTheWorld } else { Variant::Delta };
        let mut world = world_of(variant, &["a"]);
        for event in events {
            match event {
                Event::Delta(request) if !sotw => drop(world.stream.handle_request(request)),
                Event::Sotw(request) if sotw => drop(world.stream.handle_sotw_request(request)),
                Event::Delta(_) | Event::Sotw(_) => {}
                Event::Weigh(weight) => world.weigh("b", weight),
                Event::Delete => world.delete("b"),
                Event::Certainty(answering, complete) => world.certainty(answering, complete),
                Event::Send => drop(world.stream.next_response(&world.snapshot, NOW)),
            }
        }
        let mut said = 0;
        while let Some(response) = world.stream.next_response(&world.snapshot, NOW) {
            response.encode("cp-1");
            let mut seen: Vec<_> = response.resources.iter().map(|resource| &resource.name).collect();
            seen.extend(&response.removed);
            let all = seen.len();
            seen.sort();
            seen.dedup();
            prop_assert_eq!(all, seen.len(), "E32: a name is there once");
            said += 1;
            prop_assert!(said < 1_000, "it never stops");
        }
        world.stream.report(NOW);
        world.stream.farewell();
    }
}

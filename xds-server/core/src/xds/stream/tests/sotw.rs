//! The state of the world: the same store and the same subscriptions in the older words.

use super::*;

fn first(kind: ResourceType, to: &[&str]) -> SotwRequest {
    let Request { node, type_url, .. } = request(kind);
    SotwRequest {
        node,
        type_url,
        names: names(to),
        ..SotwRequest::default()
    }
}

/// An answer, which repeats everything that is wanted.
fn answer(kind: ResourceType, to: &[&str], nonce: &str) -> SotwRequest {
    SotwRequest {
        response_nonce: nonce.to_owned(),
        ..first(kind, to)
    }
}

fn refusal(kind: ResourceType, to: &[&str], nonce: &str, why: &str) -> SotwRequest {
    SotwRequest {
        error_detail: Some(why.to_owned()),
        ..answer(kind, to, nonce)
    }
}

fn old_world(services: &[&str]) -> World {
    world_of(Variant::StateOfTheWorld, services)
}

impl World {
    fn hear(&mut self, request: SotwRequest) -> Vec<String> {
        self.stream.handle_sotw_request(request).unwrap();
        self.says()
    }
}

#[test]
fn e67_every_response_of_clusters_lists_all_of_them_and_what_it_leaves_out_is_gone() {
    let mut world = old_world(&["a", "b"]);
    assert_eq!(world.hear(first(CDS, &[])), ["1 CDS +a +b"]);
    assert_eq!(world.hear(answer(CDS, &[], "1")), nothing());
    world.retime("a", 10);
    assert_eq!(world.says(), ["2 CDS +a +b"]);
    world.delete("b");
    assert_eq!(world.says(), ["3 CDS +a -b"], "the removal is not on the wire");
}

#[test]
fn e67_responses_of_endpoints_carry_what_changed() {
    let mut world = old_world(&["a", "b"]);
    assert_eq!(world.hear(first(EDS, &["a", "b"])), ["1 EDS +a +b"]);
    assert_eq!(world.hear(answer(EDS, &["a", "b"], "1")), nothing());
    world.weigh("b", 2);
    assert_eq!(world.says(), ["2 EDS +b"]);
    assert_eq!(
        world.state(EDS, "a"),
        ResourceState::Acked {
            version: world.version(EDS, "a")
        }
    );
}

#[test]
fn e67_a_client_that_names_its_clusters_hears_of_these_alone() {
    let mut world = old_world(&["a", "b", "c"]);
    assert_eq!(world.hear(first(CDS, &["a"])), ["1 CDS +a"]);
    assert_eq!(world.hear(answer(CDS, &["a", "b"], "1")), ["2 CDS +a +b"]);
    world.retime("c", 10);
    assert_eq!(world.says(), nothing());
    assert_eq!(world.hear(answer(CDS, &["b"], "2")), nothing());
    world.retime("a", 20);
    assert_eq!(world.says(), nothing());
    world.retime("b", 20);
    assert_eq!(world.says(), ["3 CDS +b"]);
    world.delete("b");
    assert_eq!(world.says(), ["4 CDS -b"]);
}

#[test]
fn e20_a_wildcard_of_a_first_request_without_names_ends_with_the_first_name_and_does_not_come_back() {
    let mut world = old_world(&["a", "b"]);
    assert_eq!(world.hear(first(CDS, &[])), ["1 CDS +a +b"]);
    assert_eq!(world.hear(answer(CDS, &["a"], "1")), ["2 CDS +a"]);
    assert_eq!(world.hear(answer(CDS, &[], "2")), nothing());
    world.retime("a", 10);
    assert_eq!(world.says(), nothing(), "nothing is asked for any more");
    assert_eq!(world.hear(answer(CDS, &["*"], "2")), ["3 CDS +a +b"]);
}

#[test]
fn e22_an_empty_store_is_answered_so_that_the_client_can_start() {
    let mut world = old_world(&[]);
    assert_eq!(world.hear(first(CDS, &[])), ["1 CDS"]);
    assert_eq!(world.hear(answer(CDS, &[], "1")), nothing());
}

#[test]
fn e29_a_missing_name_is_said_to_be_missing_in_the_words_of_its_type_and_sent_when_it_is_created() {
    let mut world = old_world(&[]);
    assert_eq!(world.hear(first(CDS, &["a"])), ["1 CDS -a"], "an answer without it");
    assert_eq!(world.hear(first(EDS, &["a"])), ["2 EDS +a"], "without endpoints");
    assert_eq!(world.hear(answer(EDS, &["a"], "2")), nothing());
    world.weigh("a", 1);
    assert_eq!(world.says(), ["3 CDS +a", "4 EDS +a"]);
}

#[test]
fn e40_a_changed_cluster_brings_its_endpoints_and_those_of_no_other() {
    let mut world = old_world(&["a", "b"]);
    world.hear(first(CDS, &[]));
    world.hear(first(EDS, &["a", "b"]));
    world.retime("a", 10);
    assert_eq!(world.says(), ["3 CDS +a +b", "4 EDS +a"]);
}

#[test]
fn e68_an_answer_to_an_older_response_settles_nothing_and_its_names_count() {
    let mut world = old_world(&["a", "b"]);
    world.hear(first(EDS, &["a"]));
    world.weigh("a", 2);
    assert_eq!(world.says(), ["2 EDS +a"]);
    let version = world.version(EDS, "a");
    assert_eq!(world.hear(answer(EDS, &["a", "b"], "1")), ["3 EDS +b"]);
    assert_eq!(world.state(EDS, "a"), ResourceState::Sent { version });
    world.hear(answer(EDS, &["a", "b"], "2"));
    assert_eq!(world.state(EDS, "a"), ResourceState::Acked { version });
    world.hear(refusal(EDS, &["a", "b"], "1", "a"));
    assert_eq!(world.state(EDS, "a"), ResourceState::Acked { version });
}

#[test]
fn e68_the_version_of_a_response_is_that_of_its_content() {
    let version = |world: &mut World, kind| {
        world.stream.handle_sotw_request(first(kind, &["a"])).unwrap();
        let response = world.stream.next_response(&world.snapshot, NOW).unwrap();
        String::from_utf8_lossy(&response.encode(""))
            .chars()
            .skip(2)
            .take(16)
            .collect::<String>()
    };
    let (mut world, mut replica) = (old_world(&["a", "b"]), old_world(&["b", "a"]));
    let clusters = version(&mut world, CDS);
    assert_eq!(clusters, version(&mut replica, CDS));
    assert_ne!(clusters, version(&mut world, EDS));
}

#[test]
fn e68_a_refused_response_is_not_repeated_and_what_the_client_had_stays_listed() {
    let mut world = old_world(&["a", "b"]);
    world.hear(first(CDS, &[]));
    world.hear(answer(CDS, &[], "1"));
    let good = world.version(CDS, "a");
    world.retime("a", 10);
    assert_eq!(world.says(), ["2 CDS +a +b"]);
    assert_eq!(world.hear(refusal(CDS, &[], "2", "no")), nothing());
    world.retime("b", 10);
    let response = world.stream.next_response(&world.snapshot, NOW).unwrap();
    let listed: Vec<_> = response
        .resources
        .iter()
        .map(|r| (r.name.as_ref(), r.version))
        .collect();
    assert_eq!(listed, [("a", good), ("b", world.version(CDS, "b"))]);
    world.retime("a", 20);
    assert_eq!(world.says(), ["4 CDS +a +b"], "other content is another matter");
}

#[test]
fn e69_of_a_refused_response_the_named_culprit_stays_out_and_the_others_are_confirmed() {
    let mut world = old_world(&["a", "b", "c"]);
    assert_eq!(world.hear(first(CDS, &[])), ["1 CDS +a +b +c"]);
    let why = "Error adding/updating cluster(s) b: no";
    assert_eq!(world.hear(refusal(CDS, &[], "1", why)), ["2 CDS +a +c"]);
    assert_eq!(world.hear(answer(CDS, &[], "2")), nothing());
    let version = world.version(CDS, "b");
    assert_eq!(world.state(CDS, "b"), ResourceState::Rejected { version });
}

#[test]
fn e69_without_a_name_the_suspects_are_listed_one_at_a_time() {
    let mut world = old_world(&["a"]);
    world.hear(first(CDS, &[]));
    world.hear(answer(CDS, &[], "1"));
    world.weigh("b", 1);
    world.weigh("c", 1);
    world.weigh("d", 1);
    assert_eq!(world.says(), ["2 CDS +a +b +c +d"]);
    assert_eq!(world.hear(refusal(CDS, &[], "2", "no")), ["3 CDS +a +b"]);
    world.weigh("e", 1);
    assert_eq!(world.says(), nothing(), "a second suspect would spoil the trial");
    assert_eq!(world.hear(answer(CDS, &[], "3")), ["4 CDS +a +b +c"]);
    assert_eq!(world.hear(refusal(CDS, &[], "4", "no")), ["5 CDS +a +b +d"]);
    assert_eq!(world.hear(answer(CDS, &[], "5")), ["6 CDS +a +b +d +e"]);
    let version = world.version(CDS, "c");
    assert_eq!(world.state(CDS, "c"), ResourceState::Rejected { version });
}

fn back(kind: ResourceType, to: &[&str]) -> SotwRequest {
    SotwRequest {
        version_info: "held".to_owned(),
        ..first(kind, to)
    }
}

#[test]
fn e69_who_comes_back_and_refuses_a_cluster_is_not_made_to_drop_the_one_it_has() {
    let mut world = old_world(&["a", "b"]);
    assert_eq!(world.hear(back(CDS, &[])), ["1 CDS +a +b"]);
    let why = "Error adding/updating cluster(s) b: no";
    assert_eq!(world.hear(refusal(CDS, &[], "1", why)), nothing());
    let version = world.version(CDS, "b");
    assert_eq!(world.state(CDS, "b"), ResourceState::Rejected { version });
    world.retime("a", 10);
    assert_eq!(world.says(), ["2 CDS +a +b"], "what it leaves out would be gone");
    assert_eq!(world.hear(refusal(CDS, &[], "2", why)), nothing());
    let version = world.version(CDS, "a");
    assert_eq!(world.state(CDS, "a"), ResourceState::Acked { version });
    world.retime("b", 10);
    assert_eq!(world.says(), ["3 CDS +a +b"]);
    assert_eq!(world.hear(answer(CDS, &[], "3")), nothing());
    assert_eq!(world.hear(refusal(CDS, &[], "3", "of old")), nothing());
}

#[test]
fn e69_who_comes_back_and_names_no_culprit_keeps_everything() {
    let mut world = old_world(&["a", "b", "c"]);
    world.hear(back(CDS, &[]));
    assert_eq!(world.hear(refusal(CDS, &[], "1", "no")), nothing());
    world.retime("a", 10);
    assert_eq!(world.says(), ["2 CDS +a +b +c"]);
    assert_eq!(world.hear(answer(CDS, &[], "2")), nothing());
    let version = world.version(CDS, "b");
    assert_eq!(world.state(CDS, "b"), ResourceState::Acked { version });
}

#[test]
fn e69_several_that_are_mentioned_are_held_back_together_and_cost_the_others_nothing() {
    let mut world = old_world(&["a", "b", "c", "d"]);
    world.hear(first(CDS, &[]));
    let why = "[resource index 1: b: INVALID, resource index 2: c: INVALID]";
    assert_eq!(world.hear(refusal(CDS, &[], "1", why)), ["2 CDS +a +d"]);
    assert_eq!(world.hear(answer(CDS, &[], "2")), nothing());
    let version = world.version(CDS, "c");
    assert_eq!(world.state(CDS, "c"), ResourceState::Rejected { version });
}

#[test]
fn e39_who_was_mentioned_is_tried_alone_when_the_answer_that_would_confirm_it_is_skipped() {
    let mut world = old_world(&["a", "b", "c"]);
    let all = ["a", "b", "c"];
    assert_eq!(world.hear(first(EDS, &all)), ["1 EDS +a +b +c"]);
    assert_eq!(
        world.hear(refusal(EDS, &all, "1", "something about a")),
        ["2 EDS +b +c"]
    );
    world.weigh("c", 2);
    assert_eq!(world.says(), ["3 EDS +c"]);
    assert_eq!(world.hear(answer(EDS, &all, "3")), ["4 EDS +a"]);
}

#[test]
fn e38_what_is_accepted_after_all_is_refused_no_more() {
    let mut world = old_world(&["a"]);
    world.hear(first(CDS, &[]));
    world.weigh("b", 1);
    assert_eq!(world.says(), ["2 CDS +a +b"]);
    assert_eq!(world.hear(refusal(CDS, &[], "1", "no")), nothing());
    assert_eq!(world.hear(answer(CDS, &[], "2")), nothing());
    world.retime("b", 10);
    assert_eq!(world.says(), ["3 CDS +a +b"]);
}

#[test]
fn of_lists_of_everything_few_are_on_their_way() {
    let mut world = old_world(&["a"]);
    world.hear(first(CDS, &[]));
    let said: Vec<_> = (0..9)
        .flat_map(|n| {
            world.retime("a", 10 + n);
            world.says()
        })
        .collect();
    assert_eq!(said, ["2 CDS +a", "3 CDS +a", "4 CDS +a"]);
    assert_eq!(
        world.hear(answer(CDS, &[], "4")),
        ["5 CDS +a"],
        "the latest, and not each"
    );
}

#[test]
fn e60_a_client_that_comes_back_is_not_made_to_drop_what_a_silent_source_may_still_list() {
    let mut world = old_world(&["a"]);
    world.certainty(true, false);
    assert_eq!(world.hear(back(CDS, &[])), nothing());
    assert_eq!(world.hear(back(EDS, &["a", "b"])), ["1 EDS +a"]);
    world.certainty(true, true);
    assert_eq!(world.says(), ["2 CDS +a -b", "3 EDS +a +b"]);

    let mut world = old_world(&["a"]);
    world.certainty(true, false);
    assert_eq!(
        world.hear(back(CDS, &["a"])),
        ["1 CDS +a"],
        "all that was asked for is there"
    );
    let mut world = old_world(&["a"]);
    world.certainty(true, false);
    assert_eq!(
        world.hear(first(CDS, &[])),
        ["1 CDS +a"],
        "who holds nothing can lose nothing"
    );
}

#[test]
fn e06_an_unknown_type_is_answered_when_everything_of_it_is_asked_for() {
    let mut world = old_world(&["a"]);
    let other = |to: &[&str]| SotwRequest {
        type_url: "type.googleapis.com/envoy.x.v3.Other".to_owned(),
        ..first(CDS, to)
    };
    assert_eq!(world.hear(other(&[])), ["1 other"]);
    assert_eq!(world.hear(other(&[])), nothing());
    let mut world = old_world(&["a"]);
    assert_eq!(world.hear(other(&["secret"])), nothing());
}

#[test]
fn names_that_are_repeated_in_every_answer_are_not_sent_again() {
    let mut world = old_world(&["a", "b"]);
    world.hear(first(EDS, &["a"]));
    assert_eq!(world.hear(answer(EDS, &["a"], "1")), nothing());
    assert_eq!(world.hear(answer(EDS, &["a", "a", "b"], "1")), ["2 EDS +b"]);
    assert_eq!(world.hear(answer(EDS, &["b"], "2")), nothing());
    world.weigh("a", 9);
    assert_eq!(world.says(), nothing());
    assert_eq!(world.hear(answer(EDS, &["b", "a"], "2")), ["3 EDS +a"]);
}

#[test]
fn a_text_longer_than_any_name_ends_the_stream_and_is_not_kept() {
    let long = "x".repeat(5000);
    let mut world = old_world(&["a"]);
    for request in [
        first(CDS, &[&long]),
        SotwRequest {
            type_url: long.clone(),
            ..first(CDS, &[])
        },
        SotwRequest {
            node: Some(Node {
                id: long.clone(),
                ..Node::default()
            }),
            ..first(CDS, &[])
        },
    ] {
        let refused = world.stream.handle_sotw_request(request);
        assert_eq!(refused, Err(ProtocolError::TooLong(4096)));
        assert_eq!(world.stream.node(), None);
    }
}

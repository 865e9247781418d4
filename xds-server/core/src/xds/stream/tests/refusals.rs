//! E39 and E48: a response is refused as a whole, and only the culprit stays out.

use super::*;

fn refuse(nonce: &str, why: &str) -> Request {
    Request {
        error_detail: Some(why.to_owned()),
        ..ack(CDS, nonce)
    }
}

impl World {
    fn rejected(&self) -> Vec<String> {
        let report = &self.stream.report(NOW)[0];
        report.rejected.iter().map(|(name, _)| name.to_string()).collect()
    }
}

#[test]
fn e39_the_culprit_that_is_named_is_sent_once_and_the_others_arrive() {
    let mut world = world(&["a", "b", "c", "d"]);
    assert_eq!(world.ask(request(CDS)), ["1 CDS +a +b +c +d"]);
    let why = "Error adding/updating cluster(s) c: the reason";
    assert_eq!(world.ask(refuse("1", why)), ["2 CDS +a +b +d"]);
    assert_eq!(world.ask(ack(CDS, "2")), nothing());
    assert_eq!(world.rejected(), ["c"]);
    assert_eq!(world.stream.report(NOW)[0].acked, 3);
    world.retime("c", 10);
    assert_eq!(world.says(), ["3 CDS +c"], "until its content changes");
    assert_eq!(world.ask(ack(CDS, "3")), nothing());
    assert_eq!(world.rejected(), [""; 0]);
}

#[test]
fn e39_several_culprits_that_are_named_are_sent_once() {
    let mut world = world(&["a", "b", "c", "d"]);
    world.ask(request(CDS));
    let why = "Error adding/updating cluster(s) b: a is no type, d: why not";
    assert_eq!(world.ask(refuse("1", why)), ["2 CDS +a +c"]);
    assert_eq!(world.ask(ack(CDS, "2")), nothing());
    assert_eq!(world.rejected(), ["b", "d"]);
}

#[test]
fn e39_a_name_in_a_quoted_message_is_that_of_the_culprit() {
    let mut world = world(&["a", "b", "type"]);
    world.ask(request(CDS));
    let why = "Proto constraint validation failed (field: \"lb_policy\"): name: \"b\"\ntype: EDS\n";
    assert_eq!(world.ask(refuse("1", why)), ["2 CDS +a +type"]);
    assert_eq!(world.rejected(), ["b"]);
}

#[test]
fn e39_a_mere_mention_is_verified_without_the_refused_bytes() {
    let mut world = world(&["a", "b", "c"]);
    world.ask(request(CDS));
    assert_eq!(world.ask(refuse("1", "resource b is no good")), ["2 CDS +a +c"]);
    assert_eq!(world.ask(ack(CDS, "2")), nothing());
    assert_eq!(world.rejected(), ["b"], "without it all went well");
}

#[test]
fn e39_who_was_mentioned_and_is_innocent_is_found_out() {
    let mut world = world(&["a", "b", "c"]);
    world.ask(request(CDS));
    assert_eq!(world.ask(refuse("1", "resource b is no good")), ["2 CDS +a +c"]);
    assert_eq!(
        world.ask(refuse("2", "no")),
        ["3 CDS +b", "4 CDS +a", "5 CDS +c"],
        "the refusal came without it too"
    );
    assert_eq!(world.ask(ack(CDS, "3")), nothing());
    assert_eq!(world.ask(ack(CDS, "4")), nothing());
    assert_eq!(world.ask(refuse("5", "no")), nothing());
    assert_eq!(world.rejected(), ["c"]);
}

#[test]
fn e39_without_a_name_each_is_sent_once_more_alone() {
    let mut world = world(&["a", "b", "c", "d"]);
    world.ask(request(CDS));
    assert_eq!(
        world.ask(nack(CDS, "1")),
        ["2 CDS +a", "3 CDS +b", "4 CDS +c", "5 CDS +d"]
    );
    for nonce in ["2", "3", "4"] {
        assert_eq!(world.ask(ack(CDS, nonce)), nothing());
    }
    assert_eq!(world.ask(nack(CDS, "5")), nothing());
    assert_eq!(world.rejected(), ["d"]);
    assert_eq!(world.stream.report(NOW)[0].acked, 3);
}

#[test]
fn e39_of_a_hundred_with_one_bad_the_others_arrive_with_the_next_response() {
    let services: Vec<String> = (0..100).map(|n| format!("s{n:02}")).collect();
    let services: Vec<&str> = services.iter().map(String::as_str).collect();
    let mut world = world(&services);
    world.ask(request(CDS));
    let said = world.ask(refuse("1", "Error adding/updating cluster(s) s42: the reason"));
    assert_eq!(said.len(), 1, "{said:?}");
    assert_eq!(said[0].matches('+').count(), 99);
    assert!(!said[0].contains("s42"), "{said:?}");
}

#[test]
fn e39_a_refusal_after_something_newer_was_sent_is_not_taken_for_its_fault() {
    let mut world = world(&["a", "b"]);
    world.ask(request(CDS));
    world.retime("b", 10);
    assert_eq!(world.says(), ["2 CDS +b"]);
    assert_eq!(world.ask(nack(CDS, "1")), ["3 CDS +a"], "it may have been the former b");
    assert_eq!(world.ask(ack(CDS, "2")), nothing());
    assert_eq!(world.ask(ack(CDS, "3")), nothing());
    assert_eq!(world.rejected(), [""; 0]);
}

#[test]
fn e39_a_name_that_is_asked_for_again_is_sent_again_although_it_was_refused() {
    let mut world = world(&["a"]);
    world.ask(subscribe(CDS, &["a"]));
    world.ask(nack(CDS, "1"));
    assert_eq!(world.ask(subscribe(CDS, &["a"])), ["2 CDS +a"]);
}

#[test]
fn e48_what_was_applied_of_a_refused_response_is_not_believed_to_be_known() {
    let mut world = world(&["a", "b"]);
    world.ask(request(CDS));
    world.ask(ack(CDS, "1"));
    let before = world.version(CDS, "a");
    world.retime("a", 10);
    world.retime("b", 10);
    assert_eq!(world.says(), ["2 CDS +a +b"]);
    // Envoy may have taken the new a. Now the old one is wanted again.
    world
        .stream
        .handle_request(refuse("2", "Error adding/updating cluster(s) b: no"))
        .unwrap();
    world.retime("a", 1000);
    assert_eq!(world.version(CDS, "a"), before);
    assert_eq!(world.says(), ["3 CDS +a"]);
}

#[test]
fn e37_a_refusal_with_code_zero_and_no_text_is_a_refusal() {
    let mut world = world(&["a"]);
    world.ask(request(CDS));
    assert_eq!(world.ask(refuse("1", "")), nothing());
    assert_eq!(world.rejected(), ["a"]);
}

//! The rules of the specification, one table each, and what holds for any input.

use proptest::prelude::*;

use super::*;

const TRACE: &str = "12345678901234567890123456789012";
const PARENT: &str = "1234567890123456";
const RANDOM: [u8; 24] = [0xab; 24];

fn config(mode: TraceMode, generate: bool) -> TraceConfig {
    TraceConfig {
        mode,
        generate,
        sampled: true,
    }
}

/// The headers after the decision: the values of `traceparent` and of `tracestate`.
fn apply(parents: &[&str], states: &[&str], config: &TraceConfig) -> (Vec<String>, Vec<String>) {
    let parent_bytes: Vec<&[u8]> = parents.iter().map(|value| value.as_bytes()).collect();
    let state_bytes: Vec<&[u8]> = states.iter().map(|value| value.as_bytes()).collect();
    let decision = decide(&parent_bytes, &state_bytes, config);
    let text = |values: &[&str]| values.iter().map(|value| value.trim().to_owned()).collect();
    let parents = match decision.traceparent(&RANDOM, config.sampled) {
        Some(new) => vec![new],
        None => text(parents),
    };
    let states = if decision.removes_tracestate() {
        Vec::new()
    } else {
        text(states)
    };
    (parents, states)
}

fn repaired(parents: &[&str], states: &[&str]) -> (Vec<String>, Vec<String>) {
    apply(parents, states, &config(TraceMode::Repair, true))
}

fn fresh() -> String {
    format!("00-{}-{}-03", "ab".repeat(16), "ab".repeat(8))
}

fn valid(flags: &str) -> String {
    format!("00-{TRACE}-{PARENT}-{flags}")
}

#[test]
fn a_valid_traceparent_passes_untouched() {
    let future = format!("cc-{TRACE}-{PARENT}-01");
    let future_with_more = format!("cc-{TRACE}-{PARENT}-01-what-the-future-will-be-like");
    for value in [
        valid("00"),
        valid("01"),
        valid("02"),
        valid("ff"),
        future,
        future_with_more,
        format!("cc-{TRACE}-{PARENT}-01-"),
        format!("\t {} \t", valid("01")),
    ] {
        assert_eq!(
            repaired(&[&value], &["foo=1"]),
            (vec![value.trim().to_owned()], vec!["foo=1".to_owned()])
        );
    }
}

#[test]
fn an_invalid_traceparent_restarts_the_trace_without_its_tracestate() {
    for value in [
        String::new(),
        format!("00-{TRACE}-{PARENT}-01."),
        format!("00-{TRACE}-{PARENT}-01-"),
        format!("00-{TRACE}-{PARENT}-01-what-the-future-will-be-like"),
        format!("cc-{TRACE}-{PARENT}-01.what-the-future-will-not-be-like"),
        format!("ff-{TRACE}-{PARENT}-01"),
        format!(".0-{TRACE}-{PARENT}-01"),
        format!("0.-{TRACE}-{PARENT}-01"),
        format!("CC-{TRACE}-{PARENT}-01"),
        format!("000-{TRACE}-{PARENT}-01"),
        format!("0000-{TRACE}-{PARENT}-01"),
        format!("0-{TRACE}-{PARENT}-01"),
        format!("00-{}-{PARENT}-01", "0".repeat(32)),
        format!("00-.2345678901234567890123456789012-{PARENT}-01"),
        format!("00-1234567890123456789012345678901.-{PARENT}-01"),
        format!("00-ABCDEF78901234567890123456789012-{PARENT}-01"),
        format!("00-{TRACE}3-{PARENT}-01"),
        format!("00-1234567890123456789012345678901-{PARENT}-01"),
        format!("00-{TRACE}-0000000000000000-01"),
        format!("00-{TRACE}-.234567890123456-01"),
        format!("00-{TRACE}-123456789012345.-01"),
        format!("00-{TRACE}-ABCDEF7890123456-01"),
        format!("00-{TRACE}-{PARENT}7-01"),
        format!("00-{TRACE}-123456789012345-01"),
        format!("00-{TRACE}-{PARENT}-.0"),
        format!("00-{TRACE}-{PARENT}-0."),
        format!("00-{TRACE}-{PARENT}-0A"),
        format!("00-{TRACE}-{PARENT}-001"),
        format!("00-{TRACE}-{PARENT}-1"),
        format!("00_{TRACE}_{PARENT}_01"),
        format!("00-{TRACE}-{PARENT}"),
    ] {
        assert_eq!(repaired(&[&value], &["foo=1"]), (vec![fresh()], vec![]), "{value:?}");
    }
}

#[test]
fn two_traceparents_restart_the_trace_even_when_they_agree() {
    let (one, other) = (valid("01"), valid("00"));
    for pair in [[&*one, &*other], [&*one, &*one]] {
        assert_eq!(repaired(&pair, &["foo=1"]), (vec![fresh()], vec![]));
    }
}

#[test]
fn a_missing_traceparent_is_generated_only_on_request() {
    let quiet = config(TraceMode::Repair, false);
    assert_eq!(repaired(&[], &[]), (vec![fresh()], vec![]));
    assert_eq!(repaired(&[], &["foo=1", "bar=2"]), (vec![fresh()], vec![]));
    assert_eq!(apply(&[], &[], &quiet), (vec![], vec![]));
    assert_eq!(apply(&[], &["foo=1"], &quiet), (vec![], vec![]));
    assert_eq!(apply(&["x"], &[], &quiet), (vec![fresh()], vec![]));
}

#[test]
fn a_readable_tracestate_is_inherited_as_it_is() {
    let every_key = "abcdefghijklmnopqrstuvwxyz0123456789_-*/@a-z0-9_-*/";
    let every_value: String = (' '..='~').filter(|c| !matches!(c, ',' | '=')).collect();
    let member =
        |range: std::ops::RangeInclusive<u8>| range.map(|n| format!("bar{n:02}={n:02}")).collect::<Vec<_>>().join(",");
    let (half, rest) = (member(1..=16), member(17..=32));
    for states in [
        &["foo=1,bar=2"][..],
        &["foo=1", ""],
        &["", "foo=1"],
        &["foo=1,,bar=2", " , "],
        &["foo=1,bar=2", "rojo=1,congo=2", "baz=3"],
        &["foo=1,foo=1"],
        &["foo=1", "foo=2"],
        &["foo=1 \t , \t bar=2, \t baz=3"],
        &["\t foo=1 \t"],
        &["0foo= 1"],
        &[&format!("{every_key}={every_value}")],
        &[&half, &rest],
        &["foo=1", &format!("{}=1", "z".repeat(256))],
        &["foo=1", &format!("{}@{}=1", "t".repeat(241), "v".repeat(14))],
        &[&format!("foo={}", "v".repeat(256))],
    ] {
        let expected: Vec<String> = states.iter().map(|state| state.trim().to_owned()).collect();
        assert_eq!(repaired(&[&valid("00")], states), (vec![valid("00")], expected));
    }
}

#[test]
fn an_unreadable_tracestate_is_discarded_and_the_trace_continues() {
    let member = |n: u8| format!("bar{n:02}={n:02}");
    let too_many: Vec<String> = (1..=33).map(member).collect();
    for states in [
        &[""][..],
        &["", " \t", ","],
        &["foo =1"],
        &["FOO=1"],
        &["foo.bar=1"],
        &["@foo=1,bar=2"],
        &["_foo=1"],
        &["=1"],
        &["foo"],
        &["foo="],
        &["foo=1=2"],
        &["foo=\u{e9}"],
        &["foo=a\tb"],
        &["foo=1;bar=2", "foo"],
        &[&too_many.join(",")],
        &["foo=1", &format!("{}=1", "z".repeat(257))],
        &["foo=1", &format!("bar={}", "v".repeat(257))],
    ] {
        assert_eq!(
            repaired(&[&valid("00")], states),
            (vec![valid("00")], vec![]),
            "{states:?}"
        );
    }
}

#[test]
fn taking_part_gives_a_new_parent_in_the_same_trace() {
    let participate = config(TraceMode::Participate, false);
    let parent = "ab".repeat(8);
    for (flags, kept) in [("00", "00"), ("01", "01"), ("02", "02"), ("03", "03"), ("ff", "03")] {
        let (parents, states) = apply(&[&valid(flags)], &["foo=1"], &participate);
        assert_eq!(parents, [format!("00-{TRACE}-{parent}-{kept}")]);
        assert_eq!(states, ["foo=1"]);
    }
    let future = format!("cc-{TRACE}-{PARENT}-05-more");
    let (parents, states) = apply(&[&future], &["foo"], &participate);
    assert_eq!((parents, states), (vec![format!("00-{TRACE}-{parent}-01")], vec![]));
    assert_eq!(apply(&["x"], &[], &participate), (vec![fresh()], vec![]));
    assert_eq!(apply(&[], &[], &participate), (vec![], vec![]));
}

#[test]
fn nothing_happens_when_off() {
    let off = config(TraceMode::Off, true);
    let same = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect::<Vec<_>>();
    assert_eq!(apply(&["x", "y"], &["z"], &off), (same(&["x", "y"]), same(&["z"])));
    assert_eq!(apply(&[], &[], &off), (vec![], vec![]));
}

#[test]
fn every_decision_has_its_own_count() {
    let repair = config(TraceMode::Repair, false);
    let (good, generate) = (valid("01"), config(TraceMode::Repair, true));
    let participate = config(TraceMode::Participate, false);
    let action = |parents: &[&str], states: &[&str], config: &TraceConfig| {
        let parents: Vec<&[u8]> = parents.iter().map(|value| value.as_bytes()).collect();
        let states: Vec<&[u8]> = states.iter().map(|value| value.as_bytes()).collect();
        decide(&parents, &states, config).action().as_str()
    };
    assert_eq!(action(&[&good], &[], &repair), "kept");
    assert_eq!(action(&[], &[], &repair), "missing");
    assert_eq!(action(&[&good], &["x"], &repair), "tracestate_removed");
    assert_eq!(action(&[], &["x=1"], &repair), "orphan_removed");
    assert_eq!(action(&[], &[], &generate), "started");
    assert_eq!(action(&["x"], &[], &repair), "restarted");
    assert_eq!(action(&[&good], &[], &participate), "continued");
}

#[test]
fn zeros_from_the_random_source_still_make_a_valid_context() {
    let made = Traceparent::fresh(&[0; 24], false);
    assert_eq!(Traceparent::parse(made.to_string().as_bytes()), Some(made));
    assert!(made.to_string().ends_with("-02"));
}

fn hostile_value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..80),
        "[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-.*)?".prop_map(String::into_bytes),
        "[ \t]{0,2}00-[0-9a-fA-F]{31,33}-[0-9a-f]{15,17}-[0-9a-f]{1,3}".prop_map(String::into_bytes),
        "([a-z@]{0,3}=?[ -~]{0,3},?){0,40}".prop_map(String::into_bytes),
    ]
}

proptest! {
    #![proptest_config(leadsman_property::cases(256))]
    #[test]
    fn whatever_comes_in_what_goes_out_is_valid(
        parents in proptest::collection::vec(hostile_value(), 0..3),
        states in proptest::collection::vec(hostile_value(), 0..3),
        random in any::<[u8; 24]>(),
        (generate, sampled, participate) in any::<(bool, bool, bool)>(),
    ) {
        let mode = if participate { TraceMode::Participate } else { TraceMode::Repair };
        let config = TraceConfig { mode, generate, sampled };
        let mut parents: Vec<&[u8]> = parents.iter().map(Vec::as_slice).collect();
        let mut states: Vec<&[u8]> = states.iter().map(Vec::as_slice).collect();
        let decision = decide(&parents, &states, &config);
        let new = decision.traceparent(&random, sampled);
        prop_assert_eq!(new.is_some(), decision.sets_traceparent());
        if let Some(new) = &new {
            parents = vec![new.as_bytes()];
        }
        if decision.removes_tracestate() {
            states.clear();
        }
        prop_assert!(parents.len() <= 1);
        prop_assert!(parents.iter().all(|value| Traceparent::parse(value).is_some()));
        prop_assert!(states.is_empty() || (parents.len() == 1 && tracestate::is_valid(&states)));
        prop_assert!(!generate || parents.len() == 1);
        // What is valid needs no second repair.
        let settled = TraceConfig { mode: TraceMode::Repair, generate, sampled };
        let again = decide(&parents, &states, &settled);
        let expected = if parents.is_empty() { Seen::Nothing } else { Seen::Valid };
        prop_assert_eq!(again, Decision::Leave(expected));
    }
}

//! What nodes that come, change and go do to services.

use super::super::client::Birth;
use super::super::layout::Layout;
use super::*;

fn records() -> Records {
    Records::new(LayoutChoice::Auto, "/s")
}

fn node(data: &str, mzxid: i64) -> Node {
    Node {
        data: data.into(),
        mzxid,
        newest: mzxid,
        birth: Birth::default(),
        ephemeral: true,
        has_children: false,
    }
}

fn at(address: &str) -> String {
    format!(r#"{{"address":"{address}"}}"#)
}

/// What changed, a word a service: its endpoints, `!` for each rejection, or `gone`.
fn told(changes: Vec<Change>) -> Vec<String> {
    let word = |change: Change| match change {
        Change::Deleted(name) => format!("{name} gone"),
        Change::Applied(service) => format!("{} {}", service.name, shown(&service)),
    };
    changes.into_iter().map(word).collect()
}

fn shown(service: &Service) -> String {
    let endpoint = |endpoint: &Endpoint| format!("{}*{}", endpoint.address, endpoint.weight);
    let endpoints: Vec<String> = service.endpoints.iter().map(endpoint).collect();
    format!("{}{}", endpoints.join(","), "!".repeat(service.rejections.len()))
}

#[test]
fn only_what_changed_is_told() {
    let mut records = records();
    records.put("/s/a/1", &node(&at("10.0.0.1:80"), 1), None);
    records.put("/s/b/1", &node(&at("10.0.0.2:80"), 2), None);
    assert_eq!(records.snapshot().len(), 2);
    assert_eq!(told(records.changes()), [""; 0]);
    records.put("/s/a/1", &node(&at("10.0.0.1:80"), 3), None);
    assert_eq!(told(records.changes()), [""; 0], "a record written again is silence");
    records.put("/s/a/2", &node(&at("10.0.0.3:80"), 4), None);
    records.remove("/s/b/1");
    records.remove("/s/never/1");
    assert_eq!(told(records.changes()), ["a 10.0.0.1:80*1,10.0.0.3:80*1", "b gone"]);
}

#[test]
fn a_record_that_moves_to_another_service_leaves_the_first() {
    let mut records = Records::new(LayoutChoice::Pinned(Layout::GoMicro), "/s");
    let service = |name: &str| format!(r#"{{"name":"{name}","nodes":[{{"address":"10.0.0.1:80"}}]}}"#);
    records.put("/s/a-b/1", &node(&service("a-b"), 1), None);
    records.snapshot();
    records.put("/s/a-b/1", &node(&service("a/b"), 2), None);
    assert_eq!(told(records.changes()), ["a-b gone", "a/b 10.0.0.1:80*1"]);
}

#[test]
fn a_damaged_record_stays_with_its_service_within_a_session_and_after_it() {
    let mut first = records();
    first.put("/s/a/1", &node(&at("10.0.0.1:80"), 1), None);
    first.snapshot();
    for (mzxid, damaged) in [(2, ""), (3, "{"), (4, "7"), (5, r#"{"address":""}"#)] {
        first.put("/s/a/1", &node(damaged, mzxid), None);
        assert_eq!(
            shown(&first.compose(&ServiceName::new("a").unwrap()).unwrap()),
            "!",
            "{damaged:?}"
        );
    }
    assert_eq!(first.unattributed.len(), 0);
    let mut second = records();
    second.put("/s/a/1", &node("", 6), Some(&first));
    assert_eq!(second.snapshot().iter().map(shown).collect::<Vec<_>>(), ["!"]);
    second.put("/s/a/1", &node(&at("10.0.0.1:80"), 7), None);
    assert_eq!(told(second.changes()), ["a 10.0.0.1:80*1"]);
}

#[test]
fn a_node_that_gets_a_child_is_a_directory_and_no_bad_record() {
    let mut records = records();
    let directory = Node {
        ephemeral: false,
        ..node("made by somebody", 1)
    };
    records.put("/s/a", &directory, None);
    assert_eq!(records.tell_unattributed().unwrap().len(), 1);
    records.put("/s/a/1", &node(&at("10.0.0.1:80"), 2), None);
    assert_eq!(records.tell_unattributed().unwrap().len(), 0);
    assert_eq!(records.tell_unattributed(), None);
    assert_eq!(told(records.changes()), ["a 10.0.0.1:80*1"]);
}

#[test]
fn what_may_not_be_read_any_more_is_inherited_with_everything_below() {
    let mut before = records();
    for (path, address) in [
        ("/s/a/1", "10.0.0.1:80"),
        ("/s/ab/1", "10.0.0.2:80"),
        ("/s/a-b/1", "10.0.0.3:80"),
    ] {
        before.put(path, &node(&at(address), 1), None);
    }
    let mut after = records();
    after.inherit(&before, "/s/a");
    assert_eq!(
        after.snapshot().iter().map(shown).collect::<Vec<_>>(),
        ["10.0.0.1:80*1"]
    );
    after.inherit(&before, "/s/unknown");
    assert_eq!(after.len(), 1);
}

#[test]
fn what_a_listing_does_not_show_any_more_stays_for_a_while() {
    let mut before = records();
    let directory = Node {
        ephemeral: false,
        ..node("", 1)
    };
    before.put("/s/a", &directory, None);
    for (path, address) in [
        ("/s/a/1", "10.0.0.1:80"),
        ("/s/a/2", "10.0.0.2:80"),
        ("/s/b/1", "10.0.0.3:80"),
    ] {
        before.put(path, &node(&at(address), 1), None);
    }
    let mut after = records();
    after.put("/s/b/1", &node(&at("10.0.0.9:80"), 2), None);
    let mut asked = Vec::new();
    after.await_missing(&before, |path| {
        asked.push(path.to_owned());
        path == "/s/a/1"
    });
    assert_eq!(asked, ["/s/a/1", "/s/a/2"]);
    let shown: Vec<String> = after.snapshot().iter().map(shown).collect();
    assert_eq!(shown, ["10.0.0.1:80*1", "10.0.0.9:80*1"]);
    after.remove("/s/a/1");
    assert_eq!(told(after.changes()), ["a gone"]);
}

#[test]
fn of_two_records_with_one_address_the_healthier_and_heavier_counts() {
    let mut records = records();
    let record = |fields: &str| format!(r#"{{"address":"10.0.0.1:80",{fields}}}"#);
    records.put("/s/a/1", &node(&record(r#""weight":9,"health":"unhealthy""#), 1), None);
    records.put("/s/a/2", &node(&record(r#""weight":2"#), 2), None);
    records.put("/s/a/3", &node(&record(r#""weight":3"#), 3), None);
    assert_eq!(told(records.changes()), ["a 10.0.0.1:80*3"]);
    records.remove("/s/a/3");
    assert_eq!(told(records.changes()), ["a 10.0.0.1:80*2"]);
}

#[test]
fn a_rule_changes_every_provider_of_its_interface_and_is_no_service() {
    let mut records = Records::new(LayoutChoice::Auto, "/dubbo");
    let provider = |port: u16| format!("/dubbo/a/providers/dubbo%3A%2F%2F10.0.0.1%3A{port}%2Fa");
    let rule = "/dubbo/a/configurators/override%3A%2F%2F0.0.0.0%2Fa%3Fweight%3D7";
    records.put(rule, &node("", 1), None);
    assert_eq!(told(records.changes()), [""; 0]);
    records.put(&provider(1), &node("10.0.0.9", 2), None);
    records.put(&provider(2), &node("10.0.0.9", 3), None);
    assert_eq!(told(records.changes()), ["a 10.0.0.1:1*7,10.0.0.1:2*7"]);
    records.remove(rule);
    assert_eq!(told(records.changes()), ["a 10.0.0.1:1*100,10.0.0.1:2*100"]);
    records.put(rule, &node("", 4), None);
    records.remove(&provider(1));
    records.remove(&provider(2));
    assert_eq!(told(records.changes()), ["a gone"]);
}

#[test]
fn drift_is_every_node_that_came_changed_or_went_unseen() {
    let (mut held, mut fresh) = (records(), records());
    for (path, mzxid) in [("/s/a/1", 1), ("/s/a/2", 2), ("/s/a/3", 3)] {
        held.put(path, &node(&at("10.0.0.1:80"), mzxid), None);
    }
    for (path, mzxid) in [("/s/a/1", 1), ("/s/a/2", 9), ("/s/a/4", 4)] {
        fresh.put(path, &node(&at("10.0.0.1:80"), mzxid), None);
    }
    assert_eq!(held.drift(&held, |_| false), 0);
    assert_eq!(held.drift(&fresh, |_| false), 3);
    assert_eq!(held.drift(&fresh, |path| path == "/s/a/4"), 2);
}

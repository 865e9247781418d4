//! What deltas and listings do to the held instances, in every order in which they may arrive.

use std::time::Duration;

use super::super::config::Config;
use super::super::wire::read;
use super::*;

fn records() -> Records {
    let mut records = Records::new(Rules::of(&Config::new(vec![])));
    records.begin_session();
    records
}

/// An instance of `orders` at a port, written at a moment.
fn at(port: u16, moment: u64) -> Record {
    written(port, moment, moment)
}

fn written(port: u16, dirty: u64, updated: u64) -> Record {
    record("ORDERS", "UP", port, dirty, updated)
}

fn record(app: &str, status: &str, port: u16, dirty: u64, updated: u64) -> Record {
    let id = port % 100;
    let body = format!(
        r#"{{"applications":{{"application":{{"name":"{app}","instance":{{"instanceId":"{id}","ipAddr":"10.0.0.1",
        "port":{{"$":{port},"@enabled":"true"}},"status":"{status}","lastDirtyTimestamp":"{dirty}",
        "lastUpdatedTimestamp":{updated}}}}}}}}}"#
    );
    read(body.as_bytes()).unwrap().records.remove(0)
}

fn gone(record: Record) -> Record {
    Record {
        deleted: true,
        ..record
    }
}

fn say(changes: &[Change]) -> Vec<String> {
    let line = |change: &Change| match change {
        Change::Applied(service) => show(service),
        Change::Deleted(name) => format!("-{name}"),
    };
    changes.iter().map(line).collect()
}

fn show(service: &Service) -> String {
    let endpoints = service
        .endpoints
        .iter()
        .map(|endpoint| endpoint.address.port().to_string());
    let rejections = service
        .rejections
        .iter()
        .map(|rejection| format!("!{}", rejection.provenance.record));
    let items: Vec<_> = endpoints.chain(rejections).collect();
    format!("{}[{}]", service.name, items.join(" "))
}

fn apply(records: &mut Records, delta: &[Record]) -> Vec<String> {
    records.apply(delta, Instant::now());
    say(&records.tell())
}

fn adopt(records: &mut Records, full: &[Record], order: Order) -> (u64, Vec<String>) {
    let drift = records.adopt(full, order, &[], Instant::now());
    (drift, say(&records.tell()))
}

#[test]
fn a_delta_says_each_changed_service_once_and_its_repetition_nothing() {
    let mut records = records();
    let delta = [at(8001, 1), record("USERS", "UP", 9001, 1, 1), at(8002, 2)];
    assert_eq!(apply(&mut records, &delta), ["orders[8001 8002]", "users[9001]"]);
    assert_eq!(records.hash(), "UP_3_");
    for _ in 0..3 {
        assert_eq!(apply(&mut records, &delta), [""; 0]);
    }
    let removal = [gone(at(8001, 3)), gone(record("USERS", "UP", 9001, 1, 4))];
    assert_eq!(apply(&mut records, &removal), ["orders[8002]", "-users"]);
    assert_eq!(apply(&mut records, &removal), [""; 0]);
    assert_eq!(records.hash(), "UP_1_");
}

#[test]
fn an_instance_written_again_is_silence() {
    let mut records = records();
    apply(&mut records, &[at(8001, 1)]);
    assert_eq!(apply(&mut records, &[at(8001, 2)]), [""; 0]);
    assert_eq!(adopt(&mut records, &[at(8001, 3)], Order::Strict), (0, vec![]));
}

#[test]
fn an_older_answer_takes_nothing_back() {
    let mut records = records();
    apply(&mut records, &[at(8001, 5), at(8002, 5)]);
    // The same instance at an older address.
    assert_eq!(apply(&mut records, &[at(7001, 4)]), [""; 0]);
    assert_eq!(apply(&mut records, &[gone(at(8001, 4))]), [""; 0]);
    assert_eq!(
        adopt(&mut records, &[at(7001, 4), at(8002, 5)], Order::SamePeer),
        (0, vec![])
    );
    apply(&mut records, &[gone(written(8001, 5, 6))]);
    assert_eq!(
        adopt(&mut records, &[at(8001, 5), at(8002, 5)], Order::Strict),
        (0, vec![])
    );
    assert_eq!(apply(&mut records, &[at(7001, 7)]), ["orders[7001 8002]"]);
}

#[test]
fn an_instance_whose_clock_went_back_is_known_by_the_clock_of_the_server() {
    let mut records = records();
    apply(&mut records, &[written(8001, 50, 5)]);
    assert_eq!(apply(&mut records, &[written(7001, 40, 6)]), ["orders[7001]"]);
    apply(&mut records, &[gone(written(7001, 40, 7))]);
    assert_eq!(apply(&mut records, &[written(8001, 30, 8)]), ["orders[8001]"]);
}

#[test]
fn the_clocks_of_two_servers_are_not_compared() {
    let mut records = records();
    apply(&mut records, &[written(8001, 5, 1000), written(8002, 5, 1000)]);
    records.begin_session();
    // This server's clock is behind; the instance itself wrote nothing new, and is out of service here.
    let full = [written(7001, 5, 10), written(8002, 6, 10)];
    assert_eq!(
        adopt(&mut records, &full, Order::Strict),
        (1, vec!["orders[7001 8002]".to_owned()])
    );
    records.begin_session();
    // This one has not heard of the second's last word yet; after a while it should have.
    let behind = [written(7001, 5, 20), written(7002, 5, 20)];
    assert_eq!(adopt(&mut records, &behind, Order::Strict), (0, vec![]));
    assert_eq!(
        adopt(&mut records, &behind, Order::SamePeer),
        (1, vec!["orders[7001 7002]".to_owned()])
    );
}

#[test]
fn a_removed_instance_comes_back_by_its_own_word_or_when_the_removal_is_forgotten() {
    let mut records = records();
    let start = Instant::now();
    records.apply(&[at(8001, 5), at(8002, 5)], start);
    records.apply(&[gone(written(8001, 5, 6))], start);
    records.tell_all();
    records.begin_session();
    let full = [written(8001, 5, 1), at(8002, 5)];
    assert_eq!(adopt(&mut records, &full, Order::SamePeer), (0, vec![]));
    records.apply(&[], start + TOMBSTONE - Duration::from_millis(1));
    assert_eq!(adopt(&mut records, &full, Order::SamePeer), (0, vec![]));
    records.apply(&[], start + TOMBSTONE);
    assert_eq!(
        adopt(&mut records, &full, Order::SamePeer),
        (1, vec!["orders[8001 8002]".to_owned()])
    );
}

#[test]
fn a_removal_is_forgotten_where_there_are_no_deltas_too() {
    let mut records = records();
    let start = Instant::now();
    records.apply(&[gone(written(8001, 5, 6))], start);
    let full = [written(8001, 5, 5)];
    let listed = |records: &mut Records, now| {
        records.adopt(&full, Order::SamePeer, &[], now);
        say(&records.tell())
    };
    let early = start + TOMBSTONE - Duration::from_millis(1);
    assert_eq!(listed(&mut records, early), [""; 0]);
    assert_eq!(listed(&mut records, start + TOMBSTONE), ["orders[8001]"]);
}

#[test]
fn a_server_that_stamps_nothing_is_taken_at_its_last_word() {
    let mut records = records();
    let unstamped = || written(8001, 0, 0);
    assert_eq!(apply(&mut records, &[unstamped()]), ["orders[8001]"]);
    assert_eq!(apply(&mut records, &[gone(unstamped())]), ["-orders"]);
    // It came back; both words are repeated for minutes.
    for expected in [&["orders[8001]"][..], &[], &[]] {
        assert_eq!(apply(&mut records, &[gone(unstamped()), unstamped()]), expected);
    }
    apply(&mut records, &[gone(unstamped())]);
    assert_eq!(
        adopt(&mut records, &[unstamped()], Order::Strict),
        (1, vec!["orders[8001]".to_owned()])
    );
}

#[test]
fn a_listing_finds_what_was_lost_and_leaves_to_the_delta_what_it_tells() {
    let mut records = records();
    apply(&mut records, &[at(8001, 1), at(8002, 1), at(8003, 1)]);
    // Two is gone, three moved, four is new; five came after the listing was made, and the delta tells of it.
    apply(&mut records, &[at(8005, 9)]);
    let full = [at(8001, 1), at(7003, 2), at(8004, 2)];
    let missing: Vec<_> = records.missing(&full).iter().map(|(_, id)| id.to_string()).collect();
    assert_eq!(missing, ["2", "5"]);
    let drift = records.adopt(&full, Order::Strict, &[at(8005, 9)], Instant::now());
    assert_eq!(
        (drift, say(&records.tell())),
        (3, vec!["orders[7003 8001 8004 8005]".to_owned()])
    );
}

#[test]
fn a_starting_instance_is_no_endpoint_and_its_service_exists() {
    let mut records = records();
    assert_eq!(
        apply(&mut records, &[record("ORDERS", "STARTING", 8001, 1, 1)]),
        ["orders[]"]
    );
    assert_eq!(records.hash(), "STARTING_1_");
    assert_eq!(apply(&mut records, &[at(8001, 2)]), ["orders[8001]"]);
}

#[test]
fn of_two_instances_at_one_address_the_healthiest_counts() {
    let mut records = records();
    let twin = |status: &str, moment| {
        let mut twin = record("ORDERS", status, 8001, moment, moment);
        twin.id.1 = "twin".into();
        twin
    };
    apply(&mut records, &[record("ORDERS", "DOWN", 8001, 1, 1), twin("UP", 1)]);
    let health = |records: &mut Records| {
        let services = records.tell_all();
        services[0]
            .endpoints
            .iter()
            .map(|endpoint| endpoint.health.as_str())
            .collect::<Vec<_>>()
    };
    assert_eq!(health(&mut records), ["healthy"]);
    apply(&mut records, &[twin("OUT_OF_SERVICE", 2)]);
    assert_eq!(health(&mut records), ["draining"]);
    apply(&mut records, &[gone(twin("OUT_OF_SERVICE", 3))]);
    assert_eq!(health(&mut records), ["unhealthy"]);
}

#[test]
fn an_instance_of_no_service_is_told_once() {
    let mut records = records();
    let nameless = record("", "UP", 8001, 1, 1);
    assert_eq!(apply(&mut records, &[nameless]), [""; 0]);
    assert_eq!(records.tell_unattributed().map(|told| told.len()), Some(1));
    assert_eq!(records.tell_unattributed().map(|told| told.len()), None);
    assert_eq!(records.hash(), "UP_1_");
    apply(&mut records, &[gone(record("", "UP", 8001, 1, 2))]);
    assert_eq!(records.tell_unattributed().map(|told| told.len()), Some(0));
}

#[test]
fn an_instance_that_names_itself_by_its_place_counts_in_listings_only() {
    let mut records = records();
    let mut unnamed = at(8001, 1);
    unnamed.named = false;
    assert_eq!(apply(&mut records, std::slice::from_ref(&unnamed)), [""; 0]);
    assert_eq!(
        adopt(&mut records, &[unnamed], Order::Strict),
        (1, vec!["orders[8001]".to_owned()])
    );
}

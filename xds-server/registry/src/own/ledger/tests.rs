//! Leases, versions and drains, by value and by passed-in time.

use leadsman_core::model::Health;
use proptest::prelude::*;

use super::super::model::{Listing, Place};
use super::*;

const SMALL: Limits = Limits {
    instances: 4,
    services: 2,
    instances_per_service: 3,
};

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn key(service: &str, id: &str) -> Key {
    Key::new(service, id).unwrap()
}

fn content(port: u32) -> Content {
    Content {
        address: "10.0.0.1".to_owned(),
        port,
        weight: 1.0,
        health: "healthy".to_owned(),
        locality: Place::default(),
        metadata: BTreeMap::new(),
    }
}

/// By holder `h`, for 30 s.
fn registration(service: &str, id: &str, port: u32) -> Registration {
    Registration {
        key: key(service, id),
        content: content(port),
        ttl_seconds: 30,
        holder: "h".to_owned(),
        expected: None,
    }
}

fn ledger() -> Ledger {
    Ledger::new(Limits::default())
}

/// Registers and forgets about it.
fn with(registrations: &[Registration]) -> Ledger {
    let mut ledger = ledger();
    for (number, registration) in registrations.iter().enumerate() {
        let lease = Lease(number as u64 + 1);
        ledger.register(Duration::ZERO, registration.clone(), lease).unwrap();
    }
    ledger.take_entries();
    ledger.take_changed();
    ledger
}

/// The endpoints and rejections of a service, in short.
fn says(ledger: &Ledger, service: &str) -> String {
    let Some(service) = ledger.service(&ServiceName::new(service).unwrap()) else {
        return "nothing".to_owned();
    };
    let endpoints = service
        .endpoints
        .iter()
        .map(|e| format!("{} {}", e.address.port(), e.health));
    let rejections = service
        .rejections
        .iter()
        .map(|r| format!("!{} {}", r.provenance.record, r.reason));
    endpoints.chain(rejections).collect::<Vec<_>>().join(", ")
}

fn changed(ledger: &mut Ledger) -> Vec<String> {
    ledger.take_changed().iter().map(ToString::to_string).collect()
}

/// The entries since the last call, in short.
fn written(ledger: &mut Ledger) -> Vec<String> {
    let entries = ledger.take_entries().into_iter();
    let text = entries.map(|entry| match entry {
        Entry::Put { key, held } => format!("{} put {key} lease {}", held.version, held.lease.0),
        Entry::End { key, revision, why } => format!("{revision} end {key} {why:?}"),
    });
    text.collect()
}

#[test]
fn the_same_content_of_the_same_holder_is_silence_and_a_new_lease_of_life() {
    let mut ledger = ledger();
    let one = registration("orders", "a", 1);
    let first = ledger.register(seconds(0), one.clone(), Lease(7)).unwrap();
    assert_eq!(
        first,
        Receipt {
            version: 1,
            lease: Lease(7),
            ttl_seconds: 30,
            draining: false,
            changed: true
        }
    );
    assert_eq!(written(&mut ledger), ["1 put orders/a lease 7"]);
    assert_eq!(changed(&mut ledger), ["orders"]);
    let again = ledger.register(seconds(29), one, Lease(8)).unwrap();
    assert_eq!(
        again,
        Receipt {
            changed: false,
            ..first
        }
    );
    ledger.expire(seconds(58));
    assert_eq!(written(&mut ledger), [""; 0]);
    assert_eq!(changed(&mut ledger), [""; 0]);
}

#[test]
fn other_content_is_a_new_version_under_the_same_lease() {
    let mut ledger = with(&[registration("orders", "a", 1)]);
    let receipt = ledger
        .register(seconds(1), registration("orders", "a", 2), Lease(9))
        .unwrap();
    assert_eq!((receipt.version, receipt.lease, receipt.changed), (2, Lease(1), true));
    assert_eq!(says(&ledger, "orders"), "2 healthy");
}

#[test]
fn another_holder_takes_the_instance_over_and_the_first_one_is_told() {
    let mut ledger = with(&[registration("orders", "a", 1)]);
    let other = Registration {
        holder: "i".to_owned(),
        ..registration("orders", "a", 1)
    };
    let receipt = ledger.register(seconds(1), other, Lease(9)).unwrap();
    assert_eq!((receipt.version, receipt.lease), (2, Lease(9)));
    let orders = key("orders", "a");
    let first = ledger.renew(seconds(2), &orders, Lease(1));
    assert_eq!(first, Err(Refusal::replaced(&orders)));
    // What the first one does when it ends does not take the second one along.
    let guard = Guard {
        lease: Some(Lease(1)),
        version: None,
    };
    assert_eq!(ledger.drain(&orders, guard, true), Err(Refusal::replaced(&orders)));
    assert_eq!(ledger.deregister(&orders, guard), Err(Refusal::replaced(&orders)));
    let guard = Guard {
        lease: None,
        version: Some(1),
    };
    let conflict = Refusal::Conflict { expected: 1, actual: 2 };
    assert_eq!(ledger.deregister(&orders, guard), Err(conflict));
    assert_eq!(says(&ledger, "orders"), "1 healthy");
}

#[test]
fn compare_and_set_looks_at_the_version() {
    let mut ledger = ledger();
    let expecting = |version| Registration {
        expected: Some(version),
        ..registration("orders", "a", 1)
    };
    let conflict = |expected, actual| Err(Refusal::Conflict { expected, actual });
    assert_eq!(ledger.register(seconds(0), expecting(3), Lease(1)), conflict(3, 0));
    assert!(ledger.register(seconds(0), expecting(0), Lease(1)).is_ok());
    assert_eq!(ledger.register(seconds(0), expecting(0), Lease(1)), conflict(0, 1));
    assert!(!ledger.register(seconds(0), expecting(1), Lease(1)).unwrap().changed);
    assert_eq!(written(&mut ledger).len(), 1);
}

#[test]
fn a_lease_that_is_not_renewed_runs_out_and_says_so() {
    let mut ledger = with(&[registration("orders", "a", 1), registration("orders", "b", 2)]);
    let (a, b) = (key("orders", "a"), key("orders", "b"));
    ledger.renew(seconds(20), &b, Lease(2)).unwrap();
    ledger.expire(seconds(29));
    assert_eq!(written(&mut ledger), [""; 0]);
    ledger.expire(seconds(30));
    assert_eq!(written(&mut ledger), ["3 end orders/a LeaseRanOut"]);
    assert_eq!(changed(&mut ledger), ["orders"]);
    assert_eq!(
        says(&ledger, "orders"),
        "2 healthy, !orders/a its lease of 30 s ran out without being renewed"
    );
    assert!(
        ledger
            .service(&a.service)
            .unwrap()
            .rejections
            .iter()
            .all(|r| !r.provenance.stable)
    );
    assert_eq!(ledger.renew(seconds(31), &a, Lease(1)), Err(Refusal::unknown(&a)));
    let again = ledger.register(seconds(32), registration("orders", "a", 1), Lease(5));
    assert_eq!(again.unwrap().version, 4);
    assert_eq!(says(&ledger, "orders"), "1 healthy, 2 healthy");
    ledger.expire(seconds(100));
    assert_eq!(says(&ledger, "orders"), "nothing");
}

#[test]
fn an_obituary_is_not_for_ever() {
    let mut ledger = with(&[registration("orders", "a", 1)]);
    let long = Registration {
        ttl_seconds: 3600,
        ..registration("orders", "b", 2)
    };
    ledger.register(seconds(0), long, Lease(2)).unwrap();
    ledger.expire(seconds(30));
    changed(&mut ledger);
    ledger.expire(seconds(30) + OBITUARY);
    assert_eq!(changed(&mut ledger), ["orders"]);
    assert_eq!(says(&ledger, "orders"), "2 healthy");
}

#[test]
fn draining_stays_until_the_lease_ends_or_somebody_ends_it() {
    let mut ledger = with(&[registration("orders", "a", 1)]);
    let a = key("orders", "a");
    let drained = ledger.drain(&a, Guard::default(), true).unwrap();
    assert_eq!((drained.version, drained.draining, drained.changed), (2, true, true));
    assert_eq!(says(&ledger, "orders"), "1 draining");
    assert!(!ledger.drain(&a, Guard::default(), true).unwrap().changed);
    // Neither a renewal nor the same process's registration brings it back.
    assert!(ledger.renew(seconds(1), &a, Lease(1)).unwrap().draining);
    let again = ledger
        .register(seconds(2), registration("orders", "a", 1), Lease(9))
        .unwrap();
    assert_eq!((again.version, again.draining, again.changed), (2, true, false));
    let changed = ledger
        .register(seconds(2), registration("orders", "a", 3), Lease(9))
        .unwrap();
    assert_eq!((changed.version, changed.draining), (3, true));
    // It does not keep the instance alive either.
    let before = ledger.get(&a, seconds(10)).unwrap().remaining_seconds;
    ledger.drain(&a, Guard::default(), false).unwrap();
    assert_eq!(ledger.get(&a, seconds(10)).unwrap().remaining_seconds, before);
    assert_eq!(says(&ledger, "orders"), "3 healthy");
    ledger.drain(&a, Guard::default(), true).unwrap();
    let other = Registration {
        holder: "new process".replace(' ', "-"),
        ..registration("orders", "a", 3)
    };
    assert!(!ledger.register(seconds(11), other, Lease(9)).unwrap().draining);
    assert_eq!(
        ledger.drain(&key("orders", "x"), Guard::default(), true),
        Err(Refusal::unknown(&key("orders", "x")))
    );
}

#[test]
fn what_is_gone_can_be_removed_again() {
    let mut ledger = with(&[registration("orders", "a", 1)]);
    let a = key("orders", "a");
    assert_eq!(ledger.deregister(&a, Guard::default()), Ok(true));
    assert_eq!(ledger.deregister(&a, Guard::default()), Ok(false));
    assert_eq!(written(&mut ledger), ["2 end orders/a Deregistered"]);
    assert_eq!(says(&ledger, "orders"), "nothing");
    // Its version goes on where it was.
    let again = ledger
        .register(seconds(0), registration("orders", "a", 1), Lease(1))
        .unwrap();
    assert_eq!(again.version, 3);
}

#[test]
fn a_pause_evicts_nobody() {
    let mut ledger = with(&[registration("orders", "a", 1), registration("orders", "b", 2)]);
    for now in 0..25 {
        assert_eq!(ledger.turn(seconds(now)), None, "{now}");
        ledger.expire(seconds(now));
    }
    // Suspended for an hour: nobody could renew.
    let now = seconds(24 + 3600);
    assert_eq!(ledger.turn(now), Some(seconds(3600)));
    ledger.expire(now);
    assert_eq!(says(&ledger, "orders"), "1 healthy, 2 healthy");
    ledger.turn(now + seconds(1));
    ledger.renew(now + seconds(20), &key("orders", "b"), Lease(2)).unwrap();
    ledger.expire(now + seconds(29));
    assert_eq!(written(&mut ledger), [""; 0]);
    ledger.expire(now + seconds(30));
    assert_eq!(written(&mut ledger), ["3 end orders/a LeaseRanOut"]);
}

#[test]
fn a_clock_that_goes_back_evicts_nobody_and_breaks_nothing() {
    let mut ledger = with(&[registration("orders", "a", 1)]);
    ledger.turn(seconds(1));
    assert_eq!(ledger.turn(seconds(0)), None);
    ledger.expire(seconds(0));
    assert_eq!(
        ledger.get(&key("orders", "a"), seconds(0)).unwrap().remaining_seconds,
        30
    );
}

#[test]
fn after_a_restart_every_lease_is_whole_and_known() {
    let mut before = with(&[registration("orders", "a", 1)]);
    before.drain(&key("orders", "a"), Guard::default(), true).unwrap();
    let mut after = Ledger::restore(Limits::default(), before.snapshot(), before.revision());
    assert_eq!(after.take_changed(), BTreeSet::new());
    assert_eq!(after.take_entries(), []);
    assert_eq!(says(&after, "orders"), "1 draining");
    assert_eq!(
        after.get(&key("orders", "a"), seconds(0)).unwrap().remaining_seconds,
        30
    );
    let renewed = after.renew(seconds(29), &key("orders", "a"), Lease(1)).unwrap();
    assert_eq!((renewed.version, renewed.draining), (2, true));
    assert_eq!(after.drift(&before), 0);
    let next = after
        .register(seconds(30), registration("users", "a", 1), Lease(3))
        .unwrap();
    assert_eq!(next.version, 3);
    assert_eq!(after.drift(&before), 1);
    assert_eq!(before.drift(&after), 1);
}

#[test]
fn there_is_room_for_so_many_and_no_more() {
    let mut ledger = Ledger::new(SMALL);
    let mut register = |service: &str, id: &str| {
        let outcome = ledger.register(seconds(0), registration(service, id, 1), Lease(1));
        outcome.map_err(|refusal| refusal.to_string())
    };
    for id in ["a", "b", "c"] {
        register("orders", id).unwrap();
    }
    assert!(register("orders", "d").unwrap_err().contains("orders has 3 instances"));
    register("users", "a").unwrap();
    assert!(register("users", "b").unwrap_err().contains("4 instances"));
    // What is there already can still be changed.
    register("orders", "a").unwrap();
    let orders = key("orders", "a");
    ledger.deregister(&orders, Guard::default()).unwrap();
    let third = ledger.register(seconds(0), registration("third", "a", 1), Lease(1));
    assert!(third.unwrap_err().to_string().contains("2 services"));
}

#[test]
fn a_stored_record_that_is_no_endpoint_rejects_itself() {
    let bad = Held {
        version: 5,
        lease: Lease(1),
        holder: String::new(),
        ttl_seconds: 30,
        draining: false,
        endpoint: Content {
            address: "db.internal".to_owned(),
            ..content(1)
        },
    };
    let entry = Entry::Put {
        key: key("orders", "bad"),
        held: bad,
    };
    let good = with(&[registration("orders", "a", 1)]).snapshot();
    let ledger = Ledger::restore(Limits::default(), good.into_iter().chain([entry]), 0);
    let said = says(&ledger, "orders");
    assert!(said.starts_with("1 healthy, !orders/bad "), "{said}");
    assert_eq!(ledger.revision(), 5);
}

#[test]
fn pages_hold_everything_once() {
    let ledger = with(&[
        registration("a", "1", 1),
        registration("b", "1", 1),
        registration("b", "2", 2),
        registration("c", "1", 1),
    ]);
    let pages = |service: &str, limit| {
        let (mut after, mut pages) = (String::new(), Vec::new());
        loop {
            let page = ledger.list(&Listing::new(service, &after, limit).unwrap(), seconds(10));
            pages.push(
                page.instances
                    .iter()
                    .map(|i| format!("{}/{}", i.service, i.id))
                    .collect::<Vec<_>>(),
            );
            assert_eq!(page.revision, 4);
            after = page.next;
            if after.is_empty() {
                return pages;
            }
        }
    };
    assert_eq!(pages("", 3), [vec!["a/1", "b/1", "b/2"], vec!["c/1"]]);
    assert_eq!(pages("", 2), [["a/1", "b/1"], ["b/2", "c/1"]]);
    assert_eq!(pages("b", 1), [["b/1"], ["b/2"]]);
    assert_eq!(pages("b", 2), [["b/1", "b/2"]]);
    assert_eq!(pages("x", 2), [[""; 0]]);
    let beyond = ledger.list(&Listing::new("b", "c/1", 5).unwrap(), seconds(0));
    assert_eq!(beyond.instances, []);
}

#[test]
fn health_reaches_the_endpoint() {
    let mut ill = registration("orders", "a", 1);
    ill.content.health = "unhealthy".to_owned();
    let ledger = with(&[ill]);
    let service = ledger.service(&ServiceName::new("orders").unwrap()).unwrap();
    let endpoint = service.endpoints.first().unwrap();
    assert_eq!(endpoint.health, Health::Unhealthy);
    assert_eq!(endpoint.provenance.record.as_ref(), "orders/a");
    assert!(endpoint.provenance.raw.contains("10.0.0.1") && !endpoint.provenance.raw.contains("lease"));
}

#[test]
fn what_could_not_be_written_down_never_was() {
    let mut ledger = with(&[
        registration("orders", "a", 1),
        registration("orders", "b", 2),
        registration("orders", "silent", 5),
    ]);
    ledger.settle();
    ledger
        .register(seconds(20), registration("orders", "b", 2), Lease(9))
        .unwrap();
    ledger
        .register(seconds(20), registration("orders", "a", 3), Lease(9))
        .unwrap();
    ledger.drain(&key("orders", "a"), Guard::default(), true).unwrap();
    ledger
        .register(seconds(20), registration("users", "c", 4), Lease(9))
        .unwrap();
    ledger.deregister(&key("orders", "b"), Guard::default()).unwrap();
    ledger.take_entries();
    ledger.take_back();
    let all = "1 healthy, 2 healthy, 5 healthy";
    assert_eq!(
        (says(&ledger, "orders"), says(&ledger, "users")),
        (all.to_owned(), "nothing".to_owned())
    );
    assert_eq!((ledger.revision(), ledger.counts.len()), (3, 1));
    ledger.expire(seconds(30));
    assert_eq!(written(&mut ledger), ["4 end orders/silent LeaseRanOut"]);
    ledger.take_back();
    assert_eq!(says(&ledger, "orders"), all);
    ledger.expire(seconds(31));
    assert_eq!(written(&mut ledger), ["4 end orders/silent LeaseRanOut"]);
    ledger.settle();
    ledger.take_back();
    assert_eq!(ledger.revision(), 4);
}

#[test]
fn whoever_speaks_stays_though_what_it_says_can_not_be_written_down() {
    let mut ledger = with(&[
        registration("orders", "renews", 1),
        registration("orders", "changes", 2),
    ]);
    ledger.settle();
    let changed = registration("orders", "changes", 3);
    ledger.register(seconds(20), changed, Lease(9)).unwrap();
    // In one batch with a change of the same instance.
    let renews = key("orders", "renews");
    ledger.drain(&renews, Guard::default(), true).unwrap();
    ledger.renew(seconds(20), &renews, Lease(1)).unwrap();
    ledger.take_entries();
    ledger.take_back();
    ledger.expire(seconds(49));
    assert_eq!(says(&ledger, "orders"), "2 healthy, 1 healthy");
    ledger.expire(seconds(50));
    assert_eq!(says(&ledger, "orders"), "nothing");
    // Whoever came as somebody else has not spoken for the one that is there.
    let mut ledger = with(&[registration("orders", "a", 1)]);
    ledger.settle();
    let other = Registration {
        holder: "other".to_owned(),
        ..registration("orders", "a", 1)
    };
    ledger.register(seconds(20), other, Lease(9)).unwrap();
    ledger.take_entries();
    ledger.take_back();
    ledger.expire(seconds(30));
    assert_eq!(says(&ledger, "orders"), "nothing");
}

#[derive(Clone, Debug)]
enum Step {
    TakeBack,
    Register { id: u8, port: u32, holder: u8 },
    Renew { id: u8, lease: u64 },
    Drain { id: u8, on: bool },
    Deregister { id: u8 },
    Wait { seconds: u64 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        Just(Step::TakeBack),
        (0..4u8, 1..4u32, 0..2u8).prop_map(|(id, port, holder)| Step::Register { id, port, holder }),
        (0..4u8, 0..40u64).prop_map(|(id, lease)| Step::Renew { id, lease }),
        (0..4u8, any::<bool>()).prop_map(|(id, on)| Step::Drain { id, on }),
        (0..4u8).prop_map(|id| Step::Deregister { id }),
        (0..40u64).prop_map(|seconds| Step::Wait { seconds }),
    ];
    proptest::collection::vec(step, 0..40)
}

proptest! {
    #![proptest_config(leadsman_property::cases(256))]
    /// Whatever is done: what is written down gives the same ledger, each change has the next revision, and nobody is
    /// evicted who was heard within its time.
    #[test]
    fn what_is_written_down_is_what_is_held(steps in steps()) {
        // A step that is taken back is one that never was.
        let (steps, kept) = (steps.clone(), steps.iter().skip(1).map(|next| !matches!(next, Step::TakeBack)).chain([true]));
        let mut ledger = ledger();
        let mut journal = Vec::new();
        let mut heard: BTreeMap<u8, Duration> = BTreeMap::new();
        let mut now = Duration::ZERO;
        for ((number, step), kept) in steps.into_iter().enumerate().zip(kept) {
            let leases = |ledger: &Ledger| ledger.held.iter().map(|(key, slot)| (key.id.parse().unwrap(), slot.held.lease)).collect();
            let (before, leases_before): (_, BTreeMap<u8, Lease>) = (heard.clone(), leases(&ledger));
            let speaks = if let Step::Register { id, .. } = step { Some(id) } else { None };
            let key_of = |id: u8| key("orders", &id.to_string());
            match step {
                Step::TakeBack => {}
                Step::Register { id, port, holder } => {
                    let wish = Registration { holder: holder.to_string(), ..registration("orders", &id.to_string(), port) };
                    ledger.register(now, wish, Lease(number as u64)).unwrap();
                    heard.insert(id, now);
                }
                Step::Renew { id, lease } => if ledger.renew(now, &key_of(id), Lease(lease)).is_ok() { heard.insert(id, now); },
                Step::Drain { id, on } => drop(ledger.drain(&key_of(id), Guard::default(), on)),
                Step::Deregister { id } => { ledger.deregister(&key_of(id), Guard::default()).unwrap(); heard.remove(&id); }
                Step::Wait { seconds: wait } => {
                    // Second by second, as a ledger that is never left alone.
                    for _ in 0..wait {
                        now += seconds(1);
                        prop_assert_eq!(ledger.turn(now), None);
                        ledger.expire(now);
                    }
                }
            }
            if kept {
                journal.extend(ledger.take_entries());
                ledger.settle();
            } else if ledger.pending() > 0 {
                let leases_after: BTreeMap<u8, Lease> = leases(&ledger);
                ledger.take_back();
                // What had run out on the way is back, until it is looked at again; and whoever spoke for what it holds was heard.
                let back = |id: u8| {
                    let spoke = speaks == Some(id) && leases_before.get(&id) == leases_after.get(&id);
                    (id, if spoke { now } else { before[&id] })
                };
                heard = ledger.held.keys().map(|key| back(key.id.parse().unwrap())).collect();
                ledger.expire(now);
                journal.extend(ledger.take_entries());
                ledger.settle();
            }
            heard.retain(|_, at| now < *at + seconds(30));
            let held: Vec<u8> = ledger.held.keys().map(|key| key.id.parse().unwrap()).collect();
            prop_assert_eq!(held, heard.keys().copied().collect::<Vec<_>>());
        }
        let revisions: Vec<u64> = journal.iter().map(Entry::revision).collect();
        prop_assert_eq!(revisions, (1..=ledger.revision()).collect::<Vec<_>>());
        let restored = Ledger::restore(Limits::default(), journal, 0);
        prop_assert_eq!(restored.drift(&ledger), 0);
        prop_assert_eq!(restored.revision(), ledger.revision());
        prop_assert_eq!(ledger.deadlines.len(), ledger.held.len());
    }
}

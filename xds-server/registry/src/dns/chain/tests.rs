//! What is asked for, and what may go when.

use super::*;
use crate::dns::world::{Looker, World, lines};

const TWO: &str = "_orders._tcp.example. SRV 0 1 9001 a.example.
    _orders._tcp.example. SRV 0 1 9002 b.example.
    a.example. A 10.0.0.1
    b.example. A 10.0.0.2";

const BOTH: &str = "10.0.0.1:9001 w=1 unknown priority=0\n10.0.0.2:9002 w=1 unknown priority=0";
const ONE: &str = "10.0.0.1:9001 w=1 unknown priority=0";

fn two() -> (Looker, World) {
    let (mut looker, world) = (Looker::srv(), World::new(TWO));
    assert!(looker.look(&world).is_none());
    assert_eq!(looker.shown(), BOTH);
    (looker, world)
}

#[tokio::test]
async fn a_pass_goes_from_the_name_downwards_and_asks_for_zones_once() {
    let (mut looker, world) = two();
    assert_eq!(
        looker.asked,
        [
            "_orders._tcp.example. SRV",
            "_orders._tcp.example. SOA",
            "a.example. A",
            "b.example. A",
            "a.example. SOA",
            "b.example. SOA"
        ]
    );
    assert_eq!(looker.rests(), 60);
    looker.look(&world);
    let again = [
        "_orders._tcp.example. SRV",
        "_orders._tcp.example. SOA",
        "a.example. A",
        "b.example. A",
    ];
    assert_eq!(looker.asked, again, "that of the service is a minute old");
}

#[tokio::test]
async fn a_removed_instance_goes_in_one_step() {
    let (mut looker, mut world) = two();
    world.remove("_orders._tcp.example. SRV 0 1 9002").remove("b.example.");
    assert!(looker.believe(&world).is_none());
    assert!(
        !looker.asked.contains(&"b.example. A".to_owned()),
        "its record is missing: {:?}",
        looker.asked
    );
    assert_eq!((looker.shown().as_str(), looker.rests()), (BOTH, 1));
    let doubt = looker.believe(&world).unwrap();
    assert_eq!((doubt.proof, doubt.vanishes), (Proof::Proven, false));
    assert_eq!((looker.shown().as_str(), looker.rests()), (ONE, 60));
}

#[tokio::test]
async fn a_host_that_loses_its_address_takes_its_endpoint_with_it_and_is_named() {
    let (mut looker, mut world) = two();
    world.remove("b.example.");
    looker.believe(&world);
    assert_eq!(looker.shown(), BOTH);
    looker.believe(&world);
    let expected = format!("{ONE}\n- _orders._tcp.example. SRV b.example.:9002: b.example. does not exist");
    assert_eq!(looker.shown(), expected);
}

#[tokio::test]
async fn an_older_zone_refutes_what_it_lacks() {
    let (mut looker, mut world) = two();
    world.remove("_orders._tcp.example. SRV 0 1 9002");
    world.serial = 0;
    assert!(looker.look(&world).is_none());
    let doubt = looker.look(&world).unwrap();
    assert_eq!(
        doubt.proof,
        Proof::Refuted("zone example. was at serial 1 and is at 0".to_owned())
    );
    assert_eq!(looker.shown(), BOTH);
    looker.chain.begin_epoch(looker.now);
    assert_eq!(looker.shown(), ONE);
    // From here on the zone is compared with itself.
    assert!(looker.look(&world).is_none());
    world.remove("_orders._tcp.example. SRV 0 1 9001");
    looker.look(&world);
    assert_eq!(looker.look(&world).unwrap().proof, Proof::Proven);
}

#[tokio::test]
async fn an_absence_that_takes_the_last_endpoint_says_so() {
    let (mut looker, mut world) = two();
    assert!(looker.chain.is_affirmed_since(looker.now));
    world.remove("_orders._tcp.example.");
    looker.look(&world);
    let since = looker.now;
    assert_eq!(looker.chain.vanishing(), Some(since));
    let doubt = looker.look(&world).unwrap();
    assert_eq!((doubt.proof.clone(), doubt.vanishes), (Proof::Proven, true));
    assert_eq!(looker.chain.vanishing(), Some(since));
    assert!(!looker.chain.is_affirmed_since(since));
    looker.chain.release(&doubt, looker.now);
    assert_eq!((looker.shown().as_str(), looker.chain.vanishing()), ("absent", None));
}

#[tokio::test]
async fn a_service_vanishes_with_the_addresses_of_all_its_hosts_too() {
    let (mut looker, mut world) = two();
    world.remove("a.example.").remove("b.example.");
    looker.look(&world);
    assert!(looker.chain.vanishing().is_some());
    assert!(looker.look(&world).unwrap().vanishes);
}

#[tokio::test]
async fn a_service_that_is_taken_out_on_purpose_does_not_vanish() {
    let (mut looker, mut world) = two();
    world
        .remove("_orders._tcp.example.")
        .add("_orders._tcp.example. SRV 0 0 0 .");
    looker.look(&world);
    assert_eq!(looker.chain.vanishing(), None);
    let doubt = looker.believe(&world).unwrap();
    assert!(!doubt.vanishes);
    assert_eq!(looker.shown(), "");
}

#[tokio::test]
async fn a_server_without_zones_proves_nothing() {
    let mut world = World::new(TWO);
    world.zoneless = true;
    let mut looker = Looker::srv();
    looker.look(&world);
    world.remove("_orders._tcp.example. SRV 0 1 9002");
    looker.look(&world);
    let doubt = looker.look(&world).unwrap();
    assert_eq!((doubt.proof, doubt.vanishes), (Proof::Unproven, false));
    world.remove("_orders._tcp.example.");
    looker.look(&world);
    let doubt = looker.look(&world).unwrap();
    assert_eq!((doubt.proof, doubt.vanishes), (Proof::Unproven, true));
}

#[tokio::test]
async fn without_the_zone_nothing_goes() {
    let (mut looker, mut world) = two();
    world
        .remove("_orders._tcp.example. SRV 0 1 9002")
        .fail("_orders._tcp.example. SOA", "SERVFAIL");
    for _ in 0..3 {
        assert!(looker.believe(&world).is_none());
        assert_eq!(looker.shown(), BOTH);
    }
    assert_eq!(looker.rests(), 5);
    let problem = "_orders._tcp.example. SRV has lost records, and its zone can't be asked for: SERVFAIL";
    assert_eq!(looker.chain.problem().as_deref(), Some(problem));
    looker.believe(world.mend());
    assert_eq!((looker.shown().as_str(), looker.chain.problem()), (ONE, None));
}

#[tokio::test]
async fn a_name_that_fails_keeps_what_it_said_and_is_asked_again_soon() {
    let (mut looker, mut world) = two();
    world.fail("_orders._tcp.example. SRV", "SERVFAIL");
    for _ in 0..100 {
        assert!(looker.believe(&world).is_none());
        assert_eq!((looker.shown().as_str(), looker.rests()), (BOTH, 5));
    }
    assert_eq!(looker.asked, ["_orders._tcp.example. SRV"]);
    assert_eq!(
        looker.chain.problem().as_deref(),
        Some("_orders._tcp.example. SRV: SERVFAIL")
    );
    looker.look(world.mend());
    assert_eq!(looker.chain.problem(), None);
}

#[tokio::test]
async fn a_host_that_fails_is_not_asked_again_for_the_sake_of_its_neighbours() {
    let (mut looker, mut world) = two();
    looker.look(world.fail("b.example. A", "SERVFAIL"));
    looker.now += std::time::Duration::from_secs(1);
    looker.due = looker.now;
    looker.look(&world);
    assert_eq!(looker.asked, ["_orders._tcp.example. SRV", "a.example. A"]);
    assert_eq!(looker.shown(), BOTH);
}

#[tokio::test]
async fn the_second_family_is_asked_for_only_where_the_first_is_absent() {
    let mut looker = Looker::new("users.example.", Records::Address, Family::Ipv4Preferred);
    let mut world = World::new("users.example. A 10.0.0.1\nusers.example. AAAA 2001:db8::1");
    looker.look(&world);
    assert_eq!(looker.asked, ["users.example. A", "users.example. SOA"]);
    // A failure is no absence: it must not move the service to another family.
    looker.look(world.fail("users.example. A", "SERVFAIL"));
    assert_eq!(looker.shown(), "10.0.0.1:8080 w=1 unknown");
    world.mend().remove("users.example. A ");
    looker.believe(&world);
    assert_eq!(looker.shown(), "10.0.0.1:8080 w=1 unknown");
    let doubt = looker.believe(&world).unwrap();
    assert!(!doubt.vanishes);
    assert_eq!(looker.shown(), "[2001:db8::1]:8080 w=1 unknown");
    let mut unread = Looker::new("users.example.", Records::Address, Family::Ipv4Preferred);
    unread.look(world.fail("users.example. A", "SERVFAIL"));
    assert_eq!((unread.shown().as_str(), unread.chain.is_read()), ("unread", false));
}

#[tokio::test]
async fn a_name_of_another_kind_is_told_apart_from_one_that_does_not_exist() {
    let world = World::new("_orders._tcp.example. TXT \"x\"\nhost.example. TXT \"x\"");
    let reason = |mut looker: Looker| {
        looker.look(&world);
        looker.chain.strangeness().map(|rejection| rejection.reason)
    };
    let named = |kind: &str| Some(format!("orders: the name exists, and has no {kind} records"));
    assert_eq!(reason(Looker::srv()), named("SRV"));
    assert_eq!(
        reason(Looker::new("_orders._tcp.example.", Records::DnsSd, Family::Ipv4)),
        named("PTR")
    );
    assert_eq!(
        reason(Looker::new("host.example.", Records::Address, Family::All)),
        named("address")
    );
    assert_eq!(reason(Looker::new("nobody.example.", Records::Srv, Family::Ipv4)), None);
}

#[tokio::test]
async fn instances_of_dns_sd_come_and_go_in_one_step_each() {
    let mut world = World::new(
        "_web._tcp.example. PTR one.example.
         one.example. SRV 0 0 80 a.example.
         one.example. TXT \"v=1\"
         a.example. A 10.0.0.1",
    );
    let mut looker = Looker::new("_web._tcp.example.", Records::DnsSd, Family::Ipv4);
    looker.look(&world);
    assert_eq!(looker.shown(), "10.0.0.1:80 w=1 unknown priority=0 v=1");
    for record in [
        "_web._tcp.example. PTR two.example.",
        "two.example. SRV 0 0 81 a.example.",
    ] {
        world.add(record);
    }
    world.remove("one.example. TXT").add("one.example. TXT \"v=2\"");
    looker.look(&world);
    let both = "10.0.0.1:80 w=1 unknown priority=0 v=2
        10.0.0.1:81 w=1 unknown priority=0";
    assert_eq!(looker.shown(), lines(both));
    for record in ["_web._tcp.example. PTR one", "one.example."] {
        world.remove(record);
    }
    looker.believe(&world);
    assert_eq!(looker.shown(), lines(both));
    assert!(
        !looker.asked.iter().any(|question| question.starts_with("one")),
        "{:?}",
        looker.asked
    );
    looker.believe(&world);
    assert_eq!(looker.shown(), "10.0.0.1:81 w=1 unknown priority=0");
    looker.look(&world);
    let asked = [
        "_web._tcp.example. PTR",
        "two.example. SRV",
        "two.example. TXT",
        "a.example. A",
    ];
    assert_eq!(looker.asked[..4], asked.map(str::to_owned));
}

#[tokio::test]
async fn a_server_that_answers_with_something_else_each_time_fills_no_memory() {
    let mut looker = Looker::new("users.example.", Records::Address, Family::Ipv4);
    for turn in 0..8_u32 {
        let address = |n: u32| std::net::Ipv4Addr::from(0x0a00_0000 + turn * 4000 + n);
        let records: String = (0..4000)
            .map(|n| format!("users.example. A {}\n", address(n)))
            .collect();
        looker.look(&World::new(&records));
        let held: usize = looker.chain.held.values().map(|held| held.items().count()).sum();
        assert!(held <= 2 * MAX_RECORDS, "{held}");
    }
}

#[tokio::test]
async fn hosts_that_fail_are_asked_again_a_few_at_a_time() {
    let mut world = World::default();
    for n in 0..100 {
        world.add(&format!("_orders._tcp.example. SRV 0 1 80 h{n:02}.example."));
        world.fail(&format!("h{n:02}.example. A"), "SERVFAIL");
    }
    let mut looker = Looker::srv();
    looker.look(&world);
    let addresses = |looker: &Looker| {
        looker
            .asked
            .iter()
            .filter(|question| question.ends_with(" A"))
            .cloned()
            .collect::<Vec<_>>()
    };
    assert_eq!(addresses(&looker).len(), 100);
    let mut asked = Vec::new();
    for _ in 0..7 {
        looker.look(&world);
        asked.extend(addresses(&looker));
    }
    assert_eq!(asked.len(), 7 * 16);
    asked.truncate(100);
    asked.sort();
    asked.dedup();
    assert_eq!(asked.len(), 100, "each had its turn before any had two");
}

//! What becomes of records: the whole service, a line an endpoint or a rejection.

use super::*;
use crate::dns::config::Family;
use crate::dns::world::{Looker, World, lines};

#[track_caller]
fn check(mut looker: Looker, records: &str, expected: &str) -> Looker {
    looker.look(&World::new(records));
    assert_eq!(looker.shown(), lines(expected));
    looker
}

fn srv(records: &str, expected: &str) -> Looker {
    check(Looker::srv(), records, expected)
}

#[tokio::test]
async fn weights_are_those_of_the_records() {
    srv(
        "_orders._tcp.example. SRV 0 60 9001 a.example.
         _orders._tcp.example. SRV 0 40 9002 b.example.
         a.example. A 10.0.0.1
         b.example. A 10.0.0.2",
        "10.0.0.1:9001 w=60 unknown priority=0
         10.0.0.2:9002 w=40 unknown priority=0",
    );
}

#[tokio::test]
async fn weight_zero_is_almost_never_beside_others_and_one_of_equals_alone() {
    srv(
        "_orders._tcp.example. SRV 0 0 9001 a.example.
         _orders._tcp.example. SRV 0 10 9002 a.example.
         a.example. A 10.0.0.1",
        "10.0.0.1:9001 w=0.01 unknown priority=0
         10.0.0.1:9002 w=10 unknown priority=0",
    );
    srv(
        "_orders._tcp.example. SRV 0 0 9001 a.example.
         _orders._tcp.example. SRV 0 0 9002 a.example.
         a.example. A 10.0.0.1",
        "10.0.0.1:9001 w=1 unknown priority=0
         10.0.0.1:9002 w=1 unknown priority=0",
    );
}

#[tokio::test]
async fn priorities_of_records_with_an_address_count_from_zero_without_a_gap() {
    srv(
        "_orders._tcp.example. SRV 5 1 9000 nowhere.example.
         _orders._tcp.example. SRV 10 1 9001 a.example.
         _orders._tcp.example. SRV 20 0 9002 a.example.
         _orders._tcp.example. SRV 30 7 9003 a.example.
         a.example. A 10.0.0.1",
        "10.0.0.1:9001 w=1 unknown priority=10
         10.0.0.1:9002 w=1 unknown rank 1 (priority 20: used when those before it are not enough) priority=20
         10.0.0.1:9003 w=7 unknown rank 2 (priority 30: used when those before it are not enough) priority=30
         - _orders._tcp.example. SRV nowhere.example.:9000: nowhere.example. does not exist",
    );
}

#[tokio::test]
async fn several_addresses_of_a_host_share_its_weight() {
    srv(
        "_orders._tcp.example. SRV 0 9 9001 a.example.
         a.example. A 10.0.0.1
         a.example. A 10.0.0.2
         a.example. A 10.0.0.3",
        "10.0.0.1:9001 w=3 unknown priority=0
         10.0.0.2:9001 w=3 unknown priority=0
         10.0.0.3:9001 w=3 unknown priority=0",
    );
}

#[tokio::test]
async fn a_service_that_is_decidedly_not_available_is_there_and_empty() {
    let mut looker = srv("_orders._tcp.example. SRV 0 0 0 .", "");
    let Presence::Known(service) = looker.chain.presence(&Staleness::default()) else {
        panic!("known")
    };
    assert!(service.endpoints.is_empty() && service.rejections.is_empty());
    let mut world = World::new(
        "_orders._tcp.example. SRV 0 0 0 .
         _orders._tcp.example. SRV 0 1 9001 a.example.
         a.example. A 10.0.0.1",
    );
    looker.look(&world);
    let beside = "says that the service is not available, beside records that say it is";
    let expected = format!("10.0.0.1:9001 w=1 unknown priority=0\n- _orders._tcp.example. SRV .:0: {beside}");
    assert_eq!(looker.shown(), expected);
    world.remove("_orders._tcp");
    assert_eq!(Looker::srv().shown(), "unread");
    let mut fresh = Looker::srv();
    fresh.look(&world);
    assert_eq!(fresh.shown(), "absent");
}

#[tokio::test]
async fn what_can_not_be_an_endpoint_rejects_itself() {
    let looker = srv(
        "_orders._tcp.example. SRV 0 1 0 a.example.
         _orders._tcp.example. SRV 0 1 9001 a.example.
         _orders._tcp.example. SRV 0 1 9001 any.example.
         _orders._tcp.example. SRV 0 1 9001 six.example.
         a.example. A 10.0.0.1
         any.example. A 0.0.0.0
         six.example. AAAA 2001:db8::1",
        "10.0.0.1:9001 w=1 unknown priority=0
         - _orders._tcp.example. SRV a.example.:0: port 0 is outside 1 to 65535
         - _orders._tcp.example. SRV any.example.:9001: 0.0.0.0 is no address of an instance (unspecified, multicast or broadcast)
         - _orders._tcp.example. SRV six.example.:9001: six.example. has no address",
    );
    let Presence::Known(service) = looker.chain.presence(&Staleness::default()) else {
        panic!("known")
    };
    assert!(
        service.rejections.iter().all(|rejection| !rejection.provenance.stable),
        "they keep no endpoint alive"
    );
    let provenance = &service.endpoints[0].provenance;
    assert_eq!(
        (&*provenance.record, &*provenance.layout, &*provenance.raw),
        (
            "_orders._tcp.example. SRV a.example.:9001",
            "srv",
            "0 1 9001; a.example. A 10.0.0.1"
        )
    );
}

#[tokio::test]
async fn a_host_that_can_not_be_asked_for_rejects_itself_until_it_can() {
    let mut world = World::new(
        "_orders._tcp.example. SRV 0 1 9001 a.example.
         _orders._tcp.example. SRV 0 1 9001 b.example.
         a.example. A 10.0.0.1
         b.example. A 10.0.0.2",
    );
    let mut looker = Looker::srv();
    looker.look(world.fail("b.example. A", "SERVFAIL"));
    let rejected = "10.0.0.1:9001 w=1 unknown priority=0
         - _orders._tcp.example. SRV b.example.:9001: b.example. can't be asked for: SERVFAIL";
    assert_eq!(looker.shown(), lines(rejected));
    looker.look(world.mend());
    let both = "10.0.0.1:9001 w=1 unknown priority=0\n10.0.0.2:9001 w=1 unknown priority=0";
    assert_eq!(looker.shown(), both);
    looker.look(world.fail("b.example. A", "SERVFAIL"));
    assert_eq!(looker.shown(), both, "what it said last is kept");
}

#[tokio::test]
async fn addresses_of_a_name_are_its_service() {
    let looker = |family| Looker::new("users.example.", Records::Address, family);
    let records = "users.example. A 10.0.0.1
         users.example. A 10.0.0.2
         users.example. AAAA 2001:db8::1";
    let v4 = "10.0.0.1:8080 w=1 unknown
         10.0.0.2:8080 w=1 unknown";
    let v6 = "[2001:db8::1]:8080 w=1 unknown";
    check(looker(Family::Ipv4), records, v4);
    check(looker(Family::Ipv4Preferred), records, v4);
    check(looker(Family::Ipv6), records, v6);
    check(looker(Family::Ipv6Preferred), records, v6);
    check(looker(Family::All), records, &format!("{v4}\n{v6}"));
    let only = "users.example. AAAA 2001:db8::1";
    check(looker(Family::Ipv4), only, "absent");
    check(looker(Family::Ipv4Preferred), only, v6);
    check(looker(Family::All), only, v6);
    let looker = check(looker(Family::Ipv4), records, v4);
    let Presence::Known(service) = looker.chain.presence(&Staleness::default()) else {
        panic!("known")
    };
    let provenance = &service.endpoints[0].provenance;
    assert_eq!(
        (&*provenance.record, &*provenance.layout),
        ("users.example. A 10.0.0.1", "address")
    );
}

#[tokio::test]
async fn instances_of_dns_sd_bring_their_texts() {
    check(
        Looker::new("_web._tcp.example.", Records::DnsSd, Family::Ipv4),
        "_web._tcp.example. PTR one._web._tcp.example.
         _web._tcp.example. PTR two._web._tcp.example.
         _web._tcp.example. PTR three._web._tcp.example.
         one._web._tcp.example. SRV 0 0 80 a.example.
         one._web._tcp.example. TXT \"txtvers=1\" \"Version=v2\" \"version=other\" \"zone=b\" \"flag\" \"=odd\" \"priority=9\"
         two._web._tcp.example. SRV 0 0 81 a.example.
         a.example. A 10.0.0.1",
        "10.0.0.1:80 w=1 unknown Version=v2 flag= priority=0 txtvers=1 zone b
         10.0.0.1:81 w=1 unknown priority=0
         - three._web._tcp.example. SRV: three._web._tcp.example. does not exist",
    );
}

#[tokio::test]
async fn a_text_may_be_as_long_as_it_likes() {
    let long = format!(
        "_web._tcp.example. PTR one.example.\none.example. SRV 0 0 80 a.example.\na.example. A 10.0.0.1\none.example. TXT \"k={}\"",
        "v".repeat(250)
    );
    let many: String = (0..100).map(|n| format!(" \"k{n:03}=v\"")).collect();
    let looker = check(
        Looker::new("_web._tcp.example.", Records::DnsSd, Family::Ipv4),
        &long,
        &format!("10.0.0.1:80 w=1 unknown k={} priority=0", "v".repeat(250)),
    );
    drop(looker);
    let mut looker = Looker::new("_web._tcp.example.", Records::DnsSd, Family::Ipv4);
    looker.look(&World::new(&format!("_web._tcp.example. PTR one.example.\none.example. SRV 0 0 80 a.example.\na.example. A 10.0.0.1\none.example. TXT{many}")));
    let Presence::Known(service) = looker.chain.presence(&Staleness::default()) else {
        panic!("known")
    };
    assert_eq!(service.endpoints[0].metadata.len(), MAX_ENTRIES);
}

#[tokio::test]
async fn a_name_with_more_records_than_anybody_means_is_cut() {
    let mut records = String::new();
    for n in 0..1003 {
        records += &format!(
            "_orders._tcp.example. SRV 0 1 80 h{n:04}.example.\nh{n:04}.example. A 10.1.{}.{}\n",
            n / 250,
            n % 250 + 1
        );
    }
    let mut looker = Looker::srv();
    looker.look(&World::new(&records));
    let Presence::Known(service) = looker.chain.presence(&Staleness::default()) else {
        panic!("known")
    };
    assert_eq!((service.endpoints.len(), service.rejections.len()), (1000, 1));
    assert_eq!(service.rejections[0].reason, "only the first 1000 records are followed");
}

#[tokio::test]
async fn what_was_not_answered_for_too_long_is_unhealthy_if_that_is_wanted() {
    let mut world = World::new(
        "_orders._tcp.example. SRV 0 1 9001 a.example.
         _orders._tcp.example. SRV 0 1 9001 b.example.
         a.example. A 10.0.0.1
         b.example. A 10.0.0.2",
    );
    let mut looker = Looker::srv();
    looker.look(&world);
    looker.look(world.fail("b.example. A", "SERVFAIL"));
    let at = |seconds: u64, limit: u64, now: Instant| Staleness {
        limit: Some((now + Duration::from_secs(seconds), Duration::from_secs(limit))),
        silent: None,
    };
    let (fresh, stale) = (at(9, 10, looker.now), at(10, 10, looker.now));
    assert_eq!(looker.shown_with(&fresh), looker.shown());
    let one = "10.0.0.1:9001 w=1 unknown priority=0
         10.0.0.2:9001 w=1 unhealthy (not answered for longer than 10s) priority=0";
    assert_eq!(looker.shown_with(&stale), lines(one));
    let silent = Staleness {
        silent: Some(looker.now),
        ..stale
    };
    let all = one.replace(
        "9001 w=1 unknown",
        "9001 w=1 unhealthy (not answered for longer than 10s)",
    );
    assert_eq!(looker.shown_with(&silent), lines(&all));
}

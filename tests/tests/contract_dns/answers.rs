//! What answers mean: failures, absences, lifetimes, parts, aliases, and every kind of name.

use std::time::{Duration, Instant};

use leadsman_core::model::{Endpoint, Evidence, Health};
use leadsman_registry::SourceState;
use leadsman_registry::dns::{Config, Dns as Adapter, Entry, Family, Transport};
use leadsman_tests::contract::Subject;
use leadsman_tests::dns::{Change, Data, Named, Setup};
use leadsman_tests::instance::Instance;
use leadsman_tests::observed::{Note, Observed};
use leadsman_tests::rigs::dns::{Rig, address, dns_sd, host, name, resyncs, srv};
use leadsman_tests::wait::{PATIENT, until};

fn observe(config: Config) -> Observed {
    Observed::start(Adapter::new(config))
}

/// The endpoints of a service, a line each.
fn shown(observed: &Observed, service: &str) -> Vec<String> {
    let heard = observed.heard();
    let endpoints = heard
        .services
        .get(service)
        .map(|service| service.endpoints.clone())
        .unwrap_or_default();
    let line = |endpoint: &Endpoint| {
        let rank = match endpoint.priority {
            0 => String::new(),
            priority => format!(" rank {priority}"),
        };
        format!("{} w={} {}{rank}", endpoint.address, endpoint.weight, endpoint.health)
    };
    endpoints.iter().map(line).collect()
}

async fn shows(observed: &Observed, service: &str, expected: &[&str]) {
    until(PATIENT, &format!("{service}: {expected:?}"), async || {
        shown(observed, service) == expected
    })
    .await;
}

#[tokio::test]
async fn a_name_that_fails_keeps_what_it_said_and_bothers_nobody() {
    let mut rig = Rig::start(Transport::Auto).await;
    rig.named.mend("_orders._tcp 0 SRV 0 10 9001 a\na 0 A 127.0.0.1\n");
    let one = Instance::new(9001);
    rig.put("users", one).await;
    let names = [
        ("orders", srv("_orders._tcp.broken.test")),
        ("users", srv(&name("users"))),
    ];
    let observed = observe(rig.config_of(&names));
    let before = rig.state(&[("orders", &[one]), ("users", &[one])]);
    observed.becomes(&before).await;
    rig.named.unmend();
    rig.named.kill();
    rig.named.restart(Data::Kept).await;
    observed
        .status_becomes("the failure", |status| {
            status
                .last_error
                .as_ref()
                .is_some_and(|error| error.contains("SERVFAIL"))
        })
        .await;
    observed.enters(&[SourceState::Degraded]).await;
    assert_eq!(observed.state(), before);
    let reason = observed.status().last_error.unwrap();
    assert!(
        reason.starts_with("orders: _orders._tcp.broken.test. SRV: SERVFAIL from 127.0.0.1:"),
        "{reason}"
    );
    let two = Instance::new(9002);
    rig.put("users", two).await;
    observed
        .becomes(&rig.state(&[("orders", &[one]), ("users", &[one, two])]))
        .await;
    rig.named.mend("_orders._tcp 0 SRV 0 10 9002 a\na 0 A 127.0.0.1\n");
    observed
        .becomes(&rig.state(&[("orders", &[two]), ("users", &[one, two])]))
        .await;
    observed.enters(&[SourceState::Live]).await;
}

#[tokio::test]
async fn names_that_were_never_read_prove_nothing_missing_until_they_are() {
    let mut rig = Rig::start(Transport::Auto).await;
    let one = Instance::new(9001);
    rig.put("users", one).await;
    let names = [
        ("orders", srv("_orders._tcp.broken.test")),
        ("users", srv(&name("users"))),
    ];
    let observed = observe(rig.config_of(&names));
    observed.becomes(&rig.state(&[("users", &[one])])).await;
    observed.enters(&[SourceState::Degraded]).await;
    let (services, evidence) = resyncs(&observed).remove(0);
    assert!(
        matches!(&evidence, Evidence::Partial { why } if why.contains("SERVFAIL")),
        "{evidence:?}"
    );
    assert_eq!(services, 1);
    rig.named.mend("");
    observed.enters(&[SourceState::Live]).await;
    assert_eq!(resyncs(&observed).last(), Some(&(1, Evidence::Complete)));
}

#[tokio::test]
async fn while_no_name_can_be_read_there_is_no_listing() {
    let rig = Rig::start(Transport::Auto).await;
    let observed = observe(rig.config_of(&[
        ("orders", srv("_orders._tcp.elsewhere.test")),
        ("users", srv("a.broken.test")),
    ]));
    observed
        .status_becomes("a failed session", |status| status.counters.session_errors > 1)
        .await;
    assert_eq!((resyncs(&observed), observed.status().synced), (vec![], false));
    let reason = observed.status().last_error.unwrap();
    assert!(
        reason.starts_with("orders: _orders._tcp.elsewhere.test. SRV: REFUSED from "),
        "{reason}"
    );
}

#[tokio::test]
async fn a_name_without_records_of_its_kind_is_absent_and_named() {
    let rig = Rig::start(Transport::Auto).await;
    rig.add(&[&format!("{} 0 TXT wrong", name("orders"))]).await;
    let observed = rig.observe();
    observed.enters(&[SourceState::Live]).await;
    let heard = observed.heard();
    assert_eq!((heard.services.len(), heard.unattributed), (0, 1));
    rig.update(&[Change::RemoveAll(format!("{} TXT", name("orders")))])
        .await;
    until(PATIENT, "the name to be gone", async || {
        observed.heard().unattributed == 0
    })
    .await;
}

#[tokio::test]
async fn a_name_is_asked_for_as_often_as_its_records_live() {
    let mut rig = Rig::start(Transport::Auto).await;
    rig.put("users", Instance::new(9001)).await;
    rig.add(&[
        "long.leadsman.test. 3600 A 127.0.0.1",
        "alias.leadsman.test. 0 CNAME long.leadsman.test.",
        "zero.leadsman.test. 0 A 127.0.0.1",
    ])
    .await;
    let names = [
        ("long", address("long.leadsman.test", 80)),
        ("alias", address("alias.leadsman.test", 80)),
        ("zero", address("zero.leadsman.test", 80)),
    ];
    let config = rig.config_of(&names);
    let pause = config.min_ttl;
    let began = Instant::now();
    let observed = observe(config);
    let asked = |name: &str| rig.datagrams.asked(&format!("{name}.leadsman.test. A"));
    until(PATIENT, "many looks", async || {
        asked("alias") > 20 && asked("zero") > 20
    })
    .await;
    assert_eq!(asked("long"), 1, "it lives for an hour, which is cut to five minutes");
    // A pass may come a tenth of its time early.
    let most = began.elapsed().as_secs_f64() / (pause.as_secs_f64() * 0.9) + 2.0;
    assert!((asked("zero") as f64) < most, "no more often than min_ttl allows");
    assert_eq!(observed.heard().notes.len(), 1);
}

#[tokio::test]
async fn parts_of_a_whole_that_take_turns_add_up() {
    let rig = Rig::start(Transport::Auto).await;
    let record = |n: u8| format!("parts.leadsman.test. 0 A 127.0.0.{n}");
    rig.add(&[&record(1), &record(2), "other.leadsman.test. 0 A 127.0.0.9"])
        .await;
    let names = [
        ("parts", address("parts.leadsman.test", 80)),
        ("other", address("other.leadsman.test", 80)),
    ];
    let observed = observe(rig.config_of(&names));
    shows(
        &observed,
        "parts",
        &["127.0.0.1:80 w=1 unknown", "127.0.0.2:80 w=1 unknown"],
    )
    .await;
    let all = [
        "127.0.0.1:80 w=1 unknown",
        "127.0.0.2:80 w=1 unknown",
        "127.0.0.3:80 w=1 unknown",
    ];
    let asked = || rig.datagrams.asked("parts.leadsman.test. A");
    // Two of three, for two looks each: 23, 13, 12, 23, …
    for turn in 0..24_u8 {
        let (hidden, back) = (turn % 3 + 1, (turn + 2) % 3 + 1);
        let changes = [
            Change::Add(record(back)),
            Change::Remove(format!("parts.leadsman.test. A 127.0.0.{hidden}")),
        ];
        let before = asked();
        rig.update(&changes).await;
        until(PATIENT, "two looks", async || asked() > before + 2).await;
        if turn > 8 {
            assert_eq!(shown(&observed, "parts"), all, "turn {turn}");
        }
    }
    assert_eq!(shown(&observed, "other"), ["127.0.0.9:80 w=1 unknown"]);
}

#[tokio::test]
async fn a_window_waits_for_what_is_missing() {
    let rig = Rig::start(Transport::Auto).await;
    rig.add(&[
        "parts.leadsman.test. 0 A 127.0.0.1",
        "parts.leadsman.test. 0 A 127.0.0.2",
    ])
    .await;
    let config = Config {
        window: Duration::from_secs(2),
        ..rig.config_of(&[("parts", address("parts.leadsman.test", 80))])
    };
    let observed = observe(config);
    let both = ["127.0.0.1:80 w=1 unknown", "127.0.0.2:80 w=1 unknown"];
    shows(&observed, "parts", &both).await;
    let began = Instant::now();
    rig.delete(&["parts.leadsman.test. A 127.0.0.2"]).await;
    shows(&observed, "parts", &both[..1]).await;
    assert!(began.elapsed() >= Duration::from_secs(2));
}

#[tokio::test]
async fn priorities_and_weights_are_those_of_the_records() {
    let rig = Rig::start(Transport::Auto).await;
    let orders = name("orders");
    let record = |rest: &str| format!("{orders} 0 SRV {rest}");
    rig.add(&[
        &record("10 0 9001 a.leadsman.test."),
        &record("10 5 9002 a.leadsman.test."),
        &record("90 3 9003 b.leadsman.test."),
        &record("20 7 9004 a.leadsman.test."),
        "a.leadsman.test. 0 A 127.0.0.1",
        "b.leadsman.test. 0 A 127.0.0.2",
        "b.leadsman.test. 0 A 127.0.0.3",
    ])
    .await;
    let observed = rig.observe();
    let expected = [
        "127.0.0.1:9001 w=0.01 unknown",
        "127.0.0.1:9002 w=5 unknown",
        "127.0.0.1:9004 w=7 unknown rank 1",
        "127.0.0.2:9003 w=1.5 unknown rank 2",
        "127.0.0.3:9003 w=1.5 unknown rank 2",
    ];
    shows(&observed, "orders", &expected).await;
    // The first priority is gone: the next one takes its place.
    rig.delete(&[
        &format!("{orders} SRV 10 0 9001 a.leadsman.test."),
        &format!("{orders} SRV 10 5 9002 a.leadsman.test."),
    ])
    .await;
    shows(
        &observed,
        "orders",
        &[
            "127.0.0.1:9004 w=7 unknown",
            "127.0.0.2:9003 w=1.5 unknown rank 1",
            "127.0.0.3:9003 w=1.5 unknown rank 1",
        ],
    )
    .await;
}

#[tokio::test]
async fn a_service_that_is_decidedly_not_available_stays_and_is_empty() {
    let mut rig = Rig::start(Transport::Auto).await;
    let one = Instance::new(9001);
    rig.put("orders", one).await;
    let observed = rig.observe();
    observed.becomes(&rig.state(&[("orders", &[one])])).await;
    let before = observed.heard().notes.len();
    let orders = name("orders");
    rig.remove("orders", one.port).await;
    rig.add(&[&format!("{orders} 0 SRV 0 0 0 .")]).await;
    observed.becomes(&rig.state(&[])).await;
    until(PATIENT, "the service to be empty", async || {
        let services = observed.heard().services;
        services
            .get("orders")
            .is_some_and(|service| service.endpoints.is_empty() && service.rejections.is_empty())
    })
    .await;
    let notes = observed.heard().notes.split_off(before);
    assert!(!notes.contains(&Note::Delete("orders".into())), "{notes:?}");
}

#[tokio::test]
async fn aliases_are_followed_from_server_to_server() {
    let rig = Rig::start(Transport::Auto).await;
    let away = Named::start_with(Setup {
        zones: "zone \"away.test\" { type primary; file \"outside\"; };".to_owned(),
        without_zone: true,
        ..Setup::default()
    });
    let away = away.await;
    rig.add(&[
        "users.leadsman.test. 0 CNAME middle.leadsman.test.",
        "middle.leadsman.test. 0 CNAME ns.away.test.",
        "round.leadsman.test. 0 CNAME round.leadsman.test.",
    ])
    .await;
    let names = [
        ("users", address("users.leadsman.test", 80)),
        ("round", address("round.leadsman.test", 80)),
    ];
    let servers = vec![rig.proxy.address().to_string(), away.address().to_string()];
    let observed = observe(Config {
        servers,
        ..rig.config_of(&names)
    });
    shows(&observed, "users", &["127.0.0.1:80 w=1 unknown"]).await;
    observed.enters(&[SourceState::Degraded]).await;
    let reason = observed.status().last_error.unwrap();
    assert!(reason.starts_with("round: round.leadsman.test. A: "), "{reason}");
}

#[tokio::test]
async fn both_families_become_endpoints_where_that_is_wanted() {
    let rig = Rig::start(Transport::Auto).await;
    rig.add(&["users.leadsman.test. 0 A 127.0.0.1", "users.leadsman.test. 0 AAAA ::1"])
        .await;
    let (four, six) = ("127.0.0.1:80 w=1 unknown", "[::1]:80 w=1 unknown");
    let families: [(Family, &[&str]); 5] = [
        (Family::Ipv4, &[four]),
        (Family::Ipv6, &[six]),
        (Family::All, &[four, six]),
        (Family::Ipv4Preferred, &[four]),
        (Family::Ipv6Preferred, &[six]),
    ];
    for (family, expected) in families {
        let names = [("users", address("users.leadsman.test", 80))];
        let observed = observe(Config {
            family,
            ..rig.config_of(&names)
        });
        shows(&observed, "users", expected).await;
    }
}

#[tokio::test]
async fn instances_of_dns_sd_come_with_their_texts_and_go() {
    let rig = Rig::start(Transport::Auto).await;
    let web: Entry = dns_sd("_web._tcp.leadsman.test");
    rig.add(&[
        "_web._tcp.leadsman.test. 0 PTR first._web._tcp.leadsman.test.",
        "first._web._tcp.leadsman.test. 0 SRV 0 0 80 a.leadsman.test.",
        "first._web._tcp.leadsman.test. 0 TXT \"version=v2\" \"zone=b\"",
        "a.leadsman.test. 0 A 127.0.0.1",
        "other.leadsman.test. 0 A 127.0.0.1",
    ])
    .await;
    let observed = observe(rig.config_of(&[("web", web), ("other", address("other.leadsman.test", 80))]));
    shows(&observed, "web", &["127.0.0.1:80 w=1 unknown"]).await;
    let endpoint = observed.heard().services["web"].endpoints[0].clone();
    assert_eq!(endpoint.metadata.get("version").map(String::as_str), Some("v2"));
    assert_eq!(endpoint.locality.zone, "b");
    rig.add(&[
        "_web._tcp.leadsman.test. 0 PTR second._web._tcp.leadsman.test.",
        "second._web._tcp.leadsman.test. 0 SRV 0 0 81 a.leadsman.test.",
    ])
    .await;
    shows(
        &observed,
        "web",
        &["127.0.0.1:80 w=1 unknown", "127.0.0.1:81 w=1 unknown"],
    )
    .await;
    rig.update(&[
        Change::Remove("_web._tcp.leadsman.test. PTR first._web._tcp.leadsman.test.".into()),
        Change::RemoveAll("first._web._tcp.leadsman.test. SRV".into()),
        Change::RemoveAll("first._web._tcp.leadsman.test. TXT".into()),
    ])
    .await;
    shows(&observed, "web", &["127.0.0.1:81 w=1 unknown"]).await;
}

#[tokio::test]
async fn a_host_without_an_address_takes_only_its_own_endpoint() {
    let mut rig = Rig::start(Transport::Auto).await;
    let (one, two) = (Instance::new(9001), Instance::new(9002));
    rig.put("orders", one).await;
    rig.put("orders", two).await;
    let observed = rig.observe();
    observed.becomes(&rig.state(&[("orders", &[one, two])])).await;
    rig.update(&[Change::RemoveAll(format!("{} A", host("orders", two.port)))])
        .await;
    observed.becomes(&rig.state(&[("orders", &[one])])).await;
    let rejection = observed.heard().services["orders"].rejections[0].clone();
    assert_eq!(rejection.reason, "orders-9002.leadsman.test. does not exist");
}

#[tokio::test]
async fn what_was_not_answered_for_too_long_is_unhealthy_where_that_is_wanted() {
    let mut rig = Rig::start(Transport::Auto).await;
    let one = Instance::new(9001);
    rig.put("orders", one).await;
    let config = Config {
        max_stale: Some(Duration::from_secs(1)),
        ..rig.config()
    };
    let observed = observe(config);
    observed.becomes(&rig.state(&[("orders", &[one])])).await;
    rig.lose().await;
    shows(&observed, "orders", &["127.0.0.1:9001 w=10 unhealthy"]).await;
    observed.enters(&[SourceState::Degraded]).await;
    let reason = observed.heard().services["orders"].endpoints[0].health_reason.clone();
    assert_eq!(&*reason, "not answered for longer than 1s");
    rig.heal().await;
    observed
        .becomes(&rig.state(&[("orders", &[one.being(Health::Unknown)])]))
        .await;
}

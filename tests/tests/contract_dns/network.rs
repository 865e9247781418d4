//! What a network can do to questions and answers.

use std::collections::BTreeMap;
use std::time::Duration;

use leadsman_core::model::Evidence;
use leadsman_registry::dns::{Config, Dns as Adapter, Transport};
use leadsman_registry::{SourceState, SuperviseOptions};
use leadsman_tests::contract::Subject;
use leadsman_tests::datagrams::Datagrams;
use leadsman_tests::instance::Instance;
use leadsman_tests::observed::{Note, Observed, Shown, State, pace};
use leadsman_tests::proxy::Proxy;
use leadsman_tests::rigs::dns::{Rig, name, resyncs};
use leadsman_tests::seed;

/// Soon enough for a test that waits for it.
const SOON: Duration = Duration::from_millis(300);

#[tokio::test]
async fn forged_answers_are_passed_over() {
    let mut rig = Rig::start(Transport::Auto).await;
    let (one, two) = (Instance::new(9001), Instance::new(9002));
    rig.put("orders", one).await;
    rig.datagrams.forge();
    let observed = rig.observe();
    observed.becomes(&rig.state(&[("orders", &[one])])).await;
    rig.put("orders", two).await;
    observed.becomes(&rig.state(&[("orders", &[one, two])])).await;
    assert_eq!(observed.status().counters.sessions, 1);
}

#[tokio::test]
async fn an_answer_that_udp_cuts_short_comes_by_tcp() {
    let rig = Rig::start(Transport::Auto).await;
    let hosts: Vec<String> = (1..=100)
        .map(|n| format!("host-{n}.leadsman.test. 0 A 127.0.0.{n}"))
        .collect();
    let records: Vec<String> = (1..=100)
        .map(|n| format!("{} 0 SRV 0 1 80 host-{n}.leadsman.test.", name("orders")))
        .collect();
    let all: Vec<&str> = hosts.iter().chain(&records).map(String::as_str).collect();
    rig.add(&all).await;
    let observed = rig.observe();
    observed.enters(&[SourceState::Live]).await;
    assert_eq!(observed.state()["orders"].len(), 100);
    assert!(
        rig.datagrams.asked(&format!("{} SRV", name("orders"))) > 0,
        "by UDP first"
    );
    assert!(rig.proxy.accepted() > 0, "and then by TCP");
}

#[tokio::test]
async fn without_tcp_an_answer_that_is_cut_short_is_none() {
    let mut rig = Rig::start(Transport::Auto).await;
    let one = Instance::new(9001);
    rig.put("orders", one).await;
    rig.put("users", one).await;
    let observed = rig.observe();
    let before = rig.state(&[("orders", &[one]), ("users", &[one])]);
    observed.becomes(&before).await;
    rig.proxy.sever();
    let many: Vec<String> = (1..=90)
        .map(|n| format!("{} 0 SRV 0 1 80 host-{n}.leadsman.test.", name("orders")))
        .collect();
    rig.add(&many.iter().map(String::as_str).collect::<Vec<_>>()).await;
    observed.enters(&[SourceState::Degraded]).await;
    assert_eq!(observed.state(), before);
    let reason = observed.status().last_error.unwrap();
    assert!(
        reason.starts_with("orders: _orders._tcp.leadsman.test. SRV: "),
        "{reason}"
    );
    rig.put("users", Instance::new(9002)).await;
    observed
        .becomes(&rig.state(&[("orders", &[one]), ("users", &[one, Instance::new(9002)])]))
        .await;
    assert_eq!(
        observed.status().counters.sessions,
        1,
        "the server answers, so the session goes on"
    );
}

#[tokio::test]
async fn a_silent_path_is_noticed_and_caught_up_with() {
    let mut rig = Rig::start(Transport::Auto).await;
    let (one, two) = (Instance::new(9001), Instance::new(9002));
    rig.put("orders", one).await;
    let config = Config {
        timeout: SOON,
        ..rig.config()
    };
    let observed = Observed::start(Adapter::new(config));
    observed.becomes(&rig.state(&[("orders", &[one])])).await;
    rig.datagrams.stall();
    rig.put("orders", two).await;
    observed.enters(&[SourceState::Degraded]).await;
    assert_eq!(observed.state(), rig.state(&[("orders", &[one])]));
    let reason = observed.status().last_error.unwrap();
    assert!(
        reason.starts_with("no DNS server answers: ") && reason.ends_with("no answer within 300ms"),
        "{reason}"
    );
    rig.datagrams.heal();
    observed.becomes(&rig.state(&[("orders", &[one, two])])).await;
    observed.enters(&[SourceState::Live]).await;
    assert!(
        resyncs(&observed)
            .iter()
            .all(|(_, evidence)| *evidence == Evidence::Complete)
    );
}

#[tokio::test]
async fn a_name_that_nobody_answers_is_to_blame_alone() {
    let mut rig = Rig::start(Transport::Auto).await;
    let (one, two) = (Instance::new(9001), Instance::new(9002));
    rig.put("orders", one).await;
    rig.put("users", one).await;
    let config = Config {
        timeout: SOON,
        ..rig.config()
    };
    let observed = Observed::start(Adapter::new(config));
    observed
        .becomes(&rig.state(&[("orders", &[one]), ("users", &[one])]))
        .await;
    rig.datagrams.lose(&format!("{} SRV", name("orders")));
    observed.enters(&[SourceState::Degraded]).await;
    let reason = observed.status().last_error.unwrap();
    assert!(
        reason.starts_with("orders: _orders._tcp.leadsman.test. SRV: 127.0.0.1:"),
        "{reason}"
    );
    rig.put("orders", two).await;
    let users = [one.weighing(7.0), two];
    for instance in users {
        rig.put("users", instance).await;
    }
    observed
        .becomes(&rig.state(&[("orders", &[one]), ("users", &users)]))
        .await;
    assert_eq!(observed.status().counters.sessions, 1);
    rig.heal().await;
    observed
        .becomes(&rig.state(&[("orders", &[one, two]), ("users", &users)]))
        .await;
    observed.enters(&[SourceState::Live]).await;
}

#[tokio::test]
async fn a_dead_server_is_passed_over_for_the_next() {
    let mut rig = Rig::start(Transport::Auto).await;
    let (one, two) = (Instance::new(9001), Instance::new(9002));
    rig.put("orders", one).await;
    let other = Proxy::start(rig.named.address()).await;
    let datagrams = Datagrams::start(other.address(), rig.named.address()).await;
    let config = Config {
        servers: vec![other.address().to_string(), rig.proxy.address().to_string()],
        timeout: SOON,
        ..rig.config()
    };
    let observed = Observed::start(Adapter::new(config));
    observed.becomes(&rig.state(&[("orders", &[one])])).await;
    let question = format!("{} SRV", name("orders"));
    assert_eq!(rig.datagrams.asked(&question), 0, "the first one answers");
    datagrams.stall();
    rig.put("orders", two).await;
    observed.becomes(&rig.state(&[("orders", &[one, two])])).await;
    datagrams.sever();
    rig.remove("orders", one.port).await;
    observed.becomes(&rig.state(&[("orders", &[two])])).await;
    let status = observed.status();
    assert_eq!((status.counters.sessions, status.state), (1, SourceState::Live));
}

#[tokio::test]
async fn a_storm_of_resets_loses_no_change() {
    const CUTS: usize = 50;
    const CHANGES_BETWEEN: usize = 20;
    let mut random = seed::rng();
    let mut rig = Rig::start(Transport::Tcp).await;
    let names = (0..10).map(|n| format!("s{n}")).collect::<Vec<_>>();
    let entries: Vec<_> = names
        .iter()
        .map(|service| (service.as_str(), leadsman_tests::rigs::dns::srv(&name(service))))
        .collect();
    let quick = SuperviseOptions {
        backoff_max: Duration::from_millis(100),
        ..pace()
    };
    let observed = Observed::start_with(Adapter::new(rig.config_of(&entries)), quick);
    observed.enters(&[SourceState::Live]).await;
    let mut held: BTreeMap<(String, u16), Instance> = BTreeMap::new();
    for _ in 0..CUTS {
        let cut_at = random.usize(..CHANGES_BETWEEN);
        for turn in 0..CHANGES_BETWEEN {
            let instance = Instance::new(random.u16(9001..9010)).weighing(f64::from(random.u8(1..)));
            let service = format!("s{}", random.u8(..10));
            if random.u8(..3) == 0 {
                rig.remove(&service, instance.port).await;
                held.remove(&(service, instance.port));
            } else {
                rig.put(&service, instance).await;
                held.insert((service, instance.port), rig.express(instance));
            }
            if turn == cut_at {
                if random.bool() {
                    rig.proxy.reset()
                } else {
                    rig.proxy.cut()
                }
            }
        }
    }
    let mut expected = State::new();
    for ((service, port), Instance { weight, health, .. }) in held {
        let endpoints = expected.entry(service).or_default();
        endpoints.insert(format!("127.0.0.1:{port}"), Shown { weight, health });
    }
    observed.becomes(&expected).await;
    let lost = |note: &Note| {
        matches!(
            note,
            Note::Resync {
                evidence: Evidence::NewEpoch { .. },
                ..
            }
        )
    };
    assert!(!observed.heard().notes.iter().any(lost), "{:?}", resyncs(&observed));
}

//! What the way to the server can do: cut, reset, go silent.

use std::time::Duration;

use leadsman_core::model::Evidence;
use leadsman_registry::SourceState;
use leadsman_registry::nacos::{Config, Nacos as Adapter, Protocol};
use leadsman_tests::contract::{Subject, state};
use leadsman_tests::instance::Instance;
use leadsman_tests::nacos::{Version, shared};
use leadsman_tests::observed::Observed;
use leadsman_tests::process::free_port;
use leadsman_tests::rigs::nacos::{GROUP, Rig, resyncs};

/// Longer than a silence that no restart fits into.
const LONG: Duration = Duration::from_millis(2500);

#[tokio::test]
async fn connections_that_break_again_and_again_lose_nothing_and_hold_nothing() {
    let mut rig = Rig::start(Version::V31, Protocol::Grpc).await;
    let anchor = Instance::new(9000);
    rig.put("orders", anchor).await;
    let observed = rig.observe();
    observed.becomes(&state(&[("orders", &[anchor])])).await;
    for round in 1..6 {
        let instance = Instance::new(9000 + round);
        if round % 2 == 0 {
            rig.grpc.cut()
        } else {
            rig.grpc.reset()
        }
        rig.put("orders", instance).await;
        observed.becomes(&state(&[("orders", &[anchor, instance])])).await;
        rig.grpc.reset();
        rig.remove("orders", instance.port).await;
        observed.becomes(&state(&[("orders", &[anchor])])).await;
    }
    assert!(observed.status().counters.sessions > 5);
    let doubtful: Vec<_> = resyncs(&observed)
        .into_iter()
        .filter(|(_, evidence)| *evidence != Evidence::Complete)
        .collect();
    assert_eq!(doubtful, []);
    assert_eq!(observed.status().counters.reconcile_drift, 0);
}

#[tokio::test]
async fn a_silent_path_is_noticed_and_a_server_that_was_there_all_along_is_believed() {
    let mut rig = Rig::start(Version::V31, Protocol::Grpc).await;
    let (one, two, three) = (Instance::new(9001), Instance::new(9002), Instance::new(9003));
    rig.put("orders", one).await;
    rig.put("orders", two).await;
    rig.put("users", one).await;
    let observed = rig.observe();
    observed
        .becomes(&state(&[("orders", &[one, two]), ("users", &[one])]))
        .await;
    rig.grpc.stall();
    rig.http.stall();
    rig.remove("orders", two.port).await;
    rig.remove("users", one.port).await;
    rig.put("orders", three).await;
    observed.enters(&[SourceState::Degraded]).await;
    rig.sever();
    rig.heal().await;
    // What is new is there at once, what is missing has time to come back first.
    observed.becomes(&state(&[("orders", &[one, three])])).await;
    assert_eq!(resyncs(&observed).last(), Some(&(2, Evidence::Complete)));
}

#[tokio::test]
async fn who_has_time_to_come_back_has_it_through_another_cut() {
    let mut rig = Rig::start(Version::V31, Protocol::Grpc).await;
    let (one, two) = (Instance::new(9001), Instance::new(9002));
    rig.put("orders", one).await;
    rig.put("orders", two).await;
    let observed = Observed::start(Adapter::new(Config {
        settle: Duration::from_secs(6),
        ..rig.config()
    }));
    let both = state(&[("orders", &[one, two])]);
    observed.becomes(&both).await;
    rig.grpc.stall();
    rig.http.stall();
    rig.remove("orders", two.port).await;
    observed.enters(&[SourceState::Degraded]).await;
    rig.sever();
    rig.heal().await;
    for listings in [2, 3] {
        observed
            .status_becomes("another listing", |status| status.counters.resyncs == listings)
            .await;
        assert_eq!(observed.state(), both);
        rig.grpc.reset();
    }
    observed.becomes(&state(&[("orders", &[one])])).await;
}

#[tokio::test]
async fn what_is_missing_after_an_outage_of_a_server_that_can_not_be_asked_is_held() {
    let mut rig = Rig::start(Version::V25, Protocol::Grpc).await;
    let (one, two) = (Instance::new(9001), Instance::new(9002));
    rig.put("orders", one).await;
    rig.put("orders", two).await;
    let observed = rig.observe();
    observed.becomes(&state(&[("orders", &[one, two])])).await;
    rig.sever();
    observed.enters(&[SourceState::Degraded]).await;
    rig.remove("orders", two.port).await;
    observed.is_silent_for(LONG).await;
    rig.heal().await;
    observed.becomes(&state(&[("orders", &[one])])).await;
    let (_, evidence) = resyncs(&observed).pop().unwrap();
    let why = match evidence {
        Evidence::NewEpoch { why } => why,
        Evidence::Complete | Evidence::Partial { .. } => String::new(),
    };
    // A reader may not ask the server since when it runs.
    assert!(why.contains("can't be asked: 403"), "{why:?}");
}

#[tokio::test]
async fn a_poller_notices_a_silence_that_a_restart_would_fit_into() {
    let mut rig = Rig::start(Version::V31, Protocol::Http).await;
    let one = Instance::new(9001);
    rig.put("orders", one).await;
    let observed = rig.observe();
    observed.becomes(&state(&[("orders", &[one])])).await;
    rig.http.stall();
    observed.is_silent_for(LONG).await;
    rig.http.heal();
    observed
        .status_becomes("another listing", |status| status.counters.resyncs > 1)
        .await;
    assert_eq!(observed.state(), state(&[("orders", &[one])]));
    assert_eq!(resyncs(&observed).last(), Some(&(1, Evidence::Complete)));
}

#[tokio::test]
async fn a_member_that_is_not_there_is_left_for_the_next_one() {
    let mut rig = Rig::start(Version::V31, Protocol::Grpc).await;
    let (one, two) = (Instance::new(9001), Instance::new(9002));
    rig.put("orders", one).await;
    let mut config = rig.config();
    config.endpoints.insert(0, format!("http://127.0.0.1:{}", free_port()));
    let observed = Observed::start(Adapter::new(config));
    observed.becomes(&state(&[("orders", &[one])])).await;
    assert_eq!(observed.status().counters.session_errors, 1);
    // The one that was there is asked first from now on.
    rig.grpc.cut();
    rig.put("orders", two).await;
    observed.becomes(&state(&[("orders", &[one, two])])).await;
    assert_eq!(observed.status().counters.sessions, 3);
    assert_eq!(resyncs(&observed).last(), Some(&(1, Evidence::Complete)));
}

#[tokio::test]
async fn grpc_is_spoken_over_tls_where_certificates_are_given() {
    let mut rig = Rig::start(Version::V31, Protocol::Grpc).await;
    let one = Instance::new(9001);
    rig.put("orders", one).await;
    let tls = |ca| {
        Some(leadsman_registry::Tls {
            ca,
            ..leadsman_registry::Tls::default()
        })
    };
    let untrusted = Observed::start(Adapter::new(Config {
        tls: tls(None),
        ..rig.config()
    }));
    let trusted = Observed::start(Adapter::new(Config {
        tls: tls(Some(shared(Version::V31).await.certificate())),
        ..rig.config()
    }));
    trusted.becomes(&state(&[("orders", &[one])])).await;
    untrusted
        .status_becomes("the refusal", |status| {
            status
                .last_error
                .as_ref()
                .is_some_and(|error| error.contains("ertificate"))
        })
        .await;
    assert_eq!(untrusted.heard().notes, []);
}

#[tokio::test]
async fn a_thousand_services_are_subscribed_again_after_a_cut() {
    const SERVICES: u16 = 1000;
    let rig = Rig::start(Version::V31, Protocol::Grpc).await;
    let name = |number: u16| format!("s{number}");
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..8 {
        let (rig_writer, numbers) = (
            rig.writer.clone(),
            (0..SERVICES).filter(move |number| number % 8 == writer),
        );
        writers.spawn(async move {
            for number in numbers {
                let record = leadsman_tests::nacos::record(Instance::new(10_000 + number));
                rig_writer.register(GROUP, &format!("s{number}"), &record).await;
            }
        });
    }
    writers.join_all().await;
    let names: Vec<String> = (0..SERVICES).map(name).collect();
    let instances: Vec<[Instance; 1]> = (0..SERVICES).map(|number| [Instance::new(10_000 + number)]).collect();
    let all: Vec<(&str, &[Instance])> = names
        .iter()
        .map(String::as_str)
        .zip(instances.iter().map(<[_; 1]>::as_slice))
        .collect();
    let observed = rig.observe();
    observed.becomes(&state(&all)).await;
    rig.grpc.reset();
    observed
        .status_becomes("another listing", |status| {
            status.counters.resyncs > 1 && status.state == SourceState::Live
        })
        .await;
    assert_eq!(observed.state(), state(&all));
    // They are subscribed, from the first to the last.
    let mut expected = state(&all);
    for number in (0..SERVICES).step_by(111) {
        let heavy = Instance::new(10_000 + number).weighing(77.0);
        rig.writer
            .register(GROUP, &name(number), &leadsman_tests::nacos::record(heavy))
            .await;
        expected.extend(state(&[(name(number).as_str(), &[heavy])]));
    }
    observed.becomes(&expected).await;
    assert_eq!(observed.status().counters.resyncs, 2);
}

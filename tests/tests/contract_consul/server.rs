//! What a Consul can do: die, lose its data, and have more services than connections.

use std::time::Duration;

use leadsman_core::model::{Evidence, Health};
use leadsman_registry::SourceState;
use leadsman_registry::consul::{Config, Consul as Adapter};
use leadsman_tests::consul::{Data, Setup};
use leadsman_tests::contract::{Subject, state};
use leadsman_tests::instance::Instance;
use leadsman_tests::observed::{Note, Observed, State};

use leadsman_tests::rigs::consul::{Rig, resyncs};

pub(crate) async fn a_killed_consul_says_nothing_and_comes_back_without_drift(setup: Setup) {
    let mut rig = Rig::start(setup).await;
    let (one, two, three) = (Instance::new(9001), Instance::new(9002), Instance::new(9003));
    rig.put("orders", one).await;
    rig.put("orders", two.being(Health::Unhealthy)).await;
    let config = Config {
        reconcile: Duration::from_secs(1),
        ..rig.config()
    };
    let observed = Observed::start(Adapter::new(config));
    let known = state(&[("orders", &[one, two.being(Health::Unhealthy)])]);
    observed.becomes(&known).await;

    rig.consul.kill();
    observed.enters(&[SourceState::Degraded]).await;
    observed.is_silent_for(Duration::from_secs(2)).await;
    assert_eq!(observed.state(), known);
    assert_eq!(observed.status().state, SourceState::Degraded);

    rig.consul.restart(Data::Kept).await;
    rig.put("orders", three).await;
    observed
        .becomes(&state(&[("orders", &[one, two.being(Health::Unhealthy), three])]))
        .await;
    let seen = observed.status().counters.reconciles;
    observed
        .status_becomes("a reconcile", |status| status.counters.reconciles > seen)
        .await;
    let complete = |note: &Note| matches!(note, Note::Resync { evidence, .. } if *evidence != Evidence::Complete);
    assert!(
        !observed.heard().notes.iter().any(complete),
        "{:?}",
        observed.heard().notes
    );
    assert_eq!(observed.status().counters.reconcile_drift, 0);
}

pub(crate) async fn a_consul_that_lost_its_data_is_a_new_epoch(setup: Setup) {
    let mut rig = Rig::start(setup).await;
    let (one, two) = (Instance::new(9001), Instance::new(9002));
    for port in 9100..9120 {
        rig.put("users", Instance::new(port)).await;
    }
    let observed = rig.observe();
    observed.enters(&[SourceState::Live]).await;
    let before = observed.heard().notes.len();
    rig.proxy.refuse();
    rig.consul.kill();
    rig.consul.restart(Data::Lost).await;
    rig.put("orders", one).await;
    rig.heal().await;
    observed
        .status_becomes("a second listing", |status| status.counters.resyncs == 2)
        .await;
    let notes = observed.heard().notes;
    let [
        Note::Resync {
            services: 1,
            evidence: Evidence::NewEpoch { why },
            ..
        },
    ] = &notes[before..]
    else {
        panic!("{:?}", &notes[before..]);
    };
    assert!(!why.is_empty());
    // A new epoch is still watched.
    rig.put("orders", two).await;
    observed.becomes(&state(&[("orders", &[one, two])])).await;
}

/// A client may have 200 connections, here as by default, and there are more services than that.
pub(crate) async fn more_services_than_watches_fit_into_the_connections_a_client_may_have(setup: Setup) {
    const SERVICES: u16 = 260;
    let mut rig = Rig::start(Setup {
        connections: Some(200),
        ..setup
    })
    .await;
    let name = |number: u16| format!("s{number:03}");
    let mut expected = State::new();
    for number in 0..SERVICES {
        let instance = Instance::new(9000 + number);
        rig.put(&name(number), instance).await;
        expected.append(&mut state(&[(&name(number), &[instance])]));
    }
    let config = Config {
        max_watches: 150,
        ..rig.config()
    };
    let observed = Observed::start(Adapter::new(config));
    observed.becomes(&expected).await;
    for number in (0..SERVICES).step_by(9) {
        let instance = Instance::new(9000 + number).weighing(7.0);
        rig.put(&name(number), instance).await;
        expected.append(&mut state(&[(&name(number), &[instance])]));
    }
    observed.becomes(&expected).await;
    for number in (0..SERVICES).step_by(10) {
        rig.remove(&name(number), 9000 + number).await;
        expected.remove(&name(number));
    }
    observed.becomes(&expected).await;
    let status = observed.status();
    assert_eq!((status.counters.sessions, resyncs(&observed)), (1, 1), "{status:?}");
}

pub(crate) async fn a_reconcile_with_nothing_lost_finds_nothing(setup: Setup) {
    let mut rig = Rig::start(setup).await;
    let one = Instance::new(9001);
    rig.put("orders", one).await;
    rig.put("users", one).await;
    let config = Config {
        reconcile: Duration::from_millis(100),
        ..rig.config()
    };
    let observed = Observed::start(Adapter::new(config));
    observed.becomes(&state(&[("orders", &[one]), ("users", &[one])])).await;
    let before = observed.heard().notes.len();
    // Changes race with the comparison, and must not be taken for lost events.
    for round in 1..=100_u32 {
        rig.put("users", one.weighing(f64::from(round))).await;
    }
    observed
        .status_becomes("three reconciles", |status| status.counters.reconciles >= 3)
        .await;
    let notes = observed.heard().notes.split_off(before);
    let expected = |note: &Note| *note == Note::Reconciled { drift: 0 } || *note == Note::Apply("users".into());
    assert!(notes.iter().all(expected), "{notes:?}");
}

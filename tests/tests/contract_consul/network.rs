//! What a network can do to the questions of a session: closing, silence and resets.

use std::collections::BTreeMap;
use std::time::Duration;

use leadsman_registry::consul::Consul as Adapter;
use leadsman_registry::{SourceState, SuperviseOptions};
use leadsman_tests::consul::Setup;
use leadsman_tests::contract::{Subject, state};
use leadsman_tests::instance::Instance;
use leadsman_tests::observed::{Observed, Shown, State, pace};
use leadsman_tests::seed;

use leadsman_tests::rigs::consul::Rig;

pub(crate) async fn a_closed_connection_misses_nothing(setup: Setup) {
    let mut rig = Rig::start(setup).await;
    let (one, two) = (Instance::new(9001), Instance::new(9002));
    rig.put("orders", one).await;
    let observed = rig.observe();
    observed.becomes(&state(&[("orders", &[one])])).await;
    rig.proxy.refuse();
    rig.proxy.cut();
    observed.enters(&[SourceState::Degraded]).await;
    rig.put("orders", two).await;
    rig.remove("orders", one.port).await;
    rig.heal().await;
    observed.becomes(&state(&[("orders", &[two])])).await;
    observed.enters(&[SourceState::Live]).await;
}

pub(crate) async fn a_silent_path_is_noticed_and_caught_up_with(setup: Setup) {
    let mut rig = Rig::start(setup).await;
    let (one, two) = (Instance::new(9001), Instance::new(9002));
    rig.put("orders", one).await;
    let observed = rig.observe();
    observed.becomes(&state(&[("orders", &[one])])).await;
    rig.proxy.stall();
    rig.put("orders", two).await;
    observed.enters(&[SourceState::Degraded]).await;
    assert_eq!(observed.state(), state(&[("orders", &[one])]));
    rig.heal().await;
    observed.becomes(&state(&[("orders", &[one, two])])).await;
    observed.enters(&[SourceState::Live]).await;
}

pub(crate) async fn a_consul_that_hangs_is_noticed_and_caught_up_with(setup: Setup) {
    let mut rig = Rig::start(setup).await;
    let (one, two) = (Instance::new(9001), Instance::new(9002));
    rig.put("orders", one).await;
    let observed = rig.observe();
    observed.becomes(&state(&[("orders", &[one])])).await;
    rig.consul.pause();
    observed.enters(&[SourceState::Degraded]).await;
    assert_eq!(observed.state(), state(&[("orders", &[one])]));
    rig.consul.resume();
    rig.put("orders", two).await;
    observed.becomes(&state(&[("orders", &[one, two])])).await;
    observed.enters(&[SourceState::Live]).await;
}

pub(crate) async fn a_storm_of_resets_loses_no_change(setup: Setup) {
    const CUTS: usize = 50;
    const CHANGES_BETWEEN: usize = 20;
    let mut random = seed::rng();
    let mut rig = Rig::start(setup).await;
    let quick = SuperviseOptions {
        backoff_max: Duration::from_millis(100),
        ..pace()
    };
    let observed = Observed::start_with(Adapter::new(rig.config()), quick);
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
                held.insert((service, instance.port), instance);
            }
            if turn == cut_at {
                if random.bool() {
                    rig.proxy.reset()
                } else {
                    rig.proxy.cut()
                }
            }
        }
        // Some cuts meet a session that is listing, the others one that watches.
        if random.bool() {
            observed.enters(&[SourceState::Live]).await;
        }
    }
    let mut expected = State::new();
    for ((service, port), Instance { weight, health, .. }) in held {
        let endpoints = expected.entry(service).or_default();
        endpoints.insert(format!("127.0.0.1:{port}"), Shown { weight, health });
    }
    observed.becomes(&expected).await;
    assert!(observed.status().counters.sessions > 10, "{:?}", observed.status());
}

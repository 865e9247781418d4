//! What a network can do to any registry: closing, silence, a server that hangs, resets. Each suite runs these on its rig.

use std::collections::BTreeMap;
use std::time::Duration;

use leadsman_registry::{Registry, SourceState, SuperviseOptions};

use crate::instance::Instance;
use crate::judged::Judged;
use crate::observed::{Observed, State, pace};
use crate::seed;

/// Changes and cuts of a storm.
const CUTS: usize = 50;
const CHANGES_BETWEEN: usize = 20;

pub async fn a_closed_connection_misses_nothing(rig: &mut impl Judged) -> Observed {
    let (one, two) = (Instance::new(9001), Instance::new(9002));
    rig.put("orders", one).await;
    let observed = Observed::start(rig.registry());
    observed.becomes(&rig.state(&[("orders", &[one])])).await;
    rig.path().refuse();
    rig.path().cut();
    observed.enters(&[SourceState::Degraded]).await;
    rig.put("orders", two).await;
    rig.remove("orders", one.port).await;
    rig.heal().await;
    observed.becomes(&rig.state(&[("orders", &[two])])).await;
    observed.enters(&[SourceState::Live]).await;
    observed
}

pub async fn a_silent_path_is_noticed_and_caught_up_with(rig: &mut impl Judged) {
    let (one, two) = (Instance::new(9001), Instance::new(9002));
    rig.put("orders", one).await;
    let observed = Observed::start(rig.registry());
    observed.becomes(&rig.state(&[("orders", &[one])])).await;
    rig.path().stall();
    rig.put("orders", two).await;
    observed.enters(&[SourceState::Degraded]).await;
    assert_eq!(observed.state(), rig.state(&[("orders", &[one])]));
    rig.heal().await;
    observed.becomes(&rig.state(&[("orders", &[one, two])])).await;
    observed.enters(&[SourceState::Live]).await;
}

/// Its sockets stay open, and nobody answers.
pub async fn a_server_that_hangs_is_noticed_and_caught_up_with<R: Judged>(
    rig: &mut R,
    pause: impl FnOnce(&mut R),
    resume: impl FnOnce(&mut R),
) {
    let (one, two) = (Instance::new(9001), Instance::new(9002));
    rig.put("orders", one).await;
    let observed = Observed::start(rig.registry());
    observed.becomes(&rig.state(&[("orders", &[one])])).await;
    pause(rig);
    observed.enters(&[SourceState::Degraded]).await;
    assert_eq!(observed.state(), rig.state(&[("orders", &[one])]));
    resume(rig);
    rig.put("orders", two).await;
    observed.becomes(&rig.state(&[("orders", &[one, two])])).await;
    observed.enters(&[SourceState::Live]).await;
}

/// `lightest` is the least weight that the registry takes.
pub async fn a_storm_of_resets_loses_no_change(rig: &mut impl Judged, lightest: u8) {
    let registry = rig.registry();
    let observed = storm(rig, registry, lightest).await;
    assert!(observed.status().counters.sessions > 10, "{:?}", observed.status());
}

/// Random changes while `registry` is cut off again and again, until it has told what the registry of `rig` has.
pub async fn storm(rig: &mut impl Judged, registry: impl Registry, lightest: u8) -> Observed {
    let mut random = seed::rng();
    let quick = SuperviseOptions {
        backoff_max: Duration::from_millis(100),
        ..pace()
    };
    let observed = Observed::start_with(registry, quick);
    observed.enters(&[SourceState::Live]).await;
    let mut held: BTreeMap<String, BTreeMap<u16, Instance>> = BTreeMap::new();
    for _ in 0..CUTS {
        let cut_at = random.usize(..CHANGES_BETWEEN);
        for turn in 0..CHANGES_BETWEEN {
            let instance = Instance::new(random.u16(9001..9010)).weighing(f64::from(random.u8(lightest..)));
            let service = format!("s{}", random.u8(..10));
            let of_service = held.entry(service.clone()).or_default();
            if random.u8(..3) == 0 {
                of_service.remove(&instance.port);
                rig.remove(&service, instance.port).await;
            } else {
                of_service.insert(instance.port, instance);
                rig.put(&service, instance).await;
            }
            if turn == cut_at {
                if random.bool() {
                    rig.path().reset()
                } else {
                    rig.path().cut()
                }
            }
        }
        // Some cuts meet a session that is listing, the others one that watches.
        if random.bool() {
            observed.enters(&[SourceState::Live]).await;
        }
    }
    let mut expected = State::new();
    for (service, instances) in held.iter().filter(|(_, instances)| !instances.is_empty()) {
        let instances: Vec<Instance> = instances.values().copied().collect();
        expected.extend(rig.state(&[(service, &instances)]));
    }
    observed.becomes(&expected).await;
    observed
}

//! What a network can do to a watch: closing, silence, resets, delay and a narrow path.

use std::time::Duration;

use leadsman_tests::contract::{Subject, network as suite, state};
use leadsman_tests::etcd::Version;
use leadsman_tests::instance::Instance;
use leadsman_tests::rigs::etcd::{Rig, resyncs};

pub(crate) async fn a_closed_connection_misses_nothing(version: Version) {
    let mut rig = Rig::start(version).await;
    let observed = suite::a_closed_connection_misses_nothing(&mut rig).await;
    assert_eq!(
        observed.status().counters.session_errors,
        observed.status().counters.sessions - 1
    );
}

pub(crate) async fn a_silent_path_is_noticed_and_caught_up_with(version: Version) {
    suite::a_silent_path_is_noticed_and_caught_up_with(&mut Rig::start(version).await).await;
}

pub(crate) async fn an_etcd_that_hangs_is_noticed_and_caught_up_with(version: Version) {
    let (pause, resume) = (|rig: &mut Rig| rig.etcd.pause(), |rig: &mut Rig| rig.etcd.resume());
    suite::a_server_that_hangs_is_noticed_and_caught_up_with(&mut Rig::start(version).await, pause, resume).await;
}

pub(crate) async fn a_storm_of_resets_loses_no_change(version: Version) {
    suite::a_storm_of_resets_loses_no_change(&mut Rig::start(version).await, 0).await;
}

pub(crate) async fn a_slow_network_only_delays(version: Version) {
    let mut rig = Rig::start(version).await;
    let (one, two) = (Instance::new(9001), Instance::new(9002));
    rig.put("orders", one).await;
    rig.proxy.delay(Duration::from_millis(300));
    let observed = rig.observe();
    observed.becomes(&state(&[("orders", &[one])])).await;
    rig.put("orders", two).await;
    observed.becomes(&state(&[("orders", &[one, two])])).await;
    assert_eq!((observed.status().counters.sessions, resyncs(&observed)), (1, 1));
}

pub(crate) async fn a_narrow_network_gets_one_listing_through(version: Version) {
    let rig = Rig::start(version).await;
    let expected = rig.put_many(250, 1000).await;
    rig.proxy.throttle(60_000);
    let observed = rig.observe();
    observed.becomes(&expected).await;
    assert_eq!((observed.status().counters.sessions, resyncs(&observed)), (1, 1));
}

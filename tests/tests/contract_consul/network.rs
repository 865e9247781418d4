//! What a network can do to the questions of a session: closing, silence and resets.

use leadsman_tests::consul::Setup;
use leadsman_tests::contract::network as suite;
use leadsman_tests::rigs::consul::Rig;

pub(crate) async fn a_closed_connection_misses_nothing(setup: Setup) {
    suite::a_closed_connection_misses_nothing(&mut Rig::start(setup).await).await;
}

pub(crate) async fn a_silent_path_is_noticed_and_caught_up_with(setup: Setup) {
    suite::a_silent_path_is_noticed_and_caught_up_with(&mut Rig::start(setup).await).await;
}

pub(crate) async fn a_consul_that_hangs_is_noticed_and_caught_up_with(setup: Setup) {
    let (pause, resume) = (|rig: &mut Rig| rig.consul.pause(), |rig: &mut Rig| rig.consul.resume());
    suite::a_server_that_hangs_is_noticed_and_caught_up_with(&mut Rig::start(setup).await, pause, resume).await;
}

pub(crate) async fn a_storm_of_resets_loses_no_change(setup: Setup) {
    suite::a_storm_of_resets_loses_no_change(&mut Rig::start(setup).await, 1).await;
}

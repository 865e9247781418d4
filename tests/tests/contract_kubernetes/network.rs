//! What a network can do to a watch: closing, silence and resets.

use leadsman_registry::SourceState;
use leadsman_tests::contract::{Subject, network as suite};
use leadsman_tests::instance::Instance;
use leadsman_tests::kubernetes::Setup;
use leadsman_tests::rigs::kubernetes::Rig;
use leadsman_tests::wait::{PATIENT, until};

#[tokio::test]
async fn a_closed_connection_misses_nothing() {
    suite::a_closed_connection_misses_nothing(&mut Rig::start().await).await;
}

#[tokio::test]
async fn a_silent_path_is_noticed_and_caught_up_with() {
    suite::a_silent_path_is_noticed_and_caught_up_with(&mut Rig::start().await).await;
}

#[tokio::test]
async fn a_server_that_hangs_is_noticed_and_caught_up_with() {
    let mut rig = Rig::start_own(Setup::default()).await;
    let (pause, resume) = (|rig: &mut Rig| rig.server.pause(), |rig: &mut Rig| rig.server.resume());
    suite::a_server_that_hangs_is_noticed_and_caught_up_with(&mut rig, pause, resume).await;
}

/// Watches end in their time and begin anew from where they were: no listing, no loss, and nobody notices.
#[tokio::test]
async fn watches_follow_each_other_without_a_gap() {
    let mut rig = Rig::start().await;
    let observed = rig.observe();
    observed.enters(&[SourceState::Live]).await;
    let mut held = Vec::new();
    let progress = || {
        let heard = observed.heard();
        heard.revisions.len() - heard.notes.len()
    };
    // A watch says so before its end and at its end: the fifth is of the third.
    until(PATIENT, "a third watch", async || {
        let instance = Instance::new(9000 + u16::try_from(held.len() % 1000).unwrap());
        held.retain(|held| *held != instance);
        held.push(instance);
        rig.put("orders", instance).await;
        progress() >= 5
    })
    .await;
    observed.becomes(&rig.state(&[("orders", &held)])).await;
    let status = observed.status();
    assert_eq!(
        (status.counters.sessions, status.counters.resyncs),
        (1, 1),
        "{status:?}"
    );
}

#[tokio::test]
async fn a_storm_of_resets_loses_no_change() {
    suite::a_storm_of_resets_loses_no_change(&mut Rig::start().await, 1).await;
}

//! Two peers: one dies, one comes back with nothing, and neither of them costs an instance.

use leadsman_core::model::Evidence;
use leadsman_registry::SourceState;
use leadsman_registry::eureka::Eureka as Adapter;
use leadsman_tests::contract::{Subject, state};
use leadsman_tests::eureka::Eureka;
use leadsman_tests::eureka::shared::Turn;
use leadsman_tests::instance::Instance;
use leadsman_tests::observed::{Note, Observed, State};
use leadsman_tests::wait::{PATIENT, until};

use leadsman_tests::rigs::eureka::{Rig, config, id, resyncs};

/// Two peers that know the same three instances.
async fn pair() -> (Rig, Rig, State) {
    // What peers tell each other arrives when it likes: a pair that has been used is never clean.
    let (one, two) = Eureka::start_pair().await;
    let (mut one, two) = (Rig::around(Turn::alone(one)).await, Rig::around(Turn::alone(two)).await);
    let instances = [Instance::new(9001), Instance::new(9002)];
    for instance in instances {
        one.put("orders", instance).await;
    }
    one.put("users", instances[0]).await;
    until(PATIENT, "the other peer to know them", async || {
        let mut known = two.eureka.lists("users", &id("users", 9001)).await;
        for port in [9001, 9002] {
            known &= two.eureka.lists("orders", &id("orders", port)).await;
        }
        known
    })
    .await;
    let all = state(&[("orders", &instances), ("users", &instances[..1])]);
    (one, two, all)
}

/// Two servers are slow to start, so the behaviours share them, in this order.
#[tokio::test]
async fn of_two_peers_the_one_that_knows_is_believed() {
    let (mut one, mut two, all) = pair().await;
    the_only_peer_that_answers_and_is_young_proves_nothing_missing(&one, &two, &all).await;
    a_dead_peer_costs_nothing_and_a_peer_that_forgot_is_not_believed(&mut one, &mut two, &all).await;
}

async fn a_dead_peer_costs_nothing_and_a_peer_that_forgot_is_not_believed(one: &mut Rig, two: &mut Rig, all: &State) {
    let observed = Observed::start(Adapter::new(config(vec![one.url(), two.url()])));
    observed.becomes(all).await;
    assert_eq!(resyncs(&observed), [(2, Evidence::Complete)]);

    one.eureka.kill();
    observed
        .status_becomes("the session with the other peer", |status| status.counters.resyncs == 2)
        .await;
    assert_eq!(resyncs(&observed).last(), Some(&(2, Evidence::Complete)));

    // It answers, and knows nothing.
    one.eureka.restart().await;
    assert!(!one.eureka.lists("users", &id("users", 9001)).await);
    a_peer_that_just_started_is_not_the_first_one_listed(one, two, all).await;
    let refused = observed.status().counters.session_errors;
    two.proxy.refuse();
    two.proxy.reset();
    observed
        .status_becomes("a lost session", |status| status.counters.session_errors > refused)
        .await;
    two.proxy.heal();
    observed
        .status_becomes("the peer that knows", |status| {
            status.counters.resyncs >= 3 && status.state == SourceState::Live
        })
        .await;
    assert!(
        resyncs(&observed)
            .iter()
            .all(|listing| *listing == (2, Evidence::Complete))
    );
    assert_eq!(observed.state(), *all);

    // New instances arrive at the peer we talk to, and removals are believed.
    two.put("users", Instance::new(9002)).await;
    two.remove("orders", 9001).await;
    let (first, second) = (Instance::new(9001), Instance::new(9002));
    observed
        .becomes(&state(&[("orders", &[second]), ("users", &[first, second])]))
        .await;
}

async fn a_peer_that_just_started_is_not_the_first_one_listed(one: &Rig, two: &Rig, all: &State) {
    let observed = Observed::start(Adapter::new(config(vec![one.url(), two.url()])));
    observed.becomes(all).await;
    let notes = observed.heard().notes;
    assert!(
        matches!(
            &notes[..],
            [Note::Resync {
                services: 2,
                evidence: Evidence::Complete,
                ..
            }]
        ),
        "{notes:?}"
    );
    assert_eq!(observed.status().counters.sessions, 2);
}

async fn the_only_peer_that_answers_and_is_young_proves_nothing_missing(one: &Rig, two: &Rig, all: &State) {
    two.proxy.sever();
    let observed = Observed::start(Adapter::new(config(vec![one.url(), two.url()])));
    observed.becomes(all).await;
    let (services, evidence) = resyncs(&observed).remove(0);
    assert_eq!(services, 2);
    assert!(matches!(evidence, Evidence::Partial { .. }), "{evidence:?}");
    two.proxy.heal();
}

//! More than one server: a leader that dies, none at all, another datacentre, and a Consul that is set back.

use std::time::Duration;

use leadsman_core::model::Evidence;
use leadsman_registry::SourceState;
use leadsman_registry::consul::{Config, Consul as Adapter};
use leadsman_tests::consul::{Consul, Data, Setup};
use leadsman_tests::contract::{Subject, state};
use leadsman_tests::instance::Instance;
use leadsman_tests::observed::{Note, Observed};
use leadsman_tests::rigs::consul::{Rig, registration};
use leadsman_tests::wait::{PATIENT, throughout, until};
use serde_json::json;

/// Every instance that was listed stays, and the other servers come back.
pub(crate) async fn a_cluster_without_a_leader_keeps_everything_and_says_so(setup: Setup) {
    let [first, mut second, mut third] = Consul::start_cluster(setup).await;
    let mut rig = Rig::around(first).await;
    let (one, two) = (Instance::new(9001), Instance::new(9002));
    rig.put("orders", one).await;
    let observed = rig.observe();
    let known = state(&[("orders", &[one])]);
    observed.becomes(&known).await;
    second.kill();
    third.kill();
    observed.enters(&[SourceState::Degraded]).await;
    observed
        .status_becomes("a word about the leader", |status| {
            status.last_error.as_deref().unwrap_or_default().contains("leader")
        })
        .await;
    throughout(Duration::from_secs(1), "what was known", async || {
        observed.state() == known
    })
    .await;
    tokio::join!(second.restart(Data::Kept), third.restart(Data::Kept));
    rig.put("orders", two).await;
    observed.becomes(&state(&[("orders", &[one, two])])).await;
    observed.enters(&[SourceState::Live]).await;
    only_complete(&observed);
}

pub(crate) async fn a_leader_that_dies_costs_nothing(setup: Setup) {
    let cluster = Consul::start_cluster(setup).await;
    let leader = leader(&cluster).await;
    let [one, two, three, four] = [9001, 9002, 9003, 9004].map(Instance::new);
    for instance in [one, two, three] {
        cluster[0].register(&registration("orders", instance)).await;
    }
    let mut cluster = Vec::from(cluster);
    let mut dying = cluster.remove(leader);
    let endpoints = cluster.iter().map(|consul| format!("http://{}", consul.address()));
    let config = Config {
        discovery: Duration::from_millis(100),
        ..Config::new(endpoints.collect())
    };
    let observed = Observed::start(Adapter::new(config));
    let known = state(&[("orders", &[one, two, three])]);
    observed.becomes(&known).await;
    dying.kill();
    until(PATIENT, "another leader", async || {
        let leader = cluster[0].get_as("/v1/catalog/service/consul", None).await;
        leader.contains("ServiceID")
    })
    .await;
    cluster[0].register(&registration("orders", four)).await;
    observed.becomes(&state(&[("orders", &[one, two, three, four])])).await;
    only_complete(&observed);
}

/// With `discovery_max_stale` an agent may ask anybody who does not say whom to ask; services that are read in turns would end
/// the session with the first such answer.
pub(crate) async fn an_agent_that_asks_anybody_is_told_to_ask_the_leader(setup: Setup) {
    let mut rig = Rig::start(Setup {
        careless: true,
        ..setup
    })
    .await;
    let (one, two) = (Instance::new(9001), Instance::new(9002));
    rig.put("orders", one).await;
    let config = Config {
        max_watches: 0,
        ..rig.config()
    };
    let observed = Observed::start(Adapter::new(config));
    observed.becomes(&state(&[("orders", &[one])])).await;
    rig.put("orders", two).await;
    rig.remove("orders", one.port).await;
    observed.becomes(&state(&[("orders", &[two])])).await;
    assert_eq!(observed.status().counters.sessions, 1, "{:?}", observed.status());
}

pub(crate) async fn another_datacentre_is_read_through_the_agents_of_this_one(setup: Setup) {
    let rig = Rig::start(setup).await;
    let mut other = rig.consul.start_other_datacenter().await;
    let (near, far, more) = (Instance::new(9001), Instance::new(9002), Instance::new(9003));
    rig.consul.register(&registration("orders", near)).await;
    let mut outside = registration("orders", far);
    outside["Service"]["TaggedAddresses"] = json!({ "wan": { "Address": "127.0.0.1", "Port": 9102 } });
    other.register(&outside).await;
    let config = Config {
        datacenter: Some("dc2".to_owned()),
        tagged_address: Some("wan".to_owned()),
        ..rig.config()
    };
    let observed = Observed::start(Adapter::new(config));
    let far = Instance::new(9102);
    observed.becomes(&state(&[("orders", &[far])])).await;
    let region = &observed.heard().services["orders"].endpoints[0].locality.region;
    assert_eq!(region, "dc2");

    other.kill();
    observed.enters(&[SourceState::Degraded]).await;
    assert_eq!(observed.state(), state(&[("orders", &[far])]));
    other.restart(Data::Kept).await;
    other.register(&registration("orders", more)).await;
    observed.becomes(&state(&[("orders", &[far, more])])).await;
    observed.enters(&[SourceState::Live]).await;
    only_complete(&observed);
}

/// Consul counts on from where it was before, so once anything has been written its index is above every one seen.
pub(crate) async fn a_consul_that_was_set_back_while_nobody_looked_is_a_new_epoch(setup: Setup) {
    let (mut rig, observed) = set_back(setup, false).await;
    let (evidence, services) = last_listing(&observed).await;
    assert_eq!(services, 2);
    assert!(matches!(evidence, Evidence::NewEpoch { .. }), "{evidence:?}");
    // A new epoch is still watched.
    rig.put("users", Instance::new(9003)).await;
    let (one, three) = (Instance::new(9001), Instance::new(9003));
    observed
        .becomes(&state(&[("orders", &[one]), ("users", &[one, three])]))
        .await;
}

pub(crate) async fn a_consul_that_is_set_back_before_our_eyes_is_a_new_epoch(setup: Setup) {
    let (_rig, observed) = set_back(setup, true).await;
    let (evidence, _) = last_listing(&observed).await;
    assert!(matches!(evidence, Evidence::NewEpoch { .. }), "{evidence:?}");
}

/// A Consul that has forgotten the second instance of `orders`, and that was written to since.
async fn set_back(setup: Setup, looking: bool) -> (Rig, Observed) {
    let mut rig = Rig::start(setup).await;
    let (one, two) = (Instance::new(9001), Instance::new(9002));
    rig.put("orders", one).await;
    let snapshot = rig.consul.snapshot().await;
    rig.put("orders", two).await;
    let observed = rig.observe();
    observed.becomes(&state(&[("orders", &[one, two])])).await;
    observed.enters(&[SourceState::Live]).await;
    if !looking {
        rig.lose().await;
        observed.enters(&[SourceState::Degraded]).await;
    }
    rig.consul.restore(snapshot).await;
    for port in [9101, 9102, 9001] {
        rig.put("users", Instance::new(port)).await;
    }
    rig.remove("users", 9101).await;
    rig.remove("users", 9102).await;
    rig.heal().await;
    (rig, observed)
}

/// The second listing.
async fn last_listing(observed: &Observed) -> (Evidence, usize) {
    observed
        .status_becomes("a second listing", |status| status.counters.resyncs == 2)
        .await;
    let notes = observed.heard().notes;
    let listing = |note| match note {
        Note::Resync { evidence, services, .. } => Some((evidence, services)),
        Note::Apply(_) | Note::Delete(_) | Note::Reconciled { .. } | Note::Impaired(_) => None,
    };
    notes.into_iter().filter_map(listing).next_back().unwrap()
}

fn only_complete(observed: &Observed) {
    let notes = observed.heard().notes;
    let other = |note: &Note| matches!(note, Note::Resync { evidence, .. } if *evidence != Evidence::Complete);
    assert!(!notes.iter().any(other), "{notes:?}");
}

async fn leader(cluster: &[Consul; 3]) -> usize {
    let address = cluster[0].get_as("/v1/status/leader", None).await;
    let led = |consul: &Consul| address.contains(&format!(":{}\"", consul.server_port()));
    cluster.iter().position(led).unwrap()
}

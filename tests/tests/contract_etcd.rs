//! The etcd adapter against the registry contract, and against everything a network or an etcd can do to it, with a
//! real etcd of two versions behind a proxy that breaks on request.

#![expect(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::time::Duration;

use etcd_client::TxnOp;
use leadsman_core::model::{Evidence, Health};
use leadsman_registry::etcd::{Config, Etcd as Adapter};
use leadsman_registry::{SourceState, SuperviseOptions};
use leadsman_tests::contract;
use leadsman_tests::contract::{Instance, Subject, state};
use leadsman_tests::etcd::{Data, Etcd, Version};
use leadsman_tests::leadsman::replace;
use leadsman_tests::observed::{Note, Observed, Shown, State, pace};
use leadsman_tests::proxy::Proxy;
use leadsman_tests::seed;
use leadsman_tests::wait::{PATIENT, until};
use serde_json::json;
use tempfile::TempDir;

const PREFIX: &str = "/services/";

contract! {
    etcd_3_5 => Rig::start(Version::V35);
    etcd_3_6 => Rig::start(Version::V36);
}

/// Makes one test of each behaviour for each version.
macro_rules! on_both {
    ($($behaviour:ident,)+) => {
        mod faults_3_5 {
            $(#[tokio::test] async fn $behaviour() { super::$behaviour(super::Version::V35).await; })+
        }
        mod faults_3_6 {
            $(#[tokio::test] async fn $behaviour() { super::$behaviour(super::Version::V36).await; })+
        }
    };
}

on_both! {
    an_expired_lease_takes_its_instances_in_one_step,
    a_closed_connection_misses_nothing,
    a_silent_path_is_noticed_and_caught_up_with,
    an_etcd_that_hangs_is_noticed_and_caught_up_with,
    a_storm_of_resets_loses_no_change,
    a_slow_network_only_delays,
    a_narrow_network_gets_one_listing_through,
    a_compaction_during_an_outage_hides_no_removal,
    a_compaction_that_overtakes_a_slow_watch_hides_no_removal,
    a_revision_of_seven_mebibytes_arrives_whole,
    a_listing_larger_than_a_message_arrives_whole,
    twenty_thousand_keys_are_listed_in_pages_while_history_is_compacted,
    a_refused_password_is_told_apart_and_the_right_one_is_read_anew,
    an_expired_token_costs_neither_state_nor_changes,
    a_killed_etcd_says_nothing_and_comes_back_without_drift,
    an_etcd_that_lost_its_data_is_a_new_epoch,
    an_etcd_of_another_cluster_is_a_new_epoch,
    keys_beside_the_prefix_do_not_count,
    a_reconcile_with_nothing_lost_finds_nothing,
}

/// An etcd, a proxy in front of it, and nothing in between that the test does not control.
#[derive(Debug)]
struct Rig {
    etcd: Etcd,
    proxy: Proxy,
}

impl Rig {
    async fn start(version: Version) -> Self {
        Self::start_with(version, &[]).await
    }

    async fn start_with(version: Version, arguments: &[&str]) -> Self {
        let etcd = Etcd::start_with(version, arguments).await;
        let proxy = Proxy::start(etcd.address()).await;
        Self { etcd, proxy }
    }

    fn config(&self) -> Config {
        Config::new(vec![format!("http://{}", self.proxy.address())], PREFIX)
    }

    fn observe(&self) -> Observed {
        Observed::start(Adapter::new(self.config()))
    }

    /// Registers instances under `orders`, as many to a revision as etcd takes.
    async fn put_many(&self, count: u16, padding: usize) -> State {
        let instances: Vec<Instance> = (1..=count).map(Instance::new).collect();
        let pairs = instances
            .iter()
            .map(|&instance| (key("orders", instance.port), value(instance, padding)));
        self.etcd.put_all(&pairs.collect::<Vec<_>>()).await;
        state(&[("orders", &instances)])
    }
}

impl Subject for Rig {
    type Registry = Adapter;

    fn registry(&self) -> Adapter {
        Adapter::new(self.config())
    }

    async fn put(&mut self, service: &str, instance: Instance) {
        self.etcd.put(&key(service, instance.port), &value(instance, 0)).await;
    }

    async fn remove(&mut self, service: &str, port: u16) {
        self.etcd.delete(&key(service, port)).await;
    }

    async fn spoil(&mut self, service: &str) {
        let record = json!({ "address": "nowhere.example", "port": 80 }).to_string();
        self.etcd.put(&format!("{PREFIX}{service}/bad"), &record).await;
    }

    async fn lose(&mut self) {
        self.proxy.sever();
    }

    async fn heal(&mut self) {
        self.proxy.heal();
    }
}

fn key(service: &str, port: u16) -> String {
    format!("{PREFIX}{service}/{port}")
}

fn value(instance: Instance, padding: usize) -> String {
    let Instance { port, weight, health } = instance;
    let padding = "x".repeat(padding);
    json!({ "address": "127.0.0.1", "port": port, "weight": weight, "health": health.as_str(), "padding": padding })
        .to_string()
}

fn resyncs(observed: &Observed) -> usize {
    let notes = observed.heard().notes;
    notes.iter().filter(|note| matches!(note, Note::Resync { .. })).count()
}

async fn an_expired_lease_takes_its_instances_in_one_step(version: Version) {
    let mut rig = Rig::start(version).await;
    let stays = Instance::new(9000);
    rig.put("orders", stays).await;
    let lease = rig.etcd.grant(2).await;
    let leased: Vec<Instance> = (9001..=9005).map(Instance::new).collect();
    for &instance in &leased {
        let (key, value) = (key("orders", instance.port), value(instance, 0));
        rig.etcd.put_leased(&key, &value, lease).await;
    }
    let observed = rig.observe();
    let all: Vec<Instance> = std::iter::once(stays).chain(leased).collect();
    observed.becomes(&state(&[("orders", &all)])).await;
    let before = observed.heard().notes.len();
    observed.becomes(&state(&[("orders", &[stays])])).await;
    observed.heard_only(before, &[Note::Apply("orders".into())]);
}

async fn a_closed_connection_misses_nothing(version: Version) {
    let mut rig = Rig::start(version).await;
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
    assert_eq!(
        observed.status().counters.session_errors,
        observed.status().counters.sessions - 1
    );
}

async fn a_silent_path_is_noticed_and_caught_up_with(version: Version) {
    let mut rig = Rig::start(version).await;
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

async fn an_etcd_that_hangs_is_noticed_and_caught_up_with(version: Version) {
    let mut rig = Rig::start(version).await;
    let (one, two) = (Instance::new(9001), Instance::new(9002));
    rig.put("orders", one).await;
    let observed = rig.observe();
    observed.becomes(&state(&[("orders", &[one])])).await;
    rig.etcd.pause();
    observed.enters(&[SourceState::Degraded]).await;
    assert_eq!(observed.state(), state(&[("orders", &[one])]));
    rig.etcd.resume();
    rig.put("orders", two).await;
    observed.becomes(&state(&[("orders", &[one, two])])).await;
    observed.enters(&[SourceState::Live]).await;
}

async fn a_storm_of_resets_loses_no_change(version: Version) {
    const CUTS: usize = 50;
    const CHANGES_BETWEEN: usize = 20;
    let mut random = seed::rng("a_storm_of_resets_loses_no_change");
    let mut rig = Rig::start(version).await;
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
            let instance = Instance::new(random.u16(9001..9010)).weighing(f64::from(random.u8(..)));
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

async fn a_slow_network_only_delays(version: Version) {
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

async fn a_narrow_network_gets_one_listing_through(version: Version) {
    let rig = Rig::start(version).await;
    let expected = rig.put_many(250, 1000).await;
    rig.proxy.throttle(60_000);
    let observed = rig.observe();
    observed.becomes(&expected).await;
    assert_eq!((observed.status().counters.sessions, resyncs(&observed)), (1, 1));
}

async fn a_compaction_during_an_outage_hides_no_removal(version: Version) {
    let mut rig = Rig::start(version).await;
    let (one, two) = (Instance::new(9001), Instance::new(9002));
    rig.put("orders", one).await;
    let observed = rig.observe();
    observed.becomes(&state(&[("orders", &[one])])).await;
    rig.proxy.sever();
    observed.enters(&[SourceState::Degraded]).await;
    rig.remove("orders", one.port).await;
    rig.put("users", two).await;
    rig.etcd.compact().await;
    rig.heal().await;
    observed.becomes(&state(&[("users", &[two])])).await;
    observed.enters(&[SourceState::Live]).await;
}

async fn a_compaction_that_overtakes_a_slow_watch_hides_no_removal(version: Version) {
    let mut rig = Rig::start(version).await;
    let (one, two) = (Instance::new(9001), Instance::new(9002));
    rig.put("orders", one).await;
    let observed = rig.observe();
    observed.becomes(&state(&[("orders", &[one])])).await;
    rig.proxy.stall();
    // More than the windows and buffers between here and there hold, so that etcd has to set the watch aside.
    for round in 0..400_u32 {
        let large = Instance::new(9003).weighing(f64::from(round));
        rig.etcd.put(&key("large", large.port), &value(large, 100_000)).await;
    }
    rig.remove("large", 9003).await;
    rig.remove("orders", one.port).await;
    rig.put("users", two).await;
    rig.etcd.compact().await;
    rig.heal().await;
    observed.becomes(&state(&[("users", &[two])])).await;
    observed.enters(&[SourceState::Live]).await;
}

/// Flags that let one transaction hold seven mebibytes.
const LARGE: [&str; 2] = ["--max-request-bytes=16777216", "--max-txn-ops=2000"];

async fn a_revision_of_seven_mebibytes_arrives_whole(version: Version) {
    let rig = Rig::start_with(version, &LARGE).await;
    let observed = rig.observe();
    observed.enters(&[SourceState::Live]).await;
    let before = observed.heard().notes.len();
    let instances: Vec<Instance> = (1..=1000).map(Instance::new).collect();
    let put = |instance: &Instance| TxnOp::put(key("orders", instance.port), value(*instance, 7300), None);
    rig.etcd.transact(instances.iter().map(put)).await;
    observed.becomes(&state(&[("orders", &instances)])).await;
    observed.heard_only(before, &[Note::Apply("orders".into())]);
    assert_eq!(observed.status().counters.sessions, 1);
}

async fn a_listing_larger_than_a_message_arrives_whole(version: Version) {
    let rig = Rig::start(version).await;
    let expected = rig.put_many(1500, 5000).await;
    let observed = rig.observe();
    observed.becomes(&expected).await;
    assert_eq!((observed.status().counters.sessions, resyncs(&observed)), (1, 1));

    // The same as a catch-up after an outage.
    rig.proxy.sever();
    observed.enters(&[SourceState::Degraded]).await;
    let expected = rig.put_many(1800, 5000).await;
    rig.proxy.heal();
    observed.becomes(&expected).await;
    observed.enters(&[SourceState::Live]).await;
}

async fn twenty_thousand_keys_are_listed_in_pages_while_history_is_compacted(version: Version) {
    let rig = Rig::start(version).await;
    let expected = rig.put_many(20_000, 0).await;
    rig.proxy.throttle(500_000);
    let observed = rig.observe();
    // The listing asks for its later pages at the revision of the first; compacting takes that away.
    until(PATIENT, "the listing to begin", async || {
        observed.status().state == SourceState::Syncing
    })
    .await;
    rig.etcd.compact().await;
    assert_eq!(observed.heard().notes, [], "the listing ended before the compaction");
    rig.proxy.heal();
    observed.becomes(&expected).await;
    observed.enters(&[SourceState::Live]).await;
}

async fn a_refused_password_is_told_apart_and_the_right_one_is_read_anew(version: Version) {
    let mut rig = Rig::start(version).await;
    let (one, two) = (Instance::new(9001), Instance::new(9002));
    rig.put("orders", one).await;
    rig.etcd.enable_auth("reader", "first", PREFIX).await;
    let directory = TempDir::new().unwrap();
    let password = directory.path().join("password");
    replace(&password, "wrong\n");
    let config = Config {
        username: Some("reader".into()),
        password_file: Some(password.clone()),
        ..rig.config()
    };
    let observed = Observed::start(Adapter::new(config));
    observed
        .status_becomes("credentials refused", |status| status.counters.auth_failures > 0)
        .await;
    let status = observed.status();
    assert_eq!((status.state, status.synced), (SourceState::Connecting, false));
    assert_eq!(observed.heard().notes, []);

    replace(&password, "first\n");
    observed.becomes(&state(&[("orders", &[one])])).await;
    observed.enters(&[SourceState::Live]).await;

    // The password changes behind our back: what is known stays known.
    let refused = observed.status().counters.auth_failures;
    rig.etcd.change_password("reader", "second").await;
    rig.proxy.reset();
    observed
        .status_becomes("refused again", |status| status.counters.auth_failures > refused)
        .await;
    rig.put("orders", two).await;
    assert_eq!(observed.status().state, SourceState::Degraded);
    assert_eq!(observed.state(), state(&[("orders", &[one])]));
    replace(&password, "second\n");
    observed.becomes(&state(&[("orders", &[one, two])])).await;
    observed.enters(&[SourceState::Live]).await;
}

async fn an_expired_token_costs_neither_state_nor_changes(version: Version) {
    let mut rig = Rig::start_with(version, &["--auth-token-ttl=2"]).await;
    let (one, two, three) = (Instance::new(9001), Instance::new(9002), Instance::new(9003));
    rig.put("orders", one).await;
    rig.etcd.enable_auth("reader", "secret", PREFIX).await;
    let directory = TempDir::new().unwrap();
    let password = directory.path().join("password");
    replace(&password, "secret");
    let config = Config {
        username: Some("reader".into()),
        password_file: Some(password),
        // Longer than the token lives, so that every reconcile meets an expired one.
        reconcile: Duration::from_secs(4),
        ..rig.config()
    };
    let observed = Observed::start(Adapter::new(config));
    observed.becomes(&state(&[("orders", &[one])])).await;
    observed
        .status_becomes("two reconciles", |status| status.counters.reconciles >= 2)
        .await;
    rig.put("orders", two).await;
    observed.becomes(&state(&[("orders", &[one, two])])).await;
    rig.proxy.reset();
    rig.put("orders", three).await;
    observed.becomes(&state(&[("orders", &[one, two, three])])).await;
    let counters = observed.status().counters;
    assert_eq!(
        (counters.auth_failures, counters.reconcile_drift, counters.sessions),
        (0, 0, 2)
    );
}

async fn a_killed_etcd_says_nothing_and_comes_back_without_drift(version: Version) {
    let mut rig = Rig::start(version).await;
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

    rig.etcd.kill();
    observed.enters(&[SourceState::Degraded]).await;
    observed.is_silent_for(Duration::from_secs(5)).await;
    assert_eq!(observed.state(), known);
    assert_eq!(observed.status().state, SourceState::Degraded);

    rig.etcd.restart(Data::Kept).await;
    rig.put("orders", three).await;
    observed
        .becomes(&state(&[("orders", &[one, two.being(Health::Unhealthy), three])]))
        .await;
    let seen = observed.status().counters.reconciles;
    observed
        .status_becomes("a reconcile", |status| status.counters.reconciles > seen)
        .await;
    let status = observed.status();
    assert_eq!((status.state, status.counters.reconcile_drift), (SourceState::Live, 0));
}

async fn an_etcd_that_lost_its_data_is_a_new_epoch(version: Version) {
    a_new_epoch(version, Data::Lost).await;
}

async fn an_etcd_of_another_cluster_is_a_new_epoch(version: Version) {
    a_new_epoch(version, Data::NewCluster).await;
}

async fn a_new_epoch(version: Version, data: Data) {
    let mut rig = Rig::start(version).await;
    let (one, two) = (Instance::new(9001), Instance::new(9002));
    for port in 9100..9200 {
        rig.put("users", Instance::new(port)).await;
    }
    let observed = rig.observe();
    observed.enters(&[SourceState::Live]).await;
    let before = observed.heard().notes.len();
    rig.proxy.refuse();
    rig.etcd.kill();
    rig.etcd.restart(data).await;
    rig.put("orders", one).await;
    rig.heal().await;
    observed.enters(&[SourceState::Suspect]).await;
    until(PATIENT, "the new listing", async || {
        observed.heard().notes.len() > before
    })
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

async fn keys_beside_the_prefix_do_not_count(version: Version) {
    let mut rig = Rig::start(version).await;
    let (one, two) = (Instance::new(9001), Instance::new(9002));
    rig.put("orders", one).await;
    rig.etcd.put("/services-old/orders/9002", &value(two, 0)).await;
    let config = Config::new(rig.config().endpoints, "/services");
    let observed = Observed::start(Adapter::new(config));
    observed.becomes(&state(&[("orders", &[one])])).await;
    let before = observed.heard().notes.len();
    rig.etcd.put("/services-old/orders/9003", &value(two, 0)).await;
    rig.etcd.put("/servicesx/orders/9003", &value(two, 0)).await;
    rig.put("users", two).await;
    observed.becomes(&state(&[("orders", &[one]), ("users", &[two])])).await;
    observed.heard_only(before, &[Note::Apply("users".into())]);
    assert_eq!(observed.heard().unattributed, 0);
}

async fn a_reconcile_with_nothing_lost_finds_nothing(version: Version) {
    let mut rig = Rig::start(version).await;
    let one = Instance::new(9001);
    rig.put("orders", one).await;
    let config = Config {
        reconcile: Duration::from_millis(100),
        ..rig.config()
    };
    let observed = Observed::start(Adapter::new(config));
    observed.becomes(&state(&[("orders", &[one])])).await;
    let before = observed.heard().notes.len();
    // Changes race with the comparison, and must not be taken for lost events.
    for round in 0..200_u32 {
        rig.put("users", one.weighing(f64::from(round))).await;
    }
    observed
        .status_becomes("ten reconciles", |status| status.counters.reconciles >= 10)
        .await;
    let notes = observed.heard().notes.split_off(before);
    let expected = |note: &Note| *note == Note::Reconciled { drift: 0 } || *note == Note::Apply("users".into());
    assert!(notes.iter().all(expected), "{notes:?}");
}

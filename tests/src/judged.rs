//! What every registry is judged by: a real Envoy under load behind the real control plane, one suite for all.
//!
//! A registry joins by implementing [`Judged`] for its rig. The acts run in order on one stage, each with a service of its
//! own, because a registry, a control plane and an Envoy cost more to start than an act takes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use leadsman_core::model::Health;
use serde_json::Value;
use tempfile::TempDir;

use crate::backend::Backend;
use crate::contract::Subject;
use crate::fleet::Fleet;
use crate::instance::Instance;
use crate::proxy::Proxy;
use crate::seed;
use crate::wait::{PATIENT, throughout, until, until_ok};

/// What remains of a registry that is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Data {
    Kept,
    Lost,
}

/// What becomes of an instance in Envoy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It stays, as healthy as this.
    Shown(Health),
    Gone,
}

/// A registry that Envoy is judged on.
pub trait Judged: Subject {
    /// What stands under the name of the source in the configuration, such as `{ etcd: { … } }`: through [`Judged::path`],
    /// with credentials if there are any, and so quick that a test need not wait for a poll.
    fn source(&self) -> String;

    /// Between the control plane and the registry.
    fn path(&self) -> &Proxy;

    /// Takes an instance out of service, in the registry's own way, so that it is known and gets no traffic;
    /// [`Subject::put`] brings it back.
    fn drain(&mut self, service: &str, instance: Instance) -> impl Future<Output = Fate>;

    /// Registers an instance that is heard of once and never again: its lease, session or check soon runs out.
    fn put_mortal(&mut self, service: &str, instance: Instance) -> impl Future<Output = Fate>;

    /// Kills the registry.
    fn stop(&mut self) -> impl Future<Output = ()>;

    /// Starts it again where it was, and waits until it takes changes.
    fn start_again(&mut self, data: Data) -> impl Future<Output = ()>;
}

/// A registry whose readers need credentials.
pub trait Locked: Judged {
    /// Makes the credentials that the control plane has worthless, and ends what they opened.
    fn lock_out(&mut self) -> impl Future<Output = ()>;

    /// Gives the control plane new ones, in the file that its configuration names.
    fn let_in(&mut self) -> impl Future<Output = ()>;
}

/// The name of the source in the configuration.
const SOURCE: &str = "tested";
/// The services that Envoy's listener leads to, one an act.
const LIVING: &str = "living";
const STEADY: &str = "steady";
const LOST: &str = "lost";
/// Changes, and cuts among them.
const CHANGES: u32 = 1000;
const CUTS: u32 = 50;

/// How long a registry stays away: `LEADSMAN_OUTAGE` in seconds, or long enough to be noticed.
#[expect(clippy::disallowed_methods, reason = "a test has no command line of its own")]
fn outage() -> Duration {
    let seconds = std::env::var("LEADSMAN_OUTAGE").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(3))
}

/// Everything that takes part.
#[derive(Debug)]
pub struct Stage<J> {
    pub rig: J,
    pub fleet: Fleet,
    one: Backend,
    two: Backend,
    three: Backend,
}

/// Every act that needs no credentials.
pub async fn judge(rig: impl Judged) {
    let mut stage = Stage::start(rig).await;
    stage.an_instance_lives_and_dies_as_its_registry_says().await;
    stage
        .fifty_cuts_amid_a_thousand_changes_end_in_the_registrys_own_state()
        .await;
    stage.an_outage_is_invisible_to_traffic().await;
    stage
        .a_registry_that_comes_back_empty_takes_nothing_away_until_an_operator_says_so()
        .await;
    stage.fleet.envoy.assert_clean().await;
}

/// Credentials that expire while requests flow, and new ones.
pub async fn judge_credentials(rig: impl Locked) {
    let mut stage = Stage::start(rig).await;
    let (first, second) = (Instance::of(&stage.one), Instance::of(&stage.two));
    stage.rig.put(STEADY, first).await;
    stage.has(STEADY, &[first]).await;
    let load = stage.fleet.load(STEADY).start();
    stage.rig.lock_out().await;
    let refused = format!("leadsman_source_auth_failures_total{{source=\"{SOURCE}\"}}");
    until(PATIENT, "the refusal to be counted", async || {
        stage.fleet.leadsman.metric(&refused).await.unwrap_or_default() >= 1.0
    })
    .await;
    stage.fleet.source_enters(SOURCE, "degraded").await;
    stage.has(STEADY, &[first]).await;
    stage.rig.let_in().await;
    stage.rig.put(STEADY, second).await;
    stage.has(STEADY, &[first, second]).await;
    stage.fleet.source_enters(SOURCE, "live").await;
    load.stop().await.assert_unharmed();
    stage.fleet.envoy.assert_clean().await;
}

impl<J: Judged> Stage<J> {
    /// # Panics
    /// When something does not start.
    pub async fn start(rig: J) -> Self {
        let directory = TempDir::new().unwrap_or_else(|error| panic!("no directory: {error}"));
        let config = format!("sources:\n  {SOURCE}: {}\n", rig.source());
        let fleet = Fleet::start_in(directory, &[LIVING, STEADY, LOST], &config).await;
        Self {
            rig,
            fleet,
            one: Backend::start("one").await,
            two: Backend::start("two").await,
            three: Backend::start("three").await,
        }
    }

    /// Waits until Envoy has exactly these instances, as far as the registry can say what they are.
    pub async fn has(&self, service: &str, instances: &[Instance]) {
        let expressed: Vec<Instance> = instances.iter().map(|instance| self.rig.express(*instance)).collect();
        self.fleet.envoy_has(service, &expressed).await;
    }

    async fn an_instance_lives_and_dies_as_its_registry_says(&mut self) {
        let (first, second, third) = (
            Instance::of(&self.one),
            Instance::of(&self.two),
            Instance::of(&self.three),
        );
        self.rig.put(LIVING, first).await;
        self.has(LIVING, &[first]).await;
        let load = self.fleet.load(LIVING).start();
        self.rig.put(LIVING, second).await;
        self.has(LIVING, &[first, second]).await;
        let heavy = second.weighing(30.0);
        self.rig.put(LIVING, heavy).await;
        self.weighs(first, heavy).await;
        let ill = second.being(Health::Unhealthy);
        self.rig.put(LIVING, ill).await;
        self.has(LIVING, &[first, ill]).await;
        self.rig.put(LIVING, second).await;
        self.has(LIVING, &[first, second]).await;
        let fate = self.rig.drain(LIVING, second).await;
        self.meets(first, second, fate).await;
        self.rig.put(LIVING, second).await;
        self.has(LIVING, &[first, second]).await;
        self.rig.remove(LIVING, second.port).await;
        self.has(LIVING, &[first]).await;
        let fate = self.rig.put_mortal(LIVING, third).await;
        self.has(LIVING, &[first, third]).await;
        self.meets(first, third, fate).await;
        load.stop().await.assert_unharmed();
    }

    /// Waits until Envoy gives `other` as many times the traffic of `one` as the registry says.
    async fn weighs(&self, one: Instance, other: Instance) {
        let expected = self.rig.express(other).weight / self.rig.express(one).weight;
        until_ok(PATIENT, &format!("{expected} times the weight"), async || {
            let hosts = self.fleet.envoy.hosts(LIVING).await;
            let weight = |instance: Instance| hosts.get(&instance.address()).map_or(0.0, |host| host.weight as f64);
            let seen = weight(other) / weight(one);
            if (seen - expected).abs() < 0.01 {
                Ok(())
            } else {
                Err(seen)
            }
        })
        .await;
    }

    async fn meets(&self, healthy: Instance, other: Instance, fate: Fate) {
        match fate {
            Fate::Shown(health) => {
                self.fleet
                    .envoy_has(LIVING, &[self.rig.express(healthy), other.being(health)])
                    .await
            }
            Fate::Gone => self.has(LIVING, &[healthy]).await,
        }
    }

    async fn fifty_cuts_amid_a_thousand_changes_end_in_the_registrys_own_state(&mut self) {
        let mut random = seed::rng();
        let mut expected: BTreeMap<String, BTreeSet<SocketAddr>> = BTreeMap::new();
        for change in 0..CHANGES {
            let service = format!("s{}", random.u8(..8));
            let instance = Instance::new(random.u16(1..13)).weighing(f64::from(random.u8(1..100)));
            let held = expected.entry(service.clone()).or_default();
            if held.contains(&instance.address()) && random.bool() {
                held.remove(&instance.address());
                self.rig.remove(&service, instance.port).await;
            } else {
                held.insert(instance.address());
                self.rig.put(&service, instance).await;
            }
            if change % (CHANGES / CUTS) == 0 {
                if random.bool() {
                    self.rig.path().cut()
                } else {
                    self.rig.path().reset()
                }
            }
        }
        expected.retain(|_, addresses| !addresses.is_empty());
        self.envoy_has_all(&expected).await;
        let before = self.counter("reconciles").await;
        until(PATIENT, "a reconcile", async || {
            self.counter("reconciles").await > before
        })
        .await;
        self.envoy_has_all(&expected).await;
        self.fleet.source_enters(SOURCE, "live").await;
        let metric = format!("leadsman_reconcile_drift_total{{source=\"{SOURCE}\"}}");
        let counted = self.fleet.leadsman.metric(&metric).await;
        assert_eq!(counted, Some(self.counter("reconcile_drift").await as f64));
    }

    async fn envoy_has_all(&self, expected: &BTreeMap<String, BTreeSet<SocketAddr>>) {
        until_ok(PATIENT, "Envoy to have what the registry has", async || {
            let clusters = self.fleet.envoy.clusters().await.into_iter();
            let tested = clusters.filter(|(name, hosts)| is_numbered(name) && !hosts.is_empty());
            let seen: BTreeMap<String, BTreeSet<SocketAddr>> = tested
                .map(|(name, hosts)| (name, hosts.into_keys().collect()))
                .collect();
            if seen == *expected {
                Ok(())
            } else {
                Err(differences(expected, &seen))
            }
        })
        .await;
    }

    async fn counter(&self, name: &str) -> u64 {
        let source = self.fleet.source(SOURCE).await;
        source["counters"][name].as_u64().unwrap_or_default()
    }

    async fn an_outage_is_invisible_to_traffic(&mut self) {
        let (first, second, late) = (
            Instance::of(&self.one),
            Instance::of(&self.two),
            Instance::of(&self.three),
        );
        self.rig.put(STEADY, first).await;
        self.rig.put(STEADY, second).await;
        self.has(STEADY, &[first, second]).await;
        let hosts = self.fleet.envoy.hosts(STEADY).await;
        let changes = self.fleet.membership_changes(STEADY).await;
        let load = self.fleet.load(STEADY).start();
        self.rig.stop().await;
        self.fleet.source_enters(SOURCE, "degraded").await;
        throughout(outage(), "Envoy's endpoints", async || {
            self.fleet.envoy.hosts(STEADY).await == hosts
        })
        .await;
        assert_eq!(self.fleet.membership_changes(STEADY).await, changes);
        self.rig.start_again(Data::Kept).await;
        self.rig.put(STEADY, late).await;
        self.has(STEADY, &[first, second, late]).await;
        assert_eq!(self.fleet.membership_changes(STEADY).await, changes + 1);
        let report = load.stop().await;
        report.assert_unharmed();
        eprintln!(
            "{:?} of outage: {} requests, {} failed",
            outage(),
            report.sent,
            report.failed
        );
    }

    async fn a_registry_that_comes_back_empty_takes_nothing_away_until_an_operator_says_so(&mut self) {
        let (first, second) = (Instance::of(&self.one), Instance::of(&self.two));
        self.rig.put(LOST, first).await;
        self.rig.put(LOST, second).await;
        self.has(LOST, &[first, second]).await;
        let before = self.fleet.envoy.clusters().await;
        let load = self.fleet.load(LOST).start();
        self.rig.stop().await;
        self.rig.start_again(Data::Lost).await;
        self.fleet.source_enters(SOURCE, "suspect").await;
        throughout(outage(), "Envoy's endpoints", async || {
            let now = self.fleet.envoy.clusters().await;
            if now != before {
                eprintln!("{before:#?} became {now:#?}");
            }
            now == before
        })
        .await;
        self.rig.put(LOST, first).await;
        throughout(outage(), "the endpoint that nobody lists", async || {
            self.fleet.envoy.hosts(LOST).await.len() == 2
        })
        .await;
        let mut headers = HeaderMap::new();
        headers.insert("leadsman-reason", HeaderValue::from_static("it is known to be gone"));
        let path = format!("/api/v1/guard/release/{SOURCE}");
        let released = self.fleet.leadsman.post(&path, headers).await;
        assert!(
            released.as_ref().is_ok_and(|answer| answer.status.is_success()),
            "{released:?}"
        );
        self.has(LOST, &[first]).await;
        load.stop().await.assert_unharmed();
    }
}

/// Whether a cluster belongs to the thousand changes.
fn is_numbered(name: &str) -> bool {
    name.strip_prefix('s').is_some_and(|rest| rest.parse::<u8>().is_ok())
}

fn differences(
    expected: &BTreeMap<String, BTreeSet<SocketAddr>>,
    seen: &BTreeMap<String, BTreeSet<SocketAddr>>,
) -> Value {
    let names: BTreeSet<&String> = expected.keys().chain(seen.keys()).collect();
    let differing = names.into_iter().filter(|name| expected.get(*name) != seen.get(*name));
    let shown = differing.map(|name| (name.clone(), serde_json::json!([expected.get(name), seen.get(name)])));
    Value::Object(shown.collect())
}

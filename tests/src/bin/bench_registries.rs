//! `make bench-registries`: from the write in each registry to the endpoint in Envoy, as a table for the documentation.
//!
//! Every source has its default settings, and every registry those that say how soon it tells: what is quick in a test
//! would say nothing here. There is no proxy between them.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, ensure};
use leadsman_core::model::Health;
use leadsman_registry::dns::Transport;
use leadsman_registry::nacos::Protocol;
use leadsman_tests::eureka::Dialect;
use leadsman_tests::instance::{Instance, PREFIX, document};
use leadsman_tests::judged::Judged;
use leadsman_tests::kubernetes::slices;
use leadsman_tests::latency::{Latencies, Measured, Pace, SERVICE, measure, percentile, refused};
use leadsman_tests::leadsman::replace;
use leadsman_tests::nacos::Version;
use leadsman_tests::spoiler::FAULTS;
use leadsman_tests::{consul, etcd, kubernetes, nacos, rigs};
use serde_json::json;
use tempfile::TempDir;

/// A registry that tells of a change at once.
const PROMPT: Pace = Pace {
    changes: 200,
    beat: Duration::from_millis(10),
};
/// A second change in 100 ms waits for the end of them: this measures the first one mostly.
const CONSUL: Pace = Pace {
    changes: 120,
    beat: Duration::from_millis(500),
};
/// Nacos tells its subscribers half a second later.
const NACOS: Pace = Pace {
    changes: 60,
    beat: Duration::from_millis(500),
};
/// Records that may be kept for no time are asked for every second.
const DNS: Pace = Pace {
    changes: 40,
    beat: Duration::from_secs(1),
};
/// Asked every fifteen seconds.
const EUREKA: Pace = Pace {
    changes: 16,
    beat: Duration::from_secs(15),
};

/// Each with servers and an Envoy of its own.
const REFUSALS: usize = 20;

/// Where nobody listens.
const POD: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 1);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let files = files()?;
    let mut table = Table::new(std::env::args().skip(1));
    table.row("built-in registry", PROMPT, own).await?;
    table.row("built-in registry on etcd", PROMPT, shared).await?;
    table.row("file", PROMPT, async || files).await?;
    table.row("etcd 3.6", PROMPT, etcd).await?;
    table.row("Consul 1.22", CONSUL, consul).await?;
    table.row("ZooKeeper 3.9", PROMPT, zookeeper).await?;
    table.row("Kubernetes 1.36", PROMPT, kubernetes).await?;
    table
        .row("Nacos 2.5", NACOS, async || nacos(Version::V25).await)
        .await?;
    table
        .row("Nacos 3.1", NACOS, async || nacos(Version::V31).await)
        .await?;
    table.row("DNS of BIND", DNS, dns).await?;
    table.row("Eureka", EUREKA, eureka).await?;
    if table.is_wanted("refused cluster") {
        refusals().await?;
    }
    table.end()
}

/// A registry, and the source that reads it.
type Started<R> = (R, String);

async fn own() -> Started<rigs::registry::Embedded> {
    let rig = rigs::registry::Embedded::start().await;
    let source = as_it_comes(&rig);
    (rig, source)
}

/// Instances register with one replica, and Envoy hears of it from the other.
async fn shared() -> Started<rigs::registry::Shared> {
    let rig = rigs::registry::Shared::start(etcd::Version::V36).await;
    let source = as_it_comes(&rig);
    (rig, source)
}

/// The rig's own source says where everything is; a test's haste is taken out of it.
fn as_it_comes(rig: &impl Judged) -> String {
    rig.source().replace(", reconcile: 1s", "")
}

fn files() -> anyhow::Result<Started<Files>> {
    let files = Files {
        directory: TempDir::new()?,
        instances: BTreeMap::new(),
    };
    let source = format!("{{ file: {{ path: '{}' }} }}", files.directory.path().display());
    Ok((files, source))
}

async fn etcd() -> Started<rigs::etcd::Rig> {
    let rig = rigs::etcd::Rig::start(etcd::Version::V36).await;
    let address = rig.etcd.address();
    let source = format!("{{ etcd: {{ endpoints: ['http://{address}'], prefix: {PREFIX} }} }}");
    (rig, source)
}

async fn consul() -> Started<rigs::consul::Rig> {
    let rig = rigs::consul::Rig::start(consul::Setup::default()).await;
    let source = format!("{{ consul: {{ endpoints: ['http://{}'] }} }}", rig.consul.address());
    (rig, source)
}

async fn zookeeper() -> Started<rigs::zookeeper::Rig> {
    let rig = rigs::zookeeper::Rig::start().await;
    let (server, prefix) = (rig.zookeeper.address(), &rig.prefix);
    let source = format!("{{ zookeeper: {{ servers: ['{server}'], prefix: {prefix} }} }}");
    (rig, source)
}

async fn kubernetes() -> Started<Slices> {
    let rig = rigs::kubernetes::Rig::start_own(kubernetes::Setup::default()).await;
    let source = format!(
        "{{ kubernetes: {{ server: 'https://{}', token_file: '{}', tls: {{ ca: '{}' }}, namespaces: [{}], \
         service_name: name }} }}",
        rig.server.address(),
        rig.token_file().display(),
        rig.server.file("ca.pem").display(),
        rig.namespace
    );
    let slices = Slices {
        rig,
        created: BTreeSet::new(),
    };
    (slices, source)
}

async fn nacos(version: Version) -> Started<rigs::nacos::Rig> {
    let setup = nacos::Setup {
        slow: true,
        ..nacos::Setup::of(version)
    };
    let mut rig = rigs::nacos::Rig::start_own(setup, Protocol::Grpc).await;
    let (server, namespace) = (rig.own().address(), &rig.writer.namespace);
    let source = format!("{{ nacos: {{ endpoints: ['http://{server}'], namespace: {namespace} }} }}");
    (rig, source)
}

async fn dns() -> Started<rigs::dns::Rig> {
    let rig = rigs::dns::Rig::start(Transport::Auto).await;
    let (server, name) = (rig.named.address(), rigs::dns::name(SERVICE));
    let source = format!("{{ dns: {{ names: {{ {SERVICE}: {{ name: '{name}' }} }}, servers: ['{server}'] }} }}");
    (rig, source)
}

async fn eureka() -> Started<rigs::eureka::Rig> {
    let rig = rigs::eureka::Rig::start(Dialect::Legacy).await;
    let address = rig.eureka.address();
    let source = format!("{{ eureka: {{ endpoints: ['http://{address}/eureka'] }} }}");
    (rig, source)
}

/// A hundred new clusters with one that Envoy refuses.
async fn refusals() -> anyhow::Result<()> {
    say("\n| refused, because | variant | runs | write to the 99 others in Envoy |")?;
    say("|---|---|---:|---:|")?;
    for (name, fault) in FAULTS {
        for (variant, words) in [("DELTA_GRPC", "delta"), ("GRPC", "state of the world")] {
            let mut sorted = Vec::with_capacity(REFUSALS);
            for _ in 0..REFUSALS {
                sorted.push(refused::measure(variant, fault).await.context(name)?);
            }
            sorted.sort_unstable();
            say(&format!("| {name} | {words} | {REFUSALS} | {} |", cell(&sorted)))?;
        }
    }
    Ok(())
}

/// One file of one service.
struct Files {
    directory: TempDir,
    instances: BTreeMap<u16, Instance>,
}

impl Files {
    fn write(&self) {
        let file = self.directory.path().join(format!("{SERVICE}.yaml"));
        replace(&file, &document(SERVICE, self.instances.values().copied()));
    }
}

impl Measured for Files {
    async fn bring(&mut self, instance: Instance) {
        self.instances.insert(instance.port, instance);
        self.write();
    }

    async fn take(&mut self, instance: Instance) {
        self.instances.remove(&instance.port);
        self.write();
    }
}

/// Slices that are written through the API, as the controllers of Kubernetes do it. What goes is terminating first: that
/// ends its traffic. The API takes no loopback addresses, and nobody connects to these.
struct Slices {
    rig: rigs::kubernetes::Rig,
    created: BTreeSet<u16>,
}

impl Slices {
    async fn write(&mut self, instance: Instance, health: Health) {
        let name = format!("{SERVICE}-{}", instance.port);
        let slice = json!({ "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": { "name": name, "labels": { "kubernetes.io/service-name": SERVICE } },
            "ports": [{ "name": "", "protocol": "TCP", "port": instance.port }],
            "endpoints": [{ "addresses": [POD.to_string()], "conditions": rigs::kubernetes::conditions(health) }] });
        let all = slices(&self.rig.namespace);
        if self.created.insert(instance.port) {
            self.rig.api.create(&all, &slice).await;
        } else {
            self.rig.api.replace(&format!("{all}/{name}"), &slice).await;
        }
    }
}

impl Measured for Slices {
    async fn bring(&mut self, instance: Instance) {
        self.write(instance, Health::Healthy).await;
    }

    async fn take(&mut self, instance: Instance) {
        self.write(instance, Health::Draining).await;
    }

    fn address(&self, instance: Instance) -> SocketAddr {
        SocketAddr::from((POD, instance.port))
    }
}

/// What is printed, and what of it was asked for.
struct Table {
    /// How the names of the rows begin; none are all.
    only: Vec<String>,
    names: Vec<&'static str>,
    wanted: bool,
    rows: usize,
}

impl Table {
    fn new(only: impl Iterator<Item = String>) -> Self {
        Self {
            only: only.map(|word| word.to_lowercase()).collect(),
            names: Vec::new(),
            wanted: false,
            rows: 0,
        }
    }

    fn is_wanted(&mut self, name: &'static str) -> bool {
        self.names.push(name);
        let lower = name.to_lowercase();
        let wanted = self.only.is_empty() || self.only.iter().any(|word| lower.starts_with(word));
        self.wanted |= wanted;
        wanted
    }

    async fn row<R: Measured>(
        &mut self,
        name: &'static str,
        pace: Pace,
        start: impl AsyncFnOnce() -> Started<R>,
    ) -> anyhow::Result<()> {
        if !self.is_wanted(name) {
            return Ok(());
        }
        let (rig, source) = start().await;
        let [came, went] = measure(rig, &source, pace).await.with_context(|| name)?;
        if self.rows == 0 {
            say(
                "| registry | an instance | changes | the write itself | registry and adapter | Leadsman and Envoy | write to Envoy |",
            )?;
            say("|---|---|---:|---:|---:|---:|---:|")?;
        }
        self.rows += 1;
        line(name, "comes", came)?;
        line(name, "goes", went)
    }

    fn end(self) -> anyhow::Result<()> {
        ensure!(
            self.wanted,
            "none of {} begins with {}",
            self.names.join(", "),
            self.only.join(" or ")
        );
        Ok(())
    }
}

fn line(name: &str, what: &str, latencies: Latencies) -> anyhow::Result<()> {
    let Latencies {
        write,
        heard,
        ours,
        total,
    } = latencies;
    let changes = total.len();
    let cells = [write, heard, ours, total].map(|sorted| cell(&sorted));
    say(&format!("| {name} | {what} | {changes} | {} |", cells.join(" | ")))
}

/// p50 / p99 in milliseconds.
fn cell(sorted: &[Duration]) -> String {
    let at = |share| percentile(sorted, share).unwrap_or_default().as_secs_f64() * 1e3;
    format!("{:.1} / {:.1} ms", at(0.5), at(0.99))
}

fn say(line: &str) -> anyhow::Result<()> {
    writeln!(std::io::stdout(), "{line}")?;
    Ok(())
}

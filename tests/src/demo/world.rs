//! Everything that runs during the demo, and the questions that several steps ask it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;
use serde_json::Value;

use super::counters::Counters;
use super::instance::Instance;
use super::wait::{SOON, eventually};
use crate::envoy::{Envoy, Host};
use crate::etcd::Etcd;
use crate::http::{Answer, Http, Load, Report, Running};
use crate::leadsman::Leadsman;
use crate::process::{Process, built, free_port};

/// The service that the demo is about.
pub(crate) const ORDERS: &str = "orders";

/// The id of the Envoy.
pub(crate) const NODE: &str = "demo-envoy";

/// Requests a second of a steady load: enough to notice any gap, little beside what two cores can do.
const STEADY_RATE: u32 = 150;

/// Envoy retries at most three requests at a time for a cluster, unless told otherwise. With no more in flight, no retry
/// is ever refused.
const STEADY_WORKERS: u32 = 3;

/// The servers, the backends and the instances. Dropping it ends all of them.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) ingress: SocketAddr,
    pub(crate) envoy: Envoy,
    pub(crate) leadsman: Leadsman,
    pub(crate) instances: BTreeMap<String, Instance>,
    pub(crate) etcd: Etcd,
    pub(crate) backends: BTreeMap<String, Process>,
    pub(crate) http: Http,
    /// Requests to the service so far, and how many of them failed.
    pub(crate) sent: u64,
    pub(crate) failed: u64,
    /// Where the logs are kept.
    pub(crate) directory: PathBuf,
}

impl World {
    /// Starts a backend process and waits for its first answer.
    ///
    /// # Errors
    /// When it does not answer.
    pub(crate) async fn start_backend(directory: &Path, name: &str) -> anyhow::Result<(Process, SocketAddr)> {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let mut command = Command::new(built("backend", "cargo build -p leadsman-tests"));
        command.args([name, &address.port().to_string()]);
        let process = Process::spawn(name, command, directory);
        let http = Http::new();
        eventually(SOON, &format!("an answer of {name}"), async || {
            http.get(address, "/").await.map_err(|error| format!("{error:#}"))
        })
        .await?;
        Ok((process, address))
    }

    /// Starts a backend of the service and registers it.
    ///
    /// # Errors
    /// When the backend does not answer.
    pub(crate) async fn add_instance(&mut self, name: &str) -> anyhow::Result<()> {
        let (process, address) = Self::start_backend(&self.directory, name).await?;
        self.backends.insert(name.to_owned(), process);
        let instance = Instance::register(&self.etcd, ORDERS, name, address).await;
        self.instances.insert(name.to_owned(), instance);
        Ok(())
    }

    /// # Errors
    /// When there is no such instance.
    pub(crate) fn instance(&self, name: &str) -> anyhow::Result<&Instance> {
        self.instances
            .get(name)
            .with_context(|| format!("{name} is not registered"))
    }

    /// The hosts of the service in Envoy, by the names of their instances.
    pub(crate) async fn hosts(&self) -> BTreeMap<String, Host> {
        let named = |address: SocketAddr| {
            let mut instances = self.instances.iter();
            let own = instances.find(|(_, instance)| instance.address() == address);
            own.map_or_else(|| address.to_string(), |(name, _)| name.clone())
        };
        let hosts = self.envoy.hosts(ORDERS).await;
        hosts
            .into_iter()
            .map(|(address, host)| (named(address), host))
            .collect()
    }

    /// Waits until Envoy has exactly these hosts.
    ///
    /// # Errors
    /// When it never does.
    pub(crate) async fn await_hosts(&self, names: &[&str]) -> anyhow::Result<BTreeMap<String, Host>> {
        let wanted: BTreeSet<&str> = names.iter().copied().collect();
        let expected = format!("the hosts {} in Envoy", names.join(", "));
        eventually(SOON, &expected, async || {
            let hosts = self.hosts().await;
            match hosts.keys().map(String::as_str).collect::<BTreeSet<_>>() == wanted {
                true => Ok(hosts),
                false => Err(format!("{:?}", hosts.keys().collect::<Vec<_>>())),
            }
        })
        .await
    }

    /// A counter of the service's cluster in Envoy.
    pub(crate) async fn cluster_stat(&self, name: &str) -> u64 {
        let stat = self.envoy.stat(&format!("cluster.{ORDERS}.{name}")).await;
        stat.unwrap_or_default()
    }

    /// What the admin API says about a source.
    pub(crate) async fn source(&self, name: &str) -> Value {
        let sources = self.leadsman.api("/api/v1/sources").await;
        let mut sources = sources.as_array().into_iter().flatten();
        sources
            .find(|source| source["name"] == name)
            .cloned()
            .unwrap_or_default()
    }

    /// Waits for a state of a source, and returns what the admin API says about it.
    ///
    /// # Errors
    /// When it does not come in time.
    pub(crate) async fn await_source(
        &self,
        name: &str,
        state: &str,
        deadline: std::time::Duration,
    ) -> anyhow::Result<Value> {
        eventually(deadline, &format!("source {name} to be {state}"), async || {
            let source = self.source(name).await;
            match source["state"] == state {
                true => Ok(source),
                false => Err(source.to_string()),
            }
        })
        .await
    }

    /// The filter's counters.
    ///
    /// # Errors
    /// When Envoy does not answer.
    pub(crate) async fn counters(&self) -> anyhow::Result<Counters> {
        let page: Answer = self.http.get(self.envoy.admin(), "/stats/prometheus").await?;
        Ok(Counters::read(&page.text()))
    }

    /// Sends requests to the service one after another.
    pub(crate) async fn burst(&mut self, count: u32) -> Report {
        let report = self.load().burst(count).await;
        self.note(&report);
        report
    }

    /// Begins to send requests to the service; give the result to [`World::note`].
    pub(crate) fn steady(&self) -> Running {
        self.load().start()
    }

    /// Remembers what came of a load.
    pub(crate) fn note(&mut self, report: &Report) {
        self.sent += report.sent;
        self.failed += report.failed;
    }

    /// Keeps the logs that exist by now, whatever becomes of the directories of the servers that write them.
    pub(crate) fn keep_logs(&self) {
        keep_logs(&self.directory);
    }

    fn load(&self) -> Load {
        Load {
            address: self.ingress,
            host: "shop".to_owned(),
            path: format!("/{ORDERS}/1"),
            requests_per_second: STEADY_RATE,
            workers: STEADY_WORKERS,
        }
    }
}

/// Links every log one directory further down into `directory`: a link outlives the temporary directory.
pub(crate) fn keep_logs(directory: &Path) {
    let entries = directory.read_dir().into_iter().flatten().flatten();
    for inner in entries.filter_map(|entry| entry.path().read_dir().ok()) {
        for log in inner.flatten().map(|entry| entry.path()) {
            if let (Some(name), Some("log")) = (log.file_name(), log.extension().and_then(|end| end.to_str())) {
                // It may be linked already; and a log that can't be kept is no reason to stop.
                let _ = fs::hard_link(&log, directory.join(name));
            }
        }
    }
}

/// Weights, by name, as the facts show them.
pub(crate) fn show_hosts(hosts: &BTreeMap<String, Host>) -> String {
    let shown = hosts
        .iter()
        .map(|(name, host)| format!("{name} {} weight {}", host.health, host.weight));
    shown.collect::<Vec<_>>().join(", ")
}

/// Where the requests went.
pub(crate) fn show_spread(report: &Report) -> String {
    let shown = report
        .by_backend
        .iter()
        .map(|(name, count)| format!("{name} {count} ({:.1} %)", report.share(name) * 100.0));
    shown.collect::<Vec<_>>().join(", ")
}

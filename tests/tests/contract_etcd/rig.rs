//! An etcd behind a proxy that breaks on request, as a subject of the registry contract.

use leadsman_registry::etcd::{Config, Etcd as Adapter};
use leadsman_tests::contract::{Subject, state};
use leadsman_tests::etcd::{Etcd, Version};
use leadsman_tests::instance::{Instance, PREFIX, key};
use leadsman_tests::observed::{Note, Observed, State};
use leadsman_tests::proxy::Proxy;
use serde_json::json;

/// An etcd, a proxy in front of it, and nothing in between that the test does not control.
#[derive(Debug)]
pub(crate) struct Rig {
    pub(crate) etcd: Etcd,
    pub(crate) proxy: Proxy,
}

impl Rig {
    pub(crate) async fn start(version: Version) -> Self {
        Self::start_with(version, &[]).await
    }

    pub(crate) async fn start_with(version: Version, arguments: &[&str]) -> Self {
        let etcd = Etcd::start_with(version, arguments).await;
        let proxy = Proxy::start(etcd.address()).await;
        Self { etcd, proxy }
    }

    pub(crate) fn config(&self) -> Config {
        Config::new(vec![format!("http://{}", self.proxy.address())], PREFIX)
    }

    pub(crate) fn observe(&self) -> Observed {
        Observed::start(Adapter::new(self.config()))
    }

    /// Registers instances under `orders`, as many to a revision as etcd takes.
    pub(crate) async fn put_many(&self, count: u16, padding: usize) -> State {
        let instances: Vec<Instance> = (1..=count).map(Instance::new).collect();
        let pairs = instances
            .iter()
            .map(|&instance| (key("orders", instance.port), padded(instance, padding)));
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
        self.etcd
            .put(&key(service, instance.port), &instance.record().to_string())
            .await;
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

/// The record of an instance, made larger by a field that nobody reads.
pub(crate) fn padded(instance: Instance, padding: usize) -> String {
    let mut record = instance.record();
    record["padding"] = "x".repeat(padding).into();
    record.to_string()
}

pub(crate) fn resyncs(observed: &Observed) -> usize {
    let notes = observed.heard().notes;
    notes.iter().filter(|note| matches!(note, Note::Resync { .. })).count()
}

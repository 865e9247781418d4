//! An etcd behind a proxy that breaks on request, as a subject of the registry contract.

use std::path::PathBuf;

use crate::contract::{Subject, state};
use crate::etcd::{self, Etcd, Version};
use crate::instance::{Instance, PREFIX, key};
use crate::judged::{Data, Fate, Judged, Locked};
use crate::leadsman::replace;
use crate::observed::{Note, Observed, State};
use crate::proxy::Proxy;
use leadsman_core::model::Health;
use leadsman_registry::etcd::{Config, Etcd as Adapter};
use serde_json::json;
use tempfile::TempDir;

/// The user who may read.
const READER: &str = "reader";

/// An etcd, a proxy in front of it, and nothing in between that the test does not control.
#[derive(Debug)]
pub struct Rig {
    pub etcd: Etcd,
    pub proxy: Proxy,
    /// Of the user `reader`, where authentication is on.
    password: Option<TempDir>,
}

impl Rig {
    pub async fn start(version: Version) -> Self {
        Self::start_with(version, &[]).await
    }

    pub async fn start_with(version: Version, arguments: &[&str]) -> Self {
        let etcd = Etcd::start_with(version, arguments).await;
        let proxy = Proxy::start(etcd.address()).await;
        Self {
            etcd,
            proxy,
            password: None,
        }
    }

    /// An etcd that only tells who has a password.
    pub async fn start_locked(version: Version) -> Self {
        let mut rig = Self::start(version).await;
        rig.etcd.enable_auth(READER, "first", PREFIX).await;
        let directory = TempDir::new().unwrap_or_else(|error| panic!("no directory: {error}"));
        rig.password = Some(directory);
        rig.write_password("first");
        rig
    }

    fn password_file(&self) -> Option<PathBuf> {
        self.password
            .as_ref()
            .map(|directory| directory.path().join("password"))
    }

    fn write_password(&self, password: &str) {
        if let Some(file) = self.password_file() {
            replace(&file, password);
        }
    }

    pub fn config(&self) -> Config {
        Config::new(vec![format!("http://{}", self.proxy.address())], PREFIX)
    }

    pub fn observe(&self) -> Observed {
        Observed::start(Adapter::new(self.config()))
    }

    /// Registers instances under `orders`, as many to a revision as etcd takes.
    pub async fn put_many(&self, count: u16, padding: usize) -> State {
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

impl Judged for Rig {
    fn source(&self) -> String {
        let login = self
            .password_file()
            .map(|file| format!("username: {READER}, password_file: {}, ", file.display()));
        format!(
            "{{ etcd: {{ endpoints: ['http://{}'], prefix: {PREFIX}, {}reconcile: 1s }} }}",
            self.proxy.address(),
            login.unwrap_or_default()
        )
    }

    fn path(&self) -> &Proxy {
        &self.proxy
    }

    async fn drain(&mut self, service: &str, instance: Instance) -> Fate {
        self.put(service, instance.being(Health::Draining)).await;
        Fate::Shown(Health::Draining)
    }

    async fn put_mortal(&mut self, service: &str, instance: Instance) -> Fate {
        let lease = self.etcd.grant(2).await;
        self.etcd
            .put_leased(&key(service, instance.port), &instance.record().to_string(), lease)
            .await;
        Fate::Gone
    }

    async fn stop(&mut self) {
        self.etcd.kill();
    }

    async fn start_again(&mut self, data: Data) {
        let data = match data {
            Data::Kept => etcd::Data::Kept,
            Data::Lost => etcd::Data::NewCluster,
        };
        self.etcd.restart(data).await;
    }
}

impl Locked for Rig {
    async fn lock_out(&mut self) {
        self.etcd.change_password(READER, "second").await;
        self.proxy.cut();
    }

    async fn let_in(&mut self) {
        self.write_password("second");
    }
}

/// The record of an instance, made larger by a field that nobody reads.
pub fn padded(instance: Instance, padding: usize) -> String {
    let mut record = instance.record();
    record["padding"] = "x".repeat(padding).into();
    record.to_string()
}

pub fn resyncs(observed: &Observed) -> usize {
    let notes = observed.heard().notes;
    notes.iter().filter(|note| matches!(note, Note::Resync { .. })).count()
}

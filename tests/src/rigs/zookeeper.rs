//! A ZooKeeper behind a proxy that breaks on request, as a subject of the registry contract.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::contract::Subject;
use crate::instance::Instance;
use crate::judged::{Data, Fate, Judged, Locked};
use crate::leadsman::replace;
use crate::observed::{Note, Observed};
use crate::proxy::Proxy;
use crate::zookeeper::{self, Zookeeper};
use leadsman_core::model::Health;
use leadsman_registry::zookeeper::{Config, Zookeeper as Adapter};
use serde_json::json;
use tempfile::TempDir;

/// A ZooKeeper, a proxy in front of it, and nothing in between that the test does not control.
#[derive(Debug)]
pub struct Rig {
    pub zookeeper: Zookeeper,
    pub proxy: Proxy,
    /// Where the adapter reads.
    pub prefix: String,
    /// The password's file, where the prefix is locked.
    password: Option<TempDir>,
}

/// The user who may read a locked prefix.
pub const READER: &str = "reader";
/// What the `digest` scheme holds of [`READER`] with the password `first`: the base64 of the SHA-1 of the two.
pub const READER_FIRST: &str = "reader:HvTQAxF0vQgpxElrnA6kbDjZsFc=";
/// The same with the password `second`.
pub const READER_SECOND: &str = "reader:r0Jk4y0hnPfG/Wsf8L7BXX8aCF0=";

impl Rig {
    /// On a server of its own.
    pub async fn start() -> Self {
        Self::around(Zookeeper::start().await, "/services".to_owned()).await
    }

    /// On a server that other tests use, too: what it does to the server, it does to them.
    pub async fn shared() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self::around(Zookeeper::shared().await, format!("/test-{number}/services")).await
    }

    async fn around(zookeeper: Zookeeper, prefix: String) -> Self {
        let proxy = Proxy::start(zookeeper.address()).await;
        Self {
            zookeeper,
            proxy,
            prefix,
            password: None,
        }
    }

    /// The node of what listens on a port.
    pub fn node(&self, service: &str, port: u16) -> String {
        format!("{}/{service}/{port}", self.prefix)
    }

    /// A ZooKeeper that shows the prefix only to [`READER`].
    pub async fn start_locked() -> Self {
        let mut rig = Self::start().await;
        rig.zookeeper.put(&rig.prefix, b"").await;
        rig.zookeeper.lock(&rig.prefix, READER_FIRST).await;
        rig.password = Some(TempDir::new().unwrap_or_else(|error| panic!("no directory: {error}")));
        rig.write_password("first");
        rig
    }

    /// Changes the file that [`Rig::config`] names.
    ///
    /// # Panics
    /// When the prefix is not locked.
    pub fn write_password(&self, password: &str) {
        let file = self.password_file();
        replace(&file.unwrap_or_else(|| panic!("the prefix is not locked")), password);
    }

    fn password_file(&self) -> Option<PathBuf> {
        let directory = self.password.as_ref()?;
        Some(directory.path().join("password"))
    }

    pub fn config(&self) -> Config {
        Config {
            // A silent server is left after two fifths of it.
            session_timeout: Duration::from_secs(4),
            username: self.password.as_ref().map(|_| READER.to_owned()),
            password_file: self.password_file(),
            ..Config::new(vec![self.proxy.address().to_string()], &self.prefix)
        }
    }

    pub fn observe(&self) -> Observed {
        Observed::start(Adapter::new(self.config()))
    }
}

impl Subject for Rig {
    type Registry = Adapter;

    fn registry(&self) -> Adapter {
        Adapter::new(self.config())
    }

    async fn put(&mut self, service: &str, instance: Instance) {
        self.zookeeper
            .put(&self.node(service, instance.port), value(instance).as_bytes())
            .await;
    }

    async fn remove(&mut self, service: &str, port: u16) {
        self.zookeeper.delete(&self.node(service, port)).await;
    }

    async fn spoil(&mut self, service: &str) {
        let record = json!({ "address": "nowhere.example", "port": 80 }).to_string();
        self.zookeeper
            .put(&format!("{}/{service}/bad", self.prefix), record.as_bytes())
            .await;
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
            "{{ zookeeper: {{ servers: ['{}'], prefix: {}, {}session_timeout: 4s, reconcile: 1s }} }}",
            self.proxy.address(),
            self.prefix,
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

    /// Its session ends without a word.
    async fn put_mortal(&mut self, service: &str, instance: Instance) -> Fate {
        let record = value(instance);
        self.zookeeper
            .put_and_die(&self.node(service, instance.port), record.as_bytes())
            .await;
        Fate::Gone
    }

    async fn stop(&mut self) {
        self.zookeeper.kill(0);
    }

    async fn start_again(&mut self, data: Data) {
        let data = match data {
            Data::Kept => zookeeper::Data::Kept,
            Data::Lost => zookeeper::Data::Lost,
        };
        self.zookeeper.restart(0, data).await;
    }
}

impl Locked for Rig {
    async fn lock_out(&mut self) {
        self.zookeeper.lock(&self.prefix, READER_SECOND).await;
        self.proxy.cut();
    }

    async fn let_in(&mut self) {
        self.write_password("second");
    }
}

pub fn value(instance: Instance) -> String {
    let Instance { port, weight, health } = instance;
    json!({ "address": "127.0.0.1", "port": port, "weight": weight, "health": health.as_str() }).to_string()
}

pub fn resyncs(observed: &Observed) -> usize {
    let notes = observed.heard().notes;
    notes.iter().filter(|note| matches!(note, Note::Resync { .. })).count()
}

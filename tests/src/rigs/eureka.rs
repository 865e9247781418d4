//! A Eureka behind a proxy that breaks on request, as a subject of the registry contract.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use crate::contract::Subject;
use crate::eureka::shared::{self, Turn};
use crate::eureka::{Dialect, Eureka, USER};
use crate::instance::Instance;
use crate::judged::{Data, Fate, Judged, Locked};
use crate::leadsman::replace;
use crate::observed::{Note, Observed};
use crate::proxy::Proxy;
use leadsman_core::model::{Evidence, Health};
use leadsman_registry::eureka::{Config, Eureka as Adapter};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A server, a proxy in front of it, and nothing in between that the test does not control.
#[derive(Debug)]
pub struct Rig {
    pub eureka: Turn,
    pub proxy: Proxy,
    /// What would register again when the server forgot it, as instances do.
    registered: BTreeMap<(String, u16), Value>,
    /// Instances with a status that somebody put over theirs.
    overridden: BTreeSet<(String, u16)>,
    /// The password's file, where the server asks for one.
    password: Option<TempDir>,
}

impl Rig {
    /// Around a server of its own.
    pub async fn start(dialect: Dialect) -> Self {
        Self::around(Turn::alone(Eureka::start(dialect).await)).await
    }

    /// Around a server that other tests wait for.
    pub async fn shared(dialect: Dialect) -> Self {
        Self::shared_with(dialect, &[]).await
    }

    pub async fn shared_with(dialect: Dialect, options: &[&str]) -> Self {
        Self::around(shared::server(dialect, options).await).await
    }

    pub async fn around(eureka: Turn) -> Self {
        let proxy = Proxy::start(eureka.address()).await;
        Self {
            eureka,
            proxy,
            registered: BTreeMap::new(),
            overridden: BTreeSet::new(),
            password: None,
        }
    }

    /// Around a server that asks for a password, of its own.
    pub async fn start_locked() -> Self {
        let eureka = Turn::alone(Eureka::start_locked("first").await);
        let directory = TempDir::new().unwrap_or_else(|error| panic!("no directory: {error}"));
        let mut rig = Self::around(eureka).await;
        rig.password = Some(directory);
        rig.write_password("first");
        rig
    }

    /// Changes the file that [`Rig::config`] names.
    ///
    /// # Panics
    /// When the server asks for no password.
    pub fn write_password(&self, password: &str) {
        let file = self.password_file();
        replace(&file.unwrap_or_else(|| panic!("no password is asked for")), password);
    }

    fn password_file(&self) -> Option<PathBuf> {
        let directory = self.password.as_ref()?;
        Some(directory.path().join("password"))
    }

    /// What instances do when their heartbeat is answered with "unknown".
    pub async fn register_again(&self) {
        for ((service, _), record) in &self.registered {
            self.eureka.register(service, record).await;
        }
    }

    pub fn url(&self) -> String {
        format!("http://{}/eureka", self.proxy.address())
    }

    pub fn config(&self) -> Config {
        Config {
            username: self.password.as_ref().map(|_| USER.to_owned()),
            password_file: self.password_file(),
            ..config(vec![self.url()])
        }
    }

    pub fn observe(&self) -> Observed {
        Observed::start(Adapter::new(self.config()))
    }
}

/// Polls so often, and gives up so soon, that no test waits for it.
pub fn config(endpoints: Vec<String>) -> Config {
    Config {
        interval: Duration::from_millis(100),
        timeout: Duration::from_secs(1),
        ..Config::new(endpoints)
    }
}

impl Subject for Rig {
    type Registry = Adapter;

    fn registry(&self) -> Adapter {
        Adapter::new(self.config())
    }

    async fn put(&mut self, service: &str, instance: Instance) {
        let place = (service.to_owned(), instance.port);
        if self.overridden.remove(&place) {
            self.eureka
                .end_override(service, &id(service, instance.port), "UP")
                .await;
        }
        let record = record(service, instance);
        self.eureka.register(service, &record).await;
        self.registered.insert(place, record);
    }

    async fn remove(&mut self, service: &str, port: u16) {
        self.eureka.deregister(service, &id(service, port)).await;
        self.registered.remove(&(service.to_owned(), port));
    }

    async fn spoil(&mut self, service: &str) {
        let mut record = record(service, Instance::new(9999));
        for key in ["ipAddr", "hostName"] {
            if let Some(host) = record.get_mut(key) {
                *host = json!("nowhere.example");
            }
        }
        self.eureka.register(service, &record).await;
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
            .map(|file| format!("username: {USER}, password_file: {}, ", file.display()));
        format!(
            "{{ eureka: {{ endpoints: ['{}'], {}interval: 100ms, reconcile: 1s, timeout: 2s }} }}",
            self.url(),
            login.unwrap_or_default()
        )
    }

    fn path(&self) -> &Proxy {
        &self.proxy
    }

    async fn drain(&mut self, service: &str, instance: Instance) -> Fate {
        let id = id(service, instance.port);
        self.eureka.override_status(service, &id, "OUT_OF_SERVICE").await;
        self.overridden.insert((service.to_owned(), instance.port));
        Fate::Shown(Health::Draining)
    }

    /// Nobody sends its heartbeats.
    async fn put_mortal(&mut self, service: &str, instance: Instance) -> Fate {
        let mut record = record(service, instance);
        if let Some(lease) = record.pointer_mut("/leaseInfo/durationInSecs") {
            *lease = json!(2);
        }
        self.eureka.register(service, &record).await;
        Fate::Gone
    }

    async fn stop(&mut self) {
        self.eureka.kill();
    }

    /// A Eureka keeps nothing: what it is given back is what its instances would register again.
    async fn start_again(&mut self, data: Data) {
        self.eureka.restart().await;
        match data {
            Data::Kept => self.register_again().await,
            Data::Lost => self.registered.clear(),
        }
    }
}

impl Locked for Rig {
    async fn lock_out(&mut self) {
        self.eureka.kill();
        self.eureka.restart_locked("second").await;
        self.register_again().await;
    }

    async fn let_in(&mut self) {
        self.write_password("second");
    }
}

pub fn id(service: &str, port: u16) -> String {
    format!("127.0.0.1:{service}:{port}")
}

/// An instance as Spring Cloud registers it, with a lease that outlives the test.
pub fn record(service: &str, instance: Instance) -> Value {
    let Instance { port, weight, health } = instance;
    let status = match health {
        Health::Healthy | Health::Unknown | Health::Degraded => "UP",
        Health::Draining => "OUT_OF_SERVICE",
        Health::Unhealthy => "DOWN",
    };
    json!({
        "instanceId": id(service, port), "hostName": "127.0.0.1", "app": service, "ipAddr": "127.0.0.1",
        "status": status, "vipAddress": service, "secureVipAddress": service,
        "port": { "$": port, "@enabled": "true" },
        "securePort": { "$": 443, "@enabled": "false" },
        "dataCenterInfo": { "@class": "com.netflix.appinfo.InstanceInfo$DefaultDataCenterInfo", "name": "MyOwn" },
        "leaseInfo": { "renewalIntervalInSecs": 30, "durationInSecs": 3600 },
        "metadata": { "weight": weight.to_string() },
    })
}

/// The listings since the start: how many services, and how far to be believed.
pub fn resyncs(observed: &Observed) -> Vec<(usize, Evidence)> {
    let listing = |note| match note {
        Note::Resync { services, evidence, .. } => Some((services, evidence)),
        Note::Apply(_) | Note::Delete(_) | Note::Reconciled { .. } | Note::Impaired(_) => None,
    };
    observed.heard().notes.into_iter().filter_map(listing).collect()
}

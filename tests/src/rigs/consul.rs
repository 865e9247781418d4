//! A Consul behind a proxy that breaks on request, as a subject of the registry contract.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use crate::consul::{self, Consul, Setup};
use crate::contract::Subject;
use crate::instance::Instance;
use crate::judged::{Data, Fate, Judged, Locked};
use crate::leadsman::replace;
use crate::observed::{Note, Observed};
use crate::proxy::Proxy;
use leadsman_core::model::Health;
use leadsman_registry::consul::{Config, Consul as Adapter};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A Consul, a proxy in front of it, and nothing in between that the test does not control.
#[derive(Debug)]
pub struct Rig {
    pub consul: Consul,
    pub proxy: Proxy,
    directory: TempDir,
    /// The token in the file, where Consul denies by default.
    token: Option<String>,
    /// Instances in maintenance.
    maintained: BTreeSet<(String, u16)>,
}

/// What the rights of a reader have to be.
pub const READ_ALL: &str = r#"service_prefix "" { policy = "read" } node_prefix "" { policy = "read" }"#;

impl Rig {
    pub async fn start(setup: Setup) -> Self {
        Self::around(Consul::start(setup).await).await
    }

    pub async fn around(consul: Consul) -> Self {
        let proxy = Proxy::start(consul.address()).await;
        Self {
            consul,
            proxy,
            directory: TempDir::new().unwrap_or_else(|error| panic!("no directory: {error}")),
            token: None,
            maintained: BTreeSet::new(),
        }
    }

    /// A Consul that denies by default, and a token in a file.
    pub async fn start_locked() -> Self {
        let mut rig = Self::start(Setup {
            acl: true,
            ..Setup::default()
        })
        .await;
        rig.give_token("first").await;
        rig
    }

    async fn give_token(&mut self, name: &str) {
        let token = self.consul.token(name, READ_ALL).await;
        self.write_token(&token);
        self.token = Some(token);
    }

    fn token_file(&self) -> PathBuf {
        self.directory.path().join("token")
    }

    fn write_token(&self, token: &str) {
        replace(&self.token_file(), &format!("{token}\n"));
    }

    pub fn config(&self) -> Config {
        Config {
            discovery: Duration::from_millis(100),
            poll: Duration::from_millis(200),
            timeout: Duration::from_secs(2),
            ..Config::new(vec![format!("http://{}", self.proxy.address())])
        }
    }

    /// The configuration of one who may read with `token`, in a file that later calls replace.
    pub fn with_token(&self, token: &str) -> Config {
        self.write_token(token);
        Config {
            token_file: Some(self.token_file()),
            ..self.config()
        }
    }

    pub fn observe(&self) -> Observed {
        Observed::start(Adapter::new(self.config()))
    }

    pub async fn deregister(&self, service: &str, port: u16) {
        let gone = json!({ "Node": node(port), "ServiceID": format!("{service}-{port}") });
        self.consul.put("/v1/catalog/deregister", &gone).await;
    }
}

impl Subject for Rig {
    type Registry = Adapter;

    fn registry(&self) -> Adapter {
        Adapter::new(self.config())
    }

    async fn put(&mut self, service: &str, instance: Instance) {
        if self.maintained.remove(&(service.to_owned(), instance.port)) {
            let check = json!({ "Node": node(instance.port), "CheckID": maintenance(service, instance.port) });
            self.consul.put("/v1/catalog/deregister", &check).await;
        }
        self.consul.register(&registration(service, instance)).await;
    }

    async fn remove(&mut self, service: &str, port: u16) {
        self.deregister(service, port).await;
    }

    async fn spoil(&mut self, service: &str) {
        let bad =
            json!({ "ID": format!("{service}-bad"), "Service": service, "Address": "nowhere.example", "Port": 80 });
        let registration = json!({ "Node": "bad", "Address": "127.0.0.1", "Service": bad });
        self.consul.register(&registration).await;
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
        let token = self
            .token
            .as_ref()
            .map(|_| format!("token_file: {}, ", self.token_file().display()));
        format!(
            "{{ consul: {{ endpoints: ['http://{}'], {}discovery: 100ms, poll: 200ms, timeout: 2s, reconcile: 1s }} }}",
            self.proxy.address(),
            token.unwrap_or_default()
        )
    }

    fn path(&self) -> &Proxy {
        &self.proxy
    }

    /// As an agent does it for the command line's `maint -enable`.
    async fn drain(&mut self, service: &str, instance: Instance) -> Fate {
        let mut maintained = registration(service, instance);
        let id = format!("{service}-{}", instance.port);
        let check = json!({ "CheckID": maintenance(service, instance.port), "Name": "Service Maintenance Mode",
            "Status": "critical", "Notes": "upgrade", "ServiceID": id });
        if let Some(checks) = maintained.get_mut("Checks").and_then(Value::as_array_mut) {
            checks.push(check);
        }
        self.consul.register(&maintained).await;
        self.maintained.insert((service.to_owned(), instance.port));
        Fate::Shown(Health::Draining)
    }

    /// Nobody renews its check, which is critical then; the agent keeps the instance.
    async fn put_mortal(&mut self, service: &str, instance: Instance) -> Fate {
        let weight = instance.weight as u32;
        let registration = json!({
            "ID": format!("{service}-mortal-{}", instance.port), "Name": service, "Address": "127.0.0.1",
            "Port": instance.port, "Weights": { "Passing": weight, "Warning": weight },
            "Check": { "TTL": "2s", "Status": "passing" },
        });
        self.consul.put("/v1/agent/service/register", &registration).await;
        Fate::Shown(Health::Unhealthy)
    }

    async fn stop(&mut self) {
        self.consul.kill();
    }

    async fn start_again(&mut self, data: Data) {
        let data = match data {
            Data::Kept => consul::Data::Kept,
            Data::Lost => consul::Data::Lost,
        };
        self.consul.restart(data).await;
    }
}

impl Locked for Rig {
    async fn lock_out(&mut self) {
        if let Some(token) = self.token.take() {
            self.consul.revoke(&token).await;
        }
    }

    async fn let_in(&mut self) {
        self.give_token("second").await;
    }
}

fn maintenance(service: &str, port: u16) -> String {
    format!("_service_maintenance:{service}-{port}")
}

/// Each instance on a node of its own, as if every machine had one.
fn node(port: u16) -> String {
    format!("node-{port}")
}

pub fn registration(service: &str, instance: Instance) -> Value {
    let Instance { port, weight, health } = instance;
    let id = format!("{service}-{port}");
    let status = match health {
        Health::Unknown | Health::Healthy => "passing",
        Health::Degraded => "warning",
        Health::Draining | Health::Unhealthy => "critical",
    };
    let weight = weight as u32;
    json!({
        "Node": node(port), "Address": "127.0.0.1",
        "Service": { "ID": id, "Service": service, "Port": port, "Weights": { "Passing": weight, "Warning": weight } },
        "Checks": [{ "CheckID": format!("service:{id}"), "Name": "ttl", "Status": status, "ServiceID": id }],
    })
}

pub fn resyncs(observed: &Observed) -> usize {
    let notes = observed.heard().notes;
    notes.iter().filter(|note| matches!(note, Note::Resync { .. })).count()
}

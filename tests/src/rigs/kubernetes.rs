//! A Kubernetes behind a proxy that breaks on request, as a subject of the suites.
//!
//! Instances listen on loopback addresses, which an API server refuses in slices, though it serves them: so the rig writes
//! where the API server keeps its objects, as the API server would. Objects that it takes are written through it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use etcd_client::Client;
use leadsman_core::model::Health;
use leadsman_registry::kubernetes::{Config, Kubernetes as Adapter, Naming};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::contract::Subject;
use crate::instance::Instance;
use crate::judged::{self, Fate, Judged, Locked};
use crate::kubernetes::{ADMIN, Api, Data, Kubernetes, Setup, slices};
use crate::leadsman::replace;
use crate::observed::{Note, Observed};
use crate::proxy::Proxy;
use crate::wait::{PATIENT, until_ok};

/// The service account of a locked rig.
const ACCOUNT: &str = "leadsman";

/// How long a mortal instance is ready.
const MORTAL: Duration = Duration::from_secs(2);

/// A namespace of a cluster, and a proxy in front of the cluster.
pub struct Rig {
    pub server: Arc<Kubernetes>,
    pub api: Api,
    pub proxy: Proxy,
    pub namespace: String,
    store: Client,
    /// The identities of the slices, by name: an object that is written again is the same.
    uids: BTreeMap<String, String>,
    /// Stands for the controllers that would notice a dead pod.
    controllers: JoinSet<()>,
    directory: TempDir,
    locked: bool,
}

impl fmt::Debug for Rig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rig")
            .field("server", &self.server)
            .field("namespace", &self.namespace)
            .finish_non_exhaustive()
    }
}

impl Rig {
    /// A namespace of its own in the shared cluster.
    pub async fn start() -> Self {
        Self::on(Kubernetes::shared().await).await
    }

    /// A cluster of its own, which may be broken.
    pub async fn start_own(setup: Setup) -> Self {
        Self::on(Arc::new(Kubernetes::start(setup).await)).await
    }

    /// A cluster of its own that only tells a service account.
    pub async fn start_locked() -> Self {
        let setup = Setup {
            rbac: true,
            ..Setup::default()
        };
        let mut rig = Self::start_own(setup).await;
        rig.locked = true;
        rig.open_account().await;
        rig
    }

    async fn on(server: Arc<Kubernetes>) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let namespace = format!("test-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let directory = TempDir::new().unwrap_or_else(|error| panic!("no directory: {error}"));
        let etcd = server.etcd.address().to_string();
        let store = until_ok(PATIENT, "a client of etcd", async || {
            Client::connect([&etcd], None).await
        })
        .await;
        let rig = Self {
            proxy: Proxy::start(server.address()).await,
            api: server.api(),
            namespace,
            store,
            uids: BTreeMap::new(),
            controllers: JoinSet::new(),
            directory,
            locked: false,
            server,
        };
        rig.write_token(ADMIN);
        rig.create_namespace().await;
        rig
    }

    /// The cluster, to break it.
    ///
    /// # Panics
    /// When others use it, too.
    pub fn cluster(&mut self) -> &mut Kubernetes {
        Arc::get_mut(&mut self.server).unwrap_or_else(|| panic!("the cluster is shared"))
    }

    pub fn token_file(&self) -> PathBuf {
        self.directory.path().join("token")
    }

    /// Whose rights the adapter has from the next request on.
    pub fn write_token(&self, token: &str) {
        replace(&self.token_file(), &format!("{token}\n"));
    }

    /// A file beside the token.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let file = self.directory.path().join(name);
        replace(&file, text);
        file
    }

    pub fn url(&self) -> String {
        format!("https://{}", self.proxy.address())
    }

    pub fn config(&self) -> Config {
        let tls = leadsman_registry::Tls {
            ca: Some(self.server.file("ca.pem")),
            ..leadsman_registry::Tls::default()
        };
        Config {
            server: Some(self.url()),
            token_file: Some(self.token_file()),
            tls: Some(tls),
            namespaces: vec![self.namespace.clone()],
            service_name: Naming::Name,
            watch_timeout: Duration::from_secs(4),
            ..Config::default()
        }
    }

    pub fn observe(&self) -> Observed {
        Observed::start(Adapter::new(self.config()))
    }

    /// Writes a slice where the API server keeps it.
    ///
    /// # Panics
    /// When etcd refuses.
    pub async fn store(&mut self, name: &str, service: &str, fields: &Value) {
        let object = self.object(name, service, fields);
        let key = self.key(name);
        let put = self.store.put(key, object.to_string(), None).await;
        assert!(put.is_ok(), "can't store {name}: {put:?}");
    }

    async fn create_namespace(&self) {
        let namespace = json!({ "metadata": { "name": self.namespace } });
        self.api.create("/api/v1/namespaces", &namespace).await;
    }

    /// An object as the API server stores it.
    fn object(&mut self, name: &str, service: &str, fields: &Value) -> Value {
        let uid = self
            .uids
            .entry(name.to_owned())
            .or_insert_with(|| format!("{:032x}", fastrand::u128(..)));
        let mut object = json!({ "kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1", "addressType": "IPv4",
            "metadata": { "name": name, "namespace": self.namespace, "uid": uid, "generation": 1,
                "creationTimestamp": "2026-11-20T18:37:04Z",
                "labels": { "kubernetes.io/service-name": service,
                    "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io" } } });
        for (key, value) in fields.as_object().into_iter().flatten() {
            object[key] = value.clone();
        }
        object
    }

    fn key(&self, name: &str) -> String {
        format!("/registry/endpointslices/{}/{name}", self.namespace)
    }

    /// Creates the account, lets it read, and gives its token to the adapter.
    async fn open_account(&self) {
        let accounts = format!("/api/v1/namespaces/{}/serviceaccounts", self.namespace);
        self.api
            .create(&accounts, &json!({ "metadata": { "name": ACCOUNT } }))
            .await;
        let user = json!({ "kind": "ServiceAccount", "name": ACCOUNT, "namespace": self.namespace });
        self.api.allow(&self.namespace, &user).await;
        self.write_token(&self.api.token(&self.namespace, ACCOUNT).await);
    }
}

impl Subject for Rig {
    type Registry = Adapter;

    fn registry(&self) -> Adapter {
        Adapter::new(self.config())
    }

    /// Each instance has a slice of its own, because a slice has its ports for all of its endpoints.
    async fn put(&mut self, service: &str, instance: Instance) {
        self.store(&format!("{service}-{}", instance.port), service, &fields(instance))
            .await;
    }

    async fn remove(&mut self, service: &str, port: u16) {
        let name = format!("{service}-{port}");
        self.uids.remove(&name);
        let deleted = self.store.delete(self.key(&name), None).await;
        assert!(deleted.is_ok(), "can't delete {name}: {deleted:?}");
    }

    async fn spoil(&mut self, service: &str) {
        let bad = json!({ "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "FQDN",
            "metadata": { "name": format!("{service}-bad"), "labels": { "kubernetes.io/service-name": service } },
            "ports": [{ "name": "", "port": 80 }], "endpoints": [{ "addresses": ["nowhere.example"] }] });
        self.api.create(&slices(&self.namespace), &bad).await;
    }

    async fn lose(&mut self) {
        self.proxy.sever();
    }

    async fn heal(&mut self) {
        self.proxy.heal();
    }

    /// There are no weights, and nothing between ready and not ready.
    fn express(&self, instance: Instance) -> Instance {
        let health = match instance.health {
            Health::Unknown | Health::Healthy | Health::Degraded => Health::Healthy,
            Health::Draining => Health::Draining,
            Health::Unhealthy => Health::Unhealthy,
        };
        instance.weighing(1.0).being(health)
    }
}

impl Judged for Rig {
    fn source(&self) -> String {
        format!(
            "{{ kubernetes: {{ server: '{}', token_file: {}, tls: {{ ca: {} }}, namespaces: [{}], service_name: name, \
             watch_timeout: 5s, reconcile: 1s }} }}",
            self.url(),
            self.token_file().display(),
            self.server.file("ca.pem").display(),
            self.namespace
        )
    }

    fn path(&self) -> &Proxy {
        &self.proxy
    }

    async fn drain(&mut self, service: &str, instance: Instance) -> Fate {
        self.put(service, instance.being(Health::Draining)).await;
        Fate::Shown(Health::Draining)
    }

    /// Its node goes silent, and the node controller says that it is not ready.
    async fn put_mortal(&mut self, service: &str, instance: Instance) -> Fate {
        self.put(service, instance).await;
        let name = format!("{service}-{}", instance.port);
        let object = self.object(&name, service, &fields(instance.being(Health::Unhealthy)));
        let (key, mut store) = (self.key(&name), self.store.clone());
        self.controllers.spawn(async move {
            tokio::time::sleep(MORTAL).await;
            let put = store.put(key, object.to_string(), None).await;
            assert!(put.is_ok(), "can't store {name}: {put:?}");
        });
        Fate::Shown(Health::Unhealthy)
    }

    async fn stop(&mut self) {
        let cluster = self.cluster();
        cluster.kill();
        cluster.etcd.kill();
    }

    async fn start_again(&mut self, data: judged::Data) {
        let cluster = self.cluster();
        cluster.etcd.restart(crate::etcd::Data::Kept).await;
        match data {
            judged::Data::Kept => cluster.restart(Data::Kept).await,
            judged::Data::Lost => {
                cluster.restart(Data::Lost).await;
                self.uids.clear();
                self.create_namespace().await;
                if self.locked {
                    self.open_account().await;
                }
            }
        }
    }
}

impl Locked for Rig {
    /// Nobody has the account's token any more; the server takes ten seconds to notice.
    async fn lock_out(&mut self) {
        let account = format!("/api/v1/namespaces/{}/serviceaccounts/{ACCOUNT}", self.namespace);
        self.api.delete(&account).await;
        self.api.disallow(&self.namespace).await;
        self.proxy.cut();
    }

    async fn let_in(&mut self) {
        self.open_account().await;
    }
}

/// What a slice says about an instance.
pub fn fields(instance: Instance) -> Value {
    let Instance { port, health, .. } = instance;
    json!({ "ports": [{ "name": "", "protocol": "TCP", "port": port }],
        "endpoints": [{ "addresses": ["127.0.0.1"], "conditions": conditions(health) }] })
}

/// What an endpoint's health is in the words of Kubernetes.
pub fn conditions(health: Health) -> Value {
    let (ready, serving, terminating) = match health {
        Health::Unknown | Health::Healthy | Health::Degraded => (true, true, false),
        Health::Draining => (false, true, true),
        Health::Unhealthy => (false, false, false),
    };
    json!({ "ready": ready, "serving": serving, "terminating": terminating })
}

pub fn resyncs(observed: &Observed) -> usize {
    let notes = observed.heard().notes;
    notes.iter().filter(|note| matches!(note, Note::Resync { .. })).count()
}

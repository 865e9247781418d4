//! A Nacos behind two proxies that break on request, one for HTTP and one for gRPC, as a subject of the suites.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use leadsman_core::model::{Evidence, Health};
use leadsman_registry::nacos::{Config, Nacos as Adapter, Protocol};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::contract::Subject;
use crate::instance::Instance;
use crate::judged::{Data, Fate, Judged, Locked};
use crate::leadsman::replace;
use crate::nacos::{Nacos, Setup, Version, Writer, record, shared};
use crate::observed::{Note, Observed};
use crate::proxy::Proxy;

/// The group of everything, unless a test says otherwise.
pub const GROUP: &str = "DEFAULT_GROUP";

/// A namespace of a server, two proxies in front of it, and nothing in between that the test does not control.
#[derive(Debug)]
pub struct Rig {
    /// Where the server belongs to the test alone.
    pub own: Option<Nacos>,
    pub writer: Writer,
    pub http: Proxy,
    pub grpc: Proxy,
    protocol: Protocol,
    user: Option<(String, TempDir)>,
    /// What clients that live would register again.
    registered: BTreeMap<(String, u16), Value>,
}

impl Rig {
    /// A namespace of its own in the server that all tests share.
    pub async fn start(version: Version, protocol: Protocol) -> Self {
        let nacos = shared(version).await;
        let mut rig = Self::around(nacos, protocol).await;
        if version == Version::V25 {
            let name = format!("reader-of-{}", rig.writer.namespace);
            rig.writer.make_reader(&name, "first").await;
            let directory = TempDir::new().unwrap_or_else(|error| panic!("no directory: {error}"));
            rig.user = Some((name, directory));
            rig.write_password("first");
        }
        rig
    }

    /// A server that can be killed.
    pub async fn start_own(setup: Setup, protocol: Protocol) -> Self {
        let nacos = Nacos::start(setup).await;
        let mut rig = Self::around(&nacos, protocol).await;
        rig.own = Some(nacos);
        rig
    }

    async fn around(nacos: &Nacos, protocol: Protocol) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let namespace = format!("t{}-{number}", std::process::id());
        Self {
            own: None,
            writer: nacos.writer(&namespace).await,
            http: Proxy::start(nacos.address()).await,
            grpc: Proxy::start(nacos.grpc_address()).await,
            protocol,
            user: None,
            registered: BTreeMap::new(),
        }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.http.address())
    }

    /// Quick enough that no test waits for it.
    pub fn config(&self) -> Config {
        Config {
            protocol: self.protocol,
            namespace: self.writer.namespace.clone(),
            username: self.user.as_ref().map(|(name, _)| name.clone()),
            password_file: self.password_file(),
            discovery: Duration::from_millis(100),
            poll: Duration::from_millis(100),
            settle: Duration::from_millis(500),
            grpc_port_offset: self.grpc_port_offset(),
            ..Config::new(vec![self.url()])
        }
    }

    fn grpc_port_offset(&self) -> i32 {
        i32::from(self.grpc.address().port()) - i32::from(self.http.address().port())
    }

    pub fn password_file(&self) -> Option<PathBuf> {
        self.user
            .as_ref()
            .map(|(_, directory)| directory.path().join("password"))
    }

    pub fn write_password(&self, password: &str) {
        if let Some(file) = self.password_file() {
            replace(&file, &format!("{password}\n"));
        }
    }

    /// Lets the password in the file be another one than that of the reader.
    pub async fn change_password(&self, password: &str) {
        if let Some((name, _)) = &self.user {
            self.writer.change_password(name, password).await;
        }
    }

    pub fn observe(&self) -> Observed {
        Observed::start(Adapter::new(self.config()))
    }

    /// The server that a test kills and pauses.
    ///
    /// # Panics
    /// When it is the one that all share.
    pub fn own(&mut self) -> &mut Nacos {
        self.own
            .as_mut()
            .unwrap_or_else(|| panic!("this server is everybody's"))
    }

    /// Ends every connection.
    pub fn sever(&self) {
        self.http.sever();
        self.grpc.sever();
    }

    async fn register(&mut self, service: &str, record: Value) {
        self.writer.register(GROUP, service, &record).await;
        let port = record["port"].as_u64().and_then(|port| u16::try_from(port).ok());
        self.registered
            .insert((service.to_owned(), port.unwrap_or_default()), record);
    }
}

impl Subject for Rig {
    type Registry = Adapter;

    fn registry(&self) -> Adapter {
        Adapter::new(self.config())
    }

    async fn put(&mut self, service: &str, instance: Instance) {
        self.register(service, record(instance)).await;
    }

    async fn remove(&mut self, service: &str, port: u16) {
        self.registered.remove(&(service.to_owned(), port));
        self.writer.deregister(GROUP, service, port).await;
    }

    async fn spoil(&mut self, service: &str) {
        let record = json!({ "ip": "nowhere.example", "port": 9999 });
        self.writer.register(GROUP, service, &record).await;
    }

    async fn lose(&mut self) {
        self.sever();
    }

    async fn heal(&mut self) {
        self.http.heal();
        self.grpc.heal();
    }

    fn express(&self, instance: Instance) -> Instance {
        match instance.health {
            Health::Draining => instance.weighing(0.0).being(Health::Healthy),
            Health::Unhealthy => instance,
            Health::Unknown | Health::Healthy | Health::Degraded => instance.being(Health::Healthy),
        }
    }
}

impl Judged for Rig {
    fn source(&self) -> String {
        let login = self.user.as_ref().zip(self.password_file());
        let login = login.map(|((name, _), file)| format!("username: {name}, password_file: {}, ", file.display()));
        format!(
            "{{ nacos: {{ endpoints: ['{}'], namespace: {}, protocol: {}, grpc_port_offset: {}, {}discovery: 100ms, \
             poll: 100ms, reconcile: 1s, settle: 500ms }} }}",
            self.url(),
            self.writer.namespace,
            match self.protocol {
                Protocol::Grpc => "grpc",
                Protocol::Http => "http",
            },
            self.grpc_port_offset(),
            login.unwrap_or_default(),
        )
    }

    fn path(&self) -> &Proxy {
        match self.protocol {
            Protocol::Grpc => &self.grpc,
            Protocol::Http => &self.http,
        }
    }

    /// By weight: what is disabled, Nacos does not show at all.
    async fn drain(&mut self, service: &str, instance: Instance) -> Fate {
        self.put(service, instance.being(Health::Draining)).await;
        Fate::Shown(Health::Draining)
    }

    async fn put_mortal(&mut self, service: &str, instance: Instance) -> Fate {
        let mut record = record(instance);
        record["metadata"] = json!({
            "preserved.heart.beat.interval": "1000", "preserved.heart.beat.timeout": "2000",
            "preserved.ip.delete.timeout": "3000",
        });
        self.writer.register(GROUP, service, &record).await;
        Fate::Gone
    }

    async fn stop(&mut self) {
        self.own().kill();
    }

    /// What is kept in the memory of the server is lost with it, and registered again by clients that live.
    async fn start_again(&mut self, data: Data) {
        self.own().restart().await;
        match data {
            Data::Lost => self.registered.clear(),
            Data::Kept => {
                for ((service, _), record) in self.registered.clone() {
                    self.writer.register(GROUP, &service, &record).await;
                }
            }
        }
    }
}

impl Locked for Rig {
    async fn lock_out(&mut self) {
        self.change_password("second").await;
        self.grpc.cut();
        self.http.cut();
    }

    async fn let_in(&mut self) {
        self.write_password("second");
    }
}

/// The listings since the start: how many services, and how far to be believed.
pub fn resyncs(observed: &Observed) -> Vec<(usize, Evidence)> {
    let listing = |note| match note {
        Note::Resync { services, evidence, .. } => Some((services, evidence)),
        Note::Apply(_) | Note::Delete(_) | Note::Reconciled { .. } | Note::Impaired(_) => None,
    };
    observed.heard().notes.into_iter().filter_map(listing).collect()
}

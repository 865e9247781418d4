//! The built-in registry as a subject of the suites, with either of its stores.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use http::Method;
use leadsman_core::model::Health;
use leadsman_registry::own::{self, Config, Own, Store};
use leadsman_registry::{SourceState, etcd as adapter};
use serde_json::{Value, json};
use tempfile::TempDir;
use xxhash_rust::xxh3::xxh3_64;

use crate::contract::Subject;
use crate::etcd::{self, Etcd, ROOT, ROOT_PASSWORD, Version};
use crate::instance::{Instance, PREFIX};
use crate::judged::{Data, Fate, Judged, Locked};
use crate::leadsman::replace;
use crate::observed::Observed;
use crate::process::free_port;
use crate::proxy::Proxy;
use crate::registrar::{LASTING, Registrar, path};
use crate::wait::{PATIENT, until};

/// The shortest lease there is.
const MORTAL: u32 = 1;
/// The user who reads for the adapter.
const READER: &str = "reader";

/// A registry in a directory. The adapter is the registry; what can be taken away from it is its store.
#[derive(Debug)]
pub struct Embedded {
    directory: TempDir,
    listen: SocketAddr,
    /// Between those who register and the registry.
    proxy: Proxy,
    registrar: Registrar,
    /// Whether somebody serves on our behalf. Before that, each change is made by a life of the registry of its own.
    begun: AtomicBool,
    lost: bool,
    /// What was to be done while the store was lost: clients come again.
    waiting: Vec<(Method, String, Option<Value>)>,
}

impl Embedded {
    pub async fn start() -> Self {
        let directory = TempDir::new().unwrap_or_else(|error| panic!("no directory: {error}"));
        let listen = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let proxy = Proxy::start(listen).await;
        Self {
            registrar: Registrar::new(proxy.address()),
            directory,
            listen,
            proxy,
            begun: AtomicBool::new(false),
            lost: false,
            waiting: Vec::new(),
        }
    }

    pub fn config(&self) -> Config {
        Config::new(self.listen, Store::embedded(own::Embedded::new(self.store())))
    }

    /// Where its clients reach it.
    pub fn registrar(&self) -> &Registrar {
        &self.registrar
    }

    /// The directory of the store.
    pub fn store(&self) -> PathBuf {
        self.directory.path().join("registry")
    }

    fn aside(&self) -> PathBuf {
        self.directory.path().join("aside")
    }

    /// Runs the adapter under observation.
    pub fn observe(&self) -> Observed {
        Observed::start(self.registry())
    }

    /// The newest file of the store.
    ///
    /// # Panics
    /// When there is none.
    pub fn file(&self) -> PathBuf {
        newest(&self.store())
    }

    /// Ends what [`Embedded::observe`] began, and waits until the store is free.
    pub async fn end(&self, observed: Observed) {
        drop(observed);
        let lock = self.store().join("lock");
        until(PATIENT, "the store to be free", async || {
            File::open(&lock).is_ok_and(|lock| lock.try_lock().is_ok())
                && std::net::TcpListener::bind(self.listen).is_ok()
        })
        .await;
    }

    async fn change(&mut self, method: Method, path: String, body: Option<Value>) {
        if self.lost {
            self.waiting.push((method, path, body));
            return;
        }
        if self.begun.load(Ordering::SeqCst) {
            self.make(method, &path, body).await;
            return;
        }
        let life = Observed::start(Own::new(self.config()));
        self.make(method, &path, body).await;
        self.end(life).await;
    }

    async fn make(&self, method: Method, path: &str, body: Option<Value>) {
        let is_registration = method == Method::PUT && body.is_some();
        let receipt = self.registrar.insist(method, path, body).await;
        if is_registration && receipt["draining"] == json!(true) {
            self.registrar
                .insist(Method::DELETE, &format!("{path}/draining"), None)
                .await;
        }
    }
}

impl Subject for Embedded {
    type Registry = Own;

    fn registry(&self) -> Own {
        self.begun.store(true, Ordering::SeqCst);
        Own::new(self.config())
    }

    async fn put(&mut self, service: &str, instance: Instance) {
        let body = crate::registrar::body(instance, LASTING);
        self.change(Method::PUT, path(service, instance.port), Some(body)).await;
    }

    async fn remove(&mut self, service: &str, port: u16) {
        self.change(Method::DELETE, path(service, port), None).await;
    }

    /// The API takes no bad record, so this one was written by a later program, or by hand.
    async fn spoil(&mut self, service: &str) {
        let endpoint = json!({ "address": "nowhere.example", "port": 80 });
        append(&self.file(), service, &endpoint);
    }

    async fn lose(&mut self) {
        self.lost = true;
        let moved = fs::rename(self.store(), self.aside()).and_then(|()| fs::write(self.store(), ""));
        assert!(moved.is_ok(), "can't take the store away: {moved:?}");
    }

    async fn heal(&mut self) {
        self.lost = false;
        let moved = fs::remove_file(self.store()).and_then(|()| fs::rename(self.aside(), self.store()));
        assert!(moved.is_ok(), "can't give the store back: {moved:?}");
        for (method, path, body) in std::mem::take(&mut self.waiting) {
            self.make(method, &path, body).await;
        }
    }
}

impl Judged for Embedded {
    fn source(&self) -> String {
        self.begun.store(true, Ordering::SeqCst);
        format!(
            "{{ registry: {{ listen: '{}', store: {{ embedded: {{ path: '{}', reconcile: 1s }} }} }} }}",
            self.listen,
            self.store().display()
        )
    }

    fn path(&self) -> &Proxy {
        &self.proxy
    }

    async fn drain(&mut self, service: &str, instance: Instance) -> Fate {
        self.registrar.drain(service, instance.port).await;
        Fate::Shown(Health::Draining)
    }

    async fn put_mortal(&mut self, service: &str, instance: Instance) -> Fate {
        self.registrar.put(service, instance, MORTAL).await;
        Fate::Gone
    }

    async fn stop(&mut self) {
        self.lose().await;
    }

    async fn start_again(&mut self, data: Data) {
        if data == Data::Lost {
            let emptied = fs::remove_dir_all(self.aside()).and_then(|()| fs::create_dir(self.aside()));
            assert!(emptied.is_ok(), "can't empty the store: {emptied:?}");
        }
        self.heal().await;
    }
}

/// Two replicas that share an etcd: one reads it through a proxy, at the other instances register.
#[derive(Debug)]
pub struct Shared {
    pub etcd: Etcd,
    /// Between the adapter and etcd.
    pub proxy: Proxy,
    /// Where the adapter itself listens.
    pub listen: SocketAddr,
    registrar: Registrar,
    passwords: Option<TempDir>,
    _other: Observed,
}

impl Shared {
    pub async fn start(version: Version) -> Self {
        let etcd = Etcd::start(version).await;
        Self::of(etcd, None).await
    }

    /// An etcd that only tells who has a password.
    pub async fn start_locked(version: Version) -> Self {
        let mut etcd = Etcd::start(version).await;
        etcd.enable_auth(READER, "first", PREFIX).await;
        let passwords = TempDir::new().unwrap_or_else(|error| panic!("no directory: {error}"));
        replace(&passwords.path().join(READER), "first");
        replace(&passwords.path().join(ROOT), ROOT_PASSWORD);
        Self::of(etcd, Some(passwords)).await
    }

    async fn of(etcd: Etcd, passwords: Option<TempDir>) -> Self {
        let proxy = Proxy::start(etcd.address()).await;
        let local = || SocketAddr::from(([127, 0, 0, 1], free_port()));
        let (listen, beside) = (local(), local());
        let root = passwords.as_ref().map(|passwords| (ROOT, passwords.path().join(ROOT)));
        let other = Own::new(Config::new(beside, Store::etcd(store(etcd.address(), root))));
        let other = Observed::start(other);
        other.enters(&[SourceState::Live]).await;
        Self {
            etcd,
            proxy,
            listen,
            registrar: Registrar::new(beside),
            passwords,
            _other: other,
        }
    }

    pub fn config(&self) -> Config {
        let file = self.passwords.as_ref().map(|passwords| passwords.path().join(READER));
        let login = file.map(|file| (READER, file));
        Config::new(self.listen, Store::etcd(store(self.proxy.address(), login)))
    }

    /// Where instances register.
    pub fn registrar(&self) -> &Registrar {
        &self.registrar
    }

    pub fn observe(&self) -> Observed {
        Observed::start(self.registry())
    }
}

fn store(address: SocketAddr, login: Option<(&str, PathBuf)>) -> adapter::Config {
    let (username, password_file) = login.unzip();
    adapter::Config {
        username: username.map(str::to_owned),
        password_file,
        ..adapter::Config::new(vec![format!("http://{address}")], PREFIX)
    }
}

impl Subject for Shared {
    type Registry = Own;

    fn registry(&self) -> Own {
        Own::new(self.config())
    }

    async fn put(&mut self, service: &str, instance: Instance) {
        self.registrar.put(service, instance, LASTING).await;
    }

    async fn remove(&mut self, service: &str, port: u16) {
        self.registrar.remove(service, port).await;
    }

    /// The API takes no bad record, so this one was written by somebody else.
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

impl Judged for Shared {
    fn source(&self) -> String {
        let file = self.passwords.as_ref().map(|passwords| passwords.path().join(READER));
        let login = file.map(|file| format!("username: {READER}, password_file: '{}', ", file.display()));
        format!(
            "{{ registry: {{ listen: '{}', store: {{ etcd: {{ endpoints: ['http://{}'], prefix: {PREFIX}, {}reconcile: 1s }} }} }} }}",
            self.listen,
            self.proxy.address(),
            login.unwrap_or_default()
        )
    }

    fn path(&self) -> &Proxy {
        &self.proxy
    }

    async fn drain(&mut self, service: &str, instance: Instance) -> Fate {
        self.registrar.drain(service, instance.port).await;
        Fate::Shown(Health::Draining)
    }

    async fn put_mortal(&mut self, service: &str, instance: Instance) -> Fate {
        self.registrar.put(service, instance, MORTAL).await;
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

impl Locked for Shared {
    async fn lock_out(&mut self) {
        self.etcd.change_password(READER, "second").await;
        self.proxy.cut();
    }

    async fn let_in(&mut self) {
        if let Some(passwords) = &self.passwords {
            replace(&passwords.path().join(READER), "second");
        }
    }
}

/// The newest file of a store.
///
/// # Panics
/// When there is none.
pub fn newest(store: &Path) -> PathBuf {
    let files = fs::read_dir(store).into_iter().flatten().flatten();
    let states = files.map(|file| file.path()).filter(|path| {
        path.file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with("state-"))
    });
    states.max().unwrap_or_else(|| panic!("no file in {}", store.display()))
}

/// Appends a whole line to a file of the store that nobody has open: an instance with the id `bad`.
fn append(file: &Path, service: &str, endpoint: &Value) {
    let text = fs::read_to_string(file).unwrap_or_default();
    let revisions = text.lines().filter_map(|line| {
        let line: Value = serde_json::from_str(line.get(17..)?).ok()?;
        let revision = |path: &str| line.pointer(path).and_then(Value::as_u64);
        revision("/put/held/version")
            .or_else(|| revision("/end/revision"))
            .or_else(|| revision("/head/revision"))
    });
    let held = json!({
        "version": revisions.max().unwrap_or_default() + 1, "lease": "00000000000000ff", "holder": "",
        "ttl_seconds": LASTING, "draining": false, "endpoint": endpoint,
    });
    let line = json!({ "put": { "service": service, "id": "bad", "held": held } }).to_string();
    let line = format!("{:016x} {line}\n", xxh3_64(line.as_bytes()));
    let written = fs::write(file, text + &line);
    assert!(written.is_ok(), "can't spoil {}: {written:?}", file.display());
}

//! A BIND behind proxies that break on request, as a subject of the registry contract.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use leadsman_core::model::{Evidence, Health};
use leadsman_registry::dns::{Config, Dns as Adapter, Entry, Records, Transport};

use crate::contract::Subject;
use crate::datagrams::Datagrams;
use crate::dns::{self, Change, Dnsmasq, Named, Setup, ZONE};
use crate::instance::Instance;
use crate::judged::{Data, Fate, Judged};
use crate::observed::{Note, Observed};
use crate::proxy::Proxy;

/// The names that a source of the contract suite asks for.
const SERVICES: [&str; 4] = ["orders", "users", "foo", "foobar"];
/// Those of the suite that judges by an Envoy.
const JUDGED: [&str; 11] = [
    "living", "steady", "lost", "s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7",
];

/// A BIND, proxies in front of it, and nothing in between that the test does not control.
#[derive(Debug)]
pub struct Rig {
    pub named: Named,
    /// For TCP.
    pub proxy: Proxy,
    /// For UDP, on the same port.
    pub datagrams: Datagrams,
    /// Between the proxies and BIND, where one is wanted.
    pub forwarder: Option<Dnsmasq>,
    transport: Transport,
    /// The SRV records as they are, by service and port.
    records: BTreeMap<(String, u16), String>,
}

impl Rig {
    pub async fn start(transport: Transport) -> Self {
        Self::start_with(transport, Setup::default()).await
    }

    pub async fn start_with(transport: Transport, setup: Setup) -> Self {
        let named = Named::start_with(setup).await;
        Self::around(named, None, transport).await
    }

    /// A BIND behind a dnsmasq, which has no authority and remembers what it heard.
    pub async fn start_behind_a_forwarder() -> Self {
        let named = Named::start().await;
        let upstream = format!("--server=/leadsman.test/127.0.0.1#{}", named.address().port());
        let forwarder = Dnsmasq::start(&[&upstream]).await;
        Self::around(named, Some(forwarder), Transport::Auto).await
    }

    async fn around(named: Named, forwarder: Option<Dnsmasq>, transport: Transport) -> Self {
        let upstream = forwarder.as_ref().map_or_else(|| named.address(), Dnsmasq::address);
        let proxy = Proxy::start(upstream).await;
        let datagrams = Datagrams::start(proxy.address(), upstream).await;
        Self {
            named,
            proxy,
            datagrams,
            forwarder,
            transport,
            records: BTreeMap::new(),
        }
    }

    /// Asks for SRV records, and so often that no test waits for it.
    pub fn config(&self) -> Config {
        let names = SERVICES
            .iter()
            .map(|service| ((*service).to_owned(), srv(&name(service))));
        Config {
            transport: self.transport,
            ..quick(names.collect(), &[self.proxy.address()])
        }
    }

    pub fn observe(&self) -> Observed {
        Observed::start(Adapter::new(self.config()))
    }

    /// The same for names of the test's own.
    pub fn config_of(&self, names: &[(&str, Entry)]) -> Config {
        let names = names
            .iter()
            .map(|(service, entry)| ((*service).to_owned(), entry.clone()));
        Config {
            names: names.collect(),
            ..self.config()
        }
    }

    /// Changes the zone.
    pub async fn update(&self, changes: &[Change]) {
        self.named.update(changes).await;
    }

    /// Adds records, `name ttl type data`, to the zone.
    pub async fn add(&self, records: &[&str]) {
        let changes: Vec<Change> = records.iter().map(|record| Change::Add((*record).to_owned())).collect();
        self.update(&changes).await;
    }

    /// Removes records, `name type data`.
    pub async fn delete(&self, records: &[&str]) {
        let changes: Vec<Change> = records
            .iter()
            .map(|record| Change::Remove((*record).to_owned()))
            .collect();
        self.update(&changes).await;
    }
}

impl Subject for Rig {
    type Registry = Adapter;

    fn registry(&self) -> Adapter {
        Adapter::new(self.config())
    }

    async fn put(&mut self, service: &str, instance: Instance) {
        let Instance { port, weight, .. } = instance;
        let host = host(service, port);
        let record = format!("0 {weight} {port} {host}");
        let former = self.records.insert((service.to_owned(), port), record.clone());
        let changed = former.filter(|former| *former != record);
        let mut changes: Vec<Change> = changed
            .map(|former| Change::Remove(format!("{} SRV {former}", name(service))))
            .into_iter()
            .collect();
        changes.push(Change::Add(format!("{} 0 SRV {record}", name(service))));
        changes.push(Change::Add(format!("{host} 0 A 127.0.0.1")));
        self.update(&changes).await;
    }

    async fn remove(&mut self, service: &str, port: u16) {
        let Some(record) = self.records.remove(&(service.to_owned(), port)) else {
            return;
        };
        let changes = [
            Change::Remove(format!("{} SRV {record}", name(service))),
            Change::RemoveAll(format!("{} A", host(service, port))),
        ];
        self.update(&changes).await;
    }

    async fn spoil(&mut self, service: &str) {
        self.add(&[&format!("{} 0 SRV 0 10 9999 nowhere.{ZONE}", name(service))])
            .await;
    }

    async fn lose(&mut self) {
        self.datagrams.sever();
        self.proxy.sever();
    }

    async fn heal(&mut self) {
        self.datagrams.heal();
        self.proxy.heal();
    }

    /// DNS has weights, and nothing to say about health.
    fn express(&self, instance: Instance) -> Instance {
        instance.being(Health::Unknown)
    }
}

impl Judged for Rig {
    fn source(&self) -> String {
        let names = JUDGED
            .iter()
            .map(|service| format!("{service}: {{ name: '{}' }}", name(service)));
        let names: Vec<String> = names.collect();
        let transport = match self.transport {
            Transport::Auto => "auto",
            Transport::Tcp => "tcp",
        };
        format!(
            "{{ dns: {{ names: {{ {} }}, servers: ['{}'], transport: {transport}, min_ttl: 100ms, max_ttl: 1s, retry: 200ms }} }}",
            names.join(", "),
            self.proxy.address()
        )
    }

    fn path(&self) -> &Proxy {
        &self.proxy
    }

    /// There is no such thing: an instance is listed, or it is not.
    async fn drain(&mut self, service: &str, instance: Instance) -> Fate {
        self.remove(service, instance.port).await;
        Fate::Gone
    }

    /// Records live until somebody removes them.
    async fn put_mortal(&mut self, service: &str, instance: Instance) -> Fate {
        self.put(service, instance).await;
        Fate::Shown(self.express(instance).health)
    }

    async fn stop(&mut self) {
        self.named.kill();
    }

    async fn start_again(&mut self, data: Data) {
        let data = match data {
            Data::Kept => dns::Data::Kept,
            Data::Lost => {
                self.records.clear();
                dns::Data::Lost
            }
        };
        self.named.restart(data).await;
    }
}

/// A configuration that asks so often that no test waits for it.
pub fn quick(names: BTreeMap<String, Entry>, servers: &[SocketAddr]) -> Config {
    Config {
        servers: servers.iter().map(ToString::to_string).collect(),
        min_ttl: Duration::from_millis(50),
        retry: Duration::from_millis(100),
        ..Config::new(names)
    }
}

/// SRV records of a name.
pub fn srv(name: &str) -> Entry {
    Entry {
        name: name.to_owned(),
        kind: Records::Srv,
        port: None,
    }
}

/// The addresses of a name, with a port.
pub fn address(name: &str, port: u16) -> Entry {
    Entry {
        name: name.to_owned(),
        kind: Records::Address,
        port: Some(port),
    }
}

/// The instances of DNS-SD below a name.
pub fn dns_sd(name: &str) -> Entry {
    Entry {
        name: name.to_owned(),
        kind: Records::DnsSd,
        port: None,
    }
}

/// The name of a service.
pub fn name(service: &str) -> String {
    format!("_{service}._tcp.{ZONE}")
}

/// The host of an instance.
pub fn host(service: &str, port: u16) -> String {
    format!("{service}-{port}.{ZONE}")
}

/// The listings since the start: how many services, and how far to be believed.
pub fn resyncs(observed: &Observed) -> Vec<(usize, Evidence)> {
    let listing = |note| match note {
        Note::Resync { services, evidence, .. } => Some((services, evidence)),
        Note::Apply(_) | Note::Delete(_) | Note::Reconciled { .. } | Note::Impaired(_) => None,
    };
    observed.heard().notes.into_iter().filter_map(listing).collect()
}

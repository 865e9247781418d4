//! A registry with its services, the clients, and a server under test between them.

use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use etcd_client::{Client, GetOptions, Txn, TxnOp};
use leadsman_tests::etcd::{Etcd, Version};
use prost::Message;
use tokio::time::{Instant, sleep_until};

use crate::driver::{Driver, Knowledge, Ledger, Plan};
use crate::machine::now;
use crate::population::{Endpoints, Instance, PREFIX, Population, decode, name, read_record, without_revisions};
use crate::subject::{Kind, SERVERS, Subject};
use crate::wire::ads;

/// Keys of one page when the registry is read back.
const PAGE: i64 = 10_000;

#[derive(Debug)]
pub(crate) struct Lab {
    pub(crate) etcd: Etcd,
    pub(crate) driver: Driver,
    pub(crate) population: Population,
}

impl Lab {
    /// An etcd that knows the whole population.
    pub(crate) async fn open(population: Population) -> anyhow::Result<Self> {
        let etcd = Etcd::start_with(Version::V36, &["--quota-backend-bytes=8000000000"]).await;
        let records: Vec<(String, String)> = population.records(now()).collect();
        etcd.put_all(&records).await;
        Ok(Self {
            etcd,
            driver: Driver::start(population.names())?,
            population,
        })
    }

    pub(crate) async fn start(&self, kind: Kind) -> anyhow::Result<Subject> {
        Subject::start(kind, self.etcd.address(), self.population, &[]).await
    }

    pub(crate) fn plan(&self, subject: &Subject, clients: usize, names: usize) -> Plan {
        Plan {
            server: subject.address,
            clients,
            names: names.min(self.population.services),
            shared: true,
            knowledge: Knowledge::Nothing,
            slow: None,
            refusing: false,
        }
    }

    pub(crate) fn feed(&self, subject: &Subject) -> anyhow::Result<Feed> {
        Ok(Feed {
            ledger: Arc::clone(self.driver.ledger()),
            etcd: self.etcd.client(),
            control: subject.feed()?,
        })
    }

    /// Every client holds what the registry says, and nobody was ever given something older than it had.
    pub(crate) async fn check(&self, kind: Kind) -> anyhow::Result<()> {
        self.driver.quiet().await?;
        let (truth, report) = (self.driver.truth().await?, self.driver.report().await?);
        ensure!(truth.missing == 0, "{} names of clients have nothing", truth.missing);
        ensure!(
            truth.differing == 0,
            "{} names of clients differ from the newest",
            truth.differing
        );
        let backwards = report.stats.backwards;
        ensure!(
            backwards == 0,
            "{backwards} times something older came after something newer"
        );
        if !kind.reads_the_registry() {
            return Ok(());
        }
        let registry = self.registry().await?;
        for (content, (service, wanted)) in truth.contents.iter().zip(registry) {
            if !content.is_empty() {
                let held = decode(content)?;
                ensure!(
                    held == (service, wanted),
                    "clients hold another {} than the registry",
                    held.0
                );
            }
        }
        Ok(())
    }

    async fn registry(&self) -> anyhow::Result<Vec<(String, Endpoints)>> {
        let mut services: Vec<(String, Endpoints)> = self
            .population
            .names()
            .into_iter()
            .map(|name| (name, Endpoints::new()))
            .collect();
        let mut from = PREFIX.as_bytes().to_vec();
        let end = format!("{}0", PREFIX.trim_end_matches('/'));
        loop {
            let options = GetOptions::new().with_range(end.as_str()).with_limit(PAGE);
            let page = self.etcd.client().get(from, Some(options)).await?;
            for pair in page.kvs() {
                let name = pair.key_str()?.strip_prefix(PREFIX).unwrap_or_default();
                let number = name
                    .split(['-', '/'])
                    .nth(1)
                    .and_then(|number| number.parse::<usize>().ok());
                let service = number.and_then(|number| services.get_mut(number));
                let (_, endpoints) = service.with_context(|| format!("{name} is nobody's"))?;
                read_record(pair.value(), endpoints)?;
            }
            let Some(last) = page.kvs().last().filter(|_| page.more()) else {
                return Ok(services);
            };
            from = [last.key(), b"\0"].concat();
        }
    }

    /// All servers send the same messages in as many bytes, and so do the controls, but for versions and revisions. (Go
    /// puts the alternatives of a `oneof` behind the other fields, so the order of the bytes is its own.)
    pub(crate) async fn compare(&self) -> anyhow::Result<()> {
        for kind in SERVERS {
            let subject = self.start(kind).await?;
            let plan = self.plan(&subject, 1, self.population.services);
            self.driver.connect(plan).await?;
            let contents = self.driver.truth().await?.contents;
            self.driver.disconnect(true).await?;
            for (service, content) in contents.iter().enumerate() {
                let control = self.population.assignment(service, ads::stamp(content));
                let same = content.len() == control.len() && message(content)? == message(&control)?;
                ensure!(
                    same,
                    "{} sends another {} than the controls",
                    kind.name(),
                    name(service)
                );
            }
        }
        Ok(())
    }
}

fn message(assignment: &[u8]) -> anyhow::Result<ClusterLoadAssignment> {
    Ok(ClusterLoadAssignment::decode(without_revisions(assignment).as_slice())?)
}

/// Where changes are made.
pub(crate) struct Feed {
    ledger: Arc<Ledger>,
    etcd: Client,
    control: Option<TcpStream>,
}

impl Feed {
    /// One change of a service: its first instance gets a new stamp, and with it another health.
    pub(crate) async fn change(&mut self, service: usize) -> anyhow::Result<()> {
        let stamp = now();
        self.ledger.note(service, stamp);
        let instance = Instance {
            service,
            number: 0,
            generation: 0,
        };
        match &mut self.control {
            Some(control) => control.write_all(format!("{service} {stamp}\n").as_bytes())?,
            None => drop(self.etcd.put(instance.key(), instance.record(stamp), None).await?),
        }
        Ok(())
    }

    /// One instance goes and another comes, in one step that also stamps the service.
    pub(crate) async fn replace(&mut self, old: Instance, new: Instance) -> anyhow::Result<()> {
        let stamp = now();
        self.ledger.note(old.service, stamp);
        let stamped = Instance {
            number: 0,
            generation: 0,
            ..old
        };
        let steps = vec![
            TxnOp::delete(old.key(), None),
            TxnOp::put(new.key(), new.record(stamp), None),
            TxnOp::put(stamped.key(), stamped.record(stamp), None),
        ];
        self.etcd.txn(Txn::new().and_then(steps)).await?;
        Ok(())
    }

    /// Many changes in one step.
    pub(crate) async fn batch(&mut self, instances: &[Instance]) -> anyhow::Result<()> {
        let stamp = now();
        let steps = instances
            .iter()
            .map(|instance| TxnOp::put(instance.key(), instance.record(stamp), None));
        let steps: Vec<TxnOp> = steps.collect();
        self.etcd.txn(Txn::new().and_then(steps)).await?;
        for instance in instances.iter().filter(|instance| instance.number == 0) {
            self.ledger.note(instance.service, stamp);
        }
        Ok(())
    }

    /// Changes at a rate, of services taken by chance, for so long; returns how many.
    pub(crate) async fn churn(&mut self, services: usize, rate: f64, lasting: Duration) -> anyhow::Result<u64> {
        let began = Instant::now();
        let mut count = 0;
        loop {
            let due = began + Duration::from_secs_f64(count as f64 / rate);
            if due.duration_since(began) >= lasting || began.elapsed() >= lasting {
                return Ok(count);
            }
            sleep_until(due).await;
            self.change(fastrand::usize(..services)).await?;
            count += 1;
        }
    }
}

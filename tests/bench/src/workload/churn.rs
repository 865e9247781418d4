//! A: single changes at a rate. C: the same, with one size growing.

use std::time::Duration;

use anyhow::ensure;

use super::{Case, Scale, driver_share, interleave, millis, settle};
use crate::lab::Lab;
use crate::machine;
use crate::population::Population;
use crate::report::{Metric, Section, cost, fact};
use crate::subject::{CONTROLS, Kind, SERVERS};

#[derive(Clone, Copy, Debug)]
struct Churn {
    clients: usize,
    /// Names of each client, the same for all.
    names: usize,
    /// Changes a second.
    rate: f64,
    seconds: u64,
}

impl Churn {
    fn case(self, axis: Option<(&'static str, f64)>) -> Case<Self> {
        let Self {
            clients, names, rate, ..
        } = self;
        Case {
            name: format!("N={clients} R={names} {rate}/s"),
            axis,
            controls: names == 100,
            what: self,
        }
    }
}

pub(crate) async fn churn(scale: Scale) -> anyhow::Result<Section> {
    let churn = |clients, names, rate| Churn {
        clients,
        names,
        rate,
        seconds: scale.pick(2, 5, 20),
    };
    let cases = match scale {
        Scale::Smoke => vec![churn(50, 10, 20.0), churn(50, 100, 20.0)],
        Scale::Quick => vec![
            churn(200, 10, 20.0),
            churn(200, 100, 20.0),
            churn(200, 1000, 3.0),
            churn(1000, 1000, 1.0),
        ],
        Scale::Full => vec![
            churn(1000, 10, 5.0),
            churn(1000, 100, 5.0),
            churn(1000, 1000, 1.0),
            churn(1000, 100, 100.0),
            churn(1000, 100, 1000.0),
            churn(5000, 100, 1.0),
        ],
    };
    let mut section = Section {
        id: "A",
        title: "churn: single changes at a rate",
        samples: Vec::new(),
        failures: Vec::new(),
    };
    let lab = Lab::open(base(scale)).await?;
    lab.compare().await?;
    let cases: Vec<Case<Churn>> = cases.into_iter().map(|churn| churn.case(None)).collect();
    let kinds = [SERVERS.as_slice(), CONTROLS.as_slice()].concat();
    interleave((&mut section, scale.repeats()), &lab, &kinds, &cases, run).await?;
    Ok(section)
}

pub(crate) async fn growth(scale: Scale) -> anyhow::Result<Section> {
    let mut section = Section {
        id: "C",
        title: "growth of a delivered update's cost",
        samples: Vec::new(),
        failures: Vec::new(),
    };
    // Only the slopes are wanted, and each has several points.
    let repeats = scale.pick(1, 1, 5);
    let normal = base(scale);
    let (clients, names) = scale.pick((20, 20), (100, 100), (500, 100));
    // So many deliveries a second that the slower servers keep up, when nothing else is heavy.
    let rate = |clients: usize| (scale.pick(400.0, 2000.0, 5000.0) / clients as f64).clamp(1.0, 20.0);
    let case = |axis, value: usize, clients, names, rate| {
        let seconds = scale.pick(2, 3, 20);
        let churn = Churn {
            clients,
            names,
            rate,
            seconds,
        };
        let case = churn.case(Some((axis, value as f64)));
        Case {
            name: format!("{axis}={value}"),
            ..case
        }
    };
    let lab = Lab::open(normal).await?;
    let mut cases = Vec::new();
    for names in scale.pick([5, 20, 100], [10, 100, 1000], [10, 100, 1000]) {
        let rate = if names > 500 {
            rate(clients).min(scale.pick(20.0, 4.0, 1.0))
        } else {
            rate(clients)
        };
        cases.push(case("R", names, clients, names, rate));
    }
    for clients in scale.pick([10, 40], [20, 400], [100, 5000]) {
        cases.push(case("N", clients, clients, names, rate(clients)));
    }
    interleave((&mut section, repeats), &lab, &SERVERS, &cases, run).await?;
    for endpoints in scale.pick([5, 50, 100], [10, 100, 500], [10, 100, 1000]) {
        let population = Population {
            services: names,
            endpoints,
        };
        let lab = Lab::open(population).await?;
        let cases = [case("E", endpoints, clients, names, rate(clients))];
        interleave((&mut section, repeats), &lab, &SERVERS, &cases, run).await?;
    }
    for services in scale.pick([20, 200], [100, 5000], [100, 10_000]) {
        let lab = Lab::open(Population { services, ..normal }).await?;
        let cases = [case("S", services, clients, names, rate(clients))];
        interleave((&mut section, repeats), &lab, &SERVERS, &cases, run).await?;
    }
    Ok(section)
}

/// The population of most workloads.
pub(super) fn base(scale: Scale) -> Population {
    Population {
        services: scale.pick(100, 1000, 1000),
        endpoints: 10,
    }
}

async fn run(lab: &Lab, kind: Kind, churn: &Churn) -> anyhow::Result<Vec<Metric>> {
    let subject = lab.start(kind).await?;
    settle().await;
    let (empty, _) = machine::memory(subject.pid())?;
    lab.driver
        .connect(lab.plan(&subject, churn.clients, churn.names))
        .await?;
    let mut feed = lab.feed(&subject)?;
    feed.churn(churn.names, churn.rate, Duration::from_secs(1)).await?;
    lab.driver.quiet().await?;
    lab.driver.reset(None).await?;
    let before = machine::cpu(subject.pid())?;
    let changes = feed
        .churn(churn.names, churn.rate, Duration::from_secs(churn.seconds))
        .await?;
    lab.driver.quiet().await?;
    let spent = machine::cpu(subject.pid())?.saturating_sub(before);
    let report = lab.driver.report().await?;
    let (full, _) = machine::memory(subject.pid())?;
    lab.check(kind).await?;
    let stats = &report.stats;
    ensure!(stats.resources > 0, "nothing was delivered");
    let (updates, clients) = (stats.resources as f64, churn.clients as f64);
    Ok(vec![
        cost("CPU µs per update", spent.as_secs_f64() * 1e6 / updates),
        cost("p50 ms", millis(stats.latency.at(0.5))),
        cost("p99 ms", millis(stats.latency.at(0.99))),
        fact("p99.9 ms", millis(stats.latency.at(0.999))),
        fact("max ms", millis(stats.latency.max())),
        fact("first client p50 ms", millis(stats.first.at(0.5))),
        cost("KB per client", (full - empty) / clients),
        fact("bytes per update", stats.bytes as f64 / updates),
        fact("updates", updates),
        fact("changes", changes as f64),
        fact("driver µs per update", report.cpu.as_secs_f64() * 1e6 / updates),
        fact("driver %", driver_share(&report)?),
    ])
}

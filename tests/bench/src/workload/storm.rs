//! F: a rollout replaces every instance of many services, in an order of chance, at a steady rate.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::{Case, Scale, driver_share, interleave, millis, settle};
use crate::lab::{Feed, Lab};
use crate::machine;
use crate::population::{Instance, Population};
use crate::report::{Metric, Section, cost, fact};
use crate::subject::{Kind, SERVERS};

#[derive(Debug)]
struct Storm {
    clients: usize,
    /// Replacements a second.
    rate: f64,
    seconds: u64,
    /// How often each instance was replaced so far, service after service.
    generations: Mutex<Vec<u8>>,
}

pub(crate) async fn storm(scale: Scale) -> anyhow::Result<Section> {
    let mut section = Section {
        id: "F",
        title: "storm: a rollout replaces the instances",
        samples: Vec::new(),
        failures: Vec::new(),
    };
    let (instances, clients, seconds) = scale.pick((400, 20, 2), (2000, 50, 5), (10_000, 1000, 60));
    let spreads: &[usize] = scale.pick(&[10], &[10, 100], &[10, 100, 1000]);
    for &services in spreads {
        let population = Population {
            services,
            endpoints: instances / services,
        };
        let case = Case {
            name: format!("N={clients}, {instances} instances in {services} services"),
            axis: None,
            controls: false,
            what: Storm {
                clients,
                rate: instances as f64 / seconds as f64,
                seconds,
                generations: Mutex::new(vec![0; instances]),
            },
        };
        let lab = Lab::open(population).await?;
        interleave((&mut section, scale.repeats()), &lab, &SERVERS, &[case], run).await?;
    }
    Ok(section)
}

async fn run(lab: &Lab, kind: Kind, storm: &Storm) -> anyhow::Result<Vec<Metric>> {
    let subject = lab.start(kind).await?;
    settle().await;
    lab.driver
        .connect(lab.plan(&subject, storm.clients, lab.population.services))
        .await?;
    lab.driver.reset(None).await?;
    let before = machine::cpu(subject.pid())?;
    let mut feed = lab.feed(&subject)?;
    let changes = blow(lab, &mut feed, storm).await?;
    lab.driver.quiet().await?;
    let spent = machine::cpu(subject.pid())?.saturating_sub(before);
    let report = lab.driver.report().await?;
    let (_, peak) = machine::memory(subject.pid())?;
    lab.check(kind).await?;
    let (stats, clients) = (&report.stats, storm.clients as f64);
    Ok(vec![
        cost("p99 staleness ms", millis(stats.latency.at(0.99))),
        fact("max staleness ms", millis(stats.latency.max())),
        cost("MB per client", stats.bytes as f64 / 1e6 / clients),
        cost("CPU s", spent.as_secs_f64()),
        cost("peak MB", peak / 1024.0),
        fact("messages per client", stats.messages as f64 / clients),
        fact(
            "updates per change and client",
            stats.resources as f64 / clients / changes as f64,
        ),
        fact("changes", changes as f64),
        fact("driver %", driver_share(&report)?),
    ])
}

async fn blow(lab: &Lab, feed: &mut Feed, storm: &Storm) -> anyhow::Result<usize> {
    let endpoints = lab.population.endpoints;
    // The first of each service is the one that carries the stamp.
    let mut order: Vec<usize> = (0..lab.population.services * endpoints)
        .filter(|place| place % endpoints != 0)
        .collect();
    fastrand::shuffle(&mut order);
    let began = Instant::now();
    for (count, place) in order.iter().enumerate() {
        let due = Duration::from_secs_f64(count as f64 / storm.rate);
        if due > Duration::from_secs(storm.seconds * 2) {
            break;
        }
        sleep_until(began + due).await;
        let old = Instance {
            service: place / endpoints,
            number: place % endpoints,
            generation: storm.next(*place),
        };
        let new = Instance {
            generation: old.generation.wrapping_add(1),
            ..old
        };
        feed.replace(old, new).await?;
    }
    Ok(order.len())
}

impl Storm {
    /// The generation that an instance had until now.
    fn next(&self, place: usize) -> u8 {
        let mut generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        generations.get_mut(place).map_or(0, |generation| {
            let old = *generation;
            *generation = old.wrapping_add(1);
            old
        })
    }
}

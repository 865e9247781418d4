//! E: a large registry is listed, and then changes faster than anybody could be told one by one. One client holds
//! everything, to see that nothing is lost.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::{Case, Scale, driver_share, interleave, millis, settle};
use crate::lab::{Feed, Lab};
use crate::machine;
use crate::population::{Instance, Population};
use crate::report::{Metric, Section, cost, fact};
use crate::subject::{Kind, SERVERS};

/// Changes of one transaction, below etcd's limit of 128.
const BATCH: usize = 100;
const ENDPOINTS: usize = 50;

#[derive(Clone, Copy, Debug)]
struct Ingest {
    /// Changes a second.
    rate: usize,
    seconds: u64,
}

pub(crate) async fn ingest(scale: Scale) -> anyhow::Result<Section> {
    let mut section = Section {
        id: "E",
        title: "etcd: listing and a flood of changes",
        samples: Vec::new(),
        failures: Vec::new(),
    };
    let (services, seconds) = scale.pick((200, 2), (1000, 4), (2000, 60));
    let rates: &[usize] = scale.pick(&[2000], &[5000], &[10_000, 50_000]);
    let population = Population {
        services,
        endpoints: ENDPOINTS,
    };
    let cases: Vec<Case<Ingest>> = rates
        .iter()
        .map(|&rate| Case {
            name: format!("{} keys, {rate}/s", services * ENDPOINTS),
            axis: None,
            controls: false,
            what: Ingest { rate, seconds },
        })
        .collect();
    let lab = Lab::open(population).await?;
    interleave((&mut section, scale.repeats()), &lab, &SERVERS, &cases, run).await?;
    Ok(section)
}

async fn run(lab: &Lab, kind: Kind, ingest: &Ingest) -> anyhow::Result<Vec<Metric>> {
    let began = Instant::now();
    let subject = lab.start(kind).await?;
    let ready = began.elapsed();
    let cpu = machine::cpu(subject.pid())?;
    let (_, peak) = machine::memory(subject.pid())?;
    let keys = (lab.population.services * lab.population.endpoints) as f64;
    settle().await;
    lab.driver
        .connect(lab.plan(&subject, 1, lab.population.services))
        .await?;
    lab.driver.reset(None).await?;
    let before = machine::cpu(subject.pid())?;
    let mut feed = lab.feed(&subject)?;
    let changes = flood(lab, &mut feed, ingest).await?;
    lab.driver.quiet().await?;
    let spent = machine::cpu(subject.pid())?.saturating_sub(before);
    let report = lab.driver.report().await?;
    lab.check(kind).await?;
    Ok(vec![
        cost("ready s", ready.as_secs_f64()),
        cost("listing CPU s", cpu.as_secs_f64()),
        cost("peak MB", peak / 1024.0),
        fact("bytes per instance", peak * 1024.0 / keys),
        cost("CPU µs per change", spent.as_secs_f64() * 1e6 / changes as f64),
        cost("p99 ms", millis(report.stats.latency.at(0.99))),
        fact("changes", changes as f64),
        fact("updates", report.stats.resources as f64),
        fact("driver %", driver_share(&report)?),
    ])
}

async fn flood(lab: &Lab, feed: &mut Feed, ingest: &Ingest) -> anyhow::Result<usize> {
    let began = Instant::now();
    let lasting = Duration::from_secs(ingest.seconds);
    let mut changes = 0;
    while began.elapsed() < lasting {
        sleep_until(began + Duration::from_secs_f64(changes as f64 / ingest.rate as f64)).await;
        let first = fastrand::usize(..lab.population.services);
        let services = (0..BATCH).map(|step| (first + step) % lab.population.services);
        let instances = services.map(|service| Instance {
            service,
            number: 0,
            generation: 0,
        });
        feed.batch(&instances.collect::<Vec<Instance>>()).await?;
        changes += BATCH;
    }
    Ok(changes)
}

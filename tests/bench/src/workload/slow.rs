//! G: one client of twenty stops reading while everything goes on, and wakes again; or it refuses everything it gets.

use std::time::Duration;

use super::{Case, Scale, driver_share, interleave, millis, settle};
use crate::driver::Plan;
use crate::lab::Lab;
use crate::machine;
use crate::population::Population;
use crate::report::{Metric, Section, cost, fact};
use crate::subject::{Kind, SERVERS};

const ONE_IN: usize = 20;

#[derive(Clone, Copy, Debug)]
struct Slow {
    clients: usize,
    rate: f64,
    seconds: u64,
    refusing: bool,
}

pub(crate) async fn slow(scale: Scale) -> anyhow::Result<Section> {
    let (clients, rate, seconds) = scale.pick((40, 20.0, 3), (100, 20.0, 5), (1000, 100.0, 60));
    let case = |name: &str, refusing| Case {
        name: format!("N={clients} {rate}/s, {} {name}", clients / ONE_IN),
        axis: None,
        controls: false,
        what: Slow {
            clients,
            rate,
            seconds,
            refusing,
        },
    };
    let cases = [case("stalled", false), case("refusing", true)];
    let mut section = Section {
        id: "G",
        title: "slow and refusing clients",
        samples: Vec::new(),
        failures: Vec::new(),
    };
    // Large enough to fill the kernel's buffers soon.
    let lab = Lab::open(Population {
        services: 50,
        endpoints: scale.pick(200, 200, 100),
    })
    .await?;
    interleave((&mut section, scale.repeats()), &lab, &SERVERS, &cases, run).await?;
    Ok(section)
}

async fn run(lab: &Lab, kind: Kind, slow: &Slow) -> anyhow::Result<Vec<Metric>> {
    let subject = lab.start(kind).await?;
    let names = lab.population.services;
    let plan = Plan {
        slow: Some(ONE_IN),
        refusing: slow.refusing,
        ..lab.plan(&subject, slow.clients, names)
    };
    lab.driver.connect(plan).await?;
    let mut feed = lab.feed(&subject)?;
    let lasting = Duration::from_secs(slow.seconds);
    feed.churn(names, slow.rate, lasting / 2).await?;
    lab.driver.quiet().await?;
    settle().await;
    let (before, _) = machine::memory(subject.pid())?;
    let sockets = machine::socket_memory();
    lab.driver.reset(None).await?;
    lab.driver.stall(true).await?;
    let changes = feed.churn(names, slow.rate, lasting).await?;
    let (after, _) = machine::memory(subject.pid())?;
    let filled = machine::socket_memory() - sockets;
    let healthy = lab.driver.report().await?;
    lab.driver.reset(None).await?;
    lab.driver.stall(false).await?;
    lab.check(kind).await?;
    let woken = lab.driver.report().await?;
    let special = (slow.clients / ONE_IN) as f64;
    let mut metrics = vec![
        cost("p99 ms of the others", millis(healthy.stats.latency.at(0.99))),
        fact("max ms of the others", millis(healthy.stats.latency.max())),
        cost("RSS growth MB", ((after - before) / 1024.0).max(0.0)),
        fact("changes", changes as f64),
        fact("driver %", driver_share(&healthy)?),
    ];
    if slow.refusing {
        metrics.push(fact(
            "NACKs per refusing client",
            healthy.stats.refused as f64 / special,
        ));
    } else {
        metrics.push(fact("kernel socket growth MB", filled / 1024.0));
        metrics.push(fact("updates per woken client", woken.stats.resources as f64 / special));
        metrics.push(fact("seconds until awake", woken.wall.as_secs_f64()));
    }
    Ok(metrics)
}

//! B: every client loses its connection and comes back at once, and a change is made right behind them.
//!
//! Whether a client that knows everything is served can't be seen from an answer, since there need not be any. So what is
//! timed is when that change has reached it.

use std::time::Duration;

use super::churn::base;
use super::{Case, Scale, interleave, settle};
use crate::driver::{Knowledge, Plan};
use crate::lab::Lab;
use crate::machine;
use crate::report::{Metric, Section, cost, fact};
use crate::subject::{Kind, SERVERS};

/// The service that changes.
const PROBE: usize = 0;

#[derive(Clone, Copy, Debug)]
struct Herd {
    clients: usize,
    names: usize,
    knowledge: Knowledge,
    /// They come back to another process than the one they left.
    replica: bool,
}

pub(crate) async fn herd(scale: Scale) -> anyhow::Result<Section> {
    let (clients, names) = scale.pick((50, 100), (300, 300), (1000, 1000));
    let case = |name: &str, knowledge, replica| Case {
        name: name.to_owned(),
        axis: None,
        controls: false,
        what: Herd {
            clients,
            names,
            knowledge,
            replica,
        },
    };
    let cases = [
        case("B1 nothing known", Knowledge::Nothing, false),
        case("B2 all known", Knowledge::Held, false),
        case("B3 1 % stale", Knowledge::Stale(100), false),
        case("B4 another replica", Knowledge::Held, true),
    ];
    let mut section = Section {
        id: "B",
        title: scale.pick("herd of 50 clients", "herd of 300 clients", "herd of 1,000 clients"),
        samples: Vec::new(),
        failures: Vec::new(),
    };
    let lab = Lab::open(base(scale)).await?;
    interleave((&mut section, scale.repeats()), &lab, &SERVERS, &cases, run).await?;
    Ok(section)
}

async fn run(lab: &Lab, kind: Kind, herd: &Herd) -> anyhow::Result<Vec<Metric>> {
    let mut subject = lab.start(kind).await?;
    let plan = lab.plan(&subject, herd.clients, herd.names);
    lab.driver.connect(plan.clone()).await?;
    lab.driver.disconnect(herd.knowledge == Knowledge::Nothing).await?;
    if herd.replica {
        subject = lab.start(kind).await?;
    }
    settle().await;
    let plan = Plan {
        server: subject.address,
        knowledge: herd.knowledge,
        ..plan
    };
    lab.driver.reset(Some(PROBE)).await?;
    let (overflows, before) = (machine::listen_overflows(), machine::cpu(subject.pid())?);
    let began = machine::now();
    lab.driver.begin(plan).await?;
    lab.feed(&subject)?.change(PROBE).await?;
    let clients = herd.clients;
    lab.driver
        .until("the herd to be served", |progress| {
            progress.complete == clients && progress.behind == 0
        })
        .await?;
    let report = lab.driver.report().await?;
    let spent = machine::cpu(subject.pid())?.saturating_sub(before);
    let (_, peak) = machine::memory(subject.pid())?;
    lab.check(kind).await?;
    let mut arrivals = report.stats.arrivals.clone();
    arrivals.sort_unstable();
    let at = |share: f64| {
        let place = (share * arrivals.len() as f64).ceil() as usize;
        let arrival = arrivals.get(place.saturating_sub(1)).copied().unwrap_or_default();
        Duration::from_nanos(arrival.saturating_sub(began)).as_secs_f64() * 1e3
    };
    Ok(vec![
        cost("all served ms", at(1.0)),
        fact("50 % ms", at(0.5)),
        fact("99 % ms", at(0.99)),
        cost("CPU ms", spent.as_secs_f64() * 1e3),
        cost("peak MB", peak / 1024.0),
        fact(
            "resources per client",
            report.stats.resources as f64 / herd.clients as f64,
        ),
        fact("MB sent", report.stats.bytes as f64 / 1e6),
        fact("backlog overflows", machine::listen_overflows() - overflows),
    ])
}

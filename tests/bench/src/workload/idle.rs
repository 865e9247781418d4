//! D: clients are connected and nothing changes.

use std::time::Duration;

use tokio::time::sleep;

use super::churn::base;
use super::{Case, Scale, interleave, settle};
use crate::lab::Lab;
use crate::machine;
use crate::report::{Metric, Section, cost, fact};
use crate::subject::{Kind, SERVERS};

#[derive(Clone, Copy, Debug)]
struct Idle {
    clients: usize,
    names: usize,
    lasting: Duration,
}

pub(crate) async fn idle(scale: Scale) -> anyhow::Result<Section> {
    let (clients, names, seconds) = scale.pick((50, 100, 2), (500, 100, 5), (5000, 100, 300));
    let case = Case {
        name: format!("N={clients} R={names}"),
        axis: None,
        controls: false,
        what: Idle {
            clients,
            names,
            lasting: Duration::from_secs(seconds),
        },
    };
    let mut section = Section {
        id: "D",
        title: "idle clients",
        samples: Vec::new(),
        failures: Vec::new(),
    };
    let lab = Lab::open(base(scale)).await?;
    interleave((&mut section, scale.repeats()), &lab, &SERVERS, &[case], run).await?;
    Ok(section)
}

async fn run(lab: &Lab, kind: Kind, idle: &Idle) -> anyhow::Result<Vec<Metric>> {
    let subject = lab.start(kind).await?;
    settle().await;
    let (empty, _) = machine::memory(subject.pid())?;
    let sockets = machine::socket_memory();
    lab.driver.connect(lab.plan(&subject, idle.clients, idle.names)).await?;
    settle().await;
    let before = machine::cpu(subject.pid())?;
    sleep(idle.lasting).await;
    let spent = machine::cpu(subject.pid())?.saturating_sub(before);
    let (full, _) = machine::memory(subject.pid())?;
    let clients = idle.clients as f64;
    lab.check(kind).await?;
    Ok(vec![
        cost("KB per client", (full - empty) / clients),
        cost("CPU %", spent.as_secs_f64() / idle.lasting.as_secs_f64() * 100.0),
        fact("RSS without clients MB", empty / 1024.0),
        fact(
            "kernel socket KB per client",
            (machine::socket_memory() - sockets) / clients,
        ),
    ])
}

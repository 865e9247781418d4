//! What is measured. Each workload starts a server anew for every repeat, takes the servers in turn, and ends a run with the
//! question whether every client holds what the registry says; a run without that answer counts as failed.

mod churn;
mod herd;
mod idle;
mod ingest;
mod slow;
mod storm;

use std::time::Duration;

use anyhow::ensure;
use tokio::time::sleep;

use crate::driver::Report;
use crate::lab::Lab;
use crate::report::{Metric, Sample, Section};
use crate::subject::Kind;

pub(crate) use churn::{churn, growth};
pub(crate) use herd::herd;
pub(crate) use idle::idle;
pub(crate) use ingest::ingest;
pub(crate) use slow::slow;
pub(crate) use storm::storm;

/// Above this share of its core, the driver measures itself.
const MOST_DRIVER_SHARE: f64 = 0.85;
/// After a start, a server still has things to do.
const SETTLE: Duration = Duration::from_millis(500);

/// How much of everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scale {
    /// Proves the tools: a few minutes, and no number worth keeping.
    Smoke,
    /// About twenty minutes.
    Quick,
    /// Hours.
    Full,
}

impl Scale {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Smoke => "smoke",
            Self::Quick => "quick",
            Self::Full => "full",
        }
    }

    pub(crate) fn pick<T>(self, smoke: T, quick: T, full: T) -> T {
        match self {
            Self::Smoke => smoke,
            Self::Quick => quick,
            Self::Full => full,
        }
    }

    fn repeats(self) -> usize {
        self.pick(1, 3, 5)
    }
}

/// A case of a workload, and where on an axis it stands.
#[derive(Clone, Debug)]
struct Case<T> {
    name: String,
    axis: Option<(&'static str, f64)>,
    /// The controls run too, where they are among the servers.
    controls: bool,
    what: T,
}

/// Every case with every server, again and again, one server after the other.
async fn interleave<T>(
    (section, repeats): (&mut Section, usize),
    lab: &Lab,
    kinds: &[Kind],
    cases: &[Case<T>],
    run: impl AsyncFn(&Lab, Kind, &T) -> anyhow::Result<Vec<Metric>>,
) -> anyhow::Result<()> {
    for repeat in 1..=repeats {
        for case in cases {
            for &kind in kinds.iter().filter(|kind| case.controls || kind.reads_the_registry()) {
                let name = format!("{} {}, {}, repeat {repeat}", section.id, case.name, kind.name());
                crate::say(&format!("    {name}"))?;
                match run(lab, kind, &case.what).await {
                    Ok(metrics) => section.samples.push(Sample {
                        cell: case.name.clone(),
                        axis: case.axis,
                        kind,
                        metrics,
                    }),
                    Err(error) => {
                        crate::say(&format!("    failed: {error:#}"))?;
                        section.failures.push(format!("{name}: {error:#}"));
                    }
                }
                lab.driver.disconnect(true).await?;
            }
        }
    }
    Ok(())
}

/// The driver's share of its core; too much of it makes the run worthless.
fn driver_share(report: &Report) -> anyhow::Result<f64> {
    let share = report.cpu.as_secs_f64() / report.wall.as_secs_f64();
    ensure!(
        share < MOST_DRIVER_SHARE,
        "the driver itself was {:.0} % busy",
        share * 100.0
    );
    Ok(share * 100.0)
}

async fn settle() {
    sleep(SETTLE).await;
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

//! How long a change takes from the write in etcd to the endpoint in Envoy.
//!
//! Envoy's admin page is asked without pause on one connection, so the time of one question is how exact a figure is.
//! The clock starts before the write is sent: etcd's own time is part of it.

use std::time::{Duration, Instant};

use anyhow::Context;

use crate::demo::screen::{Screen, span};
use crate::demo::wait::{SOON, expect};
use crate::demo::world::{ORDERS, World};
use crate::latency::percentile;

/// Half of them take the instance away, half of them bring it back: an even number leaves it there.
const CHANGES: usize = 200;

/// Changes come at random moments, or all of them would meet the same phase of whatever beats in between.
const PAUSE_MS: u64 = 10;

/// Far above what the change takes, even on a machine that is busy with something else.
const LIMIT: Duration = Duration::from_millis(500);

/// Adds and removes one instance again and again.
///
/// # Errors
/// When a change does not arrive, or takes far too long.
pub(crate) async fn latency(screen: &mut Screen, world: &mut World) -> anyhow::Result<()> {
    world.add_instance("orders-5").await?;
    let extra = world.instance("orders-5")?;
    let line = format!("{ORDERS}::{}::", extra.address());
    let load = world.steady();
    let mut took = Vec::new();
    let mut asked = Vec::new();
    let mut present = true;
    until_shown(world, &line, present, &mut asked).await?;
    for _ in 0..CHANGES {
        tokio::time::sleep(Duration::from_millis(fastrand::u64(..PAUSE_MS))).await;
        let begun = Instant::now();
        match present {
            true => extra.delete(&world.etcd).await,
            false => extra.put(&world.etcd, 1).await,
        };
        present = !present;
        until_shown(world, &line, present, &mut asked).await?;
        took.push(begun.elapsed());
    }
    let report = load.stop().await;
    took.sort_unstable();
    asked.sort_unstable();
    let of = |sorted: &[Duration], share: f64| percentile(sorted, share).map(span).unwrap_or_default();
    screen.fact("changes", &format!("{CHANGES}: orders-5 comes and goes"));
    screen.fact(
        "etcd write to Envoy",
        &format!(
            "p50 {}, p99 {}, max {}",
            of(&took, 0.5),
            of(&took, 0.99),
            of(&took, 1.0)
        ),
    );
    screen.fact(
        "time of one look at Envoy",
        &format!("p50 {}, p99 {}", of(&asked, 0.5), of(&asked, 0.99)),
    );
    super::members::no_failure(screen, world, &report)?;
    let p99 = percentile(&took, 0.99).context("measured changes")?;
    expect(p99 < LIMIT, &format!("a p99 below {}", span(LIMIT)), &span(p99))
}

/// Asks Envoy until a host is there, or is not, and notes how long each question took.
async fn until_shown(world: &World, line: &str, present: bool, asked: &mut Vec<Duration>) -> anyhow::Result<()> {
    let begun = Instant::now();
    loop {
        let asking = Instant::now();
        let page = world.http.get(world.envoy.admin(), "/clusters").await?.text();
        asked.push(asking.elapsed());
        if page.contains(line) == present {
            return Ok(());
        }
        let saw = if present {
            "it is not there"
        } else {
            "it is still there"
        };
        expect(begun.elapsed() < SOON, &format!("{line} to come or go"), saw)?;
    }
}

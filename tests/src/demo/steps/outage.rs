//! The registry is gone for a while, and comes back.

use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::Value;

use super::members::no_failure;
use crate::demo::screen::{Screen, seconds, span};
use crate::demo::wait::{SOON, eventually, expect};
use crate::demo::world::{World, show_hosts};
use crate::etcd::Data;

/// How often a wait shows itself, and looks at what it waits beside.
const LOOK: Duration = Duration::from_millis(500);

/// The longest pause between two attempts to reach a source is 30 s, and what follows takes its time.
const RETURN: Duration = Duration::from_secs(60);

/// Kills etcd and leaves it dead, under load.
///
/// # Errors
/// When a request fails, or when anything changes in Envoy.
pub(crate) async fn lose_etcd(screen: &mut Screen, world: &mut World, outage: Duration) -> anyhow::Result<()> {
    let before = world.cluster_stat("membership_change").await;
    let hosts = world.hosts().await;
    let load = world.steady();
    let begun = Instant::now();
    world.etcd.kill();
    screen.fact("SIGKILL", "etcd");
    let source = world.await_source("shop", "degraded", SOON).await?;
    screen.fact("source shop is degraded", &format!("after {}", span(begun.elapsed())));
    screen.fact("its last error", source["last_error"].as_str().unwrap_or("?"));
    while let Some(left) = outage.checked_sub(begun.elapsed()) {
        let report = load.report();
        screen.progress(&format!(
            "etcd stays dead for {} more; {} requests so far, {} failed",
            seconds(left),
            report.sent,
            report.failed
        ));
        tokio::time::sleep(LOOK.min(left)).await;
    }
    let (ready, now, after) = (
        world
            .leadsman
            .get("/readyz")
            .await
            .context("expected an answer of /readyz")?
            .status,
        world.hosts().await,
        world.cluster_stat("membership_change").await,
    );
    screen.fact("etcd dead for", &span(begun.elapsed()));
    let report = load.stop().await;
    no_failure(screen, world, &report)?;
    screen.fact("Envoy /clusters", &show_hosts(&now));
    screen.fact("Envoy membership_change", &format!("{before}, now {after}"));
    screen.fact("leadsman /readyz", &ready.to_string());
    expect(
        now == hosts && before == after,
        &format!(
            "the same hosts as before ({}) and no change between",
            show_hosts(&hosts)
        ),
        &format!("{} and {} changes", show_hosts(&now), after.abs_diff(before)),
    )?;
    expect(ready.is_success(), "leadsman to stay ready", &ready.to_string())
}

/// Starts etcd on its old data, with one more instance.
///
/// # Errors
/// When the new instance does not come, when anything else changes, or when events were lost.
pub(crate) async fn regain_etcd(screen: &mut Screen, world: &mut World) -> anyhow::Result<()> {
    let before = world.cluster_stat("membership_change").await;
    let load = world.steady();
    world.etcd.restart(Data::Kept).await;
    let begun = Instant::now();
    screen.fact("etcd", "started again on its old data");
    world.add_instance("orders-4").await?;
    let written = Instant::now();
    screen.fact("etcd put, lease of 3 s", "orders-4, a new backend");
    screen.progress("Leadsman comes back to etcd after a random pause, so that not everybody comes at once");
    world.await_source("shop", "live", RETURN).await?;
    screen.fact("etcd back to source live", &span(begun.elapsed()));
    let hosts = world.await_hosts(&["orders-1", "orders-3", "orders-4"]).await?;
    screen.fact("put to Envoy", &span(written.elapsed()));
    screen.fact("Envoy /clusters", &show_hosts(&hosts));
    reconciled(screen, world).await?;
    let report = load.stop().await;
    no_failure(screen, world, &report)?;
    let after = world.cluster_stat("membership_change").await;
    screen.fact(
        "Envoy membership_change",
        &format!("{before}, now {after}: the new one, and nothing else"),
    );
    expect(
        after == before + 1,
        "one change of the membership, the new instance",
        &format!("{} changes", after.abs_diff(before)),
    )
}

/// Waits for two comparisons with a fresh read, the first of which may have begun too early.
async fn reconciled(screen: &mut Screen, world: &World) -> anyhow::Result<()> {
    let count = |source: &Value, name: &str| source["counters"][name].as_u64().unwrap_or_default();
    let before = count(&world.source("shop").await, "reconciles");
    let source = eventually(SOON, "two comparisons with a fresh read of etcd", async || {
        let source = world.source("shop").await;
        if count(&source, "reconciles") >= before + 2 {
            Ok(source)
        } else {
            Err(source["counters"].to_string())
        }
    })
    .await?;
    let drift = count(&source, "reconcile_drift");
    screen.fact(
        "compared with a fresh read",
        &format!(
            "{} times since the start, {drift} records differed",
            count(&source, "reconciles")
        ),
    );
    expect(drift == 0, "no lost event", &format!("{drift} records that differed"))
}

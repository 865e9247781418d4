//! Instances come, change their weights, drain and die.

use std::time::{Duration, Instant};

use super::start::Backends;
use crate::demo::instance::{Instance, TTL};
use crate::demo::screen::{Screen, span};
use crate::demo::wait::{SOON, eventually, expect};
use crate::demo::world::{ORDERS, World, show_hosts, show_spread};
use crate::http::Report;

/// Enough requests for the shares of a few backends to be told apart.
const BURST: u32 = 300;

/// How far a share may be from the weight's: two workers take turns of their own.
const TOLERANCE: f64 = 0.08;

/// A lease ends between its time and the next time etcd looks, or the change of its leader takes over.
const LEASE_END: Duration = Duration::from_secs(15);

/// Registers the backends that run.
///
/// # Errors
/// When Envoy does not get them, or traffic does not reach each.
pub(crate) async fn register(screen: &mut Screen, world: &mut World, backends: Backends) -> anyhow::Result<()> {
    for (name, address) in backends {
        let instance = Instance::register(&world.etcd, ORDERS, &name, address).await;
        screen.fact("etcd put, lease of 3 s", &format!("{} -> {address}", instance.key()));
        world.instances.insert(name, instance);
    }
    let hosts = world.await_hosts(&["orders-1", "orders-2", "orders-3"]).await?;
    screen.fact("Envoy /clusters", &show_hosts(&hosts));
    let third = 1.0 / 3.0;
    spread(
        screen,
        world,
        &[("orders-1", third), ("orders-2", third), ("orders-3", third)],
    )
    .await
}

/// Gives one instance the weight of four.
///
/// # Errors
/// When Envoy or the traffic does not follow.
pub(crate) async fn reweigh(screen: &mut Screen, world: &mut World) -> anyhow::Result<()> {
    let took = weigh(screen, world, "orders-3", 4).await?;
    screen.fact(
        "put to weight in Envoy",
        &format!("{} (weights are gathered for up to 1 s)", span(took)),
    );
    let sixth = 1.0 / 6.0;
    spread(
        screen,
        world,
        &[("orders-1", sixth), ("orders-2", sixth), ("orders-3", 4.0 * sixth)],
    )
    .await
}

/// Takes one instance out of the traffic, and back.
///
/// # Errors
/// When a request fails, or goes to the drained instance.
pub(crate) async fn drain(screen: &mut Screen, world: &mut World) -> anyhow::Result<()> {
    let load = world.steady();
    let begun = Instant::now();
    world.instance("orders-3")?.put(&world.etcd, 0).await;
    let hosts = eventually(SOON, "orders-3 to be DRAINING in Envoy", async || {
        let hosts = world.hosts().await;
        let health = hosts.get("orders-3").map(|host| host.health.clone());
        if health.as_deref() == Some("DRAINING") {
            Ok(hosts)
        } else {
            Err(format!("{hosts:?}"))
        }
    })
    .await?;
    screen.fact("etcd put", "orders-3 weight 0, which means: drain");
    screen.fact("put to Envoy", &span(begun.elapsed()));
    screen.fact("Envoy /clusters", &show_hosts(&hosts));
    let half = 0.5;
    spread(
        screen,
        world,
        &[("orders-1", half), ("orders-2", half), ("orders-3", 0.0)],
    )
    .await?;
    weigh(screen, world, "orders-3", 1).await?;
    let third = 1.0 / 3.0;
    spread(
        screen,
        world,
        &[("orders-1", third), ("orders-2", third), ("orders-3", third)],
    )
    .await?;
    let report = load.stop().await;
    no_failure(screen, world, &report)
}

/// Kills one instance, as a machine that fails does: no answer any more, and no renewal of its lease.
///
/// # Errors
/// When a request fails, when no retry was needed, or when the dead endpoint stays.
pub(crate) async fn crash(screen: &mut Screen, world: &mut World) -> anyhow::Result<()> {
    let before = world.counters().await?;
    let load = world.steady();
    eventually(SOON, "traffic", async || match load.report().sent {
        0..20 => Err("hardly a request".to_owned()),
        _ => Ok(()),
    })
    .await?;
    let begun = Instant::now();
    drop(world.backends.remove("orders-2"));
    drop(world.instances.remove("orders-2"));
    screen.fact(
        "SIGKILL",
        &format!("orders-2; nobody renews its lease of {TTL} s any more"),
    );
    eventually(LEASE_END, "orders-2 to leave Envoy", async || {
        let hosts = world.hosts().await;
        if hosts.keys().eq(["orders-1", "orders-3"]) {
            Ok(())
        } else {
            Err(format!("{:?}", hosts.keys()))
        }
    })
    .await?;
    screen.fact("death to leaving Envoy", &span(begun.elapsed()));
    let report = load.stop().await;
    no_failure(screen, world, &report)?;
    let after = world.counters().await?;
    let grown = |name: &str, labels: &[(&str, &str)]| after.sum(name, labels) - before.sum(name, labels);
    let refused = grown("attempts_total", &[("cluster", ORDERS), ("outcome", "connect_failure")]);
    let reset = grown("attempts_total", &[("cluster", ORDERS), ("outcome", "reset")]);
    let retries = grown("retries_total", &[("cluster", ORDERS)]);
    screen.fact(
        "filter: failed attempts",
        &format!("{refused} connect_failure, {reset} reset, made good by {retries} retries"),
    );
    expect(
        refused > 0 && retries >= refused,
        "connections refused by the dead backend, and a retry for each",
        &format!("{refused} refused and {retries} retries"),
    )
}

/// Puts a weight and waits until Envoy has it.
async fn weigh(screen: &mut Screen, world: &World, name: &str, weight: u32) -> anyhow::Result<Duration> {
    let begun = Instant::now();
    let revision = world.instance(name)?.put(&world.etcd, weight).await;
    screen.fact("etcd put", &format!("{name} weight {weight}, revision {revision}"));
    let hosts = eventually(SOON, &format!("{name} in Envoy with weight {weight}"), async || {
        let hosts = world.hosts().await;
        let own = hosts.get(name);
        let there = own.is_some_and(|host| host.weight == u64::from(weight) && host.health == "HEALTHY");
        if there { Ok(hosts) } else { Err(format!("{own:?}")) }
    })
    .await?;
    let took = begun.elapsed();
    screen.fact("Envoy /clusters", &show_hosts(&hosts));
    Ok(took)
}

/// Sends requests until they are spread as they should be: Envoy tells its workers up to a second after its admin page.
async fn spread(screen: &mut Screen, world: &mut World, shares: &[(&str, f64)]) -> anyhow::Result<()> {
    let wanted = shares
        .iter()
        .map(|(name, share)| format!("{name} {:.1} %", share * 100.0));
    let wanted = wanted.collect::<Vec<_>>().join(", ");
    let begun = Instant::now();
    loop {
        let report = world.burst(BURST).await;
        no_failed(&report)?;
        let near = |(name, share): &(&str, f64)| match *share {
            0.0 => !report.by_backend.contains_key(*name),
            share => (report.share(name) - share).abs() <= TOLERANCE,
        };
        if shares.iter().all(near) {
            screen.fact(&format!("{BURST} requests"), &show_spread(&report));
            return Ok(());
        }
        expect(
            begun.elapsed() < SOON,
            &format!("requests spread {wanted}"),
            &show_spread(&report),
        )?;
    }
}

/// Shows the steady load of a step, of which nothing may have failed.
pub(super) fn no_failure(screen: &mut Screen, world: &mut World, report: &Report) -> anyhow::Result<()> {
    world.note(report);
    screen.fact(
        "steady load",
        &format!("{} requests, {} failed", report.sent, report.failed),
    );
    no_failed(report)
}

fn no_failed(report: &Report) -> anyhow::Result<()> {
    expect(
        report.sent > 0 && report.failed == 0,
        "requests, and none that failed",
        &format!("{} of {} failed: {:?}", report.failed, report.sent, report.failures),
    )
}

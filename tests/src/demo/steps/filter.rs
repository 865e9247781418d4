//! What the filter saw in Envoy, and whether Envoy is content at the end.

use std::collections::BTreeMap;

use http::{HeaderMap, HeaderValue};

use crate::demo::counters::Counters;
use crate::demo::ingress::ROUTED;
use crate::demo::screen::Screen;
use crate::demo::wait::{SOON, eventually, expect};
use crate::demo::world::{ORDERS, World};

/// Version 00, but neither of its ids is one.
const BROKEN: &str = "00-demo-0000000000000000-01";
const VALID: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// What must be zero in Envoy, whatever happened.
const NEVER: &str = "(update_rejected|init_fetch_timeout|assignment_use_cached)$";

/// Sends trace contexts, and shows all counters beside what the demo knows it sent.
///
/// # Errors
/// When a context is not treated as it should be, or a counter does not add up.
pub(crate) async fn filter(screen: &mut Screen, world: &mut World) -> anyhow::Result<()> {
    let repaired = trace(world, BROKEN).await?;
    let is_new = repaired.len() == VALID.len() && repaired.starts_with("00-") && repaired != VALID;
    screen.fact("traceparent sent", BROKEN);
    screen.fact("  reached the backend", &repaired);
    expect(is_new, "a new, valid traceparent at the backend", &repaired)?;
    let kept = trace(world, VALID).await?;
    screen.fact("traceparent sent", VALID);
    screen.fact("  reached the backend", &kept);
    expect(kept == VALID, "a valid traceparent to pass untouched", &kept)?;

    // Envoy writes its access log just after the client has its answer.
    let sent = world.sent;
    let counters = eventually(SOON, &format!("{sent} requests in the filter's count"), async || {
        let counters = world.counters().await.map_err(|error| format!("{error:#}"))?;
        let counted = counters.sum("requests_total", &[("cluster", ORDERS)]);
        if counted == sent {
            Ok(counters)
        } else {
            Err(counted.to_string())
        }
    })
    .await?;
    screen.fact(
        "requests of the demo",
        &format!("{ORDERS} {sent}, {} failed", world.failed),
    );
    show(screen, &counters);
    check(&counters, sent)
}

/// Shows that Envoy never refused anything, never waited in vain and never fell back on anything.
///
/// # Errors
/// When it did.
pub(crate) async fn clean(screen: &mut Screen, world: &World) -> anyhow::Result<()> {
    let stats = world.envoy.stats(NEVER).await;
    let mut bad = Vec::new();
    for (name, count) in &stats {
        screen.fact("Envoy", &format!("{count}  {name}"));
        if *count > 0 {
            bad.push(format!("{name} {count}"));
        }
    }
    for name in ["cluster_manager.cds.update_rejected", "cluster.orders.update_rejected"] {
        expect(
            stats.contains_key(name),
            &format!("{name} among the counters"),
            &format!("{stats:?}"),
        )?;
    }
    for kind in ["cds", "eds"] {
        let name = format!("leadsman_xds_nacks_total{{type=\"{kind}\"}}");
        let count = world.leadsman.metric(&name).await;
        let shown = count.map_or("nothing".to_owned(), |count| count.to_string());
        screen.fact("leadsman", &format!("{shown}  {name}"));
        if count != Some(0.0) {
            bad.push(format!("{name} {shown}"));
        }
    }
    screen.fact("requests", &format!("{} sent, {} failed", world.sent, world.failed));
    expect(bad.is_empty(), "all of these to be 0", &bad.join(", "))?;
    expect(world.failed == 0, "no failed request", &world.failed.to_string())
}

/// Sends one request with a `traceparent` and returns what the backend received.
async fn trace(world: &mut World, traceparent: &'static str) -> anyhow::Result<String> {
    let headers = HeaderMap::from_iter([("traceparent".parse()?, HeaderValue::from_static(traceparent))]);
    let path = format!("/{ORDERS}/1");
    let answer = world.http.get_with(world.ingress, &path, headers).await?;
    world.sent += 1;
    let failed = answer.status.is_server_error();
    world.failed += u64::from(failed);
    let received = answer.header("x-received-traceparent");
    Ok(received.unwrap_or("none").to_owned())
}

fn show(screen: &mut Screen, counters: &Counters) {
    for cluster in ROUTED {
        let of = [("cluster", cluster)];
        for (name, label) in [
            ("requests_total", "class"),
            ("attempts_total", "outcome"),
            ("connect_failures_total", "reason"),
            ("lookups_total", "outcome"),
        ] {
            let sums = counters.by(label, name, &of);
            if !sums.is_empty() {
                screen.fact(&format!("{cluster} {name}"), &list(&sums));
            }
        }
        screen.fact(
            &format!("{cluster} retries_total"),
            &counters.sum("retries_total", &of).to_string(),
        );
    }
    let all = counters.sum("lookups_total", &[]) - counters.sum("lookups_total", &[("outcome", "untracked")]);
    let hits = counters.sum("lookups_total", &[("outcome", "hit")]);
    screen.fact(
        "discovery hit rate",
        &format!("{:.2} %", 100.0 * hits as f64 / all.max(1) as f64),
    );
    for (name, label) in [("source_attempts_total", "source"), ("trace_total", "action")] {
        screen.fact(name, &list(&counters.by(label, name, &[])));
    }
    for name in ["heartbeat_total", "config_errors_total"] {
        screen.fact(name, &counters.sum(name, &[]).to_string());
    }
}

fn check(counters: &Counters, sent: u64) -> anyhow::Result<()> {
    let of = |name: &str, label: &str, value: &str| counters.sum(name, &[("cluster", ORDERS), (label, value)]);
    let attempts = counters.sum("attempts_total", &[("cluster", ORDERS)]);
    let retries = counters.sum("retries_total", &[("cluster", ORDERS)]);
    expect(
        of("requests_total", "class", "2xx") == sent,
        "every request counted as 2xx",
        &of("requests_total", "class", "2xx").to_string(),
    )?;
    expect(
        attempts == sent + retries,
        &format!("one attempt a request, and one a retry: {}", sent + retries),
        &attempts.to_string(),
    )?;
    let (hits, misses) = (
        of("lookups_total", "outcome", "hit"),
        of("lookups_total", "outcome", "miss"),
    );
    expect(
        misses > 0 && hits > misses && of("lookups_total", "outcome", "absent") == 0,
        "lookups: some misses, far more hits, and never an absent host",
        &list(&counters.by("outcome", "lookups_total", &[("cluster", ORDERS)])),
    )?;
    expect(
        counters.sum("source_attempts_total", &[("source", "shop")]) == attempts,
        "every attempt to come from source shop",
        &list(&counters.by("source", "source_attempts_total", &[])),
    )?;
    expect(
        counters.sum("heartbeat_total", &[]) > 0,
        "a heartbeat of the filter",
        "none",
    )?;
    expect(
        counters.sum("trace_total", &[("action", "restarted")]) == 1 && counters.sum("config_errors_total", &[]) == 0,
        "one restarted trace, and no refused configuration",
        &list(&counters.by("action", "trace_total", &[])),
    )
}

fn list(sums: &BTreeMap<String, u64>) -> String {
    let shown = sums.iter().map(|(name, count)| format!("{name} {count}"));
    shown.collect::<Vec<_>>().join(", ")
}

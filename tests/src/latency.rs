//! How long a change takes from a registry to Envoy, and whose time that is.
//!
//! Three clocks are read for each change: when the registry has taken the write, when an adapter of our own kind, in this
//! process, has heard of it, and when Envoy's admin page shows it. What lies between the last two is the control
//! plane's and Envoy's; what lies before is the registry's, its protocol's and the adapter's polling.

use std::time::{Duration, Instant};

use anyhow::ensure;

use crate::http::Http;
use crate::instance::Instance;
use crate::judged::{Judged, Stage};
use crate::observed::Observed;
use crate::wait::PATIENT;

/// Half of them bring an instance, half of them take it away.
const CHANGES: u16 = 200;
/// Changes come at random moments, or all of them would meet the same phase of whatever beats in between.
const PAUSE_MS: u64 = 10;
const SERVICE: &str = "measured";

/// Sorted, each as many as there were changes.
#[derive(Clone, Debug, Default)]
pub struct Latencies {
    /// From the call to the registry's answer.
    pub write: Vec<Duration>,
    /// From the registry's answer to the event of an adapter.
    pub heard: Vec<Duration>,
    /// From the event to Envoy.
    pub ours: Vec<Duration>,
    /// From the call to Envoy.
    pub total: Vec<Duration>,
}

/// Adds and removes one instance again and again.
///
/// # Errors
/// When a change does not arrive.
pub async fn measure(rig: impl Judged) -> anyhow::Result<Latencies> {
    let mut stage = Stage::start(rig).await;
    let observed = Observed::start(stage.rig.registry());
    let (anchor, extra) = (Instance::new(1), Instance::new(2));
    stage.rig.put(SERVICE, anchor).await;
    stage.has(SERVICE, &[anchor]).await;
    observed.becomes(&stage.rig.state(&[(SERVICE, &[anchor])])).await;
    let http = Http::new();
    let mut latencies = Latencies::default();
    for change in 0..CHANGES {
        tokio::time::sleep(Duration::from_millis(fastrand::u64(..PAUSE_MS))).await;
        let comes = change % 2 == 0;
        let begun = Instant::now();
        if comes {
            stage.rig.put(SERVICE, extra).await;
        } else {
            stage.rig.remove(SERVICE, extra.port).await;
        }
        let written = begun.elapsed();
        let all = if comes { vec![anchor, extra] } else { vec![anchor] };
        let expected = stage.rig.state(&[(SERVICE, &all)]);
        let hear = async {
            observed.becomes(&expected).await;
            begun.elapsed()
        };
        let (heard, shown) = tokio::join!(hear, shown(&http, &stage, extra, comes, begun));
        let shown = shown?;
        latencies.write.push(written);
        latencies.heard.push(heard.saturating_sub(written));
        latencies.ours.push(shown.saturating_sub(heard));
        latencies.total.push(shown);
    }
    for figures in [
        &mut latencies.write,
        &mut latencies.heard,
        &mut latencies.ours,
        &mut latencies.total,
    ] {
        figures.sort_unstable();
    }
    Ok(latencies)
}

/// Asks Envoy until the instance is there, or is not.
async fn shown<J>(
    http: &Http,
    stage: &Stage<J>,
    instance: Instance,
    comes: bool,
    begun: Instant,
) -> anyhow::Result<Duration> {
    let line = format!("{SERVICE}::{}::", instance.address());
    loop {
        let page = http.get(stage.fleet.envoy.admin(), "/clusters").await?.text();
        if page.contains(&line) == comes {
            return Ok(begun.elapsed());
        }
        ensure!(begun.elapsed() < PATIENT, "{line} did not come or go in {PATIENT:?}");
    }
}

/// The smallest value that at least this share of the sorted values does not exceed.
pub fn percentile(sorted: &[Duration], share: f64) -> Option<Duration> {
    let exceeding = sorted.iter().enumerate();
    let last = sorted.len();
    let mut enough = exceeding.filter(|(index, _)| (*index + 1) as f64 >= share * last as f64);
    enough.next().map(|(_, value)| *value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let sorted: Vec<Duration> = (1..=200).map(Duration::from_millis).collect();
        let at = |share| percentile(&sorted, share).unwrap().as_millis();
        assert_eq!((at(0.5), at(0.99), at(1.0)), (100, 198, 200));
        assert_eq!(percentile(&[], 0.5), None);
    }
}

//! How long a change takes from a registry to Envoy, and whose time that is.
//!
//! Four moments are read for each change: when it is made, when the registry has taken it, when the control plane's
//! adapter says that it has heard of it, and when Envoy's admin page shows it. What lies between the last two is the
//! control plane's and Envoy's; what lies before is the registry's, its protocol's and the adapter's polling.

pub mod refused;

use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, ensure};

use crate::contract::Subject;
use crate::envoy::Envoy;
use crate::http::Http;
use crate::instance::Instance;
use crate::leadsman::Leadsman;
use crate::process::free_port;
use crate::wait::PATIENT;

/// The service that changes.
pub const SERVICE: &str = "measured";
/// The name of the source in the configuration.
const SOURCE: &str = "tested";
/// How often Envoy is asked where a change takes so long that asking all the time would take a core for nothing.
const GLANCE: Duration = Duration::from_millis(1);
/// From here on a beat is long.
const LONG: Duration = Duration::from_millis(100);

/// A registry that an instance comes to and leaves again.
pub trait Measured {
    fn bring(&mut self, instance: Instance) -> impl Future<Output = ()>;

    /// Takes it out of service.
    fn take(&mut self, instance: Instance) -> impl Future<Output = ()>;

    /// Where Envoy shows it.
    fn address(&self, instance: Instance) -> SocketAddr {
        instance.address()
    }
}

impl<S: Subject> Measured for S {
    async fn bring(&mut self, instance: Instance) {
        self.put(SERVICE, instance).await;
    }

    async fn take(&mut self, instance: Instance) {
        self.remove(SERVICE, instance.port).await;
    }
}

/// How much is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// As many bring an instance as take it away.
    pub changes: u16,
    /// Whatever beats between the registry and us, beats no slower. Each change comes at a random moment of it, or all of
    /// them would meet the same one.
    pub beat: Duration,
}

/// Of the changes in one direction: some registries and adapters take their time when something goes. Sorted.
#[derive(Clone, Debug, Default)]
pub struct Latencies {
    /// From the call to the registry's answer.
    pub write: Vec<Duration>,
    /// From the registry's answer to the adapter's event; nothing where the event comes before the answer.
    pub heard: Vec<Duration>,
    /// From the event to Envoy. The server tells the time of an event in whole milliseconds, so that this is up to one
    /// millisecond too long.
    pub ours: Vec<Duration>,
    /// From the call to Envoy.
    pub total: Vec<Duration>,
}

impl Latencies {
    fn sorted(mut self) -> Self {
        for figures in [&mut self.write, &mut self.heard, &mut self.ours, &mut self.total] {
            figures.sort_unstable();
        }
        self
    }
}

/// Adds and removes one instance again and again, behind a server that has `source` and nothing else: how long it took
/// until it had come, and until it had gone.
///
/// # Errors
/// When a change does not arrive.
pub async fn measure(mut rig: impl Measured, source: &str, pace: Pace) -> anyhow::Result<[Latencies; 2]> {
    let leadsman = Leadsman::start(&format!("sources:\n  {SOURCE}: {source}\n")).await;
    let envoy = Envoy::start(&leadsman.bootstrap("edge-1", free_port()), 2).await;
    let http = Http::new();
    // With one that stays, the service never begins or ends.
    let (anchor, extra) = (Instance::new(1), Instance::new(2));
    rig.bring(anchor).await;
    shown(&http, &envoy, rig.address(anchor), true, pace).await?;
    let (mut came, mut went) = (Latencies::default(), Latencies::default());
    for change in 0..pace.changes {
        tokio::time::sleep(pace.beat.mul_f64(fastrand::f64())).await;
        let comes = change % 2 == 0;
        let (begun, begun_at) = (Instant::now(), SystemTime::now());
        if comes {
            rig.bring(extra).await;
        } else {
            rig.take(extra).await;
        }
        let written = begun.elapsed();
        shown(&http, &envoy, rig.address(extra), comes, pace).await?;
        let total = begun.elapsed();
        let event = last_event(&leadsman).await?;
        // A change may be heard of in the millisecond of its beginning.
        let event = event.duration_since(begun_at).unwrap_or_default().min(total);
        let latencies = if comes { &mut came } else { &mut went };
        latencies.write.push(written);
        latencies.heard.push(event.saturating_sub(written));
        latencies.ours.push(total.saturating_sub(event));
        latencies.total.push(total);
    }
    envoy.assert_clean().await;
    Ok([came.sorted(), went.sorted()])
}

/// Asks Envoy until an address is in service, or is not.
async fn shown(http: &Http, envoy: &Envoy, address: SocketAddr, comes: bool, pace: Pace) -> anyhow::Result<()> {
    let line = format!("{SERVICE}::{address}::health_flags::healthy\n");
    let begun = Instant::now();
    loop {
        let page = http.get(envoy.admin(), "/clusters").await?.text();
        if page.contains(&line) == comes {
            return Ok(());
        }
        ensure!(begun.elapsed() < PATIENT, "{address} did not come or go in {PATIENT:?}");
        if pace.beat >= LONG {
            tokio::time::sleep(GLANCE).await;
        }
    }
}

/// When the adapter last told something. Asked right behind a change, that is the change, unless the adapter said in the
/// few milliseconds since that there is nothing new.
async fn last_event(leadsman: &Leadsman) -> anyhow::Result<SystemTime> {
    let source = leadsman.api(&format!("/api/v1/sources/{SOURCE}")).await;
    let told = source["last_event"].as_str().context("no event")?;
    Ok(humantime::parse_rfc3339(told)?)
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

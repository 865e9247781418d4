//! What `/metrics` counts. Every name begins with `leadsman_`; no label holds the name of a node.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use leadsman_core::snapshot::{PerType, ResourceType};
use leadsman_core::xds::Response;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use tokio::time::Instant;

/// A label that says which xDS type is meant: `cds`, `eds`, `lds`, `rds` or `istio`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    r#type: &'static str,
}

fn kind(kind: ResourceType) -> Kind {
    let r#type = match kind {
        ResourceType::Cluster => "cds",
        ResourceType::Endpoint => "eds",
        ResourceType::Listener => "lds",
        ResourceType::Route => "rds",
        ResourceType::ServiceEntry => "istio",
    };
    Kind { r#type }
}

/// What is counted for every delivery of a type, without a look-up.
#[derive(Debug)]
struct Frequent {
    responses: Counter,
    response_bytes: Counter,
    acks: Counter,
}

/// Counters of the serving path, and the heartbeat of the controller.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    streams: Gauge<i64, AtomicI64>,
    responses: Family<Kind, Counter>,
    response_bytes: Family<Kind, Counter>,
    acks: Family<Kind, Counter>,
    nacks: Family<Kind, Counter>,
    quarantines: Family<Kind, Counter>,
    frequent: PerType<Frequent>,
    publish: Histogram,
    reloads: Counter,
    reload_failures: Counter,
    reload_ok: Gauge<i64, AtomicI64>,
    started: Instant,
    last_tick: AtomicU64,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// How often the controller's loop turns at the least.
    pub(crate) const HEARTBEAT: Duration = Duration::from_secs(1);
    /// How long the loop may stand still before the process counts as stuck.
    pub(crate) const STUCK: Duration = Duration::from_secs(30);
    /// Proxies quote whole resources when they refuse one; this much of it is kept and logged.
    pub(crate) const MAX_LOGGED_CHARS: usize = 1024;

    fn new() -> Self {
        let buckets = [
            0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0,
        ];
        let (responses, response_bytes, acks) = <(Family<_, _>, Family<_, _>, Family<_, _>)>::default();
        let frequent = PerType::new(|of| Frequent {
            responses: responses.get_or_create_owned(&kind(of)),
            response_bytes: response_bytes.get_or_create_owned(&kind(of)),
            acks: acks.get_or_create_owned(&kind(of)),
        });
        let mut metrics = Self {
            registry: Registry::with_prefix("leadsman"),
            streams: Gauge::default(),
            responses,
            response_bytes,
            acks,
            frequent,
            nacks: Family::default(),
            quarantines: Family::default(),
            publish: Histogram::new(buckets),
            reloads: Counter::default(),
            reload_failures: Counter::default(),
            reload_ok: Gauge::default(),
            started: Instant::now(),
            last_tick: AtomicU64::new(0),
        };
        metrics.reload_ok.set(1);
        metrics.register();
        metrics
    }

    fn register(&mut self) {
        // A series that appears with its first count can't be alerted on: all start at zero.
        for family in [
            &self.responses,
            &self.response_bytes,
            &self.acks,
            &self.nacks,
            &self.quarantines,
        ] {
            ResourceType::ALL
                .into_iter()
                .for_each(|of| drop(family.get_or_create(&kind(of))));
        }
        let registry = &mut self.registry;
        registry.register("xds_streams", "Streams open now", self.streams.clone());
        registry.register("xds_responses", "Responses sent", self.responses.clone());
        let help = "Bytes of the responses sent";
        registry.register_with_unit("xds_response", help, Unit::Bytes, self.response_bytes.clone());
        registry.register("xds_acks", "Responses that clients accepted", self.acks.clone());
        registry.register("xds_nacks", "Responses that clients refused", self.nacks.clone());
        let help = "Resources that were found to be the reason of a refusal, and are held back until they change";
        registry.register("xds_quarantines", help, self.quarantines.clone());
        let help = "From the receipt of a registry event to the snapshot that holds it";
        registry.register_with_unit("event_to_snapshot", help, Unit::Seconds, self.publish.clone());
        registry.register("config_reloads", "Configuration files read again", self.reloads.clone());
        let help = "Configuration files that were not taken over because of a mistake in them";
        registry.register("config_reload_failures", help, self.reload_failures.clone());
        let help = "Whether the last reload was taken over (1) or the old configuration was kept (0)";
        registry.register("config_last_reload_successful", help, self.reload_ok.clone());
    }

    pub(crate) fn registry(&self) -> &Registry {
        &self.registry
    }

    pub(crate) fn stream_opened(&self) {
        self.streams.inc();
    }

    pub(crate) fn stream_closed(&self) {
        self.streams.dec();
    }

    pub(crate) fn sent(&self, response: &Response, bytes: usize) {
        if let Some(of) = ResourceType::from_type_url(&response.type_url) {
            let frequent = self.frequent.of(of);
            frequent.responses.inc();
            frequent.response_bytes.inc_by(bytes as u64);
        }
    }

    pub(crate) fn acked(&self, of: ResourceType) {
        self.frequent.of(of).acks.inc();
    }

    pub(crate) fn nacked(&self, of: ResourceType) {
        self.nacks.get_or_create(&kind(of)).inc();
    }

    pub(crate) fn quarantined(&self, of: ResourceType, resources: u64) {
        self.quarantines.get_or_create(&kind(of)).inc_by(resources);
    }

    pub(crate) fn published(&self, after: Duration) {
        self.publish.observe(after.as_secs_f64());
    }

    pub(crate) fn reloaded(&self, successful: bool) {
        self.reloads.inc();
        self.reload_ok.set(i64::from(successful));
        if !successful {
            self.reload_failures.inc();
        }
    }

    /// The controller's loop turned.
    pub(crate) fn tick(&self) {
        let elapsed = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_tick.store(elapsed, Ordering::Relaxed);
    }

    /// How long ago the controller's loop turned.
    pub(crate) fn since_tick(&self) -> Duration {
        self.started
            .elapsed()
            .saturating_sub(Duration::from_millis(self.last_tick.load(Ordering::Relaxed)))
    }
}

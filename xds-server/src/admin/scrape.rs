//! `/metrics`: the counters of the serving path, and what is read off the sources at the moment of the scrape.

use std::fmt;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use leadsman_registry::{SourceState, SourceStatus};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use super::Admin;
use super::read::problem;
use crate::controller::Command;

pub(super) async fn metrics(State(admin): State<Admin>) -> Response {
    let contents = admin.ask(Command::Contents).await.unwrap_or_default();
    let snapshot = admin.publication.snapshot();
    let moment = Moment {
        sources: admin.sources.iter().map(|status| status.borrow().clone()).collect(),
        held: contents
            .iter()
            .map(|(source, contents)| (source.to_string(), contents.held))
            .collect(),
        clusters: snapshot.len(),
        serial: snapshot.serial(),
        proxies: admin.proxies.len(),
    };
    let mut body = String::new();
    let mut registry = Registry::with_prefix("leadsman");
    registry.register_collector(Box::new(moment));
    let encoded = text::encode_registry(&mut body, admin.metrics.registry())
        .and_then(|()| text::encode_registry(&mut body, &registry))
        .and_then(|()| text::encode_eof(&mut body));
    match encoded {
        Ok(()) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], body).into_response()
        }
        Err(error) => problem(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

/// What is true now.
#[derive(Debug)]
struct Moment {
    sources: Vec<SourceStatus>,
    held: Vec<(String, usize)>,
    clusters: usize,
    serial: u64,
    proxies: usize,
}

/// A counter or a gauge of a source, by name.
type SourceCounter = (&'static str, &'static str, fn(&SourceStatus) -> u64);

const SOURCE_COUNTERS: [SourceCounter; 8] = [
    ("source_sessions", "Sessions begun", |status| status.counters.sessions),
    ("source_session_errors", "Sessions that ended with an error", |status| {
        status.counters.session_errors
    }),
    (
        "source_auth_failures",
        "Sessions refused for their credentials",
        |status| status.counters.auth_failures,
    ),
    ("source_resyncs", "Full listings taken over", |status| {
        status.counters.resyncs
    }),
    ("source_applies", "Changes of a service taken over", |status| {
        status.counters.applies
    }),
    ("source_deletes", "Services that went away", |status| {
        status.counters.deletes
    }),
    (
        "reconciles",
        "Comparisons of what is held with a fresh read",
        |status| status.counters.reconciles,
    ),
    (
        "reconcile_drift",
        "Records that differed in such a comparison: each is an event that was lost",
        |status| status.counters.reconcile_drift,
    ),
];

const SOURCE_GAUGES: [SourceCounter; 3] = [
    (
        "source_revision",
        "The registry's own revision, as last heard",
        |status| status.revision,
    ),
    (
        "source_overdue_instances",
        "Instances that are listed as alive although their leases ran out",
        |status| status.overdue.instances,
    ),
    (
        "source_overdue_seconds",
        "How long ago the first of these leases ran out",
        |status| status.overdue.longest_seconds,
    ),
];

impl Collector for Moment {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for (name, help, count) in SOURCE_COUNTERS {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for status in &self.sources {
                let labels = [("source", status.name.as_str())];
                ConstCounter::new(count(status)).encode(family.encode_family(&labels)?)?;
            }
        }
        let help = "Whether the source is live (1) or not (0)";
        let mut family = encoder.encode_descriptor("source_up", help, None, MetricType::Gauge)?;
        for status in &self.sources {
            let labels = [("source", status.name.as_str()), ("kind", status.kind)];
            ConstGauge::new(i64::from(status.state == SourceState::Live)).encode(family.encode_family(&labels)?)?;
        }
        for (name, help, value) in SOURCE_GAUGES {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for status in &self.sources {
                let labels = [("source", status.name.as_str())];
                ConstGauge::new(value(status)).encode(family.encode_family(&labels)?)?;
            }
        }
        let help = "Endpoints kept although a registry that is not the one it was does not list them";
        let mut family = encoder.encode_descriptor("guard_held_endpoints", help, None, MetricType::Gauge)?;
        for (source, held) in &self.held {
            ConstGauge::new(*held as u64).encode(family.encode_family(&[("source", source.as_str())])?)?;
        }
        self.encode_totals(encoder)
    }
}

impl Moment {
    fn encode_totals(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let totals = [
            ("clusters", "Clusters published", self.clusters as u64),
            ("snapshot_serial", "Publications since the start", self.serial),
            ("proxies", "Proxies connected now", self.proxies as u64),
        ];
        for (name, help, value) in totals {
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)?;
        }
        let info = ConstGauge::new(1_u64);
        let mut family = encoder.encode_descriptor("build_info", "The version that runs", None, MetricType::Gauge)?;
        info.encode(family.encode_family(&[("version", env!("CARGO_PKG_VERSION"))])?)
    }
}

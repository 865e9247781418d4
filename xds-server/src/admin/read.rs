//! Probes and lists.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use leadsman_core::model::{Rejection, ServiceName, SourceName};
use leadsman_core::policy::Decision;
use leadsman_core::snapshot::ResourceType;
use leadsman_registry::StatusReader;
use serde_json::json;
use tokio::sync::oneshot;

use super::Admin;
use crate::api;
use crate::controller::{Command, Contents, Overview, Subject};
use crate::holdings::Tally;
use crate::metrics::Metrics;
use crate::proxies::{Proxy, Standing};

/// Says why something is changed; its presence is what a forged form of a browser lacks.
const REASON: &str = "leadsman-reason";

/// Refused resources that are shown by name; one is a mistake, hundreds are the same mistake.
const MAX_QUARANTINED: usize = 100;

/// A question that the controller is too late to answer: it is stuck, or shutting down.
pub(super) fn unavailable() -> Response {
    problem(
        StatusCode::SERVICE_UNAVAILABLE,
        "the controller does not answer".to_owned(),
    )
}

pub(super) fn problem(status: StatusCode, error: String) -> Response {
    (status, Json(api::Problem { error })).into_response()
}

impl Admin {
    /// Asks the controller, and gives up rather than wait for ever.
    pub(super) async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Option<T> {
        const PATIENCE: Duration = Duration::from_secs(5);
        let (reply, answer) = oneshot::channel();
        let asked = async {
            self.controller.send(command(reply)).await.ok()?;
            answer.await.ok()
        };
        tokio::time::timeout(PATIENCE, asked).await.ok().flatten()
    }
}

impl Admin {
    /// Every source: how its sessions go, and what the catalog makes of what it said.
    async fn sources(&self) -> Vec<api::Source> {
        let mut contents = self.ask(Command::Contents).await.unwrap_or_default();
        let of = |status: &StatusReader| {
            let status = status.borrow().clone();
            let Contents { held, unattributed } = contents.remove(&status.name).unwrap_or_default();
            let mut source = api::Source::from(&status);
            source.held = held as u64;
            source.unattributed = unattributed
                .into_iter()
                .map(|rejection| rejected((status.name.clone(), rejection)))
                .collect();
            if held > 0 {
                source.state = api::SourceState::Suspect;
            }
            source
        };
        self.sources.iter().map(of).collect()
    }
}

pub(super) fn rejected((source, rejection): (SourceName, Rejection)) -> api::RejectedRecord {
    let Rejection { provenance, reason } = rejection;
    api::RejectedRecord {
        source: source.to_string(),
        record: provenance.record.to_string(),
        layout: provenance.layout.to_string(),
        raw: provenance.raw.to_string(),
        reason,
    }
}

/// Alive means that the controller's loop turns. No registry has a say in it: a restart would lose the last state.
pub(super) async fn livez(State(admin): State<Admin>) -> Response {
    let still = admin.metrics.since_tick();
    if still > Metrics::STUCK {
        let error = format!("the controller has not moved for {} s", still.as_secs());
        return problem(StatusCode::SERVICE_UNAVAILABLE, error);
    }
    "ok\n".into_response()
}

/// Ready means that every source has listed its services once, and that the listing is published.
pub(super) async fn readyz(State(admin): State<Admin>, Query(query): Query<BTreeMap<String, String>>) -> Response {
    let sources = admin.sources().await;
    let unready: Vec<String> = sources
        .iter()
        .filter(|source| !source.synced)
        .map(|s| s.name.clone())
        .collect();
    let ready = unready.is_empty() && admin.publication.snapshot().is_answering();
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    if !query.contains_key("verbose") {
        let text = if ready {
            "ok\n".to_owned()
        } else {
            format!("waiting for sources: {}\n", unready.join(", "))
        };
        return (status, text).into_response();
    }
    let reload = admin.reload.borrow().clone();
    let degraded: Vec<String> = sources
        .iter()
        .filter(|source| source.synced && source.state != api::SourceState::Live)
        .map(|source| format!("source {} is {}", source.name, source.state))
        .chain(
            reload
                .as_ref()
                .map(|_| "the newest configuration file has mistakes; the old one is in force".to_owned()),
        )
        .collect();
    let config = json!({ "ok": reload.is_none(), "error": reload });
    let body =
        json!({ "ready": ready, "unready": unready, "degraded": degraded, "config": config, "sources": sources });
    (status, Json(body)).into_response()
}

pub(super) async fn sources(State(admin): State<Admin>) -> Json<Vec<api::Source>> {
    Json(admin.sources().await)
}

/// What one source lists.
pub(super) async fn source(State(admin): State<Admin>, Path(name): Path<String>) -> Response {
    let Some(source) = admin.sources().await.into_iter().find(|source| source.name == name) else {
        return problem(StatusCode::NOT_FOUND, format!("there is no source {name}"));
    };
    let Ok(asked) = SourceName::new(&name) else {
        return problem(StatusCode::NOT_FOUND, "no such source".to_owned());
    };
    match admin.ask(|reply| Command::Listed(asked, reply)).await {
        Some(listed) => Json(api::SourceDetail::new(source, listed)).into_response(),
        None => unavailable(),
    }
}

pub(super) async fn services(State(admin): State<Admin>) -> Response {
    match admin.ask(Command::Overview).await {
        Some(all) => Json(all.iter().map(summary).collect::<Vec<_>>()).into_response(),
        None => unavailable(),
    }
}

fn summary(overview: &Overview) -> api::ServiceSummary {
    let Overview {
        name,
        clusters,
        resolution,
        rejected,
        version,
    } = overview;
    let used = resolution.sources.iter().filter(|view| view.used);
    let usable = resolution.published().filter(|decision| decision.health.is_usable());
    api::ServiceSummary {
        name: name.to_string(),
        cluster: clusters.first().map(ToString::to_string).unwrap_or_default(),
        sources: used.map(|view| view.source.to_string()).collect(),
        endpoints: resolution.published().count() as u64,
        healthy: usable.count() as u64,
        rejected: *rejected as u64,
        version: version.clone().unwrap_or_default(),
    }
}

pub(super) async fn service(State(admin): State<Admin>, Path(name): Path<String>) -> Response {
    let subject = match find(&admin, &name).await {
        Ok(subject) => subject,
        Err(response) => return response,
    };
    let Subject {
        clusters,
        resolution,
        rejections,
        snapshot,
        ..
    } = subject;
    let assignment = clusters
        .first()
        .and_then(|cluster| snapshot.get(ResourceType::Endpoint, cluster.as_str()));
    let version = assignment.map(|assignment| assignment.version.to_string());
    let mut members: Vec<&Decision> = resolution.published().collect();
    members.sort_by_key(|decision| decision.endpoint.address);
    let detail = api::ServiceDetail {
        members: members.into_iter().map(member).collect(),
        summary: summary(&Overview {
            name: resolution.service.clone(),
            clusters,
            rejected: rejections.len(),
            version,
            resolution: resolution.clone(),
        }),
    };
    Json(detail).into_response()
}

/// Everything about a service, or the answer that there is nothing.
pub(super) async fn find(admin: &Admin, name: &str) -> Result<Subject, Response> {
    let name = ServiceName::new(name).map_err(|error| problem(StatusCode::BAD_REQUEST, error.to_string()))?;
    let asked = admin
        .ask(|reply| Command::Explain(name.clone(), reply))
        .await
        .ok_or_else(unavailable)?;
    asked.ok_or_else(|| {
        problem(
            StatusCode::NOT_FOUND,
            format!("no source has ever listed a service {name}"),
        )
    })
}

fn member(decision: &Decision) -> api::Endpoint {
    api::Endpoint {
        address: decision.endpoint.address.to_string(),
        health: decision.health.to_string(),
        weight: decision.weight,
        locality: (&decision.endpoint.locality).into(),
        source: decision.source.to_string(),
        metadata: decision.endpoint.metadata.clone(),
    }
}

pub(super) async fn proxies(State(admin): State<Admin>) -> Json<Vec<api::Proxy>> {
    let _one_at_a_time = admin.asking.lock().await;
    let asked = admin.proxies.all().into_iter().map(|proxy| async move {
        let standing = proxy.standing().await;
        describe(&proxy, standing)
    });
    Json(futures_util::future::join_all(asked).await)
}

pub(super) async fn proxy(State(admin): State<Admin>, Path(id): Path<String>) -> Response {
    match admin.proxies.find(&id) {
        Some(proxy) => {
            let standing = proxy.standing().await;
            Json(describe(&proxy, standing)).into_response()
        }
        None => not_connected(&id),
    }
}

pub(super) fn not_connected(id: &str) -> Response {
    problem(StatusCode::NOT_FOUND, format!("no proxy {id} is connected"))
}

fn describe(proxy: &Proxy, standing: Option<Vec<Standing>>) -> api::Proxy {
    api::Proxy {
        id: proxy.id(),
        node_id: proxy.node.id.clone(),
        cluster: proxy.node.cluster.clone(),
        locality: (&proxy.node.locality).into(),
        user_agent: proxy.node.user_agent.clone(),
        peer: proxy.peer.map(|peer| peer.to_string()).unwrap_or_default(),
        connected_since: proxy.connected_since.into(),
        answering: standing.is_some(),
        types: standing
            .into_iter()
            .flatten()
            .filter(|of| of.report.requested)
            .map(describe_type)
            .collect(),
    }
}

fn describe_type(standing: Standing) -> api::ProxyType {
    let Standing { report, refusal, tally } = standing;
    let Tally {
        synced,
        not_sent,
        stale,
        errors,
    } = tally;
    api::ProxyType {
        status: tally.worst().into(),
        resources: (synced + not_sent + stale + errors) as u64,
        not_sent: not_sent as u64,
        type_url: report.type_url.to_owned(),
        wildcard: report.wildcard,
        subscribed: report.subscribed as u64,
        sent: report.sent.saturating_sub(report.acked) as u64,
        acked: report.acked as u64,
        rejected: report.rejected.len() as u64,
        quarantined: report
            .rejected
            .iter()
            .take(MAX_QUARANTINED)
            .map(|(name, version)| api::Quarantined {
                name: name.to_string(),
                version: version.to_string(),
            })
            .collect(),
        last_nack: refusal.map(api::Nack::from),
        oldest_unacked_ms: report
            .oldest_unacked
            .map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
    }
}

/// Endpoints that are kept although the registry, which is not the one it was, does not list them.
pub(super) async fn guard(State(admin): State<Admin>) -> Response {
    let Some(contents) = admin.ask(Command::Contents).await else {
        return unavailable();
    };
    let held: Vec<_> = contents
        .iter()
        .map(|(source, contents)| json!({ "source": source.as_str(), "held": contents.held }))
        .collect();
    Json(held).into_response()
}

pub(super) async fn release(State(admin): State<Admin>, Path(source): Path<String>, headers: HeaderMap) -> Response {
    let Some(reason) = headers.get(REASON).and_then(|reason| reason.to_str().ok()) else {
        return problem(StatusCode::BAD_REQUEST, format!("say why in the header {REASON}"));
    };
    let known = admin
        .sources
        .iter()
        .any(|status| status.borrow().name.as_str() == source);
    let Ok(name) = SourceName::new(&source) else {
        return problem(StatusCode::NOT_FOUND, "no such source".to_owned());
    };
    if !known {
        return problem(StatusCode::NOT_FOUND, format!("there is no source {source}"));
    }
    let Some(released) = admin.ask(|reply| Command::Release(name, reply)).await else {
        return unavailable();
    };
    tracing::warn!(target: "leadsman::audit", %source, reason, released, "held endpoints released by an operator");
    Json(json!({ "source": source, "released": released })).into_response()
}

pub(super) async fn not_found() -> Response {
    let paths = "/livez /readyz /metrics /api/v1/{sources,sources/NAME,services,services/NAME,explain/NAME,proxies,proxies/ID,proxies/ID/resources,guard}";
    problem(StatusCode::NOT_FOUND, format!("there is nothing here; try {paths}"))
}

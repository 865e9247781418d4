//! `/api/v1/explain/NAME`: for every endpoint, why it is there or not, and who has it.

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use leadsman_core::model::Presence;
use leadsman_core::policy::{Decision, Resolution, SourceView};
use leadsman_core::snapshot::{ClusterName, MAX_CLUSTERS, ResourceType};
use leadsman_core::xds::ResourceState;

use super::Admin;
use super::read::{find, rejected};
use crate::api;
use crate::content;
use crate::controller::Subject;
use crate::proxies::Proxy;

pub(super) async fn explain(State(admin): State<Admin>, Path(name): Path<String>) -> Response {
    let subject = match find(&admin, &name).await {
        Ok(subject) => subject,
        Err(response) => return response,
    };
    let Subject {
        settings,
        clusters,
        resolution,
        rejections,
        pending,
        snapshot,
    } = subject;
    let own = clusters.first();
    let version = |kind| Some(snapshot.get(kind, own?.as_str())?.version.to_string());
    let entry = own.and_then(|cluster| snapshot.get(ResourceType::ServiceEntry, cluster.as_str()));
    let mut endpoints: Vec<&Decision> = resolution.decisions.iter().collect();
    endpoints.sort_by_key(|decision| decision.endpoint.address);
    let explanation = api::Explanation {
        service: resolution.service.to_string(),
        cluster: own.map(ToString::to_string).unwrap_or_default(),
        settings: (&settings).into(),
        sources: resolution
            .sources
            .iter()
            .map(|view| source(&admin, view, &resolution))
            .collect(),
        endpoints: endpoints
            .into_iter()
            .map(|decision| endpoint(decision, own.is_some(), pending))
            .collect(),
        rejected: rejections.into_iter().map(rejected).collect(),
        resources: api::Resources {
            cluster_version: version(ResourceType::Cluster),
            assignment_version: version(ResourceType::Endpoint),
        },
        istio: entry.and_then(|entry| content::in_istio(&entry)),
        proxies: match own {
            Some(cluster) => deliveries(&admin, cluster).await,
            None => Vec::new(),
        },
    };
    Json(explanation).into_response()
}

fn source(admin: &Admin, view: &SourceView, resolution: &Resolution) -> api::ExplainedSource {
    let status = admin
        .sources
        .iter()
        .map(|status| status.borrow().clone())
        .find(|status| status.name == view.source);
    let first = resolution
        .sources
        .iter()
        .find(|view| view.used)
        .map(|view| view.source.to_string());
    let decision = match (&view.listed, view.used, first) {
        (Presence::Unknown, _, _) => "has not said anything about the service yet".to_owned(),
        (Presence::Known(false), _, _) => "does not list the service".to_owned(),
        (Presence::Known(true), true, _) => "chosen".to_owned(),
        (Presence::Known(true), false, first) => format!("shadowed by {}", first.unwrap_or_default()),
    };
    api::ExplainedSource {
        name: view.source.to_string(),
        state: status
            .as_ref()
            .map_or(api::SourceState::Connecting, |status| status.state.into()),
        last_event: status.and_then(|status| status.last_event).map(Into::into),
        listed: match view.listed {
            Presence::Unknown => None,
            Presence::Known(listed) => Some(listed),
        },
        decision,
    }
}

fn endpoint(decision: &Decision, has_cluster: bool, pending: bool) -> api::ExplainedEndpoint {
    let Decision { source, endpoint, .. } = decision;
    let in_envoy = decision.published && has_cluster;
    let reason = match (decision.published, has_cluster) {
        (true, false) => {
            format!("not published: the name of its cluster is too long, or there are {MAX_CLUSTERS} clusters already")
        }
        (true, true) if pending => format!("{}; a newer change is on its way", decision.reason),
        (true | false, _) => decision.reason.clone(),
    };
    let provenance = &endpoint.provenance;
    api::ExplainedEndpoint {
        address: endpoint.address.to_string(),
        in_envoy,
        decision: reason,
        health: decision.health.to_string(),
        health_reason: decision.health_reason.clone(),
        weight_raw: endpoint.weight.get(),
        weight: decision.weight,
        weight_reason: decision.weight_reason.clone(),
        locality: (&endpoint.locality).into(),
        source: source.to_string(),
        layout: provenance.layout.to_string(),
        record: provenance.record.to_string(),
        raw: provenance.raw.to_string(),
        revision: provenance.revision,
    }
}

async fn deliveries(admin: &Admin, cluster: &ClusterName) -> Vec<api::ExplainedProxy> {
    let _one_at_a_time = admin.asking.lock().await;
    let asked = admin
        .proxies
        .all()
        .into_iter()
        .map(|proxy| delivery(proxy, cluster.clone()));
    futures_util::future::join_all(asked)
        .await
        .into_iter()
        .flatten()
        .collect()
}

/// A proxy that went away while it was asked is left out.
async fn delivery(proxy: Proxy, cluster: ClusterName) -> Option<api::ExplainedProxy> {
    let delivery = proxy.delivery(cluster).await?;
    let (assignment, version) = state(&delivery.assignment);
    let refused = [&delivery.cluster, &delivery.assignment];
    let refused = refused
        .into_iter()
        .any(|state| matches!(state, ResourceState::Rejected { .. }));
    Some(api::ExplainedProxy {
        id: proxy.id(),
        cluster: state(&delivery.cluster).0,
        assignment,
        version,
        nack: delivery.refusal.filter(|_| refused).map(|refusal| refusal.message),
    })
}

fn state(state: &ResourceState) -> (api::Delivery, Option<String>) {
    match state {
        ResourceState::NotSubscribed => (api::Delivery::NotSubscribed, None),
        ResourceState::NotSent => (api::Delivery::Pending, None),
        ResourceState::Sent { .. } => (api::Delivery::Sent, None),
        ResourceState::Acked { version } => (api::Delivery::Acked, Some(version.to_string())),
        ResourceState::Rejected { .. } => (api::Delivery::Rejected, None),
    }
}

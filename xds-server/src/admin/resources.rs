//! `/api/v1/proxies/ID/resources`: what one proxy should have, resource by resource, and how far it is.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::Admin;
use super::read::{not_connected, problem};
use crate::holdings::{Holding, Holdings};
use crate::{api, content};

pub(super) async fn resources(State(admin): State<Admin>, Path(id): Path<String>) -> Response {
    // The answer may be large: one at a time.
    let _one_at_a_time = admin.asking.lock().await;
    let Some(proxy) = admin.proxies.find(&id) else {
        return not_connected(&id);
    };
    let Some(holdings) = proxy.holdings().await else {
        let error = format!("the stream of {} does not answer", proxy.id());
        return problem(StatusCode::SERVICE_UNAVAILABLE, error);
    };
    let requested = holdings.into_iter().filter(|of| of.report.requested);
    Json(api::ProxyResources {
        id: proxy.id(),
        node_id: proxy.node.id,
        types: requested.map(of_type).collect(),
    })
    .into_response()
}

fn of_type(holdings: Holdings) -> api::TypeResources {
    let status = holdings.tally().worst().into();
    let Holdings {
        kind,
        report,
        refusal,
        resources,
    } = holdings;
    let shown = |holding: &Holding| api::ProxyResource {
        name: holding.name.to_string(),
        status: holding.status().map(Into::into),
        version: holding.published.as_ref().map(|resource| resource.version.to_string()),
        sent_version: holding.told().map(|version| version.to_string()),
        content: holding
            .published
            .as_ref()
            .map_or(serde_json::Value::Null, |resource| content::json(kind, resource)),
    };
    api::TypeResources {
        type_url: report.type_url.to_owned(),
        status,
        last_nack: refusal.map(Into::into),
        resources: resources.iter().map(shown).collect(),
    }
}

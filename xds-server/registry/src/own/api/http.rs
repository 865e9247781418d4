//! The calls as HTTP and JSON. What the words mean is in `proto/leadsman/registry/v1/registry.proto`.
//!
//! | | `/v1/services/{service}/instances/{id}` |
//! |---|---|
//! | `PUT` | register |
//! | `GET` | get |
//! | `DELETE ?lease=&version=` | deregister |
//! | `PUT …/lease/{lease}` | renew |
//! | `PUT …/draining ?lease=&version=` | drain |
//! | `DELETE …/draining ?lease=&version=` | end the drain |
//!
//! and `GET /v1/services/{service}/instances` and `GET /v1/instances`, both with `?after=&limit=`. Nothing is changed by
//! `GET` or `POST`, which a browser would send for a foreign page without asking.

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, FromRequestParts, Path, Query, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};
use axum::{Json, Router};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::super::model::{
    Content, DEFAULT_TTL_SECONDS, Guard, Key, Listing, Place, Refusal, Registration, default_health, default_weight,
};
use super::{Api, bearer};
use crate::text::shorten;

/// An instance with all the metadata it may have takes some 10 KiB.
pub(super) const MAX_BODY_BYTES: usize = 64 * 1024;
/// Decoders quote what they stumble over.
const MAX_QUOTED_BYTES: usize = 200;

/// How the path of a call ends that answers with a page.
pub(super) const PAGES: &str = "/instances";

type Outcome = Result<Response, Refusal>;

pub(super) fn router(api: Api) -> Router {
    let instance = "/v1/services/{service}/instances/{id}";
    Router::new()
        .route(instance, put(register).get(read).delete(deregister))
        .route(&format!("{instance}/lease/{{lease}}"), put(renew))
        .route(&format!("{instance}/draining"), put(drain).delete(undrain))
        .route("/v1/services/{service}/instances", get(list_service))
        .route("/v1/instances", get(list))
        .fallback(not_found)
        .method_not_allowed_fallback(not_allowed)
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(api)
}

/// The body of a registration. Unlike in what is stored, a word that is not known is a mistake.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    address: String,
    port: u32,
    #[serde(default = "default_weight")]
    weight: f64,
    #[serde(default = "default_health")]
    health: String,
    #[serde(default)]
    locality: Locality,
    #[serde(default)]
    metadata: std::collections::BTreeMap<String, String>,
    #[serde(default = "default_ttl")]
    ttl_seconds: u32,
    #[serde(default)]
    holder: String,
    expected_version: Option<u64>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Locality {
    region: String,
    zone: String,
    sub_zone: String,
}

fn default_ttl() -> u32 {
    DEFAULT_TTL_SECONDS
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GuardQuery {
    lease: Option<String>,
    version: Option<u64>,
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
#[derive(Default)]
struct PageQuery {
    after: String,
    limit: u32,
}

impl GuardQuery {
    fn guard(self) -> Result<Guard, Refusal> {
        let lease = self.lease.map(|lease| lease.parse()).transpose()?;
        Ok(Guard {
            lease,
            version: self.version,
        })
    }
}

/// A path or a query that can't be understood is refused like everything else.
struct Plain<T>(T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Plain<Path<T>> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let path = Path::from_request_parts(parts, state).await;
        path.map(Self).map_err(|error| Refusal::Invalid(error.body_text()))
    }
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Plain<Query<T>> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let query = Query::from_request_parts(parts, state).await;
        query.map(Self).map_err(|error| Refusal::Invalid(error.body_text()))
    }
}

async fn register(
    State(api): State<Api>,
    Plain(Path((service, id))): Plain<Path<(String, String)>>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Outcome {
    let key = Key::new(&service, &id)?;
    let body = body.map_err(|error| Refusal::Invalid(format!("the body can't be read: {}", error.body_text())))?;
    let body: Body = serde_json::from_slice(&body).map_err(|error| {
        let error = shorten(&error.to_string(), MAX_QUOTED_BYTES);
        Refusal::Invalid(format!("the body is no registration: {error}"))
    })?;
    let Locality { region, zone, sub_zone } = body.locality;
    let wish = Registration {
        key,
        content: Content {
            address: body.address,
            port: body.port,
            weight: body.weight,
            health: body.health,
            locality: Place { region, zone, sub_zone },
            metadata: body.metadata,
        },
        ttl_seconds: body.ttl_seconds,
        holder: body.holder,
        expected: body.expected_version,
    };
    let receipt = api.register(token(&headers), wish).await?;
    Ok(Json(receipt).into_response())
}

async fn renew(
    State(api): State<Api>,
    Plain(Path((service, id, lease))): Plain<Path<(String, String, String)>>,
    headers: HeaderMap,
) -> Outcome {
    let (key, lease) = (Key::new(&service, &id)?, lease.parse()?);
    let receipt = api.renew(token(&headers), key, lease).await?;
    Ok(Json(receipt).into_response())
}

async fn drain(
    state: State<Api>,
    path: Plain<Path<(String, String)>>,
    query: Plain<Query<GuardQuery>>,
    headers: HeaderMap,
) -> Outcome {
    set_draining(state, path, query, headers, true).await
}

async fn undrain(
    state: State<Api>,
    path: Plain<Path<(String, String)>>,
    query: Plain<Query<GuardQuery>>,
    headers: HeaderMap,
) -> Outcome {
    set_draining(state, path, query, headers, false).await
}

async fn set_draining(
    State(api): State<Api>,
    Plain(Path((service, id))): Plain<Path<(String, String)>>,
    Plain(Query(query)): Plain<Query<GuardQuery>>,
    headers: HeaderMap,
    draining: bool,
) -> Outcome {
    let (key, guard) = (Key::new(&service, &id)?, query.guard()?);
    let receipt = api.drain(token(&headers), key, guard, draining).await?;
    Ok(Json(receipt).into_response())
}

async fn deregister(
    State(api): State<Api>,
    Plain(Path((service, id))): Plain<Path<(String, String)>>,
    Plain(Query(query)): Plain<Query<GuardQuery>>,
    headers: HeaderMap,
) -> Outcome {
    let (key, guard) = (Key::new(&service, &id)?, query.guard()?);
    let removed = api.deregister(token(&headers), key, guard).await?;
    Ok(Json(json!({ "removed": removed })).into_response())
}

async fn read(
    State(api): State<Api>,
    Plain(Path((service, id))): Plain<Path<(String, String)>>,
    headers: HeaderMap,
) -> Outcome {
    let key = Key::new(&service, &id)?;
    Ok(Json(api.get(token(&headers), key).await?).into_response())
}

async fn list_service(
    State(api): State<Api>,
    Plain(Path(service)): Plain<Path<String>>,
    Plain(Query(query)): Plain<Query<PageQuery>>,
    headers: HeaderMap,
) -> Outcome {
    let listing = Listing::new(&service, &query.after, query.limit)?;
    Ok(Json(api.list(token(&headers), listing).await?).into_response())
}

async fn list(State(api): State<Api>, Plain(Query(query)): Plain<Query<PageQuery>>, headers: HeaderMap) -> Outcome {
    let listing = Listing::new("", &query.after, query.limit)?;
    Ok(Json(api.list(token(&headers), listing).await?).into_response())
}

async fn not_found() -> Response {
    let text = "there is nothing here; see docs/registries/registry.md".to_owned();
    problem(StatusCode::NOT_FOUND, "invalid", &text)
}

async fn not_allowed() -> Response {
    problem(
        StatusCode::METHOD_NOT_ALLOWED,
        "invalid",
        "this can't be done here with this method",
    )
}

fn token(headers: &HeaderMap) -> Option<&str> {
    bearer(headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()))
}

pub(super) fn problem(status: StatusCode, code: &str, error: &str) -> Response {
    (status, Json(json!({ "code": code, "error": error }))).into_response()
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = match &self {
            Self::Invalid(_) => StatusCode::BAD_REQUEST,
            Self::Unknown(_) => StatusCode::NOT_FOUND,
            Self::Replaced(_) | Self::Conflict { .. } => StatusCode::CONFLICT,
            Self::Full(_) => StatusCode::INSUFFICIENT_STORAGE,
            Self::Unauthenticated(_) => StatusCode::UNAUTHORIZED,
            Self::Forbidden(_) => StatusCode::FORBIDDEN,
            Self::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        let mut response = problem(status, self.code(), &self.to_string());
        if status == StatusCode::UNAUTHORIZED {
            let scheme = header::HeaderValue::from_static("Bearer");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
        }
        response
    }
}

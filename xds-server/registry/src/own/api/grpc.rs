//! The calls as gRPC. Statuses and messages don't leave this file.

use leadsman_core::model::Health;
use leadsman_proto::registry as pb;
use tonic::metadata::MetadataMap;
use tonic::{Code, Request, Response, Status};

use super::super::model::{
    Content, DEFAULT_TTL_SECONDS, Guard, Key, Listing, Place, Receipt, Refusal, Registration, Shown, default_weight,
};
use super::http::MAX_BODY_BYTES;
use super::{Api, bearer};

/// The metadata with the word for programs.
const CODE: &str = "leadsman-code";

pub(super) type Service = pb::registry_server::RegistryServer<Grpc>;

pub(super) fn service(api: Api) -> Service {
    Service::new(Grpc(api)).max_decoding_message_size(MAX_BODY_BYTES)
}

/// How the path of a call ends that answers with a page.
pub(super) const PAGES: &str = "/List";

/// The path of every call of the service.
pub(super) const PATH: &str = "/leadsman.registry.v1.Registry/{method}";

#[derive(Debug)]
pub(super) struct Grpc(Api);

#[tonic::async_trait]
impl pb::registry_server::Registry for Grpc {
    async fn register(&self, request: Request<pb::RegisterRequest>) -> Result<Response<pb::Receipt>, Status> {
        let (metadata, _, message) = request.into_parts();
        let outcome = async {
            let wish = registration(message)?;
            self.0.register(token(&metadata), wish).await
        };
        answer(outcome.await.map(receipt))
    }

    async fn renew(&self, request: Request<pb::RenewRequest>) -> Result<Response<pb::Receipt>, Status> {
        let (metadata, _, message) = request.into_parts();
        let outcome = async {
            let key = Key::new(&message.service, &message.id)?;
            self.0.renew(token(&metadata), key, message.lease.parse()?).await
        };
        answer(outcome.await.map(receipt))
    }

    async fn drain(&self, request: Request<pb::DrainRequest>) -> Result<Response<pb::Receipt>, Status> {
        let (metadata, _, message) = request.into_parts();
        let outcome = async {
            let key = Key::new(&message.service, &message.id)?;
            let guard = guard(&message.lease, message.expected_version)?;
            self.0.drain(token(&metadata), key, guard, !message.end).await
        };
        answer(outcome.await.map(receipt))
    }

    async fn deregister(
        &self,
        request: Request<pb::DeregisterRequest>,
    ) -> Result<Response<pb::DeregisterResponse>, Status> {
        let (metadata, _, message) = request.into_parts();
        let outcome = async {
            let key = Key::new(&message.service, &message.id)?;
            let guard = guard(&message.lease, message.expected_version)?;
            self.0.deregister(token(&metadata), key, guard).await
        };
        answer(outcome.await.map(|removed| pb::DeregisterResponse { removed }))
    }

    async fn get(&self, request: Request<pb::GetRequest>) -> Result<Response<pb::Instance>, Status> {
        let (metadata, _, message) = request.into_parts();
        let outcome = async {
            let key = Key::new(&message.service, &message.id)?;
            self.0.get(token(&metadata), key).await
        };
        answer(outcome.await.map(instance))
    }

    async fn list(&self, request: Request<pb::ListRequest>) -> Result<Response<pb::ListResponse>, Status> {
        let (metadata, _, message) = request.into_parts();
        let outcome = async {
            let listing = Listing::new(&message.service, &message.after, message.limit)?;
            self.0.list(token(&metadata), listing).await
        };
        answer(outcome.await.map(|page| pb::ListResponse {
            instances: page.instances.into_iter().map(instance).collect(),
            next: page.next,
            revision: page.revision,
        }))
    }
}

fn registration(message: pb::RegisterRequest) -> Result<Registration, Refusal> {
    let key = Key::new(&message.service, &message.id)?;
    let endpoint = message
        .endpoint
        .ok_or_else(|| Refusal::Invalid("endpoint is missing".to_owned()))?;
    let health = match endpoint.health() {
        pb::Health::Unknown => Health::Unknown,
        pb::Health::Healthy => Health::Healthy,
        pb::Health::Degraded => Health::Degraded,
        pb::Health::Draining => Health::Draining,
        pb::Health::Unhealthy => Health::Unhealthy,
    };
    // An unknown number reads as the default; what it was meant to be can't be told.
    if pb::Health::try_from(endpoint.health).is_err() {
        return Err(Refusal::Invalid(format!("health: {} is no health", endpoint.health)));
    }
    let locality = endpoint.locality.unwrap_or_default();
    Ok(Registration {
        key,
        content: Content {
            address: endpoint.address,
            port: endpoint.port,
            weight: endpoint.weight.unwrap_or_else(default_weight),
            health: health.as_str().to_owned(),
            locality: Place {
                region: locality.region,
                zone: locality.zone,
                sub_zone: locality.sub_zone,
            },
            metadata: endpoint.metadata.into_iter().collect(),
        },
        ttl_seconds: match message.ttl_seconds {
            0 => DEFAULT_TTL_SECONDS,
            seconds => seconds,
        },
        holder: message.holder,
        expected: message.expected_version,
    })
}

fn guard(lease: &str, version: Option<u64>) -> Result<Guard, Refusal> {
    let lease = if lease.is_empty() { None } else { Some(lease.parse()?) };
    Ok(Guard { lease, version })
}

fn receipt(receipt: Receipt) -> pb::Receipt {
    pb::Receipt {
        version: receipt.version,
        lease: receipt.lease.to_string(),
        ttl_seconds: receipt.ttl_seconds,
        draining: receipt.draining,
        changed: receipt.changed,
    }
}

fn instance(shown: Shown) -> pb::Instance {
    let Place { region, zone, sub_zone } = shown.endpoint.locality;
    let health = match shown.endpoint.health.parse().unwrap_or_default() {
        Health::Unknown => pb::Health::Unknown,
        Health::Healthy => pb::Health::Healthy,
        Health::Degraded => pb::Health::Degraded,
        Health::Draining => pb::Health::Draining,
        Health::Unhealthy => pb::Health::Unhealthy,
    };
    pb::Instance {
        service: shown.service.to_string(),
        id: shown.id.to_string(),
        endpoint: Some(pb::Endpoint {
            address: shown.endpoint.address,
            port: shown.endpoint.port,
            weight: Some(shown.endpoint.weight),
            health: health.into(),
            locality: Some(pb::Locality { region, zone, sub_zone }),
            metadata: shown.endpoint.metadata.into_iter().collect(),
        }),
        ttl_seconds: shown.ttl_seconds,
        version: shown.version,
        draining: shown.draining,
        remaining_seconds: shown.remaining_seconds,
    }
}

fn token(metadata: &MetadataMap) -> Option<&str> {
    bearer(metadata.get("authorization").and_then(|value| value.to_str().ok()))
}

fn answer<T>(outcome: Result<T, Refusal>) -> Result<Response<T>, Status> {
    outcome.map(Response::new).map_err(|refusal| status(&refusal))
}

pub(super) fn status(refusal: &Refusal) -> Status {
    let code = match refusal {
        Refusal::Invalid(_) => Code::InvalidArgument,
        Refusal::Unknown(_) => Code::NotFound,
        Refusal::Replaced(_) => Code::Aborted,
        Refusal::Conflict { .. } => Code::FailedPrecondition,
        Refusal::Full(_) => Code::ResourceExhausted,
        Refusal::Unauthenticated(_) => Code::Unauthenticated,
        Refusal::Forbidden(_) => Code::PermissionDenied,
        Refusal::Unavailable(_) => Code::Unavailable,
    };
    let mut metadata = MetadataMap::new();
    metadata.insert(CODE, tonic::metadata::MetadataValue::from_static(refusal.code()));
    Status::with_metadata(code, refusal.to_string(), metadata)
}

//! The discovery services, aggregated and one a type, without the generated servers: those would encode every response
//! anew for every client, and keep a buffer of the size of the largest for as long as the stream lives.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};
use leadsman_core::snapshot::ResourceType;
use leadsman_core::xds::Variant;
use tonic::body::Body;
use tonic::metadata::MetadataMap;
use tonic::{Request, Status, Streaming};

use super::codec::Requests;
use super::convert::Ask;
use super::{MAX_REQUEST_BYTES, Shared, ads};

/// Every method we have: its path, the variant it speaks, and its type unless it is aggregated. The REST methods
/// (`Fetch…`) of these services are polls, which the promise of prompt changes excludes.
const METHODS: [(&str, Variant, Option<ResourceType>); 10] = [
    (
        "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources",
        Variant::Delta,
        None,
    ),
    (
        "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources",
        Variant::StateOfTheWorld,
        None,
    ),
    (
        "/envoy.service.cluster.v3.ClusterDiscoveryService/DeltaClusters",
        Variant::Delta,
        Some(ResourceType::Cluster),
    ),
    (
        "/envoy.service.cluster.v3.ClusterDiscoveryService/StreamClusters",
        Variant::StateOfTheWorld,
        Some(ResourceType::Cluster),
    ),
    (
        "/envoy.service.endpoint.v3.EndpointDiscoveryService/DeltaEndpoints",
        Variant::Delta,
        Some(ResourceType::Endpoint),
    ),
    (
        "/envoy.service.endpoint.v3.EndpointDiscoveryService/StreamEndpoints",
        Variant::StateOfTheWorld,
        Some(ResourceType::Endpoint),
    ),
    (
        "/envoy.service.listener.v3.ListenerDiscoveryService/DeltaListeners",
        Variant::Delta,
        Some(ResourceType::Listener),
    ),
    (
        "/envoy.service.listener.v3.ListenerDiscoveryService/StreamListeners",
        Variant::StateOfTheWorld,
        Some(ResourceType::Listener),
    ),
    (
        "/envoy.service.route.v3.RouteDiscoveryService/DeltaRoutes",
        Variant::Delta,
        Some(ResourceType::Route),
    ),
    (
        "/envoy.service.route.v3.RouteDiscoveryService/StreamRoutes",
        Variant::StateOfTheWorld,
        Some(ResourceType::Route),
    ),
];

type Answer<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// All of the services; cloned for every request.
#[derive(Clone, Debug)]
pub(super) struct Discovery {
    shared: Shared,
}

impl Discovery {
    pub(super) fn new(shared: Shared) -> Self {
        Self { shared }
    }
}

impl tower::Service<http::Request<axum::body::Body>> for Discovery {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Answer<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<axum::body::Body>) -> Self::Future {
        let request = request.map(Body::new);
        let shared = self.shared.clone();
        Box::pin(async move {
            let method = METHODS.iter().find(|(path, ..)| *path == request.uri().path());
            let Some((_, variant, only)) = method else {
                let text = "this server streams xDS, delta or state of the world: aggregated, clusters, endpoints, \
                            listeners and routes";
                return Ok(Status::unimplemented(text).into_http());
            };
            Ok(match variant {
                Variant::Delta => serve::<DeltaDiscoveryRequest>(&shared, *only, request),
                Variant::StateOfTheWorld => serve::<DiscoveryRequest>(&shared, *only, request),
            })
        })
    }
}

fn serve<R: Ask>(shared: &Shared, only: Option<ResourceType>, request: http::Request<Body>) -> http::Response<Body> {
    let (head, body) = request.into_parts();
    let requests = Streaming::new_request(Requests::<R>::default(), body, None, Some(MAX_REQUEST_BYTES));
    let request = Request::from_parts(MetadataMap::from_headers(head.headers), head.extensions, requests);
    let mut response = http::Response::new(ads::open(shared, only, request));
    let grpc = http::HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(http::header::CONTENT_TYPE, grpc);
    response
}

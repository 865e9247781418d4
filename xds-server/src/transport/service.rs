//! The discovery services, aggregated and one a type, with a codec of our own: the generated servers would encode every
//! response anew for every client.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};
use leadsman_core::snapshot::ResourceType;
use leadsman_core::xds::Variant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic::server::{Grpc, StreamingService};
use tonic::{Request, Response, Status, Streaming};

use super::codec::RawCodec;
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
            let method = Method { shared, only: *only };
            Ok(match variant {
                Variant::Delta => serve::<DeltaDiscoveryRequest>(method, request).await,
                Variant::StateOfTheWorld => serve::<DiscoveryRequest>(method, request).await,
            })
        })
    }
}

async fn serve<R: Ask>(method: Method, request: http::Request<Body>) -> http::Response<Body> {
    let mut grpc = Grpc::new(RawCodec::<R>::default()).max_decoding_message_size(MAX_REQUEST_BYTES);
    grpc.streaming(method, request).await
}

struct Method {
    shared: Shared,
    only: Option<ResourceType>,
}

impl<R: Ask> StreamingService<R> for Method {
    type Response = Bytes;
    type ResponseStream = ReceiverStream<Result<Bytes, Status>>;
    type Future = Answer<Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: Request<Streaming<R>>) -> Self::Future {
        let responses = ads::open(&self.shared, self.only, request);
        Box::pin(async move { Ok(Response::new(responses)) })
    }
}

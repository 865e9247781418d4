//! `envoy.service.discovery.v3.AggregatedDiscoveryService`, with a codec of our own: the generated server would encode
//! every response anew for every client.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use envoy_types::pb::envoy::service::discovery::v3::DeltaDiscoveryRequest;
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic::server::{Grpc, NamedService, StreamingService};
use tonic::{Request, Response, Status, Streaming};

use super::codec::DeltaCodec;
use super::{MAX_REQUEST_BYTES, Shared, ads};

const DELTA: &str = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";

type Answer<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// The service; cloned for every request.
#[derive(Clone, Debug)]
pub(super) struct AggregatedDiscovery {
    shared: Shared,
}

impl AggregatedDiscovery {
    pub(super) fn new(shared: Shared) -> Self {
        Self { shared }
    }
}

impl NamedService for AggregatedDiscovery {
    const NAME: &'static str = "envoy.service.discovery.v3.AggregatedDiscoveryService";
}

impl tower::Service<http::Request<Body>> for AggregatedDiscovery {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Answer<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let method = Delta {
            shared: self.shared.clone(),
        };
        Box::pin(async move {
            if request.uri().path() != DELTA {
                return Ok(
                    Status::unimplemented("this server speaks delta xDS: set api_type to DELTA_GRPC").into_http(),
                );
            }
            let mut grpc = Grpc::new(DeltaCodec).max_decoding_message_size(MAX_REQUEST_BYTES);
            Ok(grpc.streaming(method, request).await)
        })
    }
}

struct Delta {
    shared: Shared,
}

impl StreamingService<DeltaDiscoveryRequest> for Delta {
    type Response = Bytes;
    type ResponseStream = ReceiverStream<Result<Bytes, Status>>;
    type Future = Answer<Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: Request<Streaming<DeltaDiscoveryRequest>>) -> Self::Future {
        let responses = ads::open(&self.shared, request);
        Box::pin(async move { Ok(Response::new(responses)) })
    }
}

//! What only the transport can show: how much it takes in, and how it finds out that nobody is there.

use std::convert::Infallible;

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use futures_util::{StreamExt, stream};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Bytes, Frame};
use leadsman_core::snapshot::{Builder, Changes, ResourceType};
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tower::Service;

use super::*;

/// A server that knows everything, and that there is nothing.
fn shared() -> Shared {
    let mut builder = Builder::default();
    builder.set_certainty(true, true);
    let publication = Arc::<Publication>::default();
    publication.publish(builder.publish(), &Changes::default(), true);
    Shared {
        publication,
        proxies: Arc::default(),
        metrics: Arc::default(),
        identifier: "cp-1".into(),
        shutdown: CancellationToken::new(),
    }
}

/// The request as gRPC frames it, on a stream that its client leaves open.
fn streamed(message: &[u8]) -> http::Request<axum::body::Body> {
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    let bytes = Bytes::from([&[0], &length[..], message].concat());
    let said = stream::iter([Ok::<_, Infallible>(Frame::data(bytes))]);
    http::Request::post("/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources")
        .body(axum::body::Body::new(StreamBody::new(said.chain(stream::pending()))))
        .unwrap()
}

#[tokio::test]
async fn e09_a_request_with_the_names_and_versions_of_50_000_resources_is_answered() {
    let names: Vec<String> = (0..50_000).map(|n| format!("{n:060}")).collect();
    let versions = names.iter().map(|name| (name.clone(), "0123456789abcdef".to_owned()));
    let request = DeltaDiscoveryRequest {
        node: Some(Node {
            id: "edge-1".to_owned(),
            ..Node::default()
        }),
        type_url: ResourceType::Endpoint.type_url().to_owned(),
        initial_resource_versions: versions.collect(),
        resource_names_subscribe: names.clone(),
        ..DeltaDiscoveryRequest::default()
    };
    let message = request.encode_to_vec();
    assert!(message.len() > 6 << 20, "{} bytes", message.len());
    let response = Discovery::new(shared()).call(streamed(&message)).await.unwrap();
    let frame = response.into_body().frame().await.unwrap().unwrap();
    let bytes = frame.into_data().unwrap();
    let answer = DeltaDiscoveryResponse::decode(&bytes[5..]).unwrap();
    assert_eq!(answer.type_url, ResourceType::Endpoint.type_url());
    assert_eq!(answer.nonce, "1");
    let count = answer.resources.len() + answer.removed_resources.len();
    assert!(count > 0, "what is claimed and does not exist is told");
}

#[tokio::test(start_paused = true)]
async fn e10_a_connection_whose_client_is_gone_is_pinged_and_ended() {
    const PING: u8 = 6;
    let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let config = Xds::default();
    let server = tokio::spawn(async move { serve(&config, listener, shared()).await });
    let mut client = TcpStream::connect(address).await.unwrap();
    let hello = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &[0, 0, 0, 4, 0, 0, 0, 0, 0]].concat();
    client.write_all(&hello).await.unwrap();
    let began = tokio::time::Instant::now();
    let mut heard = Vec::new();
    client.read_to_end(&mut heard).await.unwrap();
    assert!(began.elapsed() >= KEEPALIVE_TIMEOUT, "it had its time to answer");
    let mut kinds = Vec::new();
    let mut rest = heard.as_slice();
    while let [a, b, c, kind, tail @ ..] = rest {
        let length = usize::try_from(u32::from_be_bytes([0, *a, *b, *c])).unwrap();
        kinds.push(*kind);
        rest = tail.get(5 + length..).unwrap_or_default();
    }
    assert!(kinds.contains(&PING), "frames {kinds:?}");
    server.abort();
}

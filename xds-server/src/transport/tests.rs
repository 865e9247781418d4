//! What only the transport can show: how much it takes in, and how it finds out that nobody is there.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use h2::{RecvStream, SendStream};
use http::HeaderMap;
use leadsman_core::snapshot::{Builder, Changes, ResourceType};
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;

use super::*;

const AGGREGATED: &str = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";

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

/// A server on a port of its own, until it is dropped.
struct Serving {
    shared: Shared,
    address: std::net::SocketAddr,
    tasks: JoinSet<()>,
}

impl Serving {
    fn start() -> Self {
        let (shared, listener) = (shared(), bind("127.0.0.1:0".parse().unwrap()).unwrap());
        let address = listener.local_addr().unwrap();
        let (config, served) = (Xds::default(), shared.clone());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { serve(&config, None, listener, served).await });
        Self { shared, address, tasks }
    }

    /// Opens a stream of a method on a connection of its own.
    async fn open(&mut self, method: &str) -> Open {
        let socket = TcpStream::connect(self.address).await.unwrap();
        let (requests, connection) = h2::client::handshake(socket).await.unwrap();
        let connection = self.tasks.spawn(async move { connection.await.unwrap_or_default() });
        let mut requests = requests.ready().await.unwrap();
        let head = http::Request::post(format!("http://leadsman{method}"))
            .body(())
            .unwrap();
        let (response, requests) = requests.send_request(head, false).unwrap();
        let (head, responses) = response.await.unwrap().into_parts();
        Open {
            requests,
            headers: head.headers,
            responses,
            connection,
        }
    }

    /// A stream that has asked for something and was answered.
    async fn subscribe(&mut self) -> Open {
        let mut stream = self.open(AGGREGATED).await;
        stream.send(&subscription(vec!["a".to_owned()]).encode_to_vec()).await;
        stream.response().await;
        stream
    }

    /// Waits until so many proxies are listed.
    async fn lists(&self, count: usize) {
        let listed = async {
            while self.shared.proxies.len() != count {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), listed).await.unwrap();
    }
}

/// One stream of a client.
struct Open {
    requests: SendStream<Bytes>,
    headers: HeaderMap,
    responses: RecvStream,
    connection: AbortHandle,
}

impl Open {
    /// Sends bytes as gRPC frames them.
    async fn send(&mut self, message: &[u8]) {
        let mut bytes = BytesMut::new();
        bytes.put_u8(0);
        bytes.put_u32(u32::try_from(message.len()).unwrap());
        bytes.put_slice(message);
        let mut rest = bytes.freeze();
        while !rest.is_empty() {
            self.requests.reserve_capacity(rest.len());
            let room = std::future::poll_fn(|cx| self.requests.poll_capacity(cx))
                .await
                .unwrap()
                .unwrap();
            self.requests.send_data(rest.split_to(room), false).unwrap();
        }
    }

    /// The next response, of which nothing else is behind it.
    async fn response(&mut self) -> DeltaDiscoveryResponse {
        let mut bytes = BytesMut::new();
        loop {
            let chunk = self.responses.data().await.unwrap().unwrap();
            self.responses.flow_control().release_capacity(chunk.len()).unwrap();
            bytes.extend_from_slice(&chunk);
            let length = usize::try_from(u32::from_be_bytes(bytes[1..5].try_into().unwrap())).unwrap();
            if bytes.len() == 5 + length {
                return DeltaDiscoveryResponse::decode(&bytes[5..]).unwrap();
            }
        }
    }

    async fn status(mut self) -> (String, String) {
        assert!(self.responses.data().await.is_none(), "nothing but the end");
        let trailers = self.responses.trailers().await.unwrap().unwrap_or(self.headers);
        let text = |name| {
            trailers
                .get(name)
                .map(|value| value.to_str().unwrap().to_owned())
                .unwrap_or_default()
        };
        (text("grpc-status"), text("grpc-message"))
    }
}

fn subscription(names: Vec<String>) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        node: Some(Node {
            id: "edge-1".to_owned(),
            ..Node::default()
        }),
        type_url: ResourceType::Endpoint.type_url().to_owned(),
        resource_names_subscribe: names,
        ..DeltaDiscoveryRequest::default()
    }
}

#[tokio::test]
async fn e09_a_request_with_the_names_and_versions_of_50_000_resources_is_answered() {
    let names: Vec<String> = (0..50_000).map(|n| format!("{n:060}")).collect();
    let versions = names.iter().map(|name| (name.clone(), "0123456789abcdef".to_owned()));
    let request = DeltaDiscoveryRequest {
        initial_resource_versions: versions.collect(),
        ..subscription(names.clone())
    };
    let message = request.encode_to_vec();
    assert!(message.len() > 6 << 20, "{} bytes", message.len());
    let mut serving = Serving::start();
    let mut stream = serving.open(AGGREGATED).await;
    stream.send(&message).await;
    let answer = stream.response().await;
    assert_eq!(answer.type_url, ResourceType::Endpoint.type_url());
    assert_eq!(answer.nonce, "1");
    let count = answer.resources.len() + answer.removed_resources.len();
    assert!(count > 0, "what is claimed and does not exist is told");
}

#[tokio::test]
async fn a_stream_that_can_not_go_on_ends_with_the_reason() {
    let mut serving = Serving::start();
    let elsewhere = serving.open("/grpc.health.v1.Health/Check").await;
    let (code, text) = elsewhere.status().await;
    assert_eq!(
        (code.as_str(), text.starts_with("this%20server%20streams%20xDS")),
        ("12", true),
        "{text}"
    );
    let mut nameless = serving.open(AGGREGATED).await;
    nameless.send(&DeltaDiscoveryRequest::default().encode_to_vec()).await;
    let (code, text) = nameless.status().await;
    assert_eq!(code, "3", "{text}");
    let mut unreadable = serving.open(AGGREGATED).await;
    unreadable.send(&[255; 9]).await;
    let (code, text) = unreadable.status().await;
    assert_eq!(
        (code.as_str(), text.starts_with("not%20a%20DeltaDiscoveryRequest")),
        ("3", true),
        "{text}"
    );
}

#[tokio::test]
async fn a_proxy_is_listed_until_its_stream_is_reset_or_its_connection_breaks() {
    let mut serving = Serving::start();
    let mut reset = serving.subscribe().await;
    let broken = serving.subscribe().await;
    assert_eq!(serving.shared.proxies.len(), 2);
    reset.requests.send_reset(h2::Reason::CANCEL);
    serving.lists(1).await;
    broken.connection.abort();
    serving.lists(0).await;
}

#[tokio::test]
async fn a_stream_whose_client_is_silent_answers_every_question() {
    let mut serving = Serving::start();
    let _stream = serving.subscribe().await;
    let [proxy] = &serving.shared.proxies.all()[..] else {
        panic!("one proxy")
    };
    for _ in 0..3 {
        assert!(proxy.standing().await.is_some());
    }
}

#[tokio::test]
async fn at_the_shutdown_every_stream_is_told_and_the_server_ends() {
    let mut serving = Serving::start();
    let stream = serving.subscribe().await;
    serving.shared.shutdown.cancel();
    assert_eq!(
        stream.status().await,
        ("14".to_owned(), "the%20server%20is%20shutting%20down".to_owned())
    );
    while serving.tasks.join_next().await.is_some() {}
}

#[tokio::test(start_paused = true)]
async fn e10_a_connection_whose_client_is_gone_is_pinged_and_ended() {
    const PING: u8 = 6;
    let serving = Serving::start();
    let mut client = TcpStream::connect(serving.address).await.unwrap();
    let hello = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &[0, 0, 0, 4, 0, 0, 0, 0, 0]].concat();
    client.write_all(&hello).await.unwrap();
    let began = tokio::time::Instant::now();
    let mut heard = Vec::new();
    client.read_to_end(&mut heard).await.unwrap();
    assert!(began.elapsed() >= keepalive::TIMEOUT, "it had its time to answer");
    let mut kinds = Vec::new();
    let mut rest = heard.as_slice();
    while let [a, b, c, kind, tail @ ..] = rest {
        let length = usize::try_from(u32::from_be_bytes([0, *a, *b, *c])).unwrap();
        kinds.push(*kind);
        rest = tail.get(5 + length..).unwrap_or_default();
    }
    assert!(kinds.contains(&PING), "frames {kinds:?}");
}

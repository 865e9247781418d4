//! A server of delta ADS that says what a test tells it to, or passes on what a real server says; it hears everything
//! that Envoy says, in order.
//!
//! What a correct server never says has to be scripted. What Envoy asks a correct one is overheard on the way to it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context;
use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_server::{
    AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
};
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse, Resource,
};
use envoy_types::pb::google::protobuf::Any;
use prost::Message;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinHandle};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::transport::{Channel, Server};
use tonic::{Request, Response, Status, Streaming};

use crate::process::free_port;
use crate::wait::{PATIENT, throughout, until_ok};

const PREFIX: &str = "type.googleapis.com/";
/// More than any story has; a test that lets more happen fails by waiting.
const QUEUE: usize = 1024;

/// What a story is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Clusters,
    Endpoints,
}

impl Kind {
    fn type_url(self) -> String {
        let message = match self {
            Self::Clusters => "envoy.config.cluster.v3.Cluster",
            Self::Endpoints => "envoy.config.endpoint.v3.ClusterLoadAssignment",
        };
        format!("{PREFIX}{message}")
    }
}

/// The service; dropping it ends it and its streams.
#[derive(Debug)]
pub struct Ads {
    address: SocketAddr,
    shared: Shared,
    heard: mpsc::Receiver<String>,
    task: JoinHandle<()>,
}

#[derive(Clone, Debug)]
struct Shared {
    heard: mpsc::Sender<String>,
    newest: Arc<Mutex<Newest>>,
    /// The real server, where there is one.
    upstream: Option<SocketAddr>,
}

/// The newest stream.
#[derive(Debug, Default)]
struct Newest {
    task: Option<AbortHandle>,
    script: Option<mpsc::Sender<DeltaDiscoveryResponse>>,
    /// What was said on it.
    said: Vec<String>,
    /// What Envoy said about the last response that it refused, on whatever stream: the code and the text.
    refusal: Option<(i32, String)>,
}

impl Drop for Ads {
    fn drop(&mut self) {
        self.cut();
        self.task.abort();
    }
}

impl Ads {
    /// A server that says nothing but what it is told to say.
    pub async fn scripted() -> Self {
        Self::start(None).await
    }

    /// A listener on the way to a real server.
    pub async fn overhearing(upstream: SocketAddr) -> Self {
        Self::start(Some(upstream)).await
    }

    async fn start(upstream: Option<SocketAddr>) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let listener = until_ok(PATIENT, "a port for xDS", async || TcpListener::bind(address).await).await;
        let (lines, heard) = mpsc::channel(QUEUE);
        let shared = Shared {
            heard: lines,
            newest: Arc::default(),
            upstream,
        };
        let service = AggregatedDiscoveryServiceServer::new(shared.clone());
        let server = Server::builder().tcp_nodelay(true).add_service(service);
        let task = tokio::spawn(async move {
            // It serves until it is aborted.
            let _ = server.serve_with_incoming(TcpListenerStream::new(listener)).await;
        });
        Self {
            address,
            shared,
            heard,
            task,
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The next so many things that Envoy does, each a line: `stream` for a new stream, else a request, such as `cds`,
    /// `cds has a b` (the resources whose versions it brings), `eds +a -b` (subscribed and unsubscribed names, in order),
    /// `cds ack 1`, `eds nack 2`. Responses are counted from 1 on each stream.
    ///
    /// # Panics
    /// When they do not come; the message has those that came.
    pub async fn hears(&mut self, count: usize) -> Vec<String> {
        let mut lines = Vec::with_capacity(count);
        while lines.len() < count {
            match tokio::time::timeout(PATIENT, self.heard.recv()).await {
                Ok(Some(line)) => lines.push(line),
                Ok(None) | Err(_) => panic!("waited for {count} lines from Envoy, heard {lines:?}"),
            }
        }
        lines
    }

    /// Shows that Envoy says nothing for so long.
    pub async fn hears_nothing_for(&self, window: Duration) {
        throughout(window, "Envoy's silence", async || self.heard.is_empty()).await;
    }

    /// What was said on the newest stream, by whomever: `cds 1 +a -b` is the first response, with one resource and the
    /// removal of another.
    pub fn said(&self) -> Vec<String> {
        self.shared.newest().said.clone()
    }

    /// The code and the text of the last refusal.
    pub fn refusal(&self) -> Option<(i32, String)> {
        self.shared.newest().refusal.clone()
    }

    /// Says something on the newest stream.
    ///
    /// # Panics
    /// When there is none, or it is a real server's.
    pub async fn say(&self, kind: Kind, resources: &[Resource], removed: &[&str]) {
        let script = self.shared.newest().script.clone();
        let response = DeltaDiscoveryResponse {
            type_url: kind.type_url(),
            resources: resources.to_vec(),
            removed_resources: removed.iter().map(|&name| name.to_owned()).collect(),
            ..Default::default()
        };
        let sent = match script {
            Some(script) => script.send(response).await.is_ok(),
            None => false,
        };
        assert!(sent, "nobody listens");
    }

    /// Ends the newest stream.
    pub fn cut(&self) {
        let mut newest = self.shared.newest();
        newest.script = None;
        if let Some(task) = newest.task.take() {
            task.abort();
        }
    }
}

/// A cluster as a resource.
pub fn cluster(version: &str, cluster: &Cluster) -> Resource {
    resource(Kind::Clusters, &cluster.name, version, cluster)
}

/// The endpoints of a cluster as a resource.
pub fn endpoints(version: &str, assignment: &ClusterLoadAssignment) -> Resource {
    resource(Kind::Endpoints, &assignment.cluster_name, version, assignment)
}

fn resource(kind: Kind, name: &str, version: &str, message: &impl Message) -> Resource {
    Resource {
        name: name.to_owned(),
        version: version.to_owned(),
        resource: Some(Any {
            type_url: kind.type_url(),
            value: message.encode_to_vec(),
        }),
        ..Default::default()
    }
}

type Responses = ReceiverStream<Result<DeltaDiscoveryResponse, Status>>;

#[tonic::async_trait]
impl AggregatedDiscoveryService for Shared {
    type StreamAggregatedResourcesStream = ReceiverStream<Result<DiscoveryResponse, Status>>;
    type DeltaAggregatedResourcesStream = Responses;

    async fn stream_aggregated_resources(
        &self,
        _: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        Err(Status::unimplemented("delta only"))
    }

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Responses>, Status> {
        let (answers, stream) = mpsc::channel(QUEUE);
        let talk = Talk {
            shared: self.clone(),
            requests: request.into_inner(),
            answers,
            nonces: Vec::new(),
        };
        // In this order, so that whoever heard of the stream can speak on it.
        let mut newest = self.newest();
        newest.said.clear();
        let task = match self.upstream {
            Some(upstream) => tokio::spawn(async move {
                // Either side's end is the other's, and how it came does not matter.
                let _ = talk.relayed(upstream).await;
            }),
            None => {
                let (script, said) = mpsc::channel(QUEUE);
                newest.script = Some(script);
                tokio::spawn(talk.scripted(said))
            }
        };
        newest.task = Some(task.abort_handle());
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

impl Shared {
    fn newest(&self) -> MutexGuard<'_, Newest> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A full queue or a test that has ended is nothing that a stream could mend.
    fn tell(&self, line: String) {
        let _ = self.heard.try_send(line);
    }
}

/// One stream.
struct Talk {
    shared: Shared,
    requests: Streaming<DeltaDiscoveryRequest>,
    answers: mpsc::Sender<Result<DeltaDiscoveryResponse, Status>>,
    /// Those of the responses so far, in order.
    nonces: Vec<String>,
}

impl Talk {
    async fn scripted(mut self, mut said: mpsc::Receiver<DeltaDiscoveryResponse>) {
        self.shared.tell("stream".to_owned());
        loop {
            tokio::select! {
                request = self.requests.message() => match request {
                    Ok(Some(request)) => self.hear(&request),
                    Ok(None) | Err(_) => return,
                },
                Some(mut response) = said.recv() => {
                    response.nonce = (self.nonces.len() + 1).to_string();
                    self.answer(response).await;
                }
            }
        }
    }

    async fn relayed(mut self, upstream: SocketAddr) -> anyhow::Result<()> {
        self.shared.tell("stream".to_owned());
        let (asked, asking) = mpsc::channel(QUEUE);
        let first = self.requests.message().await?.context("no request")?;
        self.hear(&first);
        asked.send(first).await?;
        let channel = Channel::from_shared(format!("http://{upstream}"))?.connect().await?;
        let mut client = AggregatedDiscoveryServiceClient::new(channel);
        let answered = client.delta_aggregated_resources(ReceiverStream::new(asking)).await?;
        let mut answered = answered.into_inner();
        loop {
            tokio::select! {
                request = self.requests.message() => {
                    let request = request?.context("the client ended")?;
                    self.hear(&request);
                    asked.send(request).await?;
                }
                response = answered.message() => self.answer(response?.context("the server ended")?).await,
            }
        }
    }

    async fn answer(&mut self, response: DeltaDiscoveryResponse) {
        self.nonces.push(response.nonce.clone());
        let number = self.nonces.len();
        let mut words = vec![format!("{} {number}", word(&response.type_url))];
        words.extend(signed('+', response.resources.iter().map(|resource| &resource.name)));
        words.extend(signed('-', &response.removed_resources));
        self.shared.newest().said.push(words.join(" "));
        // Without a reader there is no request any more either, which ends the stream.
        let _ = self.answers.send(Ok(response)).await;
    }

    fn hear(&self, request: &DeltaDiscoveryRequest) {
        if let Some(error) = &request.error_detail {
            self.shared.newest().refusal = Some((error.code, error.message.clone()));
        }
        self.shared.tell(self.line(request));
    }

    fn line(&self, request: &DeltaDiscoveryRequest) -> String {
        let mut words = vec![word(&request.type_url)];
        if !request.response_nonce.is_empty() {
            let number = self.nonces.iter().position(|nonce| *nonce == request.response_nonce);
            let number = number.map_or_else(|| "?".to_owned(), |index| (index + 1).to_string());
            let verdict = if request.error_detail.is_some() { "nack" } else { "ack" };
            words.push(format!("{verdict} {number}"));
        }
        words.extend(signed('+', &request.resource_names_subscribe));
        words.extend(signed('-', &request.resource_names_unsubscribe));
        let held: BTreeMap<_, _> = request.initial_resource_versions.clone().into_iter().collect();
        let held: Vec<String> = held.into_keys().collect();
        if !held.is_empty() {
            words.push(format!("has {}", held.join(" ")));
        }
        words.join(" ")
    }
}

/// A type, in short.
fn word(type_url: &str) -> String {
    match type_url.rsplit('.').next() {
        Some("Cluster") => "cds".to_owned(),
        Some("ClusterLoadAssignment") => "eds".to_owned(),
        _ => type_url.to_owned(),
    }
}

/// Names with a sign each, in order.
fn signed<'a>(sign: char, names: impl IntoIterator<Item = &'a String>) -> Vec<String> {
    let mut names: Vec<String> = names.into_iter().map(|name| format!("{sign}{name}")).collect();
    names.sort();
    names
}

//! The gRPC side of a server that does on request what no real one can be made to do: loses pushes, says nothing where a
//! list should be, forgets connections, wants its clients elsewhere. Its messages have the shapes of the real ones.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::future::{Ready, pending, ready};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic::server::{Grpc, NamedService, StreamingService, UnaryService};
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;
use tower::Service;

#[derive(Clone, PartialEq, prost::Message)]
struct Payload {
    #[prost(message, optional, tag = "2")]
    metadata: Option<Metadata>,
    #[prost(message, optional, tag = "3")]
    body: Option<Json>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Metadata {
    #[prost(string, tag = "3")]
    kind: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Json {
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// What the server knows and does.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// The instances of each service, as they stand in an answer.
    pub(crate) services: BTreeMap<String, Value>,
    /// Services that the server refuses to show.
    pub(crate) refused: BTreeSet<String>,
    /// Services whose threshold is reached, which are shown as if everybody were healthy, however they are asked for.
    pub(crate) protected: BTreeSet<String>,
    /// Nothing is answered.
    pub(crate) mute: bool,
    /// Questions that are answered with "I don't know you".
    pub(crate) strangers: u32,
    /// The kinds of the questions, in their order.
    pub(crate) asked: Vec<String>,
    /// What the client said on its own, or in answer to the server.
    pub(crate) said: Vec<(String, Value)>,
    streams: Vec<mpsc::Sender<Result<Payload, Status>>>,
}

/// Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Fake {
    state: Arc<Mutex<State>>,
    pub(crate) address: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Fake {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let (unary, stream) = (Unary(Arc::clone(&state)), Stream(Arc::clone(&state)));
        let task = tokio::spawn(async move {
            let served = Server::builder().add_service(unary).add_service(stream);
            let _ = served.serve_with_incoming(TcpIncoming::from(listener)).await;
        });
        Self { state, address, task }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells every client on its own.
    pub(crate) async fn tell(&self, kind: &str, body: &str) {
        let streams = self.state().streams.clone();
        for stream in streams {
            // Clients come and go.
            let _ = stream.send(Ok(payload(kind, body.to_owned()))).await;
        }
    }

    /// Ends every connection in good order.
    pub(crate) fn hang_up(&self) {
        self.state().streams.clear();
    }

    /// Pushes a service with these instances, whatever the server knows of it.
    pub(crate) async fn push(&self, service: &str, hosts: &Value) {
        let body = json!({ "headers": {}, "requestId": "1", "serviceInfo": info(service, hosts), "module": "naming" });
        self.tell("NotifySubscriberRequest", &body.to_string()).await;
    }
}

/// An instance as a real server writes it.
pub(crate) fn host(port: u16) -> Value {
    json!({
        "ip": "127.0.0.1", "port": port, "weight": 10.0, "healthy": true, "enabled": true, "ephemeral": true,
        "clusterName": "DEFAULT", "metadata": {},
    })
}

fn info(service: &str, hosts: &Value) -> Value {
    json!({
        "name": service, "groupName": "DEFAULT_GROUP", "clusters": "", "cacheMillis": 10000, "hosts": hosts,
        "checksum": "", "allIPs": false, "reachProtectionThreshold": false, "valid": true,
    })
}

fn payload(kind: &str, body: String) -> Payload {
    Payload {
        metadata: Some(Metadata { kind: kind.to_owned() }),
        body: Some(Json {
            value: body.into_bytes(),
        }),
    }
}

fn taken(payload: Payload) -> (String, Value) {
    let kind = payload.metadata.map(|metadata| metadata.kind).unwrap_or_default();
    let body = payload.body.map(|body| body.value).unwrap_or_default();
    (kind, serde_json::from_slice(&body).unwrap_or_default())
}

impl State {
    fn answer(&mut self, kind: &str, body: &Value) -> Value {
        self.asked.push(kind.to_owned());
        let refusal = |code: u32, message: &str| json!({ "resultCode": 500, "errorCode": code, "message": message, "success": false });
        if kind != "ServerCheckRequest" && self.strangers > 0 {
            self.strangers -= 1;
            return refusal(301, "Connection is unregistered.");
        }
        let service = body["serviceName"].as_str().unwrap_or_default();
        let mut answer = json!({ "resultCode": 200, "errorCode": 0, "success": true });
        match kind {
            "ServiceListRequest" => {
                answer["count"] = json!(self.services.len());
                let (page, size) = (
                    body["pageNo"].as_u64().unwrap_or(1),
                    body["pageSize"].as_u64().unwrap_or(1),
                );
                let skipped = usize::try_from((page - 1) * size).unwrap_or(usize::MAX);
                answer["serviceNames"] = self.services.keys().skip(skipped).cloned().collect();
            }
            "SubscribeServiceRequest" | "ServiceQueryRequest" => {
                if self.refused.contains(service) {
                    return refusal(400, "Param 'serviceName' is illegal");
                }
                let none = json!([]);
                answer["serviceInfo"] = info(service, self.services.get(service).unwrap_or(&none));
                answer["serviceInfo"]["reachProtectionThreshold"] = json!(self.protected.contains(service));
            }
            _ => {}
        }
        answer
    }
}

#[derive(Clone)]
struct Unary(Arc<Mutex<State>>);

#[derive(Clone)]
struct Stream(Arc<Mutex<State>>);

impl NamedService for Unary {
    const NAME: &'static str = "Request";
}

impl NamedService for Stream {
    const NAME: &'static str = "BiRequestStream";
}

type Answering = Pin<Box<dyn Future<Output = Result<http::Response<Body>, Infallible>> + Send>>;

impl Service<http::Request<Body>> for Unary {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Answering;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Answering {
        let this = self.clone();
        Box::pin(async move { Ok(Grpc::new(ProstCodec::default()).unary(this, request).await) })
    }
}

impl Service<http::Request<Body>> for Stream {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Answering;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Answering {
        let this = self.clone();
        Box::pin(async move { Ok(Grpc::new(ProstCodec::default()).streaming(this, request).await) })
    }
}

impl UnaryService<Payload> for Unary {
    type Response = Payload;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Payload>, Status>> + Send>>;

    fn call(&mut self, request: Request<Payload>) -> Self::Future {
        let (kind, body) = taken(request.into_inner());
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.mute {
            return Box::pin(pending());
        }
        let answer = state.answer(&kind, &body);
        let kind = kind.replace("Request", "Response");
        Box::pin(ready(Ok(Response::new(payload(&kind, answer.to_string())))))
    }
}

impl StreamingService<Payload> for Stream {
    type Response = Payload;
    type ResponseStream = ReceiverStream<Result<Payload, Status>>;
    type Future = Ready<Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: Request<Streaming<Payload>>) -> Self::Future {
        let (sender, receiver) = mpsc::channel(16);
        let state = Arc::clone(&self.0);
        state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .streams
            .push(sender);
        let mut said = request.into_inner();
        tokio::spawn(async move {
            while let Some(Ok(payload)) = said.next().await {
                let said = taken(payload);
                state.lock().unwrap_or_else(PoisonError::into_inner).said.push(said);
            }
        });
        ready(Ok(Response::new(ReceiverStream::new(receiver))))
    }
}

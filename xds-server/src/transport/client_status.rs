//! `envoy.service.status.v3.ClientStatusDiscoveryService`: how every connected client stands, for tools that speak it.
//!
//! This is the view of the server: what was sent, and what became of it. It names every client, so it is for those who
//! [`may ask`](ClientStatus), and an answer that would be too large is refused rather than cut: a list with silent gaps
//! would be believed.

mod describe;
mod matcher;

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use envoy_types::pb::envoy::service::status::v3::client_status_discovery_service_server::{
    ClientStatusDiscoveryService, ClientStatusDiscoveryServiceServer,
};
use envoy_types::pb::envoy::service::status::v3::{ClientConfig, ClientStatusRequest, ClientStatusResponse};
use futures_util::{Stream, StreamExt, stream};
use prost::Message;
use tokio::sync::Mutex;
use tonic::{Request, Response, Status, Streaming};

use super::Shared;
use crate::config::{ClientStatus, Xds};
use crate::proxies::Proxy;
use matcher::Matchers;

/// Matchers are a few names; this is thousands of them.
const MAX_REQUEST_BYTES: usize = 256 << 10;
/// Ten thousand resources with their endpoints; a client takes 4 MiB unless it was told otherwise.
const MAX_ANSWER_BYTES: usize = 32 << 20;
/// Streams that are asked at the same time: what they say waits in memory until it is in the answer.
const ASKED_AT_ONCE: usize = 16;

/// What the paths of its methods begin with.
pub(super) const PATH: &str = "/envoy.service.status.v3.ClientStatusDiscoveryService/";

/// The service; cloned for every request.
#[derive(Clone, Debug)]
pub(super) struct StatusService {
    shared: Shared,
    who: ClientStatus,
    verifies_clients: bool,
    /// One answer at a time: each may be large.
    asking: Arc<Mutex<()>>,
}

pub(super) fn server(shared: Shared, config: &Xds) -> ClientStatusDiscoveryServiceServer<StatusService> {
    let service = StatusService {
        shared,
        who: config.client_status,
        verifies_clients: config.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some()),
        asking: Arc::default(),
    };
    ClientStatusDiscoveryServiceServer::new(service).max_decoding_message_size(MAX_REQUEST_BYTES)
}

#[tonic::async_trait]
impl ClientStatusDiscoveryService for StatusService {
    type StreamClientStatusStream = Pin<Box<dyn Stream<Item = Result<ClientStatusResponse, Status>> + Send>>;

    /// An answer is made when the transport has room for it, so a slow reader costs one request.
    async fn stream_client_status(
        &self,
        request: Request<Streaming<ClientStatusRequest>>,
    ) -> Result<Response<Self::StreamClientStatusStream>, Status> {
        self.admit(&request)?;
        let open = Some((self.clone(), request.into_inner()));
        let answers = stream::unfold(open, |state| async move {
            let (service, mut requests) = state?;
            let next = tokio::select! {
                biased;
                () = service.shared.shutdown.cancelled() => return Some((Err(shutting_down()), None)),
                next = requests.message() => next,
            };
            let answer = service.answer(next.ok().flatten()?).await;
            let state = answer.is_ok().then_some((service, requests));
            Some((answer, state))
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn fetch_client_status(
        &self,
        request: Request<ClientStatusRequest>,
    ) -> Result<Response<ClientStatusResponse>, Status> {
        self.admit(&request)?;
        self.answer(request.into_inner()).await.map(Response::new)
    }
}

impl StatusService {
    fn admit<T>(&self, request: &Request<T>) -> Result<(), Status> {
        let verified = self.verifies_clients && request.peer_certs().is_some_and(|chain| !chain.is_empty());
        if admits(self.who, request.remote_addr(), verified) {
            return Ok(());
        }
        Err(Status::permission_denied(
            "the status of clients is not for this client: see the key xds.client_status",
        ))
    }

    async fn answer(&self, request: ClientStatusRequest) -> Result<ClientStatusResponse, Status> {
        let matchers = Matchers::new(request.node_matchers)?;
        let contents = !request.exclude_resource_contents;
        let _one_at_a_time = self.asking.lock().await;
        let proxies = self.shared.proxies.all().into_iter();
        let wanted = proxies.filter(|proxy| matchers.accept(&proxy.node.id));
        let mut answers = stream::iter(wanted)
            .map(|proxy| status_of(proxy, contents))
            .buffered(ASKED_AT_ONCE);
        let mut answer = ClientStatusResponse::default();
        let mut bytes = 0;
        while let Some(config) = answers.next().await {
            bytes += config.encoded_len();
            if bytes > MAX_ANSWER_BYTES {
                return Err(too_large());
            }
            answer.config.push(config);
        }
        Ok(answer)
    }
}

/// `verified` is whether the client showed a certificate that was checked.
fn admits(who: ClientStatus, peer: Option<SocketAddr>, verified: bool) -> bool {
    match who {
        ClientStatus::Trusted => verified || peer.is_some_and(|peer| peer.ip().to_canonical().is_loopback()),
        ClientStatus::Everyone => true,
        ClientStatus::Nobody => false,
    }
}

async fn status_of(proxy: Proxy, contents: bool) -> ClientConfig {
    let holdings = proxy.holdings().await;
    describe::client(&proxy.node, holdings.unwrap_or_default(), contents)
}

fn too_large() -> Status {
    Status::resource_exhausted(format!(
        "the answer is larger than {MAX_ANSWER_BYTES} bytes: narrow it with node_matchers, or set exclude_resource_contents"
    ))
}

fn shutting_down() -> Status {
    Status::unavailable("the server is shutting down")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trusted_is_this_machine_and_who_showed_a_certificate() {
        let peers = [
            "127.0.0.1:1",
            "[::1]:1",
            "[::ffff:127.0.0.1]:1",
            "10.0.0.1:1",
            "[::ffff:10.0.0.1]:1",
        ];
        let peers = peers.map(|peer| Some(peer.parse().unwrap()));
        let admitted = |who, verified| peers.map(|peer| admits(who, peer, verified));
        assert_eq!(admitted(ClientStatus::Trusted, false), [true, true, true, false, false]);
        assert_eq!(admitted(ClientStatus::Trusted, true), [true; 5]);
        assert_eq!(admitted(ClientStatus::Everyone, false), [true; 5]);
        assert_eq!(admitted(ClientStatus::Nobody, true), [false; 5]);
        assert!(!admits(ClientStatus::Trusted, None, false), "a peer without an address");
    }
}

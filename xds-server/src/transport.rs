//! xDS over gRPC: sockets and streams around the protocol's values.
//!
//! Nothing here decides what is said to a client; that is [`leadsman_core::xds`]. `tonic::Status` does not leave this
//! module.

mod ads;
mod client_status;
mod connection;
mod convert;
mod foreign;
mod grpc;
mod keepalive;
mod listener;
mod request;
mod service;
mod turn;

use std::sync::Arc;

use envoy_types::pb::envoy::service::status::v3::client_status_discovery_service_server::ClientStatusDiscoveryServiceServer;
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

pub(crate) use listener::bind;

use crate::config::Xds;
use crate::metrics::Metrics;
use crate::proxies::Proxies;
use crate::publication::Publication;
use client_status::StatusService;

/// Requests of clients are small but for the first after a reconnect, which carries every name and version.
const MAX_REQUEST_BYTES: usize = 64 << 20;

/// What a client speaks, in the words of ALPN.
pub(crate) const PROTOCOLS: &[&str] = &["h2"];

/// What every stream shares.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    pub(crate) publication: Arc<Publication>,
    pub(crate) proxies: Arc<Proxies>,
    pub(crate) metrics: Arc<Metrics>,
    /// `control_plane.identifier`.
    pub(crate) identifier: Arc<str>,
    pub(crate) shutdown: CancellationToken,
}

/// What the connections share.
#[derive(Debug)]
struct Server {
    shared: Shared,
    client_status: ClientStatusDiscoveryServiceServer<StatusService>,
}

/// Serves until the shutdown, and then until every stream has ended. With `tls`, each connection has the newest of it.
pub(crate) async fn serve(
    config: &Xds,
    tls: Option<watch::Receiver<Arc<ServerConfig>>>,
    listener: TcpListener,
    shared: Shared,
) {
    let server = Arc::new(Server {
        client_status: client_status::server(shared.clone(), config),
        shared,
    });
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = server.shared.shutdown.cancelled() => break,
            Some(ended) = connections.join_next() => note(ended),
            stream = listener::next(&listener) => {
                let acceptor = tls.as_ref().map(|tls| TlsAcceptor::from(tls.borrow().clone()));
                connections.spawn(connection::serve(stream, acceptor, server.clone()));
            }
        }
    }
    drop(listener);
    server.shared.publication.close();
    while let Some(ended) = connections.join_next().await {
        note(ended);
    }
}

fn note(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a connection did not end well");
    }
}

#[cfg(test)]
mod tests;

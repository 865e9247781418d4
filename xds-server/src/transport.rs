//! xDS over gRPC: sockets and streams around the protocol's values.
//!
//! Nothing here decides what is said to a client; that is [`leadsman_core::xds`]. `tonic::Status` does not leave this
//! module.

mod ads;
mod client_status;
mod codec;
mod convert;
mod listener;
mod service;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};

pub(crate) use listener::bind;

use crate::config::{Tls, Xds};
use crate::metrics::Metrics;
use crate::proxies::Proxies;
use crate::publication::Publication;
use service::Discovery;

/// An Envoy needs one stream, a client with a stream a type five.
const STREAMS_PER_CONNECTION: u32 = 16;
/// Requests of clients are small but for the first after a reconnect, which carries every name and version.
const MAX_REQUEST_BYTES: usize = 64 << 20;
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Caps against clients that reset streams as fast as they open them; see RUSTSEC-2024-0003 and CVE-2023-44487.
const PENDING_ACCEPT_RESETS: usize = 20;
const LOCAL_ERROR_RESETS: usize = 256;
const HEADER_LIST_BYTES: u32 = 16 << 10;

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

/// Serves until the shutdown, and then until every stream has ended.
pub(crate) async fn serve(config: &Xds, listener: TcpListener, shared: Shared) -> anyhow::Result<()> {
    let shutdown = shared.shutdown.clone();
    // tonic takes a limit that is not set for no limit at all, where hyper would have a safe one: all are set here.
    let mut server = Server::builder()
        .max_concurrent_streams(STREAMS_PER_CONNECTION)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .http2_adaptive_window(Some(false))
        .http2_max_pending_accept_reset_streams(Some(PENDING_ACCEPT_RESETS))
        .http2_max_local_error_reset_streams(Some(LOCAL_ERROR_RESETS))
        .http2_max_header_list_size(HEADER_LIST_BYTES)
        .initial_stream_window_size(64 << 10)
        .initial_connection_window_size(256 << 10)
        .max_frame_size(16 << 10)
        .tcp_nodelay(true)
        .accept_http1(false);
    if let Some(tls) = &config.tls {
        server = server
            .tls_config(tls_config(tls).await?)
            .context("the TLS configuration of `xds.tls` does not work")?;
    }
    server
        .add_routes(Routes::from(
            axum::Router::new().fallback_service(Discovery::new(shared.clone())),
        ))
        .add_service(client_status::server(shared, config))
        .serve_with_incoming_shutdown(listener::incoming(listener), shutdown.cancelled_owned())
        .await
        .context("the xDS listener failed")
}

async fn tls_config(tls: &Tls) -> anyhow::Result<ServerTlsConfig> {
    let read = |path: std::path::PathBuf| async move {
        tokio::fs::read(&path)
            .await
            .with_context(|| format!("{} can't be read", path.display()))
    };
    let identity = Identity::from_pem(read(tls.cert.clone()).await?, read(tls.key.clone()).await?);
    let config = ServerTlsConfig::new().identity(identity).timeout(HANDSHAKE_TIMEOUT);
    Ok(match &tls.client_ca {
        Some(path) => config.client_ca_root(Certificate::from_pem(read(path.clone()).await?)),
        None => config,
    })
}

#[cfg(test)]
mod tests;

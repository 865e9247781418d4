//! One task a connection: HTTP/2, and every stream on it. What is written by a stream leaves with the same turn of the
//! task, and nothing is handed from one task to another on the way.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use h2::server::{Builder, Connection};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tonic::transport::server::Connected;

use super::service::{Call, Peer};
use super::turn::Turn;
use super::{Server, keepalive};

/// An Envoy needs one stream, a client with a stream a type five.
const STREAMS_PER_CONNECTION: u32 = 16;
/// For TLS, and then for the first bytes of HTTP/2.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Caps against clients that reset streams as fast as they open them; see RUSTSEC-2024-0003 and CVE-2023-44487.
const PENDING_ACCEPT_RESETS: usize = 20;
const LOCAL_ERROR_RESETS: usize = 256;
const HEADER_LIST_BYTES: u32 = 16 << 10;
const STREAM_WINDOW: u32 = 64 << 10;
const CONNECTION_WINDOW: u32 = 256 << 10;
/// What a stream may have handed over and not written yet before it is asked for no more: a client that does not read
/// costs this.
const SEND_BUFFER: usize = 64 << 10;

/// Serves one connection to its end.
///
/// What is over after a while, or is not for every connection, has memory of its own: the task of a connection is of the
/// size of everything that it may wait for, and keeps that to its end.
pub(super) async fn serve(stream: TcpStream, tls: Option<TlsAcceptor>, server: Arc<Server>) {
    // Responses are small, and what comes later is not to wait for the acknowledgement of what came before.
    let _ = stream.set_nodelay(true);
    match tls {
        Some(acceptor) => Box::pin(serve_securely(stream, acceptor, server)).await,
        None => {
            let peer = Peer::plain(stream.connect_info());
            converse(stream, peer, server).await;
        }
    }
}

async fn serve_securely(stream: TcpStream, acceptor: TlsAcceptor, server: Arc<Server>) {
    let tcp = stream.connect_info();
    match Box::pin(timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream))).await {
        Ok(Ok(stream)) => {
            let peer = Peer::secure(tcp, stream.connect_info());
            converse(stream, peer, server).await;
        }
        Ok(Err(error)) => tracing::debug!(peer = ?tcp.remote_addr, %error, "no TLS"),
        Err(_) => tracing::debug!(peer = ?tcp.remote_addr, "no TLS in time"),
    }
}

async fn greet<T: AsyncRead + AsyncWrite + Unpin>(io: T, peer: &Peer) -> Option<Connection<T, Bytes>> {
    match timeout(HANDSHAKE_TIMEOUT, builder().handshake(io)).await {
        Ok(Ok(connection)) => return Some(connection),
        Ok(Err(error)) => tracing::debug!(%peer, %error, "no HTTP/2"),
        Err(_) => tracing::debug!(%peer, "no HTTP/2 in time"),
    }
    None
}

async fn converse(io: impl AsyncRead + AsyncWrite + Unpin, peer: Peer, server: Arc<Server>) {
    let Some(mut http) = Box::pin(greet(io, &peer)).await else {
        return;
    };
    let Some(pings) = http.ping_pong() else { return };
    let mut calls = FuturesUnordered::<Call>::new();
    let mut lost = pin!(keepalive::lost(pings));
    let mut shutdown = pin!(server.shared.shutdown.cancelled());
    let mut leaving = false;
    let (turn, [calls_part, http_part, watch_part]) = Turn::new();
    let round = || -> Option<End> {
        if watch_part.is_due() {
            let mut cx = watch_part.context();
            if lost.as_mut().poll(&mut cx).is_ready() {
                return Some(End::Lost);
            }
            if !leaving && shutdown.as_mut().poll(&mut cx).is_ready() {
                leaving = true;
                http.graceful_shutdown();
                http_part.make_due();
            }
        }
        if calls_part.is_due() {
            while let Poll::Ready(Some(())) = calls.poll_next_unpin(&mut calls_part.context()) {}
        }
        if http_part.is_due() {
            while let Poll::Ready(accepted) = http.poll_accept(&mut http_part.context()) {
                match accepted {
                    Some(Ok((request, respond))) => calls.push(server.answer(request, respond, &peer)),
                    Some(Err(error)) => return Some(End::Broken(error)),
                    None => return Some(End::Closed),
                }
                calls_part.make_due();
            }
        }
        None
    };
    match in_turn(&turn, round).await {
        End::Closed => {}
        End::Broken(error) => tracing::debug!(%peer, %error, "a connection broke"),
        End::Lost => tracing::debug!(%peer, "a client does not answer any more"),
    }
}

/// How a connection ends.
enum End {
    Closed,
    Broken(h2::Error),
    Lost,
}

async fn in_turn<const N: usize, T>(turn: &Turn<N>, mut round: impl FnMut() -> Option<T>) -> T {
    poll_fn(|cx| turn.rounds(cx, &mut round).map_or(Poll::Pending, Poll::Ready)).await
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(STREAMS_PER_CONNECTION)
        .max_pending_accept_reset_streams(PENDING_ACCEPT_RESETS)
        .max_local_error_reset_streams(Some(LOCAL_ERROR_RESETS))
        .max_header_list_size(HEADER_LIST_BYTES)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buffer_size(SEND_BUFFER);
    builder
}

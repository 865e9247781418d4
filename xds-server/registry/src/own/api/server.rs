//! Connections of those who register: each a task that ends with the port, and each within bounds.
//!
//! Whoever is silent, slow or without a token must not keep others out: connections, requests and the time of both have
//! limits. A browser is not spoken to at all.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

use super::super::model::Refusal;
use super::{Api, grpc, http};
use crate::Error;
use crate::certificates::{Certificates, ServerTls};

/// A fleet that comes back at once knocks faster than it is let in.
const BACKLOG: u32 = 4096;
/// A process each for thousands of instances. Those that follow wait at the door.
const MAX_CONNECTIONS: usize = 8 * 1024;
/// Requests at work, each with a body in memory. Those that follow wait their turn, and their time runs.
const MAX_REQUESTS: usize = 512;
/// Pages at work, until they are sent: each may be 10 MiB large.
const MAX_PAGES: usize = 16;
/// A client has a few calls at once.
const STREAMS_PER_CONNECTION: u32 = 32;
/// From the first byte of a request to its answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Who connects has something to say.
const FIRST_REQUEST: Duration = Duration::from_secs(10);
/// A connection without a request for this long is closed; clients connect again when they need to.
const IDLE: Duration = Duration::from_mins(2);
/// How long a connection that is closed may take to end its calls.
const FAREWELL: Duration = Duration::from_secs(10);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
const HEADER_BYTES: u32 = 16 * 1024;
/// Caps against clients that reset streams as fast as they open them; see RUSTSEC-2024-0003 and CVE-2023-44487.
const PENDING_ACCEPT_RESETS: usize = 20;
const LOCAL_ERROR_RESETS: usize = 256;
/// Out of file descriptors is an error of the moment; trying again at once would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// What a client may speak, in the words of ALPN.
const PROTOCOLS: &[&str] = &["h2", "http/1.1"];

/// What every connection shares.
struct Door {
    router: Router,
    requests: Semaphore,
    pages: Arc<Semaphore>,
}

/// Binds and listens.
pub(in super::super) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves until it is dropped, and every connection with it.
///
/// # Errors
/// Certificates that can't be used at the start.
pub(in super::super) async fn serve(
    listener: TcpListener,
    api: Api,
    tls: Option<ServerTls>,
) -> Result<Infallible, Error> {
    let mut certificates = match &tls {
        Some(files) => Some(Certificates::load(files, PROTOCOLS).await?),
        None => None,
    };
    let door = Arc::new(Door {
        router: http::router(api.clone()).route_service(grpc::PATH, grpc::service(api)),
        requests: Semaphore::new(MAX_REQUESTS),
        pages: Arc::new(Semaphore::new(MAX_PAGES)),
    });
    let mut connections = JoinSet::new();
    let mut refresh = interval(Certificates::REFRESH);
    loop {
        tokio::select! {
            Some(ended) = connections.join_next() => if let Err(error) = ended {
                tracing::error!(%error, "a connection did not end well");
            },
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                Ok((stream, peer)) => {
                    let acceptor = certificates
                        .as_ref()
                        .map(|certificates| TlsAcceptor::from(certificates.config()));
                    connections.spawn(Arc::clone(&door).receive(stream, peer, acceptor));
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            _ = refresh.tick() => if let Some(certificates) = &mut certificates {
                certificates.refresh().await;
            },
        }
    }
}

impl Door {
    async fn receive(self: Arc<Self>, stream: TcpStream, peer: SocketAddr, acceptor: Option<TlsAcceptor>) {
        // Answers are small, and a client waits for each.
        let _ = stream.set_nodelay(true);
        let Some(acceptor) = acceptor else {
            return self.converse(stream, peer).await;
        };
        match timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => self.converse(stream, peer).await,
            Ok(Err(error)) => tracing::debug!(%peer, %error, "no TLS"),
            Err(_) => tracing::debug!(%peer, "no TLS in time"),
        }
    }

    async fn converse(self: Arc<Self>, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, peer: SocketAddr) {
        let (heard, mut deadline) = watch::channel(Instant::now() + FIRST_REQUEST);
        let service = service_fn(move |request: Request<Incoming>| {
            heard.send_replace(Instant::now() + IDLE);
            let door = Arc::clone(&self);
            async move { Ok::<_, Infallible>(door.answer(request.map(Body::new)).await) }
        });
        let builder = builder();
        let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
        loop {
            let until = *deadline.borrow_and_update();
            tokio::select! {
                end = connection.as_mut() => {
                    if let Err(error) = end {
                        tracing::debug!(%peer, %error, "a connection broke");
                    }
                    return;
                }
                () = sleep_until(until) => if *deadline.borrow() <= Instant::now() { break },
            }
        }
        connection.as_mut().graceful_shutdown();
        if timeout(FAREWELL, connection).await.is_err() {
            tracing::debug!(%peer, "an idle connection was cut");
        }
    }

    async fn answer(&self, request: Request<Body>) -> Response {
        let is_grpc = request
            .headers()
            .get(header::CONTENT_TYPE)
            .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
        if request.headers().contains_key(header::ORIGIN) {
            let text = "a page in a browser may not speak to this port";
            return http::problem(StatusCode::FORBIDDEN, "forbidden", text);
        }
        let is_page = [http::PAGES, grpc::PAGES]
            .iter()
            .any(|pages| request.uri().path().ends_with(pages));
        let work = async {
            // The semaphores are never closed.
            let page = if is_page {
                Arc::clone(&self.pages).acquire_owned().await.ok()
            } else {
                None
            };
            let _turn = self.requests.acquire().await;
            match self.router.clone().oneshot(request).await {
                // Whoever reads slowly keeps the memory of the answer busy, and gives it back with its last byte.
                Ok(response) if is_page => response.map(|body| {
                    Body::new(body.map_frame(move |frame| {
                        let _kept = &page;
                        frame
                    }))
                }),
                Ok(response) => response,
                Err(never) => match never {},
            }
        };
        if let Ok(response) = timeout(REQUEST_TIMEOUT, work).await {
            return response;
        }
        let refusal = Refusal::Unavailable(format!("no answer in {} s", REQUEST_TIMEOUT.as_secs()));
        if is_grpc {
            grpc::status(&refusal).into_http()
        } else {
            refusal.into_response()
        }
    }
}

fn builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE)
        .max_buf_size(HEADER_BYTES as usize);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_PER_CONNECTION)
        .keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .max_pending_accept_reset_streams(PENDING_ACCEPT_RESETS)
        .max_local_error_reset_streams(LOCAL_ERROR_RESETS)
        .max_header_list_size(HEADER_BYTES)
        .adaptive_window(false)
        .initial_stream_window_size(64 * 1024)
        .initial_connection_window_size(64 * 1024);
    builder
}

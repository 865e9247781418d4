//! A real HTTP backend that says who answered, so that a test can see where traffic went.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, StatusCode};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::http::BACKEND_HEADER;
use crate::process::free_port;
use crate::wait::{PATIENT, until_ok};

/// What arrived at the backend under these names is answered under `x-received-…`.
const ECHOED: [(&str, HeaderName); 2] = [
    ("traceparent", HeaderName::from_static("x-received-traceparent")),
    ("tracestate", HeaderName::from_static("x-received-tracestate")),
];

/// A backend inside this process; dropping it closes its port.
#[derive(Debug)]
pub struct Backend {
    name: String,
    address: SocketAddr,
    answered: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

#[derive(Clone)]
struct Shared {
    name: HeaderValue,
    answered: Arc<AtomicU64>,
}

impl Backend {
    /// Starts a backend on a free port of 127.0.0.1. The name must be fit for a header.
    pub async fn start(name: &str) -> Self {
        let bind = async || TcpListener::bind(("127.0.0.1", free_port())).await;
        let listener = until_ok(PATIENT, "a port for a backend", bind).await;
        Self::serve(name, listener)
    }

    /// Serves on a listener that is bound already.
    ///
    /// # Panics
    /// When the name is not fit for a header, or the listener is not bound.
    pub fn serve(name: &str, listener: TcpListener) -> Self {
        let address = listener
            .local_addr()
            .unwrap_or_else(|error| panic!("an unbound listener: {error}"));
        let answered = Arc::new(AtomicU64::new(0));
        let shared = Shared {
            name: HeaderValue::from_str(name).unwrap_or_else(|error| panic!("the name {name:?}: {error}")),
            answered: Arc::clone(&answered),
        };
        let app = Router::new().fallback(answer).with_state(shared);
        let task = tokio::spawn(async move {
            // It serves until it is aborted.
            let _ = axum::serve(listener, app).await;
        });
        Self {
            name: name.to_owned(),
            address,
            answered,
            task,
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Requests answered since the start.
    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Serves until the end of the process.
    pub async fn run(mut self) {
        // The task ends only when its listener fails, and then there is nothing left to serve.
        let _ = (&mut self.task).await;
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(State(shared): State<Shared>, request: Request) -> Response {
    shared.answered.fetch_add(1, Ordering::Relaxed);
    let status = match request.uri().path() {
        "/fail" => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::OK,
    };
    let body = shared.name.as_bytes().to_vec();
    let mut response = (status, body).into_response();
    let headers = response.headers_mut();
    for (name, echoed) in ECHOED {
        if let Some(value) = request.headers().get(name) {
            headers.insert(echoed, value.clone());
        }
    }
    headers.insert(BACKEND_HEADER, shared.name);
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Load;

    #[tokio::test]
    async fn a_backend_says_who_answered_and_fails_on_request() {
        let backend = Backend::start("one").await;
        let load = |path: &str| Load {
            address: backend.address(),
            host: "anything".into(),
            path: path.into(),
            requests_per_second: 100,
            workers: 2,
        };
        let fine = load("/").burst(3).await;
        assert_eq!((fine.sent, fine.failed, fine.by_backend["one"]), (3, 0, 3));
        let failing = load("/fail").burst(2).await;
        assert_eq!((failing.failed, failing.by_status[&503]), (2, 2));
        assert_eq!(backend.answered(), 5);
    }
}

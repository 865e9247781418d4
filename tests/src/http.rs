//! A small HTTP/1.1 client, and a load driver that counts every answer and every failure.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

/// The header in which a [`Backend`](crate::backend::Backend) answers its name.
pub const BACKEND_HEADER: &str = "x-backend";

/// An answer is late after this: above every timeout of a default route.
const TIMEOUT: Duration = Duration::from_secs(20);

/// The first failures tell the story; the rest are only counted.
const KEPT_FAILURES: usize = 20;

/// A complete answer.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A header that must be text, or nothing.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// A client with a pool of connections; clones share it.
#[derive(Clone, Debug)]
pub struct Http {
    client: Client<HttpConnector, Full<Bytes>>,
}

impl Default for Http {
    fn default() -> Self {
        Self::new()
    }
}

impl Http {
    pub fn new() -> Self {
        Self {
            client: Client::builder(TokioExecutor::new()).build_http(),
        }
    }

    /// # Errors
    /// Whatever stands between the request and a whole answer, a timeout included.
    pub async fn send(&self, request: Request<Full<Bytes>>) -> anyhow::Result<Answer> {
        let exchange = async {
            let (parts, body) = self.client.request(request).await?.into_parts();
            let body = body.collect().await?.to_bytes();
            anyhow::Ok(Answer {
                status: parts.status,
                headers: parts.headers,
                body,
            })
        };
        tokio::time::timeout(TIMEOUT, exchange).await?
    }

    /// # Errors
    /// As [`Http::send`].
    pub async fn get(&self, address: SocketAddr, path: &str) -> anyhow::Result<Answer> {
        self.get_with(address, path, HeaderMap::new()).await
    }

    /// # Errors
    /// As [`Http::send`].
    pub async fn get_with(&self, address: SocketAddr, path: &str, headers: HeaderMap) -> anyhow::Result<Answer> {
        let mut request = Request::new(Full::default());
        *request.uri_mut() = format!("http://{address}{path}").parse()?;
        *request.headers_mut() = headers;
        self.send(request).await
    }

    /// # Errors
    /// As [`Http::send`].
    pub async fn post(&self, address: SocketAddr, path: &str, headers: HeaderMap) -> anyhow::Result<Answer> {
        let mut request = Request::new(Full::default());
        *request.method_mut() = Method::POST;
        *request.uri_mut() = format!("http://{address}{path}").parse()?;
        *request.headers_mut() = headers;
        self.send(request).await
    }
}

/// What a load driver sends.
#[derive(Clone, Debug)]
pub struct Load {
    pub address: SocketAddr,
    pub host: String,
    pub path: String,
    /// Spread evenly over `workers`, each of which has one request in flight at most.
    pub requests_per_second: u32,
    pub workers: u32,
}

/// What came of a load.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub sent: u64,
    pub by_status: BTreeMap<u16, u64>,
    pub by_backend: BTreeMap<String, u64>,
    /// Requests without an answer, or with one of 500 and above.
    pub failed: u64,
    pub failures: Vec<String>,
}

impl Report {
    /// The share of the answers that `backend` gave, from 0 to 1.
    pub fn share(&self, backend: &str) -> f64 {
        let all: u64 = self.by_backend.values().sum();
        let own = self.by_backend.get(backend).copied().unwrap_or(0);
        if all == 0 { 0.0 } else { own as f64 / all as f64 }
    }

    /// Shows that there was traffic and that none of it was harmed.
    ///
    /// # Panics
    /// When a request failed, or none was sent.
    pub fn assert_unharmed(&self) {
        assert!(self.failed == 0 && self.sent > 0, "{self:#?}");
    }

    fn note(&mut self, outcome: anyhow::Result<Answer>) {
        self.sent += 1;
        let failure = match outcome {
            Ok(answer) => {
                *self.by_status.entry(answer.status.as_u16()).or_default() += 1;
                if let Some(backend) = answer.header(BACKEND_HEADER) {
                    *self.by_backend.entry(backend.to_owned()).or_default() += 1;
                }
                let failed = answer.status.is_server_error();
                failed.then(|| format!("{}: {}", answer.status, answer.text()))
            }
            Err(error) => Some(format!("{error:#}")),
        };
        if let Some(failure) = failure {
            self.failed += 1;
            if self.failures.len() < KEPT_FAILURES {
                self.failures.push(failure);
            }
        }
    }
}

/// A load that runs until it is stopped.
#[derive(Debug)]
pub struct Running {
    report: Arc<Mutex<Report>>,
    stop: watch::Sender<bool>,
    workers: JoinSet<()>,
}

impl Load {
    /// Begins to send.
    pub fn start(self) -> Running {
        let report = Arc::new(Mutex::new(Report::default()));
        let (stop, stopped) = watch::channel(false);
        let http = Http::new();
        let mut workers = JoinSet::new();
        for _ in 0..self.workers {
            workers.spawn(drive(self.clone(), http.clone(), Arc::clone(&report), stopped.clone()));
        }
        Running { report, stop, workers }
    }

    /// Sends `count` requests one after another, as fast as they are answered.
    pub async fn burst(&self, count: u32) -> Report {
        let http = Http::new();
        let mut report = Report::default();
        for _ in 0..count {
            report.note(self.once(&http).await);
        }
        report
    }

    async fn once(&self, http: &Http) -> anyhow::Result<Answer> {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_str(&self.host)?);
        http.get_with(self.address, &self.path, headers).await
    }
}

impl Running {
    /// What came of it so far.
    pub fn report(&self) -> Report {
        self.report.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for the requests in flight, and counts them too.
    pub async fn stop(mut self) -> Report {
        self.stop.send_replace(true);
        while self.workers.join_next().await.is_some() {}
        self.report()
    }
}

async fn drive(load: Load, http: Http, report: Arc<Mutex<Report>>, mut stopped: watch::Receiver<bool>) {
    let period = Duration::from_secs(1) * load.workers / load.requests_per_second.max(1);
    let mut turn = tokio::time::interval(period);
    turn.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = stopped.wait_for(|stopped| *stopped) => return,
            _ = turn.tick() => {}
        }
        let outcome = load.once(&http).await;
        report.lock().unwrap_or_else(PoisonError::into_inner).note(outcome);
    }
}

//! The admin port: probes, metrics, and what the server knows and why.
//!
//! Reading changes nothing. The one thing that can be changed is asked for with POST and a header that says why, which
//! no browser sends by itself, and is written to the log.

mod explain;
mod read;
mod resources;
mod scrape;

use std::sync::Arc;

use anyhow::Context;
use axum::Router;
use axum::routing::{get, post};
use leadsman_registry::StatusReader;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::controller::Command;
use crate::metrics::Metrics;
use crate::proxies::Proxies;
use crate::publication::Publication;

/// The configuration as the probes show it: `None` when the newest file is in force, else what is wrong with it.
pub(crate) type ReloadState = watch::Receiver<Option<String>>;

/// What the admin port can look at.
#[derive(Clone, Debug)]
pub(crate) struct Admin {
    pub(crate) sources: Vec<StatusReader>,
    pub(crate) controller: mpsc::Sender<Command>,
    pub(crate) proxies: Arc<Proxies>,
    pub(crate) publication: Arc<Publication>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) reload: ReloadState,
    /// One question to many proxies at a time: the answers are for people.
    pub(crate) asking: Arc<Mutex<()>>,
    pub(crate) shutdown: CancellationToken,
}

/// Serves until the shutdown.
pub(crate) async fn serve(listener: TcpListener, admin: Admin) -> anyhow::Result<()> {
    let shutdown = admin.shutdown.clone();
    let router = Router::new()
        .route("/livez", get(read::livez))
        .route("/readyz", get(read::readyz))
        .route("/metrics", get(scrape::metrics))
        .route("/api/v1/sources", get(read::sources))
        .route("/api/v1/sources/{source}", get(read::source))
        .route("/api/v1/services", get(read::services))
        .route("/api/v1/services/{*name}", get(read::service))
        .route("/api/v1/explain/{*name}", get(explain::explain))
        .route("/api/v1/proxies", get(read::proxies))
        .route("/api/v1/proxies/{id}", get(read::proxy))
        .route("/api/v1/proxies/{id}/resources", get(resources::resources))
        .route("/api/v1/guard", get(read::guard))
        .route("/api/v1/guard/release/{source}", post(read::release))
        .fallback(read::not_found)
        .with_state(admin);
    axum::serve(listener, router)
        .with_graceful_shutdown(shutdown.cancelled_owned())
        .await
        .context("the admin listener failed")
}

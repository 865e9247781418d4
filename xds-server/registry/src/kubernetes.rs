//! Kubernetes: the EndpointSlices of a cluster, by list and watch.
//!
//! A session lists everything at one version and then follows each scope by watches from that version on. Slices of one
//! service are merged, and an endpoint that moves between them does not go away for a moment. A session ends at the first
//! doubt; the supervisor begins another one, with every credential read anew.

mod client;
mod conditions;
mod config;
mod endpoint;
mod kubeconfig;
mod lines;
mod listing;
mod records;
mod session;
mod slice;
#[cfg(test)]
mod tests;
mod watch;
mod wire;

use std::convert::Infallible;

pub use config::{Config, Family, Naming, NotReady};

use crate::Settings;
use crate::{Error, EventSender, Registry};
use client::Link;
use listing::Known;

/// A cluster, or some of its namespaces, as a source.
#[derive(Debug)]
pub struct Kubernetes {
    config: Config,
    known: Known,
}

impl Kubernetes {
    pub fn new(config: Config) -> Self {
        Self {
            known: Known::new(&config),
            config,
        }
    }
}

impl Registry for Kubernetes {
    fn kind(&self) -> &'static str {
        "kubernetes"
    }

    async fn run(&mut self, events: &EventSender) -> Result<Infallible, Error> {
        self.config.validate().map_err(Error::Misconfigured)?;
        let link = Link::open(&self.config).await?;
        let server = link.server().clone();
        session::run(&self.config, link, events, &mut self.known)
            .await
            .map_err(|error| at(server.as_str(), error))
    }
}

/// Says which server an error is about.
fn at(url: &str, error: Error) -> Error {
    match error {
        Error::Unavailable(text) => Error::Unavailable(format!("{url}: {text}")),
        Error::Denied(text) => Error::Denied(format!("{url}: {text}")),
        Error::Resync(text) => Error::Resync(format!("{url}: {text}")),
        Error::Misconfigured(text) => Error::Misconfigured(format!("{url}: {text}")),
        Error::Closed => Error::Closed,
    }
}

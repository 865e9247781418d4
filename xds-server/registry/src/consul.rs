//! Consul: the HTTP API of an agent, in every layout that popular frameworks use to register themselves there.
//!
//! A session lists every service at the leader and then follows each with blocking questions. What a blocking answer
//! adds or changes is believed; what it no longer lists has to be missing at the leader too, in an answer that hides
//! nothing. It ends at the first doubt; the supervisor begins another one, on the next agent.

mod client;
mod config;
mod decode;
mod doubts;
mod health;
mod layout;
mod listing;
mod session;
#[cfg(test)]
mod tests;

use std::convert::Infallible;

pub use config::Config;
pub use layout::{Layout, LayoutChoice};

use crate::Settings;
use crate::{Error, EventSender, Registry};
use client::Link;
use listing::Known;

/// A datacentre of a Consul as a source.
#[derive(Debug)]
pub struct Consul {
    config: Config,
    /// Which of the endpoints the next session uses.
    next: usize,
    known: Known,
}

impl Consul {
    pub fn new(config: Config) -> Self {
        Self {
            config,
            next: 0,
            known: Known::default(),
        }
    }

    /// Each session takes the next agent, so one that lags or lies is left.
    fn endpoint(&mut self) -> Option<String> {
        let endpoints = &self.config.endpoints;
        let url = endpoints.get(self.next).cloned();
        self.next = (self.next + 1).checked_rem(endpoints.len()).unwrap_or_default();
        url
    }
}

impl Registry for Consul {
    fn kind(&self) -> &'static str {
        "consul"
    }

    async fn run(&mut self, events: &EventSender) -> Result<Infallible, Error> {
        self.config.validate().map_err(Error::Misconfigured)?;
        let url = self
            .endpoint()
            .ok_or_else(|| Error::Misconfigured("endpoints is empty".to_owned()))?;
        let link = Link::open(&self.config, &url).await?;
        session::run(&self.config, link, events, &mut self.known)
            .await
            .map_err(|error| at(&url, error))
    }
}

/// Says which agent an error is about.
fn at(url: &str, error: Error) -> Error {
    match error {
        Error::Unavailable(text) => Error::Unavailable(format!("{url}: {text}")),
        Error::Denied(text) => Error::Denied(format!("{url}: {text}")),
        Error::Resync(text) => Error::Resync(format!("{url}: {text}")),
        Error::Misconfigured(text) => Error::Misconfigured(format!("{url}: {text}")),
        Error::Closed => Error::Closed,
    }
}

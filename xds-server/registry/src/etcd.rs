//! etcd v3: every layout that popular frameworks use to register themselves there.
//!
//! A session lists the prefix at one revision and watches from the next one on. It ends at the first doubt; the
//! supervisor begins another one, on the next member of the cluster.

mod client;
mod config;
mod errors;
mod layout;
mod page_size;
mod reconcile;
mod records;
mod session;
mod watch;
mod writer;

use std::convert::Infallible;

pub use config::Config;
pub use layout::{Layout, LayoutChoice};
pub(crate) use writer::{Stored, Writer};

use crate::Settings;
use crate::{Error, EventSender, Registry};
use client::Link;
use page_size::PageSize;
use session::Known;

/// An etcd cluster as a source.
#[derive(Debug)]
pub struct Etcd {
    config: Config,
    /// Which of the endpoints the next session uses.
    next: usize,
    page_size: PageSize,
    known: Known,
}

impl Etcd {
    pub fn new(config: Config) -> Self {
        Self {
            page_size: PageSize::new(&config),
            config,
            next: 0,
            known: Known::default(),
        }
    }

    /// Each session takes the next member, so one that lags or lies is left even when its session was cut short.
    fn endpoint(&mut self) -> Option<String> {
        let endpoints = &self.config.endpoints;
        let url = endpoints.get(self.next).cloned();
        self.next = (self.next + 1).checked_rem(endpoints.len()).unwrap_or_default();
        url
    }
}

impl Registry for Etcd {
    fn kind(&self) -> &'static str {
        "etcd"
    }

    async fn run(&mut self, events: &EventSender) -> Result<Infallible, Error> {
        self.config.validate().map_err(Error::Misconfigured)?;
        let url = self
            .endpoint()
            .ok_or_else(|| Error::Misconfigured("endpoints is empty".to_owned()))?;
        let link = Link::connect(&self.config, &url, self.page_size.clone())
            .await
            .map_err(|error| at(&url, error))?;
        session::run(&self.config, link, events, &mut self.known)
            .await
            .map_err(|error| at(&url, error))
    }
}

/// Says which member an error is about.
fn at(url: &str, error: Error) -> Error {
    match error {
        Error::Unavailable(text) => Error::Unavailable(format!("{url}: {text}")),
        Error::Denied(text) => Error::Denied(format!("{url}: {text}")),
        Error::Resync(text) => Error::Resync(format!("{url}: {text}")),
        Error::Misconfigured(text) => Error::Misconfigured(text),
        Error::Closed => Error::Closed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_session_takes_the_next_endpoint() {
        let endpoints = vec!["http://a:1".to_owned(), "http://b:1".to_owned()];
        let mut etcd = Etcd::new(Config::new(endpoints, "/"));
        let taken: Vec<_> = std::iter::repeat_with(|| etcd.endpoint().unwrap()).take(3).collect();
        assert_eq!(taken, ["http://a:1", "http://b:1", "http://a:1"]);
        assert_eq!(Etcd::new(Config::new(vec![], "/")).endpoint(), None);
    }
}

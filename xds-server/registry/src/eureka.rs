//! Eureka, as Netflix and Spring Cloud serve it, and servers that speak its JSON.
//!
//! There is no watch: a session lists everything from one peer, then asks for the changes of the last minutes again and
//! again, checks the sum, and compares with a full listing from time to time. It ends at the first doubt; the supervisor
//! begins another one, with the next peer.

mod client;
mod config;
mod instance;
mod judge;
mod records;
mod session;
mod trust;
mod wire;

use std::convert::Infallible;

pub use config::{Config, Naming};

use crate::Settings;
use crate::{Error, EventSender, Registry};
use session::Known;

/// The peers of a Eureka cluster as a source.
#[derive(Debug)]
pub struct Eureka {
    config: Config,
    /// Which of the peers the next session uses.
    next: usize,
    known: Known,
}

impl Eureka {
    pub fn new(config: Config) -> Self {
        Self {
            known: Known::new(&config),
            config,
            next: 0,
        }
    }

    /// Each session takes the next peer, so one that lags or lies is left even when its session was cut short.
    fn peer(&mut self) -> usize {
        let peer = self.next;
        self.next = (peer + 1).checked_rem(self.config.endpoints.len()).unwrap_or_default();
        peer
    }
}

impl Registry for Eureka {
    fn kind(&self) -> &'static str {
        "eureka"
    }

    async fn run(&mut self, events: &EventSender) -> Result<Infallible, Error> {
        self.config.validate().map_err(Error::Misconfigured)?;
        let peer = self.peer();
        let url = self.config.endpoints.get(peer).cloned().unwrap_or_default();
        session::run(&self.config, peer, events, &mut self.known)
            .await
            .map_err(|error| at(&url, error))
    }
}

/// Says which peer an error is about.
fn at(url: &str, error: Error) -> Error {
    match error {
        Error::Unavailable(text) => Error::Unavailable(format!("{url}: {text}")),
        Error::Denied(text) => Error::Denied(format!("{url}: {text}")),
        Error::Resync(text) => Error::Resync(format!("{url}: {text}")),
        Error::Misconfigured(text) => Error::Misconfigured(format!("{url}: {text}")),
        Error::Closed => Error::Closed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_session_takes_the_next_peer() {
        let endpoints = vec!["http://a:1".to_owned(), "http://b:1".to_owned()];
        let mut eureka = Eureka::new(Config::new(endpoints));
        let taken: Vec<_> = std::iter::repeat_with(|| eureka.peer()).take(3).collect();
        assert_eq!(taken, [0, 1, 0]);
        assert_eq!(Eureka::new(Config::new(vec![])).peer(), 0);
    }
}

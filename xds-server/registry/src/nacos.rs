//! Nacos: version 2 and newer by gRPC, version 1 and newer by HTTP, in every layout that popular frameworks use to
//! register themselves there.
//!
//! A session lists the groups of one namespace, subscribes to each service, and takes what is pushed. What a push empties
//! is asked for; what is held is compared with fresh reads; and what is missing after an outage is believed to be gone
//! only where the server can be shown to be the one that had it.

mod config;
mod continuity;
mod decode;
mod fault;
mod grpc;
mod layout;
mod link;
mod rest;
mod session;
mod wire;

use std::convert::Infallible;

pub use config::{Config, Naming, Protocol};
pub use layout::{Layout, LayoutChoice};

use crate::Settings;
use crate::{Error, EventSender, Registry};
use session::Known;

/// Groups of a namespace of a Nacos as a source.
#[derive(Debug)]
pub struct Nacos {
    config: Config,
    /// Which of the members the next session uses.
    next: usize,
    known: Known,
}

impl Nacos {
    pub fn new(config: Config) -> Self {
        Self {
            config,
            next: 0,
            known: Known::default(),
        }
    }

    /// A member that was believed is asked first when its session is lost: it alone can show that it is the one it was. One
    /// that brought no listing is left, and so is one that wants to be.
    fn move_on(&mut self, from: usize) {
        let stay = self.known.listed && !self.known.leave;
        if !stay {
            self.next = (from + 1).checked_rem(self.config.endpoints.len()).unwrap_or_default();
        }
    }
}

impl Registry for Nacos {
    fn kind(&self) -> &'static str {
        "nacos"
    }

    async fn run(&mut self, events: &EventSender) -> Result<Infallible, Error> {
        self.config.validate().map_err(Error::Misconfigured)?;
        let endpoint = self.next;
        // Even when the session is cut short by nobody but its owner.
        self.known.begin();
        self.move_on(endpoint);
        let outcome = session::run(&self.config, endpoint, events, &mut self.known).await;
        self.next = endpoint;
        self.move_on(endpoint);
        let url = self.config.endpoints.get(endpoint).cloned().unwrap_or_default();
        outcome.map_err(|error| at(&url, error))
    }
}

/// Says which member an error is about.
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
    fn a_member_that_brought_a_listing_is_asked_first() {
        let mut nacos = Nacos::new(Config::new(["a", "b"].map(|host| format!("http://{host}:1")).into()));
        nacos.known.begin();
        nacos.move_on(0);
        assert_eq!(nacos.next, 1);
        nacos.next = 0;
        nacos.known.listed = true;
        nacos.move_on(0);
        assert_eq!(nacos.next, 0);
        nacos.known.leave = true;
        nacos.move_on(0);
        assert_eq!(nacos.next, 1);
        nacos.move_on(1);
        assert_eq!(nacos.next, 0);
        Nacos::new(Config::new(vec![])).move_on(0);
    }
}

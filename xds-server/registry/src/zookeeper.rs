//! ZooKeeper: what Curator, Spring Cloud, Dubbo and the Go frameworks register there.
//!
//! A session is one connection: it watches the tree, lists it, and follows it until the connection ends. ZooKeeper's
//! recursive watches lose what happens between two connections, so no watch outlives one, and the next session lists
//! everything again. Whether the ZooKeeper session expired meanwhile makes no difference: nothing here is ours.

mod client;
mod config;
mod configurator;
mod connection;
mod jute;
mod layout;
mod listing;
mod records;
mod session;

use std::convert::Infallible;

pub use config::Config;
pub use layout::{Layout, LayoutChoice};

use crate::Settings;
use crate::{Error, EventSender, Registry};
use client::{Link, Suspect};
use session::Known;

/// A ZooKeeper ensemble as a source.
#[derive(Debug)]
pub struct Zookeeper {
    config: Config,
    known: Known,
    suspect: Suspect,
}

impl Zookeeper {
    pub fn new(config: Config) -> Self {
        Self {
            config,
            known: Known::default(),
            suspect: Suspect::default(),
        }
    }
}

impl Registry for Zookeeper {
    fn kind(&self) -> &'static str {
        "zookeeper"
    }

    async fn run(&mut self, events: &EventSender) -> Result<Infallible, Error> {
        self.config.validate().map_err(Error::Misconfigured)?;
        let link = Link::connect(&self.config, self.suspect.clone()).await?;
        session::run(&self.config, link, events, &mut self.known).await
    }
}

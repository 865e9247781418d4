//! DNS: SRV records, addresses, and the services of DNS-SD, for the names that the configuration lists.
//!
//! There is no watch and no listing: each name is asked for as often as its records live. What an answer contains is
//! believed at once; what it lacks only when a second look lacks it, too, and the zone is not an older one or another one. What
//! is no answer (SERVFAIL, REFUSED, silence) changes nothing.

mod chain;
mod client;
mod config;
mod held;
mod question;
mod resolv_conf;
mod service;
mod session;
mod wire;
#[cfg(test)]
mod world;
mod zone;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

pub use config::{Config, Entry, Family, Records, Transport};
use tokio::time::{MissedTickBehavior, interval};

use self::chain::Chain;
use self::client::Client;
use self::session::Known;
use crate::{Error, EventSender, Registry, Settings};

/// How often the system's list of servers is looked at.
const RELOAD: Duration = Duration::from_secs(10);

/// Names in DNS as a source.
#[derive(Debug)]
pub struct Dns {
    config: Config,
    known: Known,
}

impl Dns {
    pub fn new(config: Config) -> Self {
        Self {
            config,
            known: Known::default(),
        }
    }
}

impl Registry for Dns {
    fn kind(&self) -> &'static str {
        "dns"
    }

    async fn run(&mut self, events: &EventSender) -> Result<Infallible, Error> {
        let Self { config, known } = self;
        config.validate().map_err(Error::Misconfigured)?;
        for lookup in config.lookups().map_err(Error::Misconfigured)? {
            let family = config.family;
            known
                .chains
                .entry(lookup.service.clone())
                .or_insert_with(|| Chain::new(lookup, family));
        }
        let configured = config.addresses().map_err(Error::Misconfigured)?;
        let system = configured.is_empty();
        let servers = if system {
            system_servers(&config.resolv_conf).await?
        } else {
            configured
        };
        let client = Client::new(config, servers);
        tokio::select! {
            ended = session::run(config, &client, events, known) => ended,
            changed = servers_change(&config.resolv_conf, client.servers()), if system => Err(changed),
        }
    }
}

async fn system_servers(file: &Path) -> Result<Vec<SocketAddr>, Error> {
    let text = crate::http::read(file).await?;
    let servers = resolv_conf::servers(&String::from_utf8_lossy(&text));
    if servers.is_empty() {
        return Err(Error::Misconfigured(format!("{} names no server", file.display())));
    }
    Ok(servers)
}

/// Waits until the system asks other servers. A file that is unreadable or empty for a moment is being written.
async fn servers_change(file: &Path, servers: &[SocketAddr]) -> Error {
    let mut ticks = interval(RELOAD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match system_servers(file).await {
            Ok(now) if now != servers => return Error::Resync(format!("{} names other servers", file.display())),
            Ok(_) | Err(_) => {}
        }
    }
}

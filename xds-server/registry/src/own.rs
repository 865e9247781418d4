//! The built-in registry: services register with Leadsman itself, over gRPC or HTTP.
//!
//! ```text
//! client ─► api (tokens, limits) ─► keeper ─► ledger (leases, versions) ─► store (one file, written through)
//!                              │       └────► events
//!                              └──► shared ─► etcd ─► the etcd adapter ─► events
//! ```
//!
//! With the embedded store this process is the registry, and there is one of it. With etcd there may be many: each
//! takes registrations and writes them there, and each reads them back by the etcd adapter, like records of anybody.
//!
//! A session is what is told. The port outlives it: clients are answered while a session is lost, and their connections
//! stay.

mod api;
mod config;
mod journal;
mod keeper;
mod ledger;
mod model;
mod shared;
mod store;
mod tokens;

use std::convert::Infallible;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

pub use self::config::{Config, Embedded, Store};

use self::api::{Api, Backend, Desk, bind, serve};
use self::keeper::{Keeper, Known};
use self::shared::Shared;
use self::tokens::Tokens;
use crate::etcd::{self, Etcd, Layout, LayoutChoice};
use crate::{Error, EventSender, Registry, Settings};

/// A registry of our own as a source.
#[derive(Debug)]
pub struct Own {
    config: Config,
    kept: Kept,
    tokens: Option<Arc<Tokens>>,
    /// One task, from the first session on, which serves the port also between sessions: who comes then is told why it has
    /// to wait. It ends with this value.
    port: JoinSet<Result<Infallible, Error>>,
}

/// The store, and what of it survives a session.
#[derive(Debug)]
enum Kept {
    Embedded {
        config: Embedded,
        known: Known,
        desk: Arc<Desk>,
    },
    Etcd {
        shared: Arc<Shared>,
        source: Box<Etcd>,
    },
    /// The configuration names none; a session says so.
    Nowhere,
}

impl Own {
    pub fn new(config: Config) -> Self {
        let kept = match &config.store {
            Store {
                embedded: Some(embedded),
                etcd: None,
            } => Kept::Embedded {
                config: embedded.clone(),
                known: Known::default(),
                desk: Arc::new(Desk::new()),
            },
            Store {
                embedded: None,
                etcd: Some(etcd),
            } => {
                let etcd = etcd::Config {
                    layout: LayoutChoice::Pinned(Layout::Leadsman),
                    ..etcd.clone()
                };
                Kept::Etcd {
                    shared: Arc::new(Shared::new(etcd.clone())),
                    source: Box::new(Etcd::new(etcd)),
                }
            }
            Store { .. } => Kept::Nowhere,
        };
        Self {
            tokens: config.tokens.as_deref().map(|file| Arc::new(Tokens::new(file))),
            port: JoinSet::new(),
            kept,
            config,
        }
    }

    /// Opens the port, unless it is open.
    fn listen(&mut self) -> Result<(), Error> {
        if !self.port.is_empty() {
            return Ok(());
        }
        let backend = match &self.kept {
            Kept::Embedded { desk, .. } => Backend::Embedded(Arc::clone(desk)),
            Kept::Etcd { shared, .. } => Backend::Etcd(Arc::clone(shared)),
            Kept::Nowhere => return Err(Error::Misconfigured("store is neither embedded nor etcd".to_owned())),
        };
        let address = self.config.listen;
        let listener =
            bind(address).map_err(|error| Error::Misconfigured(format!("{address} can't be listened on: {error}")))?;
        let tokens = self.tokens.clone();
        self.port
            .spawn(serve(listener, Api { backend, tokens }, self.config.tls.clone()));
        Ok(())
    }
}

impl Registry for Own {
    fn kind(&self) -> &'static str {
        "registry"
    }

    async fn run(&mut self, events: &EventSender) -> Result<Infallible, Error> {
        self.config.validate().map_err(Error::Misconfigured)?;
        self.listen()?;
        events.syncing();
        tokio::select! {
            end = self.kept.run(events) => end,
            Some(ended) = self.port.join_next() => {
                ended.unwrap_or_else(|error| Err(Error::Unavailable(format!("the port was closed: {error}"))))
            }
        }
    }
}

impl Kept {
    async fn run(&mut self, events: &EventSender) -> Result<Infallible, Error> {
        match self {
            Self::Embedded { config, known, desk } => {
                let (commands, inbox) = mpsc::channel(keeper::QUEUE);
                let session = async {
                    let keeper = Keeper::open(&config.path, known, events, inbox).await?;
                    desk.open(commands);
                    keeper.run(config.reconcile).await
                };
                let end = session.await;
                if let Err(error) = &end {
                    desk.close(error);
                }
                end
            }
            Self::Etcd { source, .. } => source.run(events).await,
            Self::Nowhere => Err(Error::Misconfigured("store is neither embedded nor etcd".to_owned())),
        }
    }
}

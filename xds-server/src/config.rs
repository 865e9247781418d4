//! The configuration file: what it may say, what it says by default, and how it is read.
//!
//! A file is read in two steps. Every part is decoded on its own, so that one run names every mistake with its place
//! and a way to mend it; then the parts are checked against each other and against this machine. What comes out is
//! complete: no default is filled in anywhere else, and no relative path is left.
//!
//! A flag beats the environment, which beats the file; the command line reads both and passes [`Overrides`]. Only
//! `services:` is live: [`Config::restart_keys`] names what else a new file changed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use leadsman_core::model::SourceName;
use leadsman_registry::{ServerTls, file};
use serde::Deserialize;

mod check;
mod decode;
mod format;
mod mistake;
mod problem;
mod read;
mod services;
mod source;
mod tree;
mod watch;

pub use problem::{Problem, Problems, Severity};
pub use read::{Reading, load, parse, read};
pub use services::{Service, Services};
pub use source::SourceConfig;
pub use watch::Watcher;

/// The configuration with every default written out, and what each key means.
pub const DEFAULTS: &str = include_str!("config/defaults.yaml");

/// The whole file.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub node: Node,
    pub xds: Xds,
    pub admin: Admin,
    /// The registries to watch, by a name of your choice; each has exactly one kind. Default: `local`, the files in
    /// `services/`. A change needs a restart.
    #[serde(deserialize_with = "format::sources")]
    pub sources: BTreeMap<SourceName, SourceConfig>,
    /// What to do with each service. Default: nothing. Live.
    pub services: Services,
}

/// Who this server is.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Node {
    /// Shown to Envoy as `control_plane.identifier`; tells replicas apart. Default: `leadsman`. A change needs a
    /// restart. Overridden by `--node-id` and `LEADSMAN_NODE_ID`.
    pub id: String,
}

/// The port Envoys connect to.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Xds {
    /// IP address and port. Default: `127.0.0.1:18000`. A change needs a restart. Overridden by `--xds-listen` and
    /// `LEADSMAN_XDS_LISTEN`.
    #[serde(deserialize_with = "format::address")]
    pub listen: SocketAddr,
    /// Serve TLS, and ask for client certificates when `client_ca` is set. Default: none. A change needs a restart;
    /// new files are taken over for the connections that follow.
    pub tls: Option<ServerTls>,
    /// Allow plaintext on an address other machines can reach. Default: false. A change needs a restart.
    pub insecure: bool,
    /// How long the first answers may wait for every source to list its services; after that the server answers with
    /// what it knows. A duration. Default: `10s`. A change needs a restart.
    #[serde(deserialize_with = "format::duration")]
    pub startup_wait: Duration,
    /// Who may ask, on this port, how every client stands (CSDS): `trusted` are clients on this machine and clients with a
    /// certificate from `tls.client_ca`; or `everyone`, or `nobody`. Default: `trusted`. A change needs a restart.
    pub client_status: ClientStatus,
}

/// Who may ask how every client stands: the answer names all of them, with what they refused and why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientStatus {
    #[default]
    Trusted,
    Everyone,
    Nobody,
}

/// The port of the admin API, the metrics and the probes.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Admin {
    /// IP address and port. Default: `127.0.0.1:18001`. A change needs a restart. Overridden by `--admin-listen` and
    /// `LEADSMAN_ADMIN_LISTEN`.
    #[serde(deserialize_with = "format::address")]
    pub listen: SocketAddr,
    /// Allow an address other machines can reach; the admin API has no authentication of its own. Default: false. A
    /// change needs a restart.
    pub insecure: bool,
}

/// What flags and the environment put in the place of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    pub node_id: Option<String>,
    pub xds_listen: Option<SocketAddr>,
    pub admin_listen: Option<SocketAddr>,
}

impl Config {
    pub const DEFAULT_NODE_ID: &'static str = "leadsman";
    pub const DEFAULT_XDS_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 18000);
    pub const DEFAULT_ADMIN_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 18001);
    pub const DEFAULT_STARTUP_WAIT: Duration = Duration::from_secs(10);
    /// The name of the source that exists when none is configured, and the directory it reads.
    pub const DEFAULT_SOURCE: (&'static str, &'static str) = ("local", "services/");

    /// The keys that differ in `new` and are read only when the process starts.
    pub fn restart_keys(&self, new: &Self) -> Vec<String> {
        let mut keys = Vec::new();
        let mut note = |differs: bool, key: &str| {
            if differs {
                keys.push(key.to_owned());
            }
        };
        note(self.node.id != new.node.id, "node.id");
        note(self.xds.listen != new.xds.listen, "xds.listen");
        note(self.xds.tls != new.xds.tls, "xds.tls");
        note(self.xds.insecure != new.xds.insecure, "xds.insecure");
        note(self.xds.startup_wait != new.xds.startup_wait, "xds.startup_wait");
        note(self.xds.client_status != new.xds.client_status, "xds.client_status");
        note(self.admin.listen != new.admin.listen, "admin.listen");
        note(self.admin.insecure != new.admin.insecure, "admin.insecure");
        let names: BTreeSet<_> = self.sources.keys().chain(new.sources.keys()).collect();
        for name in names {
            note(
                self.sources.get(name) != new.sources.get(name),
                &format!("sources.{name}"),
            );
        }
        keys
    }

    /// The keys under `services:` that name a source which `running` does not watch. A new source needs a restart: until
    /// then, services that are said to come from it would have no endpoints.
    pub fn services_beyond(&self, running: &Self) -> Vec<String> {
        let beyond = self.services.entries().flat_map(|(key, service)| {
            let named = service.named_sources();
            let unknown = named.filter(|(_, name)| !running.sources.contains_key(*name));
            unknown.map(move |(place, _)| format!("services.{key}.{place}"))
        });
        beyond.collect::<BTreeSet<_>>().into_iter().collect()
    }

    fn resolve_paths(&mut self, base: &Path) {
        for source in self.sources.values_mut() {
            source.settings().resolve(base);
        }
        let resolve = |path: Option<&mut PathBuf>| {
            if let Some(path) = path {
                *path = base.join(&*path);
            }
        };
        if let Some(tls) = &mut self.xds.tls {
            resolve(Some(&mut tls.cert));
            resolve(Some(&mut tls.key));
            resolve(tls.client_ca.as_mut());
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        let (name, path) = Self::DEFAULT_SOURCE;
        let name = SourceName::new(name).expect("the default source has a valid name");
        Self {
            node: Node::default(),
            xds: Xds::default(),
            admin: Admin::default(),
            sources: BTreeMap::from([(name, SourceConfig::File(file::Config { path: path.into() }))]),
            services: Services::default(),
        }
    }
}

impl Default for Node {
    fn default() -> Self {
        Self {
            id: Config::DEFAULT_NODE_ID.to_owned(),
        }
    }
}

impl Default for Xds {
    fn default() -> Self {
        Self {
            listen: Config::DEFAULT_XDS_LISTEN,
            tls: None,
            insecure: false,
            startup_wait: Config::DEFAULT_STARTUP_WAIT,
            client_status: ClientStatus::default(),
        }
    }
}

impl Default for Admin {
    fn default() -> Self {
        Self {
            listen: Config::DEFAULT_ADMIN_LISTEN,
            insecure: false,
        }
    }
}

#[cfg(test)]
mod tests;

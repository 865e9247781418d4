//! What an operator says about the built-in registry.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use crate::certificates::ServerTls;
use crate::etcd;
use crate::settings::{Settings, duration};

/// The port services register at, and where what they say is kept. Unknown keys are errors.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// IP address and port of the API, gRPC and HTTP. Default `127.0.0.1:18002`.
    #[serde(deserialize_with = "address")]
    pub listen: SocketAddr,
    /// Serve TLS, and ask for client certificates when `client_ca` is set. Default none: plaintext.
    pub tls: Option<ServerTls>,
    /// Allow plaintext on an address other machines can reach. Default false.
    pub insecure: bool,
    /// The file with the tokens that callers need, and the services each may change. Default none: whoever reaches the
    /// port may change everything.
    pub tokens: Option<PathBuf>,
    /// Where registrations are kept. Default: the embedded store in `registry/`.
    pub store: Store,
}

/// One of the two.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Store {
    /// A directory of this machine, for one Leadsman.
    pub embedded: Option<Embedded>,
    /// An etcd, for several Leadsmen that share it. The words are those of an `etcd` source; the layout is our own.
    pub etcd: Option<etcd::Config>,
}

/// A directory of one's own.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Embedded {
    /// The directory; it is made when it is not there. Required.
    pub path: PathBuf,
    /// How often what is held is compared with the file, such as `5m` or `30s`. Default `5m`.
    #[serde(default = "default_reconcile", deserialize_with = "duration")]
    pub reconcile: Duration,
}

fn default_reconcile() -> Duration {
    Embedded::DEFAULT_RECONCILE
}

impl Embedded {
    pub const DEFAULT_RECONCILE: Duration = Duration::from_mins(5);

    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            reconcile: Self::DEFAULT_RECONCILE,
        }
    }
}

impl Config {
    pub const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 18002);
    pub const DEFAULT_PATH: &'static str = "registry/";
    /// A configuration with every default besides these.
    pub fn new(listen: SocketAddr, store: Store) -> Self {
        Self {
            listen,
            store,
            ..Self::default()
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: Self::DEFAULT_LISTEN,
            tls: None,
            insecure: false,
            tokens: None,
            store: Store::embedded(Embedded::new(Self::DEFAULT_PATH)),
        }
    }
}

impl Store {
    pub fn embedded(config: Embedded) -> Self {
        Self {
            embedded: Some(config),
            etcd: None,
        }
    }

    pub fn etcd(config: etcd::Config) -> Self {
        Self {
            embedded: None,
            etcd: Some(config),
        }
    }
}

impl Settings for Config {
    fn validate(&self) -> Result<(), String> {
        if self.tls.is_none() && !self.listen.ip().is_loopback() && !self.insecure {
            return Err(format!(
                "listen {} would serve plaintext to other machines: configure `tls`, or say `insecure: true`",
                self.listen
            ));
        }
        match (&self.store.embedded, &self.store.etcd) {
            (Some(embedded), None) if embedded.reconcile.is_zero() => {
                Err("store.embedded.reconcile must be longer than zero".to_owned())
            }
            (Some(_), None) => Ok(()),
            (None, Some(etcd)) => {
                let own = etcd::LayoutChoice::Pinned(etcd::Layout::Leadsman);
                if etcd.layout != etcd::LayoutChoice::Auto && etcd.layout != own {
                    return Err(format!(
                        "store.etcd.layout {} can't be written; leave it out",
                        etcd.layout
                    ));
                }
                etcd.validate().map_err(|error| format!("store.etcd.{error}"))
            }
            (None, None) | (Some(_), Some(_)) => Err("store has to be one of embedded and etcd".to_owned()),
        }
    }

    fn files(&mut self) -> Vec<(&'static [&'static str], &mut PathBuf)> {
        let mut files: Vec<(&'static [&'static str], &mut PathBuf)> = Vec::new();
        if let Some(ServerTls { cert, key, client_ca }) = &mut self.tls {
            files.push((&["tls", "cert"], cert));
            files.push((&["tls", "key"], key));
            files.extend(client_ca.iter_mut().map(|file| (&["tls", "client_ca"] as _, file)));
        }
        files.extend(self.tokens.iter_mut().map(|file| (&["tokens"] as _, file)));
        for (key, file) in self.store.etcd.iter_mut().flat_map(Settings::files) {
            files.push((below_store(key), file));
        }
        files
    }

    fn resolve(&mut self, base: &Path) {
        for (_, file) in self.files() {
            *file = base.join(&*file);
        }
        // A directory, and one that need not be there.
        if let Some(Embedded { path, .. }) = &mut self.store.embedded {
            *path = base.join(&*path);
        }
    }
}

/// The keys of an etcd source, as they stand under `store.etcd`.
fn below_store(key: &[&str]) -> &'static [&'static str] {
    match key {
        ["password_file"] => &["store", "etcd", "password_file"],
        ["tls", "ca"] => &["store", "etcd", "tls", "ca"],
        ["tls", "cert"] => &["store", "etcd", "tls", "cert"],
        ["tls", "key"] => &["store", "etcd", "tls", "key"],
        _ => &["store", "etcd"],
    }
}

fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(|_| {
        D::Error::custom(format!(
            "{text:?} is not an IP address and a port, such as 127.0.0.1:18002"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(yaml: &str) -> Result<Config, String> {
        serde_saphyr::from_str(yaml).map_err(|error| error.to_string())
    }

    #[test]
    fn everything_has_a_default() {
        let config = parse("{}").unwrap();
        assert_eq!(config, Config::default());
        assert_eq!(config.validate(), Ok(()));
        assert_eq!(config.listen.to_string(), "127.0.0.1:18002");
        assert_eq!(config.store, Store::embedded(Embedded::new("registry/")));
    }

    #[test]
    fn every_field_is_read() {
        let config = parse(
            "listen: 0.0.0.0:1\ntls: { cert: c, key: k, client_ca: a }\ntokens: t\n\
             store: { etcd: { endpoints: ['https://a:1'], prefix: /leadsman/, username: u, password_file: p, tls: { ca: e } } }\n",
        );
        let mut config = config.unwrap();
        assert_eq!(config.validate(), Ok(()));
        config.resolve(Path::new("/etc"));
        let files: Vec<String> = config
            .files()
            .into_iter()
            .map(|(key, file)| format!("{}={}", key.join("."), file.display()))
            .collect();
        assert_eq!(
            files,
            [
                "tls.cert=/etc/c",
                "tls.key=/etc/k",
                "tls.client_ca=/etc/a",
                "tokens=/etc/t",
                "store.etcd.password_file=/etc/p",
                "store.etcd.tls.ca=/etc/e",
            ]
        );
        let mut config = Config::default();
        config.resolve(Path::new("/etc"));
        assert_eq!(config.store, Store::embedded(Embedded::new("/etc/registry/")));
    }

    #[test]
    fn what_can_not_work_is_refused_by_its_key() {
        let invalid = |yaml: &str| parse(yaml).unwrap().validate().unwrap_err();
        assert!(invalid("listen: 0.0.0.0:1").starts_with("listen "));
        assert!(
            parse("{ listen: '0.0.0.0:1', insecure: true }")
                .unwrap()
                .validate()
                .is_ok()
        );
        assert!(invalid("store: {}").starts_with("store "));
        let etcd = "etcd: { endpoints: ['http://a:1'], prefix: /a/ }";
        assert!(invalid(&format!("store: {{ embedded: {{ path: a }}, {etcd} }}")).starts_with("store "));
        assert!(invalid("store: { etcd: { endpoints: [], prefix: /a/ } }").starts_with("store.etcd.endpoints"));
        assert!(
            invalid("store: { etcd: { endpoints: ['http://a:1'], prefix: /a/, layout: kratos } }").contains("kratos")
        );
        assert!(invalid("store: { embedded: { path: a, reconcile: 0s } }").contains("longer than zero"));
        for (yaml, word) in [
            ("liste: a", "liste"),
            ("listen: 18002", "127.0.0.1:18002"),
            ("store: { redb: {} }", "redb"),
        ] {
            let error = parse(yaml).unwrap_err();
            assert!(error.contains(word), "{error}");
        }
    }
}

//! What an operator says about a Nacos source.
//!
//! Plain data: files are named here and read at the start of each session and at each login, so that rotated passwords
//! and certificates need no restart.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::Url;
use serde::Deserialize;

use super::layout::LayoutChoice;
use crate::settings::{Settings, Tls, check_endpoints, check_login, duration, tls_files};

/// The namespace that Nacos means where none is written.
const PUBLIC: &str = "public";
/// The group that Nacos means where none is written.
const DEFAULT_GROUP: &str = "DEFAULT_GROUP";

/// Groups of one namespace of a Nacos. Unknown keys are errors.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// `http://` or `https://` URLs of the members of one Nacos, at least one. Without a path, `/nacos` is meant. A
    /// session stays with one of them; after one that failed to connect comes the next. Required.
    pub endpoints: Vec<String>,
    /// `grpc`: Nacos 2 and newer, changes are pushed. `http`: Nacos 1 and newer, every service is asked for again and
    /// again. Default `grpc`.
    #[serde(default)]
    pub protocol: Protocol,
    /// The id of the namespace, not its name; blank is `public`. Default `public`.
    #[serde(default)]
    pub namespace: String,
    /// The groups to read; blank is `DEFAULT_GROUP`. Default `[DEFAULT_GROUP]`.
    #[serde(default = "default_groups")]
    pub groups: BTreeSet<String>,
    /// Only instances of these clusters. Default none: of all.
    #[serde(default)]
    pub clusters: BTreeSet<String>,
    /// What a service is called here: `name`, or `grouped`, which is `GROUP@@name` and needed for several groups.
    /// Default `name`.
    #[serde(default)]
    pub service_name: Naming,
    /// Who registered the instances: `auto` looks at each, a layout's name takes every instance for one of its own.
    /// Default `auto`.
    #[serde(default)]
    pub layout: LayoutChoice,
    /// The user to log in as. Default none.
    #[serde(default)]
    pub username: Option<String>,
    /// The file that holds the user's password; a final line break does not count. Required with `username`.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// How often the lists of services are read, at least `100ms`. Default `2s`.
    #[serde(default = "default_discovery", deserialize_with = "duration")]
    pub discovery: Duration,
    /// With `http`, how often each service is read, at least `100ms`. Default `5s`.
    #[serde(default = "default_poll", deserialize_with = "duration")]
    pub poll: Duration,
    /// With `grpc`, how often what is held is compared with a fresh read, give or take a tenth, at least `100ms`.
    /// Default `45s`.
    #[serde(default = "default_reconcile", deserialize_with = "duration")]
    pub reconcile: Duration,
    /// How long instances may take to register again after an outage of a server that was not restarted; what is
    /// missing then is believed to be gone. Default `15s`.
    #[serde(default = "default_settle", deserialize_with = "duration")]
    pub settle: Duration,
    /// What to add to the port of an endpoint for that of gRPC, -65535 to 65535. Default 1000.
    #[serde(default = "default_grpc_port_offset")]
    pub grpc_port_offset: i32,
    /// Certificates; gRPC is spoken over TLS when this is there, even where an endpoint is `http://`. Default none:
    /// the system's root certificates and no client certificate, for `https://` endpoints.
    #[serde(default)]
    pub tls: Option<Tls>,
}

/// How Nacos is spoken to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    #[default]
    Grpc,
    Http,
}

/// Which of its names a service goes by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Naming {
    /// Its own.
    #[default]
    Name,
    /// With its group before it.
    Grouped,
}

/// More often is load without use.
const SHORTEST_PERIOD: Duration = Duration::from_millis(100);

impl Config {
    /// A configuration with every default.
    pub fn new(endpoints: Vec<String>) -> Self {
        Self {
            endpoints,
            protocol: Protocol::default(),
            namespace: PUBLIC.to_owned(),
            groups: default_groups(),
            clusters: BTreeSet::new(),
            service_name: Naming::default(),
            layout: LayoutChoice::default(),
            username: None,
            password_file: None,
            discovery: default_discovery(),
            poll: default_poll(),
            reconcile: default_reconcile(),
            settle: default_settle(),
            grpc_port_offset: default_grpc_port_offset(),
            tls: None,
        }
    }

    /// The namespace, never blank: in gRPC some servers take a blank one for a namespace of its own.
    pub(super) fn namespace(&self) -> &str {
        or(&self.namespace, PUBLIC)
    }

    /// The groups, none of them blank.
    pub(super) fn groups(&self) -> BTreeSet<&str> {
        self.groups.iter().map(|group| or(group, DEFAULT_GROUP)).collect()
    }

    /// The place of a member's gRPC: a URL without a path.
    pub(super) fn grpc_url(&self, endpoint: &str) -> Result<Url, String> {
        let mut url = Url::parse(endpoint).map_err(|error| format!("endpoints: {endpoint:?}: {error}"))?;
        let port = i32::from(url.port_or_known_default().unwrap_or_default()).saturating_add(self.grpc_port_offset);
        let port = u16::try_from(port).ok().filter(|port| *port > 0);
        let port = port.ok_or_else(|| format!("grpc_port_offset leads {endpoint:?} to no port"))?;
        let scheme = if self.is_secure(endpoint) { "https" } else { "http" };
        // Each of these fails for URLs without a host only.
        let set = url.set_scheme(scheme).is_ok() && url.set_port(Some(port)).is_ok();
        url.set_path("");
        if set {
            Ok(url)
        } else {
            Err(format!("endpoints: {endpoint:?} has no host"))
        }
    }

    /// Whether gRPC is spoken over TLS.
    pub(super) fn is_secure(&self, endpoint: &str) -> bool {
        self.tls.is_some() || endpoint.starts_with("https://")
    }
}

impl Settings for Config {
    fn validate(&self) -> Result<(), String> {
        check_endpoints(&self.endpoints)?;
        if self.groups.is_empty() {
            return Err("groups is empty".to_owned());
        }
        if self.groups().len() > 1 && self.service_name == Naming::Name {
            return Err(
                "service_name must be `grouped` with several groups, whose services may share a name".to_owned(),
            );
        }
        let periods = [
            ("discovery", self.discovery),
            ("poll", self.poll),
            ("reconcile", self.reconcile),
        ];
        if let Some((field, _)) = periods.iter().find(|(_, period)| *period < SHORTEST_PERIOD) {
            return Err(format!("{field} is shorter than {SHORTEST_PERIOD:?}"));
        }
        check_login(self.username.as_deref(), self.password_file.as_deref())?;
        for endpoint in &self.endpoints {
            self.grpc_url(endpoint)?;
        }
        let Some(tls) = &self.tls else { return Ok(()) };
        if tls.cert.is_some() != tls.key.is_some() {
            return Err("tls.cert and tls.key need each other".to_owned());
        }
        let used = self.protocol == Protocol::Grpc || self.endpoints.iter().any(|url| url.starts_with("https://"));
        if used {
            Ok(())
        } else {
            Err("tls is set, but no endpoint is https://".to_owned())
        }
    }

    fn files(&mut self) -> Vec<(&'static [&'static str], &mut PathBuf)> {
        let own = self
            .password_file
            .iter_mut()
            .map(|file| (&["password_file"] as &'static [_], file));
        own.chain(tls_files(&mut self.tls)).collect()
    }
}

fn or<'a>(text: &'a str, usual: &'a str) -> &'a str {
    let text = text.trim();
    if text.is_empty() { usual } else { text }
}

fn default_groups() -> BTreeSet<String> {
    BTreeSet::from([DEFAULT_GROUP.to_owned()])
}

fn default_discovery() -> Duration {
    Duration::from_secs(2)
}

fn default_poll() -> Duration {
    Duration::from_secs(5)
}

fn default_reconcile() -> Duration {
    Duration::from_secs(45)
}

fn default_settle() -> Duration {
    Duration::from_secs(15)
}

fn default_grpc_port_offset() -> i32 {
    1000
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(yaml: &str) -> Result<Config, String> {
        serde_saphyr::from_str(yaml).map_err(|error| error.to_string())
    }

    #[test]
    fn a_source_needs_endpoints_and_the_rest_has_defaults() {
        let config = parse("endpoints: [http://127.0.0.1:8848]\n").unwrap();
        let defaults = Config::new(vec!["http://127.0.0.1:8848".into()]);
        assert_eq!(
            config,
            Config {
                namespace: String::new(),
                ..defaults
            }
        );
        assert_eq!(config.namespace(), "public");
        assert_eq!(config.groups(), BTreeSet::from(["DEFAULT_GROUP"]));
        assert_eq!(config.validate(), Ok(()));
        assert!(parse("namespace: x\n").is_err());
        assert!(parse("endpoints: [http://a:1]\nzzz: 1\n").is_err());
        assert!(parse("endpoints: [http://a:1]\nprotocol: udp\n").is_err());
        assert!(parse("endpoints: [http://a:1]\nlayout: zzz\n").is_err());
        assert!(parse("endpoints: [http://a:1]\npoll: soon\n").is_err());
    }

    #[test]
    fn every_field_is_read() {
        let config = parse(
            "endpoints: ['https://a:443/registry']\nprotocol: http\nnamespace: dev\ngroups: [A, '']\nclusters: [C]\n\
             service_name: grouped\nlayout: dubbo-interface\nusername: reader\npassword_file: /run/password\n\
             discovery: 1s\npoll: 2s\nreconcile: 3s\nsettle: 0s\ngrpc_port_offset: -1\ntls: { ca: ca.pem }\n",
        )
        .unwrap();
        assert_eq!((config.protocol, config.namespace()), (Protocol::Http, "dev"));
        assert_eq!(config.groups(), BTreeSet::from(["A", "DEFAULT_GROUP"]));
        assert_eq!((config.poll.as_secs(), config.settle), (2, Duration::ZERO));
        assert_eq!(config.validate(), Ok(()));
    }

    #[test]
    fn grpc_is_beside_http() {
        let url = |endpoint: &str| Config::new(vec![]).grpc_url(endpoint).map(|url| url.to_string());
        assert_eq!(url("http://10.0.0.1:8848").unwrap(), "http://10.0.0.1:9848/");
        assert_eq!(url("https://[::1]/nacos").unwrap(), "https://[::1]:1443/");
        assert!(url("http://a:65000").unwrap_err().contains("grpc_port_offset"));
        let secure = Config {
            tls: Some(Tls::default()),
            ..Config::new(vec![])
        };
        let url = secure.grpc_url("http://a:8848/x").unwrap();
        assert_eq!(url.to_string(), "https://a:9848/");
    }

    #[test]
    fn what_can_not_work_is_named_by_its_field() {
        let says = |change: fn(&mut Config)| {
            let mut config = Config::new(vec!["http://a:8848".into()]);
            change(&mut config);
            config.validate().unwrap_err()
        };
        assert_eq!(says(|c| c.endpoints.clear()), "endpoints is empty");
        assert_eq!(says(|c| c.groups.clear()), "groups is empty");
        assert!(says(|c| c.groups = BTreeSet::from(["A".into(), "B".into()])).starts_with("service_name"));
        assert!(says(|c| c.discovery = Duration::ZERO).starts_with("discovery"));
        assert!(says(|c| c.poll = Duration::ZERO).starts_with("poll"));
        assert!(says(|c| c.reconcile = Duration::ZERO).starts_with("reconcile"));
        assert!(says(|c| c.username = Some("u".into())).contains("password_file"));
        assert!(says(|c| c.grpc_port_offset = -8848).starts_with("grpc_port_offset"));
        assert!(says(|c| c.endpoints = vec!["http://u:secret@a".into()]).contains("credentials"));
        let half = |c: &mut Config| {
            c.tls = Some(Tls {
                cert: Some("a".into()),
                ..Tls::default()
            });
        };
        assert_eq!(says(half), "tls.cert and tls.key need each other");
        let unused = |c: &mut Config| {
            c.tls = Some(Tls::default());
            c.protocol = Protocol::Http;
        };
        assert!(says(unused).starts_with("tls is set"));
    }
}

//! What an operator says about a Consul source.
//!
//! Plain data: files are named here and read at the start of each session, so that rotated tokens and certificates
//! need no restart.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::layout::LayoutChoice;
use crate::settings::{Settings, Tls, check_endpoints, check_timeout, check_tls, default_timeout, duration, tls_files};

/// One datacentre of a Consul. Unknown keys are errors.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// `http://` or `https://` URLs of agents, at least one, all of the same Consul. A session uses one of them, the
    /// next session the next one. Required.
    pub endpoints: Vec<String>,
    /// The file that holds the ACL token; a final line break does not count. Default none: anonymous.
    #[serde(default)]
    pub token_file: Option<PathBuf>,
    /// The datacentre to read. Default: the agent's own.
    #[serde(default)]
    pub datacenter: Option<String>,
    /// The key of the tagged address to take, such as `lan` or `wan`; an instance without it is taken by its ordinary
    /// address. Default none: the ordinary address.
    #[serde(default)]
    pub tagged_address: Option<String>,
    /// Who registered the instances: `auto` looks at each, a layout's name takes every instance for one of its own.
    /// Default `auto`.
    #[serde(default)]
    pub layout: LayoutChoice,
    /// Services to leave out. Default: `consul`, the servers themselves.
    #[serde(default = "default_exclude")]
    pub exclude: BTreeSet<String>,
    /// Services that are watched, each with a connection of its own, 0 to 150; the others are read every `poll`.
    /// Default 100.
    #[serde(default = "default_max_watches")]
    pub max_watches: u32,
    /// How often services beyond `max_watches` are read. Default `5s`.
    #[serde(default = "default_poll", deserialize_with = "duration")]
    pub poll: Duration,
    /// How often the list of services is read, and the age of the data judged. Default `1s`.
    #[serde(default = "default_discovery", deserialize_with = "duration")]
    pub discovery: Duration,
    /// The longest that one question of a watch may wait, `1s` to `10m`. Default `60s`.
    #[serde(default = "default_wait", deserialize_with = "duration")]
    pub wait: Duration,
    /// How long a plain answer may take, its body included, and that of a watch beyond its `wait`, `500ms` to `5m`.
    /// Default `10s`: a server that lost its leader takes nearly as long to say so.
    #[serde(default = "default_timeout", deserialize_with = "duration")]
    pub timeout: Duration,
    /// How long a server may have been without contact to its leader before its data counts as old. Default `10s`.
    #[serde(default = "default_max_stale", deserialize_with = "duration")]
    pub max_stale: Duration,
    /// How often what is held is compared with a consistent read. Default `10m`.
    #[serde(default = "default_reconcile", deserialize_with = "duration")]
    pub reconcile: Duration,
    /// Certificates for `https://` endpoints. Default none: the system's root certificates and no client certificate.
    #[serde(default)]
    pub tls: Option<Tls>,
}

/// An agent lets one client have 200 connections. The reads beside the watches need some, and so does whoever else is on
/// the machine.
const MAX_WATCHES: u32 = 150;
const SHORTEST_WAIT: Duration = Duration::from_secs(1);
/// Consul cuts longer waits itself.
const LONGEST_WAIT: Duration = Duration::from_secs(10 * 60);
/// More often is load without use: changes of known services do not wait for it.
const SHORTEST_PERIOD: Duration = Duration::from_millis(100);

impl Config {
    /// A configuration with every default.
    pub fn new(endpoints: Vec<String>) -> Self {
        Self {
            endpoints,
            token_file: None,
            datacenter: None,
            tagged_address: None,
            layout: LayoutChoice::default(),
            exclude: default_exclude(),
            max_watches: default_max_watches(),
            poll: default_poll(),
            discovery: default_discovery(),
            wait: default_wait(),
            timeout: default_timeout(),
            max_stale: default_max_stale(),
            reconcile: default_reconcile(),
            tls: None,
        }
    }
}

impl Settings for Config {
    fn validate(&self) -> Result<(), String> {
        check_endpoints(&self.endpoints)?;
        for (field, text) in [
            ("datacenter", &self.datacenter),
            ("tagged_address", &self.tagged_address),
        ] {
            if text.as_ref().is_some_and(String::is_empty) {
                return Err(format!("{field} is empty"));
            }
        }
        if self.max_watches > MAX_WATCHES {
            return Err(format!("max_watches {} is above {MAX_WATCHES}", self.max_watches));
        }
        if !(SHORTEST_WAIT..=LONGEST_WAIT).contains(&self.wait) {
            return Err(format!("wait is outside {SHORTEST_WAIT:?} to {LONGEST_WAIT:?}"));
        }
        check_timeout(self.timeout)?;
        let periods = [
            ("poll", self.poll),
            ("discovery", self.discovery),
            ("max_stale", self.max_stale),
            ("reconcile", self.reconcile),
        ];
        if let Some((field, _)) = periods.iter().find(|(_, period)| *period < SHORTEST_PERIOD) {
            return Err(format!("{field} is shorter than {SHORTEST_PERIOD:?}"));
        }
        check_tls(self.tls.as_ref(), &self.endpoints)
    }

    fn files(&mut self) -> Vec<(&'static [&'static str], &mut PathBuf)> {
        let own = self
            .token_file
            .iter_mut()
            .map(|file| (&["token_file"] as &'static [_], file));
        own.chain(tls_files(&mut self.tls)).collect()
    }
}

fn default_exclude() -> BTreeSet<String> {
    BTreeSet::from(["consul".to_owned()])
}

fn default_max_watches() -> u32 {
    100
}

fn default_poll() -> Duration {
    Duration::from_secs(5)
}

fn default_discovery() -> Duration {
    Duration::from_secs(1)
}

fn default_wait() -> Duration {
    Duration::from_secs(60)
}

fn default_max_stale() -> Duration {
    Duration::from_secs(10)
}

fn default_reconcile() -> Duration {
    Duration::from_secs(10 * 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(yaml: &str) -> Result<Config, String> {
        serde_saphyr::from_str(yaml).map_err(|error| error.to_string())
    }

    #[test]
    fn a_source_needs_endpoints_and_the_rest_has_defaults() {
        let config = parse("endpoints: [http://127.0.0.1:8500]\n").unwrap();
        assert_eq!(config, Config::new(vec!["http://127.0.0.1:8500".into()]));
        assert_eq!(config.validate(), Ok(()));
        assert!(parse("token_file: x\n").is_err());
        assert!(parse("endpoints: [http://a:1]\nzzz: 1\n").is_err());
        assert!(parse("endpoints: [http://a:1]\nwait: soon\n").is_err());
        assert!(parse("endpoints: [http://a:1]\nlayout: zzz\n").is_err());
    }

    #[test]
    fn what_can_not_work_is_named_by_its_field() {
        let valid = || Config::new(vec!["https://a:1".into()]);
        let says = |config: Config| config.validate().unwrap_err();
        assert_eq!(says(Config::new(vec![])), "endpoints is empty");
        assert_eq!(
            says(Config::new(vec!["ftp://a".into()])),
            r#"endpoints: "ftp://a" is not an http:// or https:// URL"#
        );
        let empty = Some(String::new());
        assert_eq!(
            says(Config {
                datacenter: empty,
                ..valid()
            }),
            "datacenter is empty"
        );
        assert_eq!(
            says(Config {
                max_watches: 200,
                ..valid()
            }),
            "max_watches 200 is above 150"
        );
        let zero = Duration::ZERO;
        assert_eq!(says(Config { wait: zero, ..valid() }), "wait is outside 1s to 600s");
        assert_eq!(says(Config { poll: zero, ..valid() }), "poll is shorter than 100ms");
        let tls = Some(Tls {
            cert: Some("a".into()),
            ..Tls::default()
        });
        assert_eq!(says(Config { tls, ..valid() }), "tls.cert and tls.key need each other");
        let tls = Some(Tls::default());
        let plain = Config {
            tls,
            ..Config::new(vec!["http://a:1".into()])
        };
        assert_eq!(
            says(plain),
            r#"tls is set, but the endpoint "http://a:1" is not https://"#
        );
    }
}

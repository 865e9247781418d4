//! What an operator says about a ZooKeeper source.
//!
//! Plain data: the password's file is named here and read at the start of each session, so that a new password needs no
//! restart.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::layout::LayoutChoice;
use crate::settings::{Settings, Tls, check_tls, duration, tls_files};

/// One ensemble and one tree in it. Unknown keys are errors.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// `host:port` of the servers, at least one, all of the same ensemble. A session uses one of them. Required.
    pub servers: Vec<String>,
    /// The node to read: everything below it. `/` means the whole tree. Required.
    pub prefix: String,
    /// Who wrote the records: `auto` looks at each record, a layout's name takes every record for one of its own.
    /// Default `auto`.
    #[serde(default)]
    pub layout: LayoutChoice,
    /// The user of ZooKeeper's `digest` scheme. Default none.
    #[serde(default)]
    pub username: Option<String>,
    /// The file that holds the user's password; a final line break does not count. Required with `username`.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// The session timeout to ask for, `2s` to `1h`; the server may answer with another one. A server that is silent for
    /// two fifths of it is left. Default `10s`.
    #[serde(default = "default_session_timeout", deserialize_with = "duration")]
    pub session_timeout: Duration,
    /// How often the held records are compared with a fresh read, such as `10m` or `30s`. Default `10m`.
    #[serde(default = "default_reconcile", deserialize_with = "duration")]
    pub reconcile: Duration,
    /// Speak TLS, to the servers' secure ports. Default none: plaintext.
    #[serde(default)]
    pub tls: Option<Tls>,
}

/// Below this a busy server is taken for a dead one; above, a dead one is not noticed.
const SESSION_TIMEOUTS: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(60 * 60)];

impl Config {
    /// A configuration with every default.
    pub fn new(servers: Vec<String>, prefix: &str) -> Self {
        Self {
            servers,
            prefix: prefix.to_owned(),
            layout: LayoutChoice::default(),
            username: None,
            password_file: None,
            session_timeout: default_session_timeout(),
            reconcile: default_reconcile(),
            tls: None,
        }
    }

    /// The node to read, without a final slash unless it is the root of the tree.
    pub(super) fn root(&self) -> &str {
        match self.prefix.trim_end_matches('/') {
            "" => "/",
            root => root,
        }
    }
}

impl Settings for Config {
    fn validate(&self) -> Result<(), String> {
        if self.servers.is_empty() {
            return Err("servers is empty".to_owned());
        }
        if let Some(server) = self.servers.iter().find(|server| !is_host_port(server)) {
            return Err(format!("the server {server:?} is not host:port"));
        }
        check_prefix(&self.prefix)?;
        let [least, most] = SESSION_TIMEOUTS;
        if !(least..=most).contains(&self.session_timeout) {
            return Err(format!(
                "session_timeout {:?} is outside 2s to 1h",
                self.session_timeout
            ));
        }
        if self.reconcile.is_zero() {
            return Err("reconcile must be longer than zero".to_owned());
        }
        check_tls(self.tls.as_ref(), &[])?;
        match (&self.username, &self.password_file) {
            (Some(name), _) if name.is_empty() || name.contains(':') => {
                Err(format!("username {name:?} is empty or has a colon in it"))
            }
            (Some(_), None) => Err("username needs a password_file".to_owned()),
            (None, Some(_)) => Err("password_file needs a username".to_owned()),
            (Some(_), Some(_)) | (None, None) => Ok(()),
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

fn check_prefix(prefix: &str) -> Result<(), String> {
    let Some(path) = prefix.strip_prefix('/') else {
        return Err(format!("prefix {prefix:?} does not begin with a slash"));
    };
    let path = path.strip_suffix('/').unwrap_or(path);
    let usable = |segment: &str| !matches!(segment, "" | "." | "..") && !segment.contains('\0');
    if path.is_empty() || path.split('/').all(usable) {
        return Ok(());
    }
    Err(format!("prefix {prefix:?} is no path of a node"))
}

/// The client's own syntax knows schemes, lists and a chroot too; none of them is one server.
fn is_host_port(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else {
        return false;
    };
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let host_ok = match bare {
        Some(v6) => v6.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            !host.is_empty() && !host.contains([':', '/', ',', '[', ']', '@']) && !host.contains(char::is_whitespace)
        }
    };
    host_ok && port.parse::<u16>().is_ok_and(|port| port > 0)
}

fn default_session_timeout() -> Duration {
    Duration::from_secs(10)
}

fn default_reconcile() -> Duration {
    Duration::from_secs(10 * 60)
}

#[cfg(test)]
mod tests {
    use super::super::layout::Layout;
    use super::*;

    fn parse(yaml: &str) -> Result<Config, String> {
        serde_saphyr::from_str(yaml).map_err(|error| error.to_string())
    }

    fn with(change: impl FnOnce(&mut Config)) -> Result<(), String> {
        let mut config = Config::new(vec!["127.0.0.1:2181".to_owned()], "/services");
        change(&mut config);
        config.validate()
    }

    #[test]
    fn a_source_needs_servers_and_a_prefix_and_the_rest_has_defaults() {
        let config = parse("servers: [127.0.0.1:2181]\nprefix: /services/\n").unwrap();
        assert_eq!(config, Config::new(vec!["127.0.0.1:2181".into()], "/services/"));
        assert_eq!(config.session_timeout, Duration::from_secs(10));
        assert_eq!(config.reconcile, Duration::from_secs(600));
        assert_eq!(config.validate(), Ok(()));
        assert_eq!(config.root(), "/services");
        assert_eq!(Config::new(Vec::new(), "/").root(), "/");
        assert!(parse("servers: [a:1]").is_err());
        assert!(parse("servers: [a:1]\nprefix: /\nport: 1").is_err());
    }

    #[test]
    fn every_key_can_be_set() {
        let yaml = "servers: ['[::1]:2181', zk:2181]\nprefix: /dubbo\nlayout: dubbo-interface\nusername: reader\n\
                    password_file: secret\nsession_timeout: 30s\nreconcile: 1m\n\
                    tls: { ca: ca.pem, cert: us.pem, key: us.key }\n";
        let config = parse(yaml).unwrap();
        assert_eq!(config.validate(), Ok(()));
        assert_eq!(config.layout, LayoutChoice::Pinned(Layout::DubboInterface));
        assert_eq!(config.tls.unwrap().key, Some("us.key".into()));
    }

    #[test]
    fn what_can_not_work_is_refused_with_its_field() {
        for (servers, server) in [
            (vec![], None),
            (vec!["a"], Some("a")),
            (vec!["a:1", "b:1/x"], Some("b:1/x")),
        ] {
            let expected = server.map_or("servers is empty".to_owned(), |server| {
                format!("the server {server:?} is not host:port")
            });
            let servers: Vec<String> = servers.into_iter().map(str::to_owned).collect();
            assert_eq!(with(|config| config.servers = servers), Err(expected));
        }
        for server in ["a:0", ":1", "tcp://a:1", "a:1,b:1", "::1:2181", "a:65536"] {
            assert!(with(|config| config.servers = vec![server.into()]).is_err(), "{server}");
        }
        for prefix in ["", "services", "/a//b", "/a/../b", "/a\0"] {
            assert!(with(|config| config.prefix = prefix.into()).is_err(), "{prefix:?}");
        }
        assert_eq!(
            with(|config| config.session_timeout = Duration::from_secs(1)),
            Err("session_timeout 1s is outside 2s to 1h".to_owned())
        );
        assert!(with(|config| config.reconcile = Duration::ZERO).is_err());
        assert_eq!(
            with(|config| config.username = Some("a".into())),
            Err("username needs a password_file".to_owned())
        );
        assert!(with(|config| config.password_file = Some("p".into())).is_err());
        let cert = Tls {
            cert: Some("c".into()),
            ..Tls::default()
        };
        assert!(with(|config| config.tls = Some(cert)).is_err());
    }
}

//! What an operator says about a Eureka source.
//!
//! Plain data: files are named here and read at the start of each session, so that rotated passwords and certificates
//! need no restart.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use crate::settings::{
    Settings, Tls, check_endpoints, check_login, check_timeout, check_tls, default_timeout, duration, tls_files,
};

/// The peers of one Eureka cluster. Unknown keys are errors.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// `http://` or `https://` URLs of the peers with their base path, such as `http://10.0.0.1:8761/eureka`, at least
    /// one, all of the same cluster. A session stays with one of them; the next session takes the next one. Required.
    pub endpoints: Vec<String>,
    /// What a service is called here: `app`, `app-verbatim` or `vip`. Default `app`.
    #[serde(default)]
    pub service_name: Naming,
    /// Whether an instance with both ports enabled is reached at its secure one. Default false: Envoy speaks plaintext to
    /// what it is told of here, unless its own configuration says otherwise.
    #[serde(default)]
    pub prefer_secure: bool,
    /// How often changes are asked for, up to `1m`. Default `15s`.
    #[serde(default = "default_interval", deserialize_with = "duration")]
    pub interval: Duration,
    /// How often the held instances are compared with a full listing. Default `5m`.
    #[serde(default = "default_reconcile", deserialize_with = "duration")]
    pub reconcile: Duration,
    /// How long one answer may take, its body included, `500ms` to `5m`. Default `10s`.
    #[serde(default = "default_timeout", deserialize_with = "duration")]
    pub timeout: Duration,
    /// The user to log in as, by HTTP Basic. Default none.
    #[serde(default)]
    pub username: Option<String>,
    /// The file that holds the user's password; a final line break does not count. Required with `username`.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// Certificates for `https://` endpoints. Default none: the system's root certificates and no client certificate.
    #[serde(default)]
    pub tls: Option<Tls>,
}

/// Which of its names an instance goes by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Naming {
    /// The application's, in lower case: Eureka writes it in upper case, whatever the instance called itself.
    #[default]
    App,
    /// The application's, as Eureka writes it.
    AppVerbatim,
    /// Each of its virtual addresses, as the instance wrote them.
    Vip,
}

/// A delta tells of the last three minutes; polls must come well within.
const MAX_INTERVAL: Duration = Duration::from_secs(60);

impl Config {
    /// A configuration with every default.
    pub fn new(endpoints: Vec<String>) -> Self {
        Self {
            endpoints,
            service_name: Naming::default(),
            prefer_secure: false,
            interval: default_interval(),
            reconcile: default_reconcile(),
            timeout: default_timeout(),
            username: None,
            password_file: None,
            tls: None,
        }
    }
}

impl Settings for Config {
    fn validate(&self) -> Result<(), String> {
        check_endpoints(&self.endpoints)?;
        if self.interval.is_zero() || self.interval > MAX_INTERVAL {
            return Err(format!("interval {:?} is not above zero and up to 1m", self.interval));
        }
        if self.reconcile.is_zero() {
            return Err("reconcile must be longer than zero".to_owned());
        }
        check_timeout(self.timeout)?;
        check_login(self.username.as_deref(), self.password_file.as_deref())?;
        check_tls(self.tls.as_ref(), &self.endpoints)
    }

    fn files(&mut self) -> Vec<(&'static [&'static str], &mut PathBuf)> {
        let own = self
            .password_file
            .iter_mut()
            .map(|file| (&["password_file"] as &'static [_], file));
        own.chain(tls_files(&mut self.tls)).collect()
    }
}

fn default_interval() -> Duration {
    Duration::from_secs(15)
}

fn default_reconcile() -> Duration {
    Duration::from_secs(5 * 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(yaml: &str) -> Result<Config, String> {
        serde_saphyr::from_str(yaml).map_err(|error| error.to_string())
    }

    #[test]
    fn a_source_needs_endpoints_and_the_rest_has_defaults() {
        let config = parse("endpoints: [http://127.0.0.1:8761/eureka]\n").unwrap();
        assert_eq!(config, Config::new(vec!["http://127.0.0.1:8761/eureka".into()]));
        assert_eq!((config.service_name, config.prefer_secure), (Naming::App, false));
        assert_eq!((config.interval.as_secs(), config.reconcile.as_secs()), (15, 300));
        assert_eq!(config.validate(), Ok(()));
    }

    #[test]
    fn every_field_is_read() {
        let config = parse(
            "endpoints: ['https://a/eureka/v2', 'https://b/eureka/v2']\nservice_name: vip\nprefer_secure: true\n\
             interval: 5s\nreconcile: 1m\ntimeout: 1m\nusername: reader\npassword_file: /run/password\n\
             tls: { ca: ca.pem, cert: us.pem, key: us.key }\n",
        )
        .unwrap();
        assert_eq!((config.service_name, config.prefer_secure), (Naming::Vip, true));
        assert_eq!((config.interval.as_secs(), config.reconcile.as_secs()), (5, 60));
        assert_eq!(config.timeout.as_secs(), 60);
        assert_eq!(config.tls.as_ref().unwrap().key, Some("us.key".into()));
        assert_eq!(config.validate(), Ok(()));
        let verbatim = parse("endpoints: ['http://a/']\nservice_name: app-verbatim\n").unwrap();
        assert_eq!(verbatim.service_name, Naming::AppVerbatim);
    }

    #[test]
    fn what_can_not_work_is_refused_by_name() {
        let refused = |yaml: &str, word: &str| {
            let error = parse(yaml).unwrap_err();
            assert!(error.contains(word), "{yaml}: {error}");
        };
        refused("endpoints: ['http://a/']\nprefix: /", "prefix");
        refused("endpoints: ['http://a/']\nservice_name: App", "vip");
        refused("endpoints: ['http://a/']\ninterval: soon", "duration");
    }

    #[test]
    fn fields_that_need_each_other_are_checked() {
        let base = Config::new(vec!["http://a:8761/eureka".into()]);
        let invalid = |change: fn(&mut Config)| {
            let mut config = base.clone();
            change(&mut config);
            config.validate().unwrap_err()
        };
        assert!(invalid(|c| c.endpoints.clear()).contains("endpoints is empty"));
        for url in ["127.0.0.1:8761", "http://", "ftp://a", "a b"] {
            let config = Config::new(vec![url.to_owned()]);
            assert!(config.validate().unwrap_err().contains("http://"), "{url}");
        }
        let secret = invalid(|c| c.endpoints = vec!["http://u:secret@a/eureka".into()]);
        assert!(
            secret.contains("a file of their own") && !secret.contains("secret@"),
            "{secret}"
        );
        assert!(invalid(|c| c.endpoints = vec!["http://a/?x".into()]).contains("query"));
        assert!(invalid(|c| c.interval = Duration::ZERO).contains("interval"));
        assert!(invalid(|c| c.interval = Duration::from_secs(61)).contains("interval"));
        assert!(invalid(|c| c.reconcile = Duration::ZERO).contains("reconcile"));
        assert!(invalid(|c| c.timeout = Duration::from_millis(1)).contains("timeout"));
        assert!(invalid(|c| c.username = Some("u".into())).contains("password_file"));
        assert!(invalid(|c| c.password_file = Some("p".into())).contains("username"));
        assert!(invalid(|c| c.tls = Some(Tls::default())).contains("https://"));
    }
}

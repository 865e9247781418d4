//! What an operator says about an etcd source.
//!
//! Plain data: files are named here and read at the start of each session, so that rotated passwords and certificates
//! need no restart.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::layout::LayoutChoice;
use crate::settings::{Settings, Tls, check_login, check_tls, duration, tls_files};

/// One etcd cluster and one prefix in it. Unknown keys are errors.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// `http://` or `https://` URLs of the members, at least one, all of the same cluster. A session uses one of them,
    /// the next session the next one. Required.
    pub endpoints: Vec<String>,
    /// The keys to read: everything below this prefix, in whole path segments, so that `/services` does not take
    /// `/services-old/x`. Empty means every key. Required.
    pub prefix: String,
    /// Who wrote the records: `auto` looks at each record, a layout's name takes every record for one of its own.
    /// Default `auto`.
    #[serde(default)]
    pub layout: LayoutChoice,
    /// The etcd user to log in as. Default none: no login.
    #[serde(default)]
    pub username: Option<String>,
    /// The file that holds the user's password; a final line break does not count. Required with `username`.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// Certificates for `https://` endpoints. Default none: the system's root certificates and no client certificate.
    #[serde(default)]
    pub tls: Option<Tls>,
    /// Keys per page of a listing, 1 to 100000. Default 2000.
    #[serde(default = "default_page_size")]
    pub page_size: u32,
    /// How often the held records are compared with a fresh read, such as `5m` or `30s`. Default `5m`.
    #[serde(default = "default_reconcile", deserialize_with = "duration")]
    pub reconcile: Duration,
}

/// A page is one message; with ordinary records of a few hundred bytes this many stay far below the decode limit.
const MAX_PAGE_SIZE: u32 = 100_000;

impl Config {
    /// A configuration with every default.
    pub fn new(endpoints: Vec<String>, prefix: &str) -> Self {
        Self {
            endpoints,
            prefix: prefix.to_owned(),
            layout: LayoutChoice::default(),
            username: None,
            password_file: None,
            tls: None,
            page_size: default_page_size(),
            reconcile: default_reconcile(),
        }
    }
}

impl Settings for Config {
    fn validate(&self) -> Result<(), String> {
        check_endpoints(&self.endpoints)?;
        if !(1..=MAX_PAGE_SIZE).contains(&self.page_size) {
            return Err(format!("page_size {} is outside 1 to {MAX_PAGE_SIZE}", self.page_size));
        }
        if self.reconcile.is_zero() {
            return Err("reconcile must be longer than zero".to_owned());
        }
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

fn default_page_size() -> u32 {
    2000
}

fn default_reconcile() -> Duration {
    Duration::from_secs(5 * 60)
}

fn check_endpoints(endpoints: &[String]) -> Result<(), String> {
    if endpoints.is_empty() {
        return Err("endpoints is empty".to_owned());
    }
    for url in endpoints {
        let host = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
        if host.is_none_or(str::is_empty) || tonic::transport::Endpoint::from_shared(url.clone()).is_err() {
            return Err(format!("the endpoint {url:?} is not an http:// or https:// URL"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::layout::Layout;
    use super::*;

    fn parse(yaml: &str) -> Result<Config, String> {
        serde_saphyr::from_str(yaml).map_err(|error| error.to_string())
    }

    #[test]
    fn a_source_needs_endpoints_and_a_prefix_and_the_rest_has_defaults() {
        let config = parse("endpoints: [http://127.0.0.1:2379]\nprefix: /services/\n").unwrap();
        assert_eq!(config, Config::new(vec!["http://127.0.0.1:2379".into()], "/services/"));
        assert_eq!(config.layout, LayoutChoice::Auto);
        assert_eq!(config.page_size, 2000);
        assert_eq!(config.reconcile, Duration::from_secs(300));
        assert_eq!(config.validate(), Ok(()));
    }

    #[test]
    fn every_field_is_read() {
        let config = parse(
            "endpoints: ['https://a:2379', 'https://b:2379']\nprefix: ''\nlayout: kratos\nusername: reader\n\
             password_file: /run/password\npage_size: 500\nreconcile: 500ms\n\
             tls: { ca: ca.pem, cert: us.pem, key: us.key }\n",
        )
        .unwrap();
        assert_eq!(config.layout, LayoutChoice::Pinned(Layout::Kratos));
        assert_eq!(config.reconcile, Duration::from_millis(500));
        assert_eq!(config.tls.as_ref().unwrap().key, Some("us.key".into()));
        assert_eq!(config.validate(), Ok(()));
    }

    #[test]
    fn what_can_not_work_is_refused_by_name() {
        let refused = |yaml: &str, word: &str| {
            let error = parse(yaml).unwrap_err();
            assert!(error.contains(word), "{yaml}: {error}");
        };
        refused("endpoints: ['http://a:1']\nprefix: /\nlayuot: auto", "layuot");
        refused("endpoints: ['http://a:1']\nprefix: /\nlayout: consul", "kratos");
        refused("endpoints: ['http://a:1']\nprefix: /\nreconcile: soon", "duration");
    }

    #[test]
    fn fields_that_need_each_other_are_checked() {
        let base = Config::new(vec!["http://a:1".into()], "/");
        let invalid = |change: fn(&mut Config)| {
            let mut config = base.clone();
            change(&mut config);
            config.validate().unwrap_err()
        };
        assert!(invalid(|c| c.endpoints.clear()).contains("endpoints is empty"));
        for url in ["127.0.0.1:2379", "http://", "http://a b", "ftp://a:1"] {
            let config = Config::new(vec![url.to_owned()], "/");
            assert!(config.validate().unwrap_err().contains("http://"), "{url}");
        }
        assert!(invalid(|c| c.username = Some("u".into())).contains("password_file"));
        assert!(invalid(|c| c.password_file = Some("p".into())).contains("username"));
        assert!(invalid(|c| c.tls = Some(Tls::default())).contains("https://"));
        assert!(invalid(|c| c.page_size = 0).contains("page_size"));
        assert!(invalid(|c| c.reconcile = Duration::ZERO).contains("reconcile"));
        assert!(
            invalid(|c| {
                c.tls = Some(Tls {
                    cert: Some("c".into()),
                    ..Tls::default()
                });
            })
            .contains("tls.key")
        );
    }
}

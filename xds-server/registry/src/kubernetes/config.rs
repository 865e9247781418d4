//! What an operator says about a Kubernetes source.
//!
//! Plain data: files are named here and read at the start of each session, tokens with every request, so that rotated
//! credentials need no restart.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use crate::settings::{Settings, Tls, duration, tls_files};

/// The EndpointSlices of one cluster, or of some of its namespaces. Unknown keys are errors.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// A kubeconfig file: server, authorities and credentials of one of its contexts. Default none: `server`,
    /// `token_file` and `tls`, and without them what a pod finds in itself.
    pub kubeconfig: Option<PathBuf>,
    /// The context of the kubeconfig. Default: its `current-context`.
    pub context: Option<String>,
    /// The URL of the API server. Default: what the environment of a pod says (`KUBERNETES_SERVICE_HOST` and `_PORT`), else
    /// `https://kubernetes.default.svc`; with the files of the pod's service account.
    pub server: Option<String>,
    /// The file that holds a bearer token; a final line break does not count. Default: none with `server`, else the
    /// pod's.
    pub token_file: Option<PathBuf>,
    /// Certificates. Default: the system's authorities with `server`, else the pod's; no client certificate.
    pub tls: Option<Tls>,
    /// The namespaces to read, each with a watch of its own, at most 100. Default: every one, with a single watch.
    pub namespaces: Vec<String>,
    /// Which slices to read, in the words of `kubectl get -l`. Default: all of services.
    pub label_selector: Option<String>,
    /// What a service is called here: `qualified` (`NAME.NAMESPACE`) or `name`, which needs exactly one namespace.
    /// Default `qualified`.
    pub service_name: Naming,
    /// The port name that adds nothing to the name of the service; every other adds `:PORT`. Default: only a port
    /// without a name.
    pub main_port: Option<String>,
    /// Of two families of a pod's addresses: `prefer-ipv4`, `prefer-ipv6`, `ipv4`, `ipv6` or `both`. Default
    /// `prefer-ipv4`.
    pub address_family: Family,
    /// What becomes of an endpoint that is not ready and not terminating: `unhealthy` or `omit`. Default `unhealthy`.
    pub not_ready: NotReady,
    /// How long an endpoint that was ready to the end may be in no slice before it is removed, up to `5s`: controllers
    /// move endpoints between slices. Default `300ms`.
    #[serde(deserialize_with = "duration")]
    pub settle: Duration,
    /// Slices per page of a listing, 1 to 5000. Default 500.
    pub page_size: u32,
    /// How long one request of a watch lasts, `4s` to `10m`. A server that has not ended it a third of that time later,
    /// or 10 s at most, is left.
    /// Default `30s`.
    #[serde(deserialize_with = "duration")]
    pub watch_timeout: Duration,
    /// How often what is held is compared with a fresh listing. Default `30m`.
    #[serde(deserialize_with = "duration")]
    pub reconcile: Duration,
}

/// What a service is called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Naming {
    /// `NAME.NAMESPACE`.
    #[default]
    Qualified,
    /// `NAME`.
    Name,
}

/// Which addresses of a pod with two families count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// IPv4 where a pod has it, else IPv6.
    #[default]
    PreferIpv4,
    /// IPv6 where a pod has it, else IPv4.
    PreferIpv6,
    /// IPv4 only.
    Ipv4,
    /// IPv6 only.
    Ipv6,
    /// Each is an endpoint.
    Both,
}

/// What becomes of an endpoint that is not ready.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NotReady {
    /// Envoy knows it, and uses it only in panic.
    #[default]
    Unhealthy,
    /// Envoy never hears of it.
    Omit,
}

/// Each holds a connection of its own.
const MAX_NAMESPACES: usize = 100;
const MAX_PAGE_SIZE: u32 = 5000;
const LONGEST_SETTLE: Duration = Duration::from_secs(5);
/// A server sends its last bookmark two seconds before the end, and none in a shorter watch.
const SHORTEST_WATCH: Duration = Duration::from_secs(4);
const LONGEST_WATCH: Duration = Duration::from_secs(10 * 60);
const SHORTEST_RECONCILE: Duration = Duration::from_millis(100);
/// Of a DNS label, which every namespace is.
const MAX_LABEL_BYTES: usize = 63;

impl Default for Config {
    fn default() -> Self {
        Self {
            kubeconfig: None,
            context: None,
            server: None,
            token_file: None,
            tls: None,
            namespaces: Vec::new(),
            label_selector: None,
            service_name: Naming::default(),
            main_port: None,
            address_family: Family::default(),
            not_ready: NotReady::default(),
            settle: Duration::from_millis(300),
            page_size: 500,
            watch_timeout: Duration::from_secs(30),
            reconcile: Duration::from_secs(30 * 60),
        }
    }
}

impl Config {
    fn check_access(&self) -> Result<(), String> {
        if self.kubeconfig.is_none() {
            if self.context.is_some() {
                return Err("context needs a kubeconfig".to_owned());
            }
        } else if self.server.is_some() {
            return Err("server and kubeconfig exclude each other".to_owned());
        } else if self.token_file.is_some() {
            return Err("token_file and kubeconfig exclude each other".to_owned());
        } else if self.tls.is_some() {
            return Err("tls and kubeconfig exclude each other".to_owned());
        }
        let identity = self.tls.as_ref().map(|tls| (&tls.cert, &tls.key));
        if identity.is_some_and(|(cert, key)| cert.is_some() != key.is_some()) {
            return Err("tls.cert and tls.key need each other".to_owned());
        }
        let Some(server) = &self.server else { return Ok(()) };
        let url = check_server(server).map_err(|reason| format!("server {reason}"))?;
        let secrets = self.token_file.is_some() || self.tls.is_some();
        if url.scheme() == "http" && secrets {
            return Err("server is not https://, and neither tokens nor certificates travel in the clear".to_owned());
        }
        Ok(())
    }

    fn check_namespaces(&self) -> Result<(), String> {
        let count = self.namespaces.len();
        if count > MAX_NAMESPACES {
            return Err(format!(
                "namespaces holds {count}, the limit is {MAX_NAMESPACES}; leave it out to read every one"
            ));
        }
        if let Some(odd) = self.namespaces.iter().find(|name| !is_label(name)) {
            return Err(format!(
                "namespaces holds {odd:?}, which is not the name of a namespace"
            ));
        }
        let different: BTreeSet<&String> = self.namespaces.iter().collect();
        if different.len() != count {
            return Err("namespaces names one twice".to_owned());
        }
        if self.service_name == Naming::Name && count != 1 {
            return Err(
                "service_name `name` needs exactly one namespace, or two services could have one name".to_owned(),
            );
        }
        Ok(())
    }
}

impl Settings for Config {
    fn validate(&self) -> Result<(), String> {
        self.check_access()?;
        self.check_namespaces()?;
        let texts = [
            ("context", &self.context),
            ("label_selector", &self.label_selector),
            ("main_port", &self.main_port),
        ];
        let empty = |text: &Option<String>| text.as_ref().is_some_and(|text| text.trim().is_empty());
        if let Some((field, _)) = texts.iter().find(|(_, text)| empty(text)) {
            return Err(format!("{field} is empty"));
        }
        if self.settle > LONGEST_SETTLE {
            return Err(format!("settle is longer than {LONGEST_SETTLE:?}"));
        }
        if !(1..=MAX_PAGE_SIZE).contains(&self.page_size) {
            return Err(format!("page_size {} is outside 1 to {MAX_PAGE_SIZE}", self.page_size));
        }
        if !(SHORTEST_WATCH..=LONGEST_WATCH).contains(&self.watch_timeout) {
            return Err(format!(
                "watch_timeout is outside {SHORTEST_WATCH:?} to {LONGEST_WATCH:?}"
            ));
        }
        if self.reconcile < SHORTEST_RECONCILE {
            return Err(format!("reconcile is shorter than {SHORTEST_RECONCILE:?}"));
        }
        Ok(())
    }

    fn files(&mut self) -> Vec<(&'static [&'static str], &mut PathBuf)> {
        let kubeconfig = self
            .kubeconfig
            .iter_mut()
            .map(|file| (&["kubeconfig"] as &'static [_], file));
        let token = self
            .token_file
            .iter_mut()
            .map(|file| (&["token_file"] as &'static [_], file));
        kubeconfig.chain(token).chain(tls_files(&mut self.tls)).collect()
    }
}

/// The URL of an API server, or what is wrong with it. Credentials in it are not repeated.
pub(super) fn check_server(text: &str) -> Result<reqwest::Url, String> {
    let parsed = reqwest::Url::parse(text).ok();
    let url = parsed
        .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
        .ok_or("is not an http:// or https:// URL")?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("holds credentials; they belong into a file of their own".to_owned());
    }
    Ok(url)
}

fn is_label(text: &str) -> bool {
    let usual = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=MAX_LABEL_BYTES).contains(&text.len()) && text.bytes().all(usual)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(yaml: &str) -> Result<Config, String> {
        serde_saphyr::from_str(yaml).map_err(|error| error.to_string())
    }

    fn says(yaml: &str) -> String {
        parse(yaml).unwrap().validate().err().unwrap_or_default()
    }

    #[test]
    fn everything_has_a_default_and_unknown_keys_are_errors() {
        assert_eq!(parse("{}\n").unwrap(), Config::default());
        assert_eq!(Config::default().validate(), Ok(()));
        let full = "kubeconfig: a\ncontext: b\nnamespaces: [c]\nservice_name: name\nmain_port: http\n\
            address_family: prefer-ipv6\nnot_ready: omit\nsettle: 0s\npage_size: 1\nwatch_timeout: 4s\nreconcile: 1s\n";
        assert_eq!(says(full), "");
        assert_eq!(parse(full).unwrap().address_family, Family::PreferIpv6);
        for odd in [
            "zzz: 1\n",
            "settle: soon\n",
            "address_family: ipv5\n",
            "tls: { zzz: 1 }\n",
        ] {
            assert!(parse(odd).is_err(), "{odd}");
        }
    }

    #[test]
    fn what_can_not_work_is_named_by_its_field() {
        let cases = [
            ("context: a\n", "context needs a kubeconfig"),
            (
                "kubeconfig: a\nserver: https://a\n",
                "server and kubeconfig exclude each other",
            ),
            (
                "kubeconfig: a\ntoken_file: t\n",
                "token_file and kubeconfig exclude each other",
            ),
            ("kubeconfig: a\ntls: {}\n", "tls and kubeconfig exclude each other"),
            ("server: ftp://a\n", "server is not an http:// or https:// URL"),
            (
                "server: https://u:p@a\n",
                "server holds credentials; they belong into a file of their own",
            ),
            (
                "server: http://a\ntoken_file: t\n",
                "server is not https://, and neither tokens nor certificates travel in the clear",
            ),
            ("server: http://127.0.0.1:8001\n", ""),
            (
                "server: https://a\ntls: { cert: c }\n",
                "tls.cert and tls.key need each other",
            ),
            ("namespaces: [a, a]\n", "namespaces names one twice"),
            (
                "namespaces: [a/../b]\n",
                r#"namespaces holds "a/../b", which is not the name of a namespace"#,
            ),
            (
                "service_name: name\n",
                "service_name `name` needs exactly one namespace, or two services could have one name",
            ),
            ("label_selector: ' '\n", "label_selector is empty"),
            ("settle: 6s\n", "settle is longer than 5s"),
            ("page_size: 0\n", "page_size 0 is outside 1 to 5000"),
            ("watch_timeout: 3s\n", "watch_timeout is outside 4s to 600s"),
            ("reconcile: 0s\n", "reconcile is shorter than 100ms"),
        ];
        for (yaml, expected) in cases {
            assert_eq!(says(yaml), expected, "{yaml}");
        }
    }
}

//! What the configurations of the adapters have in common: words, and the rules that hold between them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

/// What can be asked of the configuration of every source.
pub trait Settings {
    /// The rules that hold between the fields, and that no type can express.
    ///
    /// # Errors
    /// One sentence that begins with the field.
    fn validate(&self) -> Result<(), String>;

    /// The files that a session reads, by the path of their key: `["tls", "ca"]`.
    fn files(&mut self) -> Vec<(&'static [&'static str], &mut PathBuf)>;

    /// Lets relative paths begin at `base`.
    fn resolve(&mut self, base: &Path) {
        for (_, file) in self.files() {
            *file = base.join(&*file);
        }
    }
}

/// PEM files, read anew by each session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// The authorities that may have signed the servers' certificates. Default: the system's.
    #[serde(default)]
    pub ca: Option<PathBuf>,
    /// Our certificate, where the servers ask for one. Needs `key`.
    #[serde(default)]
    pub cert: Option<PathBuf>,
    /// The private key of `cert`.
    #[serde(default)]
    pub key: Option<PathBuf>,
}

impl Tls {
    /// Our certificate and its key.
    pub(crate) fn identity(&self) -> Option<(&Path, &Path)> {
        self.cert.as_deref().zip(self.key.as_deref())
    }
}

/// The entries of [`Settings::files`] of a `tls` section.
pub(crate) fn tls_files(tls: &mut Option<Tls>) -> impl Iterator<Item = (&'static [&'static str], &mut PathBuf)> {
    let files = tls.iter_mut().flat_map(|Tls { ca, cert, key }| {
        let keyed: [(&'static [&'static str], _); 3] =
            [(&["tls", "ca"], ca), (&["tls", "cert"], cert), (&["tls", "key"], key)];
        keyed
    });
    files.filter_map(|(key, file)| file.as_mut().map(|file| (key, file)))
}

/// The rules of a `tls` section and the endpoints it is for.
pub(crate) fn check_tls(tls: Option<&Tls>, endpoints: &[String]) -> Result<(), String> {
    let Some(tls) = tls else { return Ok(()) };
    if tls.cert.is_some() != tls.key.is_some() {
        return Err("tls.cert and tls.key need each other".to_owned());
    }
    match endpoints.iter().find(|url| !url.starts_with("https://")) {
        Some(url) => Err(format!("tls is set, but the endpoint {url:?} is not https://")),
        None => Ok(()),
    }
}

/// The rule of `username` and `password_file`.
pub(crate) fn check_login(username: Option<&str>, password_file: Option<&Path>) -> Result<(), String> {
    match (username, password_file) {
        (Some(""), _) => Err("username is empty".to_owned()),
        (Some(_), None) => Err("username needs a password_file".to_owned()),
        (None, Some(_)) => Err("password_file needs a username".to_owned()),
        (Some(_), Some(_)) | (None, None) => Ok(()),
    }
}

/// The rule of a list of HTTP servers.
pub(crate) fn check_endpoints(endpoints: &[String]) -> Result<(), String> {
    if endpoints.is_empty() {
        return Err("endpoints is empty".to_owned());
    }
    for url in endpoints {
        let parsed = reqwest::Url::parse(url).ok();
        let Some(parsed) = parsed.filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host()) else {
            return Err(format!("endpoints: {url:?} is not an http:// or https:// URL"));
        };
        if parsed.query().is_some() {
            return Err(format!("endpoints: {url:?} has a query, which has no meaning here"));
        }
        if !parsed.username().is_empty() || parsed.password().is_some() {
            // The URL is not repeated: it holds a password.
            return Err("endpoints: a URL holds credentials; they belong into a file of their own".to_owned());
        }
        if parsed.query().is_some() || parsed.fragment().is_some() {
            return Err(format!(
                "endpoints: {url:?} has a query or a fragment, which mean nothing here"
            ));
        }
    }
    Ok(())
}

/// The rule of a time within which an answer has to come.
pub(crate) fn check_timeout(timeout: Duration) -> Result<(), String> {
    /// Below this a busy server is taken for a dead one; above, a dead one is not noticed.
    const USABLE: std::ops::RangeInclusive<Duration> = Duration::from_millis(500)..=Duration::from_secs(5 * 60);
    if USABLE.contains(&timeout) {
        return Ok(());
    }
    Err(format!("timeout {timeout:?} is outside 500ms to 5m"))
}

/// How long an answer may take, unless the configuration says otherwise.
pub(crate) fn default_timeout() -> Duration {
    Duration::from_secs(10)
}

/// A duration such as `5m` or `30s`.
pub(crate) fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    humantime::parse_duration(&text)
        .map_err(|error| D::Error::custom(format!("{text:?} is not a duration such as 5m or 30s: {error}")))
}

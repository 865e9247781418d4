//! One agent of a Consul over HTTP.
//!
//! An answer is the headers that say how far it can be believed, and its body; nothing is retried here.

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::{StatusCode, Url};

use super::config::Config;
use crate::Error;
use crate::http;
use crate::text::shorten;

/// One answer: a service of a hundred thousand instances with their checks.
const MAX_BODY_BYTES: usize = 256 * 1024 * 1024;
/// Of an error page.
const MAX_REASON_BYTES: usize = 200;

/// Who answers, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// The leader, at once.
    Leader,
    /// The leader, after a majority confirmed that it is one.
    Consistent,
    /// Any server, at once: says how old its data is.
    Stale,
    /// Any server, when its index is above this one or the wait is over.
    Blocking { index: u64, wait: Duration },
}

/// How far an answer can be believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Meta {
    /// Whether somebody other than the leader answered, where Consul says so.
    pub(super) stale: bool,
    /// At least one: a zero would make the next question return at once, for ever.
    pub(super) index: u64,
    pub(super) known_leader: bool,
    pub(super) last_contact: Duration,
    /// Why what the answer does not list may exist all the same.
    pub(super) hidden: Option<&'static str>,
}

#[derive(Debug)]
pub(super) struct Answer {
    pub(super) meta: Meta,
    pub(super) body: Vec<u8>,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum NoAnswer {
    /// Consul does not take such a question. Of a service it is the name that no URL can hold.
    Refused(String),
    Failed(Error),
}

impl From<Error> for NoAnswer {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<NoAnswer> for Error {
    fn from(none: NoAnswer) -> Self {
        match none {
            NoAnswer::Refused(text) => Self::Misconfigured(text),
            NoAnswer::Failed(error) => error,
        }
    }
}

/// Clones share their connections.
#[derive(Clone, Debug)]
pub(super) struct Link {
    http: reqwest::Client,
    base: Url,
    timeout: Duration,
    token: Option<HeaderValue>,
    datacenter: Option<Arc<str>>,
}

impl Link {
    /// Reads the files; the first request connects.
    pub(super) async fn open(config: &Config, url: &str) -> Result<Self, Error> {
        let base = Url::parse(url).map_err(|error| Error::Misconfigured(format!("{url}: {error}")))?;
        let http = http::client(&base, config.tls.as_ref()).await?;
        Ok(Self {
            http,
            base,
            timeout: config.timeout,
            token: token(config).await?,
            datacenter: config.datacenter.as_deref().map(Arc::from),
        })
    }

    /// The services of the catalog.
    pub(super) async fn catalog(self, read: Read) -> Result<Answer, Error> {
        Ok(self.get(&["v1", "catalog", "services"], read).await?)
    }

    /// Every instance of a service with its checks.
    pub(super) async fn service(self, name: Arc<str>, read: Read) -> Result<Answer, NoAnswer> {
        self.get(&["v1", "health", "service", &name], read).await
    }

    /// The servers, who register themselves as a service.
    pub(super) async fn servers(self) -> Result<Answer, Error> {
        Ok(self.service("consul".into(), Read::Consistent).await?)
    }

    async fn get(&self, path: &[&str], read: Read) -> Result<Answer, NoAnswer> {
        let timeout = match read {
            Read::Leader | Read::Consistent | Read::Stale => self.timeout,
            // Consul adds up to a sixteenth at random.
            Read::Blocking { wait, .. } => wait + wait / 16 + self.timeout,
        };
        let mut request = self.http.get(self.url(path, read)).timeout(timeout);
        if let Some(token) = &self.token {
            request = request.header("X-Consul-Token", token.clone());
        }
        let response = request.send().await.map_err(http::unavailable)?;
        let (status, headers) = (response.status(), response.headers().clone());
        let body = http::body(response, MAX_BODY_BYTES).await?;
        match status {
            StatusCode::OK => Ok(Answer {
                meta: meta(&headers, self.token.is_some())?,
                body,
            }),
            status => Err(refusal(status, &body)),
        }
    }

    fn url(&self, path: &[&str], read: Read) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        let mut query = url.query_pairs_mut();
        if let Some(datacenter) = &self.datacenter {
            query.append_pair("dc", datacenter);
        }
        match read {
            // An agent may be set up to ask anybody when nobody in particular is asked for.
            Read::Leader => drop(query.append_key_only("leader")),
            Read::Consistent => drop(query.append_key_only("consistent")),
            Read::Stale => drop(query.append_key_only("stale")),
            Read::Blocking { index, wait } => {
                query.append_key_only("stale");
                query.append_pair("index", &index.to_string());
                query.append_pair("wait", &format!("{}ms", wait.as_millis()));
            }
        }
        drop(query);
        url
    }
}

/// Reads the headers that Consul puts on every answer.
fn meta(headers: &HeaderMap, with_token: bool) -> Result<Meta, Error> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let index: Option<u64> = text("X-Consul-Index").and_then(|text| text.parse().ok());
    let index = index.ok_or_else(|| Error::Unavailable("an answer without an index: is this a Consul?".to_owned()))?;
    // Without a token Consul does not say that it left something out.
    let silent = !with_token && text("X-Consul-Default-ACL-Policy") == Some("deny");
    let hidden = if text("X-Consul-Results-Filtered-By-ACLs") == Some("true") {
        Some("the token may not read everything: it needs service_prefix and node_prefix read")
    } else {
        silent.then_some("Consul denies by default and hides from anonymous readers what it leaves out: set token_file")
    };
    let contact = text("X-Consul-LastContact").and_then(|text| text.parse().ok());
    Ok(Meta {
        stale: text("X-Consul-Effective-Consistency") == Some("stale"),
        index: index.max(1),
        known_leader: text("X-Consul-KnownLeader") != Some("false"),
        last_contact: Duration::from_millis(contact.unwrap_or_default()),
        hidden,
    })
}

fn refusal(status: StatusCode, body: &[u8]) -> NoAnswer {
    let reason = String::from_utf8_lossy(body);
    let text = format!("{status}: {}", shorten(reason.trim(), MAX_REASON_BYTES));
    NoAnswer::Failed(match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Error::Denied(text),
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => Error::Misconfigured(text),
        StatusCode::TOO_MANY_REQUESTS => Error::Unavailable(format!("{text} (lower max_watches)")),
        StatusCode::BAD_REQUEST => return NoAnswer::Refused(text),
        _ if status.is_redirection() => return NoAnswer::Refused(format!("{text} (redirects are not followed)")),
        _ => Error::Unavailable(text),
    })
}

async fn token(config: &Config) -> Result<Option<HeaderValue>, Error> {
    let Some(file) = &config.token_file else {
        return Ok(None);
    };
    let bytes = http::read(file).await?;
    let unusable = || Error::Misconfigured(format!("{} does not hold a token", file.display()));
    let text = std::str::from_utf8(&bytes).map_err(|_| unusable())?.trim();
    let mut value = HeaderValue::from_str(text).map_err(|_| unusable())?;
    if text.is_empty() {
        return Err(unusable());
    }
    value.set_sensitive(true);
    Ok(Some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &str)| {
            (
                reqwest::header::HeaderName::from_bytes(name.as_bytes()).unwrap(),
                HeaderValue::from_str(value).unwrap(),
            )
        };
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn an_index_is_needed_and_never_zero() {
        let index = |text| meta(&headers(&[("X-Consul-Index", text)]), true).map(|meta| meta.index);
        assert_eq!(index("17").unwrap(), 17);
        assert_eq!(index("0").unwrap(), 1);
        assert_eq!(index("18446744073709551615").unwrap(), u64::MAX);
        assert!(index("-1").is_err() && index("x").is_err());
        assert!(meta(&headers(&[]), true).is_err());
    }

    #[test]
    fn an_answer_says_whether_absence_means_anything() {
        let hidden = |pairs: &[(&'static str, &str)], with_token| {
            let all: Vec<_> = pairs.iter().copied().chain([("x-consul-index", "1")]).collect();
            meta(&headers(&all), with_token).unwrap().hidden.is_some()
        };
        assert!(!hidden(&[("X-Consul-Default-Acl-Policy", "allow")], false));
        assert!(hidden(&[("X-Consul-Default-Acl-Policy", "deny")], false));
        assert!(!hidden(&[("X-Consul-Default-Acl-Policy", "deny")], true));
        assert!(hidden(&[("X-Consul-Results-Filtered-By-Acls", "true")], true));
        let stale = headers(&[("x-consul-index", "1"), ("X-Consul-Effective-Consistency", "stale")]);
        assert!(meta(&stale, true).unwrap().stale);
        let old = headers(&[
            ("x-consul-index", "9"),
            ("x-consul-knownleader", "false"),
            ("x-consul-lastcontact", "9700"),
        ]);
        let old = meta(&old, true).unwrap();
        assert_eq!(
            (old.known_leader, old.last_contact),
            (false, Duration::from_millis(9700))
        );
    }

    #[test]
    fn a_status_decides_how_the_session_ends() {
        let of = |status: u16| Error::from(refusal(StatusCode::from_u16(status).unwrap(), b"  because\n"));
        assert!(matches!(of(403), Error::Denied(text) if text == "403 Forbidden: because"));
        assert!(matches!(of(400), Error::Misconfigured(_)));
        assert!(matches!(of(301), Error::Misconfigured(_)));
        assert!(matches!(of(429), Error::Unavailable(_)));
        assert!(matches!(of(500), Error::Unavailable(_)));
        let long = Error::from(refusal(StatusCode::OK, &[0xff; 9999]));
        assert!(matches!(long, Error::Unavailable(text) if text.len() < 300));
    }

    #[tokio::test]
    async fn a_name_from_the_registry_can_not_leave_its_place_in_the_url() {
        let config = Config {
            datacenter: Some("dc&1".to_owned()),
            ..Config::new(vec!["http://127.0.0.1:1/base/".to_owned()])
        };
        let link = Link::open(&config, "http://127.0.0.1:1/base/").await.unwrap();
        let url = |name, read| link.url(&["v1", "health", "service", name], read).to_string();
        assert_eq!(
            url("a/../b?c", Read::Leader),
            "http://127.0.0.1:1/base/v1/health/service/a%2F..%2Fb%3Fc?dc=dc%261&leader"
        );
        let wait = Duration::from_secs(60);
        assert_eq!(
            url("a", Read::Blocking { index: 7, wait }),
            "http://127.0.0.1:1/base/v1/health/service/a?dc=dc%261&stale&index=7&wait=60000ms"
        );
    }
}

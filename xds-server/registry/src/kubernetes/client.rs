//! One API server over HTTP, by the credentials of a kubeconfig, of a pod, or of files.
//!
//! Nothing is asked twice but where the server itself says that it is busy and when to come again.

use std::path::PathBuf;
use std::time::Duration;

use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderValue, RETRY_AFTER, USER_AGENT};
use reqwest::{Response, StatusCode, Url};
use tokio::time::{Instant, sleep, timeout_at};

use super::config::{Config, check_server};
use super::kubeconfig::{Material, Selected, TokenSource, select};
use super::lines::{Lines, TooLong};
use super::wire::{Fault, refusal};
use crate::Error;
use crate::http::{self, Certificates, Pem};

/// Where a pod finds its API server if the kubelet did not say: the name is in every API server's certificate.
const POD_SERVER: &str = "https://kubernetes.default.svc";
const POD_TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";
const POD_CA: &str = "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt";

/// One page. The server itself gives up after a minute.
const PAGE_TIMEOUT: Duration = Duration::from_secs(60);
/// The head of the answer to a watch.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// What a watch may last beyond its time: a third of it, within these.
const SHORTEST_GRACE: Duration = Duration::from_secs(3);
const LONGEST_GRACE: Duration = Duration::from_secs(10);
/// A watch that ends so much before its time was ended by something else.
const EARLY: Duration = Duration::from_secs(1);
/// One page of the largest slices that the API allows.
const MAX_PAGE_BYTES: usize = 256 * 1024 * 1024;
/// Of an error page.
const MAX_REFUSAL_BYTES: usize = 64 * 1024;

/// How often in a row a busy server is asked again.
const MAX_BUSY: u32 = 5;
/// The longest wait that a busy server may ask for, and what it gets when it does not say.
const LONGEST_BUSY: Duration = Duration::from_secs(60);
const USUAL_BUSY: Duration = Duration::from_secs(1);
/// While a busy server is waited for, the supervisor hears this often that the session is alive.
const STEP: Duration = Duration::from_secs(5);

/// Only slices of services, and none that another proxy was given.
const SELECTOR: &str = "kubernetes.io/service-name,!service.kubernetes.io/service-proxy-name";
/// Enough to tell objects apart, at a fraction of the size.
const METADATA_ONLY: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";

/// The whole cluster, or one of its namespaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Scope {
    pub(super) namespace: Option<String>,
}

/// What a page is asked with, besides the selector.
#[derive(Clone, Debug, Default)]
pub(super) struct Question {
    pub(super) next: Option<String>,
    /// The past at exactly this version, rather than the present.
    pub(super) at: Option<String>,
    /// This namespace and name only.
    pub(super) object: Option<(String, String)>,
    pub(super) metadata_only: bool,
    /// Instead of the configured number of objects.
    pub(super) limit: Option<u32>,
}

/// Clones share their connections.
#[derive(Clone, Debug)]
pub(super) struct Link {
    http: reqwest::Client,
    server: Url,
    token: Token,
    selector: String,
    page_size: u32,
    watch_timeout: Duration,
}

#[derive(Clone, Debug)]
enum Token {
    None,
    Inline(HeaderValue),
    /// Read with every request: a pod's token is replaced every hour.
    File(PathBuf),
}

/// The lines of a watch.
#[derive(Debug)]
pub(super) struct Stream {
    response: Response,
    lines: Lines,
    /// When the server said it would end it.
    due: Instant,
    grace: Duration,
}

/// How to reach a server, with every file read.
struct Access {
    server: String,
    certificates: Certificates,
    token: Token,
}

impl Link {
    /// Reads the files; the first request connects.
    pub(super) async fn open(config: &Config) -> Result<Self, Error> {
        let access = match (&config.kubeconfig, &config.server) {
            (Some(_), _) => Access::of_kubeconfig(config).await?,
            (None, Some(server)) => Access {
                server: server.clone(),
                certificates: Certificates::read(config.tls.as_ref()).await?,
                token: config.token_file.clone().map_or(Token::None, Token::File),
            },
            (None, None) => Access::of_pod(config).await?,
        };
        let server = check_server(&access.server).map_err(|reason| Error::Misconfigured(format!("server {reason}")))?;
        let secret = !matches!(access.token, Token::None) || access.certificates.identity.is_some();
        if server.scheme() != "https" && secret {
            return Err(Error::Misconfigured(
                "the server is not https://, and credentials do not travel in the clear".to_owned(),
            ));
        }
        let selector = match &config.label_selector {
            Some(own) => format!("{SELECTOR},{own}"),
            None => SELECTOR.to_owned(),
        };
        Ok(Self {
            http: http::client_with(&server, access.certificates).await?,
            server,
            token: access.token,
            selector,
            page_size: config.page_size,
            watch_timeout: config.watch_timeout,
        })
    }

    /// Who is asked.
    pub(super) fn server(&self) -> &Url {
        &self.server
    }

    /// The body of a page. While a busy server is waited for, `alive` is called.
    pub(super) async fn page(
        &self,
        scope: &Scope,
        question: &Question,
        alive: &(dyn Fn() + Sync),
    ) -> Result<Vec<u8>, Fault> {
        let mut busy = 0;
        loop {
            match self.page_once(scope, question).await {
                Err(Fault::Busy { after, .. }) if busy < MAX_BUSY => {
                    busy += 1;
                    let until = Instant::now() + pause(after);
                    while Instant::now() < until {
                        alive();
                        sleep(STEP.min(until - Instant::now())).await;
                    }
                }
                outcome => return outcome,
            }
        }
    }

    async fn page_once(&self, scope: &Scope, question: &Question) -> Result<Vec<u8>, Fault> {
        let mut url = self.url(scope);
        {
            let mut query = url.query_pairs_mut();
            query.append_pair("limit", &question.limit.unwrap_or(self.page_size).to_string());
            match (&question.next, &question.at) {
                (Some(next), _) => drop(query.append_pair("continue", next)),
                (None, Some(version)) => {
                    query.append_pair("resourceVersion", version);
                    query.append_pair("resourceVersionMatch", "Exact");
                }
                (None, None) => {}
            }
            if let Some((namespace, name)) = &question.object {
                query.append_pair(
                    "fieldSelector",
                    &format!("metadata.namespace={namespace},metadata.name={name}"),
                );
            }
        }
        let accept = if question.metadata_only {
            METADATA_ONLY
        } else {
            "application/json"
        };
        let request = self.request(url, accept).await?.timeout(PAGE_TIMEOUT);
        let response = accepted(request.send().await.map_err(http::unavailable)?).await?;
        Ok(http::body(response, MAX_PAGE_BYTES).await?)
    }

    /// What changes after a version.
    pub(super) async fn watch(&self, scope: &Scope, after: &str) -> Result<Stream, Fault> {
        let mut url = self.url(scope);
        let lasts = self.watch_timeout.as_secs();
        url.query_pairs_mut()
            .append_pair("watch", "true")
            .append_pair("allowWatchBookmarks", "true")
            .append_pair("resourceVersion", after)
            .append_pair("timeoutSeconds", &lasts.to_string());
        let request = self.request(url, "application/json").await?;
        let begun = Instant::now();
        let response = timeout_at(begun + HEAD_TIMEOUT, request.send()).await;
        let silent = |_| Error::Unavailable(format!("the watch was not answered in {HEAD_TIMEOUT:?}"));
        let response = accepted(response.map_err(silent)?.map_err(http::unavailable)?).await?;
        Ok(Stream {
            response,
            lines: Lines::default(),
            due: begun + Duration::from_secs(lasts),
            grace: (self.watch_timeout / 3).clamp(SHORTEST_GRACE, LONGEST_GRACE),
        })
    }

    fn url(&self, scope: &Scope) -> Url {
        let mut url = self.server.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(["apis", "discovery.k8s.io", "v1"]);
            if let Some(namespace) = &scope.namespace {
                segments.extend(["namespaces", namespace]);
            }
            segments.push("endpointslices");
        }
        url.query_pairs_mut().append_pair("labelSelector", &self.selector);
        url
    }

    async fn request(&self, url: Url, accept: &'static str) -> Result<reqwest::RequestBuilder, Error> {
        let request = self.http.get(url).header(ACCEPT, accept);
        let request = request.header(USER_AGENT, concat!("leadsman/", env!("CARGO_PKG_VERSION")));
        Ok(match &self.token {
            Token::None => request,
            Token::Inline(value) => request.header(AUTHORIZATION, value.clone()),
            Token::File(file) => {
                let bytes = http::read(file).await?;
                let place = file.display().to_string();
                request.header(AUTHORIZATION, bearer(&place, &bytes)?)
            }
        })
    }
}

impl Stream {
    /// The next line; `None` when the server has ended the watch in its time.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<u8>>, Error> {
        loop {
            let long = |TooLong(most)| Error::Unavailable(format!("a line of the watch is longer than {most} bytes"));
            if let Some(line) = self.lines.next().map_err(long)? {
                return Ok(Some(line.to_vec()));
            }
            // What has arrived counts even when a slow controller made it wait.
            let chunk = timeout_at(self.due + self.grace, self.response.chunk()).await;
            let silent = |_| Error::Unavailable(format!("the watch is silent {:?} after its time", self.grace));
            match chunk.map_err(silent)?.map_err(http::unavailable)? {
                Some(chunk) => self.lines.push(&chunk),
                None if Instant::now() + EARLY < self.due => {
                    return Err(Error::Resync("the server ended the watch before its time".to_owned()));
                }
                None => return Ok(None),
            }
        }
    }
}

impl Access {
    async fn of_kubeconfig(config: &Config) -> Result<Self, Error> {
        let file = config.kubeconfig.clone().unwrap_or_default();
        let unusable = |reason: &str| Error::Misconfigured(format!("{} {reason}", file.display()));
        let text = String::from_utf8(http::read(&file).await?).map_err(|_| unusable("is not UTF-8"))?;
        let directory = file.parent().unwrap_or(&file);
        let selected = select(&text, config.context.as_deref(), directory).map_err(|reason| unusable(&reason))?;
        let Selected {
            server,
            ca,
            identity,
            token,
        } = selected;
        let place = |key: &str| format!("{key} in {}", file.display());
        let ca = match ca {
            Some(ca) => Some(pem(ca, place("certificate-authority-data")).await?),
            None => None,
        };
        let identity = match identity {
            Some((cert, key)) => Some((
                pem(cert, place("client-certificate-data")).await?,
                pem(key, place("client-key-data")).await?,
            )),
            None => None,
        };
        let token = match token {
            TokenSource::None => Token::None,
            TokenSource::Inline(token) => Token::Inline(bearer(&place("token"), token.as_bytes())?),
            TokenSource::File(file) => Token::File(file),
        };
        Ok(Self {
            server,
            certificates: Certificates { ca, identity },
            token,
        })
    }

    async fn of_pod(config: &Config) -> Result<Self, Error> {
        let mut files = config.tls.clone().unwrap_or_default();
        files.ca.get_or_insert_with(|| POD_CA.into());
        let certificates = Certificates::read(Some(&files)).await;
        Ok(Self {
            server: pod_server(&said("KUBERNETES_SERVICE_HOST"), &said("KUBERNETES_SERVICE_PORT")),
            certificates: certificates.map_err(outside)?,
            token: Token::File(config.token_file.clone().unwrap_or_else(|| POD_TOKEN.into())),
        })
    }
}

/// What the kubelet says in the environment of every pod.
#[expect(
    clippy::disallowed_methods,
    reason = "it is no setting of ours: a pod is told there where it is"
)]
fn said(name: &str) -> String {
    std::env::var(name).unwrap_or_default()
}

/// Where the kubelet says that the server is, which needs no DNS: pods in the network of their node have none.
fn pod_server(host: &str, port: &str) -> String {
    match (host, port) {
        ("", _) | (_, "") => POD_SERVER.to_owned(),
        _ if host.contains(':') => format!("https://[{host}]:{port}"),
        _ => format!("https://{host}:{port}"),
    }
}

/// Without the files of a pod, nobody said where the server is.
fn outside(error: Error) -> Error {
    Error::Misconfigured(format!("{error} (outside of a pod, name a kubeconfig or a server)"))
}

async fn pem(material: Material, place: String) -> Result<Pem, Error> {
    match material {
        Material::Data(bytes) => Ok(Pem { place, bytes }),
        Material::File(file) => Pem::read(&file).await,
    }
}

fn bearer(place: &str, token: &[u8]) -> Result<HeaderValue, Error> {
    let unusable = || Error::Misconfigured(format!("{place} does not hold a token"));
    let text = std::str::from_utf8(token).map_err(|_| unusable())?.trim();
    if text.is_empty() {
        return Err(unusable());
    }
    let mut value = HeaderValue::from_str(&format!("Bearer {text}")).map_err(|_| unusable())?;
    value.set_sensitive(true);
    Ok(value)
}

async fn accepted(response: Response) -> Result<Response, Fault> {
    let status = response.status();
    if status == StatusCode::OK {
        return Ok(response);
    }
    let after = retry_after(response.headers());
    let body = http::body(response, MAX_REFUSAL_BYTES).await?;
    Err(refusal(status.as_u16(), &body, after))
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// How long a busy server is left alone.
pub(super) fn pause(after: Option<Duration>) -> Duration {
    after.unwrap_or(USUAL_BUSY).clamp(USUAL_BUSY, LONGEST_BUSY)
}

/// How often in a row a busy server is asked again for a watch.
pub(super) fn is_too_busy(times: u32) -> bool {
    times >= MAX_BUSY
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_finds_its_server_where_the_kubelet_says() {
        assert_eq!(pod_server("10.96.0.1", "443"), "https://10.96.0.1:443");
        assert_eq!(pod_server("fd00::1", "6443"), "https://[fd00::1]:6443");
        assert_eq!(pod_server("", "443"), "https://kubernetes.default.svc");
        assert_eq!(pod_server("10.96.0.1", ""), "https://kubernetes.default.svc");
    }
}

//! The HTTP API of one member: logins, what only HTTP tells, and everything for those who don't speak gRPC.
//!
//! Paths differ between the versions: Nacos 3 has its own and answers 410 under the old ones, older ones answer 404 under
//! the new ones.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use reqwest::header::CONTENT_TYPE;
use reqwest::{Method, StatusCode, Url};
use serde::Deserialize;
use serde_json::Value;

use super::config::Config;
use super::continuity::Run;
use super::fault::Fault;
use super::wire::{Login, NamesPage, ServiceInfo, parse};
use crate::layout::entry::{list, map, text};
use crate::text::shorten;
use crate::{Error, http};

/// One answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// An answer that is nice to have.
const ASIDE_TIMEOUT: Duration = Duration::from_secs(2);
/// A service of two hundred thousand instances.
const MAX_BODY_BYTES: usize = 64 * 1024 * 1024;
/// Of an error page.
const MAX_REASON_BYTES: usize = 200;
/// Services that are looked at for the groups that exist.
const LOOKED_AT: &str = "200";

#[derive(Debug)]
pub(super) struct Rest {
    http: reqwest::Client,
    base: Url,
}

struct Call<'a> {
    method: Method,
    path: &'a str,
    query: &'a [(&'a str, &'a str)],
    form: &'a [(&'a str, &'a str)],
    token: Option<&'a str>,
    timeout: Duration,
}

impl Rest {
    /// Reads the files; the first request connects.
    pub(super) async fn open(config: &Config, endpoint: &str) -> Result<Self, Error> {
        let mut base = Url::parse(endpoint).map_err(|error| Error::Misconfigured(format!("{endpoint}: {error}")))?;
        if base.path() == "/" {
            base.set_path("/nacos");
        }
        let http = http::client(&base, config.tls.as_ref()).await?;
        Ok(Self { http, base })
    }

    pub(super) async fn log_in(&self, username: &str, password_file: &Path) -> Result<Login, Fault> {
        let password = String::from_utf8(http::read(password_file).await?)
            .map_err(|_| Error::Misconfigured(format!("{} is not UTF-8", password_file.display())))?;
        let form = [
            ("username", username),
            ("password", password.trim_end_matches(['\r', '\n'])),
        ];
        let (status, body) = self
            .either("v3/auth/user/login", "v1/auth/login", |path| Call {
                method: Method::POST,
                form: &form,
                ..Call::get(path, &[], None)
            })
            .await?;
        match status {
            StatusCode::OK => parse("the answer to the login", &body).map_err(Fault::Refused),
            StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => {
                Err(Fault::unavailable(reason(status, &body)))
            }
            // A wrong password is 500 in some versions, 403 in others, and 400 in front of a few.
            _ => Err(Fault::Denied(format!("login: {}", reason(status, &body)))),
        }
    }

    /// One page of the names of a group.
    pub(super) async fn names(
        &self,
        about: (&str, &str),
        page: (usize, usize),
        token: Option<&str>,
    ) -> Result<NamesPage, Fault> {
        let (number, size) = (page.0.to_string(), page.1.to_string());
        let query = [
            ("namespaceId", about.0),
            ("groupName", about.1),
            ("pageNo", number.as_str()),
            ("pageSize", size.as_str()),
        ];
        let (status, body) = self.call(Call::get("v1/ns/service/list", &query, token)).await?;
        match status {
            StatusCode::OK => parse("the list of services", &body).map_err(Fault::unavailable),
            _ => Err(refusal(status, &body)),
        }
    }

    /// A service with its instances.
    pub(super) async fn instances(
        &self,
        namespace: &str,
        service: &str,
        healthy_only: bool,
        token: Option<&str>,
    ) -> Result<ServiceInfo, Fault> {
        let healthy = if healthy_only { "true" } else { "false" };
        let query = [
            ("namespaceId", namespace),
            ("serviceName", service),
            ("healthyOnly", healthy),
        ];
        let (status, body) = self.call(Call::get("v1/ns/instance/list", &query, token)).await?;
        match status {
            StatusCode::OK => parse("the instances", &body).map_err(Fault::Refused),
            StatusCode::BAD_REQUEST | StatusCode::INTERNAL_SERVER_ERROR => Err(Fault::Refused(reason(status, &body))),
            _ => Err(refusal(status, &body)),
        }
    }

    /// Whether the server is there: asked so often that a restart can't go unnoticed.
    pub(super) async fn check(&self) -> Result<(), Fault> {
        let (status, body) = self.call(Call::get("v1/ns/operator/metrics", &[], None)).await?;
        match status {
            StatusCode::OK => Ok(()),
            _ => Err(refusal(status, &body)),
        }
    }

    /// What tells one run of the server from the next: who it says it is, and since when.
    pub(super) async fn epoch(&self, token: Option<&str>) -> Result<Run, String> {
        let ask = self.either("v3/admin/core/cluster/node/self", "v1/core/cluster/self", |path| Call {
            timeout: ASIDE_TIMEOUT,
            ..Call::get(path, &[], token)
        });
        let (status, body) = ask.await.map_err(|error| error.to_string())?;
        if status != StatusCode::OK {
            return Err(reason(status, &body));
        }
        #[derive(Deserialize)]
        struct Itself {
            data: serde_json::Map<String, Value>,
        }
        let Itself { data } = parse("what the server says of itself", &body)?;
        let since = map(&data, "extendInfo").and_then(|info| info.get("lastRefreshTime")?.as_u64());
        let since = since.ok_or("the server does not say since when it runs")?;
        Ok(Run {
            address: text(&data, "address").to_owned(),
            since,
        })
    }

    /// Why nothing is listed: perhaps nothing is there, perhaps somebody looks in the wrong place.
    pub(super) async fn explain_emptiness(&self, config: &Config, token: Option<&str>) -> Option<String> {
        let namespace = config.namespace();
        let namespaces = self
            .either("v3/admin/core/namespace/list", "v1/console/namespaces", |path| Call {
                timeout: ASIDE_TIMEOUT,
                ..Call::get(path, &[], token)
            })
            .await;
        let namespaces = namespaces.ok().filter(|(status, _)| *status == StatusCode::OK);
        if let Some(reason) = namespaces.and_then(|(_, body)| misplaced(namespace, &body)) {
            return Some(reason);
        }
        let query = [("namespaceId", namespace), ("pageNo", "1"), ("pageSize", LOOKED_AT)];
        let services = self
            .either("v3/admin/ns/service/list", "v1/ns/catalog/services", |path| Call {
                timeout: ASIDE_TIMEOUT,
                ..Call::get(path, &query, token)
            })
            .await;
        let (_, body) = services.ok().filter(|(status, _)| *status == StatusCode::OK)?;
        elsewhere(config, &body)
    }

    /// Asks under the path of Nacos 3, and under that of the older ones where it is unknown.
    async fn either<'a>(
        &self,
        new: &'static str,
        old: &'static str,
        call: impl Fn(&'static str) -> Call<'a>,
    ) -> Result<(StatusCode, Vec<u8>), Error> {
        let (status, body) = self.call(call(new)).await?;
        match status {
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED => {
                self.call(call(old)).await
            }
            _ => Ok((status, body)),
        }
    }

    async fn call(&self, call: Call<'_>) -> Result<(StatusCode, Vec<u8>), Error> {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(call.path.split('/'));
        }
        if !call.query.is_empty() {
            url.query_pairs_mut().extend_pairs(call.query);
        }
        let mut request = self.http.request(call.method, url).timeout(call.timeout);
        if let Some(token) = call.token {
            // The one way that every version knows: those before 2.2 read no `accessToken` from a header.
            request = request.bearer_auth(token);
        }
        if !call.form.is_empty() {
            let form = form_urlencoded::Serializer::new(String::new())
                .extend_pairs(call.form)
                .finish();
            request = request
                .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
                .body(form);
        }
        let response = request.send().await.map_err(http::unavailable)?;
        let status = response.status();
        Ok((status, http::body(response, MAX_BODY_BYTES).await?))
    }
}

impl<'a> Call<'a> {
    fn get(path: &'a str, query: &'a [(&'a str, &'a str)], token: Option<&'a str>) -> Self {
        Self {
            method: Method::GET,
            path,
            query,
            form: &[],
            token,
            timeout: REQUEST_TIMEOUT,
        }
    }
}

fn refusal(status: StatusCode, body: &[u8]) -> Fault {
    let text = reason(status, body);
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Fault::Denied(text),
        StatusCode::GONE => Error::Misconfigured(format!("{text} (Nacos 3 is asked by `protocol: grpc`)")).into(),
        StatusCode::NOT_FOUND => {
            Error::Misconfigured(format!("{text} (an endpoint may need its path, such as /nacos)")).into()
        }
        _ if status.is_redirection() => Error::Misconfigured(format!("{text} (redirects are not followed)")).into(),
        _ => Fault::unavailable(text),
    }
}

fn reason(status: StatusCode, body: &[u8]) -> String {
    let whole = String::from_utf8_lossy(body);
    let inner = serde_json::from_str::<serde_json::Map<String, Value>>(&whole);
    let message = inner.as_ref().map_or("", |inner| text(inner, "message"));
    let shown = if message.is_empty() { whole.trim() } else { message };
    format!("{status}: {}", shorten(shown, MAX_REASON_BYTES))
}

/// What is wrong with a namespace that the server does not know.
fn misplaced(namespace: &str, body: &[u8]) -> Option<String> {
    let answer: serde_json::Map<String, Value> = serde_json::from_slice(body).ok()?;
    let known = list(&answer, "data")?.iter().filter_map(Value::as_object);
    // The public one has an empty id in some versions.
    let known: Vec<(&str, &str)> = known
        .map(|known| (text(known, "namespace"), text(known, "namespaceShowName")))
        .map(|(id, name)| if id.is_empty() { ("public", name) } else { (id, name) })
        .collect();
    if known.is_empty() || known.iter().any(|(id, _)| *id == namespace) {
        return None;
    }
    let named = known.iter().find(|(_, name)| *name == namespace);
    Some(match named {
        Some((id, _)) => format!("namespace {namespace:?} is a name; its id, which is needed here, is {id:?}"),
        None => {
            let ids: Vec<&str> = known.iter().map(|(id, _)| *id).collect();
            let ids = shorten(&ids.join(", "), MAX_REASON_BYTES);
            format!("there is no namespace {namespace:?}; there are {ids}")
        }
    })
}

/// In which other groups there are services.
fn elsewhere(config: &Config, body: &[u8]) -> Option<String> {
    let answer: serde_json::Map<String, Value> = serde_json::from_slice(body).ok()?;
    let services = map(&answer, "data").map_or_else(|| list(&answer, "serviceList"), |data| list(data, "pageItems"))?;
    let groups: BTreeSet<&str> = services
        .iter()
        .filter_map(Value::as_object)
        .map(|service| text(service, "groupName"))
        .filter(|group| !group.is_empty())
        .collect();
    let wanted = config.groups();
    if groups.is_empty() || groups.iter().any(|group| wanted.contains(group)) {
        return None;
    }
    let there: Vec<&str> = groups.into_iter().collect();
    let there = shorten(&there.join(", "), MAX_REASON_BYTES);
    let wanted: Vec<&str> = wanted.into_iter().collect();
    let wanted = shorten(&wanted.join(", "), MAX_REASON_BYTES);
    Some(format!(
        "groups {wanted} have no service; there are services in {there}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_decides_how_it_goes_on() {
        let of = |status: u16| refusal(StatusCode::from_u16(status).unwrap(), b"  because\n");
        assert!(matches!(of(403), Fault::Denied(text) if text == "403 Forbidden: because"));
        assert!(matches!(of(410), Fault::Session(Error::Misconfigured(text)) if text.contains("grpc")));
        assert!(matches!(of(404), Fault::Session(Error::Misconfigured(text)) if text.contains("/nacos")));
        assert!(matches!(of(302), Fault::Session(Error::Misconfigured(_))));
        assert!(matches!(of(503), Fault::Session(Error::Unavailable(_))));
        // As Nacos 3.1.0 says it.
        let body = br#"{"timestamp":"2026-11-20T18:27:52.972+00:00","status":403,"error":"Forbidden","message":"Code: 403, Message: authorization failed!.","path":"/x"}"#;
        assert_eq!(
            reason(StatusCode::FORBIDDEN, body),
            "403 Forbidden: Code: 403, Message: authorization failed!."
        );
        assert!(reason(StatusCode::OK, &[0xff; 9999]).len() < 300);
    }

    #[test]
    fn a_namespace_that_does_not_exist_is_told_from_one_that_is_called_by_its_name() {
        // Recorded from Nacos 3.1.0.
        let body = br#"{"code":0,"message":"success","data":[{"namespace":"public","namespaceShowName":"public","namespaceDesc":"Default Namespace","quota":200,"configCount":0,"type":0},{"namespace":"ns1","namespaceShowName":"Production","namespaceDesc":"d","quota":200,"configCount":0,"type":1}]}"#;
        assert_eq!(misplaced("ns1", body), None);
        assert_eq!(misplaced("public", body), None);
        assert_eq!(
            misplaced("Production", body).unwrap(),
            r#"namespace "Production" is a name; its id, which is needed here, is "ns1""#
        );
        assert_eq!(
            misplaced("prod", body).unwrap(),
            r#"there is no namespace "prod"; there are public, ns1"#
        );
        // Nacos 2 with its console writes the public one like this.
        let old = br#"{"code":200,"message":null,"data":[{"namespace":"","namespaceShowName":"public"}]}"#;
        assert_eq!(misplaced("public", old), None);
        for nothing in [
            &b""[..],
            b"{}",
            b"[]",
            br#"{"data":null}"#,
            br#"{"data":[]}"#,
            br#"{"data":[1]}"#,
        ] {
            assert_eq!(misplaced("x", nothing), None);
        }
    }

    #[test]
    fn groups_that_hold_the_services_are_named() {
        let config = Config::new(vec![]);
        // Recorded from Nacos 3.1.0 and 2.5.0.
        let new = br#"{"code":0,"message":"success","data":{"totalCount":2,"pageNumber":1,"pagesAvailable":1,"pageItems":[{"name":"web","groupName":"G1","clusterCount":1,"ipCount":1,"healthyInstanceCount":1,"triggerFlag":"false"}]}}"#;
        let old = br#"{"count":1,"serviceList":[{"name":"web","groupName":"G1","clusterCount":1,"ipCount":1,"healthyInstanceCount":1,"triggerFlag":"false"}]}"#;
        for body in [&new[..], &old[..]] {
            assert_eq!(
                elsewhere(&config, body).unwrap(),
                "groups DEFAULT_GROUP have no service; there are services in G1"
            );
        }
        let here = br#"{"count":1,"serviceList":[{"name":"web","groupName":"DEFAULT_GROUP"}]}"#;
        assert_eq!(elsewhere(&config, here), None);
        for nothing in [
            &b""[..],
            b"{}",
            br#"{"data":[]}"#,
            br#"{"data":{"pageItems":[]}}"#,
            br#"{"serviceList":[]}"#,
        ] {
            assert_eq!(elsewhere(&config, nothing), None);
        }
    }
}

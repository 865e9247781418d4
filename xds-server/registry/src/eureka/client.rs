//! One peer of a Eureka cluster over HTTP.

use std::time::{Duration, SystemTime};

use reqwest::header::{ACCEPT, CONTENT_TYPE, DATE, HeaderMap};
use reqwest::{Response, StatusCode, Url};

use super::config::Config;
use super::wire::{Applications, read};
use crate::text::shorten;
use crate::{Error, http};

/// A listing of a hundred thousand instances; one takes a kilobyte.
const MAX_BODY_BYTES: usize = 128 * 1024 * 1024;
/// Of an error page.
const MAX_REASON_BYTES: usize = 200;

#[derive(Debug)]
pub(super) struct Link {
    http: reqwest::Client,
    base: Url,
    timeout: Duration,
    user: Option<(String, String)>,
}

/// A full listing, and the server's clock when it answered.
#[derive(Debug)]
pub(super) struct Full {
    pub(super) applications: Applications,
    pub(super) date: Option<SystemTime>,
}

impl Link {
    /// Reads the files; the first request connects.
    pub(super) async fn open(config: &Config, url: &str) -> Result<Self, Error> {
        let base = Url::parse(url).map_err(|error| Error::Misconfigured(format!("{url}: {error}")))?;
        Ok(Self {
            http: http::client(&base, config.tls.as_ref()).await?,
            base,
            timeout: config.timeout,
            user: user(config).await?,
        })
    }

    /// Every instance.
    pub(super) async fn full(&self) -> Result<Full, Error> {
        let response = self.get(&["apps"]).await?;
        let status = response.status();
        if status != StatusCode::OK {
            return Err(refusal(status, &http::body(response, MAX_BODY_BYTES).await?));
        }
        let date = date(response.headers());
        Ok(Full {
            applications: listing(response).await?,
            date,
        })
    }

    /// What changed in the last minutes; `None` from a server that has no deltas.
    pub(super) async fn delta(&self) -> Result<Option<Applications>, Error> {
        let response = self.get(&["apps", "delta"]).await?;
        match response.status() {
            StatusCode::OK => Ok(Some(listing(response).await?)),
            // The first is Eureka with `disableDelta`, and any Eureka that is starting; a full listing tells them apart.
            StatusCode::FORBIDDEN
            | StatusCode::NOT_FOUND
            | StatusCode::METHOD_NOT_ALLOWED
            | StatusCode::NOT_IMPLEMENTED => Ok(None),
            status => Err(refusal(status, &http::body(response, MAX_BODY_BYTES).await?)),
        }
    }

    async fn get(&self, path: &[&str]) -> Result<Response, Error> {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        let mut request = self
            .http
            .get(url)
            .timeout(self.timeout)
            .header(ACCEPT, "application/json");
        if let Some((name, password)) = &self.user {
            request = request.basic_auth(name, Some(password));
        }
        request.send().await.map_err(http::unavailable)
    }
}

async fn listing(response: Response) -> Result<Applications, Error> {
    let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let kind = kind.unwrap_or("no content type").to_owned();
    let body = http::body(response, MAX_BODY_BYTES).await?;
    read(&body).map_err(|reason| Error::Unavailable(format!("{reason} ({})", shorten(&kind, MAX_REASON_BYTES))))
}

/// The server's clock, to the second.
fn date(headers: &HeaderMap) -> Option<SystemTime> {
    httpdate::parse_http_date(headers.get(DATE)?.to_str().ok()?).ok()
}

fn refusal(status: StatusCode, body: &[u8]) -> Error {
    let reason = String::from_utf8_lossy(body);
    let text = format!("{status}: {}", shorten(reason.trim(), MAX_REASON_BYTES));
    match status {
        StatusCode::UNAUTHORIZED => Error::Denied(text),
        StatusCode::FORBIDDEN => Error::Unavailable(format!(
            "{text} (Eureka answers so while it starts; else the user may not read)"
        )),
        StatusCode::NOT_FOUND => Error::Misconfigured(format!(
            "{text} (the endpoint needs its path, such as /eureka or /eureka/v2)"
        )),
        _ if status.is_redirection() => Error::Misconfigured(format!("{text} (redirects are not followed)")),
        _ => Error::Unavailable(text),
    }
}

async fn user(config: &Config) -> Result<Option<(String, String)>, Error> {
    let (Some(name), Some(file)) = (&config.username, &config.password_file) else {
        return Ok(None);
    };
    let password = String::from_utf8(http::read(file).await?)
        .map_err(|_| Error::Misconfigured(format!("{} is not UTF-8", file.display())))?;
    Ok(Some((name.clone(), password.trim_end_matches(['\r', '\n']).to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_told_apart() {
        let of = |code: u16| refusal(StatusCode::from_u16(code).unwrap(), b" no \n");
        assert!(matches!(of(401), Error::Denied(text) if text.starts_with("401 Unauthorized: no")));
        assert!(matches!(of(403), Error::Unavailable(text) if text.contains("while it starts")));
        assert!(matches!(of(404), Error::Misconfigured(text) if text.contains("/eureka")));
        assert!(matches!(of(302), Error::Misconfigured(text) if text.contains("redirects")));
        assert!(matches!(of(503), Error::Unavailable(_)));
        assert!(matches!(of(200), Error::Unavailable(_)));
    }
}

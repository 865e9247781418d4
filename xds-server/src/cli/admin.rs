//! The admin API's client.

use std::time::Duration;

use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde::de::DeserializeOwned;

use super::{Failure, output};
use crate::api::Problem;

/// A person waits for the answer; a server that needs longer is as good as gone.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Far above the largest answer (an explanation of some ten thousand endpoints), far below what hurts.
const MAX_ANSWER_BYTES: usize = 256 << 20;

/// The flag every verb that asks a server has.
#[derive(Debug, clap::Args)]
pub(super) struct Server {
    /// The admin address of the server to ask.
    #[arg(
        long,
        value_name = "URL",
        env = "LEADSMAN_SERVER",
        default_value = "http://127.0.0.1:18001"
    )]
    server: String,
}

impl Server {
    /// `path` begins with a slash; what came from a user in it is encoded with [`segment`].
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        Address {
            flag: "--server",
            url: &self.server,
        }
        .get(path)
        .await
    }
}

/// Where to ask, and the flag that said so.
#[derive(Clone, Copy, Debug)]
pub(super) struct Address<'a> {
    pub(super) flag: &'static str,
    pub(super) url: &'a str,
}

impl Address<'_> {
    /// `path` begins with a slash.
    pub(super) async fn get<T: DeserializeOwned>(self, path: &str) -> Result<T, Failure> {
        let uri = self.uri(path)?;
        let unreachable = |why: &dyn std::fmt::Display| {
            Failure::Unreachable(format!("{}: the server can't be reached: {why}", self.url))
        };
        let (status, body) = tokio::time::timeout(TIMEOUT, exchange(uri))
            .await
            .map_err(|_| unreachable(&format_args!("no answer in {} s", TIMEOUT.as_secs())))?
            .map_err(|error| unreachable(&error))?;
        if status.is_success() {
            return serde_json::from_slice(&body)
                .map_err(|error| Failure::Other(format!("{}{path}: not understood: {error}", self.url)));
        }
        let said = serde_json::from_slice(&body).map_or_else(|_| status.to_string(), |problem: Problem| problem.error);
        Err(match status {
            StatusCode::NOT_FOUND | StatusCode::BAD_REQUEST => Failure::BadInput(said),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Failure::Permission(said),
            StatusCode::SERVICE_UNAVAILABLE => Failure::Unreachable(said),
            _ => Failure::Other(said),
        })
    }

    fn uri(self, path: &str) -> Result<Uri, Failure> {
        let base = self.url.trim_end_matches('/');
        let usage = |why: &str| Failure::Usage(format!("{} {:?}: {why}", self.flag, self.url));
        let uri: Uri = format!("{base}{path}").parse().map_err(|_| usage("not a url"))?;
        match uri.scheme_str() {
            Some("http") => Ok(uri),
            Some(_) => Err(usage("only http:// is spoken here")),
            None => Err(usage("a url such as http://127.0.0.1:18001 is needed")),
        }
    }
}

async fn exchange(uri: Uri) -> anyhow::Result<(StatusCode, Vec<u8>)> {
    let client = Client::builder(TokioExecutor::new()).build_http::<Empty<bytes::Bytes>>();
    let request = Request::get(uri).body(Empty::new())?;
    let response = client
        .request(request)
        .await
        .map_err(|error| anyhow::anyhow!(output::innermost(&error)))?;
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES)
        .collect()
        .await
        .map_err(|error| anyhow::anyhow!("{error}"))?;
    Ok((status, body.to_bytes().to_vec()))
}

/// A name as one segment of a path: service names may hold slashes, spaces and anything else.
pub(super) fn segment(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => text.push(char::from(byte)),
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(url: &str) -> Address<'_> {
        Address { flag: "--server", url }
    }

    #[test]
    fn any_name_is_one_segment_of_a_path() {
        assert_eq!(segment("orders.v1/gRPC é"), "orders.v1%2FgRPC%20%C3%A9");
        let uri = server("http://127.0.0.1:18001/").uri("/api/v1/services/a%2Fb").unwrap();
        assert_eq!(uri, "http://127.0.0.1:18001/api/v1/services/a%2Fb");
    }

    #[test]
    fn a_server_that_can_not_be_spoken_to_is_a_mistake_on_the_command_line() {
        for url in ["https://127.0.0.1", "127.0.0.1:18001", "http://a b"] {
            assert!(matches!(server(url).uri("/x"), Err(Failure::Usage(_))), "{url}");
        }
    }

    #[tokio::test]
    async fn a_closed_port_is_unreachable() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let answer = server(&format!("http://{address}")).get::<Vec<u8>>("/x").await;
        assert!(matches!(answer, Err(Failure::Unreachable(_))), "{answer:?}");
    }
}

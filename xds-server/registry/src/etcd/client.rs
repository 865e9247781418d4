//! One connection to one member of an etcd cluster.
//!
//! etcd-client's own balanced channel has no health check and never moves a watch, so each session has a plain
//! channel to one address, and leaves it when in doubt.

use std::path::Path;
use std::time::Duration;

use etcd_client::{
    Channel, Client, ConnectOptions, GetOptions, GetResponse, WatchOptions, WatchRequestSender, WatchResponseStream,
};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

use super::config::Config;
use super::errors::{Fault, chain};
use super::page_size::PageSize;
use super::records::Record;
use crate::{Error, Tls};

/// A silent peer is noticed after 15 s; etcd takes pings more often than every 5 s for abuse.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// TCP, TLS and HTTP/2 together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// One page, one login, or the creation of a watch.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// A catch-up answer of a watch or a page of large records passes gRPC's usual 4 MiB easily.
const MAX_MESSAGE_BYTES: usize = 64 * 1024 * 1024;
/// HTTP/2 windows: 64 KiB, the default, costs a round trip each 64 KiB, and members may be in another region.
const WINDOW_BYTES: u32 = 1024 * 1024;

pub(super) struct Link {
    client: Client,
    prefix: Vec<u8>,
    end: Vec<u8>,
    page_size: PageSize,
}

/// Where a page starts and what it holds.
#[derive(Clone, Debug, Default)]
pub(super) struct PageRequest {
    /// The last key of the page before; `None` for the first page.
    pub(super) after: Option<Vec<u8>>,
    /// The revision to read at; zero for the newest.
    pub(super) revision: i64,
    pub(super) keys_only: bool,
}

#[derive(Debug)]
pub(super) struct Page {
    pub(super) cluster_id: u64,
    /// The newest revision of the store when it answered.
    pub(super) revision: i64,
    pub(super) records: Vec<Record>,
    pub(super) more: bool,
}

/// Connects, and logs in when a user is configured.
pub(super) async fn connect(config: &Config, url: &str) -> Result<Client, Error> {
    let endpoint = endpoint(config, url).await?;
    let channel = match tokio::time::timeout(CONNECT_TIMEOUT, endpoint.connect()).await {
        Ok(connected) => connected.map_err(|error| Error::Unavailable(chain(&error)))?,
        Err(_) => return Err(Error::Unavailable(format!("no connection after {CONNECT_TIMEOUT:?}"))),
    };
    let user = user(config).await?;
    match login(channel.clone(), user).await {
        Err(Fault::AuthNotEnabled) => {
            tracing::warn!(
                endpoint = url,
                "a user is configured, but etcd has no authentication enabled"
            );
            Ok(login(channel, None).await?)
        }
        outcome => Ok(outcome?),
    }
}

impl Link {
    pub(super) async fn connect(config: &Config, url: &str, page_size: PageSize) -> Result<Self, Error> {
        let (prefix, end) = range(&config.prefix);
        Ok(Self {
            client: connect(config, url).await?,
            prefix,
            end,
            page_size,
        })
    }

    /// Reads one page of the prefix, linearizable.
    pub(super) fn page(&self, request: PageRequest) -> impl Future<Output = Result<Page, Fault>> + Send + 'static {
        let kv = self.client.kv_client().max_decoding_message_size(MAX_MESSAGE_BYTES);
        let key = request
            .after
            .as_ref()
            .map_or_else(|| self.prefix.clone(), |last| last.iter().copied().chain([0]).collect());
        let mut options = GetOptions::new()
            .with_range(self.end.clone())
            .with_revision(request.revision);
        if request.keys_only {
            options = options.with_keys_only();
        }
        let page_size = self.page_size.clone();
        async move {
            let ask = |keys| {
                let (mut kv, key) = (kv.clone(), key.clone());
                let options = options.clone().with_limit(i64::from(keys));
                async move { within("a page", kv.get(key, Some(options))).await }
            };
            let page = page(page_size.fitting(ask).await?)?;
            // A listing ends because its keys ascend.
            let first = page.records.first().map(|record| record.key.as_slice());
            if first.is_some_and(|first| first < key.as_slice()) {
                return Err(Fault::unavailable("a page begins before the place that was asked for"));
            }
            Ok(page)
        }
    }

    /// The revision that had written a key, as of an earlier revision of the store; `None` when it was not there.
    pub(super) async fn revision_of(&self, key: &[u8], at: i64) -> Result<Option<i64>, Fault> {
        let options = GetOptions::new().with_revision(at).with_keys_only();
        let mut kv = self.client.kv_client();
        let response = within("a look at the past", kv.get(key.to_vec(), Some(options)))
            .await?
            .0;
        Ok(response.kvs.first().map(|kv| kv.mod_revision))
    }

    /// Watches the prefix from a revision on.
    pub(super) async fn watch(&self, from: i64) -> Result<(WatchRequestSender, WatchResponseStream), Error> {
        let mut watch = self.client.watch_client().max_decoding_message_size(MAX_MESSAGE_BYTES);
        let options = WatchOptions::new()
            .with_range(self.end.clone())
            .with_start_revision(from)
            .with_progress_notify()
            .with_fragment();
        let stream = within("the watch", watch.watch(self.prefix.clone(), Some(options))).await?;
        Ok(stream.split())
    }
}

fn page(response: GetResponse) -> Result<Page, Fault> {
    let response = response.0;
    let header = response
        .header
        .ok_or_else(|| Fault::unavailable("a page without a header"))?;
    let record = |kv: etcd_client::proto::PbKeyValue| Record {
        key: kv.key,
        value: Some(kv.value),
        revision: kv.mod_revision,
    };
    Ok(Page {
        cluster_id: header.cluster_id,
        revision: header.revision,
        records: response.kvs.into_iter().map(record).collect(),
        more: response.more,
    })
}

pub(super) async fn within<T>(
    what: &str,
    call: impl Future<Output = Result<T, etcd_client::Error>>,
) -> Result<T, Fault> {
    match tokio::time::timeout(REQUEST_TIMEOUT, call).await {
        Ok(answer) => answer.map_err(|error| Fault::of(&error)),
        Err(_) => Err(Fault::unavailable(format!(
            "{what} took longer than {REQUEST_TIMEOUT:?}"
        ))),
    }
}

async fn login(channel: tonic::transport::Channel, user: Option<(String, String)>) -> Result<Client, Fault> {
    // A member that lost its leader must refuse the watch rather than be silent.
    let mut options = ConnectOptions::new().with_require_leader(true);
    if let Some((name, password)) = user {
        // Reconciles come long after the login, when a simple token has expired.
        options = options.with_user(name, password).with_auto_token_refresh(true);
    }
    within(
        "the login",
        Client::from_channel(Channel::Tonic(channel), Some(options)),
    )
    .await
}

async fn user(config: &Config) -> Result<Option<(String, String)>, Error> {
    let (Some(name), Some(file)) = (&config.username, &config.password_file) else {
        return Ok(None);
    };
    let password = String::from_utf8(read(file).await?)
        .map_err(|_| Error::Misconfigured(format!("{} is not UTF-8", file.display())))?;
    Ok(Some((name.clone(), password.trim_end_matches(['\r', '\n']).to_owned())))
}

async fn endpoint(config: &Config, url: &str) -> Result<Endpoint, Error> {
    let misconfigured = |error: tonic::transport::Error| Error::Misconfigured(format!("{url}: {}", chain(&error)));
    let endpoint = Endpoint::from_shared(url.to_owned())
        .map_err(misconfigured)?
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES);
    if !url.starts_with("https://") {
        return Ok(endpoint);
    }
    let tls = tls(config.tls.as_ref().unwrap_or(&Tls::default())).await?;
    endpoint.tls_config(tls).map_err(misconfigured)
}

async fn tls(files: &Tls) -> Result<ClientTlsConfig, Error> {
    let mut tls = ClientTlsConfig::new();
    tls = match &files.ca {
        Some(ca) => tls.ca_certificate(Certificate::from_pem(read(ca).await?)),
        None => tls.with_native_roots(),
    };
    if let (Some(cert), Some(key)) = (&files.cert, &files.key) {
        tls = tls.identity(Identity::from_pem(read(cert).await?, read(key).await?));
    }
    Ok(tls)
}

async fn read(file: &Path) -> Result<Vec<u8>, Error> {
    tokio::fs::read(file)
        .await
        .map_err(|error| Error::Misconfigured(format!("{} can't be read: {error}", file.display())))
}

/// The half-open range of keys that start with a prefix.
pub(super) fn range(prefix: &str) -> (Vec<u8>, Vec<u8>) {
    // To etcd a single zero byte means "from the first key" as a start, and "to the last key" as an end.
    let mut end = prefix.as_bytes().to_vec();
    // The bytes of a text are below 0xff, so the last one can always be raised.
    match end.last_mut() {
        Some(last) => *last += 1,
        None => return (vec![0], vec![0]),
    }
    (prefix.as_bytes().to_vec(), end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_a_range() {
        assert_eq!(range("/a/"), (b"/a/".to_vec(), b"/a0".to_vec()));
        assert_eq!(range(""), (vec![0], vec![0]));
        assert_eq!(range("é").1.last(), Some(&0xaa));
    }
}

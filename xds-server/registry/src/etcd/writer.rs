//! Writing: for the built-in registry, whose replicas keep what they are told in an etcd they share. The source itself
//! never writes.
//!
//! A change is made only if the key is still what it was read as; nothing is tried again here, because after a lost
//! answer only a new look can tell what became of it.

use etcd_client::{
    Client, Compare, CompareOp, DeleteOptions, Error as ClientError, GetOptions, PutOptions, Txn, TxnOp,
};
use tokio::sync::Mutex;
use tonic::Code;

use super::client::{connect, range, within};
use super::config::Config;
use crate::Error;

/// A cluster to write to, by one member at a time.
pub(crate) struct Writer {
    config: Config,
    connection: Mutex<Connection>,
}

#[derive(Default)]
struct Connection {
    client: Option<Client>,
    /// Which of the endpoints is tried next.
    next: usize,
    /// Counts the clients, so that one that failed is given up once.
    number: u64,
}

/// A key as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) key: Vec<u8>,
    pub(crate) value: Vec<u8>,
    /// The revision that wrote it.
    pub(crate) revision: i64,
    /// Zero without one.
    pub(crate) lease: i64,
}

/// Keys in their order.
#[derive(Debug)]
pub(crate) struct Keys {
    pub(crate) found: Vec<Stored>,
    pub(crate) more: bool,
    /// The newest revision of the store.
    pub(crate) revision: i64,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl Writer {
    pub(crate) fn new(config: Config) -> Self {
        Self {
            config,
            connection: Mutex::default(),
        }
    }

    pub(crate) async fn get(&self, key: &str) -> Result<Option<Stored>, Error> {
        let key = key.to_owned();
        let read = self
            .call(
                "a read",
                |client| async move { client.kv_client().get(key, None).await },
            )
            .await?;
        Ok(read.0.kvs.into_iter().next().map(stored))
    }

    /// Keys with a prefix, of which there may be many; those up to `after` are left out.
    pub(crate) async fn keys(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Keys, Error> {
        let (start, end) = range(prefix);
        let start = after.map_or(start, |after| after.bytes().chain([0]).collect());
        let options = GetOptions::new()
            .with_range(end)
            .with_limit(i64::try_from(limit).unwrap_or(i64::MAX));
        let read = self
            .call("a list", |client| async move {
                client.kv_client().get(start, Some(options)).await
            })
            .await?
            .0;
        Ok(Keys {
            more: read.more,
            revision: read.header.map_or(0, |header| header.revision),
            found: read.kvs.into_iter().map(stored).collect(),
        })
    }

    pub(crate) async fn count(&self, prefix: &str) -> Result<usize, Error> {
        let (start, end) = range(prefix);
        let options = GetOptions::new().with_range(end).with_count_only();
        let read = self
            .call("a count", |client| async move {
                client.kv_client().get(start, Some(options)).await
            })
            .await?;
        Ok(usize::try_from(read.0.count).unwrap_or_default())
    }

    /// A new lease.
    pub(crate) async fn grant(&self, seconds: u32) -> Result<i64, Error> {
        let granted = self
            .call("a lease", |client| async move {
                client.lease_client().grant(seconds.into(), None).await
            })
            .await?;
        Ok(granted.0.id)
    }

    /// Lets a lease begin anew; false when there is no such lease.
    pub(crate) async fn keep_alive(&self, lease: i64) -> Result<bool, Error> {
        self.call("a renewal", |client| async move {
            match client.lease_client().keep_alive(lease).await {
                Ok(_) => Ok(true),
                // The one thing that the client says in this way.
                Err(ClientError::LeaseKeepAliveError(_)) => Ok(false),
                Err(error) => Err(error),
            }
        })
        .await
    }

    /// Ends a lease that nothing depends on any more; it would end by itself.
    pub(crate) async fn revoke(&self, lease: i64) {
        let revoked = self.call("the end of a lease", |client| async move {
            client.lease_client().revoke(lease).await
        });
        if let Err(error) = revoked.await {
            tracing::debug!(lease, %error, "a lease is left to run out");
        }
    }

    /// Writes a key that was last written by the revision `seen`, zero when it is not there, and returns the revision that
    /// did it; `None` when the key is another one by now, or the lease is gone.
    pub(crate) async fn put_if(&self, key: &str, value: &[u8], lease: i64, seen: i64) -> Result<Option<i64>, Error> {
        let options = PutOptions::new().with_lease(lease);
        let put = TxnOp::put(key, value, Some(options));
        self.change(key, seen, put).await
    }

    /// Removes a key that was last written by the revision `seen`; `None` when it is another one by now.
    pub(crate) async fn delete_if(&self, key: &str, seen: i64) -> Result<Option<i64>, Error> {
        let delete = TxnOp::delete(key, Some(DeleteOptions::new()));
        self.change(key, seen, delete).await
    }

    async fn change(&self, key: &str, seen: i64, operation: TxnOp) -> Result<Option<i64>, Error> {
        let txn = Txn::new()
            .when([Compare::mod_revision(key, CompareOp::Equal, seen)])
            .and_then([operation]);
        self.call("a change", |client| async move {
            match client.kv_client().txn(txn).await {
                Ok(response) => {
                    let revision = response.0.header.map_or(0, |header| header.revision);
                    Ok(response.0.succeeded.then_some(revision))
                }
                Err(ClientError::GRpcStatus(status)) if status.code() == Code::NotFound => Ok(None),
                Err(error) => Err(error),
            }
        })
        .await
    }

    /// Calls the member of the moment. When it fails, the next call goes to the next one, with credentials read anew.
    async fn call<T, A>(&self, what: &str, call: impl FnOnce(Client) -> A) -> Result<T, Error>
    where
        A: Future<Output = Result<T, ClientError>>,
    {
        let (client, number) = self.client().await?;
        match within(what, call(client)).await {
            Ok(answer) => Ok(answer),
            Err(fault) => {
                let mut connection = self.connection.lock().await;
                if connection.number == number {
                    connection.client = None;
                }
                Err(fault.into())
            }
        }
    }

    async fn client(&self) -> Result<(Client, u64), Error> {
        let mut connection = self.connection.lock().await;
        if let Some(client) = &connection.client {
            return Ok((client.clone(), connection.number));
        }
        let endpoints = &self.config.endpoints;
        let url = endpoints.get(connection.next).or(endpoints.first());
        let url = url.ok_or_else(|| Error::Misconfigured("endpoints is empty".to_owned()))?;
        connection.next = (connection.next + 1).checked_rem(endpoints.len()).unwrap_or_default();
        connection.number += 1;
        let client = connect(&self.config, url).await?;
        connection.client = Some(client.clone());
        Ok((client, connection.number))
    }
}

fn stored(kv: etcd_client::proto::PbKeyValue) -> Stored {
    Stored {
        key: kv.key,
        value: kv.value,
        revision: kv.mod_revision,
        lease: kv.lease,
    }
}

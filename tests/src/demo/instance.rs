//! One registered instance: a key of etcd that lives as long as somebody renews its lease, as popular clients do it.

use std::net::SocketAddr;
use std::time::Duration;

use etcd_client::Client;
use serde_json::json;
use tokio::task::JoinHandle;

use crate::etcd::Etcd;

/// The keys of the demo's service.
pub(crate) const PREFIX: &str = "/services/";

/// How long etcd keeps an instance that nobody renews. Below two seconds etcd raises it.
pub(crate) const TTL: i64 = 3;

/// Several chances to renew within the lease's time.
const RENEWAL: Duration = Duration::from_millis(500);

/// A registered instance; dropping it stops the renewal, and etcd deletes the key when the lease ends.
#[derive(Debug)]
pub(crate) struct Instance {
    key: String,
    address: SocketAddr,
    lease: i64,
    keeper: JoinHandle<()>,
}

impl Instance {
    /// Writes the instance under a lease of its own.
    pub(crate) async fn register(etcd: &Etcd, service: &str, id: &str, address: SocketAddr) -> Self {
        let lease = etcd.grant(TTL).await;
        let instance = Self {
            key: format!("{PREFIX}{service}/{id}"),
            address,
            lease,
            keeper: tokio::spawn(keep(etcd.client(), lease)),
        };
        instance.put(etcd, 1).await;
        instance
    }

    /// Writes the instance again, with another weight, and returns etcd's revision.
    pub(crate) async fn put(&self, etcd: &Etcd, weight: u32) -> i64 {
        etcd.put_leased(&self.key, &self.record(weight), self.lease).await
    }

    /// Deletes the key, as an instance does that stops in order.
    pub(crate) async fn delete(&self, etcd: &Etcd) -> i64 {
        etcd.delete(&self.key).await
    }

    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    fn record(&self, weight: u32) -> String {
        let record = json!({
            "address": self.address.ip().to_string(),
            "port": self.address.port(),
            "weight": weight,
            "health": "healthy",
        });
        record.to_string()
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

/// Renews a lease for ever. A registry that is away can't be told anything, and is asked again.
async fn keep(mut client: Client, lease: i64) {
    loop {
        // A renewal that is late tells nothing that the next one would not.
        let _ = tokio::time::timeout(RENEWAL * 2, client.lease_keep_alive(lease)).await;
        tokio::time::sleep(RENEWAL).await;
    }
}

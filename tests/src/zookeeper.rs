//! A real ZooKeeper, alone or as an ensemble of three, that can be killed, paused, restarted, emptied and locked.

use std::fmt;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use zookeeper_client::{Acl, Acls, AuthId, Client, CreateMode, Error, Permission};

use crate::authority::Authority;
use crate::process::{Process, free_port, tool};
use crate::proxy::Proxy;
use crate::wait::{PATIENT, until_ok};

/// Small, so that sessions of two seconds can be had.
const TICK: Duration = Duration::from_millis(500);
/// Requests on their way at once when many nodes are made.
const PIPELINE: usize = 200;

/// What remains of a server that is restarted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Data {
    /// All of it.
    Kept,
    /// Nothing; transactions count from 1 again.
    Lost,
}

/// An ensemble; dropping the last value of it kills it and deletes its data.
pub struct Zookeeper {
    servers: Arc<Vec<Server>>,
    client: Client,
}

#[derive(Debug)]
struct Server {
    port: u16,
    /// For TLS, where there is any.
    secure_port: u16,
    process: Process,
    home: TempDir,
}

impl fmt::Debug for Zookeeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Zookeeper")
            .field("servers", &self.servers)
            .finish_non_exhaustive()
    }
}

impl Zookeeper {
    pub async fn start() -> Self {
        Self::start_servers(1, false).await
    }

    /// One that also speaks TLS, to those who have a certificate of the same authority.
    pub async fn start_tls() -> Self {
        Self::start_servers(1, true).await
    }

    /// The server of every test that does it no harm. It is for many at once: each should keep to a tree of its own.
    pub async fn shared() -> Self {
        static SHARED: tokio::sync::Mutex<Weak<Vec<Server>>> = tokio::sync::Mutex::const_new(Weak::new());
        let mut shared = SHARED.lock().await;
        let servers = match shared.upgrade() {
            Some(servers) => servers,
            None => Self::start().await.servers,
        };
        *shared = Arc::downgrade(&servers);
        // A client belongs to the runtime of the test that made it.
        let client = connect(&servers).await;
        Self { servers, client }
    }

    /// Three servers, one of which leads.
    pub async fn start_ensemble() -> Self {
        Self::start_servers(3, false).await
    }

    async fn start_servers(count: usize, tls: bool) -> Self {
        let ports: Vec<[u16; 4]> = (0..count).map(|_| std::array::from_fn(|_| free_port())).collect();
        let peers: String = match count {
            1 => String::new(),
            _ => (1..)
                .zip(&ports)
                .map(|(id, [_, peer, vote, _])| format!("server.{id}=127.0.0.1:{peer}:{vote}\n"))
                .collect(),
        };
        let mut servers: Vec<Server> = (1..)
            .zip(&ports)
            .map(|(id, &[port, .., secure_port])| {
                let home = home(id, port, &peers);
                if tls {
                    secure(&home, secure_port);
                }
                let process = spawn(&home);
                Server {
                    port,
                    secure_port,
                    process,
                    home,
                }
            })
            .collect();
        for server in &mut servers {
            server.ready().await;
        }
        let client = connect(&servers).await;
        let servers = Arc::new(servers);
        Self { servers, client }
    }

    /// Where clients of each server connect.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let local = |server: &Server| SocketAddr::from(([127, 0, 0, 1], server.port));
        self.servers.iter().map(local).collect()
    }

    /// # Panics
    /// Never: an ensemble has a server.
    pub fn address(&self) -> SocketAddr {
        self.addresses().first().copied().unwrap_or_else(|| panic!("no server"))
    }

    /// Where TLS is spoken, with [`Zookeeper::start_tls`].
    ///
    /// # Panics
    /// Never: an ensemble has a server.
    pub fn tls_address(&self) -> SocketAddr {
        let server = self.servers.first().unwrap_or_else(|| panic!("no server"));
        SocketAddr::from(([127, 0, 0, 1], server.secure_port))
    }

    /// The files of a client, with [`Zookeeper::start_tls`]: the authority, a certificate and its key.
    ///
    /// # Panics
    /// Never: an ensemble has a server.
    pub fn client_files(&self) -> [PathBuf; 3] {
        let server = self.servers.first().unwrap_or_else(|| panic!("no server"));
        ["authority.pem", "client.pem", "client.key"].map(|name| server.home.path().join(name))
    }

    /// A client of its own session, for ephemeral nodes.
    pub async fn new_client(&self) -> Client {
        connect(&self.servers).await
    }

    /// The client of the harness; what it creates without asking for more stays.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Lets only this identity of the `digest` scheme read a node; everybody may still write and administer.
    ///
    /// # Panics
    /// When ZooKeeper refuses.
    pub async fn lock(&self, path: &str, reader: &str) {
        let write = Permission::WRITE | Permission::CREATE | Permission::DELETE | Permission::ADMIN;
        let acls = [
            Acl::new(Permission::READ, AuthId::new("digest", reader)),
            Acl::new(write, AuthId::anyone()),
        ];
        let locked = self.client.set_acl(path, &acls, None).await;
        assert!(locked.is_ok(), "{path} can't be locked: {locked:?}");
    }

    /// Creates an ephemeral node in a session of two seconds, whose client is never heard of again.
    ///
    /// # Panics
    /// When ZooKeeper refuses.
    pub async fn put_and_die(&self, path: &str, data: &[u8]) {
        let way = Proxy::start(self.address()).await;
        let connector = Client::connector().with_session_timeout(Duration::from_secs(2));
        let client = connector.connect(&way.address().to_string()).await;
        let client = client.unwrap_or_else(|error| panic!("no session: {error}"));
        let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
        let lasting = CreateMode::Persistent.with_acls(Acls::anyone_all());
        let ephemeral = CreateMode::Ephemeral.with_acls(Acls::anyone_all());
        let made = match client.mkdir(parent, &lasting).await {
            Ok(()) => client.create(path, data, &ephemeral).await.map(drop),
            Err(error) => Err(error),
        };
        assert!(made.is_ok(), "{path}: {made:?}");
        way.sever();
    }

    /// `SIGKILL` to one server.
    pub fn kill(&mut self, server: usize) {
        self.server(server).process.kill();
    }

    /// `SIGSTOP` to one server: accepts connections and answers nothing.
    pub fn pause(&mut self, server: usize) {
        self.server(server).process.pause();
    }

    /// `SIGCONT`.
    pub fn resume(&mut self, server: usize) {
        self.server(server).process.resume();
    }

    /// Which server leads.
    ///
    /// # Panics
    /// When none does.
    pub async fn leader(&self) -> usize {
        for (index, server) in self.servers.iter().enumerate() {
            let mode = ask(server.port, "srvr").await.unwrap_or_default();
            if mode.contains("Mode: leader") || mode.contains("Mode: standalone") {
                return index;
            }
        }
        panic!("no server leads");
    }

    /// Starts a killed server on the port it had.
    pub async fn restart(&mut self, server: usize, data: Data) {
        let restarted = self.server(server);
        if data == Data::Lost {
            let versions = restarted.home.path().join("data/version-2");
            fs::remove_dir_all(&versions).unwrap_or_else(|error| panic!("{}: {error}", versions.display()));
        }
        restarted.process = spawn(&restarted.home);
        restarted.ready().await;
        self.client = connect(&self.servers).await;
    }

    /// Writes a node, and creates it with its parents when it is not there.
    ///
    /// # Panics
    /// When ZooKeeper refuses.
    pub async fn put(&self, path: &str, data: &[u8]) {
        let lasting = CreateMode::Persistent.with_acls(Acls::anyone_all());
        until_ok(PATIENT, &format!("{path} to be written"), async || {
            match self.client.set_data(path, data, None).await {
                Err(Error::NoNode) => {}
                outcome => return outcome.map(drop),
            }
            let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
            if !parent.is_empty() {
                self.client.mkdir(parent, &lasting).await?;
            }
            self.client.create(path, data, &lasting).await.map(drop)
        })
        .await;
    }

    /// Writes nodes that are not there yet; their parent is.
    ///
    /// # Panics
    /// When ZooKeeper refuses.
    pub async fn create_all(&self, pairs: &[(String, String)]) {
        let lasting = CreateMode::Persistent.with_acls(Acls::anyone_all());
        for some in pairs.chunks(PIPELINE) {
            let creations: Vec<_> = some
                .iter()
                .map(|(path, data)| (path, self.client.create(path, data.as_bytes(), &lasting)))
                .collect();
            for (path, creation) in creations {
                let created = creation.await;
                assert!(created.is_ok(), "{path}: {created:?}");
            }
        }
    }

    /// Deletes a node; one that is gone is fine.
    ///
    /// # Panics
    /// When ZooKeeper refuses.
    pub async fn delete(&self, path: &str) {
        until_ok(PATIENT, &format!("{path} to be deleted"), async || {
            match self.client.delete(path, None).await {
                Err(Error::NoNode) => Ok(()),
                outcome => outcome,
            }
        })
        .await;
    }

    fn server(&mut self, index: usize) -> &mut Server {
        let servers = Arc::get_mut(&mut self.servers).unwrap_or_else(|| panic!("other tests use this server"));
        servers
            .get_mut(index)
            .unwrap_or_else(|| panic!("there is no server {index}"))
    }
}

impl Server {
    async fn ready(&mut self) {
        let Self { port, process, .. } = self;
        until_ok(PATIENT, "ZooKeeper to serve", async || {
            assert!(process.is_running(), "ZooKeeper ended:\n{}", process.log());
            match ask(*port, "srvr").await {
                Ok(answer) if answer.contains("Mode:") => Ok(()),
                Ok(answer) => Err(answer),
                Err(error) => Err(error.to_string()),
            }
        })
        .await;
    }
}

/// One of ZooKeeper's words of four letters.
async fn ask(port: u16, word: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.write_all(word.as_bytes()).await?;
    let mut answer = String::new();
    tokio::time::timeout(Duration::from_secs(5), stream.read_to_string(&mut answer)).await??;
    Ok(answer)
}

fn home(id: usize, port: u16, peers: &str) -> TempDir {
    let home = TempDir::new().unwrap_or_else(|error| panic!("no directory for ZooKeeper: {error}"));
    let data = home.path().join("data");
    let config = format!(
        "tickTime={}\ndataDir={}\nclientPort={port}\nclientPortAddress=127.0.0.1\nadmin.enableServer=false\n\
         4lw.commands.whitelist=*\nmaxClientCnxns=0\ninitLimit=10\nsyncLimit=5\n{peers}",
        TICK.as_millis(),
        data.display(),
    );
    let written = fs::create_dir(&data)
        .and_then(|()| fs::write(data.join("myid"), id.to_string()))
        .and_then(|()| fs::write(home.path().join("zoo.cfg"), config));
    written.unwrap_or_else(|error| panic!("no home for ZooKeeper: {error}"));
    home
}

/// Lets a server speak TLS as well.
fn secure(home: &TempDir, port: u16) {
    let authority = Authority::new(home.path(), "authority");
    authority.sign("client");
    let own = authority.sign("server");
    let store = home.path().join("store.pem");
    let trust = home.path().join("authority.pem");
    let file = home.path().join("zoo.cfg");
    let more = format!(
        "secureClientPort={port}\nsecureClientPortAddress=127.0.0.1\nssl.clientAuth=need\n\
         serverCnxnFactory=org.apache.zookeeper.server.NettyServerCnxnFactory\n\
         ssl.keyStore.location={}\nssl.trustStore.location={}\n",
        store.display(),
        trust.display()
    );
    let written = || -> io::Result<()> {
        fs::write(&store, fs::read_to_string(own.key)? + &fs::read_to_string(own.cert)?)?;
        fs::write(&file, fs::read_to_string(&file)? + &more)
    };
    written().unwrap_or_else(|error| panic!("no TLS for ZooKeeper: {error}"));
}

fn spawn(home: &TempDir) -> Process {
    let jars = tool("servers/zookeeper-netty-3.9.5", "make servers");
    let mut command = Command::new("java");
    command
        .args(["-Xmx192m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"])
        .args(["-Djava.net.preferIPv4Stack=true", "-Dzookeeper.forceSync=no", "-cp"])
        .arg(jars.join("*"))
        // Containers that stay empty are looked for this often; a minute by default.
        .arg("-Dznode.container.checkIntervalMs=500")
        .arg("org.apache.zookeeper.server.quorum.QuorumPeerMain")
        .arg(home.path().join("zoo.cfg"));
    Process::spawn("zookeeper", command, home.path())
}

async fn connect(servers: &[Server]) -> Client {
    let cluster: Vec<String> = servers
        .iter()
        .map(|server| format!("127.0.0.1:{}", server.port))
        .collect();
    let cluster = cluster.join(",");
    until_ok(PATIENT, "a client of ZooKeeper", async || {
        let connector = Client::connector().with_session_timeout(Duration::from_secs(10));
        connector.with_fail_eagerly().connect(&cluster).await
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn zookeeper_restarts_with_and_without_its_data() {
        let mut zookeeper = Zookeeper::start().await;
        zookeeper.put("/a/1", b"x").await;
        zookeeper.kill(0);
        zookeeper.restart(0, Data::Kept).await;
        assert_eq!(zookeeper.client().list_children("/a").await, Ok(vec!["1".to_owned()]));
        zookeeper.delete("/a/1").await;
        zookeeper.kill(0);
        zookeeper.restart(0, Data::Lost).await;
        assert_eq!(zookeeper.client().list_children("/a").await, Err(Error::NoNode));
    }

    #[tokio::test]
    async fn an_ensemble_has_a_leader() {
        let mut zookeeper = Zookeeper::start_ensemble().await;
        zookeeper.put("/a/1", b"x").await;
        let leader = zookeeper.leader().await;
        zookeeper.kill(leader);
        zookeeper.put("/a/2", b"x").await;
        zookeeper.restart(leader, Data::Kept).await;
        assert_ne!(zookeeper.leader().await, leader);
    }
}

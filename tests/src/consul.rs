//! A real Consul that can be killed, paused, restarted, emptied, locked and set back: one server, a cluster of three, or
//! two datacentres.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use http::{HeaderValue, Method, Request};
use http_body_util::Full;
use hyper::body::Bytes;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::authority::Authority;
use crate::http::{Answer, Http};
use crate::process::{Process, free_port, tool};
use crate::wait::{PATIENT, until_ok};

/// The token that may do everything.
pub const MANAGEMENT: &str = "11111111-1111-1111-1111-111111111111";

/// How a Consul is set up.
#[derive(Clone, Copy, Debug, Default)]
pub struct Setup {
    /// Deny what no token allows.
    pub acl: bool,
    /// Answer blocking questions by comparing indexes rather than from the stream of events.
    pub without_streaming: bool,
    /// Connections that one client may have; Consul's own default without it.
    pub connections: Option<u32>,
    /// Whoever does not say who should answer is answered by any server, however old its data.
    pub careless: bool,
    /// Serve HTTPS too, to those who have a certificate of the same authority.
    pub tls: bool,
}

/// The other servers of a Consul.
#[derive(Clone, Debug, Default)]
struct Company {
    datacenter: String,
    /// Servers that elect a leader together.
    servers: usize,
    /// Where the others of the cluster gossip.
    lan: Vec<u16>,
    /// Where a server of another datacentre gossips; the first one is the primary.
    wan: Option<u16>,
}

impl Company {
    fn alone() -> Self {
        Self {
            datacenter: "dc1".to_owned(),
            servers: 1,
            ..Self::default()
        }
    }
}

/// What remains of a Consul that is restarted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Data {
    /// All of it.
    Kept,
    /// Nothing: the server is another one, and counts from the start again.
    Lost,
}

/// One Consul; dropping it kills it and deletes its data.
#[derive(Debug)]
pub struct Consul {
    setup: Setup,
    company: Company,
    ports: [u16; 6],
    http: Http,
    process: Process,
    directory: TempDir,
}

impl Consul {
    pub async fn start(setup: Setup) -> Self {
        let mut consul = Self::launch(setup, Company::alone(), ports());
        consul.ready().await;
        consul
    }

    /// Starts three servers, one of which leads.
    pub async fn start_cluster(setup: Setup) -> [Self; 3] {
        let all: [[u16; 6]; 3] = std::array::from_fn(|_| ports());
        let mut cluster = all.map(|ports| {
            let company = Company {
                servers: all.len(),
                lan: all.iter().map(|[_, _, _, lan, ..]| *lan).collect(),
                ..Company::alone()
            };
            Self::launch(setup, company, ports)
        });
        for consul in &mut cluster {
            consul.ready().await;
        }
        cluster
    }

    /// Starts a server of another datacentre, `dc2`, and waits until this one reaches it.
    pub async fn start_other_datacenter(&self) -> Self {
        let company = Company {
            datacenter: "dc2".to_owned(),
            wan: Some(self.ports[4]),
            ..Company::alone()
        };
        let mut other = Self::launch(self.setup, company, ports());
        other.ready().await;
        until_ok(PATIENT, "dc1 to reach dc2", async || {
            let answer = self.get_as("/v1/catalog/service/consul?dc=dc2", None).await;
            if answer.contains("ServiceID") {
                Ok(())
            } else {
                Err(answer)
            }
        })
        .await;
        other
    }

    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.ports[0]))
    }

    /// Where HTTPS is served, with [`Setup::tls`].
    pub fn tls_address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.ports[5]))
    }

    /// The files of a client, with [`Setup::tls`]: the authority, a certificate and its key.
    pub fn client_files(&self) -> [PathBuf; 3] {
        ["authority.pem", "client.pem", "client.key"].map(|name| self.directory.path().join(name))
    }

    /// Where the servers of a cluster speak to each other.
    pub fn server_port(&self) -> u16 {
        self.ports[2]
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

    /// Starts a killed Consul on the ports it had.
    pub async fn restart(&mut self, data: Data) {
        if data == Data::Lost {
            let store = self.directory.path().join("data");
            let removed = fs::remove_dir_all(&store);
            assert!(removed.is_ok(), "can't empty {}: {removed:?}", store.display());
        }
        self.process = spawn(self.setup, &self.company, self.ports, &self.directory);
        self.ready().await;
    }

    /// Everything that Consul knows, as its own backups hold it.
    ///
    /// # Panics
    /// When Consul refuses.
    pub async fn snapshot(&self) -> Bytes {
        let answer = self.request(Method::GET, "/v1/snapshot", Bytes::new()).await;
        assert!(answer.status.is_success(), "no snapshot: {}", answer.text());
        answer.body
    }

    /// Sets Consul back to a snapshot.
    ///
    /// # Panics
    /// When Consul refuses.
    pub async fn restore(&self, snapshot: Bytes) {
        let answer = self.request(Method::PUT, "/v1/snapshot", snapshot).await;
        assert!(answer.status.is_success(), "not restored: {}", answer.text());
    }

    /// Sends a change.
    ///
    /// # Panics
    /// When Consul refuses.
    pub async fn put(&self, path: &str, body: &Value) -> Value {
        let answer = self.send(Method::PUT, path, body).await;
        assert!(
            answer.status.is_success(),
            "consul refused {path} {body}: {}",
            answer.text()
        );
        serde_json::from_slice(&answer.body).unwrap_or(Value::Null)
    }

    /// Registers in the catalog, without an agent that could take it back.
    pub async fn register(&self, registration: &Value) {
        self.put("/v1/catalog/register", registration).await;
    }

    /// Makes a token that may do what `rules` say.
    pub async fn token(&self, name: &str, rules: &str) -> String {
        self.put("/v1/acl/policy", &json!({ "Name": name, "Rules": rules }))
            .await;
        let token = json!({ "Policies": [{ "Name": name }] });
        let made = self.put("/v1/acl/token", &token).await;
        let text = |field: &str| made.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
        text("SecretID")
    }

    /// Takes a token away.
    ///
    /// # Panics
    /// When Consul refuses.
    pub async fn revoke(&self, secret: &str) {
        let found = self.get_as("/v1/acl/token/self", Some(secret)).await;
        let found: Value = serde_json::from_str(&found).unwrap_or(Value::Null);
        let accessor = found.get("AccessorID").and_then(Value::as_str).unwrap_or_default();
        let deleted = self
            .send(Method::DELETE, &format!("/v1/acl/token/{accessor}"), &Value::Null)
            .await;
        assert!(deleted.status.is_success(), "can't revoke: {}", deleted.text());
    }

    /// Reads with a token.
    pub async fn get_as(&self, path: &str, token: Option<&str>) -> String {
        let mut headers = http::HeaderMap::new();
        if let Some(Ok(token)) = token.map(HeaderValue::from_str) {
            headers.insert("X-Consul-Token", token);
        }
        let answer = self.http.get_with(self.address(), path, headers).await;
        answer.map_or_else(|error| error.to_string(), |answer| answer.text())
    }

    async fn send(&self, method: Method, path: &str, body: &Value) -> Answer {
        self.request(method, path, body.to_string().into()).await
    }

    async fn request(&self, method: Method, path: &str, body: Bytes) -> Answer {
        let mut request = Request::new(Full::from(body));
        *request.method_mut() = method;
        *request.uri_mut() = uri(&format!("http://{}{path}", self.address()));
        let token = HeaderValue::from_static(MANAGEMENT);
        if self.setup.acl {
            request.headers_mut().insert("X-Consul-Token", token);
        }
        let answer = self.http.send(request).await;
        answer.unwrap_or_else(|error| panic!("consul does not answer {path}: {error:#}"))
    }

    fn launch(setup: Setup, company: Company, ports: [u16; 6]) -> Self {
        let directory = TempDir::new().unwrap_or_else(|error| panic!("no directory for consul: {error}"));
        Self {
            setup,
            ports,
            http: Http::new(),
            process: spawn(setup, &company, ports, &directory),
            company,
            directory,
        }
    }

    /// Waits until there is a leader, and the management token works.
    async fn ready(&mut self) {
        let path = if self.setup.acl {
            "/v1/acl/token/self"
        } else {
            "/v1/catalog/service/consul"
        };
        until_ok(PATIENT, "consul to be ready", async || {
            assert!(self.process.is_running(), "consul ended:\n{}", self.process.log());
            let answer = self.get_as(path, self.setup.acl.then_some(MANAGEMENT)).await;
            if answer.contains("AccessorID") || answer.contains("ServiceID") {
                Ok(())
            } else {
                Err(answer)
            }
        })
        .await;
    }
}

fn uri(text: &str) -> http::Uri {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn ports() -> [u16; 6] {
    std::array::from_fn(|_| free_port())
}

fn spawn(setup: Setup, company: &Company, ports: [u16; 6], directory: &TempDir) -> Process {
    let local = |port: &u16| format!("127.0.0.1:{port}");
    let [api, dns, server, serf_lan, serf_wan, https] = ports;
    let mut config = json!({
        "ports": { "http": api, "https": -1, "grpc": -1, "grpc_tls": -1, "dns": dns, "server": server,
                   "serf_lan": serf_lan, "serf_wan": serf_wan },
        "node_name": format!("{}-{server}", company.datacenter), "datacenter": company.datacenter, "server": true,
        "bootstrap_expect": company.servers, "retry_join": company.lan.iter().map(local).collect::<Vec<_>>(),
        "retry_join_wan": company.wan.iter().map(local).collect::<Vec<_>>(), "primary_datacenter": "dc1",
        "retry_interval": "100ms", "retry_interval_wan": "100ms",
        "bind_addr": "127.0.0.1", "client_addr": "127.0.0.1",
        "disable_update_check": true, "log_level": "WARN", "leave_on_terminate": false,
        "performance": { "raft_multiplier": 1 }, "connect": { "enabled": false },
        "use_streaming_backend": !setup.without_streaming,
    });
    if setup.acl {
        config["acl"] = json!({ "enabled": true, "default_policy": "deny",
            "tokens": { "initial_management": MANAGEMENT, "agent": MANAGEMENT } });
    }
    if setup.tls {
        let authority = Authority::new(directory.path(), "authority");
        authority.sign("client");
        let own = authority.sign("server");
        config["ports"]["https"] = json!(https);
        config["tls"] = json!({ "https": { "ca_file": directory.path().join("authority.pem"), "verify_incoming": true,
            "cert_file": own.cert, "key_file": own.key } });
    }
    if setup.careless {
        config["discovery_max_stale"] = json!("10h");
    }
    if let Some(most) = setup.connections {
        config["limits"] = json!({ "http_max_conns_per_client": most });
    }
    let file = directory.path().join("consul.json");
    let written = fs::write(&file, config.to_string());
    assert!(written.is_ok(), "can't write {}: {written:?}", file.display());
    let mut command = Command::new(tool("servers/consul-1.22.5/consul", "make servers"));
    command
        .arg("agent")
        .arg("-data-dir")
        .arg(directory.path().join("data"))
        .arg("-config-file")
        .arg(&file);
    Process::spawn("consul", command, directory.path())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn consul_restarts_with_and_without_its_data() {
        let mut consul = Consul::start(Setup::default()).await;
        let service = json!({ "ID": "1", "Service": "web", "Port": 80 });
        let node = json!({ "Node": "outside", "Address": "127.0.0.1", "Service": service });
        consul.register(&node).await;
        consul.kill();
        consul.restart(Data::Kept).await;
        let listed = consul.get_as("/v1/catalog/service/web", None).await;
        assert!(listed.contains("outside"), "{listed}");
        consul.kill();
        consul.restart(Data::Lost).await;
        assert_eq!(consul.get_as("/v1/catalog/service/web", None).await, "[]");
    }
}

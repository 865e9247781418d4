//! A real Eureka of Spring Cloud, alone or in a pair, that can be killed, paused, restarted and locked.

pub mod shared;

use std::net::SocketAddr;
use std::process::Command;

use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::Full;
use hyper::body::Bytes;
use serde_json::Value;
use tempfile::TempDir;

use crate::claim::Turn;
use crate::http::{Answer, Http};
use crate::process::{Process, free_port, tool};
use crate::wait::{PATIENT, until_ok};

/// The only user of a server that asks for one.
pub const USER: &str = "reader";

/// How a server writes JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// What servers of today write: lists, and most numbers as texts.
    Legacy,
    /// What old servers wrote: a list of one is the thing itself, ports are texts.
    XStream,
    /// Lists, and numbers as numbers.
    Jackson,
}

impl Dialect {
    fn codec(self) -> &'static str {
        match self {
            Self::Legacy => "LegacyJacksonJson",
            Self::XStream => "XStreamJson",
            Self::Jackson => "JacksonJson",
        }
    }
}

/// One server; dropping it kills it. It keeps nothing on disk.
#[derive(Debug)]
pub struct Eureka {
    address: SocketAddr,
    arguments: Vec<String>,
    process: Process,
    http: Http,
    password: Option<String>,
    directory: TempDir,
}

impl Eureka {
    pub async fn start(dialect: Dialect) -> Self {
        Self::start_with(dialect, &[]).await
    }

    /// Starts with options of the server besides the harness's own. Each may be given once.
    pub async fn start_with(dialect: Dialect, options: &[&str]) -> Self {
        let address = address("127.0.0.1");
        let mut arguments = arguments(address, &[]);
        arguments.push(format!("--eureka.server.json-codec-name={}", dialect.codec()));
        arguments.extend(options.iter().map(|&option| option.to_owned()));
        let _turn = Turn::take().await;
        let mut eureka = Self::launch(address, arguments);
        eureka.ready().await;
        eureka
    }

    /// Starts a server that asks for [`USER`] and this password.
    pub async fn start_locked(password: &str) -> Self {
        let address = address("127.0.0.1");
        let mut arguments = arguments(address, &[]);
        arguments.extend(lock(password));
        let _turn = Turn::take().await;
        let mut eureka = Self::launch(address, arguments);
        eureka.password = Some(password.to_owned());
        eureka.ready().await;
        eureka
    }

    /// Starts two peers that tell each other everything.
    pub async fn start_pair() -> (Self, Self) {
        // Eureka takes a peer with its own host name for itself, whatever the port.
        let addresses = [address("127.0.0.1"), address("127.0.0.2")];
        let _turn = Turn::take().await;
        let [mut one, mut two] = addresses.map(|address| Self::launch(address, arguments(address, &addresses)));
        one.ready().await;
        two.ready().await;
        (one, two)
    }

    fn launch(address: SocketAddr, arguments: Vec<String>) -> Self {
        let directory = TempDir::new().unwrap_or_else(|error| panic!("no directory for Eureka: {error}"));
        let process = spawn(&arguments, &directory);
        Self {
            address,
            arguments,
            process,
            http: Http::new(),
            password: None,
            directory,
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
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

    /// Starts a killed server where it was. It has forgotten everything.
    pub async fn restart(&mut self) {
        let _turn = Turn::take().await;
        self.process = spawn(&self.arguments, &self.directory);
        self.ready().await;
    }

    /// The same, with another password.
    pub async fn restart_locked(&mut self, password: &str) {
        self.arguments.retain(|argument| !argument.contains("security.user"));
        self.arguments.extend(
            lock(password)
                .into_iter()
                .filter(|argument| argument.contains("security.user")),
        );
        self.password = Some(password.to_owned());
        self.restart().await;
    }

    /// Registers an instance as its JSON says.
    ///
    /// # Panics
    /// When the server refuses.
    pub async fn register(&self, app: &str, instance: &Value) {
        self.register_as_written(app, &instance.to_string()).await;
    }

    /// The same, with the fields in the order in which they are written: Eureka can't read every other one.
    ///
    /// # Panics
    /// When the server refuses.
    pub async fn register_as_written(&self, app: &str, instance: &str) {
        let body = format!(r#"{{"instance":{instance}}}"#);
        self.change(Method::POST, &format!("/apps/{app}"), body).await;
    }

    /// Removes an instance; one that is not there is gone already.
    pub async fn deregister(&self, app: &str, id: &str) {
        let answer = self
            .call(Method::DELETE, &format!("/apps/{app}/{id}"), String::new())
            .await;
        let done = answer
            .as_ref()
            .is_ok_and(|answer| answer.status.is_success() || answer.status == StatusCode::NOT_FOUND);
        assert!(done, "Eureka refused to remove {app}/{id}: {answer:?}");
    }

    /// Puts a status over that of an instance.
    pub async fn override_status(&self, app: &str, id: &str, status: &str) {
        self.change(
            Method::PUT,
            &format!("/apps/{app}/{id}/status?value={status}"),
            String::new(),
        )
        .await;
    }

    /// Takes the override away; the instance is what it says next.
    pub async fn end_override(&self, app: &str, id: &str, status: &str) {
        self.change(
            Method::DELETE,
            &format!("/apps/{app}/{id}/status?value={status}"),
            String::new(),
        )
        .await;
    }

    /// Whether the server lists an instance.
    pub async fn lists(&self, app: &str, id: &str) -> bool {
        let answer = self
            .call(Method::GET, &format!("/apps/{app}/{id}"), String::new())
            .await;
        answer.is_ok_and(|answer| answer.status == StatusCode::OK)
    }

    /// What the server answers to a question, as text.
    ///
    /// # Panics
    /// When there is no answer.
    pub async fn text(&self, path: &str) -> String {
        match self.call(Method::GET, path, String::new()).await {
            Ok(answer) => answer.text(),
            Err(error) => panic!("Eureka did not answer {path}: {error:#}"),
        }
    }

    async fn change(&self, method: Method, path: &str, body: String) {
        let answer = self.call(method, path, body).await;
        let done = answer.as_ref().is_ok_and(|answer| answer.status.is_success());
        assert!(done, "Eureka refused {path}: {answer:?}");
    }

    async fn call(&self, method: Method, path: &str, body: String) -> anyhow::Result<Answer> {
        let mut request = Request::new(Full::new(Bytes::from(body)));
        *request.method_mut() = method;
        *request.uri_mut() = format!("http://{}/eureka{path}", self.address).parse()?;
        let headers: &mut HeaderMap = request.headers_mut();
        headers.insert(header::ACCEPT, "application/json".parse()?);
        headers.insert(header::CONTENT_TYPE, "application/json".parse()?);
        if let Some(password) = &self.password {
            headers.insert(
                header::AUTHORIZATION,
                format!("Basic {}", base64(&format!("{USER}:{password}"))).parse()?,
            );
        }
        self.http.send(request).await
    }

    async fn ready(&mut self) {
        until_ok(3 * PATIENT, "Eureka to answer", async || {
            assert!(self.process.is_running(), "Eureka ended:\n{}", self.process.log());
            match self.call(Method::GET, "/apps", String::new()).await {
                Ok(answer) if answer.status == StatusCode::OK => Ok(()),
                Ok(answer) => Err(answer.status.to_string()),
                Err(error) => Err(error.to_string()),
            }
        })
        .await;
    }
}

fn address(host: &str) -> SocketAddr {
    let ip = host.parse().unwrap_or_else(|error| panic!("{host}: {error}"));
    SocketAddr::new(ip, free_port())
}

fn arguments(address: SocketAddr, peers: &[SocketAddr]) -> Vec<String> {
    let mut arguments = vec![
        format!("--server.address={}", address.ip()),
        format!("--server.port={}", address.port()),
        format!("--eureka.instance.hostname={}", address.ip()),
    ];
    let fixed = [
        "--spring.main.banner-mode=off",
        "--logging.level.root=warn",
        "--eureka.client.register-with-eureka=false",
        "--eureka.client.fetch-registry=false",
        "--eureka.server.wait-time-in-ms-when-sync-empty=0",
        "--eureka.server.enable-self-preservation=false",
        "--eureka.server.eviction-interval-timer-in-ms=1000",
        "--eureka.server.use-read-only-response-cache=false",
        "--eureka.server.response-cache-update-interval-ms=1000",
    ];
    arguments.extend(fixed.map(str::to_owned));
    if !peers.is_empty() {
        let urls: Vec<_> = peers.iter().map(|peer| format!("http://{peer}/eureka/")).collect();
        arguments.push(format!("--eureka.client.service-url.defaultZone={}", urls.join(",")));
    }
    arguments
}

fn lock(password: &str) -> Vec<String> {
    vec![
        "--leadsman.auth=true".to_owned(),
        format!("--spring.security.user.name={USER}"),
        format!("--spring.security.user.password={password}"),
    ]
}

fn spawn(arguments: &[String], directory: &TempDir) -> Process {
    tool("servers/eureka-2025.0.0/classes.jsa", "make servers");
    let jar = tool("servers/eureka-2025.0.0/eureka.jar", "make servers");
    let mut command = Command::new("java");
    command
        // The archive counts only for the class path it was made with, letter by letter, and that was a relative one.
        .current_dir(jar.parent().unwrap_or(&jar))
        .arg("-XX:SharedArchiveFile=classes.jsa")
        .args([
            "-Xmx128m",
            "-XX:TieredStopAtLevel=1",
            "-XX:+UseSerialGC",
            "-Djava.net.preferIPv4Stack=true",
        ])
        // What Tomcat unpacks.
        .arg(format!("-Djava.io.tmpdir={}", directory.path().display()))
        .args(["-jar", "eureka.jar"])
        .args(arguments);
    Process::spawn("eureka", command, directory.path())
}

/// As HTTP Basic wants it.
fn base64(text: &str) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut encoded = String::new();
    for chunk in text.as_bytes().chunks(3) {
        let bits = chunk.iter().fold(0_u32, |bits, &byte| bits << 8 | u32::from(byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let index = usize::try_from(bits >> (18 - 6 * place) & 63).unwrap_or_default();
            let letter = ALPHABET.get(index).copied().map_or('=', char::from);
            encoded.push(if place <= chunk.len() { letter } else { '=' });
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn credentials_are_encoded() {
        assert_eq!(base64("reader:secret"), "cmVhZGVyOnNlY3JldA==");
        assert_eq!(base64("abc"), "YWJj");
        assert_eq!(base64("ab"), "YWI=");
    }

    #[tokio::test]
    async fn a_server_forgets_everything_when_it_is_restarted() {
        let mut eureka = Eureka::start(Dialect::Legacy).await;
        let instance = json!({
            "instanceId": "x-1", "hostName": "127.0.0.1", "app": "X", "ipAddr": "127.0.0.1", "status": "UP",
            "port": { "$": 9001, "@enabled": "true" },
            "dataCenterInfo": { "@class": "com.netflix.appinfo.InstanceInfo$DefaultDataCenterInfo", "name": "MyOwn" },
        });
        eureka.register("X", &instance).await;
        assert!(eureka.lists("X", "x-1").await);
        eureka.kill();
        eureka.restart().await;
        assert!(!eureka.lists("X", "x-1").await);
    }
}

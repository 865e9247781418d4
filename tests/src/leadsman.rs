//! The real `leadsman` binary, started with a configuration of the test's own and asked through its public surface only.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use http::HeaderMap;
use serde_json::Value;
use tempfile::TempDir;

use crate::http::{Answer, Http};
use crate::process::{Process, built, free_port};
use crate::wait::{PATIENT, until_ok};

const BUILD: &str = "cargo build -p xds-server";

/// A running control plane with its own directory; dropping it kills it.
#[derive(Debug)]
pub struct Leadsman {
    xds: SocketAddr,
    admin: SocketAddr,
    http: Http,
    process: Process,
    directory: TempDir,
    /// What the configuration says under `xds`, beside the address.
    xds_keys: String,
}

impl Leadsman {
    /// Starts `leadsman serve` and waits until it is ready. `rest` is the configuration below `node`, `xds` and
    /// `admin`: `sources:` and whatever else the test needs.
    pub async fn start(rest: &str) -> Self {
        Self::start_in(
            TempDir::new().unwrap_or_else(|error| panic!("no directory: {error}")),
            rest,
        )
        .await
    }

    /// As [`Leadsman::start`], in a directory that holds the files its sources read.
    pub async fn start_in(directory: TempDir, rest: &str) -> Self {
        let leadsman = Self::launch_in(directory, rest);
        leadsman.ready().await;
        leadsman
    }

    /// Starts without waiting.
    pub fn launch_in(directory: TempDir, rest: &str) -> Self {
        Self::launch_with(directory, "", rest)
    }

    /// As [`Leadsman::launch_in`], with further keys under `xds`, such as `tls: { … }`.
    pub fn launch_with(directory: TempDir, xds_keys: &str, rest: &str) -> Self {
        let local = || SocketAddr::from(([127, 0, 0, 1], free_port()));
        let (xds, admin) = (local(), local());
        write_config(directory.path(), (xds, xds_keys), admin, rest);
        Self {
            xds,
            admin,
            http: Http::new(),
            process: spawn(directory.path()),
            directory,
            xds_keys: xds_keys.to_owned(),
        }
    }

    pub fn xds(&self) -> SocketAddr {
        self.xds
    }

    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    pub fn log(&self) -> String {
        self.process.log()
    }

    /// The resources of a type that it would send to a new client, as JSON.
    pub fn published(&self, of: &str) -> Value {
        let xds = self.xds().to_string();
        let node = ["--node-id", "watcher", "--count", "1", "-o", "json"];
        let output = run(&[&["xds", "watch", "--server", &xds, "--type", of], &node[..]].concat());
        assert!(output.status.success(), "{output:?}");
        let response: Result<Value, _> = serde_json::from_slice(&output.stdout);
        response.map_or_else(
            |error| panic!("no JSON: {error}"),
            |mut response| response["resources"].take(),
        )
    }

    /// Waits for `/readyz`.
    pub async fn ready(&self) {
        until_ok(PATIENT, "leadsman to be ready", async || {
            match self.http.get(self.admin, "/readyz").await {
                Ok(answer) if answer.status.is_success() => Ok(()),
                Ok(answer) => Err(answer.text()),
                Err(error) => Err(error.to_string()),
            }
        })
        .await;
    }

    /// Replaces the configuration file in one step, as an operator's tools do.
    pub fn configure(&self, rest: &str) {
        write_config(self.directory.path(), (self.xds, &self.xds_keys), self.admin, rest);
    }

    /// Starts again, on the same ports and in the same directory, and does not wait.
    pub fn restart(&mut self) {
        if self.process.is_running() {
            self.process.kill();
        }
        self.process = spawn(self.directory.path());
    }

    /// A JSON document of the admin API, once it is there.
    pub async fn api(&self, path: &str) -> Value {
        until_ok(PATIENT, path, async || {
            let answer = self.http.get(self.admin, path).await?;
            anyhow::ensure!(answer.status.is_success(), "{}: {}", answer.status, answer.text());
            anyhow::Ok(serde_json::from_slice(&answer.body)?)
        })
        .await
    }

    /// One answer of the admin API, whatever its status.
    ///
    /// # Errors
    /// When there is no answer at all.
    pub async fn get(&self, path: &str) -> anyhow::Result<Answer> {
        self.http.get(self.admin, path).await
    }

    /// # Errors
    /// When there is no answer at all.
    pub async fn post(&self, path: &str, headers: HeaderMap) -> anyhow::Result<Answer> {
        self.http.post(self.admin, path, headers).await
    }

    /// The value of one metric, labels included in the name, such as `leadsman_x_total{source="shop"}`.
    pub async fn metric(&self, name: &str) -> Option<f64> {
        let text = self.http.get(self.admin, "/metrics").await.ok()?.text();
        let mut values = text
            .lines()
            .filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        values.next()?.trim().parse().ok()
    }

    /// Runs a verb of the command line against this server.
    pub fn ask(&self, arguments: &[&str]) -> Output {
        let server = format!("http://{}", self.admin);
        run(&[arguments, &["--server", &server]].concat())
    }

    /// What `leadsman bootstrap` prints for an Envoy of this server, as JSON, with the Envoy's own admin port.
    ///
    /// # Panics
    /// When the verb fails, or prints no YAML.
    pub fn bootstrap(&self, node: &str, envoy_admin: u16) -> Value {
        self.bootstrap_via(self.xds, node, envoy_admin)
    }

    /// As [`Leadsman::bootstrap`], for an Envoy that reaches this server at another address.
    ///
    /// # Panics
    /// When the verb fails, or prints no YAML.
    pub fn bootstrap_via(&self, xds: SocketAddr, node: &str, envoy_admin: u16) -> Value {
        self.bootstrap_with(xds, node, envoy_admin, &[])
    }

    /// As [`Leadsman::bootstrap_via`], with further flags.
    ///
    /// # Panics
    /// When the verb fails, or prints no YAML.
    pub fn bootstrap_with(&self, xds: SocketAddr, node: &str, envoy_admin: u16, flags: &[&str]) -> Value {
        let (xds, admin) = (xds.to_string(), format!("127.0.0.1:{envoy_admin}"));
        let verb = ["bootstrap", "--node-id", node, "--xds", &xds, "--admin", &admin];
        let output = run(&[&verb, flags].concat());
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8_lossy(&output.stdout);
        serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("no bootstrap: {error}\n{text}"))
    }
}

/// Runs a verb of the command line to its end.
///
/// # Panics
/// When the binary is not built, or does not start.
pub fn run(arguments: &[&str]) -> Output {
    let output = Command::new(binary()).args(arguments).output();
    output.unwrap_or_else(|error| panic!("leadsman {arguments:?}: {error}"))
}

/// The program.
///
/// # Panics
/// When it is not built.
pub fn binary() -> PathBuf {
    built("leadsman", BUILD)
}

fn spawn(directory: &Path) -> Process {
    let mut command = Command::new(binary());
    command
        .arg("serve")
        .arg("--config")
        .arg("leadsman.yaml")
        .current_dir(directory);
    Process::spawn("leadsman", command, directory)
}

fn write_config(directory: &Path, (xds, keys): (SocketAddr, &str), admin: SocketAddr, rest: &str) {
    let head = format!("node: {{ id: cp-1 }}\nxds: {{ listen: '{xds}', {keys} }}\nadmin: {{ listen: '{admin}' }}\n");
    replace(&directory.join("leadsman.yaml"), &format!("{head}{rest}"));
}

/// Writes a file so that nobody sees half of it.
///
/// # Panics
/// When the directory can't be written.
pub fn replace(path: &Path, content: &str) {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    let done = fs::write(&new, content).and_then(|()| fs::rename(&new, path));
    assert!(done.is_ok(), "can't write {}: {done:?}", path.display());
}

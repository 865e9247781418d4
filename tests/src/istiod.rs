//! A real istiod that reads its services from an xDS server, on a real kube-apiserver that has nothing for it.

mod sidecar;

use std::fs;
use std::net::SocketAddr;
use std::process::Command;

use serde_json::json;
use tempfile::TempDir;

pub use sidecar::{Cluster, Member, Mesh, Sidecar};

use crate::http::Http;
use crate::kubernetes::{ADMIN, Kubernetes, Setup};
use crate::process::{Process, free_port, tool};
use crate::wait::{PATIENT, until_ok};

/// One control plane of Istio; dropping it kills it.
#[derive(Debug)]
pub struct Istiod {
    grpc: SocketAddr,
    web: SocketAddr,
    http: Http,
    process: Process,
    _kubernetes: Kubernetes,
    _directory: TempDir,
}

impl Istiod {
    /// Starts one that reads `source`, and does not wait until it has.
    ///
    /// # Panics
    /// When it is not built, or its files can't be written.
    pub async fn launch(source: SocketAddr) -> Self {
        let kubernetes = Kubernetes::start(Setup::default()).await;
        let namespace = json!({ "metadata": { "name": "istio-system" } });
        kubernetes.api().create("/api/v1/namespaces", &namespace).await;
        let directory = TempDir::new().unwrap_or_else(|error| panic!("no directory for istiod: {error}"));
        let local = || SocketAddr::from(([127, 0, 0, 1], free_port()));
        let (grpc, web, monitoring) = (local(), local(), local());
        let write = |name: &str, text: String| {
            let path = directory.path().join(name);
            let written = fs::write(&path, text);
            assert!(written.is_ok(), "can't write {}: {written:?}", path.display());
            path
        };
        let kubeconfig = write("kubeconfig", kubeconfig(&kubernetes));
        let mesh = write(
            "mesh.yaml",
            json!({ "configSources": [{ "address": format!("xds://{source}") }] }).to_string(),
        );
        let mut command = Command::new(tool("servers/istiod-eed52ebb66ad/istiod", "make servers"));
        command
            .env("PILOT_CERT_PROVIDER", "none")
            .env("ENABLE_CA_SERVER", "false")
            .arg("discovery")
            .arg("--kubeconfig")
            .arg(kubeconfig)
            .arg("--meshConfig")
            .arg(mesh)
            .args(["-n", "istio-system", "--ctrlz_port", "0"])
            .args(["--httpsAddr", "", "--secureGRPCAddr", ""])
            .args(["--grpcAddr", &grpc.to_string(), "--httpAddr", &web.to_string()])
            .args(["--monitoringAddr", &monitoring.to_string()]);
        Self {
            grpc,
            web,
            http: Http::new(),
            process: Process::spawn("istiod", command, directory.path()),
            _kubernetes: kubernetes,
            _directory: directory,
        }
    }

    /// Waits until it has read its source, and serves.
    ///
    /// # Panics
    /// When it ends.
    pub async fn ready(&mut self) {
        until_ok(PATIENT, "istiod to be ready", async || {
            assert!(self.process.is_running(), "istiod ended:\n{}", self.process.log());
            match self.http.get(self.web, "/ready").await {
                Ok(answer) if answer.status.is_success() => Ok(()),
                Ok(answer) => Err(answer.text()),
                Err(error) => Err(error.to_string()),
            }
        })
        .await;
    }

    /// Whether it says that it is ready, right now.
    pub async fn is_ready(&self) -> bool {
        let answer = self.http.get(self.web, "/ready").await;
        answer.is_ok_and(|answer| answer.status.is_success())
    }

    pub fn log(&self) -> String {
        self.process.log()
    }

    /// A proxy of the mesh, as far as discovery goes.
    pub async fn sidecar(&self) -> Sidecar {
        Sidecar::connect(self.grpc).await
    }
}

fn kubeconfig(kubernetes: &Kubernetes) -> String {
    let cluster = json!({
        "server": format!("https://{}", kubernetes.address()),
        "certificate-authority": kubernetes.file("ca.pem"),
    });
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": "one", "cluster": cluster }],
        "users": [{ "name": "admin", "user": { "token": ADMIN } }],
        "contexts": [{ "name": "one", "context": { "cluster": "one", "user": "admin" } }],
        "current-context": "one",
    })
    .to_string()
}

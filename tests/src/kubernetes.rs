//! A real kube-apiserver on a real etcd, that can be killed, paused, restarted, emptied, locked, and made to forget.
//!
//! Nothing runs beside it: no controller writes slices, no node has pods. What a test writes is all there is.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Weak};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use reqwest::{Method, StatusCode};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::Mutex;

use crate::etcd::{self, Etcd, Version};
use crate::process::{Process, free_port, tool};
use crate::proxy::Proxy;
use crate::wait::{PATIENT, until_ok};

/// The token that may do everything.
pub const ADMIN: &str = "admin-token-0001";
/// The token of a user without any right of its own.
pub const READER: &str = "reader-token-0002";
/// The name of that user, and of the one in the client certificate.
pub const READER_NAME: &str = "reader";

/// Everything that slices, namespaces and rights need, and nothing else: it starts in a third of the time.
const APIS: &str = "api/all=false,api/v1=true,discovery.k8s.io/v1=true,apiregistration.k8s.io/v1=true,\
    rbac.authorization.k8s.io/v1=true,admissionregistration.k8s.io/v1=true,coordination.k8s.io/v1=true,\
    authentication.k8s.io/v1=true,authorization.k8s.io/v1=true,networking.k8s.io/v1=true,apiextensions.k8s.io/v1=true";
const LEFT_OUT: &str = "ServiceAccount,ValidatingAdmissionPolicy,MutatingAdmissionPolicy,Priority,RuntimeClass,\
    DefaultIngressClass,DefaultStorageClass,StorageObjectInUseProtection,PersistentVolumeClaimResize";

/// One request.
const TIMEOUT: Duration = Duration::from_secs(20);

/// How a cluster is set up.
#[derive(Clone, Copy, Debug, Default)]
pub struct Setup {
    /// Every user may do only what a role says.
    pub rbac: bool,
    /// Slices are read from etcd rather than from a cache: no bookmarks, and what etcd forgets is forgotten.
    pub uncached: bool,
    /// The server makes etcd forget whatever is older than a second or two.
    pub forgetful: bool,
    /// A proxy between the server and its etcd.
    pub relayed: bool,
}

/// What remains of a cluster that is restarted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Data {
    Kept,
    /// Nothing; versions count from the start again.
    Lost,
}

/// One cluster; dropping it kills it and deletes its data.
#[derive(Debug)]
pub struct Kubernetes {
    setup: Setup,
    port: u16,
    pub etcd: Etcd,
    /// Between the server and its etcd.
    pub relay: Option<Proxy>,
    process: Process,
    directory: TempDir,
}

/// A client of the API with all rights.
#[derive(Clone, Debug)]
pub struct Api {
    client: reqwest::Client,
    base: String,
    token: String,
}

impl Kubernetes {
    pub async fn start(setup: Setup) -> Self {
        let directory = TempDir::new().unwrap_or_else(|error| panic!("no directory for kubernetes: {error}"));
        let made = make_keys(directory.path());
        assert!(made.is_ok(), "no keys for kubernetes: {made:?}");
        let etcd = Etcd::start(Version::V36).await;
        let relay = match setup.relayed {
            true => Some(Proxy::start(etcd.address()).await),
            false => None,
        };
        let store = relay.as_ref().map_or(etcd.address(), Proxy::address);
        let port = free_port();
        let mut cluster = Self {
            setup,
            port,
            process: spawn(setup, port, store, directory.path()),
            etcd,
            relay,
            directory,
        };
        cluster.ready().await;
        cluster
    }

    /// The cluster that all tests of this process share, each in a namespace of its own. It ends with its last user.
    pub async fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<Kubernetes>> = Mutex::const_new(Weak::new());
        let mut shared = SHARED.lock().await;
        if let Some(running) = shared.upgrade() {
            return running;
        }
        let setup = Setup {
            rbac: true,
            ..Setup::default()
        };
        let started = Arc::new(Self::start(setup).await);
        *shared = Arc::downgrade(&started);
        started
    }

    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// A file of its directory: `ca.pem`, `reader.pem`, `reader.key`.
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A client for the present runtime.
    ///
    /// # Panics
    /// When the certificates can't be used.
    pub fn api(&self) -> Api {
        let client = client(&self.file("ca.pem")).unwrap_or_else(|error| panic!("no client: {error:#}"));
        Api {
            client,
            base: format!("https://{}", self.address()),
            token: ADMIN.to_owned(),
        }
    }

    /// `SIGKILL`, of the server alone.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// `SIGTERM`, of the server alone: its watches end in order.
    pub fn terminate(&mut self) {
        self.process.terminate();
    }

    /// `SIGSTOP`: accepts connections and answers nothing.
    pub fn pause(&self) {
        self.process.pause();
    }

    /// `SIGCONT`.
    pub fn resume(&self) {
        self.process.resume();
    }

    /// Starts a killed cluster where it was.
    pub async fn restart(&mut self, data: Data) {
        if data == Data::Lost {
            self.etcd.kill();
            self.etcd.restart(etcd::Data::Lost).await;
        }
        let store = self.relay.as_ref().map_or(self.etcd.address(), Proxy::address);
        self.process = spawn(self.setup, self.port, store, self.directory.path());
        self.ready().await;
    }

    async fn ready(&mut self) {
        let api = self.api();
        until_ok(PATIENT, "kube-apiserver to be ready", async || {
            assert!(
                self.process.is_running(),
                "kube-apiserver ended:\n{}",
                self.process.log()
            );
            let (status, body) = api.send(Method::GET, "/readyz", None).await?;
            anyhow::ensure!(status == StatusCode::OK, "{status}: {body}");
            anyhow::Ok(())
        })
        .await;
    }
}

impl Api {
    /// Creates an object below a path, such as `/api/v1/namespaces`, and returns it.
    ///
    /// # Panics
    /// When the server refuses.
    pub async fn create(&self, path: &str, object: &Value) -> Value {
        self.change(Method::POST, path, Some(object)).await
    }

    /// Replaces an object.
    ///
    /// # Panics
    /// When the server refuses.
    pub async fn replace(&self, path: &str, object: &Value) -> Value {
        self.change(Method::PUT, path, Some(object)).await
    }

    /// # Panics
    /// When the server refuses.
    pub async fn delete(&self, path: &str) {
        self.change(Method::DELETE, path, None).await;
    }

    /// Lets a user list and watch the slices of a namespace.
    pub async fn allow(&self, namespace: &str, user: &Value) {
        let roles = format!("/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}");
        let rules = json!([{ "apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"],
            "verbs": ["list", "watch"] }]);
        self.create(
            &format!("{roles}/roles"),
            &json!({ "metadata": { "name": "slices" }, "rules": rules }),
        )
        .await;
        let role = json!({ "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "slices" });
        let binding = json!({ "metadata": { "name": "slices" }, "roleRef": role, "subjects": [user] });
        self.create(&format!("{roles}/rolebindings"), &binding).await;
    }

    /// Takes that right away.
    pub async fn disallow(&self, namespace: &str) {
        let roles = format!("/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}");
        self.delete(&format!("{roles}/rolebindings/slices")).await;
        self.delete(&format!("{roles}/roles/slices")).await;
    }

    /// A token of a service account.
    ///
    /// # Panics
    /// When the server refuses.
    pub async fn token(&self, namespace: &str, account: &str) -> String {
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token");
        let made = self.create(&path, &json!({ "spec": {} })).await;
        made["status"]["token"].as_str().unwrap_or_default().to_owned()
    }

    async fn change(&self, method: Method, path: &str, body: Option<&Value>) -> Value {
        // A server that has just started may still be busy with itself.
        until_ok(PATIENT, path, async || {
            let (status, answer) = self.send(method.clone(), path, body).await?;
            assert!(
                status.is_success() || status.is_server_error(),
                "kubernetes refused {method} {path} {body:?}: {answer}"
            );
            anyhow::ensure!(status.is_success(), "{status}: {answer}");
            Ok(serde_json::from_str(&answer).unwrap_or(Value::Null))
        })
        .await
    }

    async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> anyhow::Result<(StatusCode, String)> {
        let mut request = self.client.request(method, format!("{}{path}", self.base));
        request = request.bearer_auth(&self.token).timeout(TIMEOUT);
        if let Some(body) = body {
            request = request
                .header("Content-Type", "application/json")
                .body(body.to_string());
        }
        let response = request.send().await?;
        Ok((response.status(), response.text().await?))
    }
}

/// The path of the slices of a namespace.
pub fn slices(namespace: &str) -> String {
    format!("/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices")
}

fn client(ca: &Path) -> anyhow::Result<reqwest::Client> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca)?)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(reqwest::Client::builder()
        .no_proxy()
        .tls_backend_preconfigured(tls)
        .build()?)
}

/// An authority, the server's certificate, a client's, a key for the tokens of service accounts, and tokens.
fn make_keys(directory: &Path) -> anyhow::Result<()> {
    let mut authority = CertificateParams::new(Vec::new())?;
    authority.distinguished_name.push(DnType::CommonName, "authority");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;
    let write = |name: &str, text: String| fs::write(directory.join(name), text);
    write("ca.pem", authority.pem())?;
    let sign = |name: &str, hosts: Vec<String>, purpose: ExtendedKeyUsagePurpose| -> anyhow::Result<()> {
        let mut params = CertificateParams::new(hosts)?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![purpose];
        let key = KeyPair::generate()?;
        write(&format!("{name}.pem"), params.signed_by(&key, &authority)?.pem())?;
        write(&format!("{name}.key"), key.serialize_pem())?;
        Ok(())
    };
    let hosts = ["127.0.0.1", "localhost", "kubernetes.default.svc"].map(str::to_owned);
    sign("kube-apiserver", hosts.into(), ExtendedKeyUsagePurpose::ServerAuth)?;
    sign(READER_NAME, Vec::new(), ExtendedKeyUsagePurpose::ClientAuth)?;
    let accounts = KeyPair::generate()?;
    write("accounts.key", accounts.serialize_pem())?;
    write("accounts.pub", accounts.public_key_pem())?;
    write(
        "tokens.csv",
        format!("{ADMIN},admin,u1,\"system:masters\"\n{READER},{READER_NAME},u2,\"readers\"\n"),
    )?;
    Ok(())
}

fn spawn(setup: Setup, port: u16, store: SocketAddr, directory: &Path) -> Process {
    let file = |name: &str| directory.join(name).display().to_string();
    let mut command = Command::new(tool("servers/kube-apiserver-1.36.3/kube-apiserver", "make servers"));
    let arguments = [
        format!("--etcd-servers=http://{store}"),
        format!("--etcd-compaction-interval={}s", u8::from(setup.forgetful)),
        "--bind-address=127.0.0.1".to_owned(),
        "--advertise-address=127.0.0.1".to_owned(),
        "--endpoint-reconciler-type=none".to_owned(),
        format!("--secure-port={port}"),
        format!("--cert-dir={}", file("made")),
        format!("--tls-cert-file={}", file("kube-apiserver.pem")),
        format!("--tls-private-key-file={}", file("kube-apiserver.key")),
        format!("--client-ca-file={}", file("ca.pem")),
        format!("--token-auth-file={}", file("tokens.csv")),
        "--anonymous-auth=false".to_owned(),
        format!(
            "--authorization-mode={}",
            if setup.rbac { "RBAC" } else { "AlwaysAllow" }
        ),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        format!("--service-account-key-file={}", file("accounts.pub")),
        format!("--service-account-signing-key-file={}", file("accounts.key")),
        "--service-cluster-ip-range=10.0.0.0/24".to_owned(),
        "--shutdown-watch-termination-grace-period=1s".to_owned(),
        "--enable-priority-and-fairness=false".to_owned(),
        "--profiling=false".to_owned(),
        format!("--runtime-config={APIS}"),
        format!("--disable-admission-plugins={LEFT_OUT}"),
    ];
    command.args(arguments);
    if setup.uncached {
        command.arg("--watch-cache-sizes=endpointslices.discovery.k8s.io#0");
    }
    Process::spawn("kube-apiserver", command, directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn kubernetes_restarts_with_and_without_its_data() {
        let mut cluster = Kubernetes::start(Setup::default()).await;
        let api = cluster.api();
        let namespace = json!({ "metadata": { "name": "shop" } });
        api.create("/api/v1/namespaces", &namespace).await;
        let slice = json!({ "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": { "name": "web" }, "addressType": "IPv4", "endpoints": [] });
        api.create(&slices("shop"), &slice).await;
        cluster.kill();
        cluster.restart(Data::Kept).await;
        api.delete(&format!("{}/web", slices("shop"))).await;
        cluster.kill();
        cluster.restart(Data::Lost).await;
        api.create("/api/v1/namespaces", &namespace).await;
    }
}

//! TLS between Envoy and the server, with certificates made for the test.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use leadsman_tests::envoy::Envoy;
use leadsman_tests::leadsman::{Leadsman, run};
use leadsman_tests::process::free_port;
use leadsman_tests::wait::{PATIENT, throughout, until};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use tempfile::TempDir;

/// An authority that signs for both ends.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, "authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Self { issuer }
    }

    /// Writes `NAME.pem` and `NAME.key`.
    fn sign(&self, directory: &Path, name: &str, purpose: ExtendedKeyUsagePurpose) -> (PathBuf, PathBuf) {
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        // A subject that is also its issuer is taken for self-signed.
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![purpose];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let paths = (
            directory.join(format!("{name}.pem")),
            directory.join(format!("{name}.key")),
        );
        fs::write(&paths.0, certificate.pem()).unwrap();
        fs::write(&paths.1, key.serialize_pem()).unwrap();
        paths
    }
}

/// Certificates for both ends, from an authority of their own.
fn certify(directory: &Path) {
    let authority = Authority::new();
    fs::write(directory.join("ca.pem"), authority.issuer.pem()).unwrap();
    authority.sign(directory, "server", ExtendedKeyUsagePurpose::ServerAuth);
    authority.sign(directory, "envoy", ExtendedKeyUsagePurpose::ClientAuth);
}

async fn server() -> Leadsman {
    let directory = TempDir::new().unwrap();
    certify(directory.path());
    fs::create_dir(directory.path().join("services")).unwrap();
    let service = "service: orders\nendpoints: [{ address: 127.0.0.1, port: 9001 }]\n";
    fs::write(directory.path().join("services/orders.yaml"), service).unwrap();
    let tls = "tls: { cert: server.pem, key: server.key, client_ca: ca.pem }";
    let leadsman = Leadsman::launch_with(directory, tls, "sources: { local: { file: { path: services/ } } }\n");
    leadsman.ready().await;
    leadsman
}

fn envoy(leadsman: &Leadsman, files: &[(&str, &str)]) -> Envoy {
    let path = |file: &str| leadsman.directory().join(file).display().to_string();
    let flags: Vec<String> = files
        .iter()
        .flat_map(|(flag, file)| [(*flag).to_owned(), path(file)])
        .collect();
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let bootstrap = leadsman.bootstrap_with(leadsman.xds(), "secure", free_port(), &flags);
    Envoy::launch(&bootstrap, 1)
}

const FILES: [(&str, &str); 3] = [
    ("--tls-ca", "ca.pem"),
    ("--tls-cert", "envoy.pem"),
    ("--tls-key", "envoy.key"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_certificates_serve_those_who_come_and_cost_nobody_a_connection() {
    let leadsman = server().await;
    let before = envoy(&leadsman, &FILES);
    until(PATIENT, "orders under the old authority", async || {
        !before.hosts("orders").await.is_empty()
    })
    .await;
    let connected = leadsman.api("/api/v1/proxies").await[0]["connected_since"].clone();
    fs::write(leadsman.directory().join("server.key"), "half a rotation").unwrap();
    until(PATIENT, "the mistake to be told", async || {
        leadsman
            .log()
            .contains("the new certificates can't be used; the old ones stay")
    })
    .await;
    certify(leadsman.directory());
    until(PATIENT, "the new pair to be told", async || {
        leadsman.log().contains("new certificates")
    })
    .await;
    let after = envoy(&leadsman, &FILES);
    until(PATIENT, "orders under the new authority", async || {
        !after.hosts("orders").await.is_empty()
    })
    .await;
    let proxies = leadsman.api("/api/v1/proxies").await;
    assert_eq!(proxies.as_array().unwrap().len(), 2, "{proxies}");
    assert_eq!(proxies[0]["connected_since"], connected, "{proxies}");
    before.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_envoy_with_a_certificate_is_served() {
    let leadsman = server().await;
    let envoy = envoy(&leadsman, &FILES);
    until(PATIENT, "orders over TLS", async || {
        envoy.is_ready().await && !envoy.hosts("orders").await.is_empty()
    })
    .await;
    envoy.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_no_certificate_gets_nothing() {
    let leadsman = server().await;
    let _without = envoy(&leadsman, &[("--tls-ca", "ca.pem")]);
    throughout(Duration::from_secs(3), "no proxy", async || {
        leadsman.api("/api/v1/proxies").await == serde_json::json!([])
    })
    .await;
    let xds = leadsman.xds().to_string();
    let plaintext = tokio::task::spawn_blocking(move || {
        run(&[
            "xds", "watch", "--server", &xds, "--type", "eds", "--names", "orders", "--count", "1",
        ])
    });
    assert_eq!(plaintext.await.unwrap().status.code(), Some(69));
}

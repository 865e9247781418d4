//! Who may do what: tokens, certificates, and peers that mean no good.

use std::fs;
use std::path::Path;

use http::Method;
use leadsman_registry::SourceState;
use leadsman_tests::instance::Instance;
use leadsman_tests::leadsman::{binary, replace};
use leadsman_tests::process::Process;
use leadsman_tests::registrar::{LASTING, Registrar, body, path};
use leadsman_tests::rigs::registry::Embedded;
use leadsman_tests::wait::{PATIENT, until};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::world::World;

const SHOP: &str = "shop-0123456789abcdef";
const OPERATORS: &str = "operators-0123456789abcdef";

fn tokens(namespaces_of_shop: &str) -> String {
    format!(
        "tokens:\n  - {{ name: shop-team, token: {SHOP}, namespaces: [{namespaces_of_shop}] }}\n  \
         - {{ name: operators, token: {OPERATORS}, namespaces: ['*'] }}\n"
    )
}

async fn put(registrar: &Registrar, service: &str) -> (u16, Value) {
    let body = body(Instance::new(9001), LASTING);
    registrar.ask(Method::PUT, &path(service, 9001), Some(body)).await
}

#[tokio::test]
async fn a_token_changes_its_own_namespaces_and_reads_everything() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("tokens.yaml");
    replace(&file, &tokens("shop"));
    let mut world = World::start_in(directory, "tokens: tokens.yaml").await;
    let nobody = world.registrar.clone();
    let (shop, operators) = (nobody.with_token(SHOP), nobody.with_token(OPERATORS));
    let code = |(status, answer): (u16, Value)| (status, answer["code"].as_str().unwrap_or("ok").to_owned());
    let (ok, forbidden) = ((200, "ok".to_owned()), (403, "forbidden".to_owned()));
    let unauthenticated = (401, "unauthenticated".to_owned());
    assert_eq!(code(put(&nobody, "shop.orders").await), unauthenticated);
    assert_eq!(
        code(put(&nobody.with_token(&SHOP[1..]), "shop.orders").await),
        unauthenticated
    );
    assert_eq!(code(put(&shop, "shop.orders").await), ok);
    assert_eq!(code(put(&shop, "shopping").await), forbidden);
    assert_eq!(code(put(&operators, "shopping").await), ok);
    for (method, below) in [
        (Method::DELETE, ""),
        (Method::PUT, "/draining"),
        (Method::DELETE, "/draining"),
        (Method::PUT, "/lease/00000000000000ab"),
    ] {
        let path = format!("{}{below}", path("shopping", 9001));
        assert_eq!(code(shop.ask(method.clone(), &path, None).await), forbidden);
        assert_eq!(code(nobody.ask(method, &path, None).await), unauthenticated);
    }
    for list in ["/v1/instances", &path("shopping", 9001)] {
        assert_eq!(code(shop.ask(Method::GET, list, None).await), ok);
        assert_eq!(code(nobody.ask(Method::GET, list, None).await), unauthenticated);
    }
    // A right that is given or taken holds within moments, without a restart.
    replace(&file, &tokens("cart"));
    until(PATIENT, "the new rights", async || code(put(&shop, "cart").await) == ok).await;
    assert_eq!(code(put(&shop, "shop.orders").await), forbidden);
    assert_eq!(code(shop.ask(Method::GET, &path("shop.orders", 9001), None).await), ok);
    fs::remove_file(&file).unwrap();
    world.leadsman.process().kill();
    world.leadsman.restart();
    // A registry that can't tell who may do what lets nobody do anything, and goes on telling what is registered.
    until(PATIENT, "the instances", async || {
        world.members("shop.orders").await.len() == 1
    })
    .await;
    assert_eq!(code(put(&operators, "cart").await), (503, "unavailable".to_owned()));
    let log = world.leadsman.log();
    assert!(
        !log.contains("0123456789abcdef") && log.contains("the file of tokens can't be used"),
        "{log}"
    );
}

#[tokio::test]
async fn a_browser_is_not_spoken_to() {
    let rig = Embedded::start().await;
    let observed = rig.observe();
    observed.enters(&[SourceState::Live]).await;
    let mut stream = TcpStream::connect(rig.registrar().address).await.unwrap();
    let request = "GET /v1/instances HTTP/1.1\r\nhost: a\r\norigin: http://a\r\nconnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
}

#[tokio::test]
async fn garbage_and_silence_disturb_nobody() {
    let rig = Embedded::start().await;
    let observed = rig.observe();
    observed.enters(&[SourceState::Live]).await;
    let mut held = Vec::new();
    for seed in 0_u8..100 {
        let mut stream = TcpStream::connect(rig.registrar().address).await.unwrap();
        let garbage: Vec<u8> = (0..2048_u16)
            .map(|n| seed.wrapping_mul(31).wrapping_add(n.to_le_bytes()[0]))
            .collect();
        // The server may have hung up on the first bytes already.
        let sent = match seed % 4 {
            0 => stream.write_all(&garbage).await,
            1 => {
                stream
                    .write_all(b"PUT /v1/services/a/instances/b HTTP/1.1\r\ncontent-length: 60000\r\n\r\n{")
                    .await
            }
            2 => stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await,
            _ => Ok(()),
        };
        drop(sent);
        held.push(stream);
    }
    rig.registrar().put("orders", Instance::new(9001), LASTING).await;
    // A listing that claims to be endless, and a body that is.
    let huge = format!(
        "GET /v1/instances?after={} HTTP/1.1\r\nhost: a\r\n\r\n",
        "x".repeat(1 << 20)
    );
    let mut stream = TcpStream::connect(rig.registrar().address).await.unwrap();
    let _ = stream.write_all(huge.as_bytes()).await;
    rig.registrar().put("orders", Instance::new(9002), LASTING).await;
    drop(held);
}

/// An authority that signs for both ends.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    /// Writes its certificate as `NAME.pem`.
    fn new(directory: &Path, name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        fs::write(directory.join(format!("{name}.pem")), issuer.pem()).unwrap();
        Self { issuer }
    }

    /// Writes `NAME.pem` and `NAME.key`.
    fn sign(&self, directory: &Path, name: &str, purpose: ExtendedKeyUsagePurpose) {
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        // A subject that is also its issuer is taken for self-signed.
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![purpose];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        replace(&directory.join(format!("{name}.pem")), &certificate.pem());
        replace(&directory.join(format!("{name}.key")), &key.serialize_pem());
    }
}

/// Registers over TLS, and says how the command ended at once, if it did.
fn register(world: &World, flags: &[&str]) -> Process {
    let directory = world.leadsman.directory();
    let mut command = std::process::Command::new(binary());
    command
        .args([
            "register",
            "orders",
            "--address",
            "127.0.0.1:9001",
            "--wait",
            "0s",
            "--server",
        ])
        .arg(format!("https://{}", world.registrar.address))
        .args(flags)
        .current_dir(directory);
    let name = format!("register-{}", flags.join("").replace(['/', '.'], ""));
    Process::spawn(&name, command, directory)
}

#[tokio::test]
async fn certificates_are_asked_for_and_exchanged_while_it_runs() {
    let directory = TempDir::new().unwrap();
    let (server, client) = (ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth);
    let first = Authority::new(directory.path(), "first");
    let second = Authority::new(directory.path(), "second");
    first.sign(directory.path(), "server", server.clone());
    first.sign(directory.path(), "client", client.clone());
    let tls = "tls: { cert: server.pem, key: server.key, client_ca: first.pem }";
    let world = World::start_in(directory, tls).await;
    let us = ["--tls-cert", "client.pem", "--tls-key", "client.key"];
    let trusting = |authority: &'static str| [&["--tls-ca", authority][..], &us].concat();
    let mut good = register(&world, &trusting("first.pem"));
    until(PATIENT, "the registration", async || {
        good.log().contains("registered orders")
    })
    .await;
    let ended = |mut process: Process| process.wait(PATIENT).code();
    assert_eq!(ended(register(&world, &trusting("second.pem"))), Some(69));
    assert_eq!(
        ended(register(&world, &["--tls-ca", "first.pem"])),
        Some(69),
        "no certificate of ours"
    );
    assert!(good.is_running());
    // Half of a pair is no pair; the former one goes on until both are there.
    second.sign(world.leadsman.directory(), "server", server);
    until(PATIENT, "the new certificate", async || {
        let mut process = register(&world, &trusting("second.pem"));
        until(PATIENT, "an outcome", async || {
            !process.is_running() || process.log().ends_with("ttl=30s\n")
        })
        .await;
        process.is_running()
    })
    .await;
}

//! How a source gets in, and what happens when it may not any more.

use std::fmt::Write;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use leadsman_core::model::Evidence;
use leadsman_registry::SourceState;
use leadsman_registry::kubernetes::{Config, Kubernetes as Adapter};
use leadsman_tests::contract::Subject;
use leadsman_tests::http::Http;
use leadsman_tests::instance::Instance;
use leadsman_tests::judged::Locked;
use leadsman_tests::kubernetes::{READER, READER_NAME};
use leadsman_tests::leadsman::binary;
use leadsman_tests::observed::{Note, Observed};
use leadsman_tests::process::{Process, free_port};
use leadsman_tests::rigs::kubernetes::Rig;
use leadsman_tests::wait::{PATIENT, until};
use serde_json::json;
use tempfile::TempDir;

/// Longer than everything that an adapter does at once.
const QUIET: Duration = Duration::from_secs(2);

async fn is_refused(observed: &Observed) {
    observed
        .status_becomes("a refusal", |status| status.counters.auth_failures > 0)
        .await;
}

#[tokio::test]
async fn a_refused_token_is_told_apart_and_the_right_one_is_read_anew() {
    let mut rig = Rig::start().await;
    let one = Instance::new(9001);
    rig.put("orders", one).await;
    rig.write_token("nobody's");
    let observed = rig.observe();
    is_refused(&observed).await;
    assert_eq!(observed.heard().notes, []);
    let said = observed.status().last_error.unwrap_or_default();
    assert!(said.contains("401"), "{said}");
    rig.write_token(leadsman_tests::kubernetes::ADMIN);
    observed.becomes(&rig.state(&[("orders", &[one])])).await;
    let notes = observed.heard().notes;
    let complete = |note: &Note| {
        matches!(
            note,
            Note::Resync {
                evidence: Evidence::Complete,
                ..
            }
        )
    };
    assert!(notes.len() == 1 && notes.iter().all(complete), "{notes:?}");
}

/// Every request of a watch reads the token, so one that is replaced is used, and one that is bad is noticed.
#[tokio::test]
async fn a_token_that_is_replaced_is_read_with_the_next_watch() {
    let mut rig = Rig::start().await;
    let (one, two) = (Instance::new(9001), Instance::new(9002));
    rig.put("orders", one).await;
    let observed = rig.observe();
    let known = rig.state(&[("orders", &[one])]);
    observed.becomes(&known).await;
    rig.write_token("nobody's");
    is_refused(&observed).await;
    assert_eq!(observed.state(), known);
    rig.write_token(leadsman_tests::kubernetes::ADMIN);
    rig.put("orders", two).await;
    observed.becomes(&rig.state(&[("orders", &[one, two])])).await;
}

#[tokio::test]
async fn a_right_that_is_taken_away_empties_nothing() {
    let mut rig = Rig::start().await;
    let (one, two) = (Instance::new(9001), Instance::new(9002));
    rig.put("orders", one).await;
    rig.write_token(READER);
    let observed = rig.observe();
    is_refused(&observed).await;
    assert_eq!(observed.heard().notes, []);
    let user = json!({ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": READER_NAME });
    rig.api.allow(&rig.namespace, &user).await;
    let known = rig.state(&[("orders", &[one])]);
    observed.becomes(&known).await;
    observed.enters(&[SourceState::Live]).await;

    rig.api.disallow(&rig.namespace).await;
    observed.enters(&[SourceState::Degraded]).await;
    rig.put("orders", two).await;
    rig.remove("orders", one.port).await;
    observed.is_silent_for(QUIET).await;
    assert_eq!(observed.state(), known);
    let said = observed.status().last_error.unwrap_or_default();
    assert!(said.contains("403") && said.contains("endpointslices"), "{said}");

    rig.api.allow(&rig.namespace, &user).await;
    observed.becomes(&rig.state(&[("orders", &[two])])).await;
    observed.enters(&[SourceState::Live]).await;
}

/// As in a pod: a token of a service account, in a file.
#[tokio::test]
async fn a_service_account_that_is_deleted_empties_nothing_and_a_new_token_is_read_anew() {
    let mut rig = Rig::start_locked().await;
    let (one, two) = (Instance::new(9001), Instance::new(9002));
    rig.put("orders", one).await;
    let observed = rig.observe();
    let known = rig.state(&[("orders", &[one])]);
    observed.becomes(&known).await;
    rig.lock_out().await;
    is_refused(&observed).await;
    rig.put("orders", two).await;
    observed.is_silent_for(QUIET).await;
    assert_eq!(observed.state(), known);
    rig.let_in().await;
    observed.becomes(&rig.state(&[("orders", &[one, two])])).await;
    observed.enters(&[SourceState::Live]).await;
}

fn base64(file: &Path) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bytes = fs::read(file).unwrap();
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let all = three.iter().fold(0_u32, |all, byte| all << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
        for place in 0..4 {
            let digit = char::from(DIGITS[(all >> (18 - 6 * place)) as usize & 63]);
            text.push(if place > three.len() { '=' } else { digit });
        }
    }
    text
}

/// As tools write it: everything in the file itself, with a certificate for the user.
fn kubeconfig(rig: &Rig, user: &str) -> String {
    let mut text = "apiVersion: v1\nkind: Config\ncurrent-context: elsewhere\n".to_owned();
    let _ = writeln!(
        text,
        "contexts: [{{ name: elsewhere, context: {{ cluster: none }} }}, \
         {{ name: here, context: {{ cluster: here, user: me }} }}]\n\
         clusters: [{{ name: here, cluster: {{ server: '{}', certificate-authority-data: {} }} }}]\n\
         users: [{{ name: me, user: {user} }}]",
        rig.url(),
        base64(&rig.server.file("ca.pem")),
    );
    text
}

fn by_kubeconfig(rig: &Rig, user: &str) -> Config {
    Config {
        kubeconfig: Some(rig.write("kubeconfig", &kubeconfig(rig, user))),
        context: Some("here".to_owned()),
        server: None,
        token_file: None,
        tls: None,
        ..rig.config()
    }
}

#[tokio::test]
async fn a_kubeconfig_with_a_client_certificate_opens_the_door() {
    let mut rig = Rig::start().await;
    let one = Instance::new(9001);
    rig.put("orders", one).await;
    let user = json!({ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": READER_NAME });
    rig.api.allow(&rig.namespace, &user).await;
    let (cert, key) = (rig.server.file("reader.pem"), rig.server.file("reader.key"));
    let data = format!(
        "{{ client-certificate-data: {}, client-key-data: {} }}",
        base64(&cert),
        base64(&key)
    );
    let files = format!(
        "{{ client-certificate: {}, client-key: {} }}",
        cert.display(),
        key.display()
    );
    // A relative path begins at the file.
    let token = "{ tokenFile: token }".to_owned();
    let inline = format!("{{ token: {READER} }}");
    for user in [data, files, token, inline] {
        let observed = Observed::start(Adapter::new(by_kubeconfig(&rig, &user)));
        observed.becomes(&rig.state(&[("orders", &[one])])).await;
    }
}

/// As in a pod: the environment says where the server is. Only the files have other places here.
#[tokio::test]
async fn in_a_pod_the_server_is_where_the_environment_says() {
    let mut rig = Rig::start_locked().await;
    rig.put("orders", Instance::new(9001)).await;
    let directory = TempDir::new().unwrap();
    let (xds, admin) = (free_port(), free_port());
    let config = format!(
        "xds: {{ listen: '127.0.0.1:{xds}' }}\nadmin: {{ listen: '127.0.0.1:{admin}' }}\n\
         sources: {{ pod: {{ kubernetes: {{ token_file: '{}', tls: {{ ca: '{}' }}, namespaces: [{}] }} }} }}\n",
        rig.token_file().display(),
        rig.server.file("ca.pem").display(),
        rig.namespace
    );
    fs::write(directory.path().join("leadsman.yaml"), config).unwrap();
    let mut command = std::process::Command::new(binary());
    command
        .arg("serve")
        .current_dir(directory.path())
        .env("KUBERNETES_SERVICE_HOST", rig.proxy.address().ip().to_string())
        .env("KUBERNETES_SERVICE_PORT", rig.proxy.address().port().to_string());
    let process = Process::spawn("leadsman", command, directory.path());
    let (http, admin) = (Http::new(), SocketAddr::from(([127, 0, 0, 1], admin)));
    let path = format!("/api/v1/services/orders.{}", rig.namespace);
    until(PATIENT, "the instance", async || {
        let answer = http.get(admin, &path).await;
        answer.is_ok_and(|answer| answer.text().contains("127.0.0.1:9001"))
    })
    .await;
    drop(process);
}

#[tokio::test]
async fn what_can_not_be_honoured_is_said() {
    let rig = Rig::start().await;
    let says = async |config: Config, expected: &str| {
        let observed = Observed::start(Adapter::new(config));
        observed
            .status_becomes(expected, |status| {
                status.last_error.as_deref().unwrap_or_default().contains(expected)
            })
            .await;
        assert_eq!(observed.heard().notes, []);
    };
    says(
        by_kubeconfig(&rig, "{ exec: { command: aws } }"),
        "programs are not run",
    )
    .await;
    // Another authority than the server's.
    let mut wrong = rig.config();
    if let Some(tls) = &mut wrong.tls {
        tls.ca = Some(rig.server.file("reader.pem"));
    }
    says(wrong, "certificate").await;
    let outside = Config {
        server: None,
        token_file: None,
        tls: None,
        ..rig.config()
    };
    says(outside, "outside of a pod").await;
}

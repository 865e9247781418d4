//! `leadsman compare`, as it is used before a service moves from one registry to another: the whole of what it prints, and
//! how it ends.

use std::fs;
use std::net::SocketAddr;

use http::Method;
use leadsman_tests::leadsman::{Leadsman, run};
use leadsman_tests::process::free_port;
use leadsman_tests::registrar::{LASTING, Registrar};
use leadsman_tests::wait::{PATIENT, until_ok};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A service in the directory: each instance by port, weight and health.
fn file(service: &str, instances: &[(u16, f64, &str)]) -> String {
    let line = |(port, weight, health)| {
        format!("- {{ address: 10.0.0.1, port: {port}, weight: {weight}, health: {health} }}\n")
    };
    let lines: String = instances.iter().copied().map(line).collect();
    format!("service: {service}\nendpoints:\n{lines}")
}

async fn register(registrar: &Registrar, service: &str, instances: &[(u16, f64, &str)]) {
    for (port, weight, health) in instances {
        let path = format!("/v1/services/{service}/instances/{port}");
        let body =
            json!({ "address": "10.0.0.1", "port": port, "weight": weight, "health": health, "ttl_seconds": LASTING });
        registrar.insist(Method::PUT, &path, Some(body)).await;
    }
}

/// What a comparison prints, and the code it ends with.
fn compared(leadsman: &Leadsman, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = leadsman.ask(&[&["compare"], arguments].concat());
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// A registry and a directory that differ in everything in which they can, and a source that never lists anything. The unit
/// of the weights in one is a hundred times that in the other.
async fn start() -> Leadsman {
    let directory = TempDir::new().unwrap();
    let services = directory.path().join("services");
    fs::create_dir(&services).unwrap();
    let listen = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let config = format!(
        "sources:\n  new: {{ registry: {{ listen: '{listen}' }} }}\n  old: {{ file: {{ path: services/ }} }}\n  \
         silent: {{ etcd: {{ endpoints: ['http://127.0.0.1:{}'], prefix: /a/ }} }}\n",
        free_port()
    );
    let well = "healthy";
    let orders = [
        (1, 1.0, well),
        (2, 1.0, well),
        (3, 2.0, well),
        (4, 0.0, well),
        (5, 1.0, well),
    ];
    let users = [(1, 1.0, well), (2, 0.5, "draining")];
    fs::write(services.join("orders.yaml"), file("orders", &orders)).unwrap();
    fs::write(services.join("gone.yaml"), file("gone", &[(1, 1.0, well)])).unwrap();
    fs::write(services.join("users.yaml"), file("users", &users)).unwrap();
    let leadsman = Leadsman::launch_in(directory, &config);
    let registrar = Registrar::new(listen);
    let orders = [
        (1, 100.0, well),
        (2, 100.0, "unhealthy"),
        (3, 100.0, well),
        (4, 0.0, well),
        (6, 100.0, "draining"),
    ];
    register(&registrar, "orders", &orders).await;
    register(&registrar, "users", &[(1, 100.0, well), (2, 50.0, "draining")]).await;
    register(&registrar, "fresh", &[(1, 1.0, well), (2, 1.0, well)]).await;
    leadsman
}

#[tokio::test]
async fn every_difference_of_two_registries_is_a_line_and_a_code() {
    let leadsman = start().await;
    let table = "\
SERVICE  ADDRESS     DIFFERS-IN  old          new
fresh    -           service     missing      2 endpoints
gone     -           service     1 endpoints  missing
orders   10.0.0.1:2  health      healthy      unhealthy
orders   10.0.0.1:3  weight      2            100
orders   10.0.0.1:5  endpoint    healthy      missing
orders   10.0.0.1:6  endpoint    missing      draining
";
    let findings = (Some(79), table.to_owned(), String::new());
    until_ok(PATIENT, "the whole table", async || {
        let seen = compared(&leadsman, &["old", "new"]);
        if seen == findings { Ok(()) } else { Err(seen) }
    })
    .await;

    let (code, printed, _) = compared(&leadsman, &["old", "new", "--service", "gone", "-o", "json"]);
    let whole = json!({ "a": "old", "b": "new", "common": 0, "differences": [
        { "service": "gone", "address": null, "what": "service", "a": "1 endpoints", "b": null }] });
    assert_eq!(
        (code, serde_json::from_str::<Value>(&printed).unwrap()),
        (Some(79), whole)
    );
    let same = "old and new list the same 1 services\n".to_owned();
    assert_eq!(
        compared(&leadsman, &["old", "new", "--service", "users"]),
        (Some(0), same, String::new())
    );
    let fails = |arguments: &[&str], code: i32, words: &str| {
        let (seen, printed, said) = compared(&leadsman, arguments);
        assert!(
            seen == Some(code) && printed.is_empty() && said.contains(words),
            "{arguments:?}: {seen:?} {said}"
        );
    };
    fails(&["old", "nowhere"], 65, "there is no source nowhere");
    fails(&["old", "silent"], 1, "the source silent has not listed anything yet");
    fails(&["old"], 64, "<B>");
    let nobody = format!("http://127.0.0.1:{}", free_port());
    let away = run(&["compare", "old", "new", "--server", &nobody]);
    assert_eq!(away.status.code(), Some(69), "{away:?}");
}

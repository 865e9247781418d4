//! What a real API server makes of slices: families, ports, conditions, labels, and controllers that rearrange them.

use std::time::Duration;

use leadsman_core::model::Endpoint;
use leadsman_registry::SourceState;
use leadsman_registry::kubernetes::{Config, Family, Kubernetes as Adapter, Naming};
use leadsman_tests::kubernetes::slices;
use leadsman_tests::observed::{Note, Observed};
use leadsman_tests::rigs::kubernetes::Rig;
use leadsman_tests::wait::{PATIENT, until_ok};
use serde_json::{Value, json};

/// Everything a source says: a line for each endpoint and each rejection.
fn said(observed: &Observed) -> Vec<String> {
    let heard = observed.heard();
    let line = |endpoint: &Endpoint| {
        let zone = &endpoint.locality.zone;
        let zone = if zone.is_empty() {
            String::new()
        } else {
            format!(" in {zone}")
        };
        format!("{} {}{zone}", endpoint.address, endpoint.health)
    };
    let mut lines = Vec::new();
    for (name, service) in &heard.services {
        lines.extend(
            service
                .endpoints
                .iter()
                .map(|endpoint| format!("{name} {}", line(endpoint))),
        );
        lines.extend(
            service
                .rejections
                .iter()
                .map(|rejection| format!("{name} !{}", rejection.reason)),
        );
        if service.endpoints.is_empty() && service.rejections.is_empty() {
            lines.push(format!("{name} is empty"));
        }
    }
    lines
}

async fn says(observed: &Observed, expected: &[&str]) {
    until_ok(PATIENT, &format!("{expected:#?}"), async || {
        let said = said(observed);
        if said == expected { Ok(()) } else { Err(said) }
    })
    .await;
}

fn slice(name: &str, labels: &Value, fields: &Value) -> Value {
    let mut slice = json!({ "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": { "name": name, "labels": labels }, "ports": [{ "name": "", "port": 8080 }], "endpoints": [] });
    for (key, value) in fields.as_object().into_iter().flatten() {
        slice[key] = value.clone();
    }
    slice
}

fn of(service: &str) -> Value {
    json!({ "kubernetes.io/service-name": service })
}

fn endpoint(address: &str) -> Value {
    json!({ "addresses": [address], "conditions": { "ready": true, "serving": true, "terminating": false } })
}

fn pod(address: &str, uid: &str) -> Value {
    let mut endpoint = endpoint(address);
    endpoint["targetRef"] = json!({ "kind": "Pod", "name": uid, "uid": uid });
    endpoint
}

/// Writes a slice as a controller does.
async fn write(rig: &Rig, name: &str, service: &str, fields: Value) {
    let slice = slice(name, &of(service), &fields);
    rig.api.create(&slices(&rig.namespace), &slice).await;
}

async fn rewrite(rig: &Rig, name: &str, service: &str, fields: Value) {
    let path = format!("{}/{name}", slices(&rig.namespace));
    rig.api.replace(&path, &slice(name, &of(service), &fields)).await;
}

#[tokio::test]
async fn services_are_named_by_namespace_and_port() {
    let rig = Rig::start().await;
    let ports = json!([{ "name": "http", "port": 8080 }, { "name": "dns", "port": 53, "protocol": "UDP" },
        { "name": "admin", "port": 9090 }]);
    let mut zoned = endpoint("10.0.0.1");
    zoned["zone"] = json!("eu-1a");
    zoned["hints"] = json!({ "forZones": [{ "name": "eu-1b" }] });
    write(
        &rig,
        "web-1",
        "web",
        json!({ "ports": ports, "endpoints": [zoned, endpoint("10.0.0.2")] }),
    )
    .await;
    write(&rig, "api-1", "api", json!({ "endpoints": [endpoint("10.0.0.3")] })).await;
    let config = Config {
        service_name: Naming::Qualified,
        main_port: Some("http".to_owned()),
        ..rig.config()
    };
    let observed = Observed::start(Adapter::new(config));
    let space = &rig.namespace;
    let expected = [
        format!("api.{space} 10.0.0.3:8080 healthy"),
        format!("web.{space} 10.0.0.1:8080 healthy in eu-1a"),
        format!("web.{space} 10.0.0.2:8080 healthy"),
        format!("web.{space}:admin 10.0.0.1:9090 healthy in eu-1a"),
        format!("web.{space}:admin 10.0.0.2:9090 healthy"),
        format!("web.{space}:dns !the port \"dns\" speaks UDP, not TCP"),
    ];
    says(&observed, &expected.each_ref().map(String::as_str)).await;
}

#[tokio::test]
async fn every_condition_has_its_health() {
    let rig = Rig::start().await;
    let with = |address: &str, ready: Value, serving: Value, terminating: Value| {
        json!({ "addresses": [address],
            "conditions": { "ready": ready, "serving": serving, "terminating": terminating } })
    };
    let nil = Value::Null;
    let endpoints = json!([
        with("10.0.0.1", json!(true), json!(true), json!(false)),
        with("10.0.0.2", nil.clone(), nil.clone(), nil.clone()),
        with("10.0.0.3", json!(false), json!(true), json!(true)),
        with("10.0.0.4", json!(false), json!(false), json!(true)),
        with("10.0.0.5", json!(false), json!(false), json!(false)),
        with("10.0.0.6", json!(false), nil.clone(), nil),
        with("10.0.0.7", json!(true), json!(false), json!(true)),
    ]);
    write(&rig, "web-1", "web", json!({ "endpoints": endpoints })).await;
    let observed = rig.observe();
    let expected = [
        "web 10.0.0.1:8080 healthy",
        "web 10.0.0.2:8080 healthy",
        "web 10.0.0.3:8080 draining",
        "web 10.0.0.5:8080 unhealthy",
        "web 10.0.0.6:8080 unhealthy",
        "web 10.0.0.7:8080 healthy",
    ];
    says(&observed, &expected).await;
}

#[tokio::test]
async fn of_two_families_the_preferred_one_counts_and_host_names_are_rejected() {
    let rig = Rig::start().await;
    let four = json!({ "endpoints": [pod("10.0.0.1", "a"), pod("10.0.0.2", "b")] });
    let six = json!({ "addressType": "IPv6", "endpoints": [pod("fd00::1", "a"), pod("fd00::3", "c")] });
    let names = json!({ "addressType": "FQDN", "endpoints": [{ "addresses": ["a.example"] }] });
    write(&rig, "web-4", "web", four).await;
    write(&rig, "web-6", "web", six).await;
    write(&rig, "ext-1", "ext", names).await;
    let both = Config {
        address_family: Family::Both,
        ..rig.config()
    };
    let (usual, both) = (rig.observe(), Observed::start(Adapter::new(both)));
    let rejected = "ext !addressType FQDN: EDS takes no host names";
    let (one, two) = ("web 10.0.0.1:8080 healthy", "web 10.0.0.2:8080 healthy");
    let (six, three) = ("web [fd00::1]:8080 healthy", "web [fd00::3]:8080 healthy");
    says(&usual, &[rejected, one, two, three]).await;
    says(&both, &[rejected, one, two, six, three]).await;
}

/// As the controller does when it fills and empties slices: to two of them, to none, and to another.
#[tokio::test]
async fn an_endpoint_that_moves_between_slices_is_never_away() {
    let rig = Rig::start().await;
    let with = |addresses: &[&str]| json!({ "endpoints": addresses.iter().map(|a| endpoint(a)).collect::<Vec<_>>() });
    write(&rig, "web-1", "web", with(&["10.0.0.1", "10.0.0.2"])).await;
    write(&rig, "web-2", "web", with(&["10.0.0.3"])).await;
    let config = Config {
        settle: Duration::from_secs(5),
        ..rig.config()
    };
    let observed = Observed::start(Adapter::new(config));
    let (one, two, three) = (
        "web 10.0.0.1:8080 healthy",
        "web 10.0.0.2:8080 healthy",
        "web 10.0.0.3:8080 healthy",
    );
    says(&observed, &[one, two, three]).await;
    let before = observed.heard().notes.len();
    rewrite(&rig, "web-2", "web", with(&["10.0.0.2", "10.0.0.3"])).await;
    rewrite(&rig, "web-1", "web", with(&["10.0.0.1"])).await;
    rewrite(&rig, "web-2", "web", with(&["10.0.0.3"])).await;
    rewrite(&rig, "web-1", "web", with(&["10.0.0.1", "10.0.0.2"])).await;
    // Whatever these had to say would have come before this.
    write(&rig, "api-1", "api", with(&["10.0.0.9"])).await;
    says(&observed, &["api 10.0.0.9:8080 healthy", one, two, three]).await;
    observed.heard_only(before, &[Note::Apply("api".into())]);
    // One that says that it ends is not waited for.
    let ending = json!([endpoint("10.0.0.1"), { "addresses": ["10.0.0.2"],
        "conditions": { "ready": false, "serving": true, "terminating": true } }]);
    rewrite(&rig, "web-1", "web", json!({ "endpoints": ending })).await;
    rewrite(&rig, "web-1", "web", with(&["10.0.0.1"])).await;
    says(&observed, &["api 10.0.0.9:8080 healthy", one, three]).await;
    let ends = [
        Note::Apply("api".into()),
        Note::Apply("web".into()),
        Note::Apply("web".into()),
    ];
    observed.heard_only(before, &ends);
}

#[tokio::test]
async fn a_service_without_pods_is_empty_and_not_gone() {
    let rig = Rig::start().await;
    let ports = json!([{ "name": "http", "port": 80 }]);
    let full = json!({ "ports": ports, "endpoints": [endpoint("10.0.0.1")] });
    let placeholder = json!({ "ports": [], "endpoints": [] });
    write(&rig, "web-1", "web", full.clone()).await;
    let observed = rig.observe();
    says(&observed, &["web:http 10.0.0.1:80 healthy"]).await;
    rewrite(&rig, "web-1", "web", placeholder).await;
    says(&observed, &["web:http is empty"]).await;
    rewrite(&rig, "web-1", "web", full).await;
    says(&observed, &["web:http 10.0.0.1:80 healthy"]).await;
    rig.api.delete(&format!("{}/web-1", slices(&rig.namespace))).await;
    says(&observed, &[]).await;
}

#[tokio::test]
async fn namespaces_and_labels_choose() {
    let (rig, other) = (Rig::start().await, Rig::start().await);
    let fields = |address: &str| json!({ "endpoints": [endpoint(address)] });
    write(&rig, "web-1", "web", fields("10.0.0.1")).await;
    write(&other, "web-1", "web", fields("10.0.0.2")).await;
    let labelled = json!({ "kubernetes.io/service-name": "api", "tier": "front" });
    let proxied = json!({ "kubernetes.io/service-name": "own", "service.kubernetes.io/service-proxy-name": "acme" });
    let create = async |name: &str, labels: &Value, address: &str| {
        let slice = slice(name, labels, &fields(address));
        rig.api.create(&slices(&rig.namespace), &slice).await;
    };
    create("api-1", &labelled, "10.0.0.3").await;
    create("own-1", &proxied, "10.0.0.4").await;
    create("none-1", &json!({}), "10.0.0.5").await;
    let config = Config {
        namespaces: vec![rig.namespace.clone(), other.namespace.clone()],
        service_name: Naming::Qualified,
        ..rig.config()
    };
    let both = Observed::start(Adapter::new(config.clone()));
    let (here, there) = (&rig.namespace, &other.namespace);
    let (api, one, two) = (
        format!("api.{here} 10.0.0.3:8080 healthy"),
        format!("web.{here} 10.0.0.1:8080 healthy"),
        format!("web.{there} 10.0.0.2:8080 healthy"),
    );
    says(&both, &[&api, &one, &two]).await;
    let front = Config {
        label_selector: Some("tier in (front)".to_owned()),
        ..config.clone()
    };
    says(&Observed::start(Adapter::new(front)), &[&api]).await;
    // The whole cluster, of which other tests have their part.
    let all = Config {
        namespaces: Vec::new(),
        ..config
    };
    let all = Observed::start(Adapter::new(all));
    all.enters(&[SourceState::Live]).await;
    let everywhere = said(&all);
    assert!(
        [&api, &one, &two].iter().all(|line| everywhere.contains(line)),
        "{everywhere:#?}"
    );
    // Changes come from both.
    rewrite(&other, "web-1", "web", fields("10.0.0.6")).await;
    says(&both, &[&api, &one, &two.replace("10.0.0.2", "10.0.0.6")]).await;
    let odd = Config {
        label_selector: Some("tier in front".to_owned()),
        ..rig.config()
    };
    Observed::start(Adapter::new(odd))
        .status_becomes("a word about the selector", |status| {
            status.last_error.as_deref().unwrap_or_default().contains("400")
        })
        .await;
}

//! What the server knows about its clients, told over CSDS and by the command line, with real Envoys on it: one that
//! has everything, one that refuses what it is sent, and one that does not answer.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use envoy_types::pb::envoy::service::status::v3::client_status_discovery_service_client::ClientStatusDiscoveryServiceClient;
use envoy_types::pb::envoy::service::status::v3::{ClientConfig, ClientStatusRequest};
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use envoy_types::pb::envoy::r#type::matcher::v3::{NodeMatcher, StringMatcher, StructMatcher};
use leadsman_tests::envoy::Envoy;
use leadsman_tests::leadsman::{Leadsman, replace, run};
use leadsman_tests::process::free_port;
use leadsman_tests::wait::{PATIENT, throughout, until, until_ok};
use serde_json::{Value, json};
use tempfile::TempDir;
use tonic::Code;
use tonic::transport::Channel;

const SOURCES: &str = "sources: { local: { file: { path: services/ } } }\n";
/// What Envoy says about a bind address that it can't understand.
const REFUSAL: &str = "upstream binding config";

fn service(name: &str, endpoints: &[&str]) -> String {
    format!("service: {name}\nendpoints: [{}]\n", endpoints.join(", "))
}

fn at(port: u16, rest: &str) -> String {
    format!("{{ address: 127.0.0.1, port: {port}{rest} }}")
}

/// A control plane with these files of services.
async fn server(services: &[(&str, String)], xds_keys: &str, rest: &str) -> Leadsman {
    let directory = TempDir::new().unwrap();
    fs::create_dir(directory.path().join("services")).unwrap();
    for (name, content) in services {
        fs::write(directory.path().join(format!("services/{name}.yaml")), content).unwrap();
    }
    let leadsman = Leadsman::launch_with(directory, xds_keys, &format!("{SOURCES}{rest}"));
    leadsman.ready().await;
    leadsman
}

fn two_services() -> [(&'static str, String); 2] {
    ["orders", "users"].map(|name| (name, service(name, &[&at(9001, "")])))
}

async fn envoy(leadsman: &Leadsman, node: &str) -> Envoy {
    Envoy::start(&leadsman.bootstrap(node, free_port()), 1).await
}

/// An Envoy that refuses every cluster that does not say itself where its connections come from: the bind address of
/// the whole process makes no sense.
fn refusing_envoy(leadsman: &Leadsman, node: &str) -> Envoy {
    let mut bootstrap = leadsman.bootstrap(node, free_port());
    let address = |host: &str| json!({ "address": host, "port_value": 0 });
    for cluster in bootstrap["static_resources"]["clusters"].as_array_mut().unwrap() {
        cluster["upstream_bind_config"] = json!({ "source_address": address("127.0.0.1") });
    }
    bootstrap["cluster_manager"] = json!({ "upstream_bind_config": {
        "source_address": address("127.0.0.1"),
        "extra_source_addresses": [{ "address": address("127.0.0.2") }],
        "additional_source_addresses": [address("127.0.0.3")],
    } });
    Envoy::launch(&bootstrap, 1)
}

async fn csds(leadsman: &Leadsman) -> ClientStatusDiscoveryServiceClient<Channel> {
    ClientStatusDiscoveryServiceClient::connect(format!("http://{}", leadsman.xds()))
        .await
        .unwrap()
}

async fn fetch(leadsman: &Leadsman, request: ClientStatusRequest) -> Result<Vec<ClientConfig>, tonic::Status> {
    let answer = csds(leadsman).await.fetch_client_status(request).await?;
    Ok(answer.into_inner().config)
}

fn by_node_id(pattern: MatchPattern) -> ClientStatusRequest {
    let matcher = StringMatcher {
        match_pattern: Some(pattern),
        ..StringMatcher::default()
    };
    ClientStatusRequest {
        node_matchers: vec![NodeMatcher {
            node_id: Some(matcher),
            ..NodeMatcher::default()
        }],
        ..ClientStatusRequest::default()
    }
}

/// By node, `TYPE NAME STATUS CLIENT-STATUS`.
fn words(configs: &[ClientConfig]) -> BTreeMap<String, Vec<String>> {
    let of = |config: &ClientConfig| {
        let resources = config.generic_xds_configs.iter().map(|resource| {
            let kind = resource.type_url.rsplit('.').next().unwrap();
            let (server, client) = (resource.config_status(), resource.client_status());
            format!(
                "{kind} {} {} {}",
                resource.name,
                server.as_str_name(),
                client.as_str_name()
            )
        });
        (config.node.as_ref().unwrap().id.clone(), resources.collect())
    };
    configs.iter().map(of).collect()
}

/// Waits until a node stands like this.
async fn node_stands(leadsman: &Leadsman, node: &str, expected: &[&str]) {
    until_ok(PATIENT, &format!("{node} to stand at {expected:?}"), async || {
        let seen = words(&fetch(leadsman, ClientStatusRequest::default()).await.unwrap());
        let own = seen.get(node).cloned();
        if own.as_ref().is_some_and(|own| own == expected) {
            Ok(())
        } else {
            Err(own)
        }
    })
    .await;
}

const SYNCED: [&str; 4] = [
    "Cluster orders SYNCED ACKED",
    "Cluster users SYNCED ACKED",
    "ClusterLoadAssignment orders SYNCED ACKED",
    "ClusterLoadAssignment users SYNCED ACKED",
];
const REFUSED: [&str; 2] = ["Cluster orders ERROR NACKED", "Cluster users ERROR NACKED"];

/// `leadsman status`: its exit code, and what it says of each node.
fn status(leadsman: &Leadsman, flags: &[&str]) -> (Option<i32>, BTreeMap<String, Value>) {
    let output = leadsman.ask(&[&["status", "-o", "json"], flags].concat());
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    let rows = said["proxies"].as_array().unwrap().iter();
    let sync = rows.map(|row| (row["node_id"].as_str().unwrap().to_owned(), row["sync"].clone()));
    (output.status.code(), sync.collect())
}

/// `leadsman diff`: its exit code and its answer.
fn diff(leadsman: &Leadsman, envoy: SocketAddr, flags: &[&str]) -> (Option<i32>, Value) {
    let url = format!("http://{envoy}");
    let output = leadsman.ask(&[&["diff", "--envoy-admin", &url, "-o", "json"], flags].concat());
    let said =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| json!(String::from_utf8_lossy(&output.stderr)));
    (output.status.code(), said)
}

/// What makes a cluster speak HTTP/2, as both ends show it.
fn http2() -> Value {
    json!({ "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": { "http2_protocol_options": {} },
    } })
}

/// `[TYPE, NAME, WHAT, [[FIELD, SERVER, ENVOY], …]]` for each difference, but for the metadata, which is made of hashes.
fn differences(said: &Value) -> Vec<Value> {
    let short = |difference: &Value| {
        let fields = difference["fields"].as_array().unwrap().iter();
        let fields = fields.filter(|field| !field["path"].as_str().unwrap().ends_with(" metadata"));
        let fields: Vec<Value> = fields
            .map(|field| json!([field["path"], field["server"], field["envoy"]]))
            .collect();
        json!([difference["type"], difference["name"], difference["what"], fields])
    };
    said["differences"].as_array().unwrap().iter().map(short).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_everything_and_who_refuses_it_is_told_with_the_reason() {
    let leadsman = server(&two_services(), "", "").await;
    let content = envoy(&leadsman, "content").await;
    let refusing = refusing_envoy(&leadsman, "refusing");
    node_stands(&leadsman, "content", &SYNCED).await;
    node_stands(&leadsman, "refusing", &REFUSED).await;

    let own = fetch(&leadsman, by_node_id(MatchPattern::Prefix("ref".into())))
        .await
        .unwrap();
    assert_eq!(words(&own).into_keys().collect::<Vec<_>>(), ["refusing"]);
    for resource in &own[0].generic_xds_configs {
        let reason = &resource.error_state.as_ref().unwrap().details;
        assert!(reason.contains(REFUSAL), "{reason}");
        assert_eq!(resource.xds_config.as_ref().unwrap().type_url, resource.type_url);
    }
    let metadata = ClientStatusRequest {
        node_matchers: vec![NodeMatcher {
            node_metadatas: vec![StructMatcher::default()],
            ..NodeMatcher::default()
        }],
        ..ClientStatusRequest::default()
    };
    assert_eq!(
        fetch(&leadsman, metadata).await.unwrap_err().code(),
        Code::Unimplemented
    );

    let (code, sync) = status(&leadsman, &[]);
    let expected = BTreeMap::from([
        ("content".to_owned(), json!({ "cds": "SYNCED", "eds": "SYNCED" })),
        ("refusing".to_owned(), json!({ "cds": "ERROR" })),
    ]);
    assert_eq!((code, sync), (Some(79), expected));
    let table = String::from_utf8(leadsman.ask(&["status"]).stdout).unwrap();
    assert!(table.contains("ERROR (2 of 2)") && table.contains(REFUSAL), "{table}");

    let (code, said) = diff(&leadsman, content.admin(), &[]);
    assert_eq!(
        (code, &said["same"], &said["clusters"], &said["assignments"]),
        (Some(0), &json!(true), &json!(2), &json!(2)),
        "{said}"
    );
    let (code, said) = diff(&leadsman, refusing.admin(), &[]);
    let differences = said["differences"].as_array().unwrap();
    assert_eq!((code, differences.len()), (Some(79), 2), "{said}");
    for difference in differences {
        let reason = difference["nack"].as_str().unwrap();
        assert!(difference["what"] == "nacked" && reason.contains(REFUSAL), "{said}");
    }

    // A refusal is held: nothing is sent again that was refused.
    let refused = refusing.stat("cluster_manager.cds.update_rejected").await;
    throughout(Duration::from_secs(2), "the refusal", async || {
        refusing.stat("cluster_manager.cds.update_rejected").await == refused
    })
    .await;
    node_stands(&leadsman, "refusing", &REFUSED).await;
    assert_eq!(
        content.text_stat("control_plane.identifier").await.as_deref(),
        Some("cp-1")
    );
    content.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_envoy_that_does_not_answer_is_stale_until_it_does() {
    let leadsman = server(&two_services(), "", "").await;
    let mut edge = envoy(&leadsman, "edge-1").await;
    node_stands(&leadsman, "edge-1", &SYNCED).await;
    assert_eq!(status(&leadsman, &[]).0, Some(0));

    edge.process().pause();
    let changed = service("orders", &[&at(9001, ""), &at(9002, "")]);
    replace(&leadsman.directory().join("services/orders.yaml"), &changed);
    let mut stale = SYNCED;
    stale[2] = "ClusterLoadAssignment orders STALE REQUESTED";
    node_stands(&leadsman, "edge-1", &stale).await;
    let sync = |eds: &str| BTreeMap::from([("edge-1".to_owned(), json!({ "cds": "SYNCED", "eds": eds }))]);
    assert_eq!(status(&leadsman, &["--stale-after", "10m"]), (Some(0), sync("WAITING")));
    assert_eq!(status(&leadsman, &["--stale-after", "1us"]), (Some(79), sync("STALE")));

    edge.process().resume();
    node_stands(&leadsman, "edge-1", &SYNCED).await;
    until(PATIENT, "both ends to be the same", async || {
        diff(&leadsman, edge.admin(), &[]).0 == Some(0)
    })
    .await;
    assert_eq!(status(&leadsman, &["--stale-after", "1us"]), (Some(0), sync("SYNCED")));
    edge.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_difference_is_told_field_by_field_and_endpoint_by_endpoint() {
    let here = [
        (
            "orders",
            service(
                "orders",
                &[&at(9001, ", weight: 5"), &at(9002, ", health: draining"), &at(9003, "")],
            ),
        ),
        ("users", service("users", &[&at(9001, "")])),
        ("only-here", service("only-here", &[])),
    ];
    let zone = ", health: healthy, locality: { zone: a }";
    let there = [
        (
            "orders",
            service("orders", &[&at(9001, ", weight: 7"), &at(9002, zone), &at(9004, "")]),
        ),
        ("users", service("users", &[&at(9001, "")])),
        ("only-there", service("only-there", &[])),
    ];
    let here = server(&here, "", "services: { users: { connect_timeout: 250ms } }\n").await;
    let there = server(&there, "", "services: { users: { protocol: grpc } }\n").await;
    // One node id at two servers: what one server has for it is held against what the other made of it.
    let (own, other) = (envoy(&here, "edge-1").await, envoy(&there, "edge-1").await);
    for (server, envoy) in [(&here, &own), (&there, &other)] {
        until_ok(PATIENT, "each to have its own", async || {
            match diff(server, envoy.admin(), &[]) {
                (Some(0), said) if said["clusters"] == 3 && said["assignments"] == 3 => Ok(()),
                other => Err(other),
            }
        })
        .await;
    }
    let (code, said) = diff(&here, other.admin(), &["--node", "edge-1"]);
    let seen = differences(&said);
    let orders = json!([
        ["127.0.0.1:9001 weight", 5, 7],
        ["127.0.0.1:9002 health", "DRAINING", "HEALTHY"],
        ["127.0.0.1:9002 locality", "", "/a"],
        ["127.0.0.1:9003", "unknown w1", null],
        ["127.0.0.1:9004", null, "healthy w1"],
    ]);
    let expected = vec![
        json!(["cds", "only-here", "missing", []]),
        json!(["cds", "only-there", "extra", []]),
        json!([
            "cds",
            "users",
            "different",
            [
                ["connect_timeout", "0.250s", "1s"],
                ["typed_extension_protocol_options", null, http2()],
            ]
        ]),
        json!(["eds", "orders", "different", orders]),
    ];
    assert_eq!((code, seen), (Some(79), expected), "{said:#}");

    let (code, said) = diff(&here, other.admin(), &["--node", "nobody"]);
    assert_eq!(code, Some(65), "{said}");
    let closed = SocketAddr::from(([127, 0, 0, 1], free_port()));
    assert_eq!(diff(&here, closed, &["--node", "edge-1"]).0, Some(69));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_answers_every_request_and_can_leave_the_resources_out() {
    let leadsman = server(&two_services(), "", "").await;
    let _edge = envoy(&leadsman, "edge-1").await;
    node_stands(&leadsman, "edge-1", &SYNCED).await;
    let bare = ClientStatusRequest {
        exclude_resource_contents: true,
        ..by_node_id(MatchPattern::Exact("edge-1".into()))
    };
    let nobody = by_node_id(MatchPattern::Exact("nobody".into()));
    let empty = by_node_id(MatchPattern::Prefix(String::new()));
    let requests = tokio_stream::iter([bare, nobody, ClientStatusRequest::default(), empty]);
    let answers = csds(&leadsman).await.stream_client_status(requests).await.unwrap();
    let mut answers = answers.into_inner();
    let mut next = async || answers.message().await;

    let bare = next().await.unwrap().unwrap().config;
    assert_eq!(words(&bare)["edge-1"], SYNCED);
    let resources = &bare[0].generic_xds_configs;
    assert!(resources.iter().all(|resource| resource.xds_config.is_none()));
    assert_eq!(next().await.unwrap().unwrap().config, []);
    let whole = next().await.unwrap().unwrap().config;
    assert_eq!(words(&whole)["edge-1"], SYNCED);
    assert!(
        whole[0]
            .generic_xds_configs
            .iter()
            .all(|resource| resource.xds_config.is_some())
    );
    assert_eq!(next().await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_not_ask_gets_nothing_and_envoys_are_served_all_the_same() {
    let leadsman = server(&two_services(), "client_status: nobody", "").await;
    let xds = leadsman.xds().to_string();
    let watched = run(&[
        "xds", "watch", "--server", &xds, "--type", "eds", "--names", "orders", "--count", "1",
    ]);
    assert!(watched.status.success(), "{watched:?}");
    let refused = fetch(&leadsman, ClientStatusRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    let requests = tokio_stream::iter([ClientStatusRequest::default()]);
    let refused = csds(&leadsman).await.stream_client_status(requests).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert!(refused.message().contains("xds.client_status"), "{refused}");
}

//! The wasm filter in a real Envoy, with the configuration we ship: what it counts, and what it makes of headers.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use http::{HeaderMap, HeaderValue};
use leadsman_tests::backend::Backend;
use leadsman_tests::envoy::{Envoy, add_static_cluster, address};
use leadsman_tests::http::{Answer, Http, Load};
use leadsman_tests::leadsman::{Leadsman, replace};
use leadsman_tests::process::{built, free_port, workspace};
use leadsman_tests::wait::{PATIENT, until};
use serde_json::{Value, json};
use tempfile::TempDir;

/// The workers of Envoy, which share one memory of what was seen.
const WORKERS: u32 = 2;

const VALID: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// An Envoy with the filter in front of `orders`.
#[derive(Debug)]
struct Filtered {
    envoy: Envoy,
    listener: SocketAddr,
}

impl Filtered {
    /// With one static endpoint that carries what the control plane writes to each.
    async fn start(backend: &Backend) -> Self {
        let mut bootstrap = shipped();
        bootstrap["static_resources"]["clusters"] = json!([]);
        let metadata = json!({ "leadsman": { "rev": "1", "src": "shop" } });
        add_static_cluster(&mut bootstrap, "orders", &[(backend.address(), metadata)]);
        Self::run(bootstrap).await
    }

    /// With endpoints from a real control plane.
    async fn following(leadsman: &Leadsman) -> Self {
        let mut bootstrap = leadsman.bootstrap("edge-1", free_port());
        let ours = shipped();
        bootstrap["stats_config"] = ours["stats_config"].clone();
        bootstrap["static_resources"]["listeners"] = ours["static_resources"]["listeners"].clone();
        let listener = &mut bootstrap["static_resources"]["listeners"][0];
        // The cluster comes from the control plane, after the route.
        manager(listener)["route_config"]["validate_clusters"] = json!(false);
        Self::run(bootstrap).await
    }

    async fn run(mut bootstrap: Value) -> Self {
        let listener = SocketAddr::from(([127, 0, 0, 1], free_port()));
        bootstrap["admin"]["address"] = address(free_port());
        bootstrap["static_resources"]["listeners"][0]["address"] = address(listener.port());
        Self {
            envoy: Envoy::start(&bootstrap, WORKERS).await,
            listener,
        }
    }

    fn load(&self, path: &str) -> Load {
        Load {
            address: self.listener,
            host: "orders".into(),
            path: path.into(),
            requests_per_second: 100,
            workers: 4,
        }
    }

    async fn send(&self, headers: &[(&'static str, &[u8])]) -> Answer {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_bytes(value).unwrap());
        }
        Http::new().get_with(self.listener, "/", map).await.unwrap()
    }

    async fn lookups(&self, outcome: &str) -> u64 {
        let labels = [("cluster", "orders"), ("outcome", outcome)];
        self.envoy.metric("leadsman_lookups_total", &labels).await
    }

    /// Shows that no VM was lost and no configuration refused.
    async fn assert_sound(&self) {
        let beats = self.envoy.metric("leadsman_heartbeat_total", &[]).await;
        let enough = beats + u64::from(WORKERS) + 1;
        until(PATIENT, "every VM to beat once more", async || {
            self.envoy.metric("leadsman_heartbeat_total", &[]).await >= enough
        })
        .await;
        assert_eq!(
            self.envoy.metric("leadsman_config_errors_total", &[]).await,
            0,
            "{}",
            self.envoy.log()
        );
    }
}

/// `envoy-config/filter.yaml` with the module that was just built.
fn shipped() -> Value {
    let module = built("../wasm32-wasip1/wasm/leadsman_filter.wasm", "make wasm");
    let text = fs::read_to_string(workspace().join("envoy-config/filter.yaml")).unwrap();
    let installed = "/etc/envoy/leadsman_filter.wasm";
    assert!(text.contains(installed), "the example names the module no more");
    serde_saphyr::from_str(&text.replace(installed, module.to_str().unwrap())).unwrap()
}

fn manager(listener: &mut Value) -> &mut Value {
    &mut listener["filter_chains"][0]["filters"][0]["typed_config"]
}

#[tokio::test]
async fn requests_attempts_and_lookups_are_counted() {
    let backend = Backend::start("one").await;
    let filtered = Filtered::start(&backend).await;
    let report = filtered.load("/").burst(20).await;
    assert_eq!((report.failed, report.share("one")), (0, 1.0), "{report:?}");
    let envoy = &filtered.envoy;
    let orders = ("cluster", "orders");
    until(PATIENT, "twenty requests", async || {
        envoy
            .metric("leadsman_requests_total", &[orders, ("class", "2xx")])
            .await
            == 20
    })
    .await;
    assert_eq!(
        envoy
            .metric("leadsman_attempts_total", &[orders, ("outcome", "ok")])
            .await,
        20
    );
    assert_eq!(
        envoy
            .metric("leadsman_source_attempts_total", &[("source", "shop")])
            .await,
        20
    );
    assert_eq!((filtered.lookups("miss").await, filtered.lookups("hit").await), (1, 19));
    assert_eq!(envoy.metric("leadsman_requests_total", &[]).await, 20);
    assert_eq!(envoy.metric("leadsman_retries_total", &[]).await, 0);
    filtered.assert_sound().await;
}

#[tokio::test]
async fn every_attempt_of_a_retried_request_is_counted() {
    let backend = Backend::start("one").await;
    let filtered = Filtered::start(&backend).await;
    let report = filtered.load("/fail").burst(3).await;
    assert_eq!(report.by_status[&503], 3, "{report:?}");
    let envoy = &filtered.envoy;
    until(PATIENT, "three requests", async || {
        envoy.metric("leadsman_requests_total", &[("class", "5xx")]).await == 3
    })
    .await;
    assert_eq!(backend.answered(), 9);
    assert_eq!(envoy.metric("leadsman_attempts_total", &[("outcome", "5xx")]).await, 9);
    assert_eq!(
        envoy.metric("leadsman_retries_total", &[("cluster", "orders")]).await,
        6
    );
}

#[tokio::test]
async fn a_dead_endpoint_is_a_connect_failure() {
    let backend = Backend::start("one").await;
    let filtered = Filtered::start(&backend).await;
    drop(backend);
    until(PATIENT, "the port to be closed", async || {
        filtered.load("/").burst(1).await.by_status.contains_key(&503)
    })
    .await;
    let labels = [("cluster", "orders"), ("reason", "refused")];
    until(PATIENT, "a refused connection", async || {
        filtered.envoy.metric("leadsman_connect_failures_total", &labels).await > 0
    })
    .await;
}

#[tokio::test]
async fn a_valid_trace_context_passes_byte_for_byte() {
    let backend = Backend::start("one").await;
    let filtered = Filtered::start(&backend).await;
    let state = "vendor=opaque , other=1";
    let answer = filtered
        .send(&[("traceparent", VALID.as_bytes()), ("tracestate", state.as_bytes())])
        .await;
    assert_eq!(answer.header("x-received-traceparent"), Some(VALID));
    assert_eq!(answer.header("x-received-tracestate"), Some(state));
    assert_eq!(
        filtered
            .envoy
            .metric("leadsman_trace_total", &[("action", "kept")])
            .await,
        1
    );
}

#[tokio::test]
async fn a_broken_trace_context_is_replaced_by_a_new_trace() {
    let backend = Backend::start("one").await;
    let filtered = Filtered::start(&backend).await;
    let zero = b"00-00000000000000000000000000000000-b7ad6b7169203331-01";
    let broken: [&[(&'static str, &[u8])]; 4] = [
        &[("traceparent", b"nonsense"), ("tracestate", b"a=1")],
        &[("traceparent", zero)],
        &[("traceparent", VALID.as_bytes()), ("traceparent", VALID.as_bytes())],
        &[("traceparent", b"\xff\xfe\xfd")],
    ];
    for headers in broken {
        let answer = filtered.send(headers).await;
        assert_eq!(answer.header("x-backend"), Some("one"), "{headers:?}: {answer:?}");
        let new = answer.header("x-received-traceparent").unwrap();
        let parts: Vec<&str> = new.split('-').collect();
        assert_eq!(
            parts.iter().map(|part| part.len()).collect::<Vec<_>>(),
            [2, 32, 16, 2],
            "{new}"
        );
        assert!(
            new.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit()),
            "{new}"
        );
        assert!(
            !new.contains("0af7651916cd43dd") && !new.contains("-0000000000000000"),
            "{new}"
        );
        assert_eq!(answer.header("x-received-tracestate"), None);
    }
    assert_eq!(
        filtered
            .envoy
            .metric("leadsman_trace_total", &[("action", "restarted")])
            .await,
        4
    );
}

#[tokio::test]
async fn headers_that_are_no_text_pass_and_harm_nothing() {
    let backend = Backend::start("one").await;
    let filtered = Filtered::start(&backend).await;
    for _ in 0..20 {
        let answer = filtered
            .send(&[
                ("x-binary", b"\xff\xfe\x80"),
                ("tracestate", b"\xc3\x28=1"),
                ("x-envoy-attempt-count", b"\xf0\x28\x8c\x28"),
            ])
            .await;
        assert_eq!((answer.status.as_u16(), answer.header("x-backend")), (200, Some("one")));
        assert_eq!(answer.header("x-received-tracestate"), None);
    }
    filtered.assert_sound().await;
}

#[tokio::test]
async fn a_change_of_the_registry_is_one_miss_however_many_workers() {
    let backend = Backend::start("one").await;
    let directory = TempDir::new().unwrap();
    fs::create_dir(directory.path().join("services")).unwrap();
    let write = |directory: &Path, weight: u32| {
        let port = backend.address().port();
        let endpoint = format!("{{ address: 127.0.0.1, port: {port}, weight: {weight} }}");
        let text = format!("service: orders\nendpoints:\n  - {endpoint}\n");
        replace(&directory.join("services/orders.yaml"), &text);
    };
    write(directory.path(), 100);
    let leadsman = Leadsman::start_in(directory, "sources:\n  local: { file: { path: services/ } }\n").await;
    let filtered = Filtered::following(&leadsman).await;
    until(PATIENT, "the first answer", async || {
        filtered.load("/").burst(1).await.share("one") == 1.0
    })
    .await;

    let load = filtered.load("/").start();
    let used = async |more: u64| {
        let before = filtered.lookups("hit").await;
        until(PATIENT, "traffic on both workers", async || {
            filtered.lookups("hit").await > before + more
        })
        .await;
    };
    used(50).await;
    assert_eq!(filtered.lookups("miss").await, 1);
    write(leadsman.directory(), 50);
    until(PATIENT, "the second miss", async || filtered.lookups("miss").await == 2).await;
    used(100).await;
    assert_eq!(filtered.lookups("miss").await, 2);
    let report = load.stop().await;
    assert_eq!(report.failed, 0, "{report:?}");
    assert_eq!(filtered.lookups("untracked").await, 0);
    filtered.envoy.assert_clean().await;
}

#[tokio::test]
async fn a_refused_configuration_is_counted_and_the_traffic_flows() {
    let backend = Backend::start("one").await;
    let mut bootstrap = shipped();
    bootstrap["static_resources"]["clusters"] = json!([]);
    add_static_cluster(&mut bootstrap, "orders", &[(backend.address(), json!({}))]);
    let listener = &mut bootstrap["static_resources"]["listeners"][0];
    let filter = &mut manager(listener)["http_filters"][0]["typed_config"]["config"];
    filter["configuration"]["value"] = json!(r#"{ "role": "request", "surprise": 1 }"#);
    let filtered = Filtered::run(bootstrap).await;
    let report = filtered.load("/").burst(10).await;
    assert_eq!(report.failed, 0, "{report:?}");
    assert!(filtered.envoy.metric("leadsman_config_errors_total", &[]).await > 0);
    assert!(filtered.envoy.log().contains("surprise"), "{}", filtered.envoy.log());
}

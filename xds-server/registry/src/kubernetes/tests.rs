//! Slices as kube-apiserver 1.36 writes them, slices that nobody should write, and what becomes of services while
//! controllers rearrange them.

use std::time::Duration;

use leadsman_core::model::{Endpoint, Rejection, Service};
use proptest::prelude::*;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::config::{Config, Family, Naming, NotReady};
use super::records::{Change, Records};
use super::slice::{Entry, Rules, Slice, decode};

/// A slice of the service `web` in `demo`, recorded from the API server; the parts that a test is about are replaced.
fn object(name: &str, version: u64, fields: &Value) -> Value {
    let mut object = json!({
        "kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1",
        "metadata": { "name": name, "generateName": "web-", "namespace": "demo",
            "uid": format!("bf484b19-b680-44d3-bf45-{name}"), "resourceVersion": version.to_string(), "generation": 1,
            "creationTimestamp": "2026-11-20T18:37:04Z",
            "labels": { "app": "web", "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
                "kubernetes.io/service-name": "web" },
            "annotations": { "endpoints.kubernetes.io/last-change-trigger-time": "2026-11-20T18:00:00Z" },
            "managedFields": [{ "manager": "kube-controller-manager", "operation": "Update",
                "apiVersion": "discovery.k8s.io/v1", "time": "2026-11-20T18:37:04Z", "fieldsType": "FieldsV1",
                "fieldsV1": { "f:addressType": {}, "f:endpoints": {} } }] },
        "addressType": "IPv4",
        "endpoints": [
            { "addresses": ["10.1.0.1"], "conditions": { "ready": true, "serving": true, "terminating": false },
              "targetRef": { "kind": "Pod", "namespace": "demo", "name": "web-0", "uid": "pod-0" }, "nodeName": "n1",
              "zone": "eu-1a", "hints": { "forZones": [{ "name": "eu-1a" }] } },
            { "addresses": ["10.1.0.2"], "conditions": {} }],
        "ports": [{ "name": "", "protocol": "TCP", "port": 8080 }]
    });
    for (key, value) in fields.as_object().unwrap() {
        object[key] = value.clone();
    }
    object
}

fn read(config: &Config, object: &Value) -> Slice {
    let raw = RawValue::from_string(object.to_string()).unwrap();
    decode(&Rules::of(config), &raw).unwrap()
}

fn endpoint(endpoint: &Endpoint) -> String {
    let mut line = format!("{} {}", endpoint.address, endpoint.health);
    if !endpoint.locality.zone.is_empty() {
        line += &format!(" in {}", endpoint.locality.zone);
    }
    for (key, value) in &endpoint.metadata {
        line += &format!(" {key}={value}");
    }
    if !endpoint.health_reason.is_empty() {
        line += &format!(" ({})", endpoint.health_reason);
    }
    line
}

fn rejection(Rejection { provenance, reason }: &Rejection) -> String {
    format!("!{}: {reason}", provenance.record)
}

/// What a slice says, a line for each address of each service.
fn say(config: &Config, object: &Value) -> String {
    let slice = read(config, object);
    let line = |entry: &Entry| match entry {
        Entry::Listed { endpoint: listed, pod } => {
            format!(
                "{}{}",
                endpoint(listed),
                pod.as_deref().map(|pod| format!(" [{pod}]")).unwrap_or_default()
            )
        }
        Entry::Omitted(address) => format!("{address} omitted"),
        Entry::Refused(refused) => rejection(refused),
    };
    let entries = slice.entries.iter();
    let entries = entries.flat_map(|(name, all)| all.iter().map(move |entry| format!("{name} {}", line(entry))));
    let strays = slice.strays.iter().map(rejection);
    entries.chain(strays).collect::<Vec<_>>().join("\n")
}

fn usual(fields: &Value) -> String {
    say(&Config::default(), &object("web-x7k2p", 159, fields))
}

#[test]
fn a_slice_of_the_controller_is_read() {
    assert_eq!(
        usual(&json!({})),
        "web.demo 10.1.0.1:8080 healthy in eu-1a node=n1 pod=web-0 [pod-0]\n\
         web.demo 10.1.0.2:8080 healthy"
    );
    let slice = read(&Config::default(), &object("web-x7k2p", 159, &json!({})));
    let Some(Entry::Listed { endpoint, .. }) = slice.entries.values().flatten().next() else {
        panic!("{slice:?}")
    };
    assert_eq!(endpoint.provenance.record.as_ref(), "demo/web-x7k2p/10.1.0.1");
    assert_eq!((endpoint.provenance.revision, endpoint.provenance.stable), (159, true));
    assert!(endpoint.provenance.raw.contains("forZones"));
    assert!(endpoint.scheme.is_none() && endpoint.weight.get() == 1.0);
}

#[test]
fn each_named_port_is_a_service() {
    let ports = json!([
        { "name": "http", "protocol": "TCP", "port": 8080, "appProtocol": "kubernetes.io/h2c" },
        { "name": "metrics", "protocol": "TCP", "port": 9090 }]);
    let endpoints = json!([{ "addresses": ["10.1.0.1"], "conditions": {} }]);
    let fields = json!({ "ports": ports, "endpoints": endpoints });
    assert_eq!(
        usual(&fields),
        "web.demo:http 10.1.0.1:8080 healthy app_protocol=kubernetes.io/h2c\n\
         web.demo:metrics 10.1.0.1:9090 healthy"
    );
    let named = Config {
        service_name: Naming::Name,
        main_port: Some("http".to_owned()),
        ..Config::default()
    };
    assert_eq!(
        say(&named, &object("web-x7k2p", 159, &fields)),
        "web 10.1.0.1:8080 healthy app_protocol=kubernetes.io/h2c\n\
         web:metrics 10.1.0.1:9090 healthy"
    );
}

#[test]
fn conditions_become_health_with_their_reason() {
    let of = |config: &Config, ready: Option<bool>, serving: Option<bool>, terminating: Option<bool>| {
        let conditions = json!({ "ready": ready, "serving": serving, "terminating": terminating });
        let fields = json!({ "endpoints": [{ "addresses": ["10.1.0.1"], "conditions": conditions }] });
        let said = say(config, &object("web-x7k2p", 159, &fields));
        said.replace("web.demo 10.1.0.1:8080 ", "")
    };
    let (yes, no) = (Some(true), Some(false));
    let usual = |ready, serving, terminating| of(&Config::default(), ready, serving, terminating);
    assert_eq!(usual(yes, yes, no), "healthy");
    assert_eq!(usual(None, None, None), "healthy");
    assert_eq!(
        usual(no, yes, yes),
        "draining (ready=false serving=true terminating=true)"
    );
    assert_eq!(usual(no, None, yes), "draining (ready=false terminating=true)");
    assert_eq!(
        usual(no, no, no),
        "unhealthy (ready=false serving=false terminating=false)"
    );
    assert_eq!(usual(no, None, None), "unhealthy (ready=false)");
    assert_eq!(usual(no, no, yes), "omitted");
    // publishNotReadyAddresses says that everything is ready.
    assert_eq!(
        usual(yes, no, yes),
        "healthy (ready=true serving=false terminating=true)"
    );
    let strict = Config {
        not_ready: NotReady::Omit,
        ..Config::default()
    };
    assert_eq!(of(&strict, no, no, no), "omitted");
    assert_eq!(
        of(&strict, no, yes, yes),
        "draining (ready=false serving=true terminating=true)"
    );
}

#[test]
fn what_can_not_be_connected_to_is_rejected_aloud() {
    let cases = [
        (
            json!({ "addressType": "FQDN", "endpoints": [{ "addresses": ["a.example"] }] }),
            "web.demo !demo/web-x7k2p: addressType FQDN: EDS takes no host names",
        ),
        (
            json!({ "addressType": "Unix" }),
            "web.demo !demo/web-x7k2p: addressType \"Unix\" is not known",
        ),
        (
            json!({ "ports": [{ "name": "dns", "port": 53, "protocol": "UDP" }] }),
            "web.demo:dns !demo/web-x7k2p:dns: the port \"dns\" speaks UDP, not TCP",
        ),
        (
            json!({ "ports": [{ "name": "all", "protocol": "TCP" }] }),
            "web.demo:all !demo/web-x7k2p:all: the port \"all\" has no number",
        ),
        (
            json!({ "ports": [{ "name": "far", "port": 65536 }] }),
            "web.demo:far !demo/web-x7k2p:far: the number of the port \"far\" is outside 1 to 65535",
        ),
        (
            json!({ "ports": null }),
            "web.demo !demo/web-x7k2p: the slice has endpoints and no port",
        ),
        (json!({ "ports": null, "endpoints": null }), ""),
        (json!({ "ports": 7 }), "web.demo !demo/web-x7k2p: ports is not a list"),
        (
            json!({ "endpoints": {} }),
            "web.demo !demo/web-x7k2p: endpoints is not a list",
        ),
        (
            json!({ "ports": [7] }),
            "web.demo !demo/web-x7k2p: a port is not an object",
        ),
    ];
    for (fields, expected) in cases {
        assert_eq!(usual(&fields), expected, "{fields}");
    }
}

#[test]
fn a_bad_endpoint_rejects_itself_and_nobody_else() {
    let cases = [
        (json!({ "addresses": [] }), "#0: the endpoint has no address"),
        (json!({ "addresses": [7] }), "#0: the endpoint has no address"),
        (json!(7), "#0: the endpoint has no address"),
        (json!({ "addresses": ["0.0.0.0"] }), "/0.0.0.0: 0.0.0.0 is no address"),
        (
            json!({ "addresses": ["fe80::1%eth0"] }),
            "/fe80::1%eth0: \"fe80::1%eth0\" carries",
        ),
        (
            json!({ "addresses": ["a.example"] }),
            "/a.example: \"a.example\" is not an IP",
        ),
        (
            json!({ "addresses": ["10.0.0.9"], "conditions": { "ready": "yes" } }),
            "/10.0.0.9: the condition ready is neither true nor false",
        ),
    ];
    for (bad, expected) in cases {
        let said = usual(&json!({ "endpoints": [bad, { "addresses": ["10.1.0.2", "10.1.0.3"] }] }));
        assert!(said.contains(expected), "{said}");
        assert!(said.ends_with("web.demo 10.1.0.2:8080 healthy"), "{said}");
    }
}

#[test]
fn what_is_beyond_the_limits_of_the_api_does_not_multiply() {
    let many = |count: usize, item: Value| Value::Array(vec![item; count]);
    let endpoints = many(1001, json!({ "addresses": ["10.0.0.1"] }));
    assert_eq!(
        usual(&json!({ "endpoints": endpoints })),
        "web.demo !demo/web-x7k2p: the slice has 1001 endpoints, the API allows 1000"
    );
    let ports = many(101, json!({ "name": "a", "port": 1 }));
    assert_eq!(
        usual(&json!({ "ports": ports })),
        "web.demo !demo/web-x7k2p: the slice has 101 ports, the API allows 100"
    );
    let zone = "z".repeat(10_000);
    let said = usual(&json!({ "endpoints": [{ "addresses": ["10.0.0.1"], "zone": zone, "nodeName": zone }] }));
    assert!(said.len() < 400, "{}", said.len());
}

#[test]
fn a_service_that_can_not_be_named_belongs_to_nobody() {
    let mut slice = object("web-x7k2p", 159, &json!({}));
    slice["metadata"]["labels"]["kubernetes.io/service-name"] = json!("x".repeat(300));
    assert!(say(&Config::default(), &slice).starts_with("!demo/web-x7k2p:: the service has no usable name"));
    slice["metadata"]["labels"]["kubernetes.io/service-name"] = json!("");
    assert_eq!(
        say(&Config::default(), &slice),
        "!demo/web-x7k2p: the label kubernetes.io/service-name is empty"
    );
    for field in ["name", "namespace", "uid", "resourceVersion"] {
        let mut nameless = object("web-x7k2p", 159, &json!({}));
        nameless["metadata"][field] = json!("");
        let raw = RawValue::from_string(nameless.to_string()).unwrap();
        assert!(decode(&Rules::of(&Config::default()), &raw).is_none(), "{field}");
    }
}

/// Records under test, with a clock that only moves when it is told to.
struct Held {
    config: Config,
    records: Records,
    now: Instant,
    version: u64,
}

impl Held {
    fn new(config: Config) -> Self {
        Self {
            records: Records::new(&config),
            config,
            now: Instant::now(),
            version: 0,
        }
    }

    fn slice(&mut self, name: &str, fields: &Value) -> Slice {
        self.version += 1;
        read(&self.config, &object(name, self.version, fields))
    }

    /// Puts a slice with these addresses, `!` before those that terminate.
    fn put(&mut self, name: &str, addresses: &[&str]) -> Vec<String> {
        self.put_with(name, &json!({ "endpoints": endpoints(addresses) }))
    }

    fn put_with(&mut self, name: &str, fields: &Value) -> Vec<String> {
        let slice = self.slice(name, fields);
        shown(&self.records.put(slice, self.now))
    }

    fn remove(&mut self, name: &str) -> Vec<String> {
        let slice = self.slice(name, &json!({}));
        shown(&self.records.remove(&slice, self.now))
    }

    fn wait(&mut self, millis: u64) -> Vec<String> {
        self.now += Duration::from_millis(millis);
        shown(&self.records.expire(self.now))
    }

    fn snapshot(&self) -> Vec<String> {
        self.records.snapshot().iter().map(service).collect()
    }
}

fn endpoints(addresses: &[&str]) -> Value {
    let one = |address: &&str| match address.strip_prefix('!') {
        None => json!({ "addresses": [address], "conditions": { "ready": true } }),
        Some(address) => json!({ "addresses": [address],
            "conditions": { "ready": false, "serving": true, "terminating": true } }),
    };
    addresses.iter().map(one).collect()
}

fn service(service: &Service) -> String {
    let endpoints = service.endpoints.iter().map(|endpoint| {
        let mark = if endpoint.health.is_usable() { "" } else { "!" };
        format!("{mark}{}", endpoint.address.ip())
    });
    let rejections = service
        .rejections
        .iter()
        .map(|rejection| format!("-{}", rejection.provenance.record));
    let items: Vec<_> = endpoints.chain(rejections).collect();
    format!("{}[{}]", service.name, items.join(" "))
}

fn shown(changes: &[Change]) -> Vec<String> {
    let line = |change: &Change| match change {
        Change::Applied(applied) => service(applied),
        Change::Deleted(name) => format!("-{name}"),
    };
    changes.iter().map(line).collect()
}

#[test]
fn slices_of_one_service_add_up_and_rewrites_are_silent() {
    let mut held = Held::new(Config::default());
    assert_eq!(held.put("a", &["10.0.0.1"]), ["web.demo[10.0.0.1]"]);
    assert_eq!(
        held.put("b", &["10.0.0.2", "10.0.0.1"]),
        ["web.demo[10.0.0.1 10.0.0.2]"]
    );
    assert_eq!(held.put("a", &["10.0.0.1"]), [""; 0]);
    assert_eq!(held.put("b", &["10.0.0.2"]), [""; 0], "it is still in the other slice");
    assert_eq!(held.snapshot(), ["web.demo[10.0.0.1 10.0.0.2]"]);
}

#[test]
fn an_endpoint_that_moves_is_never_away() {
    let mut held = Held::new(Config::default());
    held.put("a", &["10.0.0.1", "10.0.0.2"]);
    assert_eq!(held.put("a", &["10.0.0.1"]), [""; 0], "it is in no slice for a moment");
    assert_eq!(held.wait(299), [""; 0]);
    assert_eq!(held.put("b", &["10.0.0.2"]), [""; 0]);
    assert_eq!(held.wait(1000), [""; 0]);
    assert_eq!(held.remove("b"), [""; 0]);
    assert_eq!(held.snapshot(), ["web.demo[10.0.0.1 10.0.0.2]"]);
    assert_eq!(
        held.put("b", &["10.0.0.2"]),
        [""; 0],
        "its slice was deleted and made anew"
    );
}

#[test]
fn a_removal_is_late_by_no_more_than_its_bound_and_never_when_there_is_evidence() {
    let mut held = Held::new(Config::default());
    held.put("a", &["10.0.0.1", "10.0.0.2", "10.0.0.3"]);
    assert_eq!(held.put("a", &["10.0.0.1", "10.0.0.3"]), [""; 0]);
    held.wait(200);
    assert_eq!(held.put("a", &["10.0.0.3"]), [""; 0], "another one leaves later");
    assert_eq!(
        held.records.next_deadline(),
        Some(held.now + Duration::from_millis(100))
    );
    assert_eq!(held.wait(100), ["web.demo[10.0.0.1 10.0.0.3]"]);
    assert_eq!(held.wait(199), [""; 0]);
    assert_eq!(held.wait(1), ["web.demo[10.0.0.3]"]);
    assert_eq!(
        held.put("a", &["!10.0.0.3", "10.0.0.4"]),
        ["web.demo[!10.0.0.3 10.0.0.4]"]
    );
    assert_eq!(
        held.put("a", &["10.0.0.4"]),
        ["web.demo[10.0.0.4]"],
        "it was terminating"
    );
    let ended = json!([{ "addresses": ["10.0.0.4"],
        "conditions": { "ready": false, "serving": false, "terminating": true } }]);
    assert_eq!(
        held.put_with("a", &json!({ "endpoints": ended })),
        ["web.demo[]"],
        "it is said to have ended"
    );
    assert_eq!(held.records.next_deadline().filter(|when| *when > held.now), None);
    let at_once = Config {
        settle: Duration::ZERO,
        ..Config::default()
    };
    let mut held = Held::new(at_once);
    held.put("a", &["10.0.0.1", "10.0.0.2"]);
    assert_eq!(held.put("a", &["10.0.0.1"]), ["web.demo[10.0.0.1]"]);
}

#[test]
fn the_last_slice_takes_the_service_with_it() {
    let mut held = Held::new(Config::default());
    held.put("a", &["10.0.0.1"]);
    held.put("b", &["!10.0.0.2"]);
    assert_eq!(held.remove("b"), ["web.demo[10.0.0.1]"]);
    assert_eq!(held.remove("a"), [""; 0]);
    assert_eq!(held.remove("a"), [""; 0]);
    assert_eq!(held.wait(300), ["-web.demo"]);
    assert_eq!(held.snapshot(), [""; 0]);
    held.put("a", &["!10.0.0.1"]);
    assert_eq!(held.remove("a"), ["-web.demo"]);
}

#[test]
fn an_event_that_is_older_than_what_is_held_changes_nothing() {
    let mut held = Held::new(Config::default());
    let old = held.slice("a", &json!({ "endpoints": endpoints(&["10.0.0.1"]) }));
    held.put("a", &["10.0.0.2"]);
    assert_eq!(shown(&held.records.put(old.clone(), held.now)), [""; 0]);
    assert_eq!(shown(&held.records.remove(&old, held.now)), [""; 0]);
    assert_eq!(held.snapshot(), ["web.demo[10.0.0.2]"]);
}

#[test]
fn a_service_without_pods_keeps_its_ports() {
    let ports = json!([{ "name": "http", "port": 80 }, { "name": "admin", "port": 81 }]);
    let with = |addresses: &[&str]| json!({ "ports": ports, "endpoints": endpoints(addresses) });
    // What the controller writes for a service without pods.
    let placeholder = json!({ "ports": null, "endpoints": null });
    let mut held = Held::new(Config::default());
    assert_eq!(held.put_with("a", &placeholder), ["web.demo[]"]);
    assert_eq!(
        held.put_with("a", &with(&["!10.0.0.1"])),
        ["-web.demo", "web.demo:admin[!10.0.0.1]", "web.demo:http[!10.0.0.1]"]
    );
    assert_eq!(
        held.put_with("a", &placeholder),
        ["web.demo:admin[]", "web.demo:http[]"]
    );
    assert_eq!(
        held.put_with("a", &with(&["10.0.0.1"])),
        ["web.demo:admin[10.0.0.1]", "web.demo:http[10.0.0.1]"]
    );
    let one = json!({ "ports": [{ "name": "http", "port": 80 }], "endpoints": endpoints(&["10.0.0.1"]) });
    assert_eq!(held.put_with("a", &one), [""; 0]);
    assert_eq!(
        held.wait(300),
        ["-web.demo:admin"],
        "a port that the others outlive is gone"
    );
}

#[test]
fn a_label_that_changes_moves_the_endpoints() {
    let mut held = Held::new(Config::default());
    held.put("a", &["!10.0.0.1"]);
    held.version += 1;
    let mut moved = object("a", held.version, &json!({ "endpoints": endpoints(&["10.0.0.1"]) }));
    moved["metadata"]["labels"]["kubernetes.io/service-name"] = json!("shop");
    let moved = read(&held.config, &moved);
    assert_eq!(
        shown(&held.records.put(moved, held.now)),
        ["shop.demo[10.0.0.1]", "-web.demo"]
    );
}

#[test]
fn the_word_of_the_pods_own_controller_counts_first_and_the_mirrors_last() {
    let managed = |held: &mut Held, name: &str, manager: &str, addresses: &[&str]| {
        held.version += 1;
        let mut slice = object(name, held.version, &json!({ "endpoints": endpoints(addresses) }));
        slice["metadata"]["labels"]["endpointslice.kubernetes.io/managed-by"] = json!(manager);
        let slice = read(&held.config, &slice);
        shown(&held.records.put(slice, held.now))
    };
    let mut held = Held::new(Config::default());
    let mirror = "endpointslicemirroring-controller.k8s.io";
    assert_eq!(managed(&mut held, "a", mirror, &["10.0.0.1"]), ["web.demo[10.0.0.1]"]);
    assert_eq!(managed(&mut held, "b", "acme", &["!10.0.0.1"]), ["web.demo[!10.0.0.1]"]);
    let controller = "endpointslice-controller.k8s.io";
    assert_eq!(
        managed(&mut held, "c", controller, &["10.0.0.1"]),
        ["web.demo[10.0.0.1]"]
    );
    // Two slices of one manager: the healthier counts.
    assert_eq!(managed(&mut held, "d", controller, &["!10.0.0.1"]), [""; 0]);
}

#[test]
fn of_a_pod_with_two_families_the_preferred_one_counts() {
    let pods = |addresses: &[(&str, &str)]| -> Value {
        let one = |(address, pod): &(&str, &str)| json!({ "addresses": [address], "conditions": {}, "targetRef": { "kind": "Pod", "name": pod, "uid": pod } });
        addresses.iter().map(one).collect()
    };
    let seen = |family: Family| {
        let mut held = Held::new(Config {
            address_family: family,
            ..Config::default()
        });
        held.put_with(
            "v4",
            &json!({ "endpoints": pods(&[("10.0.0.1", "a"), ("10.0.0.2", "b")]) }),
        );
        let six = json!({ "addressType": "IPv6", "endpoints": pods(&[("fd00::1", "a"), ("fd00::3", "c")]) });
        held.put_with("v6", &six);
        held.snapshot().concat()
    };
    assert_eq!(seen(Family::PreferIpv4), "web.demo[10.0.0.1 10.0.0.2 fd00::3]");
    assert_eq!(seen(Family::PreferIpv6), "web.demo[10.0.0.2 fd00::1 fd00::3]");
    assert_eq!(seen(Family::Ipv4), "web.demo[10.0.0.1 10.0.0.2]");
    assert_eq!(seen(Family::Ipv6), "web.demo[fd00::1 fd00::3]");
    assert_eq!(seen(Family::Both), "web.demo[10.0.0.1 10.0.0.2 fd00::1 fd00::3]");
}

#[test]
fn a_pod_that_gets_the_preferred_family_changes_over_at_once() {
    let pod = |address: &str| json!([{ "addresses": [address], "targetRef": { "uid": "a" } }]);
    let mut held = Held::new(Config::default());
    held.put_with("v6", &json!({ "addressType": "IPv6", "endpoints": pod("fd00::1") }));
    assert_eq!(
        held.put_with("v4", &json!({ "endpoints": pod("10.0.0.1") })),
        ["web.demo[10.0.0.1]"]
    );
}

#[test]
fn a_slice_that_can_not_be_read_any_more_refuses_each_of_its_endpoints() {
    let mut held = Held::new(Config::default());
    held.put("a", &["10.0.0.1", "10.0.0.2"]);
    held.put("b", &["10.0.0.3"]);
    held.put_with("a", &json!({ "endpoints": 7 }));
    let refused = "web.demo[10.0.0.3 -demo/a/10.0.0.1 -demo/a/10.0.0.2]";
    assert_eq!(
        held.wait(300),
        [refused],
        "the catalog keeps endpoints whose record is refused"
    );
    assert_eq!(held.put_with("a", &json!({ "endpoints": 8 })), [""; 0]);
    assert_eq!(held.snapshot(), [refused]);
    assert_eq!(held.put("a", &["10.0.0.1"]), ["web.demo[10.0.0.1 10.0.0.3]"]);
}

#[test]
fn a_listing_is_the_difference_to_what_was_held_and_waits_for_moves_too() {
    let mut held = Held::new(Config::default());
    held.put("a", &["10.0.0.1", "10.0.0.2"]);
    held.put("b", &["!10.0.0.3"]);
    let listing = vec![held.slice("a", &json!({ "endpoints": endpoints(&["10.0.0.1"]) }))];
    held.records.replace(listing, held.now);
    assert_eq!(held.snapshot(), ["web.demo[10.0.0.1 10.0.0.2]"]);
    assert_eq!(held.wait(300), ["web.demo[10.0.0.1]"]);
    // Another registry: what is missing is the catalog's to hold, and not ours to remove later.
    let listing = vec![held.slice("c", &json!({ "endpoints": endpoints(&["10.0.0.9"]) }))];
    held.records.forget();
    held.records.replace(listing, held.now);
    assert_eq!(held.snapshot(), ["web.demo[10.0.0.9]"]);
    assert_eq!(held.wait(300), [""; 0]);
}

#[test]
fn what_belongs_to_nobody_is_told_when_it_changes() {
    let mut held = Held::new(Config::default());
    let nameless = |version: u64| {
        let mut slice = object("a", version, &json!({}));
        slice["metadata"]["labels"]["kubernetes.io/service-name"] = json!("");
        read(&Config::default(), &slice)
    };
    let told = |held: &mut Held| held.records.tell_unattributed().map(|all| all.len());
    assert_eq!(told(&mut held), None);
    held.records.put(nameless(1), held.now);
    assert_eq!(told(&mut held), Some(1));
    held.records.put(nameless(2), held.now);
    assert_eq!(told(&mut held), None);
    assert_eq!(held.records.versions(None).len(), 1, "a comparison finds it, too");
    assert_eq!(held.records.versions(Some("demo")).len(), 1);
    assert_eq!(held.records.versions(Some("dem")).len(), 0);
    held.version = 2;
    held.remove("a");
    assert_eq!(told(&mut held), Some(0));
}

proptest! {
    #![proptest_config(leadsman_property::cases(256))]
    /// Whatever the slices say, in whatever order: what is told at the end is what a fresh reader would be told.
    #[test]
    fn what_is_told_adds_up_to_what_is_there(
        steps in proptest::collection::vec((0_u8..4, 0_u8..2, proptest::collection::vec(1_u8..6, 0..4), 0_u64..400), 0..30),
    ) {
        let mut held = Held::new(Config::default());
        let mut told: std::collections::BTreeMap<String, String> = std::collections::BTreeMap::new();
        let mut last: std::collections::BTreeMap<String, Value> = std::collections::BTreeMap::new();
        for (slice, kind, hosts, wait) in steps {
            let name = format!("s{slice}");
            let fields = json!({ "endpoints": endpoints(
                &hosts.iter().map(|host| format!("{}10.0.0.{host}", if host % 2 == 0 { "!" } else { "" })).collect::<Vec<_>>()
                    .iter().map(String::as_str).collect::<Vec<_>>()) });
            held.version += 1;
            let read = read(&held.config, &object(&name, held.version, &fields));
            let mut changes = if kind == 0 {
                last.insert(name.clone(), fields);
                held.records.put(read, held.now)
            } else {
                last.remove(&name);
                held.records.remove(&read, held.now)
            };
            held.now += Duration::from_millis(wait);
            changes.extend(held.records.expire(held.now));
            for change in changes {
                match &change {
                    Change::Applied(applied) => drop(told.insert(applied.name.to_string(), service(applied))),
                    Change::Deleted(name) => drop(told.remove(name.as_str())),
                }
            }
            prop_assert_eq!(told.values().cloned().collect::<Vec<_>>(), held.snapshot());
        }
        held.wait(300);
        let mut fresh = Held::new(Config::default());
        for (name, fields) in last {
            fresh.put_with(&name, &fields);
        }
        prop_assert_eq!(held.snapshot(), fresh.snapshot());
        prop_assert_eq!(held.records.next_deadline(), None);
    }

    #[test]
    fn nothing_in_a_slice_can_panic(text in ".*", number in any::<i64>()) {
        let odd = [json!(text), json!(number), json!([text]), json!({ "name": text }), json!(null)];
        for value in &odd {
            for field in ["addressType", "endpoints", "ports", "metadata"] {
                let mut slice = object("a", 1, &json!({}));
                slice[field] = value.clone();
                let raw = RawValue::from_string(slice.to_string()).unwrap();
                let _ = decode(&Rules::of(&Config::default()), &raw);
            }
            let endpoint = json!([{ "addresses": [text], "conditions": value, "zone": value, "targetRef": value }]);
            let ports = json!([{ "name": text, "port": number, "protocol": value, "appProtocol": text }]);
            let _ = usual(&json!({ "endpoints": endpoint, "ports": ports }));
        }
    }
}

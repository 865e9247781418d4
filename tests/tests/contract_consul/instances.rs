//! What a real Consul makes of registrations: checks, maintenance, addresses and the layouts of frameworks.

use leadsman_core::model::{Endpoint, Health};
use leadsman_registry::SourceState;
use leadsman_registry::consul::{Config, Consul as Adapter};
use leadsman_tests::consul::Setup;
use leadsman_tests::contract::{Subject, state};
use leadsman_tests::instance::Instance;
use leadsman_tests::observed::{Observed, Shown, State};
use leadsman_tests::wait::{PATIENT, until};
use serde_json::{Value, json};

use leadsman_tests::rigs::consul::{Rig, registration};

fn endpoints(observed: &Observed, service: &str) -> Vec<Endpoint> {
    let heard = observed.heard();
    heard
        .services
        .get(service)
        .map(|service| service.endpoints.clone())
        .unwrap_or_default()
}

pub(crate) async fn every_check_counts(setup: Setup) {
    let rig = Rig::start(setup).await;
    let mut web = registration("web", Instance::new(9001));
    web["Service"]["Weights"] = json!({ "Passing": 10, "Warning": 1 });
    rig.consul.register(&web).await;
    let observed = rig.observe();
    let cases = [
        ("service:web-9001", "warning", Health::Degraded, 1.0),
        ("serfHealth", "passing", Health::Degraded, 1.0),
        ("service:web-9001", "passing", Health::Healthy, 10.0),
        ("serfHealth", "critical", Health::Unhealthy, 10.0),
        ("_node_maintenance", "critical", Health::Draining, 10.0),
    ];
    for (check, status, health, weight) in cases {
        let service = if check.starts_with("service:") { "web-9001" } else { "" };
        web["Checks"] = json!([{ "CheckID": check, "Name": check, "Status": status, "ServiceID": service }]);
        rig.consul.register(&web).await;
        let shown = Shown { weight, health };
        let expected = [("web".to_owned(), [("127.0.0.1:9001".to_owned(), shown)].into())];
        observed.becomes(&expected.into()).await;
    }
}

pub(crate) async fn an_agent_in_maintenance_drains_its_instances(setup: Setup) {
    let rig = Rig::start(setup).await;
    let service = json!({ "ID": "web1", "Name": "web", "Port": 9001,
        "Check": { "TTL": "1h", "Status": "passing" } });
    rig.consul.put("/v1/agent/service/register", &service).await;
    let observed = rig.observe();
    let is = async |health: Health, reason: &str| {
        until(PATIENT, &format!("{health} {reason}"), async || {
            let found = endpoints(&observed, "web");
            matches!(&found[..], [one] if one.health == health && &*one.health_reason == reason)
        })
        .await;
    };
    is(Health::Healthy, "").await;
    let switch = async |path: &str| {
        rig.consul.put(path, &Value::Null).await;
    };
    switch("/v1/agent/service/maintenance/web1?enable=true&reason=upgrade").await;
    is(Health::Draining, "maintenance: upgrade").await;
    switch("/v1/agent/service/maintenance/web1?enable=false").await;
    is(Health::Healthy, "").await;
    switch("/v1/agent/maintenance?enable=true&reason=reboot").await;
    is(Health::Draining, "maintenance: reboot").await;
    switch("/v1/agent/maintenance?enable=false").await;
    is(Health::Healthy, "").await;
    switch("/v1/agent/check/fail/service:web1").await;
    is(Health::Unhealthy, "service:web1 is critical").await;
}

/// Consul takes every name in a registration, but no question with characters that can't be printed.
pub(crate) async fn a_name_that_no_question_can_hold_rejects_itself(setup: Setup) {
    let rig = Rig::start(setup).await;
    let names = [
        "a/b",
        "with space",
        "a//b",
        "a/../b",
        "zero\u{200b}width",
        "en\u{2002}space",
    ];
    for (port, name) in (9001..).zip(names) {
        rig.consul.register(&registration(name, Instance::new(port))).await;
    }
    let observed = rig.observe();
    let good = names.iter().zip(9001..).take(4);
    let mut taken: State = good
        .flat_map(|(name, port)| state(&[(name, &[Instance::new(port)])]))
        .collect();
    let refused = async |count: usize| {
        until(PATIENT, &format!("{count} refused names"), async || {
            observed.heard().unattributed == count
        })
        .await;
    };
    observed.becomes(&taken).await;
    refused(2).await;
    observed.enters(&[SourceState::Live]).await;

    // Others come and go while a session lives.
    rig.deregister(names[4], 9005).await;
    refused(1).await;
    rig.consul.register(&registration("\u{a0}", Instance::new(9007))).await;
    rig.consul.register(&registration("web", Instance::new(9008))).await;
    refused(2).await;
    taken.append(&mut state(&[("web", &[Instance::new(9008)])]));
    observed.becomes(&taken).await;
    let counters = observed.status().counters;
    assert_eq!((counters.sessions, counters.resyncs), (1, 1), "{:?}", observed.status());
}

/// Consul answers with the instances of both, whichever is asked for, and forgets a name when nobody bears it any more.
pub(crate) async fn names_that_differ_in_case_share_their_instances(setup: Setup) {
    let mut rig = Rig::start(setup).await;
    let (one, two, three) = (Instance::new(9001), Instance::new(9002), Instance::new(9003));
    rig.put("Web", one).await;
    rig.put("web", two).await;
    let observed = rig.observe();
    observed
        .becomes(&state(&[("Web", &[one, two]), ("web", &[one, two])]))
        .await;
    rig.remove("Web", one.port).await;
    observed.becomes(&state(&[("web", &[two])])).await;
    rig.put("WEB", three).await;
    observed
        .becomes(&state(&[("WEB", &[two, three]), ("web", &[two, three])]))
        .await;
}

pub(crate) async fn a_tagged_address_is_taken_where_there_is_one(setup: Setup) {
    let rig = Rig::start(setup).await;
    let service = |id: &str, port: u16, tagged: Value| {
        json!({ "Node": "out", "Address": "10.0.0.1", "TaggedAddresses": { "wan": "198.51.100.9" },
                "Service": { "ID": id, "Service": "web", "Port": port, "TaggedAddresses": tagged } })
    };
    let wan = json!({ "wan": { "Address": "198.51.100.1", "Port": 443 } });
    rig.consul.register(&service("tagged", 80, wan)).await;
    rig.consul.register(&service("plain", 81, json!({}))).await;
    let config = Config {
        tagged_address: Some("wan".to_owned()),
        datacenter: Some("dc1".to_owned()),
        ..rig.config()
    };
    let (usual, tagged) = (rig.observe(), Observed::start(Adapter::new(config)));
    let addresses = |observed: &Observed| {
        let found = endpoints(observed, "web");
        found
            .iter()
            .map(|endpoint| endpoint.address.to_string())
            .collect::<Vec<_>>()
    };
    until(PATIENT, "ordinary addresses", async || {
        addresses(&usual) == ["10.0.0.1:80", "10.0.0.1:81"]
    })
    .await;
    until(PATIENT, "tagged addresses", async || {
        addresses(&tagged) == ["198.51.100.1:443", "198.51.100.9:81"]
    })
    .await;
}

/// What Consul adds by itself, such as `lan_ipv4`, must not hide what a framework wrote.
pub(crate) async fn registrations_of_frameworks_are_read_from_a_real_consul(setup: Setup) {
    let rig = Rig::start(setup).await;
    let kratos = json!({ "ID": "k1", "Name": "kratos", "Tags": ["version=v2"], "Address": "10.0.0.1", "Port": 9000,
        "Meta": { "weight": "30" },
        "TaggedAddresses": { "grpc": { "Address": "grpc://10.0.0.1:9000", "Port": 9000 },
                             "http": { "Address": "http://10.0.0.1:8000", "Port": 8000 } } });
    let kitex = json!({ "ID": "kitex:10.0.0.2:8888", "Name": "kitex", "Tags": ["zone:b"], "Address": "10.0.0.2",
        "Port": 8888, "Weights": { "Passing": 20, "Warning": 20 } });
    let spring = json!({ "ID": "spring-8080", "Name": "spring", "Address": "10.0.0.3", "Port": 8080,
        "Meta": { "secure": "true", "zone": "a", "weight": "3" } });
    // The text "v1.2.0", deflated, in hexadecimal digits.
    let micro = json!({ "ID": "micro-5f", "Name": "micro", "Address": "10.0.0.4", "Port": 9090,
        "Tags": ["t-789c", "v-789c2b33d433d233000005990166"], "Meta": { "zone": "c" } });
    let goframe = json!({ "ID": "goframe-v1-10.0.0.5:8000", "Name": "goframe", "Tags": ["v1"], "Address": "10.0.0.5",
        "Port": 8000, "Meta": { "metadata": "{\"weight\":40,\"zone\":\"d\"}", "version": "v1" } });
    let ports = json!({ "ID": "p1", "Name": "ports", "Address": "10.0.0.6",
        "Ports": [{ "Name": "metrics", "Port": 9091 }, { "Name": "http", "Port": 8081, "Default": true }] });
    let named = json!({ "ID": "n1", "Name": "named", "Address": "db.example", "Port": 5432 });
    for registration in [kratos, kitex, spring, micro, goframe, ports, named] {
        rig.consul.put("/v1/agent/service/register", &registration).await;
    }
    let observed = rig.observe();
    let said = || {
        let shown = |endpoint: &Endpoint| {
            let (layout, scheme) = (&endpoint.provenance.layout, endpoint.scheme.as_deref().unwrap_or("-"));
            format!(
                "{layout} {scheme} {} w={} zone={}",
                endpoint.address, endpoint.weight, endpoint.locality.zone
            )
        };
        let services = ["kratos", "kitex", "spring", "micro", "goframe", "ports"];
        let all = services.iter().flat_map(|service| endpoints(&observed, service));
        all.map(|endpoint| shown(&endpoint)).collect::<Vec<_>>()
    };
    let expected = [
        "kratos http 10.0.0.1:8000 w=30 zone=",
        "kratos grpc 10.0.0.1:9000 w=30 zone=",
        "kitex - 10.0.0.2:8888 w=20 zone=b",
        "spring-cloud - 10.0.0.3:8080 w=3 zone=a",
        "go-micro - 10.0.0.4:9090 w=1 zone=c",
        "goframe - 10.0.0.5:8000 w=40 zone=d",
        "consul - 10.0.0.6:8081 w=1 zone=",
    ];
    until(PATIENT, "every framework", async || said().len() == expected.len()).await;
    assert_eq!(said(), expected);
    until(PATIENT, "the host name", async || {
        observed.heard().services.contains_key("named")
    })
    .await;
    let reason = observed.heard().services["named"].rejections[0].reason.clone();
    assert!(reason.contains("EDS takes no host names"), "{reason}");
}

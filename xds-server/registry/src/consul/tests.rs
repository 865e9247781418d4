//! Instances as a Consul 1.22 answers them, registered in the way of each framework, and answers that nobody should
//! give.

use leadsman_core::model::{Endpoint, Locality, Rejection, ServiceName};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::config::Config;
use super::decode::{catalog, instances, instances_of, nodes};
use super::layout::{Layout, LayoutChoice};

fn config() -> Config {
    Config::new(vec![])
}

/// What an answer says, an instance a line: everything but the raw text.
fn say(config: &Config, body: &str) -> String {
    match instances(config, body.as_bytes()) {
        Ok(records) => records.values().flatten().map(line).collect::<Vec<_>>().join("\n"),
        Err(reason) => format!("refused: {reason}"),
    }
}

fn line(outcome: &Result<Endpoint, Rejection>) -> String {
    let endpoint = match outcome {
        Ok(endpoint) => endpoint,
        Err(rejection) => return format!("{}: {}", rejection.provenance.record, rejection.reason),
    };
    let Locality { region, zone, .. } = &endpoint.locality;
    let scheme = endpoint
        .scheme
        .as_deref()
        .map(|scheme| format!("{scheme}://"))
        .unwrap_or_default();
    let (record, layout) = (&endpoint.provenance.record, &endpoint.provenance.layout);
    let mut line = format!(
        "{record} {layout} {scheme}{} w={} {} at {region}/{zone}",
        endpoint.address, endpoint.weight, endpoint.health
    );
    for (key, value) in &endpoint.metadata {
        line += &format!(" {key}={value}");
    }
    line
}

/// An answer with one instance: what the server adds, and the given fields of the service.
fn answer(service: &Value) -> Value {
    let mut instance = json!({
        "Node": { "ID": "5d1ee4a7-6bbd-4c3c-a7d4-2e0f3a1d9d30", "Node": "n1", "Address": "10.0.0.9",
            "Datacenter": "dc1",
            "TaggedAddresses": { "lan": "10.0.0.9", "lan_ipv4": "10.0.0.9", "wan": "198.51.100.9" },
            "Meta": { "consul-network-segment": "", "consul-version": "1.22.5" },
            "CreateIndex": 11, "ModifyIndex": 14 },
        "Service": { "ID": "web1", "Service": "web", "Tags": null, "Address": "10.0.0.1", "Meta": null, "Port": 8080,
            "TaggedAddresses": { "lan_ipv4": { "Address": "10.0.0.1", "Port": 8080 } },
            "Weights": { "Passing": 1, "Warning": 1 }, "EnableTagOverride": false,
            "Proxy": { "Mode": "", "MeshGateway": {}, "Expose": {} }, "Connect": {}, "PeerName": "",
            "CreateIndex": 15, "ModifyIndex": 17 },
        "Checks": [
            { "Node": "n1", "CheckID": "serfHealth", "Name": "Serf Health Status", "Status": "passing", "Notes": "",
              "Output": "Agent alive and reachable", "ServiceID": "", "ServiceName": "", "ServiceTags": [] },
            { "Node": "n1", "CheckID": "service:web1", "Name": "ttl", "Status": "passing", "ServiceID": "web1" } ],
    });
    for (key, value) in service.as_object().unwrap() {
        instance["Service"][key] = value.clone();
    }
    instance
}

/// The same instance, once with the layout pinned and once detected, must say the same.
fn both(layout: Layout, service: &Value) -> String {
    let body = json!([answer(service)]).to_string();
    let pinned = Config {
        layout: LayoutChoice::Pinned(layout),
        ..config()
    };
    let detected = say(&config(), &body);
    assert_eq!(say(&pinned, &body), detected, "{layout}");
    detected
}

#[test]
fn what_no_framework_claims_is_read_as_consul_means_it() {
    let plain = json!({ "Tags": ["v1", "primary"], "Meta": { "zone": "a", "team": "x", "weight": "7" },
        "Weights": { "Passing": 10, "Warning": 3 } });
    assert_eq!(
        both(Layout::Consul, &plain),
        "n1/web1 consul 10.0.0.1:8080 w=10 healthy at dc1/a team=x"
    );
    let mut warned = answer(&plain);
    warned["Checks"][1]["Status"] = json!("warning");
    assert_eq!(
        say(&config(), &json!([warned]).to_string()),
        "n1/web1 consul 10.0.0.1:8080 w=3 degraded at dc1/a team=x"
    );
    let bare = json!({ "Address": "", "TaggedAddresses": null });
    assert_eq!(
        both(Layout::Consul, &bare),
        "n1/web1 consul 10.0.0.9:8080 w=1 healthy at dc1/"
    );
}

/// The table in docs/registries/consul.md, a case a row.
#[test]
fn each_row_of_the_documented_table_is_true() {
    let says = |checks: Value| {
        let mut instance = answer(&json!({ "Weights": { "Passing": 10, "Warning": 3 } }));
        instance["Checks"] = checks;
        let records = instances(&config(), json!([instance]).to_string().as_bytes()).unwrap();
        let outcome = records.values().flatten().next().cloned().unwrap().unwrap();
        format!("{} w={} {}", outcome.health, outcome.weight, outcome.health_reason)
    };
    let check = |id: &str, status: &str| json!({ "CheckID": id, "Status": status, "Notes": "upgrade" });
    let ok = || check("serfHealth", "passing");
    let critical = |id: &str| json!([ok(), check(id, "critical"), check("c", "warning")]);
    for (checks, expected) in [
        (critical("_node_maintenance"), "draining w=10 maintenance: upgrade"),
        (
            critical("_service_maintenance:web1"),
            "draining w=10 maintenance: upgrade",
        ),
        (critical("service:web1"), "unhealthy w=10 service:web1 is critical"),
        (critical("serfHealth"), "unhealthy w=10 serfHealth is critical"),
        (json!([ok(), check("c", "warning")]), "degraded w=3 c is warning"),
        (json!([ok(), check("c", "sleepy")]), "unknown w=10 c is sleepy"),
        (json!([ok(), check("c", "passing")]), "healthy w=10 "),
        (json!([]), "unknown w=10 "),
        (Value::Null, "unknown w=10 "),
    ] {
        assert_eq!(says(checks.clone()), expected, "{checks}");
    }
    let weighs = |weights: Value| {
        let service = json!({ "Weights": weights });
        say(&config(), &json!([answer(&service)]).to_string())
    };
    for (weights, expected) in [
        (Value::Null, "w=1 "),
        (json!({}), "w=1 "),
        (json!({ "Passing": 0 }), "w=0 "),
        (json!({ "Passing": -1 }), "w=1 "),
    ] {
        let said = weighs(weights);
        assert!(said.contains(expected), "{expected}: {said}");
    }
}

#[test]
fn several_ports_have_a_default() {
    let mut several = answer(&json!({ "Ports": [{ "Name": "metrics", "Port": 9090 },
        { "Name": "http", "Port": 8081, "Default": true }] }));
    several["Service"].as_object_mut().unwrap().remove("Port");
    assert_eq!(
        say(&config(), &json!([several]).to_string()),
        "n1/web1 consul 10.0.0.1:8081 w=1 healthy at dc1/"
    );
    several["Service"].as_object_mut().unwrap().remove("Ports");
    assert_eq!(
        say(&config(), &json!([several]).to_string()),
        "n1/web1: port 0 is outside 1 to 65535"
    );
}

#[test]
fn kratos_has_an_endpoint_a_scheme() {
    let service = json!({ "Tags": ["version=v2"], "Address": "10.0.0.1", "Port": 9000, "Meta": { "weight": "30", "env": "p" },
        "TaggedAddresses": { "lan_ipv4": { "Address": "10.0.0.1", "Port": 9000 },
            "grpc": { "Address": "grpc://10.0.0.1:9000?isSecure=true", "Port": 9000 },
            "http": { "Address": "http://10.0.0.1:8000", "Port": 8000 } } });
    assert_eq!(
        both(Layout::Kratos, &service),
        "n1/web1 kratos grpc://10.0.0.1:9000 w=30 healthy at dc1/ env=p secure=true version=v2\n\
         n1/web1 kratos http://10.0.0.1:8000 w=30 healthy at dc1/ env=p version=v2"
    );
    let bad = json!({ "TaggedAddresses": { "grpc": { "Address": "grpc://a.example:9000" },
        "http": { "address": "http://10.0.0.1:8000" } } });
    assert_eq!(
        both(Layout::Kratos, &bad),
        "n1/web1: \"a.example\" is not an IP address; EDS takes no host names, so register the address itself\n\
         n1/web1 kratos http://10.0.0.1:8000 w=100 healthy at dc1/"
    );
}

#[test]
fn spring_cloud_says_whether_it_is_secure() {
    let service = json!({ "ID": "orders-8443", "Service": "orders", "Port": 8443,
        "Meta": { "secure": "true", "zone": "b", "group": "g", "version": "1", "weight": "3" } });
    assert_eq!(
        both(Layout::SpringCloud, &service),
        "n1/orders-8443 spring-cloud 10.0.0.1:8080 w=3 healthy at dc1/b group=g secure=true version=1"
            .replace("8080", "8443")
    );
    let plain = json!({ "Meta": { "secure": "false" }, "Weights": { "Passing": 4, "Warning": 4 } });
    assert_eq!(
        both(Layout::SpringCloud, &plain),
        "n1/web1 spring-cloud 10.0.0.1:8080 w=4 healthy at dc1/ secure=false"
    );
    let old = json!({ "Tags": ["zone=b", "group=g", "blue", "weight=3", "secure=true"] });
    assert_eq!(
        both(Layout::SpringCloud, &old),
        "n1/web1 spring-cloud 10.0.0.1:8080 w=3 healthy at dc1/b group=g secure=true"
    );
}

#[test]
fn kitex_and_hertz_name_an_instance_by_its_address() {
    let service = json!({ "ID": "web:10.0.0.1:8888", "Port": 8888, "Tags": ["zone:b", "version:v3", "bare"],
        "Weights": { "Passing": 20, "Warning": 20 } });
    assert_eq!(
        both(Layout::Kitex, &service),
        "n1/web:10.0.0.1:8888 kitex 10.0.0.1:8888 w=20 healthy at dc1/b version=v3"
    );
    let unset = json!({ "ID": "web:10.0.0.1:8888", "Port": 8888, "Weights": { "Passing": 0, "Warning": 0 } });
    assert_eq!(
        both(Layout::Kitex, &unset),
        "n1/web:10.0.0.1:8888 kitex 10.0.0.1:8888 w=10 healthy at dc1/"
    );
    let six = json!({ "ID": "web:fd00::1:8888", "Address": "fd00::1", "Port": 8888, "Tags": ["env:p"] });
    assert_eq!(
        both(Layout::Kitex, &six),
        "n1/web:fd00::1:8888 kitex [fd00::1]:8888 w=1 healthy at dc1/ env=p"
    );
    let wan = Config {
        tagged_address: Some("wan".to_owned()),
        ..config()
    };
    let tagged = json!({ "ID": "web:10.0.0.1:8888", "Port": 8888, "Tags": ["env:p"],
        "TaggedAddresses": { "wan": { "Address": "198.51.100.1", "Port": 443 } } });
    assert_eq!(
        say(&wan, &json!([answer(&tagged)]).to_string()),
        "n1/web:10.0.0.1:8888 kitex 198.51.100.1:443 w=1 healthy at dc1/ env=p"
    );
}

#[test]
fn go_micro_packs_its_version_and_its_metadata_into_tags() {
    // The deflated texts "v1.2.0", {"zone":"c"} and {"weight":"5"} in hexadecimal digits.
    let (version, zone) = (
        "v-789c2b33d433d233000005990166",
        "t-789caa56aacacf4b55b2524a56aa05040000ffff1a8403da",
    );
    let weight = "t-789caa562a4fcd4ccf2851b2523255aa05040000ffff24680478";
    let service = json!({ "ID": "greeter-5f", "Tags": ["t-789c", zone, weight, r#"t={"broker":"http"}"#, version] });
    assert_eq!(
        both(Layout::GoMicro, &service),
        "n1/greeter-5f go-micro 10.0.0.1:8080 w=5 healthy at dc1/c broker=http version=v1.2.0"
    );
    for tag in ["v-", "v-zz", "v-00", "v-789c", "v-é", "v-1"] {
        let damaged = json!({ "Tags": [tag] });
        assert_eq!(
            both(Layout::Consul, &damaged),
            "n1/web1 consul 10.0.0.1:8080 w=1 healthy at dc1/",
            "{tag}"
        );
    }
}

#[test]
fn goframe_has_a_document_in_its_meta() {
    let service = json!({ "ID": "web-v1-10.0.0.1:8000", "Tags": ["v1"],
        "Meta": { "metadata": r#"{"weight":40,"zone":"c","k":"v"}"#, "version": "v1" } });
    assert_eq!(
        both(Layout::Goframe, &service),
        "n1/web-v1-10.0.0.1:8000 goframe 10.0.0.1:8080 w=40 healthy at dc1/c k=v version=v1"
    );
    let bare = json!({ "ID": "web-v1-10.0.0.1:8080", "Tags": ["v1"], "Meta": { "metadata": "null" } });
    assert_eq!(
        both(Layout::Goframe, &bare),
        "n1/web-v1-10.0.0.1:8080 goframe 10.0.0.1:8080 w=100 healthy at dc1/ version=v1"
    );
}

#[test]
fn a_tagged_address_of_the_service_then_of_the_node_is_preferred() {
    let wan = Config {
        tagged_address: Some("wan".to_owned()),
        ..config()
    };
    let read = |service| say(&wan, &json!([answer(&service)]).to_string());
    let tagged = json!({ "TaggedAddresses": { "wan": { "Address": "198.51.100.1", "Port": 443 } } });
    assert_eq!(read(tagged), "n1/web1 consul 198.51.100.1:443 w=1 healthy at dc1/");
    let without_port = json!({ "TaggedAddresses": { "wan": { "Address": "198.51.100.1" } } });
    assert_eq!(
        read(without_port),
        "n1/web1 consul 198.51.100.1:8080 w=1 healthy at dc1/"
    );
    assert_eq!(read(json!({})), "n1/web1 consul 10.0.0.1:8080 w=1 healthy at dc1/");
    assert_eq!(
        read(json!({ "Address": "" })),
        "n1/web1 consul 198.51.100.9:8080 w=1 healthy at dc1/"
    );
}

#[test]
fn a_bad_instance_rejects_itself_and_nobody_else() {
    let cases = [
        (json!({ "Address": "a.example" }), "\"a.example\" is not an IP address"),
        (json!({ "Address": "0.0.0.0" }), "0.0.0.0 is no address"),
        (json!({ "Port": 65536 }), "port 65536 is outside"),
        (json!({ "Port": -1 }), "port -1 is outside"),
        (json!({ "Port": [] }), "port 0 is outside"),
        (
            json!({ "Weights": "heavy", "Meta": [], "Tags": {}, "TaggedAddresses": 7 }),
            "",
        ),
    ];
    for (service, expected) in cases {
        let good = answer(&json!({ "ID": "good" }));
        let said = say(&config(), &json!([answer(&service), good, 7, {}]).to_string());
        let good = "n1/good consul 10.0.0.1:8080 w=1 healthy at dc1/";
        assert!(
            said.contains(good) && said.contains(expected) && said.contains("#2: "),
            "{said}"
        );
    }
}

#[test]
fn names_that_look_alike_together_hide_nobody() {
    let mut one = answer(&json!({ "ID": "b/c" }));
    one["Node"]["Node"] = json!("a");
    let mut other = answer(&json!({ "ID": "c", "Port": 8081 }));
    other["Node"]["Node"] = json!("a/b");
    assert_eq!(
        say(&config(), &json!([one, other]).to_string()),
        "a/b/c consul 10.0.0.1:8080 w=1 healthy at dc1/\na/b/c consul 10.0.0.1:8081 w=1 healthy at dc1/"
    );
}

#[test]
fn a_name_that_nobody_bears_is_no_service_although_consul_answers() {
    let body = json!([answer(&json!({})), answer(&json!({ "ID": "web2", "Service": "Web" }))]).to_string();
    let count = |name: &str, body: &str| {
        let name = ServiceName::new(name).unwrap();
        instances_of(&config(), &name, body.as_bytes()).map(|records| records.len())
    };
    assert_eq!((count("web", &body), count("Web", &body)), (Ok(2), Ok(2)));
    assert_eq!((count("WEB", &body), count("web", "[]")), (Ok(0), Ok(0)));
    assert_eq!(count("WEB", "[{}]"), Ok(1));
    assert!(count("web", "null").is_err());
}

#[test]
fn only_an_empty_list_is_empty() {
    assert_eq!(say(&config(), "[]"), "");
    for body in ["", "null", "{}", "[", "[}", "rpc error", "\u{0}"] {
        assert!(say(&config(), body).starts_with("refused: "), "{body:?}");
        assert!(nodes(body.as_bytes()).is_err(), "{body:?}");
    }
    let body = json!([answer(&json!({})), { "Node": { "ID": "" } }, null]).to_string();
    let ids: Vec<_> = nodes(body.as_bytes()).unwrap().into_iter().collect();
    assert_eq!(ids, ["5d1ee4a7-6bbd-4c3c-a7d4-2e0f3a1d9d30"]);
}

proptest! {
    #![proptest_config(leadsman_property::cases(256))]
    #[test]
    fn nothing_in_an_answer_can_panic(body in ".*", id in ".*", tag in ".*", address in ".*", port in any::<i64>()) {
        let service = json!({ "ID": id, "Service": tag, "Tags": [tag], "Address": address, "Port": port,
            "Meta": { "metadata": tag, "version": id, "secure": tag, "weight": address },
            "TaggedAddresses": { "x": { "Address": format!("{tag}://{address}") }, "y": address } });
        for layout in Layout::ALL {
            let config = Config { layout: LayoutChoice::Pinned(layout), tagged_address: Some("x".to_owned()), ..config() };
            let _ = instances(&config, body.as_bytes());
            prop_assert!(instances(&config, json!([answer(&service), body]).to_string().as_bytes()).is_ok());
        }
        let _ = (catalog(body.as_bytes()), nodes(body.as_bytes()), say(&config(), &json!([answer(&service)]).to_string()));
    }
}

//! Recorded records of each framework, and records that nobody should write.

use leadsman_core::model::{Endpoint, Locality, Rejection};
use proptest::prelude::*;

use super::*;
use crate::layout::tags::{MAX_ENTRIES, MAX_KEY_BYTES, MAX_VALUE_BYTES};

/// What a record says, one line an endpoint or a rejection: everything but the provenance.
fn say(choice: LayoutChoice, prefix: &str, key: &str, value: &str) -> String {
    match decode(choice, prefix, key.as_bytes(), value.as_bytes(), 7) {
        Decoded::NotAnInstance => "not an instance".to_owned(),
        Decoded::Unattributed(rejection) => format!("unattributed: {}", rejection.reason),
        Decoded::Instances { service, outcomes } => {
            let lines: Vec<String> = outcomes.iter().map(line).collect();
            format!("{service}: {}", lines.join(" | "))
        }
    }
}

fn line(outcome: &Result<Endpoint, Rejection>) -> String {
    let endpoint = match outcome {
        Ok(endpoint) => endpoint,
        Err(rejection) => return format!("rejected: {}", rejection.reason),
    };
    let scheme = endpoint
        .scheme
        .as_deref()
        .map(|scheme| format!("{scheme}://"))
        .unwrap_or_default();
    let mut line = format!("{scheme}{} w={} {}", endpoint.address, endpoint.weight, endpoint.health);
    if !endpoint.health_reason.is_empty() {
        line += &format!("({})", endpoint.health_reason);
    }
    if endpoint.locality != Locality::default() {
        let Locality { region, zone, sub_zone } = &endpoint.locality;
        line += &format!(" at {region}/{zone}/{sub_zone}");
    }
    for (key, value) in &endpoint.metadata {
        line += &format!(" {key}={value}");
    }
    line
}

/// The same record, once with the layout pinned and once detected, must say the same.
fn both(layout: Layout, prefix: &str, key: &str, value: &str) -> String {
    let pinned = say(LayoutChoice::Pinned(layout), prefix, key, value);
    let detected = say(LayoutChoice::Auto, prefix, key, value);
    assert_eq!(pinned, detected, "{layout} is not what auto finds for {key}");
    pinned
}

fn pinned(layout: Layout, prefix: &str, key: &str, value: &str) -> String {
    say(LayoutChoice::Pinned(layout), prefix, key, value)
}

#[test]
fn grpc_go_names_the_service_by_its_target() {
    let read = |value| both(Layout::Grpc, "foo/bar/", "foo/bar/my-service/e1", value);
    assert_eq!(
        read(r#"{"Op":0,"Addr":"1.2.3.4","Metadata":null}"#),
        r#"my-service: rejected: "1.2.3.4" is not host:port"#
    );
    assert_eq!(
        read(r#"{"Op":0,"Addr":"10.0.0.1:8080","Metadata":null}"#),
        "my-service: 10.0.0.1:8080 w=1 unknown"
    );
    assert_eq!(
        read(r#"{"Addr":"10.0.0.1:8080","Metadata":{"weight":"5","zone":"a","version":"v2"}}"#),
        "my-service: 10.0.0.1:8080 w=5 unknown at /a/ version=v2"
    );
    assert_eq!(read(r#"{"Op":1,"Addr":"10.0.0.1:8080"}"#), "my-service: ");
    assert_eq!(
        read(r#"{"Addr":"10.0.0.1:8080","Metadata":"text"}"#),
        "my-service: 10.0.0.1:8080 w=1 unknown"
    );
}

#[test]
fn kratos_has_an_endpoint_a_scheme() {
    let read = |value| both(Layout::Kratos, "/microservices/", "/microservices/helloworld/0", value);
    let value = r#"{"id":"0","name":"helloworld","version":"v1","metadata":{"weight":"0","region":"eu"},
        "endpoints":["grpc://10.0.0.1:9000?isSecure=false","http://10.0.0.1:8000?isSecure=true","grpcs://[::1]:9001","x","http://host:1"]}"#;
    assert_eq!(
        read(value),
        "helloworld: grpc://10.0.0.1:9000 w=0 unknown at eu// version=v1 \
         | http://10.0.0.1:8000 w=0 unknown at eu// secure=true version=v1 \
         | grpcs://[::1]:9001 w=0 unknown at eu// secure=true version=v1 \
         | rejected: the endpoint \"x\" has no scheme \
         | rejected: \"host\" is not an IP address; EDS takes no host names, so register the address itself"
    );
}

#[test]
fn an_instance_with_no_address_is_no_endpoint_and_no_error() {
    for endpoints in ["null", "[]"] {
        let value = format!(r#"{{"id":"0","name":"helloworld","version":"","metadata":null,"endpoints":{endpoints}}}"#);
        let said = both(Layout::Kratos, "/microservices/", "/microservices/helloworld/0", &value);
        assert_eq!(said, "helloworld: ", "{endpoints}");
        let value = format!(r#"{{"name":"a","version":"","metadata":null,"endpoints":null,"nodes":{endpoints}}}"#);
        let said = both(Layout::GoMicro, "/x/", "/x/a/0", &value);
        assert_eq!(said, "a: ", "{endpoints}");
    }
    for value in [r#"{"name":"a"}"#, r#"{"name":"a","endpoints":"x","nodes":7}"#] {
        assert_eq!(
            pinned(Layout::Kratos, "/x/", "/x/a/0", value),
            "a: rejected: the record lists no endpoints"
        );
        assert_eq!(
            pinned(Layout::GoMicro, "/x/", "/x/a/0", value),
            "a: rejected: the record lists no nodes"
        );
    }
}

#[test]
fn an_announced_deletion_is_no_endpoint_and_no_error() {
    let value = r#"{"Op":1,"Addr":"10.0.0.1:8080"}"#;
    assert_eq!(both(Layout::Grpc, "/x/", "/x/a/1", value), "a: ");
    let value = r#"{"Op":1,"Addr":"10.0.0.1:8080","MetadataX":{}}"#;
    assert_eq!(both(Layout::Jupiter, "grpc:", "grpc:a:v1:m/10.0.0.1", value), "a: ");
}

#[test]
fn kratos_weighs_100_unless_it_says_otherwise() {
    let weigh = |metadata: &str| {
        let value = format!(r#"{{"name":"a","metadata":{metadata},"endpoints":["http://10.0.0.1:80"]}}"#);
        both(Layout::Kratos, "/microservices/", "/microservices/a/0", &value)
    };
    for (metadata, weight) in [
        ("null", 100.0),
        ("{}", 100.0),
        (r#"{"weight":"7"}"#, 7.0),
        (r#"{"weight":7}"#, 7.0),
        (r#"{"weight":"-7"}"#, 100.0),
        (r#"{"weight":"heavy"}"#, 100.0),
        (r#"{"weight":"0"}"#, 0.0),
    ] {
        assert_eq!(
            weigh(metadata),
            format!("a: http://10.0.0.1:80 w={weight} unknown"),
            "{metadata}"
        );
    }
}

#[test]
fn go_zero_is_an_address_and_nothing_else() {
    assert_eq!(
        pinned(Layout::GoZero, "", "key/123", "thevalue"),
        r#"key: rejected: "thevalue" is not host:port"#
    );
    assert_eq!(
        both(
            Layout::GoZero,
            "user.rpc",
            "user.rpc/7587870460981677828",
            "192.168.0.5:8080"
        ),
        "user.rpc: 192.168.0.5:8080 w=1 unknown"
    );
    assert_eq!(
        both(Layout::GoZero, "", "user.rpc/7587870460981677828", "user-0.svc:8080"),
        "user.rpc: rejected: \"user-0.svc\" is not an IP address; EDS takes no host names, so register the address itself"
    );
}

#[test]
fn go_micro_lists_nodes() {
    let read = |key, value| both(Layout::GoMicro, "/micro/registry/", key, value);
    let recorded = r#"{"name":"greeter","version":"latest","metadata":null,
        "endpoints":[{"name":"Say.Hello","request":null}],
        "nodes":[{"metadata":{"broker":"http","protocol":"grpc","registry":"etcd","server":"grpc","transport":"grpc"},
                  "id":"greeter-8f7e","address":"192.168.1.7:41245"}]}"#;
    assert_eq!(
        read("/micro/registry/greeter/greeter-8f7e", recorded),
        "greeter: 192.168.1.7:41245 w=1 unknown broker=http protocol=grpc registry=etcd server=grpc transport=grpc \
         version=latest"
    );
    let several = r#"{"name":"go/greeter","nodes":[{"address":"10.0.0.1","port":80},{"address":"10.0.0.2:81"},{"address":""},7]}"#;
    assert_eq!(
        read("/micro/registry/go-greeter/x", several),
        "go/greeter: 10.0.0.1:80 w=1 unknown | 10.0.0.2:81 w=1 unknown | rejected: \"\" is not host:port \
         | rejected: a node is not a JSON object"
    );
    assert_eq!(
        read("/micro/registry/a/x", r#"{"name":"b","nodes":[]}"#),
        r#"a: rejected: the record says that its name is "b", its key says "a""#
    );
}

#[test]
fn kitex_and_hertz_write_the_same_record() {
    let value = r#"{"network":"tcp","address":"127.0.0.1:8888","weight":66,"tags":{"hello":"world"}}"#;
    assert_eq!(
        both(
            Layout::Kitex,
            "kitex/registry-etcd/",
            "kitex/registry-etcd/registry-etcd-test/127.0.0.1:8888",
            value
        ),
        "registry-etcd-test: 127.0.0.1:8888 w=66 unknown hello=world"
    );
    assert_eq!(
        both(Layout::Hertz, "hertz/", "hertz/registry-etcd/a/127.0.0.1:8888", value),
        "a: 127.0.0.1:8888 w=66 unknown hello=world"
    );
    for weight in ["0", "-5", "null", "\"x\""] {
        let value = format!(r#"{{"network":"tcp","address":"127.0.0.1:8888","weight":{weight},"tags":null}}"#);
        assert_eq!(
            both(Layout::Kitex, "/", "/a/127.0.0.1:8888", &value),
            "a: 127.0.0.1:8888 w=10 unknown",
            "{weight}"
        );
    }
    assert!(both(Layout::Kitex, "/", "/a/x", r#"{"network":"unix","address":"/tmp/s"}"#).contains("rejected: "));
}

#[test]
fn goframe_has_its_addresses_in_the_key() {
    let key = "/service/default/default/goframe-provider-0-tcp/latest/127.0.0.1:9000";
    let read = |value| both(Layout::Goframe, "/service/", key, value);
    assert_eq!(
        read(r#"{"insecure":true,"protocol":"http"}"#),
        "goframe-provider-0-tcp: 127.0.0.1:9000 w=100 unknown deployment=default insecure=true namespace=default \
         protocol=http version=latest"
    );
    assert_eq!(
        read("").split(" w=").next(),
        Some("goframe-provider-0-tcp: 127.0.0.1:9000")
    );
    assert!(read(r#"{"weight":3}"#).contains(" w=3 "));
    assert!(read("{").contains("rejected: the value is not a JSON object"));
    let two = "/service/d/n/a/v1/10.0.0.1:80,10.0.0.2:80";
    assert_eq!(both(Layout::Goframe, "/service/", two, "{}").matches(" | ").count(), 1);
}

#[test]
fn dubbo_interface_has_everything_in_the_key() {
    let key = "/dubbo/link.elastic.dubbo.entity.DemoService/providers/\
               dubbo%3A%2F%2F192.168.1.9%3A20880%2Flink.elastic.dubbo.entity.DemoService%3Fanyhost%3Dtrue%26\
               application%3Ddubbo-demo-api-provider%26release%3D3.0.8%26side%3Dprovider%26timestamp%3D1655023329514";
    assert_eq!(
        both(Layout::DubboInterface, "/dubbo/", key, ""),
        "link.elastic.dubbo.entity.DemoService: dubbo://192.168.1.9:20880 w=100 unknown \
         application=dubbo-demo-api-provider release=3.0.8"
    );
    let read = |url: &str| {
        let key = format!("/dubbo/a.B/providers/{url}");
        both(Layout::DubboInterface, "/dubbo/", &key, "")
    };
    assert_eq!(
        read(
            "tri%3A%2F%2Fuser%3Apw%40%5B%3A%3A1%5D%3A50051%2Fa.B%3Fweight%3D0%26disabled%3Dtrue%26group%3Dg%26version%3D1.0%26pid%3D7%26ssl-enabled%3Dtrue"
        ),
        "a.B: tri://[::1]:50051 w=0 draining(disabled=true) group=g secure=true version=1.0"
    );
    assert_eq!(
        read("dubbo%3A%2F%2F10.0.0.1%3A20880%2Fa.B%3Fdynamic%3Dfalse%26enabled%3Dfalse"),
        "a.B: dubbo://10.0.0.1:20880 w=100 draining(enabled=false)"
    );
    assert_eq!(
        read("empty%3A%2F%2F0.0.0.0%2Fa.B"),
        "a.B: rejected: the URL is empty://: no provider"
    );
    assert_eq!(
        read("dubbo%3A%2F%2F0.0.0.0%3A1%2Fa.B"),
        "a.B: rejected: 0.0.0.0 is no address of an instance (unspecified, multicast or broadcast)"
    );
}

#[test]
fn what_else_is_in_a_dubbo_tree_is_no_instance() {
    for key in [
        "/dubbo",
        "/dubbo/a.B",
        "/dubbo/a.B/providers",
        "/dubbo/a.B/consumers/consumer%3A%2F%2F10.0.0.9%2Fa.B",
        "/dubbo/a.B/routers/condition%3A%2F%2F0.0.0.0%2Fa.B",
        "/dubbo/a.B/configurators/override%3A%2F%2F0.0.0.0%2Fa.B%3Fweight%3D200",
        "/dubbo/mapping/a.B",
        "/dubbo/metadata/a.B/provider",
    ] {
        assert_eq!(
            both(Layout::DubboInterface, "/dubbo", key, ""),
            "not an instance",
            "{key}"
        );
    }
    assert_eq!(
        both(Layout::DubboInterface, "/dubbo", "/dubbo/mapping/a.B", "app-1,app-2"),
        "not an instance"
    );
}

#[test]
fn dubbo_application_health_and_weight() {
    let read = |fields: &str| {
        let value = format!(
            r#"{{"ID":"1","ServiceName":"shop","Host":"10.0.0.1","Port":20880,"ServiceMetadata":null,"Metadata":null{fields}}}"#
        );
        both(Layout::DubboApp, "/services/", "/services/shop/10.0.0.1:20880", &value)
    };
    for (fields, says) in [
        (
            r#","Weight":0,"Enable":true,"Healthy":true"#,
            "w=100 healthy(Healthy=true)",
        ),
        (
            r#","Weight":30,"Enable":true,"Healthy":true"#,
            "w=30 healthy(Healthy=true)",
        ),
        (r#","Enable":false,"Healthy":true"#, "w=100 draining(Enable=false)"),
        (r#","Enable":true,"Healthy":false"#, "w=100 unhealthy(Healthy=false)"),
        (r#","Enable":false,"Healthy":false"#, "w=100 draining(Enable=false)"),
        ("", "w=100 unknown"),
    ] {
        assert_eq!(read(fields), format!("shop: 10.0.0.1:20880 {says}"), "{fields}");
    }
}

#[test]
fn dubbo_application_has_an_endpoint_a_protocol() {
    let value = r#"{"ID":"1","ServiceName":"shop","Host":"10.0.0.1","Port":20880,"Enable":true,"Healthy":true,"Tag":"gray","Metadata":{
        "dubbo.endpoints":"[{\"port\":20880,\"protocol\":\"dubbo\"},{\"port\":50051,\"protocol\":\"tri\"},{\"port\":0}]",
        "dubbo.metadata.revision":"871fbc9cb2730caea9b0d858852d5ede","timestamp":"1674960780647","weight":"0","zone":"a","env":"prod"}}"#;
    assert_eq!(
        both(Layout::DubboApp, "/services/", "/services/shop/10.0.0.1:20880", value),
        "shop: dubbo://10.0.0.1:20880 w=0 healthy(Healthy=true) at /a/ env=prod tag=gray \
         | tri://10.0.0.1:50051 w=0 healthy(Healthy=true) at /a/ env=prod tag=gray \
         | rejected: port 0 is outside 1 to 65535"
    );
    let broken = r#"{"ServiceName":"shop","Host":"10.0.0.1","Port":"20880","Metadata":{"dubbo.endpoints":"[{"}}"#;
    assert_eq!(
        both(Layout::DubboApp, "/services/", "/services/shop/x", broken),
        "shop: 10.0.0.1:20880 w=100 unknown"
    );
}

#[test]
fn rpcx_has_a_query_and_markers() {
    let read = |value| both(Layout::Rpcx, "/rpcx_test", "/rpcx_test/Arith/tcp@127.0.0.1:8972", value);
    for (value, says) in [
        ("", "w=1 unknown"),
        ("weight=4&group=test", "w=4 unknown group=test"),
        ("state=inactive&ops=10", "w=1 draining(state=inactive)"),
        ("state=active", "w=1 healthy(state=active)"),
        ("group=test1&group=test&ops=20", "w=1 unknown group=test1,test"),
        (
            "calls=1.50&connections=3.00&version=v1&weight=-1",
            "w=1 unknown version=v1",
        ),
        ("weight=0", "w=0 unknown"),
        ("%zz=%ff&zone=a", "w=1 unknown at /a/ %zz=\u{fffd}"),
    ] {
        assert_eq!(read(value), format!("Arith: tcp://127.0.0.1:8972 {says}"), "{value}");
    }
    assert_eq!(
        both(Layout::Rpcx, "/rpcx_test", "/rpcx_test", "rpcx_path"),
        "not an instance"
    );
    assert_eq!(
        both(Layout::Rpcx, "/rpcx_test", "/rpcx_test/Arith", "Arith"),
        "not an instance"
    );
}

#[test]
fn jupiter_health_and_weight() {
    let read = |value: &str| {
        both(
            Layout::Jupiter,
            "grpc:",
            "grpc:server.test:v1:unknown-mode/127.0.0.1",
            value,
        )
    };
    let recorded = r#"{"Op":0,"Addr":"10.10.10.1:9091","MetadataX":{"name":"service_1","appId":"","scheme":"grpc",
        "address":"10.10.10.1:9091","weight":0,"enable":true,"healthy":true,"metadata":{},"region":"default",
        "zone":"default","kind":1,"deployment":"default","group":""}}"#;
    assert_eq!(
        read(recorded),
        "server.test: grpc://10.10.10.1:9091 w=100 healthy(healthy=true) at default/default/ deployment=default \
         mode=unknown-mode"
    );
    for (fields, says) in [
        (r#""enable":false,"healthy":true"#, "w=100 draining(enable=false)"),
        (
            r#""enable":true,"healthy":false,"weight":5"#,
            "w=5 unhealthy(healthy=false)",
        ),
        (r#""weight":-1"#, "w=100 unknown"),
    ] {
        let value = format!(r#"{{"Op":0,"Addr":"10.10.10.1:9091","MetadataX":{{{fields}}}}}"#);
        let expected = format!("server.test: grpc://10.10.10.1:9091 {says} mode=unknown-mode");
        assert_eq!(read(&value), expected);
    }
    assert_eq!(
        both(
            Layout::Jupiter,
            "",
            "/prometheus/job/server.test/host-1",
            "10.0.0.1:9090"
        ),
        "not an instance"
    );
}

#[test]
fn skydns_names_the_service_as_dns_does() {
    let read = |value| both(Layout::Skydns, "/skydns/", "/skydns/local/skydns/x5", value);
    assert_eq!(
        read(r#"{"host":"skydns-local.server","ttl":60,"priority":10,"port":8080}"#),
        "skydns.local: rejected: \"skydns-local.server\" is not an IP address; EDS takes no host names, so register the \
         address itself"
    );
    assert_eq!(
        read(r#"{"host":"10.0.0.1","ttl":60,"priority":20,"port":8080,"weight":5,"text":"hi"}"#),
        "skydns.local: 10.0.0.1:8080 w=5 unknown priority=20 text=hi"
    );
    assert_eq!(
        read(r#"{"host":"10.0.0.1","port":8080,"weight":0}"#),
        "skydns.local: 10.0.0.1:8080 w=100 unknown priority=10"
    );
    assert_eq!(
        read(r#"{"host":"10.0.0.1"}"#),
        "skydns.local: rejected: port 0 is outside 1 to 65535"
    );
}

#[test]
fn our_own_layout_refuses_what_has_no_meaning() {
    let read = |value| both(Layout::Leadsman, "/services/", "/services/orders/a/b", value);
    assert_eq!(
        read(
            r#"{"address":"10.0.0.1","port":80,"weight":0.5,"health":"degraded",
            "locality":{"region":"eu","zone":"a","sub_zone":"r"},"metadata":{"version":"v2"}}"#
        ),
        "orders: 10.0.0.1:80 w=0.5 degraded at eu/a/r version=v2"
    );
    assert_eq!(read(r#"{"address":"10.0.0.1:80"}"#), "orders: 10.0.0.1:80 w=1 unknown");
    for (value, reason) in [
        (r#"{"address":"10.0.0.1"}"#, r#""10.0.0.1" is not host:port"#),
        (r#"{"address":"10.0.0.1","port":80.5}"#, "port 0 is outside 1 to 65535"),
        (
            r#"{"address":"10.0.0.1","port":80,"weight":-1}"#,
            "weight -1 is negative",
        ),
        (
            r#"{"address":"10.0.0.1","port":80,"weight":[]}"#,
            "weight is not a number",
        ),
        (
            r#"{"address":"10.0.0.1","port":80,"health":"sick"}"#,
            r#""sick" is no health; it is one of unknown, healthy, degraded, draining, unhealthy"#,
        ),
        (
            r#"{"address":"10.0.0.1","port":80,"health":7}"#,
            r#""7" is no health; it is one of unknown, healthy, degraded, draining, unhealthy"#,
        ),
    ] {
        assert_eq!(read(value), format!("orders: rejected: {reason}"));
    }
}

/// In the order of the documentation: a record with a place `W` for its weight, then what nothing, 0 and -1 weigh.
const WEIGHTS: [(Layout, &str, &str, [&str; 3]); 11] = [
    (
        Layout::Kratos,
        "a/1",
        r#"{"metadata":{W},"endpoints":["http://10.0.0.1:80"]}"#,
        ["100", "0", "100"],
    ),
    (
        Layout::Goframe,
        "service/d/n/a/v/10.0.0.1:80",
        "{W}",
        ["100", "0", "100"],
    ),
    (
        Layout::DubboApp,
        "a/1",
        r#"{"Host":"10.0.0.1","Port":80,W}"#,
        ["100", "100", "100"],
    ),
    (
        Layout::DubboApp,
        "a/1",
        r#"{"Host":"10.0.0.1","Port":80,"Metadata":{W}}"#,
        ["100", "0", "100"],
    ),
    (
        Layout::Jupiter,
        "grpc:a:v1:m/1",
        r#"{"Addr":"10.0.0.1:80","MetadataX":{W}}"#,
        ["100", "100", "100"],
    ),
    (
        Layout::Skydns,
        "a/1",
        r#"{"host":"10.0.0.1","port":80,W}"#,
        ["100", "100", "100"],
    ),
    (
        Layout::Kitex,
        "a/1",
        r#"{"address":"10.0.0.1:80",W}"#,
        ["10", "10", "10"],
    ),
    (
        Layout::Hertz,
        "a/1",
        r#"{"address":"10.0.0.1:80",W}"#,
        ["10", "10", "10"],
    ),
    (
        Layout::Grpc,
        "a/1",
        r#"{"Addr":"10.0.0.1:80","Metadata":{W}}"#,
        ["1", "0", "1"],
    ),
    (
        Layout::GoMicro,
        "a/1",
        r#"{"nodes":[{"address":"10.0.0.1:80","metadata":{W}}]}"#,
        ["1", "0", "1"],
    ),
    (
        Layout::Leadsman,
        "a/1",
        r#"{"address":"10.0.0.1:80",W}"#,
        ["1", "0", "rejected"],
    ),
];

#[test]
fn every_row_of_the_weight_table() {
    for (layout, key, record, weights) in WEIGHTS {
        let capitalised = layout == Layout::DubboApp && !record.contains("Metadata");
        let name = if capitalised { "Weight" } else { "weight" };
        for (raw, weight) in ["null", "0", "-1"].into_iter().zip(weights) {
            let record = record.replace('W', &format!("\"{name}\":{raw}"));
            let said = pinned(layout, "", key, &record);
            let expected = match weight {
                "rejected" => "rejected: weight -1 is negative".to_owned(),
                weight => format!(" w={weight} "),
            };
            assert!(said.contains(&expected), "{layout} {raw}: {said}");
        }
    }
    for (raw, weight) in [("", 100), ("%3Fweight%3D0", 0), ("%3Fweight%3D-1", 100)] {
        let key = format!("dubbo/a/providers/tri%3A%2F%2F10.0.0.1%3A80%2Fa{raw}");
        assert!(
            pinned(Layout::DubboInterface, "", &key, "").contains(&format!(" w={weight} ")),
            "{raw}"
        );
    }
}

#[test]
fn siblings_of_the_prefix_are_not_read() {
    for layout in Layout::ALL {
        let said = pinned(layout, "/microservices/foo", "/microservices/foobar/1", "10.0.0.1:80");
        assert_eq!(said, "not an instance", "{layout}");
    }
}

#[test]
fn a_key_that_does_not_fit_the_pinned_layout_is_attributed_to_nothing() {
    for layout in Layout::ALL {
        let said = pinned(layout, "", "lonely", "x");
        assert!(
            said.starts_with("unattributed: the key is not of the form"),
            "{layout}: {said}"
        );
    }
    let long = format!("/microservices/{}/1", "x".repeat(300));
    assert!(pinned(Layout::Kratos, "/microservices/", &long, "{}").starts_with("unattributed: the service has no"));
}

#[test]
fn what_nobody_recognises_is_said_loudly() {
    let unknown = "unattributed: no layout knows this key and value";
    for value in [
        "",
        "hello",
        "{}",
        "[]",
        r#"{"registrationTimeUTC":1,"address":"10.0.0.1","port":1}"#,
    ] {
        assert_eq!(say(LayoutChoice::Auto, "/x/", "/x/a/1", value), unknown, "{value}");
    }
    let apisix = r#"{"type":"roundrobin","name":"n","nodes":[{"host":"127.0.0.1","port":1980,"weight":1}]}"#;
    assert_eq!(say(LayoutChoice::Auto, "", "/apisix/upstreams/1", apisix), unknown);
}

#[test]
fn hostile_values_reject_themselves() {
    let deep = format!("{{\"metadata\":{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let values = [
        "",
        "{",
        "{}",
        "null",
        "[]",
        "\"\"",
        "{\"a\":1e999}",
        deep.as_str(),
        r#"{"address":"10.0.0.1:80","Addr":"10.0.0.1:80","host":"10.0.0.1","port":1e300,"weight":1e300}"#,
        r#"{"address":null,"Addr":7,"host":[],"port":"x","weight":{},"nodes":null,"endpoints":[null,7,[]],"tags":[]}"#,
        r#"{"address":"","Addr":"","host":"","port":-1,"nodes":[null],"endpoints":["://","a://",":"],"MetadataX":7}"#,
        r#"{"endpoints":["http://10.0.0.1:99999","http://10.0.0.1:-1","http://10.0.0.1:80:80"]}"#,
    ];
    for layout in Layout::ALL {
        for value in values {
            for key in [
                "a/b",
                "/dubbo/a/providers/x",
                "x:y:v1:z/1",
                "/service/a/b/c/d/e",
                "s/tcp@h",
            ] {
                let said = pinned(layout, "", key, value);
                assert!(said.len() < 1000, "{layout} {key}: {said}");
            }
        }
    }
}

#[test]
fn a_record_that_is_not_utf8_is_a_rejection() {
    let Decoded::Unattributed(rejection) = decode(LayoutChoice::Auto, "", b"a/\xff", b"10.0.0.1:80", 1) else {
        panic!("a key that is not UTF-8 has no service");
    };
    assert_eq!(rejection.reason, "the key is not UTF-8");
    let pinned = LayoutChoice::Pinned(Layout::GoZero);
    let Decoded::Instances { outcomes, .. } = decode(pinned, "", b"a/1", b"\xff\xfe", 1) else {
        panic!("the key names the service");
    };
    assert_eq!(
        outcomes.first().unwrap().as_ref().unwrap_err().reason,
        "the value is not UTF-8"
    );
}

#[test]
fn the_provenance_names_key_layout_and_revision() {
    let decoded = decode(LayoutChoice::Auto, "", b"a/1", b"10.0.0.1:80", 42);
    let Decoded::Instances { outcomes, .. } = decoded else {
        panic!("{decoded:?}")
    };
    let expected = Provenance::new("a/1", "go-zero", b"10.0.0.1:80", 42);
    assert_eq!(outcomes.first().unwrap().as_ref().unwrap().provenance, expected);
}

#[test]
fn every_layout_has_a_name_of_its_own() {
    for layout in Layout::ALL {
        assert_eq!(layout.as_str().parse(), Ok(LayoutChoice::Pinned(layout)));
    }
    assert_eq!("auto".parse(), Ok(LayoutChoice::Auto));
    let error = "consul".parse::<LayoutChoice>().unwrap_err().to_string();
    assert_eq!(
        error,
        "\"consul\" is not a layout; the layouts are auto, grpc, kratos, go-zero, go-micro, kitex, hertz, goframe, \
         dubbo-interface, dubbo-app, rpcx, jupiter, skydns, leadsman"
    );
}

fn choices() -> impl Strategy<Value = LayoutChoice> {
    let pinned = proptest::sample::select(Layout::ALL.as_slice()).prop_map(LayoutChoice::Pinned);
    prop_oneof![Just(LayoutChoice::Auto), pinned]
}

/// JSON with the field names that mean something, and values that mostly do not.
fn documents() -> impl Strategy<Value = Vec<u8>> {
    let names = [
        "Op",
        "Addr",
        "Metadata",
        "MetadataX",
        "endpoints",
        "nodes",
        "name",
        "id",
        "network",
        "address",
        "port",
        "host",
        "weight",
        "tags",
        "metadata",
        "ServiceName",
        "Host",
        "Port",
        "Enable",
        "Healthy",
        "locality",
        "health",
    ];
    let scalar = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|flag| flag.to_string()),
        any::<f64>().prop_map(|number| number.to_string()),
        any::<i64>().prop_map(|number| number.to_string()),
        "\\PC{0,12}".prop_map(|text| serde_json::Value::String(text).to_string()),
        Just("\"10.0.0.1:80\"".to_owned()),
        Just("\"http://10.0.0.1:80\"".to_owned()),
    ];
    let value = scalar.prop_recursive(3, 24, 6, move |inner| {
        let field = (proptest::sample::select(names.to_vec()), inner.clone());
        prop_oneof![
            proptest::collection::vec(inner, 0..4).prop_map(|items| format!("[{}]", items.join(","))),
            proptest::collection::vec(field, 0..8).prop_map(|fields| {
                let fields: Vec<String> = fields
                    .iter()
                    .map(|(name, value)| format!("\"{name}\":{value}"))
                    .collect();
                format!("{{{}}}", fields.join(","))
            }),
        ]
    });
    prop_oneof![
        value.prop_map(String::into_bytes),
        proptest::collection::vec(any::<u8>(), 0..64),
        "[a-z]{0,6}(=|&|://|@|:|%3A|%){0,2}[0-9.:]{0,12}".prop_map(String::into_bytes),
    ]
}

fn keys() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..40),
        "/?(microservices|micro/registry|kitex/registry-etcd|service|services|dubbo|skydns|rpcx)?(/[a-z:@%.0-9]{0,9}){0,7}"
            .prop_map(String::into_bytes),
    ]
}

proptest! {
    #![proptest_config(leadsman_property::cases(2000))]

    #[test]
    fn no_bytes_can_panic_or_pass_the_limits(choice in choices(), prefix in "(/?[a-z:]{0,6}/?){0,2}", key in keys(), value in documents()) {
        if let Decoded::Instances { outcomes, .. } = decode(choice, &prefix, &key, &value, 1) {
            // Only a record that can be read says that there is no address; a damaged one says why it is none.
            prop_assert!(!outcomes.is_empty() || serde_json::from_slice::<serde_json::Value>(&value).is_ok());
            for endpoint in outcomes.iter().flatten() {
                prop_assert!(endpoint.metadata.len() <= MAX_ENTRIES);
                for (key, value) in &endpoint.metadata {
                    prop_assert!(key.len() <= MAX_KEY_BYTES && value.len() <= MAX_VALUE_BYTES);
                }
                prop_assert!(endpoint.weight.get() <= f64::from(u32::MAX) || endpoint.provenance.layout.as_ref() == "leadsman");
            }
        }
    }
}

//! Recorded nodes of each framework, and nodes that nobody should write.

use leadsman_core::model::{Endpoint, Locality, Rejection};
use proptest::prelude::*;

use super::super::client::Birth;
use super::*;

fn leaf(data: &[u8]) -> Node {
    Node {
        data: data.to_vec(),
        mzxid: 7,
        newest: 7,
        birth: Birth::default(),
        ephemeral: true,
        has_children: false,
    }
}

/// What a node says, one line an endpoint or a rejection: everything but the provenance.
fn say(choice: LayoutChoice, prefix: &str, path: &str, node: &Node) -> String {
    match decode(choice, prefix, path, node) {
        Meaning::Rule { service, .. } => format!("{service}: a rule"),
        Meaning::Record(Decoded::NotAnInstance) => "not an instance".to_owned(),
        Meaning::Record(Decoded::Unattributed(rejection)) => format!("unattributed: {}", rejection.reason),
        Meaning::Record(Decoded::Instances { service, outcomes }) => {
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
    let scheme = endpoint.scheme.as_deref().map(|scheme| format!("{scheme}://"));
    let scheme = scheme.unwrap_or_default();
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

/// The same node, once with the layout pinned and once detected, must say the same.
fn both(layout: Layout, prefix: &str, path: &str, data: &str) -> String {
    let node = leaf(data.as_bytes());
    let pinned = say(LayoutChoice::Pinned(layout), prefix, path, &node);
    let detected = say(LayoutChoice::Auto, prefix, path, &node);
    assert_eq!(pinned, detected, "{layout} is not what auto finds for {path}");
    if let Meaning::Record(Decoded::Instances { outcomes, .. }) = decode(LayoutChoice::Auto, prefix, path, &node)
        && let Some(Ok(endpoint)) = outcomes.first()
    {
        assert_eq!(endpoint.provenance.layout.as_ref(), layout.as_str());
    }
    pinned
}

const SPRING: &str = r#"{"name":"cloud-provider-payment","id":"585ddd0b-7d30-4225-afda-758f05b75c8f",
    "address":"192.168.0.106","port":8004,"sslPort":null,"payload":{
    "@class":"org.springframework.cloud.zookeeper.discovery.ZookeeperInstance","id":"application-1",
    "name":"cloud-provider-payment","metadata":{METADATA}},"registrationTimeUTC":1698197224917,
    "serviceType":"DYNAMIC","uriSpec":{"parts":[{"value":"scheme","variable":true},{"value":"://","variable":false},
    {"value":"address","variable":true},{"value":":","variable":false},{"value":"port","variable":true}]}}"#;

#[test]
fn spring_cloud_says_its_status_in_the_metadata() {
    let read = |metadata: &str| {
        let record = SPRING.replace("METADATA", metadata);
        both(
            Layout::SpringCloud,
            "/services",
            "/services/cloud-provider-payment/585ddd0b-7d30-4225-afda-758f05b75c8f",
            &record,
        )
    };
    for (metadata, says) in [
        ("", "w=1 unknown"),
        (r#""instance_status":"UP""#, "w=1 healthy(instance_status=UP)"),
        (
            r#""instance_status":"OUT_OF_SERVICE""#,
            "w=1 draining(instance_status=OUT_OF_SERVICE)",
        ),
        (r#""instance_status":"DOWN""#, "w=1 unhealthy(instance_status=DOWN)"),
        (
            r#""instance_status":"STARTING""#,
            "w=1 unknown(instance_status=STARTING)",
        ),
        (
            r#""weight":"5","zone":"a","version":"v2""#,
            "w=5 unknown at /a/ version=v2",
        ),
        (
            r#""dubbo.metadata-service.urls":"[]","instance_status":"OUT_OF_SERVICE""#,
            "w=1 draining(instance_status=OUT_OF_SERVICE) dubbo.metadata-service.urls=[]",
        ),
        (r#""weight":"0""#, "w=1 unknown"),
        (r#""weight":"-3""#, "w=1 unknown"),
    ] {
        let expected = format!("cloud-provider-payment: 192.168.0.106:8004 {says}");
        assert_eq!(read(metadata), expected, "{metadata}");
    }
}

#[test]
fn curator_has_a_plain_port_a_tls_port_or_neither() {
    let read = |fields: &str| {
        let record = format!(
            r#"{{"name":"orders","id":"1","address":"10.0.0.1",{fields},"registrationTimeUTC":1,"serviceType":"DYNAMIC"}}"#
        );
        both(Layout::Curator, "/base", "/base/orders/1", &record)
    };
    for (fields, says) in [
        (r#""port":80,"sslPort":null,"payload":null"#, "10.0.0.1:80 w=1 unknown"),
        (r#""port":80,"sslPort":443"#, "10.0.0.1:80 w=1 unknown"),
        (r#""port":0,"sslPort":443"#, "10.0.0.1:443 w=1 unknown secure=true"),
        (r#""port":0,"sslPort":null"#, "rejected: port 0 is outside 1 to 65535"),
        (r#""port":null,"sslPort":443"#, "10.0.0.1:443 w=1 unknown secure=true"),
        (r#""port":80,"sslPort":0"#, "10.0.0.1:80 w=1 unknown"),
        (
            r#""port":null,"sslPort":null"#,
            "rejected: the record has neither a port nor an sslPort",
        ),
        (
            r#""port":80,"enabled":false"#,
            "10.0.0.1:80 w=1 draining(enabled=false)",
        ),
        (r#""port":80,"payload":"text""#, "10.0.0.1:80 w=1 unknown"),
        (
            r#""port":80,"payload":{"weight":7,"id":"x","color":"red"}"#,
            "10.0.0.1:80 w=7 unknown color=red",
        ),
    ] {
        assert_eq!(read(fields), format!("orders: {says}"), "{fields}");
    }
    let record = r#"{"name":"users","address":"10.0.0.1","port":80,"registrationTimeUTC":1}"#;
    assert_eq!(
        both(Layout::Curator, "/base", "/base/orders/1", record),
        r#"orders: rejected: the record says that its name is "users", its path says "orders""#
    );
}

const DUBBO_APP: &str = r#"{"name":"first-dubbo-provider","id":"30.221.146.35:20880","address":"30.221.146.35","port":20880,
    "sslPort":null,"payload":{"@class":"org.apache.dubbo.registry.zookeeper.ZookeeperInstance",
    "id":"30.221.146.35:20880","name":"first-dubbo-provider","metadata":{
    "dubbo.endpoints":"[{\"port\":20880,\"protocol\":\"dubbo\"},{\"port\":50051,\"protocol\":\"tri\"},7]",
    "dubbo.metadata-service.url-params":"{}","dubbo.metadata.revision":"871fbc9cb2730caea9b0d858852d5ede",
    "dubbo.metadata.storage-type":"local","timestamp":"1674960780647","weight":"50","zone":"a"}},
    "registrationTimeUTC":1674960781893,"serviceType":"DYNAMIC","uriSpec":null}"#;

#[test]
fn a_dubbo_application_has_an_endpoint_a_protocol() {
    let path = "/services/first-dubbo-provider/30.221.146.35:20880";
    assert_eq!(
        both(Layout::DubboApp, "/services", path, DUBBO_APP),
        "first-dubbo-provider: dubbo://30.221.146.35:20880 w=50 unknown at /a/ \
         | tri://30.221.146.35:50051 w=50 unknown at /a/ \
         | rejected: an item of dubbo.endpoints is not a JSON object"
    );
    let plain = DUBBO_APP.replace("[{", "[").replace("\"50\"", "\"0\"");
    assert_eq!(
        both(Layout::DubboApp, "/services", path, &plain),
        "first-dubbo-provider: 30.221.146.35:20880 w=0 unknown at /a/"
    );
}

const PROVIDER: &str = "dubbo%3A%2F%2F192.168.1.9%3A20880%2Flink.elastic.dubbo.entity.DemoService%3Fanyhost%3Dtrue\
    %26application%3Ddubbo-demo-api-provider%26release%3D3.0.8%26side%3Dprovider%26timestamp%3D1655023329514";

#[test]
fn a_dubbo_interface_is_in_the_names() {
    let at = |rest: &str| format!("/dubbo/link.elastic.dubbo.entity.DemoService/{rest}");
    // Dubbo's ZooKeeper client fills every node with the address of whoever made it.
    let read = |rest: &str| both(Layout::DubboInterface, "/dubbo", &at(rest), "192.168.1.9");
    assert_eq!(
        read(&format!("providers/{PROVIDER}")),
        "link.elastic.dubbo.entity.DemoService: dubbo://192.168.1.9:20880 w=100 unknown \
         application=dubbo-demo-api-provider release=3.0.8"
    );
    assert_eq!(
        read("providers/empty%3A%2F%2F0.0.0.0%2Fx%3Fcategory%3Dproviders"),
        "link.elastic.dubbo.entity.DemoService: "
    );
    assert_eq!(
        read("configurators/override%3A%2F%2F0.0.0.0%2Fx%3Fweight%3D200"),
        "link.elastic.dubbo.entity.DemoService: a rule"
    );
    for beside in [
        "configurators/override%3A%2F%2F0.0.0.0%2Fx%3Fweight%3D200%26enabled%3Dfalse",
        "configurators/empty%3A%2F%2F0.0.0.0%2Fx",
        "consumers/consumer%3A%2F%2F192.168.1.9%2Fx",
        "routers/condition%3A%2F%2F0.0.0.0%2Fx",
    ] {
        assert_eq!(read(beside), "not an instance", "{beside}");
    }
    for beside in [
        "/dubbo/metadata/a/b/c",
        "/dubbo/mapping/a",
        "/dubbo/config/dubbo/a.configurators",
    ] {
        assert_eq!(
            both(Layout::DubboInterface, "/dubbo", beside, "{}"),
            "not an instance",
            "{beside}"
        );
    }
}

#[test]
fn go_frameworks_write_what_they_write_elsewhere() {
    let kratos = r#"{"id":"0","name":"helloworld","version":"v1","metadata":{"weight":"3"},"endpoints":["grpc://10.0.0.1:9000?isSecure=false"]}"#;
    assert_eq!(
        both(Layout::Kratos, "/microservices", "/microservices/helloworld/0", kratos),
        "helloworld: grpc://10.0.0.1:9000 w=3 unknown version=v1"
    );
    assert_eq!(
        both(
            Layout::Rpcx,
            "/rpcx_test",
            "/rpcx_test/Arith/tcp@127.0.0.1:8972",
            "weight=4&state=inactive&calls=1.5"
        ),
        "Arith: tcp://127.0.0.1:8972 w=4 draining(state=inactive)"
    );
    assert_eq!(
        both(Layout::Rpcx, "/rpcx_test", "/rpcx_test/Arith/tcp@127.0.0.1:8972", ""),
        "Arith: tcp://127.0.0.1:8972 w=1 unknown"
    );
    let go_micro = r#"{"name":"go.micro.srv/x","version":"latest","metadata":null,"endpoints":[],"nodes":[{"id":"x-1","address":"10.0.0.1:80","metadata":{"zone":"a"}}]}"#;
    assert_eq!(
        both(
            Layout::GoMicro,
            "/micro-registry",
            "/micro-registry/go.micro.srv-x/x-1",
            go_micro
        ),
        "go.micro.srv/x: 10.0.0.1:80 w=1 unknown at /a/ version=latest"
    );
    let kitex = |data| both(Layout::Kitex, "/", "/echo/10.0.0.1:8888", data);
    assert_eq!(kitex(r#"{"Weight":10,"Tags":{}}"#), "echo: 10.0.0.1:8888 w=10 unknown");
    assert_eq!(
        kitex(r#"{"Weight":0,"Tags":{"zone":"a"}}"#),
        "echo: 10.0.0.1:8888 w=10 unknown at /a/"
    );
    assert_eq!(
        kitex(r#"{"weight":3,"tags":{"k":"v"}}"#),
        "echo: 10.0.0.1:8888 w=3 unknown k=v"
    );
    let node = leaf(br#"{"Weight":10,"Tags":null}"#);
    let hertz = say(LayoutChoice::Pinned(Layout::Hertz), "/", "/echo/[::1]:8888", &node);
    assert_eq!(hertz, "echo: [::1]:8888 w=10 unknown");
}

#[test]
fn goframe_packs_key_and_value_into_a_node() {
    let goframe = |leaf: &str, data: &str| {
        let path = format!("/microservices/service-default-default-hello-v1/{leaf}");
        both(Layout::Goframe, "/microservices", &path, data)
    };
    let record = |name: &str, value: &str| {
        let key = format!("/service/default/default/{name}/v1/10.0.0.1:8000,10.0.0.2:8000");
        serde_json::json!({ "Key": key, "Value": value }).to_string()
    };
    let hello = record("hello", r#"{"weight":"30","zone":"a"}"#);
    // By its addresses, and as older versions call it.
    for leaf in ["10.0.0.1:8000,10.0.0.2:8000", "hello"] {
        assert_eq!(
            goframe(leaf, &hello),
            "hello: 10.0.0.1:8000 w=30 unknown at /a/ deployment=default namespace=default version=v1 \
             | 10.0.0.2:8000 w=30 unknown at /a/ deployment=default namespace=default version=v1"
        );
    }
    assert_eq!(
        goframe("hello", &record("other", "")),
        "other: rejected: the node \"hello\" holds the Key \
         \"/service/default/default/other/v1/10.0.0.1:8000,10.0.0.2:8000\""
    );
    assert_eq!(
        goframe("hello", r#"{"Key":"x","Value":""}"#),
        "unattributed: the Key \"x\" is not GoFrame's"
    );
}

/// A record of each layout: its path, and its value with `FIELDS` where fields of its own kind go.
const RECORDS: [(Layout, &str, &str); 11] = [
    (
        Layout::Curator,
        "/base/a/1",
        r#"{"address":"10.0.0.1","port":80,"payload":{METADATA}FIELDS}"#,
    ),
    (
        Layout::SpringCloud,
        "/services/a/1",
        r#"{"address":"10.0.0.1","port":80,"payload":{"@class":"org.springframework.X","metadata":{METADATA}}FIELDS}"#,
    ),
    (
        Layout::DubboApp,
        "/services/a/1",
        r#"{"address":"10.0.0.1","port":80,"payload":{"@class":"org.apache.dubbo.X","metadata":{METADATA}}FIELDS}"#,
    ),
    (
        Layout::DubboInterface,
        "/dubbo/a/providers/dubbo%3A%2F%2F10.0.0.1%3A80%2FaMETADATA",
        "",
    ),
    (
        Layout::Kratos,
        "/microservices/a/1",
        r#"{"metadata":{METADATA},"endpoints":["http://10.0.0.1:80"]}"#,
    ),
    (Layout::Rpcx, "/rpcx/a/tcp@10.0.0.1:80", "METADATA"),
    (
        Layout::GoMicro,
        "/micro-registry/a/1",
        r#"{"name":"a","nodes":[{"address":"10.0.0.1:80","metadata":{METADATA}}]}"#,
    ),
    (Layout::Kitex, "/a/10.0.0.1:80", r#"{METADATA}"#),
    (Layout::Hertz, "/a/10.0.0.1:80", r#"{METADATA}"#),
    (
        Layout::Goframe,
        "/microservices/service-d-n-a-v/a",
        r#"{"Key":"/service/d/n/a/v/10.0.0.1:80","Value":"{ESCAPED}"}"#,
    ),
    (Layout::Leadsman, "/x/a/1", r#"{"address":"10.0.0.1","port":80FIELDS}"#),
];

/// The health and weight of one record of a layout.
fn reads(layout: Layout, metadata: &str, fields: &str) -> String {
    let (_, path, value) = RECORDS.iter().find(|(of, ..)| *of == layout).unwrap();
    let fill = |text: &str| {
        let escaped = metadata.replace('"', "\\\"");
        text.replace("METADATA", metadata)
            .replace("ESCAPED", &escaped)
            .replace("FIELDS", fields)
    };
    let prefix = if layout == Layout::Leadsman { "/x" } else { "/" };
    let node = leaf(fill(value).as_bytes());
    let said = say(LayoutChoice::Pinned(layout), prefix, &fill(path), &node);
    let (_, said) = said.split_once(" w=").unwrap_or(("", &said));
    said.split([' ']).take(2).collect::<Vec<_>>().join(" ")
}

/// The tables in docs/registries/zookeeper.md, a case a row.
#[test]
fn each_row_of_the_documented_tables_is_true() {
    use Layout::*;
    let off = r#","enabled":false"#;
    let status = |status: &str| format!(r#""instance_status":"{status}""#);
    for layout in [Curator, SpringCloud] {
        assert_eq!(reads(layout, "", off), "1 draining(enabled=false)");
        assert_eq!(reads(layout, &status("UP"), ""), "1 healthy(instance_status=UP)");
        assert_eq!(reads(layout, &status("DOWN"), ""), "1 unhealthy(instance_status=DOWN)");
        let out = "1 draining(instance_status=OUT_OF_SERVICE)";
        assert_eq!(reads(layout, &status("OUT_OF_SERVICE"), ""), out);
        assert_eq!(
            reads(layout, &status("STARTING"), ""),
            "1 unknown(instance_status=STARTING)"
        );
    }
    assert_eq!(reads(DubboApp, "", off), "100 draining(enabled=false)");
    for (query, says) in [
        ("disabled%3Dtrue", "100 draining(disabled=true)"),
        ("enabled%3Dfalse", "100 draining(enabled=false)"),
        ("enabled%3Dfalse%26disabled%3Dfalse", "100 unknown"),
    ] {
        assert_eq!(reads(DubboInterface, &format!("%3F{query}"), ""), says);
    }
    assert_eq!(reads(Rpcx, "state=inactive", ""), "1 draining(state=inactive)");
    assert_eq!(reads(Rpcx, "state=active", ""), "1 healthy(state=active)");
    for health in ["unknown", "healthy", "degraded", "draining", "unhealthy"] {
        assert_eq!(
            reads(Leadsman, "", &format!(r#","health":"{health}""#)),
            format!("1 {health}")
        );
    }
}

#[test]
fn each_row_of_the_documented_weights_is_true() {
    use Layout::*;
    let json = |layout: Layout, weight: &str| match layout {
        DubboInterface => format!("%3Fweight%3D{weight}"),
        Rpcx => format!("weight={weight}"),
        Kitex | Hertz => format!(r#""Weight":{weight}"#),
        Curator | SpringCloud | DubboApp | Kratos | GoMicro | Goframe | Leadsman => format!(r#""weight":{weight}"#),
    };
    for (layout, default, zero) in [
        (Curator, 1, 1),
        (SpringCloud, 1, 1),
        (DubboApp, 100, 0),
        (DubboInterface, 100, 0),
        (Kratos, 100, 0),
        (Rpcx, 1, 0),
        (GoMicro, 1, 0),
        (Kitex, 10, 10),
        (Hertz, 10, 10),
        (Goframe, 100, 0),
    ] {
        assert_eq!(
            reads(layout, &json(layout, "-1"), ""),
            format!("{default} unknown"),
            "{layout}"
        );
        assert_eq!(
            reads(layout, &json(layout, "0"), ""),
            format!("{zero} unknown"),
            "{layout}"
        );
        assert_eq!(reads(layout, &json(layout, "7"), ""), "7 unknown", "{layout}");
    }
    assert_eq!(reads(Leadsman, "", ""), "1 unknown");
    assert_eq!(reads(Leadsman, "", r#","weight":0"#), "0 unknown");
    assert_eq!(reads(Leadsman, "", r#","weight":-1"#), "a: rejected:");
}

#[test]
fn a_prefix_may_name_one_service() {
    let record = r#"{"address":"10.0.0.1","port":80,"registrationTimeUTC":1}"#;
    assert_eq!(
        both(Layout::Curator, "/base/orders", "/base/orders/1", record),
        "orders: 10.0.0.1:80 w=1 unknown"
    );
    let sibling = say(
        LayoutChoice::Auto,
        "/base/orders",
        "/base/orders-old/1",
        &leaf(record.as_bytes()),
    );
    assert_eq!(sibling, "not an instance");
}

#[test]
fn a_directory_is_no_instance_whatever_is_in_it() {
    let record = r#"{"address":"10.0.0.1","port":80}"#;
    let directory = Node {
        has_children: true,
        ephemeral: false,
        ..leaf(record.as_bytes())
    };
    assert_eq!(
        say(LayoutChoice::Auto, "/base", "/base/orders", &directory),
        "not an instance"
    );
    for (path, data) in [
        ("/base/orders", ""),
        ("/base/orders", "192.168.1.9"),
        ("/base/orders", "orders"),
        ("/base", "rpcx_path"),
        ("/dubbo/a/providers", "192.168.1.9"),
        ("/zookeeper/quota", "{}"),
    ] {
        let lasting = Node {
            ephemeral: false,
            ..leaf(data.as_bytes())
        };
        assert_eq!(
            say(LayoutChoice::Auto, "/", path, &lasting),
            "not an instance",
            "{path} {data}"
        );
    }
    // A lasting node with a record in it was put there by hand.
    let lasting = Node {
        ephemeral: false,
        ..leaf(record.as_bytes())
    };
    assert_eq!(
        say(LayoutChoice::Auto, "/base", "/base/orders/1", &lasting),
        "orders: 10.0.0.1:80 w=1 unknown"
    );
}

#[test]
fn what_nobody_recognises_is_said_loudly() {
    for data in ["", "hello", "{}", "[]"] {
        let said = say(LayoutChoice::Auto, "/x", "/x/a/1", &leaf(data.as_bytes()));
        assert_eq!(said, "unattributed: no layout knows this node", "{data}");
    }
    // Where a framework puts its nodes, a node that is not filled yet is its own.
    assert_eq!(
        both(Layout::Curator, "/services", "/services/orders/1", ""),
        "orders: rejected: the value is not a JSON object"
    );
}

#[test]
fn hostile_values_reject_themselves() {
    let deep = format!("{{\"payload\":{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let values = [
        "",
        "{",
        "{}",
        "null",
        deep.as_str(),
        r#"{"address":"10.0.0.1","port":1e300,"sslPort":-1,"payload":{"metadata":7}}"#,
        r#"{"address":null,"port":"x","sslPort":[],"payload":{"metadata":{"dubbo.endpoints":"[{},[],{\"port\":-1}]"}}}"#,
        r#"{"Weight":"NaN","Tags":[]}"#,
        "a=%zz&&&=",
    ];
    let paths = [
        "/a/b",
        "/dubbo/a/providers/dubbo%3A%2F%2F",
        "/dubbo/a/configurators/override%3A%2F%2F",
        "/a/tcp@",
        "/a/%3A%2F%2F%ff",
        "//",
        "/",
    ];
    for layout in Layout::ALL {
        for path in paths {
            for value in values {
                let said = say(LayoutChoice::Pinned(layout), "/", path, &leaf(value.as_bytes()));
                assert!(said.len() < 1000, "{layout} {path}: {said}");
            }
        }
    }
    let node = leaf(b"\xff\xfe");
    assert_eq!(
        say(LayoutChoice::Pinned(Layout::Kitex), "/", "/a/10.0.0.1:1", &node),
        "a: rejected: the value is not a JSON object"
    );
}

#[test]
fn every_layout_has_a_name_of_its_own() {
    for layout in Layout::ALL {
        assert_eq!(layout.as_str().parse(), Ok(LayoutChoice::Pinned(layout)));
    }
    assert_eq!("auto".parse(), Ok(LayoutChoice::Auto));
    assert_eq!(
        "consul".parse::<LayoutChoice>().unwrap_err().to_string(),
        "\"consul\" is not a layout; the layouts are auto, curator, spring-cloud, dubbo-app, dubbo-interface, kratos, \
         rpcx, go-micro, kitex, hertz, goframe, leadsman"
    );
}

proptest! {
    #![proptest_config(leadsman_property::cases(2000))]

    #[test]
    fn no_bytes_can_panic(
        layout in proptest::option::of(proptest::sample::select(Layout::ALL.as_slice())),
        path in "/?(services|dubbo|microservices|micro-registry)?(/[a-z:@%.0-9]{0,9}|/providers|/configurators|/override%3A%2F%2F[a-z0-9.%:?=]{0,20}){0,5}",
        data in prop_oneof![proptest::collection::vec(any::<u8>(), 0..64), "\\{\"(address|port|payload|nodes|Weight)\":[0-9\"\\[\\]{}a-z:]{0,20}\\}".prop_map(String::into_bytes)],
        ephemeral in any::<bool>(),
    ) {
        let choice = layout.map_or(LayoutChoice::Auto, LayoutChoice::Pinned);
        let node = Node { ephemeral, ..leaf(&data) };
        prop_assert!(say(choice, "/", &path, &node).len() < 2000);
    }
}

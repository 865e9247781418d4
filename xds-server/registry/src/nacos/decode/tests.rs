//! Recorded instances of every layout, and hostile ones.

use leadsman_core::model::Locality;
use proptest::prelude::*;

use super::super::layout::{Layout, LayoutChoice};
use super::super::wire::{ServiceInfo, parse};
use super::*;

fn read(config: &Config, place: &Place, hosts: &str, healthy: Option<&str>) -> Records {
    let list = |hosts: &str| {
        let json = format!(r#"{{"hosts":{hosts}}}"#);
        let info: ServiceInfo = parse("it", json.as_bytes()).unwrap();
        info.hosts.unwrap()
    };
    let content = Content {
        hosts: list(hosts),
        truth: healthy.map(|hosts| Truth::Told(identities(&list(hosts)))),
        written: 0,
    };
    records(config, place, &content)
}

/// One line each: record, layout, address, weight, health, scheme, locality, metadata; or the reason of a rejection.
fn show(records: &Records) -> Vec<String> {
    let line = |outcome: &Result<Endpoint, Rejection>| match outcome {
        Ok(endpoint) => {
            let Locality { region, zone, sub_zone } = &endpoint.locality;
            format!(
                "{} [{}] {} *{} {} {} {region}/{zone}/{sub_zone} {:?}",
                endpoint.provenance.record,
                endpoint.provenance.layout,
                endpoint.address,
                endpoint.weight,
                endpoint.health,
                endpoint.scheme.as_deref().unwrap_or("-"),
                endpoint.metadata,
            )
        }
        Err(rejection) => format!("{}: {}", rejection.provenance.record, rejection.reason),
    };
    records.values().flatten().map(line).collect()
}

fn shown(service: &str, hosts: &str) -> Vec<String> {
    let place = Place::new("DEFAULT_GROUP", service);
    show(&read(&Config::new(vec![]), &place, hosts, None))
}

#[test]
fn an_instance_as_nacos_means_it() {
    // Recorded from Nacos 2.5.0, and the second from 3.1.0.
    let hosts = r#"[{"instanceId":"127.0.0.1#9003#DEFAULT#DEFAULT_GROUP@@web1","ip":"127.0.0.1","port":9003,"weight":2.0,"healthy":true,"enabled":true,"ephemeral":true,"clusterName":"DEFAULT","serviceName":"DEFAULT_GROUP@@web1","metadata":{"a":"b"},"instanceHeartBeatInterval":5000,"instanceHeartBeatTimeOut":15000,"ipDeleteTimeout":30000},{"ip":"127.0.0.1","port":9012,"weight":1.0,"healthy":true,"enabled":true,"ephemeral":false,"clusterName":"C1","serviceName":"DEFAULT_GROUP@@pers","metadata":{},"instanceHeartBeatInterval":5000,"instanceHeartBeatTimeOut":15000,"ipDeleteTimeout":30000,"instanceIdGenerator":"simple"}]"#;
    assert_eq!(
        shown("web1", hosts),
        [
            r#"DEFAULT_GROUP@@web1/127.0.0.1#9003#DEFAULT [nacos] 127.0.0.1:9003 *2 healthy - // {"a": "b"}"#,
            "DEFAULT_GROUP@@web1/127.0.0.1#9012#C1 [nacos] 127.0.0.1:9012 *1 healthy - /C1/ {}",
        ]
    );
}

#[test]
fn spring_cloud() {
    // Published, from a 1.x server.
    let hosts = r#"[{"ip":"10.170.0.11","port":9999,"valid":true,"healthy":true,"marked":false,"instanceId":"10.170.0.11#9999#DEFAULT#DEFAULT_GROUP@@ms-gateway","metadata":{"preserved.register.source":"SPRING_CLOUD","version":"V1","target-version":"V1","secure":"true","zone":"a"},"enabled":true,"weight":1.0,"clusterName":"DEFAULT","serviceName":"ms-gateway","ephemeral":true}]"#;
    assert_eq!(
        shown("ms-gateway", hosts),
        [concat!(
            "DEFAULT_GROUP@@ms-gateway/10.170.0.11#9999#DEFAULT [spring-cloud] 10.170.0.11:9999 *1 healthy - /a/ ",
            r#"{"secure": "true", "target-version": "V1", "version": "V1"}"#
        )]
    );
}

#[test]
fn dubbo_by_interface() {
    // Published in dubbo-go's repository; Dubbo's own adds a weight and a timestamp.
    let service = "providers:com.ikurento.user.UserProvider:1.0.0:guangzhou-idc";
    let hosts = r#"[{"valid":false,"marked":false,"instanceId":"127.0.0.1#20000#DEFAULT#DEFAULT_GROUP@@providers:com.ikurento.user.UserProvider:1.0.0:guangzhou-idc","port":20000,"ip":"127.0.0.1","weight":1,"metadata":{"category":"providers","cluster":"mock","group":"guangzhou-idc","interface":"com.ikurento.user.UserProvider","path":"/com.ikurento.user.UserProvider","protocol":"dubbo","registry.role":"3","version":"1.0.0"},"clusterName":"DEFAULT","serviceName":"DEFAULT_GROUP@@providers:com.ikurento.user.UserProvider:1.0.0:guangzhou-idc","enabled":true,"healthy":true,"ephemeral":true},{"port":20001,"ip":"127.0.0.1","weight":1.0,"metadata":{"side":"provider","interface":"com.ikurento.user.UserProvider","protocol":"tri","weight":"250","timestamp":"1697000000000","methods":"a,b","pid":"1","release":"3.2.0","ssl-enabled":"true","dubbo.tag":"gray"},"clusterName":"DEFAULT","enabled":true,"healthy":true}]"#;
    assert_eq!(
        shown(service, hosts),
        [
            format!(
                "DEFAULT_GROUP@@{service}/127.0.0.1#20000#DEFAULT [dubbo-interface] 127.0.0.1:20000 *100 healthy dubbo // {}",
                r#"{"cluster": "mock", "group": "guangzhou-idc", "interface": "com.ikurento.user.UserProvider", "protocol": "dubbo", "version": "1.0.0"}"#
            ),
            format!(
                "DEFAULT_GROUP@@{service}/127.0.0.1#20001#DEFAULT [dubbo-interface] 127.0.0.1:20001 *250 healthy tri // {}",
                r#"{"interface": "com.ikurento.user.UserProvider", "protocol": "tri", "release": "3.2.0", "secure": "true", "tag": "gray"}"#
            ),
        ]
    );
    for other in ["consumers:a.B::", "configurators:a.B:1:", "routers:a.B::"] {
        assert!(Place::new("G", other).is_dubbo_bookkeeping(), "{other}");
    }
    assert!(!Place::new("G", service).is_dubbo_bookkeeping());
    assert!(!Place::new("G", "consumers").is_dubbo_bookkeeping());
}

#[test]
fn dubbo_by_application() {
    // The metadata as Dubbo 3.1 publishes it: two protocols, a port each.
    let hosts = r#"[{"ip":"192.168.65.221","port":20882,"weight":1.0,"healthy":true,"enabled":true,"clusterName":"DEFAULT","metadata":{"dubbo.endpoints":"[{\"port\":20882,\"protocol\":\"dubbo\"},{\"port\":50051,\"protocol\":\"tri\"}]","dubbo.metadata-service.url-params":"{\"connections\":\"1\",\"version\":\"1.0.0\",\"dubbo\":\"2.0.2\",\"side\":\"provider\",\"port\":\"20882\",\"protocol\":\"dubbo\"}","dubbo.metadata.revision":"65d5c7b814616ab10d32860b54781686","dubbo.metadata.storage-type":"local","timestamp":"1654585977352"}},{"ip":"192.168.65.222","port":20882,"weight":0.0,"healthy":true,"enabled":true,"clusterName":"DEFAULT","metadata":{"dubbo.endpoints":"no list","dubbo.metadata.revision":"1","weight":"30"}},{"ip":"192.168.65.223","port":20882,"weight":1.0,"healthy":true,"enabled":true,"clusterName":"DEFAULT","metadata":{"dubbo.endpoints":"[1,{\"port\":0}]"}}]"#;
    assert_eq!(
        shown("app", hosts),
        [
            "DEFAULT_GROUP@@app/192.168.65.221#20882#DEFAULT [dubbo-app] 192.168.65.221:20882 *100 healthy dubbo // {}",
            "DEFAULT_GROUP@@app/192.168.65.221#20882#DEFAULT [dubbo-app] 192.168.65.221:50051 *100 healthy tri // {}",
            "DEFAULT_GROUP@@app/192.168.65.222#20882#DEFAULT [dubbo-app] 192.168.65.222:20882 *0 healthy - // {}",
            "DEFAULT_GROUP@@app/192.168.65.223#20882#DEFAULT: an item of dubbo.endpoints is not a JSON object",
            "DEFAULT_GROUP@@app/192.168.65.223#20882#DEFAULT: port 0 is outside 1 to 65535",
        ]
    );
}

#[test]
fn kratos_writes_the_protocol_into_the_name() {
    // As its registry builds it: weight 100 unless told otherwise.
    let host = |kind: &str| {
        format!(
            r#"[{{"ip":"10.0.0.2","port":9000,"weight":100.0,"healthy":true,"enabled":true,"clusterName":"DEFAULT","metadata":{{"kind":"{kind}","version":"v1.0.0"}}}}]"#
        )
    };
    assert_eq!(
        shown("helloworld.grpc", &host("grpc")),
        [
            r#"DEFAULT_GROUP@@helloworld.grpc/10.0.0.2#9000#DEFAULT [kratos] 10.0.0.2:9000 *100 healthy grpc // {"version": "v1.0.0"}"#
        ]
    );
    assert_eq!(
        shown("helloworld", &host("grpc")),
        [
            r#"DEFAULT_GROUP@@helloworld/10.0.0.2#9000#DEFAULT [nacos] 10.0.0.2:9000 *100 healthy - // {"kind": "grpc", "version": "v1.0.0"}"#
        ]
    );
}

#[test]
fn kitex_hertz_and_goframe_use_the_fields_as_they_are_meant() {
    // As their registries build them: the weight of kitex and hertz is theirs, that of GoFrame is always 100.
    let hosts = r#"[{"ip":"10.0.0.3","port":8888,"weight":66.0,"healthy":true,"enabled":true,"clusterName":"DEFAULT","metadata":{"hello":"world"}},{"ip":"10.0.0.4","port":8889,"weight":10.0,"healthy":true,"enabled":true,"clusterName":"DEFAULT","metadata":null},{"ip":"10.0.0.5","port":9000,"weight":100.0,"healthy":true,"enabled":true,"clusterName":"DEFAULT","metadata":{"protocol":"http","insecure":"true"}}]"#;
    assert_eq!(
        shown("svc", hosts),
        [
            r#"DEFAULT_GROUP@@svc/10.0.0.3#8888#DEFAULT [nacos] 10.0.0.3:8888 *66 healthy - // {"hello": "world"}"#,
            "DEFAULT_GROUP@@svc/10.0.0.4#8889#DEFAULT [nacos] 10.0.0.4:8889 *10 healthy - // {}",
            r#"DEFAULT_GROUP@@svc/10.0.0.5#9000#DEFAULT [nacos] 10.0.0.5:9000 *100 healthy - // {"insecure": "true", "protocol": "http"}"#,
        ]
    );
}

#[test]
fn enabled_and_healthy_are_a_health_and_the_weight_is_kept_raw() {
    let of = |fields: &str| {
        let hosts = format!(r#"[{{"ip":"10.0.0.1","port":1,{fields}}}]"#);
        let records = read(&Config::new(vec![]), &Place::new("G", "a"), &hosts, None);
        let endpoint = records.values().flatten().next().unwrap().clone().unwrap();
        (
            endpoint.weight.get(),
            endpoint.health,
            endpoint.health_reason.to_string(),
        )
    };
    let plain = |weight, health, reason: &str| (weight, health, reason.to_owned());
    assert_eq!(
        of(r#""weight":1.0,"healthy":true,"enabled":true"#),
        plain(1.0, Health::Healthy, "")
    );
    assert_eq!(
        of(r#""healthy":false,"enabled":true"#),
        plain(1.0, Health::Unhealthy, "healthy=false")
    );
    assert_eq!(
        of(r#""healthy":true,"enabled":false"#),
        plain(1.0, Health::Draining, "enabled=false")
    );
    assert_eq!(
        of(r#""healthy":false,"enabled":false"#),
        plain(1.0, Health::Draining, "enabled=false")
    );
    assert_eq!(of(r#""weight":0.5"#), plain(0.5, Health::Unknown, ""));
    assert_eq!(of(r#""weight":0,"healthy":true"#), plain(0.0, Health::Healthy, ""));
    assert_eq!(of(r#""weight":-1"#), plain(1.0, Health::Unknown, ""));
    assert_eq!(of(r#""weight":"NaN""#), plain(1.0, Health::Unknown, ""));
    assert_eq!(of(r#""weight":1e300"#), plain(f64::from(u32::MAX), Health::Unknown, ""));
    assert_eq!(of(r#""weight":10000"#), plain(10_000.0, Health::Unknown, ""));
}

#[test]
fn a_health_that_is_only_shown_is_not_believed() {
    let all = r#"[{"ip":"10.0.0.1","port":1,"healthy":true,"clusterName":"DEFAULT"},{"ip":"10.0.0.2","port":1,"healthy":true,"clusterName":"DEFAULT"},{"ip":"10.0.0.3","port":1,"healthy":true,"enabled":false,"clusterName":"DEFAULT"}]"#;
    let really = r#"[{"ip":"10.0.0.1","port":1,"healthy":true,"clusterName":"DEFAULT"}]"#;
    let records = read(&Config::new(vec![]), &Place::new("G", "a"), all, Some(really));
    let health: Vec<_> = records
        .values()
        .flatten()
        .map(|outcome| outcome.as_ref().map(|endpoint| endpoint.health).unwrap())
        .collect();
    assert_eq!(health, [Health::Healthy, Health::Unhealthy, Health::Draining]);
    let reasons: String = records
        .values()
        .flatten()
        .map(|o| o.as_ref().unwrap().health_reason.to_string())
        .collect();
    assert!(reasons.contains("protectThreshold"), "{reasons}");
}

#[test]
fn a_health_that_nobody_tells_is_degraded_for_all() {
    let hosts = r#"{"hosts":[{"ip":"10.0.0.1","port":1,"healthy":true},{"ip":"10.0.0.2","port":1,"healthy":true,"enabled":false}]}"#;
    let content = Content {
        hosts: parse::<ServiceInfo>("it", hosts.as_bytes()).unwrap().hosts.unwrap(),
        truth: Some(Truth::Untold),
        written: 0,
    };
    let records = records(&Config::new(vec![]), &Place::new("G", "a"), &content);
    let health: Vec<_> = records
        .values()
        .flatten()
        .map(|outcome| outcome.as_ref().unwrap().health)
        .collect();
    assert_eq!(health, [Health::Degraded, Health::Draining]);
}

#[test]
fn clusters_and_layouts_can_be_chosen() {
    let hosts = r#"[{"ip":"10.0.0.1","port":1,"clusterName":"A"},{"ip":"10.0.0.2","port":1,"clusterName":"B","metadata":{"weight":"7","protocol":"tri"}},{"ip":"10.0.0.3","port":1}]"#;
    let config = Config {
        clusters: BTreeSet::from(["B".to_owned()]),
        layout: LayoutChoice::Pinned(Layout::DubboInterface),
        ..Config::new(vec![])
    };
    assert_eq!(
        show(&read(&config, &Place::new("G", "a"), hosts, None)),
        [r#"G@@a/10.0.0.2#1#B [dubbo-interface] 10.0.0.2:1 *7 unknown tri /B/ {"protocol": "tri"}"#]
    );
    for layout in Layout::ALL {
        assert_eq!(layout.as_str().parse(), Ok(LayoutChoice::Pinned(layout)));
    }
    assert_eq!("auto".parse(), Ok(LayoutChoice::Auto));
    let error = "kitex".parse::<LayoutChoice>().unwrap_err().to_string();
    assert!(
        error.ends_with("auto, nacos, spring-cloud, dubbo-interface, dubbo-app, kratos"),
        "{error}"
    );
}

#[test]
fn a_bad_instance_rejects_itself_and_nobody_else() {
    let hosts = r#"[1,{"ip":"nowhere.example","port":80},{"ip":"10.0.0.1","port":80},{"port":80},{"ip":"10.0.0.2","port":65536},{"ip":"10.0.0.2"},null,{"ip":[],"port":{}}]"#;
    assert_eq!(
        shown("a", hosts),
        [
            "DEFAULT_GROUP@@a#0: the instance is not a JSON object",
            "DEFAULT_GROUP@@a#6: the instance is not a JSON object",
            r#"DEFAULT_GROUP@@a/#0#: "" is not an IP address; EDS takes no host names, so register the address itself"#,
            r#"DEFAULT_GROUP@@a/#80#: "" is not an IP address; EDS takes no host names, so register the address itself"#,
            "DEFAULT_GROUP@@a/10.0.0.1#80# [nacos] 10.0.0.1:80 *1 unknown - // {}",
            "DEFAULT_GROUP@@a/10.0.0.2#0#: port 0 is outside 1 to 65535",
            "DEFAULT_GROUP@@a/10.0.0.2#65536#: port 65536 is outside 1 to 65535",
            r#"DEFAULT_GROUP@@a/nowhere.example#80#: "nowhere.example" is not an IP address; EDS takes no host names, so register the address itself"#,
        ]
    );
}

#[test]
fn an_instance_that_two_clients_register_is_both() {
    let hosts = r#"[{"ip":"10.0.0.1","port":1,"healthy":false},{"ip":"10.0.0.1","port":1,"healthy":true}]"#;
    assert_eq!(
        shown("a", hosts),
        [
            "DEFAULT_GROUP@@a/10.0.0.1#1# [nacos] 10.0.0.1:1 *1 unhealthy - // {}",
            "DEFAULT_GROUP@@a/10.0.0.1#1# [nacos] 10.0.0.1:1 *1 healthy - // {}",
        ]
    );
}

#[test]
fn a_service_is_called_as_it_was_chosen() {
    let place = Place::new("G", "a");
    assert_eq!(place.service(Naming::Name).unwrap().as_str(), "a");
    assert_eq!(place.service(Naming::Grouped).unwrap().as_str(), "G@@a");
    assert!(Place::new("G", "").service(Naming::Name).is_err());
    assert!(Place::new("G", &"x".repeat(300)).service(Naming::Name).is_err());
}

proptest! {
    #![proptest_config(leadsman_property::cases(256))]
    #[test]
    fn nothing_that_a_server_sends_panics(
        service in ".{0,40}", ip in ".{0,40}", port in any::<i64>(), weight in any::<f64>(), kind in ".{0,20}", listed in ".{0,60}"
    ) {
        let host = serde_json::json!({ "ip": ip, "port": port, "weight": weight, "clusterName": kind, "metadata": {
            "kind": kind, "dubbo.endpoints": listed, "weight": listed, "interface": kind, "protocol": kind } });
        let hosts = serde_json::Value::Array(vec![host]).to_string();
        let records = read(&Config::new(vec![]), &Place::new("G", &service), &hosts, None);
        prop_assert!(!records.is_empty());
    }
}

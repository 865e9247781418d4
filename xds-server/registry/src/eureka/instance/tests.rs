//! Recorded answers of a real server in its three dialects, samples of older servers, and hostile instances.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::super::config::Config;
use super::super::wire::read;
use super::*;

/// One instance in the legacy, the XStream and the Jackson dialect.
const DIALECTS: [&str; 3] = [
    r#"{"applications":{"versions__delta":"1","apps__hashcode":"UP_1_","application":[{"name":"X","instance":[{"instanceId":"x-1","hostName":"127.0.0.1","app":"X","ipAddr":"127.0.0.1","status":"UP","overriddenStatus":"UNKNOWN","port":{"$":9001,"@enabled":"true"},"securePort":{"$":9443,"@enabled":"false"},"countryId":1,"dataCenterInfo":{"@class":"com.netflix.appinfo.InstanceInfo$DefaultDataCenterInfo","name":"MyOwn"},"leaseInfo":{"renewalIntervalInSecs":1,"durationInSecs":3,"registrationTimestamp":1795182222047,"lastRenewalTimestamp":1795182222047,"evictionTimestamp":0,"serviceUpTimestamp":1795182222054},"metadata":{"@class":"java.util.Collections$EmptyMap"},"vipAddress":"x","secureVipAddress":"x","isCoordinatingDiscoveryServer":"false","lastUpdatedTimestamp":"1795182222055","lastDirtyTimestamp":"1795182221894","actionType":"ADDED"}]}]}}"#,
    r#"{"applications":{"versions__delta":1,"apps__hashcode":"UP_1_","application":{"name":"X","instance":{"instanceId":"x-1","hostName":"127.0.0.1","app":"X","ipAddr":"127.0.0.1","status":"UP","overriddenstatus":"UNKNOWN","port":{"@enabled":true,"$":"9001"},"securePort":{"@enabled":false,"$":"7002"},"countryId":1,"dataCenterInfo":{"@class":"com.netflix.appinfo.InstanceInfo$DefaultDataCenterInfo","name":"MyOwn"},"leaseInfo":{"renewalIntervalInSecs":1,"durationInSecs":3,"registrationTimestamp":1795182222047,"lastRenewalTimestamp":1795182222047,"evictionTimestamp":0,"serviceUpTimestamp":1795182222047},"metadata":{"@class":"java.util.Collections$EmptyMap"},"vipAddress":"x","isCoordinatingDiscoveryServer":false,"lastUpdatedTimestamp":1795182222055,"lastDirtyTimestamp":1795182221894,"actionType":"ADDED"}}}}"#,
    r#"{"applications":{"application":[{"name":"X","instance":[{"instanceId":"x-1","app":"X","ipAddr":"127.0.0.1","sid":"na","vipAddress":"x","countryId":1,"dataCenterInfo":{"@class":"com.netflix.appinfo.InstanceInfo$DefaultDataCenterInfo","name":"MyOwn"},"hostName":"127.0.0.1","status":"UP","overriddenStatus":"UNKNOWN","leaseInfo":{"renewalIntervalInSecs":1,"durationInSecs":3,"registrationTimestamp":1795182222047,"lastRenewalTimestamp":1795182222047,"evictionTimestamp":0,"serviceUpTimestamp":1795182387902},"isCoordinatingDiscoveryServer":false,"lastUpdatedTimestamp":1795182222055,"lastDirtyTimestamp":1795182221894,"actionType":"ADDED","port":{"$":9001,"@enabled":"true"},"securePort":{"$":7002,"@enabled":"false"},"metadata":{"@class":"java.util.Collections$EmptyMap"}}]}],"versions__delta":"1","apps__hashcode":"UP_1_"}}"#,
];

fn rules(change: impl FnOnce(&mut Config)) -> Rules {
    let mut config = Config::new(vec![]);
    change(&mut config);
    Rules::of(&config)
}

fn decoded(body: &str, rules: Rules) -> Vec<String> {
    let applications = read(body.as_bytes()).unwrap();
    applications
        .records
        .iter()
        .map(|record| show(&decode(record, rules)))
        .collect()
}

fn show(decoded: &Decoded) -> String {
    let services: Vec<_> = decoded.services.iter().map(ServiceName::as_str).collect();
    let services = services.join("+");
    match &decoded.outcome {
        None => format!("{services}: absent"),
        Some(Err(rejection)) => format!("{services}: {}: {}", rejection.provenance.record, rejection.reason),
        Some(Ok(endpoint)) => {
            let Endpoint {
                address,
                priority: _,
                weight,
                health,
                health_reason,
                locality,
                scheme,
                metadata,
                provenance,
            } = endpoint;
            let metadata: Vec<_> = metadata.iter().map(|(key, value)| format!("{key}={value}")).collect();
            let parts = [
                format!("{services}: {} {address} w={weight} {health}", provenance.record),
                health_reason.to_string(),
                locality.zone.clone(),
                scheme.as_deref().unwrap_or_default().to_owned(),
                metadata.join(","),
            ];
            let said: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
            said.join(" | ")
        }
    }
}

/// One instance, as the given fields say, in the application `ORDERS`.
fn one(fields: &str) -> String {
    one_with(fields, rules(|_| {}))
}

fn one_with(fields: &str, rules: Rules) -> String {
    let base = r#""instanceId":"i","ipAddr":"10.0.0.1","port":{"$":80,"@enabled":"true"}"#;
    let fields = if fields.is_empty() {
        String::new()
    } else {
        format!(",{fields}")
    };
    let body = format!(r#"{{"applications":{{"application":[{{"name":"ORDERS","instance":[{{{base}{fields}}}]}}]}}}}"#);
    decoded(&body, rules).remove(0)
}

#[test]
fn the_three_dialects_of_one_server_say_the_same() {
    for dialect in DIALECTS {
        let applications = read(dialect.as_bytes()).unwrap();
        assert!(applications.adds_up());
        let record = &applications.records[0];
        assert_eq!(
            (record.stamp.dirty, record.stamp.updated),
            (1795182221894, 1795182222055)
        );
        let lease = record.lease;
        assert_eq!(
            (lease.registered, lease.renewed, lease.duration),
            (1795182222047, 1795182222047, 3000)
        );
        assert_eq!(decoded(dialect, rules(|_| {})), ["x: X/x-1 127.0.0.1:9001 w=1 healthy"]);
    }
}

#[test]
fn a_removal_in_a_delta_is_recognised() {
    let delta = r#"{"applications":{"versions__delta":"4","apps__hashcode":"","application":[{"name":"X","instance":[{"instanceId":"x-2","hostName":"127.0.0.1","app":"X","ipAddr":"127.0.0.1","status":"UP","overriddenStatus":"UNKNOWN","port":{"$":9002,"@enabled":"true"},"securePort":{"$":9443,"@enabled":"true"},"countryId":1,"dataCenterInfo":{"@class":"com.netflix.appinfo.InstanceInfo$DefaultDataCenterInfo","name":"MyOwn"},"leaseInfo":{"renewalIntervalInSecs":30,"durationInSecs":90,"registrationTimestamp":1795182222693,"lastRenewalTimestamp":1795182222693,"evictionTimestamp":1795182222822,"serviceUpTimestamp":1795182222339},"metadata":{"weight":"9"},"vipAddress":"x","isCoordinatingDiscoveryServer":"false","lastUpdatedTimestamp":"1795182222822","lastDirtyTimestamp":"1795182222336","actionType":"DELETED"}]}]}}"#;
    let applications = read(delta.as_bytes()).unwrap();
    assert!(applications.records[0].deleted);
    assert_eq!(decoded(delta, rules(|_| {})), ["x: X/x-2 127.0.0.1:9002 w=9 healthy"]);
}

#[test]
fn each_status_is_a_health_and_an_override_explains_it() {
    let endpoint = "orders: ORDERS/i 10.0.0.1:80 w=1";
    let cases = [
        (r#""status":"UP""#, format!("{endpoint} healthy")),
        ("", format!("{endpoint} healthy")),
        (r#""status":"DOWN""#, format!("{endpoint} unhealthy | status=DOWN")),
        (
            r#""status":"OUT_OF_SERVICE""#,
            format!("{endpoint} draining | status=OUT_OF_SERVICE"),
        ),
        (
            r#""status":"UNKNOWN""#,
            format!("{endpoint} unhealthy | status=UNKNOWN"),
        ),
        (r#""status":"up""#, format!("{endpoint} unhealthy | status=UNKNOWN")),
        (r#""status":7"#, format!("{endpoint} unhealthy | status=UNKNOWN")),
        (r#""status":"STARTING""#, "orders: absent".to_owned()),
        (
            r#""status":"OUT_OF_SERVICE","overriddenStatus":"OUT_OF_SERVICE""#,
            format!("{endpoint} draining | status=OUT_OF_SERVICE, overridden to OUT_OF_SERVICE"),
        ),
        (
            r#""status":"DOWN","overriddenstatus":"UP""#,
            format!("{endpoint} unhealthy | status=DOWN, overridden to UP"),
        ),
        (
            r#""status":"UP","overriddenStatus":"UNKNOWN""#,
            format!("{endpoint} healthy"),
        ),
    ];
    for (fields, expected) in cases {
        assert_eq!(one(fields), expected, "{fields}");
    }
}

#[test]
fn the_plain_port_is_taken_unless_told_otherwise() {
    let both = r#""securePort":{"$":"443","@enabled":true}"#;
    assert_eq!(one(both), "orders: ORDERS/i 10.0.0.1:80 w=1 healthy");
    let secure = rules(|config| config.prefer_secure = true);
    assert_eq!(
        one_with(both, secure),
        "orders: ORDERS/i 10.0.0.1:443 w=1 healthy | secure=true"
    );
    let only = r#""port":{"$":80,"@enabled":"false"},"securePort":{"$":443,"@enabled":"true"}"#;
    assert_eq!(one(only), "orders: ORDERS/i 10.0.0.1:443 w=1 healthy | secure=true");
    let none = r#""port":{"$":80,"@enabled":false},"securePort":{"$":443}"#;
    assert_eq!(
        one(none),
        "orders: ORDERS/i: neither its port nor its secure port is enabled"
    );
    assert_eq!(one(r#""port":8080"#), "orders: ORDERS/i 10.0.0.1:8080 w=1 healthy");
    assert_eq!(
        one(r#""port":{"$":8080}"#),
        "orders: ORDERS/i 10.0.0.1:8080 w=1 healthy"
    );
}

#[test]
fn kitex_and_hertz_put_their_record_into_one_value() {
    let meta = |json: &str| {
        let metadata = serde_json::json!({ "metadata": { "meta": json, "k": "v" } }).to_string();
        // The fields without the braces around them.
        one(metadata.get(1..metadata.len() - 1).unwrap_or_default())
    };
    let endpoint = "orders: ORDERS/i 10.0.0.1:80";
    assert_eq!(
        meta(r#"{"Weight":20,"Tags":{"zone":"b","version":"v3"}}"#),
        format!("{endpoint} w=20 healthy | b | k=v,version=v3")
    );
    assert_eq!(
        meta(r#"{"Weight":0,"Tags":null}"#),
        format!("{endpoint} w=10 healthy | k=v")
    );
    assert_eq!(meta(r#"{"weight":3}"#), format!("{endpoint} w=3 healthy | k=v"));
    for other in ["{}", "{", "[]", "7"] {
        assert_eq!(meta(other), format!("{endpoint} w=1 healthy | k=v,meta={other}"));
    }
}

#[test]
fn what_is_no_address_rejects_the_instance() {
    for fields in [
        r#""ipAddr":"nowhere.example","hostName":"nowhere.example""#,
        r#""ipAddr":null"#,
        r#""ipAddr":"0.0.0.0""#,
        r#""port":{"$":0,"@enabled":"true"}"#,
        r#""port":{"$":"70000","@enabled":"true"}"#,
        r#""port":{"$":-1,"@enabled":"true"}"#,
        r#""port":{"$":[],"@enabled":"true"}"#,
    ] {
        let shown = one(fields);
        assert!(shown.starts_with("orders: ORDERS/i: ipAddr: "), "{fields}: {shown}");
    }
    let swapped = r#""ipAddr":"pod-1","hostName":"10.0.0.9""#;
    assert_eq!(one(swapped), "orders: ORDERS/i 10.0.0.9:80 w=1 healthy");
}

#[test]
fn the_zone_is_the_instances_own_or_that_of_its_machine() {
    let amazon = r#""dataCenterInfo":{"@class":"com.netflix.appinfo.AmazonInfo","name":"Amazon","metadata":{"availability-zone":"us-east-1c","instance-id":"i-1"}}"#;
    let endpoint = "orders: ORDERS/i 10.0.0.1:80 w=1 healthy";
    assert_eq!(one(amazon), format!("{endpoint} | us-east-1c"));
    let own = format!(r#"{amazon},"metadata":{{"zone":"a"}}"#);
    assert_eq!(one(&own), format!("{endpoint} | a"));
}

#[test]
fn metadata_is_kept_within_limits_and_weights_that_make_no_sense_are_one() {
    let shown = one(r#""metadata":{"@class":"java.util.HashMap","version":"v2","n":7,"gone":null,"weight":"2.5"}"#);
    assert_eq!(shown, "orders: ORDERS/i 10.0.0.1:80 w=2.5 healthy | n=7,version=v2");
    let weight = |text: &str| {
        let shown = one(&format!(r#""metadata":{{"weight":{text}}}"#));
        shown.split("w=").nth(1).unwrap().split(' ').next().unwrap().to_owned()
    };
    assert_eq!(
        ["\"0\"", "0", "3", "\"1e300\""].map(weight),
        ["0", "0", "3", "4294967295"]
    );
    for text in ["\"-1\"", "\"NaN\"", "\"heavy\"", "null", "{}", "\"\""] {
        assert_eq!(weight(text), "1", "{text}");
    }
    for metadata in ["null", "[]", "7", "\"x\""] {
        let shown = one(&format!(r#""metadata":{metadata}"#));
        assert_eq!(shown, "orders: ORDERS/i 10.0.0.1:80 w=1 healthy");
    }
}

#[test]
fn a_service_is_called_by_the_name_that_was_chosen() {
    let vip = rules(|config| config.service_name = Naming::Vip);
    let verbatim = rules(|config| config.service_name = Naming::AppVerbatim);
    let endpoint = "ORDERS/i 10.0.0.1:80 w=1 healthy";
    assert_eq!(one_with("", verbatim), format!("ORDERS: {endpoint}"));
    assert_eq!(
        one_with(r#""vipAddress":"Orders, legacy,,""#, vip),
        format!("Orders+legacy: {endpoint}")
    );
    let secure = r#""vipAddress":"plain","secureVipAddress":"tls","securePort":{"$":443,"@enabled":"true"}"#;
    let vip_and_tls = rules(|config| {
        config.service_name = Naming::Vip;
        config.prefer_secure = true;
    });
    assert!(one_with(secure, vip).starts_with("plain: ORDERS/i 10.0.0.1:80"));
    assert!(one_with(secure, vip_and_tls).starts_with("tls: ORDERS/i 10.0.0.1:443"));
    assert_eq!(
        one_with("", vip),
        ": ORDERS/i: the instance has no virtual address to be named by"
    );
    let many = format!(r#""vipAddress":"{}""#, "a,".repeat(33));
    assert!(one_with(&many, vip).contains("more than 32 virtual addresses"));
    assert!(one_with(r#""vipAddress":"${spring.application.name}""#, vip).contains("never filled in"));
    let nameless = r#"{"applications":{"application":{"instance":{"instanceId":"i"}}}}"#;
    assert_eq!(
        decoded(nameless, rules(|_| {})),
        [": /i: the service has no usable name: the name is empty"]
    );
}

#[test]
fn a_scheme_that_kratos_names_counts_where_it_is_about_this_address() {
    let kratos = |url: &str| {
        one(&format!(
            r#""metadata":{{"agent":"go-eureka-client","Endpoints":"{url}"}}"#
        ))
    };
    assert!(kratos("grpc://10.0.0.1:80").contains("| grpc |"));
    assert!(kratos("http://10.0.0.1:80/?isSecure=false").contains("| http |"));
    assert!(!kratos("grpc://10.0.0.1:81").contains("| grpc |"));
    assert!(!kratos("nonsense").contains("| grpc |"));
}

#[test]
fn a_damaged_instance_rejects_itself_and_no_sibling() {
    let body = r#"{"applications":{"application":[{"name":"A","instance":[
        {"instanceId":"bad","ipAddr":{},"port":"x","status":[],"leaseInfo":7,"metadata":[1],"lastDirtyTimestamp":{}},
        {"instanceId":"good","ipAddr":"10.0.0.2","port":{"$":80,"@enabled":"true"}}]}]}}"#;
    let shown = decoded(body, rules(|_| {}));
    assert!(shown[0].starts_with("a: A/bad: ipAddr: "), "{}", shown[0]);
    assert_eq!(shown[1], "a: A/good 10.0.0.2:80 w=1 healthy");
}

/// Reads an answer whose content nobody vouches for, by every rule.
fn check_any(body: &[u8]) -> Result<(), TestCaseError> {
    let Ok(applications) = read(body) else { return Ok(()) };
    let _ = applications.adds_up();
    for naming in [Naming::App, Naming::AppVerbatim, Naming::Vip] {
        for prefer_secure in [false, true] {
            let rules = Rules { naming, prefer_secure };
            for record in &applications.records {
                let Decoded { services, outcome } = decode(record, rules);
                let sound = match outcome {
                    Some(Ok(_)) => !services.is_empty(),
                    Some(Err(rejection)) => !rejection.reason.is_empty(),
                    None => record.status == Status::Starting && !services.is_empty(),
                };
                prop_assert!(sound, "{record:?}");
            }
        }
    }
    Ok(())
}

/// Any byte, or one that has a chance to leave the answer JSON.
fn byte() -> impl Strategy<Value = u8> {
    prop_oneof![1 => any::<u8>(), 1 => select(&b"\"\\{}[]:,"[..]), 6 => select(&b"0123456789.-$@_#%+aezAZ "[..])]
}

proptest! {
    #![proptest_config(leadsman_property::cases(2000))]

    #[test]
    fn an_answer_with_bytes_replaced_is_endpoints_and_rejections(
        dialect in select(&DIALECTS[..]), damage in vec((any::<prop::sample::Index>(), byte()), 1..8)
    ) {
        let mut body = dialect.as_bytes().to_vec();
        for (place, byte) in damage {
            let place = place.index(body.len());
            body[place] = byte;
        }
        check_any(&body)?;
    }

    #[test]
    fn any_bytes_are_an_error_or_endpoints_and_rejections(noise in vec(any::<u8>(), 0..600), text in vec(any::<u8>(), 0..60)) {
        check_any(&noise)?;
        let text = String::from_utf8_lossy(&text);
        let instance = serde_json::json!({ "instanceId": text, "ipAddr": "10.0.0.1", "hostName": text, "vipAddress": text,
            "status": text, "overriddenStatus": text, "port": { "$": 80, "@enabled": "true" }, "lastDirtyTimestamp": text,
            "leaseInfo": { "durationInSecs": text }, "dataCenterInfo": { "metadata": { "availability-zone": text } },
            "metadata": { "weight": text, "meta": text, "zone": text, "agent": "go-eureka-client", "Endpoints": text } });
        let body = serde_json::json!({ "applications": { "application": { "name": "X", "instance": instance } } });
        check_any(body.to_string().as_bytes())?;
    }
}

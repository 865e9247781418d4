//! The format, its errors and their places.

use super::*;

#[test]
fn every_key_of_the_format_is_read() {
    let services = parse(
        "service: orders
endpoints:
  - address: 127.0.0.1
    port: 9001
    weight: 100
    health: healthy
    locality: { region: eu, zone: a, sub_zone: \"\" }
    metadata: { version: v2, build: 7 }
",
        "orders.yaml",
    )
    .unwrap();
    let [orders] = services.as_slice() else {
        panic!("{services:?}")
    };
    assert_eq!(orders.name.as_str(), "orders");
    let [endpoint] = orders.endpoints.as_slice() else {
        panic!("{orders:?}")
    };
    assert_eq!(endpoint.address.to_string(), "127.0.0.1:9001");
    assert_eq!(endpoint.weight.get(), 100.0);
    assert_eq!(endpoint.health, Health::Healthy);
    assert_eq!(
        (endpoint.locality.region.as_str(), endpoint.locality.zone.as_str()),
        ("eu", "a")
    );
    let metadata: Vec<_> = endpoint
        .metadata
        .iter()
        .map(|(k, v)| (k.as_str(), v.as_str()))
        .collect();
    assert_eq!(metadata, [("build", "7"), ("version", "v2")]);
    assert_eq!(&*endpoint.provenance.record, "orders.yaml:3");
    assert_eq!(&*endpoint.provenance.layout, "file");
    assert_eq!(
        &*endpoint.provenance.raw,
        "address: 127.0.0.1\n    port: 9001\n    weight: 100\n    health: healthy\n    \
         locality: { region: eu, zone: a, sub_zone: \"\" }\n    metadata: { version: v2, build: 7 }"
    );
}

#[test]
fn defaults_are_weight_one_and_unknown_health() {
    let endpoint = only("service: a\nendpoints: [{ address: '::1', port: 1 }]");
    assert_eq!(endpoint.address.to_string(), "[::1]:1");
    assert_eq!(endpoint.weight, Weight::ONE);
    assert_eq!(endpoint.health, Health::Unknown);
    assert_eq!(endpoint.locality, Locality::default());
    assert_eq!(endpoint.metadata, BTreeMap::new());
}

#[test]
fn a_weight_may_be_a_fraction_or_zero() {
    for (text, expected) in [("0.5", 0.5), ("0", 0.0), ("'3'", 3.0)] {
        let endpoint = only(&format!(
            "service: a\nendpoints: [{{ address: 127.0.0.1, port: 1, weight: {text} }}]"
        ));
        assert_eq!(endpoint.weight.get(), expected);
    }
}

#[test]
fn several_documents_are_several_services_and_empty_ones_do_not_count() {
    let services = parse(
        "---\n# nothing\n---\nservice: a\nendpoints: []\n---\n~\n---\nservice: b\nendpoints:\n- address: 127.0.0.1\n  port: 80\n",
        "x.yaml",
    )
    .unwrap();
    let shown: Vec<_> = services
        .iter()
        .map(|s| (s.name.as_str(), s.endpoints.len(), s.rejections.len()))
        .collect();
    assert_eq!(shown, [("a", 0, 0), ("b", 1, 0)]);
    assert_eq!(&*services[1].endpoints[0].provenance.record, "x.yaml:11");
}

#[test]
fn a_text_that_says_nothing_has_no_services() {
    for text in ["", "\n \n", "# only a comment\n", "---\n---\n", "~", "null\n"] {
        assert!(parse(text, "x.yaml").unwrap().is_empty(), "{text:?}");
    }
}

#[test]
fn a_wrong_value_rejects_its_own_endpoint_only() {
    let services = parse(
        "service: a
endpoints:
  - { address: 127.0.0.1, port: 0 }
  - { address: db.internal, port: 80 }
  - { address: 127.0.0.1, port: http }
  - { address: 127.0.0.1, port: 80, weight: -1 }
  - { address: 127.0.0.1, port: 80, weight: heavy }
  - { address: 127.0.0.1, port: 80, weight: .nan }
  - { address: 127.0.0.1, port: 80, weight: NaN }
  - { address: 127.0.0.1, port: 80, health: Sick }
  - { address: 127.0.0.1, port: 81 }
",
        "a.yaml",
    )
    .unwrap();
    let rejections: Vec<_> = services[0]
        .rejections
        .iter()
        .map(|r| (&*r.provenance.record, r.reason.as_str()))
        .collect();
    assert_eq!(
        rejections,
        [
            ("a.yaml:3", "port 0 is outside 1 to 65535"),
            (
                "a.yaml:4",
                "\"db.internal\" is not an IP address; EDS takes no host names, so register the address itself"
            ),
            ("a.yaml:5", "port \"http\" is not a whole number"),
            ("a.yaml:6", "weight -1 is negative"),
            ("a.yaml:7", "weight \"heavy\" is not a number"),
            ("a.yaml:8", "weight \".nan\" is not a number"),
            ("a.yaml:9", "weight NaN is not a finite number"),
            (
                "a.yaml:10",
                "\"Sick\" is no health; it is one of unknown, healthy, degraded, draining, unhealthy"
            ),
        ]
    );
    let addresses: Vec<_> = services[0].endpoints.iter().map(|e| e.address.to_string()).collect();
    assert_eq!(addresses, ["127.0.0.1:81"]);
}

#[test]
fn a_line_is_no_identity() {
    let text = "service: a\nendpoints: [{ address: 127.0.0.1, port: 1 }, { address: 127.0.0.1, port: 0 }]";
    let services = parse(text, "a.yaml").unwrap();
    assert!(!services[0].endpoints[0].provenance.stable);
    assert!(!services[0].rejections[0].provenance.stable);
}

#[test]
fn a_wrong_structure_refuses_the_file_and_says_where_and_how_to_mend_it() {
    for (text, expected) in [
        (
            "service: a\nendpoints:\n  - adress: 127.0.0.1\n    port: 80\n",
            "3:5: unknown key `adress`, did you mean `address`?",
        ),
        (
            "service: a\nendpoint: []\n",
            "2:1: unknown key `endpoint`, did you mean `endpoints`?",
        ),
        (
            "service: a\nendpoints: []\ncluster: b\n",
            "3:1: unknown key `cluster`; the keys here are service, endpoints",
        ),
        (
            "service: a\nendpoints:\n  - address: 127.0.0.1\n",
            "3:5: the key `port` is missing; add it",
        ),
        (
            "service: a\nendpoints:\n  - address: 127.0.0.1\n    port:\n",
            "4:9: a value is missing here; write one or remove the key",
        ),
        (
            "service: a\nendpoints:\n",
            "1:10: this service has no list of `endpoints`; write `endpoints: []` if it is meant to have none",
        ),
        ("service: ''\nendpoints: []\n", "1:10: key `service`: the name is empty"),
        (
            "service: a\nservice: b\nendpoints: []\n",
            "2:1: duplicate mapping key: service not allowed here",
        ),
        ("service: [a]\nendpoints: []\n", "1:10: one word or number belongs here"),
        ("endpoints: []\n", "1:1: the key `service` is missing; add it"),
    ] {
        let error = parse(text, "x.yaml").map(|s| s.len()).unwrap_err();
        assert_eq!(error.to_string(), expected, "{text}");
    }
}

#[test]
fn broken_syntax_is_located() {
    let error = parse("service: a\nendpoints:\n  - address: [127\n", "x.yaml").unwrap_err();
    assert!(error.line >= 3, "{error}");
    let error = parse("service: a\nendpoints:\n\t- address: 127.0.0.1\n", "x.yaml").unwrap_err();
    assert_eq!(error.line, 3, "{error}");
    assert!(error.message.len() < 400, "{error}");
}

#[test]
fn a_file_that_expands_without_end_is_refused() {
    let mut text = "a: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..9 {
        let previous = format!("*a{}, ", level - 1).repeat(9);
        text.push_str(&format!("b{level}: &a{level} [{previous}]\n"));
    }
    parse(&text, "x.yaml").unwrap_err();
}

#[test]
fn the_raw_text_of_an_item_is_that_item() {
    for (text, expected) in [
        (
            "service: a\nendpoints: [{address: 127.0.0.1, port: 1}, {address: 127.0.0.1, port: 2}]\n",
            vec!["{address: 127.0.0.1, port: 1}", "{address: 127.0.0.1, port: 2}"],
        ),
        (
            "endpoints:\n- address: 127.0.0.1\n\n  port: 1\n- port: 2\n  address: 127.0.0.1 # é\nservice: a\n",
            vec!["address: 127.0.0.1\n\n  port: 1", "port: 2\n  address: 127.0.0.1 # é"],
        ),
    ] {
        let services = parse(text, "x.yaml").unwrap();
        let raw: Vec<_> = services[0].endpoints.iter().map(|e| &*e.provenance.raw).collect();
        assert_eq!(raw, expected);
    }
}

#[test]
fn no_prefix_of_a_file_panics_or_empties_its_service() {
    let text = "service: é\nendpoints:\n  - address: 127.0.0.1\n    port: 9001\n    metadata: { v: \"1\" }\n";
    for (end, _) in text.char_indices() {
        for service in parse(&text[..end], "x.yaml").unwrap_or_default() {
            assert_eq!(
                service.endpoints.len() + service.rejections.len(),
                1,
                "{}",
                &text[..end]
            );
        }
    }
}

fn only(text: &str) -> Endpoint {
    let mut services = parse(text, "x.yaml").unwrap();
    services.pop().unwrap().endpoints.pop().unwrap()
}

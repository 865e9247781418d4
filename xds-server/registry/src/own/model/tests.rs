//! What is refused, and by which words.

use super::*;

fn content() -> Content {
    Content {
        address: "10.0.0.1".to_owned(),
        port: 9001,
        weight: 1.0,
        health: "healthy".to_owned(),
        locality: Place::default(),
        metadata: BTreeMap::new(),
    }
}

fn check(change: impl FnOnce(&mut Registration)) -> Result<(), Refusal> {
    let mut registration = Registration {
        key: Key::new("orders", "a").unwrap(),
        content: content(),
        ttl_seconds: 30,
        holder: String::new(),
        expected: None,
    };
    change(&mut registration);
    registration.check()
}

#[test]
fn names_are_segments_of_keys() {
    let refused = |service: &str, id: &str| Key::new(service, id).unwrap_err().to_string();
    assert!(Key::new("shop.orders", "[::1]:9001").is_ok());
    assert!(refused("", "a").starts_with("service: "));
    assert!(refused("a/b", "a").contains("dots"));
    assert!(refused("a\n", "a").contains("control"));
    assert!(refused(&"x".repeat(254), "a").contains("254"));
    assert_eq!(refused("a", ""), "the id is empty");
    assert_eq!(refused("a", "b/c"), "the id holds the character '/'");
    assert_eq!(refused("a", "b c"), "the id holds the character ' '");
    assert_eq!(
        refused("a", &"x".repeat(129)),
        "the id is 129 bytes long, the limit is 128"
    );
}

#[test]
fn what_can_not_be_an_endpoint_is_refused_by_its_field() {
    let refused = |change: fn(&mut Registration)| check(change).unwrap_err().to_string();
    assert_eq!(check(|_| {}), Ok(()));
    assert!(refused(|r| r.content.address = "db.internal".to_owned()).contains("host names"));
    assert!(refused(|r| r.content.port = 65536).contains("65536"));
    assert!(refused(|r| r.content.port = 0).contains("port"));
    assert!(refused(|r| r.content.weight = -1.0).contains("negative"));
    assert!(refused(|r| r.content.weight = f64::NAN).contains("finite"));
    assert!(refused(|r| r.content.health = "up".to_owned()).contains("\"up\" is no health"));
    assert!(refused(|r| r.ttl_seconds = 0).contains("1 to 86400"));
    assert!(refused(|r| r.ttl_seconds = 86401).contains("86401"));
    assert!(refused(|r| r.holder = "a b".to_owned()).contains("the holder"));
    assert!(refused(|r| r.content.locality.zone = "z".repeat(257)).contains("locality.zone"));
    assert!(refused(|r| r.content.metadata = (0..33).map(|n| (n.to_string(), String::new())).collect()).contains("33"));
    assert!(refused(|r| drop(r.content.metadata.insert("k".repeat(65), String::new()))).contains("64"));
    assert!(refused(|r| drop(r.content.metadata.insert("k".to_owned(), "v".repeat(257)))).contains("metadata.k"));
    assert!(refused(|r| drop(r.content.metadata.insert(String::new(), String::new()))).contains("1 to 64"));
}

#[test]
fn only_the_address_and_the_port_are_needed() {
    let read: Content = serde_json::from_str(r#"{"address":"::1","port":1}"#).unwrap();
    let endpoint = read.endpoint(Provenance::default(), false).unwrap();
    assert_eq!(endpoint.address.to_string(), "[::1]:1");
    assert_eq!((endpoint.weight, endpoint.health), (Weight::ONE, Health::Unknown));
}

#[test]
fn a_drained_instance_is_draining_whatever_it_says_itself() {
    for health in ["healthy", "unhealthy", "unknown"] {
        let said = Content {
            health: health.to_owned(),
            ..content()
        };
        let endpoint = said.endpoint(Provenance::default(), true).unwrap();
        assert_eq!(endpoint.health, Health::Draining);
        assert_eq!(endpoint.health_reason.as_ref(), "drained");
    }
}

#[test]
fn a_lease_is_sixteen_digits() {
    let lease = Lease(0xab);
    assert_eq!(lease.to_string(), "00000000000000ab");
    assert_eq!("00000000000000ab".parse(), Ok(lease));
    for text in [
        "",
        "ab",
        "+0000000000000ab",
        "00000000000000abc",
        "00000000000000ag",
        "é000000000000ab",
    ] {
        assert!(text.parse::<Lease>().is_err(), "{text}");
    }
}

#[test]
fn a_page_begins_where_the_one_before_ended() {
    let listing = Listing::new("", "orders/a", 0).unwrap();
    assert_eq!(listing.after, Some(Key::new("orders", "a").unwrap()));
    assert_eq!(listing.limit, Listing::MAX_LIMIT);
    assert_eq!(Listing::new("orders", "", 5000).unwrap().limit, Listing::MAX_LIMIT);
    assert!(Listing::new("", "orders", 1).is_err());
}

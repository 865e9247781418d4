//! What a Nacos says about its instances: fields, groups, namespaces, clusters, and health that is only shown.

use std::collections::BTreeSet;

use leadsman_core::model::Health;
use leadsman_registry::nacos::{Config, Nacos as Adapter, Naming, Protocol};
use leadsman_tests::contract::{Subject, state};
use leadsman_tests::instance::Instance;
use leadsman_tests::nacos::{Version, record};
use leadsman_tests::observed::Observed;
use leadsman_tests::rigs::nacos::{GROUP, Rig};
use leadsman_tests::wait::{PATIENT, until_ok};
use serde_json::json;

const ALL: [(Version, Protocol); 3] = [
    (Version::V31, Protocol::Grpc),
    (Version::V25, Protocol::Grpc),
    (Version::V25, Protocol::Http),
];

#[tokio::test]
async fn weights_are_kept_raw_and_a_disabled_instance_is_not_shown() {
    for (version, protocol) in ALL {
        let mut rig = Rig::start(version, protocol).await;
        let (half, none, full) = (
            Instance::new(9001).weighing(0.5),
            Instance::new(9002).weighing(0.0),
            Instance::new(9003).weighing(10_000.0),
        );
        for instance in [half, none, full] {
            rig.put("orders", instance).await;
        }
        let observed = rig.observe();
        observed.becomes(&state(&[("orders", &[half, none, full])])).await;
        let mut disabled = record(half);
        disabled["enabled"] = json!(false);
        rig.writer.register(GROUP, "orders", &disabled).await;
        observed.becomes(&state(&[("orders", &[none, full])])).await;
        rig.put("orders", half).await;
        observed.becomes(&state(&[("orders", &[half, none, full])])).await;
    }
}

#[tokio::test]
async fn a_reached_threshold_hides_no_illness() {
    for (version, protocol) in ALL {
        let mut rig = Rig::start(version, protocol).await;
        rig.writer.protect(GROUP, "orders", "0.8").await;
        let (one, two, three) = (Instance::new(9001), Instance::new(9002), Instance::new(9003));
        let ill = |instance: Instance| instance.being(Health::Unhealthy);
        for instance in [one, ill(two), ill(three)] {
            rig.put("orders", instance).await;
        }
        let observed = rig.observe();
        observed
            .becomes(&state(&[("orders", &[one, ill(two), ill(three)])]))
            .await;
        let reasons: Vec<_> = observed.heard().services["orders"]
            .endpoints
            .iter()
            .filter(|endpoint| endpoint.health_reason.contains("protectThreshold"))
            .map(|endpoint| endpoint.address.port())
            .collect();
        assert_eq!(reasons, [9002, 9003]);
        rig.put("orders", ill(one)).await;
        observed
            .becomes(&state(&[("orders", &[ill(one), ill(two), ill(three)])]))
            .await;
        for instance in [one, two, three] {
            rig.put("orders", instance).await;
        }
        observed.becomes(&state(&[("orders", &[one, two, three])])).await;
    }
}

#[tokio::test]
async fn several_groups_are_told_apart_by_name() {
    for (version, protocol) in ALL {
        let mut rig = Rig::start(version, protocol).await;
        let (one, two, other) = (Instance::new(9001), Instance::new(9002), Instance::new(9003));
        rig.put("orders", one).await;
        rig.writer.register("BLUE", "orders", &record(two)).await;
        rig.writer.register("RED", "orders", &record(other)).await;
        let config = Config {
            groups: BTreeSet::from(["BLUE".to_owned(), String::new()]),
            service_name: Naming::Grouped,
            ..rig.config()
        };
        let observed = Observed::start(Adapter::new(config));
        observed
            .becomes(&state(&[("DEFAULT_GROUP@@orders", &[one]), ("BLUE@@orders", &[two])]))
            .await;
        rig.writer.deregister("BLUE", "orders", two.port).await;
        observed.becomes(&state(&[("DEFAULT_GROUP@@orders", &[one])])).await;
    }
}

#[tokio::test]
async fn a_namespace_is_no_other_and_a_blank_one_is_public() {
    let mut rig = Rig::start(Version::V31, Protocol::Grpc).await;
    let (one, two) = (Instance::new(9001), Instance::new(9002));
    rig.put("orders", one).await;
    let mut public = rig.writer.clone();
    public.namespace = "public".to_owned();
    public.register(GROUP, "orders", &record(two)).await;
    let blank = Config {
        namespace: String::new(),
        ..rig.config()
    };
    let ours = rig.observe();
    for protocol in [Protocol::Grpc, Protocol::Http] {
        let blank = Observed::start(Adapter::new(Config {
            protocol,
            ..blank.clone()
        }));
        blank.becomes(&state(&[("orders", &[two])])).await;
    }
    ours.becomes(&state(&[("orders", &[one])])).await;
}

#[tokio::test]
async fn only_the_wanted_clusters_are_listed() {
    let mut rig = Rig::start(Version::V31, Protocol::Grpc).await;
    let (one, two) = (Instance::new(9001), Instance::new(9002));
    rig.put("orders", one).await;
    let mut elsewhere = record(two);
    elsewhere["clusterName"] = json!("east");
    rig.writer.register(GROUP, "orders", &elsewhere).await;
    let config = Config {
        clusters: BTreeSet::from(["east".to_owned()]),
        ..rig.config()
    };
    let observed = Observed::start(Adapter::new(config));
    observed.becomes(&state(&[("orders", &[two])])).await;
    let zone = observed.heard().services["orders"].endpoints[0].locality.zone.clone();
    assert_eq!(zone, "east");
    rig.put("orders", one.weighing(5.0)).await;
    rig.put("users", one).await;
    observed.is_silent_for(std::time::Duration::from_millis(500)).await;
}

#[tokio::test]
async fn an_instance_that_is_not_heard_of_becomes_ill_and_goes() {
    let mut rig = Rig::start(Version::V31, Protocol::Grpc).await;
    let (one, two) = (Instance::new(9001), Instance::new(9002));
    rig.put("orders", one).await;
    let observed = rig.observe();
    observed.becomes(&state(&[("orders", &[one])])).await;
    leadsman_tests::judged::Judged::put_mortal(&mut rig, "orders", two).await;
    observed.becomes(&state(&[("orders", &[one, two])])).await;
    observed.becomes(&state(&[("orders", &[one])])).await;
    assert_eq!(observed.status().counters.resyncs, 1);
}

#[tokio::test]
async fn what_looks_in_the_wrong_place_is_told_where_to_look() {
    let mut rig = Rig::start(Version::V31, Protocol::Grpc).await;
    rig.put("orders", Instance::new(9001)).await;
    let namespace = rig.writer.namespace.clone();
    let told = async |config: Config, words: &[&str]| {
        let observed = Observed::start(Adapter::new(config));
        until_ok(PATIENT, &format!("{words:?}"), async || {
            let error = observed.status().last_error.unwrap_or_default();
            let named = words.iter().all(|word| error.contains(word));
            if named { Ok(()) } else { Err(error) }
        })
        .await;
    };
    let by_name = Config {
        namespace: format!("name of {namespace}"),
        ..rig.config()
    };
    told(by_name, &["is a name", &namespace]).await;
    let unknown = Config {
        namespace: "nowhere".to_owned(),
        ..rig.config()
    };
    told(unknown, &["there is no namespace", &namespace]).await;
    let elsewhere = Config {
        groups: BTreeSet::from(["NOBODY".to_owned()]),
        ..rig.config()
    };
    told(elsewhere, &["NOBODY", "services in DEFAULT_GROUP"]).await;
}

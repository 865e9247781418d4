//! What reaches Envoy, what counts as a change, and that order never matters.

use std::time::Duration;

use super::*;
use crate::model::{
    Address, Catalog, Endpoint, Evidence, Health, Locality, Provenance, Rejection, Service, SourceName, Weight,
};
use crate::policy::resolve;
use proptest::prelude::*;

fn source() -> SourceName {
    SourceName::new("test").unwrap()
}

fn name() -> ServiceName {
    ServiceName::new("orders").unwrap()
}

fn endpoint(port: i64, weight: f64, zone: &str) -> Endpoint {
    let address = Address::new("10.0.0.1", port).unwrap();
    let weight = Weight::new(weight).unwrap();
    let locality = Locality {
        zone: zone.to_owned(),
        ..Locality::default()
    };
    Endpoint {
        weight,
        locality,
        ..Endpoint::new(address, Provenance::default())
    }
}

fn resolution(endpoints: Vec<Endpoint>) -> Resolution {
    let mut catalog = Catalog::new([source()]);
    catalog.resync(
        &source(),
        vec![Service::new(name(), endpoints)],
        &Evidence::Complete,
        Duration::ZERO,
    );
    resolve(&catalog, &name(), &ServiceSettings::default())
}

fn gone() -> Resolution {
    let other = Service::new(ServiceName::new("other").unwrap(), vec![]);
    let mut catalog = Catalog::new([source()]);
    catalog.resync(&source(), vec![other], &Evidence::Complete, Duration::ZERO);
    resolve(&catalog, &name(), &ServiceSettings::default())
}

fn put(builder: &mut Builder, resolution: &Resolution) -> String {
    let settings = ServiceSettings::default();
    let urgency = builder.urgency(resolution, &settings);
    let mut changes = Changes::default();
    builder.put(resolution, &settings, &mut changes);
    format!(
        "{urgency:?} clusters {:?} endpoints {:?}",
        changes.clusters, changes.endpoints
    )
}

#[test]
fn a_change_names_what_changed_and_how_soon_it_matters() {
    let mut builder = Builder::default();
    let new = put(&mut builder, &resolution(vec![endpoint(1, 1.0, "a")]));
    assert_eq!(new, r#"Some(Now) clusters {"orders"} endpoints {"orders"}"#);
    let same = put(&mut builder, &resolution(vec![endpoint(1, 1.0, "a")]));
    assert_eq!(same, "None clusters {} endpoints {}");
    let weight = put(&mut builder, &resolution(vec![endpoint(1, 2.0, "a")]));
    assert_eq!(weight, r#"Some(Weights) clusters {} endpoints {"orders"}"#);
    let sick = Endpoint {
        health: Health::Unhealthy,
        ..endpoint(1, 3.0, "a")
    };
    assert_eq!(
        put(&mut builder, &resolution(vec![sick])),
        r#"Some(Now) clusters {} endpoints {"orders"}"#
    );
    let emptied = put(&mut builder, &resolution(Vec::new()));
    assert_eq!(emptied, r#"Some(Now) clusters {} endpoints {"orders"}"#);
    assert_eq!(
        put(&mut builder, &gone()),
        r#"Some(Now) clusters {"orders"} endpoints {"orders"}"#
    );
    assert_eq!(put(&mut builder, &gone()), "None clusters {} endpoints {}");
}

#[test]
fn a_service_that_became_unknown_stays_as_it_was_published() {
    let mut builder = Builder::default();
    put(&mut builder, &resolution(vec![endpoint(1, 1.0, "a")]));
    let unknown = resolve(&Catalog::new([source()]), &name(), &ServiceSettings::default());
    assert_eq!(put(&mut builder, &unknown), "None clusters {} endpoints {}");
    assert_eq!(builder.publish().len(), 1);
}

#[test]
fn instances_with_several_protocols_make_a_cluster_each_beside_the_services_own() {
    let with = |port, scheme: &str| Endpoint {
        scheme: Some(scheme.into()),
        ..endpoint(port, 1.0, "")
    };
    let mut builder = Builder::default();
    let both = resolution(vec![with(1, "grpc"), with(2, "http")]);
    put(&mut builder, &both);
    let names: Vec<&str> = builder.clusters_of(&name()).iter().map(ClusterName::as_str).collect();
    assert_eq!(names, ["orders", "orders@grpc", "orders@http"]);
    let changed = put(&mut builder, &resolution(vec![with(1, "grpc")]));
    assert_eq!(
        changed, r#"Some(Now) clusters {} endpoints {"orders", "orders@http"}"#,
        "nothing is torn down"
    );
    assert_eq!(
        put(&mut builder, &gone()),
        r#"Some(Now) clusters {"orders", "orders@grpc", "orders@http"} endpoints {"orders", "orders@grpc", "orders@http"}"#
    );
}

#[test]
fn a_services_own_cluster_is_not_empty_while_an_instance_of_any_protocol_is_there() {
    let with = |port, scheme: &str| Endpoint {
        scheme: Some(scheme.into()),
        ..endpoint(port, 1.0, "")
    };
    let (mut migrated, mut fresh) = (Builder::default(), Builder::default());
    put(&mut migrated, &resolution(vec![with(1, "dubbo"), with(2, "tri")]));
    put(&mut migrated, &resolution(vec![with(2, "tri")]));
    put(&mut fresh, &resolution(vec![with(2, "tri")]));
    let own = |builder: &mut Builder| {
        builder
            .publish()
            .get(ResourceType::Endpoint, "orders")
            .map(|held| held.version)
    };
    assert_eq!(own(&mut migrated), own(&mut fresh));
    put(&mut migrated, &resolution(vec![]));
    put(&mut fresh, &resolution(vec![]));
    assert_eq!(own(&mut migrated), own(&mut fresh));
}

#[test]
fn a_service_of_which_nothing_can_be_read_is_not_said_to_be_missing() {
    let mut catalog = Catalog::new([source()]);
    let rejection = Rejection {
        provenance: Provenance::new("k", "test", b"?", 1),
        reason: "broken".to_owned(),
    };
    let unreadable = Service {
        rejections: vec![rejection],
        ..Service::new(name(), vec![])
    };
    catalog.resync(&source(), vec![unreadable], &Evidence::Complete, Duration::ZERO);
    let unknown = resolve(&catalog, &name(), &ServiceSettings::default());
    let mut builder = Builder::default();
    assert_eq!(put(&mut builder, &unknown), "Some(Now) clusters {} endpoints {}");
    assert!(builder.publish().is_unsure("orders") && builder.publish().is_unsure("orders@grpc"));
    assert_eq!(put(&mut builder, &unknown), "None clusters {} endpoints {}");
    let looked_at_again = r#"Some(Now) clusters {"orders"} endpoints {"orders"}"#;
    assert_eq!(put(&mut builder, &gone()), looked_at_again);
    assert!(!builder.publish().is_unsure("orders"));
}

fn any_endpoints() -> impl Strategy<Value = Vec<Endpoint>> {
    let one = (1_i64..50, 0.0_f64..200.0, "[ab]?").prop_map(|(port, weight, zone)| endpoint(port, weight, &zone));
    proptest::collection::vec(one, 0..20)
}

proptest! {
    #![proptest_config(leadsman_property::cases(256))]
    /// Two replicas that hear the same in another order, or after another past, publish the same bytes and versions.
    #[test]
    fn what_is_published_depends_on_the_state_and_not_on_how_it_came_about(
        past in any_endpoints(), now in any_endpoints(),
    ) {
        let mut unique: BTreeMap<_, _> = now.into_iter().map(|endpoint| (endpoint.address, endpoint)).collect();
        let forward: Vec<Endpoint> = unique.values().cloned().collect();
        let backward: Vec<Endpoint> = std::iter::from_fn(|| unique.pop_last().map(|(_, endpoint)| endpoint)).collect();
        let (mut fresh, mut aged) = (Builder::default(), Builder::default());
        put(&mut aged, &resolution(past));
        put(&mut aged, &resolution(backward));
        put(&mut fresh, &resolution(forward));
        let (fresh, aged) = (fresh.publish(), aged.publish());
        for kind in ResourceType::ALL {
            let of = |snapshot: &Snapshot| -> Vec<_> {
                snapshot.all(kind).map(|resource| (resource.version, resource.field.clone())).collect()
            };
            prop_assert_eq!(of(&fresh), of(&aged));
        }
    }
}

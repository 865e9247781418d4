//! Whole clients, as they go out.

use std::sync::Arc;
use std::time::Duration;

use leadsman_core::model::{Catalog, Evidence, Locality, Service, ServiceName, SourceName};
use leadsman_core::policy::{ServiceSettings, resolve};
use leadsman_core::snapshot::{Builder, Changes, Resource};
use leadsman_core::xds::{ResourceState, TypeReport};

use super::*;

fn published() -> Arc<Resource> {
    let (source, name) = (SourceName::new("shop").unwrap(), ServiceName::new("orders").unwrap());
    let mut catalog = Catalog::new([source.clone()]);
    let service = Service::new(name.clone(), Vec::new());
    catalog.resync(&source, vec![service], &Evidence::Complete, Duration::ZERO);
    let (settings, mut builder) = (ServiceSettings::default(), Builder::default());
    builder.put(&resolve(&catalog, &name, &settings), &settings, &mut Changes::default());
    builder.publish().get(ResourceType::Cluster, "orders").unwrap()
}

fn holdings(kind: ResourceType, requested: bool, resources: Vec<Holding>) -> Holdings {
    Holdings {
        kind,
        report: TypeReport {
            type_url: kind.type_url(),
            requested,
            wildcard: true,
            subscribed: 0,
            sent: 0,
            acked: 0,
            rejected: Vec::new(),
            quarantines: 0,
            last_nack: None,
            nacks: 1,
            oldest_unacked: None,
        },
        refusal: Some(Refusal {
            at: UNIX_EPOCH + Duration::from_millis(1_500),
            message: "no such luck".to_owned(),
        }),
        resources,
    }
}

/// A resource in every state, of one type that was asked for and one that was not.
fn example(published: &Arc<Resource>) -> Vec<Holdings> {
    let version = published.version;
    let holding = |name: &str, state| Holding {
        name: name.into(),
        state,
        published: Some(published.clone()),
    };
    let resources = vec![
        holding("acked", ResourceState::Acked { version }),
        holding("refused", ResourceState::Rejected { version }),
        holding("sent", ResourceState::Sent { version }),
        holding("waits", ResourceState::NotSent),
        Holding {
            published: None,
            ..holding("absent", ResourceState::NotSent)
        },
    ];
    vec![
        holdings(ResourceType::Cluster, true, resources),
        holdings(ResourceType::Endpoint, false, Vec::new()),
    ]
}

#[test]
fn every_status_has_its_two_words_and_only_a_refused_resource_a_reason() {
    let published = published();
    let version = published.version.to_string();
    let shown = client(&Node::default(), example(&published), true).generic_xds_configs;
    let words: Vec<_> = shown
        .iter()
        .map(|config| {
            let reason = config.error_state.as_ref().map(|state| state.details.as_str());
            let status = (
                config.config_status().as_str_name(),
                config.client_status().as_str_name(),
            );
            (config.name.as_str(), status, reason)
        })
        .collect();
    assert_eq!(
        words,
        [
            ("acked", ("SYNCED", "ACKED"), None),
            ("refused", ("ERROR", "NACKED"), Some("no such luck")),
            ("sent", ("STALE", "REQUESTED"), None),
            ("waits", ("NOT_SENT", "REQUESTED"), None),
            ("absent", ("UNKNOWN", "DOES_NOT_EXIST"), None),
        ]
    );
    let state = shown[1].error_state.as_ref().unwrap();
    let at = Timestamp {
        seconds: 1,
        nanos: 500_000_000,
    };
    assert_eq!((&state.last_update_attempt, &state.version_info), (&Some(at), &version));
}

#[test]
fn a_resource_that_exists_has_its_version_and_if_wanted_its_content() {
    let published = published();
    let version = published.version.to_string();
    for contents in [true, false] {
        let shown = client(&Node::default(), example(&published), contents).generic_xds_configs;
        for config in shown {
            let exists = config.name != "absent";
            assert_eq!(config.version_info == version, exists);
            let content = config.xds_config.map(|any| any.type_url);
            let expected = (exists && contents).then(|| ResourceType::Cluster.type_url().to_owned());
            assert_eq!(content, expected);
        }
    }
}

#[test]
fn a_client_has_its_node_and_the_status_of_each_type_it_asked_for() {
    let node = Node {
        id: "edge-1".to_owned(),
        cluster: "edge".to_owned(),
        locality: Locality::default(),
        user_agent: "envoy 1.40.0".to_owned(),
    };
    let shown = client(&node, example(&published()), false);
    #[expect(deprecated, reason = "the only place of the API for the status of a whole type")]
    let types: Vec<i32> = shown.xds_config.iter().map(|of| of.status).collect();
    assert_eq!(types, [i32::from(ConfigStatus::Error)]);
    let node = shown.node.unwrap();
    let agent = Some(UserAgentVersionType::UserAgentVersion("1.40.0".to_owned()));
    assert_eq!((node.id.as_str(), node.user_agent_name.as_str()), ("edge-1", "envoy"));
    assert_eq!(node.user_agent_version_type, agent);
}

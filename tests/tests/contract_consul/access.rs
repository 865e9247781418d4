//! What access control can do: refuse, and hide without a word.

use std::time::Duration;

use leadsman_core::model::Evidence;
use leadsman_registry::SourceState;
use leadsman_registry::Tls;
use leadsman_registry::consul::{Config, Consul as Adapter};
use leadsman_tests::consul::Setup;
use leadsman_tests::contract::{Subject, state};
use leadsman_tests::instance::Instance;
use leadsman_tests::observed::{Note, Observed};
use leadsman_tests::wait::throughout;
use serde_json::json;

use leadsman_tests::rigs::consul::{READ_ALL, Rig};

const READ_SERVICES: &str = r#"service_prefix "" { policy = "read" }"#;

/// Longer than everything that an adapter does at once.
const QUIET: Duration = Duration::from_secs(2);

fn locked(setup: Setup) -> Setup {
    Setup { acl: true, ..setup }
}

pub(crate) async fn a_refused_token_is_told_apart_and_the_right_one_is_read_anew(setup: Setup) {
    let mut rig = Rig::start(locked(setup)).await;
    let one = Instance::new(9001);
    rig.put("orders", one).await;
    let token = rig.consul.token("reader", READ_ALL).await;
    let observed = Observed::start(Adapter::new(rig.with_token("99999999-9999-9999-9999-999999999999")));
    observed
        .status_becomes("a refusal", |status| status.counters.auth_failures > 0)
        .await;
    assert_eq!(observed.heard().notes, []);
    rig.with_token(&token);
    observed.becomes(&state(&[("orders", &[one])])).await;
    observed.enters(&[SourceState::Live]).await;
    let notes = observed.heard().notes;
    let complete = |note: &Note| {
        matches!(
            note,
            Note::Resync {
                evidence: Evidence::Complete,
                ..
            }
        )
    };
    assert!(notes.len() == 1 && notes.iter().all(complete), "{notes:?}");
}

pub(crate) async fn a_token_that_is_taken_away_empties_nothing(setup: Setup) {
    let mut rig = Rig::start(locked(setup)).await;
    let (one, two) = (Instance::new(9001), Instance::new(9002));
    rig.put("orders", one).await;
    rig.put("users", one).await;
    let (first, second) = (
        rig.consul.token("first", READ_ALL).await,
        rig.consul.token("second", READ_ALL).await,
    );
    let observed = Observed::start(Adapter::new(rig.with_token(&first)));
    let known = state(&[("orders", &[one]), ("users", &[one])]);
    observed.becomes(&known).await;
    rig.consul.revoke(&first).await;
    observed
        .status_becomes("a refusal", |status| status.counters.auth_failures > 0)
        .await;
    rig.put("orders", two).await;
    observed.is_silent_for(QUIET).await;
    assert_eq!(observed.state(), known);
    rig.with_token(&second);
    observed
        .becomes(&state(&[("orders", &[one, two]), ("users", &[one])]))
        .await;
    observed.enters(&[SourceState::Live]).await;
}

/// The token stays, but its policy no longer covers nodes: every list is empty, with status 200.
pub(crate) async fn a_right_that_is_taken_away_empties_nothing(setup: Setup) {
    let mut rig = Rig::start(locked(setup)).await;
    let (one, two) = (Instance::new(9001), Instance::new(9002));
    rig.put("orders", one).await;
    let token = rig.consul.token("reader", READ_ALL).await;
    let observed = Observed::start(Adapter::new(rig.with_token(&token)));
    let known = state(&[("orders", &[one])]);
    observed.becomes(&known).await;
    let limit = async |rules: &str| {
        let policy = rig
            .consul
            .get_as("/v1/acl/policy/name/reader", Some(leadsman_tests::consul::MANAGEMENT));
        let policy: serde_json::Value = serde_json::from_str(&policy.await).unwrap();
        let id = policy["ID"].as_str().unwrap();
        let rules = json!({ "Name": "reader", "Rules": rules });
        rig.consul.put(&format!("/v1/acl/policy/{id}"), &rules).await;
    };
    limit(READ_SERVICES).await;
    rig.consul
        .register(&leadsman_tests::rigs::consul::registration("orders", two))
        .await;
    rig.deregister("orders", one.port).await;
    throughout(QUIET, "what was known", async || observed.state() == known).await;
    // Whatever session reads it anew must not believe it either.
    rig.proxy.sever();
    observed
        .status_becomes("a lost session", |status| status.counters.session_errors > 0)
        .await;
    rig.proxy.heal();
    observed
        .status_becomes("another listing", |status| status.counters.resyncs >= 2)
        .await;
    assert_eq!(observed.state(), known);
    observed
        .status_becomes("a word about the token", |status| {
            let told = status.last_error.as_deref().unwrap_or_default();
            status.state == SourceState::Degraded && told.contains("node_prefix")
        })
        .await;
    limit(READ_ALL).await;
    observed.becomes(&state(&[("orders", &[two])])).await;
    observed.enters(&[SourceState::Live]).await;
}

pub(crate) async fn an_anonymous_reader_does_not_believe_in_emptiness(setup: Setup) {
    let mut rig = Rig::start(locked(setup)).await;
    let one = Instance::new(9001);
    rig.put("orders", one).await;
    let observed = rig.observe();
    observed.enters(&[SourceState::Degraded]).await;
    observed
        .status_becomes("a word about the token", |status| {
            status.last_error.as_deref().unwrap_or_default().contains("token_file")
        })
        .await;
    let notes = observed.heard().notes;
    let [
        Note::Resync {
            services: 0,
            evidence: Evidence::Partial { .. },
            ..
        },
        Note::Impaired(Some(_)),
    ] = &notes[..]
    else {
        panic!("{notes:?}");
    };
}

pub(crate) async fn an_agent_that_asks_for_certificates_is_read_with_one(setup: Setup) {
    let mut rig = Rig::start(Setup { tls: true, ..setup }).await;
    let one = Instance::new(9001);
    rig.put("orders", one).await;
    let [ca, cert, key] = rig.consul.client_files();
    let endpoints = vec![format!("https://{}", rig.consul.tls_address())];
    let observe = |tls: Tls| {
        Observed::start(Adapter::new(Config {
            tls: Some(tls),
            ..Config::new(endpoints.clone())
        }))
    };
    let (cert, key) = (Some(cert), Some(key));
    let with_all = observe(Tls {
        ca: Some(ca.clone()),
        cert: cert.clone(),
        key: key.clone(),
    });
    let anonymous = observe(Tls {
        ca: Some(ca),
        ..Tls::default()
    });
    let distrustful = observe(Tls { ca: None, cert, key });
    with_all.becomes(&state(&[("orders", &[one])])).await;
    with_all.enters(&[SourceState::Live]).await;
    for (observed, why) in [(anonymous, "certificate"), (distrustful, "certificate")] {
        observed
            .status_becomes("a word about certificates", |status| {
                status
                    .last_error
                    .as_deref()
                    .unwrap_or_default()
                    .to_lowercase()
                    .contains(why)
            })
            .await;
        assert_eq!(observed.heard().notes, []);
    }
}

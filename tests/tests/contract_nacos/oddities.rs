//! What a real server can't be made to do at the moment of a test, done by one that is not real.

use std::time::Duration;

use leadsman_core::model::{Evidence, Health};
use leadsman_registry::SourceState;
use leadsman_registry::nacos::{Config, Nacos as Adapter};
use leadsman_tests::contract::state;
use leadsman_tests::instance::Instance;
use leadsman_tests::observed::{Note, Observed};
use leadsman_tests::rigs::nacos::resyncs;
use leadsman_tests::wait::{PATIENT, throughout, until};
use serde_json::json;

use crate::fake::{Fake, host};

/// The fake speaks gRPC only, where HTTP should be.
fn config(fakes: &[&Fake]) -> Config {
    let endpoints = fakes.iter().map(|fake| format!("http://{}", fake.address));
    Config {
        grpc_port_offset: 0,
        discovery: Duration::from_millis(100),
        ..Config::new(endpoints.collect())
    }
}

fn observe(fake: &Fake) -> Observed {
    Observed::start(Adapter::new(config(&[fake])))
}

#[tokio::test]
async fn nothing_is_asked_before_the_server_knows_the_connection() {
    let fake = Fake::start().await;
    fake.state().strangers = 20;
    fake.state().services.insert("orders".into(), json!([host(9001)]));
    let observed = observe(&fake);
    observed.becomes(&state(&[("orders", &[Instance::new(9001)])])).await;
    let asked = fake.state().asked.clone();
    let first = asked.iter().position(|kind| !kind.contains("Check")).unwrap();
    assert!(first > 20 && asked[first] == "ServiceListRequest", "{asked:?}");
    let said = fake.state().said.clone();
    let (kind, setup) = &said[0];
    assert_eq!(kind, "ConnectionSetupRequest");
    assert_eq!(
        (&setup["tenant"], &setup["labels"]["module"]),
        (&json!("public"), &json!("naming"))
    );
    assert_eq!(observed.status().counters.sessions, 1);
}

#[tokio::test]
async fn a_push_that_says_nothing_takes_nothing_away() {
    let fake = Fake::start().await;
    let one = Instance::new(9001);
    fake.state().services.insert("orders".into(), json!([host(9001)]));
    let observed = observe(&fake);
    observed.becomes(&state(&[("orders", &[one])])).await;
    let before = observed.heard().notes.len();
    let queries = || {
        fake.state()
            .asked
            .iter()
            .filter(|kind| *kind == "ServiceQueryRequest")
            .count()
    };
    for (round, hosts) in [json!(null), json!([]), json!(null)].iter().enumerate() {
        fake.push("orders", hosts).await;
        until(PATIENT, "the question", async || queries() > round).await;
    }
    fake.tell(
        "NotifySubscriberRequest",
        r#"{"requestId":"9","serviceInfo":{"name":"orders","hosts":{}}}"#,
    )
    .await;
    fake.tell("NotifySubscriberRequest", "no JSON").await;
    fake.tell("SomethingElse", "{}").await;
    let heavy = json!({ "ip": "127.0.0.1", "port": 9001, "weight": 3.0, "healthy": true });
    fake.push("orders", &json!([heavy])).await;
    observed.becomes(&state(&[("orders", &[one.weighing(3.0)])])).await;
    observed.heard_only(before, &[Note::Apply("orders".into())]);
    fake.state().services.insert("orders".into(), json!([]));
    fake.push("orders", &json!([])).await;
    observed.becomes(&state(&[])).await;
    assert_eq!(observed.status().counters.sessions, 1);
}

#[tokio::test]
async fn what_the_server_asks_is_answered() {
    let fake = Fake::start().await;
    let observed = observe(&fake);
    observed.enters(&[SourceState::Live]).await;
    fake.tell(
        "ClientDetectionRequest",
        r#"{"headers":{},"requestId":"77","module":"internal"}"#,
    )
    .await;
    fake.push("orders", &json!([])).await;
    let answered = |kind: &str, number: &str| {
        let said = fake.state().said.clone();
        said.iter()
            .any(|(said, body)| said == kind && body["requestId"] == number && body["resultCode"] == 200)
    };
    until(PATIENT, "the answers", async || {
        answered("ClientDetectionResponse", "77") && answered("NotifySubscriberResponse", "1")
    })
    .await;
}

#[tokio::test]
async fn a_lost_push_is_found_counted_and_made_good() {
    let fake = Fake::start().await;
    let (one, two) = (Instance::new(9001), Instance::new(9002));
    fake.state().services.insert("orders".into(), json!([host(9001)]));
    fake.state().services.insert("users".into(), json!([host(9001)]));
    let observed = Observed::start(Adapter::new(Config {
        reconcile: Duration::from_millis(200),
        ..config(&[&fake])
    }));
    observed.becomes(&state(&[("orders", &[one]), ("users", &[one])])).await;
    fake.state()
        .services
        .insert("orders".into(), json!([host(9001), host(9002)]));
    observed
        .becomes(&state(&[("orders", &[one, two]), ("users", &[one])]))
        .await;
    assert_eq!(observed.status().counters.reconcile_drift, 1);
    let notes = observed.heard().notes;
    let drift = notes
        .iter()
        .position(|note| *note == Note::Reconciled { drift: 1 })
        .unwrap();
    assert!(matches!(
        notes[drift + 1],
        Note::Resync {
            evidence: Evidence::Complete,
            ..
        }
    ));
}

#[tokio::test]
async fn a_server_that_wants_its_clients_elsewhere_is_left() {
    let (first, second) = (Fake::start().await, Fake::start().await);
    let (one, two) = (Instance::new(9001), Instance::new(9002));
    for fake in [&first, &second] {
        fake.state().services.insert("orders".into(), json!([host(9001)]));
    }
    let observed = Observed::start(Adapter::new(config(&[&first, &second])));
    observed.becomes(&state(&[("orders", &[one])])).await;
    second
        .state()
        .services
        .insert("orders".into(), json!([host(9001), host(9002)]));
    first
        .tell(
            "ConnectResetRequest",
            r#"{"requestId":"5","serverIp":null,"serverPort":null}"#,
        )
        .await;
    observed.becomes(&state(&[("orders", &[one, two])])).await;
    assert_eq!(resyncs(&observed).last(), Some(&(1, Evidence::Complete)));
}

#[tokio::test]
async fn another_member_that_lacks_something_is_not_believed_at_once() {
    let (first, second) = (Fake::start().await, Fake::start().await);
    first.state().services.insert("orders".into(), json!([host(9001)]));
    let observed = Observed::start(Adapter::new(config(&[&first, &second])));
    observed.becomes(&state(&[("orders", &[Instance::new(9001)])])).await;
    first.tell("ConnectResetRequest", "{}").await;
    observed
        .status_becomes("another listing", |status| status.counters.resyncs > 1)
        .await;
    assert!(matches!(
        resyncs(&observed).last(),
        Some((0, Evidence::NewEpoch { .. }))
    ));
}

#[tokio::test]
async fn what_other_members_say_is_no_sign_of_life_of_the_one_that_is_followed() {
    let (first, other) = (Fake::start().await, Fake::start().await);
    first.state().services.insert("orders".into(), json!([host(9001)]));
    let observed = Observed::start(Adapter::new(Config {
        reconcile: Duration::from_millis(100),
        ..config(&[&first, &other])
    }));
    observed.becomes(&state(&[("orders", &[Instance::new(9001)])])).await;
    first.state().mute = true;
    // Meanwhile the other one is asked again and again since when it runs.
    throughout(Duration::from_millis(2500), "the session", async || {
        observed.status().counters.sessions == 1
    })
    .await;
    // It could have been restarted.
    first.state().mute = false;
    first.state().services.clear();
    first.hang_up();
    observed
        .status_becomes("another listing", |status| status.counters.resyncs > 1)
        .await;
    let last = resyncs(&observed).pop();
    assert!(matches!(last, Some((0, Evidence::NewEpoch { .. }))), "{last:?}");
}

#[tokio::test]
async fn a_threshold_that_can_not_be_seen_through_degrades_everybody() {
    let fake = Fake::start().await;
    let (one, two) = (Instance::new(9001), Instance::new(9002));
    fake.state()
        .services
        .insert("orders".into(), json!([host(9001), host(9002)]));
    fake.state().protected.insert("orders".into());
    let observed = observe(&fake);
    let [worse, and_worse] = [one, two].map(|instance| instance.being(Health::Degraded));
    observed.becomes(&state(&[("orders", &[worse, and_worse])])).await;
    fake.state().protected.clear();
    fake.push("orders", &json!([host(9001), host(9002)])).await;
    observed.becomes(&state(&[("orders", &[one, two])])).await;
}

#[tokio::test]
async fn a_service_that_is_refused_harms_no_other_and_is_asked_for_again() {
    let fake = Fake::start().await;
    let one = Instance::new(9001);
    for service in ["good", "bad"] {
        fake.state().services.insert(service.into(), json!([host(9001)]));
    }
    fake.state().refused.insert("bad".into());
    let observed = Observed::start(Adapter::new(Config {
        reconcile: Duration::from_millis(200),
        ..config(&[&fake])
    }));
    observed.becomes(&state(&[("good", &[one])])).await;
    observed
        .status_becomes("the reason", |status| {
            status
                .last_error
                .as_ref()
                .is_some_and(|error| error.contains("bad can't be read"))
        })
        .await;
    assert!(matches!(resyncs(&observed)[..], [(1, Evidence::Partial { .. })]));
    assert_eq!(observed.status().state, SourceState::Degraded);
    fake.state().refused.clear();
    observed.becomes(&state(&[("good", &[one]), ("bad", &[one])])).await;
    observed.enters(&[SourceState::Live]).await;
    assert_eq!(observed.heard().notes.last(), Some(&Note::Impaired(None)));
}

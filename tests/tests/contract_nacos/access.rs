//! Locked doors: passwords, tokens, and what happens when they run out.

use std::time::Duration;

use leadsman_registry::SourceState;
use leadsman_registry::nacos::{Config, Nacos as Adapter, Protocol};
use leadsman_tests::contract::{Subject, state};
use leadsman_tests::instance::Instance;
use leadsman_tests::leadsman::replace;
use leadsman_tests::nacos::{ADMIN, Version};
use leadsman_tests::observed::Observed;
use leadsman_tests::rigs::nacos::Rig;
use tempfile::TempDir;

/// Tokens of the locked server are worth nothing after five seconds.
const LONGER_THAN_A_TOKEN: Duration = Duration::from_secs(6);

#[tokio::test]
async fn a_token_is_renewed_before_it_runs_out() {
    tokio::join!(outlives_its_token(Protocol::Grpc), outlives_its_token(Protocol::Http));
}

async fn outlives_its_token(protocol: Protocol) {
    let mut rig = Rig::start(Version::V25, protocol).await;
    let (one, two) = (Instance::new(9001), Instance::new(9002));
    rig.put("orders", one).await;
    let observed = rig.observe();
    observed.becomes(&state(&[("orders", &[one])])).await;
    observed.is_silent_for(LONGER_THAN_A_TOKEN).await;
    rig.put("orders", two).await;
    observed.becomes(&state(&[("orders", &[one, two])])).await;
    assert_eq!(observed.status().counters.auth_failures, 0);
}

#[tokio::test]
async fn a_refused_password_keeps_what_is_known_and_the_right_one_is_read_anew() {
    let mut rig = Rig::start(Version::V25, Protocol::Grpc).await;
    let (one, two) = (Instance::new(9001), Instance::new(9002));
    rig.put("orders", one).await;
    rig.write_password("wrong");
    let observed = rig.observe();
    observed
        .status_becomes("credentials refused", |status| status.counters.auth_failures > 0)
        .await;
    assert_eq!(observed.heard().notes, []);
    rig.write_password("first");
    observed.becomes(&state(&[("orders", &[one])])).await;

    // Nothing happens before the token runs out.
    let refused = observed.status().counters.auth_failures;
    rig.change_password("second").await;
    observed
        .status_becomes("refused again", |status| status.counters.auth_failures > refused)
        .await;
    rig.put("orders", two).await;
    assert_eq!(observed.status().state, SourceState::Degraded);
    assert_eq!(observed.state(), state(&[("orders", &[one])]));
    rig.write_password("second");
    observed.becomes(&state(&[("orders", &[one, two])])).await;
    observed.enters(&[SourceState::Live]).await;
}

#[tokio::test]
async fn who_may_not_read_is_told_so() {
    for protocol in [Protocol::Grpc, Protocol::Http] {
        let rig = Rig::start(Version::V25, protocol).await;
        let nobody = Observed::start(Adapter::new(Config {
            username: None,
            password_file: None,
            ..rig.config()
        }));
        let elsewhere = Observed::start(Adapter::new(Config {
            namespace: "public".to_owned(),
            ..rig.config()
        }));
        for (observed, word) in [
            (&nobody, "username and password_file"),
            (&elsewhere, "authorization failed"),
        ] {
            observed
                .status_becomes(word, |status| {
                    let error = status.last_error.as_deref().unwrap_or_default();
                    status.counters.auth_failures > 0 && error.contains(word)
                })
                .await;
            assert_eq!(observed.heard().notes, []);
        }
    }
}

#[tokio::test]
async fn the_login_of_version_3_is_found() {
    let mut rig = Rig::start(Version::V31, Protocol::Grpc).await;
    let one = Instance::new(9001);
    rig.put("orders", one).await;
    let (name, password) = ADMIN;
    rig.writer.post("/v3/auth/user/admin", &[("password", password)]).await;
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("password");
    replace(&file, "wrong");
    let observed = Observed::start(Adapter::new(Config {
        username: Some(name.to_owned()),
        password_file: Some(file.clone()),
        ..rig.config()
    }));
    observed
        .status_becomes("credentials refused", |status| status.counters.auth_failures > 0)
        .await;
    replace(&file, password);
    observed.becomes(&state(&[("orders", &[one])])).await;
}

//! What nodes do that keys don't: they live as long as a session, have children, are filled later and can be locked.

use std::time::Duration;

use leadsman_core::model::{Evidence, Health};
use leadsman_registry::SourceState;
use leadsman_registry::zookeeper::{Config, Zookeeper as Adapter};
use leadsman_tests::contract::{Subject, state};
use leadsman_tests::instance::Instance;
use leadsman_tests::leadsman::replace;
use leadsman_tests::observed::{Note, Observed};
use leadsman_tests::wait::{PATIENT, until};
use tempfile::TempDir;
use zookeeper_client::{Acl, Acls, AuthId, CreateMode, Permission};

use leadsman_tests::rigs::zookeeper::{READER, READER_FIRST, Rig, value};

#[tokio::test]
async fn an_instance_goes_with_the_session_of_its_process() {
    let mut rig = Rig::shared().await;
    let (stays, dies) = (Instance::new(9001), Instance::new(9002));
    rig.put("orders", stays).await;
    let process = rig.zookeeper.new_client().await;
    let ephemeral = CreateMode::Ephemeral.with_acls(Acls::anyone_all());
    let (at, record) = (rig.node("orders", dies.port), value(dies));
    process.create(&at, record.as_bytes(), &ephemeral).await.unwrap();
    let observed = rig.observe();
    observed.becomes(&state(&[("orders", &[stays, dies])])).await;
    let before = observed.heard().notes.len();
    drop(process);
    observed.becomes(&state(&[("orders", &[stays])])).await;
    observed.heard_only(before, &[Note::Apply("orders".into())]);
}

#[tokio::test]
async fn a_node_that_is_deleted_and_created_again_is_silence() {
    let mut rig = Rig::shared().await;
    let one = Instance::new(9001);
    rig.put("orders", one).await;
    let observed = rig.observe();
    observed.becomes(&state(&[("orders", &[one])])).await;
    let before = observed.heard().notes.len();
    for _ in 0..10 {
        rig.remove("orders", one.port).await;
        rig.put("orders", one).await;
    }
    rig.put("users", one).await;
    observed.becomes(&state(&[("orders", &[one]), ("users", &[one])])).await;
    observed.is_silent_for(Duration::from_millis(500)).await;
    observed.heard_only(before, &[Note::Apply("users".into())]);
}

#[tokio::test]
async fn an_instance_that_is_emptied_and_filled_again_keeps_its_endpoint() {
    let mut rig = Rig::shared().await;
    let one = Instance::new(9001);
    rig.put("orders", one).await;
    let observed = rig.observe();
    observed.becomes(&state(&[("orders", &[one])])).await;
    rig.zookeeper.put(&rig.node("orders", one.port), b"").await;
    let rejected = || {
        observed
            .heard()
            .services
            .get("orders")
            .map_or(0, |service| service.rejections.len())
    };
    until(PATIENT, "the rejection", async || rejected() == 1).await;
    // The rejection names the same node, which is what keeps its endpoint in the catalog; and it does so in a new session.
    rig.proxy.cut();
    observed
        .status_becomes("a second listing", |status| status.counters.resyncs == 2)
        .await;
    assert_eq!(rejected(), 1);
    rig.put("orders", one.weighing(4.0)).await;
    observed.becomes(&state(&[("orders", &[one.weighing(4.0)])])).await;
    assert_eq!(rejected(), 0);
}

#[tokio::test]
async fn a_container_that_zookeeper_cleans_up_takes_nothing_with_it() {
    let mut rig = Rig::shared().await;
    let (one, two) = (Instance::new(9001), Instance::new(9002));
    rig.put("users", one).await;
    let container = CreateMode::Container.with_acls(Acls::anyone_all());
    let orders = format!("{}/orders", rig.prefix);
    rig.zookeeper
        .client()
        .create(&orders, b"127.0.0.1", &container)
        .await
        .unwrap();
    rig.put("orders", one).await;
    let observed = rig.observe();
    observed.becomes(&state(&[("orders", &[one]), ("users", &[one])])).await;
    let before = observed.heard().notes.len();
    rig.remove("orders", one.port).await;
    observed.becomes(&state(&[("users", &[one])])).await;
    until(PATIENT, "the container to go", async || {
        rig.zookeeper.client().check_stat(&orders).await == Ok(None)
    })
    .await;
    rig.put("orders", two).await;
    observed.becomes(&state(&[("orders", &[two]), ("users", &[one])])).await;
    observed.heard_only(before, &[Note::Delete("orders".into()), Note::Apply("orders".into())]);
    assert_eq!(observed.heard().unattributed, 0);
}

/// Its owner is no session, so that it is a directory like a lasting one.
#[tokio::test]
async fn an_empty_container_is_no_bad_record() {
    let mut rig = Rig::shared().await;
    rig.put("users", Instance::new(9001)).await;
    let container = CreateMode::Container.with_acls(Acls::anyone_all());
    let orders = format!("{}/orders", rig.prefix);
    let made = rig.zookeeper.client().create(&orders, b"127.0.0.1", &container);
    made.await.unwrap();
    let observed = rig.observe();
    observed.becomes(&state(&[("users", &[Instance::new(9001)])])).await;
    assert_eq!(observed.heard().unattributed, 0);
}

#[tokio::test]
async fn a_prefix_that_does_not_exist_yet_is_watched() {
    let mut rig = Rig::shared().await;
    let observed = rig.observe();
    observed.enters(&[SourceState::Live]).await;
    rig.put("orders", Instance::new(9001)).await;
    observed.becomes(&state(&[("orders", &[Instance::new(9001)])])).await;
}

#[tokio::test]
async fn a_console_weighs_and_disables_dubbo_providers() {
    let rig = Rig::shared().await;
    let provider = |port: u16| format!("/dubbo/shop.Orders/providers/dubbo%3A%2F%2F127.0.0.1%3A{port}%2Fshop.Orders");
    rig.zookeeper.put(&provider(9001), b"127.0.0.1").await;
    rig.zookeeper.put(&provider(9002), b"127.0.0.1").await;
    rig.zookeeper
        .put(
            "/dubbo/shop.Orders/consumers/consumer%3A%2F%2F127.0.0.1%2Fshop.Orders",
            b"",
        )
        .await;
    rig.zookeeper.put("/dubbo/metadata/shop.Orders/provider", b"{}").await;
    let config = Config {
        prefix: "/dubbo".to_owned(),
        ..rig.config()
    };
    let observed = Observed::start(Adapter::new(config));
    let unknown = |port| Instance::new(port).weighing(100.0).being(Health::Unknown);
    let (one, two) = (unknown(9001), unknown(9002));
    observed.becomes(&state(&[("shop.Orders", &[one, two])])).await;
    assert_eq!(observed.heard().unattributed, 0);

    let rule = |url: &str| format!("/dubbo/shop.Orders/configurators/{url}");
    let heavy = rule("override%3A%2F%2F0.0.0.0%2Fshop.Orders%3Fweight%3D200");
    let off = rule("override%3A%2F%2F127.0.0.1%3A9002%2Fshop.Orders%3Fdisabled%3Dtrue");
    rig.zookeeper.put(&heavy, b"").await;
    let (one_heavy, two_heavy) = (one.weighing(200.0), two.weighing(200.0));
    observed
        .becomes(&state(&[("shop.Orders", &[one_heavy, two_heavy])]))
        .await;
    rig.zookeeper.put(&off, b"").await;
    let drained = two_heavy.being(Health::Draining);
    observed
        .becomes(&state(&[("shop.Orders", &[one_heavy, drained])]))
        .await;
    rig.zookeeper.delete(&heavy).await;
    rig.zookeeper.delete(&off).await;
    observed.becomes(&state(&[("shop.Orders", &[one, two])])).await;
    // What is left of an interface without a provider is no service.
    rig.zookeeper.put(&off, b"").await;
    rig.zookeeper.delete(&provider(9001)).await;
    rig.zookeeper.delete(&provider(9002)).await;
    observed.becomes(&state(&[])).await;
}

fn with_password(rig: &Rig, file: &std::path::Path) -> Config {
    Config {
        username: Some(READER.to_owned()),
        password_file: Some(file.to_owned()),
        reconcile: Duration::from_secs(1),
        ..rig.config()
    }
}

#[tokio::test]
async fn a_locked_prefix_is_told_apart_and_the_right_password_is_read_anew() {
    let mut rig = Rig::shared().await;
    let (one, two) = (Instance::new(9001), Instance::new(9002));
    rig.put("orders", one).await;
    let directory = TempDir::new().unwrap();
    let password = directory.path().join("password");
    replace(&password, "wrong\n");
    rig.zookeeper.lock(&rig.prefix, READER_FIRST).await;
    let observed = Observed::start(Adapter::new(with_password(&rig, &password)));
    observed
        .status_becomes("credentials refused", |status| status.counters.auth_failures > 0)
        .await;
    assert_eq!(observed.status().state, SourceState::Connecting);
    assert_eq!(observed.heard().notes, []);
    replace(&password, "first\n");
    observed.becomes(&state(&[("orders", &[one])])).await;
    observed.enters(&[SourceState::Live]).await;

    // The password changes behind our back: what is known stays known.
    let refused = observed.status().counters.auth_failures;
    replace(&password, "wrong\n");
    rig.proxy.reset();
    observed
        .status_becomes("refused again", |status| status.counters.auth_failures > refused)
        .await;
    rig.put("orders", two).await;
    assert_eq!(observed.status().state, SourceState::Degraded);
    assert_eq!(observed.state(), state(&[("orders", &[one])]));
    replace(&password, "first\n");
    observed.becomes(&state(&[("orders", &[one, two])])).await;
}

#[tokio::test]
async fn what_may_not_be_read_any_more_is_kept_and_said() {
    let mut rig = Rig::shared().await;
    let (one, two, three) = (Instance::new(9001), Instance::new(9002), Instance::new(9003));
    rig.put("orders", one).await;
    rig.put("users", two).await;
    let config = Config {
        reconcile: Duration::from_secs(1),
        ..rig.config()
    };
    let observed = Observed::start(Adapter::new(config));
    let known = state(&[("orders", &[one]), ("users", &[two])]);
    observed.becomes(&known).await;
    let orders = format!("{}/orders", rig.prefix);
    rig.zookeeper.lock(&orders, READER_FIRST).await;
    observed.enters(&[SourceState::Degraded]).await;
    let impaired = |note: &Note| matches!(note, Note::Impaired(Some(why)) if why.contains("/services/orders may not"));
    until(PATIENT, "the impairment", async || {
        observed.heard().notes.iter().any(impaired)
    })
    .await;
    let partial = |note: &Note| {
        matches!(
            note,
            Note::Resync {
                evidence: Evidence::Partial { .. },
                ..
            }
        )
    };
    assert!(observed.heard().notes.iter().any(partial));
    assert_eq!(observed.state(), known);
    rig.put("users", three).await;
    observed
        .becomes(&state(&[("orders", &[one]), ("users", &[two, three])]))
        .await;

    let open = [Acl::new(Permission::ALL, AuthId::anyone())];
    let unlocked = rig.zookeeper.client().set_acl(&orders, &open, None);
    unlocked.await.unwrap();
    observed.enters(&[SourceState::Live]).await;
    observed
        .becomes(&state(&[("orders", &[one]), ("users", &[two, three])]))
        .await;
}

/// Transactions on nodes that are not read leave no trace in those that are.
#[tokio::test]
async fn consumers_of_dubbo_do_not_make_a_new_listing_look_older() {
    let rig = Rig::start().await;
    let provider = "/dubbo/shop.Orders/providers/dubbo%3A%2F%2F127.0.0.1%3A9001%2Fshop.Orders";
    rig.zookeeper.put(provider, b"127.0.0.1").await;
    let consumer = |number: u8| format!("/dubbo/shop.Orders/consumers/consumer%3A%2F%2F127.0.0.{number}%2Fshop.Orders");
    rig.zookeeper.put(&consumer(1), b"").await;
    let config = Config {
        prefix: "/dubbo".to_owned(),
        ..rig.config()
    };
    let observed = Observed::start(Adapter::new(config));
    observed.enters(&[SourceState::Live]).await;
    for number in 2..20 {
        rig.zookeeper.put(&consumer(number), b"").await;
    }
    // Their events say nothing that could be waited for.
    observed.is_silent_for(Duration::from_millis(500)).await;
    rig.proxy.cut();
    observed
        .status_becomes("a second listing", |status| status.counters.resyncs == 2)
        .await;
    let notes = observed.heard().notes;
    let other = |note: &Note| matches!(note, Note::Resync { evidence, .. } if *evidence != Evidence::Complete);
    assert!(!notes.iter().any(other), "{notes:?}");
}

#[tokio::test]
async fn what_is_deeper_than_any_framework_writes_is_neither_read_nor_lost() {
    let mut rig = Rig::shared().await;
    let one = Instance::new(9001);
    rig.put("orders", one).await;
    let config = Config {
        reconcile: Duration::from_millis(200),
        ..rig.config()
    };
    let observed = Observed::start(Adapter::new(config));
    observed.becomes(&state(&[("orders", &[one])])).await;
    let deep = format!("{}/deep{}", rig.prefix, "/a".repeat(20));
    rig.zookeeper.put(&deep, b"{}").await;
    rig.put("users", one).await;
    observed.becomes(&state(&[("orders", &[one]), ("users", &[one])])).await;
    let seen = observed.status().counters.reconciles;
    observed
        .status_becomes("two reconciles", |status| status.counters.reconciles >= seen + 2)
        .await;
    let counters = observed.status().counters;
    assert_eq!((counters.reconcile_drift, counters.sessions), (0, 1));
}

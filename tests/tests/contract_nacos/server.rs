//! What the server can do: die, and come back without its memory.

use leadsman_core::model::Evidence;
use leadsman_registry::SourceState;
use leadsman_registry::nacos::{Config, Nacos as Adapter, Protocol};
use leadsman_tests::backend::Backend;
use leadsman_tests::contract::{Subject, state};
use leadsman_tests::instance::Instance;
use leadsman_tests::nacos::{Setup, Version, record};
use leadsman_tests::observed::Observed;
use leadsman_tests::rigs::nacos::{GROUP, Rig, resyncs};
use serde_json::json;

#[tokio::test]
async fn a_server_that_lost_its_memory_is_not_believed_where_it_lists_nothing() {
    let mut rig = Rig::start_own(Setup::of(Version::V31), Protocol::Grpc).await;
    let (one, two) = (Instance::new(9001), Instance::new(9002));
    rig.put("orders", one).await;
    rig.put("users", two).await;
    // An instance that is written to disk, and looked after by the server itself.
    let backend = Backend::start("lasting").await;
    let lasting = Instance::of(&backend);
    let mut written = record(lasting);
    written["ephemeral"] = json!(false);
    rig.writer.register(GROUP, "lasting", &written).await;
    let pushed = rig.observe();
    let polled = Observed::start(Adapter::new(Config {
        protocol: Protocol::Http,
        ..rig.config()
    }));
    let all = state(&[("orders", &[one]), ("users", &[two]), ("lasting", &[lasting])]);
    for observed in [&pushed, &polled] {
        observed.becomes(&all).await;
    }
    rig.own().kill();
    for observed in [&pushed, &polled] {
        observed.enters(&[SourceState::Degraded]).await;
        assert_eq!(observed.state(), all);
    }
    rig.own().restart().await;
    for observed in [&pushed, &polled] {
        observed.becomes(&state(&[("lasting", &[lasting])])).await;
        let (services, evidence) = resyncs(observed).pop().unwrap();
        let why = match evidence {
            Evidence::NewEpoch { why } => why,
            Evidence::Complete | Evidence::Partial { .. } => String::new(),
        };
        assert!(services == 1 && why.contains("was restarted"), "{services} {why}");
    }
    // Clients that live register again.
    rig.put("orders", one).await;
    for observed in [&pushed, &polled] {
        observed
            .becomes(&state(&[("orders", &[one]), ("lasting", &[lasting])]))
            .await;
    }
}

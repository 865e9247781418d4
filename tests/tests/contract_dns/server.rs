//! What a DNS server can do: die, hang, come back with everything, with something, with nothing.

use std::time::Duration;

use leadsman_core::model::Evidence;
use leadsman_registry::SourceState;
use leadsman_registry::dns::{Config, Dns as Adapter, Transport};
use leadsman_tests::contract::Subject;
use leadsman_tests::dns::{Change, Data, FIRST_SERIAL, Named, Setup};
use leadsman_tests::instance::Instance;
use leadsman_tests::leadsman::replace;
use leadsman_tests::observed::{Note, Observed};
use leadsman_tests::rigs::dns::{Rig, name, resyncs};
use leadsman_tests::wait::{PATIENT, until};

/// The reason of the last listing, if it says that the registry is not the one it was.
fn epoch(observed: &Observed) -> Option<String> {
    match resyncs(observed).pop() {
        Some((_, Evidence::NewEpoch { why })) => Some(why),
        Some((_, Evidence::Complete | Evidence::Partial { .. })) | None => None,
    }
}

async fn is_lost(observed: &Observed) -> String {
    until(PATIENT, "a new epoch", async || epoch(observed).is_some()).await;
    epoch(observed).unwrap()
}

#[tokio::test]
async fn a_server_that_comes_back_with_everything_changes_nothing() {
    let mut rig = Rig::start(Transport::Tcp).await;
    let (one, two) = (Instance::new(9001), Instance::new(9002));
    rig.put("orders", one).await;
    rig.put("users", two).await;
    let observed = rig.observe();
    let before = rig.state(&[("orders", &[one]), ("users", &[two])]);
    observed.becomes(&before).await;
    rig.named.kill();
    observed.enters(&[SourceState::Degraded]).await;
    assert_eq!(observed.state(), before);
    rig.named.restart(Data::Kept).await;
    observed.enters(&[SourceState::Live]).await;
    assert_eq!(observed.state(), before);
    let notes = observed.heard().notes;
    assert!(
        notes.iter().all(|note| matches!(
            note,
            Note::Resync {
                services: 2,
                evidence: Evidence::Complete,
                ..
            }
        )),
        "{notes:?}"
    );
}

#[tokio::test]
async fn a_server_that_hangs_is_noticed_and_caught_up_with() {
    let mut rig = Rig::start(Transport::Tcp).await;
    let (one, two) = (Instance::new(9001), Instance::new(9002));
    rig.put("orders", one).await;
    let config = Config {
        timeout: Duration::from_millis(300),
        ..rig.config()
    };
    let observed = Observed::start(Adapter::new(config));
    observed.becomes(&rig.state(&[("orders", &[one])])).await;
    rig.named.pause();
    observed.enters(&[SourceState::Degraded]).await;
    assert_eq!(observed.state(), rig.state(&[("orders", &[one])]));
    rig.named.resume();
    rig.put("orders", two).await;
    observed.becomes(&rig.state(&[("orders", &[one, two])])).await;
    observed.enters(&[SourceState::Live]).await;
}

#[tokio::test]
async fn a_server_that_comes_back_empty_is_not_the_one_it_was() {
    let mut rig = Rig::start(Transport::Auto).await;
    let one = Instance::new(9001);
    rig.put("orders", one).await;
    rig.put("users", one).await;
    let observed = rig.observe();
    observed
        .becomes(&rig.state(&[("orders", &[one]), ("users", &[one])]))
        .await;
    rig.named.kill();
    rig.named.restart(Data::Lost).await;
    let why = is_lost(&observed).await;
    let serial = FIRST_SERIAL + 2;
    assert_eq!(
        why,
        format!("zone leadsman.test. was at serial {serial} and is at {FIRST_SERIAL}")
    );
    let removed = |note: &Note| matches!(note, Note::Delete(_) | Note::Apply(_));
    assert!(
        !observed.heard().notes.iter().any(removed),
        "{:?}",
        observed.heard().notes
    );
}

#[tokio::test]
async fn a_zone_that_was_restored_from_an_old_copy_has_not_removed_what_it_lacks() {
    let mut rig = Rig::start(Transport::Auto).await;
    let (one, two) = (Instance::new(9001), Instance::new(9002));
    rig.put("orders", one).await;
    rig.put("orders", two).await;
    let observed = rig.observe();
    observed.becomes(&rig.state(&[("orders", &[one, two])])).await;
    rig.named.kill();
    let old = format!(
        "{} 0 SRV 0 10 9001 orders-9001.leadsman.test.\norders-9001 0 A 127.0.0.1\n",
        name("orders")
    );
    rig.named.restart_from(&old).await;
    let why = is_lost(&observed).await;
    assert!(why.starts_with("zone leadsman.test. was at serial "), "{why}");
    assert_eq!(
        observed.state(),
        rig.state(&[("orders", &[one])]),
        "the listing itself; the catalog holds the rest"
    );
    // From here on it is a zone like any other.
    rig.add(&[&format!(
        "{} 0 SRV 0 10 9003 orders-9001.leadsman.test.",
        name("orders")
    )])
    .await;
    let three = Instance::new(9003);
    observed.becomes(&rig.state(&[("orders", &[one, three])])).await;
    rig.delete(&[&format!("{} SRV 0 10 9003 orders-9001.leadsman.test.", name("orders"))])
        .await;
    observed.becomes(&rig.state(&[("orders", &[one])])).await;
    assert_eq!(
        resyncs(&observed)
            .iter()
            .filter(|(_, evidence)| matches!(evidence, Evidence::NewEpoch { .. }))
            .count(),
        1
    );
}

#[tokio::test]
async fn a_server_that_lost_its_zone_keeps_everything() {
    let mut rig = Rig::start(Transport::Auto).await;
    let one = Instance::new(9001);
    rig.put("orders", one).await;
    let observed = rig.observe();
    let before = rig.state(&[("orders", &[one])]);
    observed.becomes(&before).await;
    let listings = resyncs(&observed).len();
    rig.named.kill();
    rig.named.restart(Data::Broken).await;
    observed
        .status_becomes("the failure of all names", |status| {
            let error = status.last_error.as_deref().unwrap_or_default();
            error.contains("SERVFAIL") && error.ends_with("(and 3 more)")
        })
        .await;
    observed.is_silent_for(Duration::from_secs(1)).await;
    assert_eq!(observed.state(), before);
    assert_eq!(observed.status().state, SourceState::Degraded);
    assert!(
        resyncs(&observed)[listings..]
            .iter()
            .all(|(services, _)| *services == 1)
    );
}

#[tokio::test]
async fn all_names_that_vanish_at_once_were_lost_though_their_zone_is_newer() {
    let mut rig = Rig::start(Transport::Auto).await;
    let one = Instance::new(9001);
    rig.put("orders", one).await;
    rig.put("users", one).await;
    let observed = rig.observe();
    observed
        .becomes(&rig.state(&[("orders", &[one]), ("users", &[one])]))
        .await;
    rig.update(&[
        Change::RemoveAll(format!("{} SRV", name("orders"))),
        Change::RemoveAll(format!("{} SRV", name("users"))),
    ])
    .await;
    assert_eq!(
        is_lost(&observed).await,
        "all of the 2 names with endpoints lost them at once"
    );
    assert!(!observed.heard().notes.contains(&Note::Delete("orders".into())));
}

#[tokio::test]
async fn the_only_name_may_lose_its_last_instance() {
    let mut rig = Rig::start(Transport::Auto).await;
    let one = Instance::new(9001);
    rig.put("orders", one).await;
    let observed = rig.observe();
    observed.becomes(&rig.state(&[("orders", &[one])])).await;
    let before = observed.heard().notes.len();
    rig.remove("orders", one.port).await;
    observed.becomes(&rig.state(&[])).await;
    observed.heard_only(before, &[Note::Delete("orders".into())]);
}

#[tokio::test]
async fn a_resolver_that_asks_somebody_else_is_not_believed() {
    let mut rig = Rig::start(Transport::Auto).await;
    let one = Instance::new(9001);
    rig.put("orders", one).await;
    rig.put("users", one).await;
    // Knows the zone above, and therefore that there is no such zone below.
    let outside = Named::start_with(Setup {
        zones: "zone \"test\" { type primary; file \"outside\"; };".to_owned(),
        without_zone: true,
        ..Setup::default()
    });
    let outside = outside.await;
    let both = Config {
        servers: vec![rig.proxy.address().to_string(), outside.address().to_string()],
        ..rig.config()
    };
    let observed = Observed::start(Adapter::new(both));
    observed
        .becomes(&rig.state(&[("orders", &[one]), ("users", &[one])]))
        .await;
    rig.lose().await;
    let why = is_lost(&observed).await;
    assert!(
        why.ends_with("was in zone leadsman.test., and zone test. denies it"),
        "{why}"
    );
    assert!(!observed.heard().notes.contains(&Note::Delete("orders".into())));
}

#[tokio::test]
async fn the_servers_of_the_system_are_followed_when_they_change() {
    let mut rig = Rig::start(Transport::Auto).await;
    let (one, two) = (Instance::new(9001), Instance::new(9002));
    rig.put("orders", one).await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("resolv.conf");
    let nobody = "127.0.0.1:1";
    replace(&file, &format!("nameserver {nobody}\n"));
    let config = Config {
        servers: vec![],
        resolv_conf: file.clone(),
        ..rig.config()
    };
    let observed = Observed::start(Adapter::new(config));
    observed
        .status_becomes("a failed session", |status| status.counters.session_errors > 0)
        .await;
    replace(&file, &format!("nameserver {}\n", rig.proxy.address()));
    observed.becomes(&rig.state(&[("orders", &[one])])).await;
    rig.put("orders", two).await;
    observed.becomes(&rig.state(&[("orders", &[one, two])])).await;
}

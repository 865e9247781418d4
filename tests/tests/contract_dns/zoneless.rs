//! A dnsmasq, which knows hosts and no zones: nothing that it denies is proven.

use leadsman_core::model::Evidence;
use leadsman_registry::SourceState;
use leadsman_registry::dns::Dns as Adapter;
use leadsman_tests::dns::Dnsmasq;
use leadsman_tests::observed::{Note, Observed};
use leadsman_tests::rigs::dns::{address, quick, resyncs, srv};
use leadsman_tests::wait::{PATIENT, until};

fn endpoints(observed: &Observed, service: &str) -> Vec<String> {
    observed
        .state()
        .get(service)
        .map(|endpoints| endpoints.keys().cloned().collect())
        .unwrap_or_default()
}

async fn has(observed: &Observed, service: &str, expected: &[&str]) {
    until(PATIENT, &format!("{service}: {expected:?}"), async || {
        endpoints(observed, service) == expected
    })
    .await;
}

fn observe(dnsmasq: &Dnsmasq, names: &[&str]) -> Observed {
    let entry = |name: &&str| ((*name).to_owned(), address(&format!("{name}.dnsmasq.test"), 80));
    Observed::start(Adapter::new(quick(
        names.iter().map(entry).collect(),
        &[dnsmasq.address()],
    )))
}

#[tokio::test]
async fn hosts_come_and_go_while_another_name_is_there() {
    let dnsmasq = Dnsmasq::start(&[]).await;
    dnsmasq.hosts(&[
        ("a.dnsmasq.test", "127.0.0.1"),
        ("a.dnsmasq.test", "127.0.0.2"),
        ("b.dnsmasq.test", "127.0.0.3"),
    ]);
    let observed = observe(&dnsmasq, &["a", "b"]);
    has(&observed, "a", &["127.0.0.1:80", "127.0.0.2:80"]).await;
    has(&observed, "b", &["127.0.0.3:80"]).await;
    dnsmasq.hosts(&[("a.dnsmasq.test", "127.0.0.2"), ("b.dnsmasq.test", "127.0.0.3")]);
    has(&observed, "a", &["127.0.0.2:80"]).await;
    dnsmasq.hosts(&[("b.dnsmasq.test", "127.0.0.3")]);
    until(PATIENT, "the service to be gone", async || {
        observed.heard().notes.contains(&Note::Delete("a".into()))
    })
    .await;
    observed.enters(&[SourceState::Live]).await;
    assert!(
        resyncs(&observed)
            .iter()
            .all(|(_, evidence)| *evidence == Evidence::Complete)
    );
}

#[tokio::test]
async fn the_last_name_of_all_is_not_believed_to_have_gone() {
    let mut dnsmasq = Dnsmasq::start(&["--host-record=a.dnsmasq.test,127.0.0.1"]).await;
    let observed = observe(&dnsmasq, &["a", "b"]);
    has(&observed, "a", &["127.0.0.1:80"]).await;
    dnsmasq.restart(&[]).await;
    until(PATIENT, "a new epoch", async || {
        let listed = resyncs(&observed).pop();
        listed.is_some_and(
            |(_, evidence)| matches!(evidence, Evidence::NewEpoch { why } if why.contains("names no zone")),
        )
    })
    .await;
    assert!(!observed.heard().notes.contains(&Note::Delete("a".into())));
}

#[tokio::test]
async fn srv_records_are_read_from_it_too() {
    let target = "--srv-host=_orders._tcp.dnsmasq.test,a.dnsmasq.test,9001,0,5";
    let dnsmasq = Dnsmasq::start(&[target, "--host-record=a.dnsmasq.test,127.0.0.1"]).await;
    let names = [("orders".to_owned(), srv("_orders._tcp.dnsmasq.test"))];
    let observed = Observed::start(Adapter::new(quick(names.into(), &[dnsmasq.address()])));
    has(&observed, "orders", &["127.0.0.1:9001"]).await;
}

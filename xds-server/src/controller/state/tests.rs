//! When something is published, and when nothing is.

use leadsman_core::model::{Address, Endpoint, Evidence, Provenance, Service, Weight};
use tokio::time::Instant;

use super::*;

const WAIT: Duration = Duration::from_secs(10);

fn source(name: &str) -> SourceName {
    SourceName::new(name).unwrap()
}

fn state(sources: &[&str]) -> State {
    let sources = sources.iter().map(|name| source(name)).collect();
    State::new(Settings {
        sources,
        services: Services::default(),
        startup_wait: WAIT,
    })
}

fn orders(weight: f64) -> Service {
    let address = Address::new("10.0.0.1", 80).unwrap();
    let weight = Weight::new(weight).unwrap();
    let endpoint = Endpoint {
        weight,
        ..Endpoint::new(address, Provenance::default())
    };
    Service::new(ServiceName::new("orders").unwrap(), vec![endpoint])
}

/// What makes a listing not empty: an empty first one proves nothing.
fn other() -> Service {
    Service {
        name: ServiceName::new("other").unwrap(),
        ..orders(1.0)
    }
}

fn hear(state: &mut State, from: &str, event: Event, now: Duration) -> Option<String> {
    state.handle_event(
        SourceEvent {
            source: source(from),
            received: Instant::now(),
            event,
        },
        now,
    );
    state.advance(now).map(shown)
}

fn shown(next: Next) -> String {
    let Next {
        snapshot,
        changes,
        certainty,
    } = next;
    let names = changes
        .endpoints
        .iter()
        .map(AsRef::as_ref)
        .collect::<Vec<_>>()
        .join(" ");
    format!(
        "{names} answering={} complete={} certainty={certainty}",
        snapshot.is_answering(),
        snapshot.is_complete()
    )
}

fn resync(services: Vec<Service>) -> Event {
    Event::Resync {
        services,
        unattributed: Vec::new(),
        evidence: Evidence::Complete,
        revision: 1,
    }
}

fn apply(service: Service) -> Event {
    Event::Apply { service, revision: 2 }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn clients_are_answered_when_every_source_has_listed_its_services() {
    let mut state = state(&["a", "b"]);
    let first = hear(&mut state, "a", resync(vec![orders(1.0)]), seconds(1));
    assert_eq!(first.unwrap(), "orders answering=false complete=false certainty=false");
    assert_eq!(state.next_deadline(), Some(WAIT));
    let second = hear(&mut state, "b", resync(vec![other()]), seconds(2));
    assert_eq!(second.unwrap(), "other answering=true complete=true certainty=true");
    assert_eq!(state.next_deadline(), None);
}

#[test]
fn a_silent_source_holds_clients_up_no_longer_than_the_wait_and_proves_nothing_missing() {
    let mut state = state(&["a", "b"]);
    hear(&mut state, "a", resync(vec![orders(1.0)]), seconds(1));
    assert_eq!(
        state.advance(WAIT).map(shown).unwrap(),
        " answering=true complete=false certainty=true"
    );
    let late = hear(&mut state, "b", resync(vec![other()]), seconds(60));
    assert_eq!(late.unwrap(), "other answering=true complete=true certainty=true");
}

#[test]
fn weights_go_out_once_a_second_and_the_latest_of_them() {
    let mut state = state(&["a"]);
    hear(&mut state, "a", resync(vec![orders(1.0)]), seconds(1));
    assert!(hear(&mut state, "a", apply(orders(2.0)), Duration::from_millis(1_200)).is_none());
    assert!(hear(&mut state, "a", apply(orders(3.0)), Duration::from_millis(1_400)).is_none());
    assert_eq!(state.next_deadline(), Some(seconds(2)));
    assert_eq!(
        state.advance(seconds(2)).map(shown).unwrap(),
        "orders answering=true complete=true certainty=false"
    );
    let name = ServiceName::new("orders").unwrap();
    assert_eq!(state.explain(&name).unwrap().resolution.decisions[0].weight, 3);
    assert!(state.advance(seconds(3)).is_none());
}

#[test]
fn a_weight_that_is_taken_back_while_it_waits_is_never_published() {
    let mut state = state(&["a"]);
    hear(&mut state, "a", resync(vec![orders(1.0)]), seconds(1));
    assert!(hear(&mut state, "a", apply(orders(2.0)), Duration::from_millis(1_200)).is_none());
    assert!(hear(&mut state, "a", apply(orders(1.0)), Duration::from_millis(1_300)).is_none());
    assert_eq!(state.next_deadline(), None);
}

#[test]
fn in_a_storm_the_latest_goes_out_after_a_moment_and_other_services_do_not_wait() {
    let on = |port: i64| {
        let address = Address::new("10.0.0.1", port).unwrap();
        Service {
            endpoints: vec![Endpoint::new(address, Provenance::default())],
            ..orders(1.0)
        }
    };
    let mut state = state(&["a"]);
    let now = seconds(100);
    assert!(hear(&mut state, "a", resync(vec![on(1)]), now).is_some());
    for port in 2..=4 {
        assert!(hear(&mut state, "a", apply(on(port)), now).is_some());
    }
    assert!(hear(&mut state, "a", apply(on(5)), now).is_none());
    assert!(hear(&mut state, "a", apply(on(6)), now + Duration::from_millis(50)).is_none());
    assert!(hear(&mut state, "a", apply(other()), now + Duration::from_millis(50)).is_some());
    let name = ServiceName::new("orders").unwrap();
    assert!(state.explain(&name).unwrap().pending);
    assert_eq!(state.next_deadline(), Some(now + Pace::STORM));
    assert!(state.advance(now + Pace::STORM).is_some());
    assert!(!state.explain(&name).unwrap().pending);
    assert!(state.advance(seconds(200)).is_none(), "the fifth is never told");
}

#[test]
fn an_event_that_changes_nothing_publishes_nothing() {
    let mut state = state(&["a"]);
    hear(&mut state, "a", resync(vec![orders(1.0)]), seconds(1));
    assert!(hear(&mut state, "a", apply(orders(1.0)), seconds(5)).is_none());
    assert!(hear(&mut state, "a", resync(vec![orders(1.0)]), seconds(6)).is_none());
    assert!(hear(&mut state, "a", Event::Progress { revision: 9 }, seconds(7)).is_none());
}

#[test]
fn other_settings_are_published_at_once() {
    let mut state = state(&["a"]);
    hear(&mut state, "a", resync(vec![orders(1.0)]), seconds(1));
    let services = crate::config::parse(
        "services: { '*': { connect_timeout: 3s } }",
        std::path::Path::new("leadsman.yaml"),
        &crate::config::Overrides::default(),
    );
    state.reload(services.unwrap().services);
    assert!(state.advance(seconds(1)).is_some());
}

#[test]
fn while_no_source_has_answered_nobody_is_told_that_there_is_nothing() {
    let mut state = state(&["a", "b"]);
    assert!(state.advance(WAIT * 2).is_none());
    assert_eq!(state.next_deadline(), None);
    let first = hear(&mut state, "a", resync(vec![orders(1.0)]), WAIT * 3);
    assert_eq!(first.unwrap(), "orders answering=true complete=false certainty=true");
}

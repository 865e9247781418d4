//! What no healthy Consul gives: indexes of zero, far too high, and back, old data, and watches that miss a change. Such
//! answers were seen, but a real server can't be made to give them at will, so a small server answers in the shapes that
//! were recorded from a real one.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, Uri};
use leadsman_core::model::Evidence;
use leadsman_registry::SourceState;
use leadsman_registry::consul::{Config, Consul as Adapter};
use leadsman_tests::contract::state;
use leadsman_tests::instance::Instance;
use leadsman_tests::observed::{Note, Observed};
use leadsman_tests::wait::{PATIENT, throughout, until};
use serde_json::json;
use tokio::net::TcpListener;

/// One service, `orders`, as the test says.
#[derive(Clone, Debug)]
struct Says {
    /// The ports of what a plain read lists.
    plain: Vec<u16>,
    /// The index of plain reads.
    index: u64,
    /// What the next blocking question is answered with, at once: an index and ports. Later ones wait.
    blocking: Option<(u64, Vec<u16>)>,
    /// What each blocking question with this index is answered with when its wait is over, whatever happened since.
    stuck: Option<(u64, Vec<u16>)>,
    /// Whether blocking questions are answered at once, for ever, with the plain answer.
    restless: bool,
    /// Whether the server knows no leader.
    leaderless: bool,
    /// For how long the server has not heard of its leader, in milliseconds.
    last_contact: u64,
    /// Whether the catalog lists no service.
    forgotten: bool,
    /// How long the leader takes until a majority confirmed it.
    proof_takes: Duration,
}

#[derive(Debug)]
struct Fake {
    says: Mutex<Says>,
    /// The indexes of the blocking questions so far.
    asked: Mutex<Vec<u64>>,
}

impl Fake {
    async fn start(says: Says) -> (Arc<Self>, Config) {
        let fake = Arc::new(Self {
            says: Mutex::new(says),
            asked: Mutex::default(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(answer).with_state(Arc::clone(&fake));
        tokio::spawn(async move { axum::serve(listener, router).await });
        let config = Config {
            discovery: Duration::from_millis(100),
            wait: Duration::from_secs(1),
            ..Config::new(vec![url])
        };
        (fake, config)
    }

    fn says(&self, change: impl FnOnce(&mut Says)) {
        change(&mut self.says.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn asked(&self) -> Vec<u64> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn blocking(&self, index: u64) -> Option<(u64, Vec<u16>)> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).push(index);
        let mut says = self.says.lock().unwrap_or_else(PoisonError::into_inner);
        let plain = says.restless.then(|| (says.index, says.plain.clone()));
        says.blocking.take().or(plain)
    }

    fn told(&self) -> Says {
        self.says.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn plain(&self) -> (u64, Vec<u16>) {
        let says = self.says.lock().unwrap_or_else(PoisonError::into_inner);
        (says.index, says.plain.clone())
    }
}

async fn answer(
    State(fake): State<Arc<Fake>>,
    Query(query): Query<BTreeMap<String, String>>,
    uri: Uri,
) -> (HeaderMap, String) {
    let mut given = fake.plain();
    let says = fake.told();
    if query.contains_key("consistent") && uri.path().starts_with("/v1/health") {
        tokio::time::sleep(says.proof_takes).await;
        given = fake.plain();
    }
    if let Some(index) = query.get("index") {
        given = match fake.blocking(index.parse().unwrap()) {
            Some(given) => given,
            None => {
                tokio::time::sleep(Duration::from_secs(1)).await;
                let stuck = says.stuck.filter(|(at, _)| *at.to_string() == *index);
                stuck.unwrap_or_else(|| fake.plain())
            }
        };
    }
    let (index, ports) = given;
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("x-consul-index", index.to_string()),
        ("x-consul-knownleader", (!says.leaderless).to_string()),
        ("x-consul-lastcontact", says.last_contact.to_string()),
    ] {
        headers.insert(name, value.parse().unwrap());
    }
    let body = match uri.path() {
        "/v1/catalog/services" if says.forgotten => json!({ "consul": [] }),
        "/v1/catalog/services" => json!({ "consul": [], "orders": [] }),
        "/v1/health/service/orders" => ports.iter().map(|port| instance(*port)).collect(),
        _ => json!([]),
    };
    (headers, body.to_string())
}

fn instance(port: u16) -> serde_json::Value {
    let id = format!("orders-{port}");
    json!({
        "Node": { "ID": "", "Node": "n", "Address": "127.0.0.1", "Datacenter": "dc1", "TaggedAddresses": null, "Meta": null },
        "Service": { "ID": id, "Service": "orders", "Tags": [], "Address": "", "Meta": null, "Port": port,
            "Weights": { "Passing": 10, "Warning": 10 }, "CreateIndex": 5, "ModifyIndex": 5 },
        "Checks": [{ "Node": "n", "CheckID": "c", "Name": "c", "Status": "passing", "ServiceID": id }],
    })
}

const ONE: u16 = 9001;
const TWO: u16 = 9002;
const THREE: u16 = 9003;

fn quiet(plain: Vec<u16>, index: u64) -> Says {
    Says {
        plain,
        index,
        blocking: None,
        stuck: None,
        restless: false,
        leaderless: false,
        last_contact: 0,
        forgotten: false,
        proof_takes: Duration::ZERO,
    }
}

/// The other server of a small network may reach a leader where this one does not.
#[tokio::test]
async fn an_agent_that_stays_without_a_leader_is_left_for_the_next_one() {
    is_left_when(|says| says.leaderless = true).await;
}

#[tokio::test]
async fn an_agent_whose_data_stays_old_is_left_for_the_next_one() {
    is_left_when(|says| says.last_contact = 301).await;
}

async fn is_left_when(fault: impl FnOnce(&mut Says)) {
    let ((cut_off, one), (_well, other)) = (
        Fake::start(quiet(vec![ONE], 5)).await,
        Fake::start(quiet(vec![ONE, TWO], 6)).await,
    );
    let config = Config {
        endpoints: [one.endpoints, other.endpoints].concat(),
        max_stale: Duration::from_millis(300),
        ..Config::new(vec![])
    };
    let observed = Observed::start(Adapter::new(config));
    observed.becomes(&state(&[("orders", &[Instance::new(ONE)])])).await;
    cut_off.says(fault);
    observed
        .becomes(&state(&[("orders", &[Instance::new(ONE), Instance::new(TWO)])]))
        .await;
    observed.enters(&[SourceState::Live]).await;
}

/// A server that lags behind its leader says that there is one; only how long ago it heard of it tells.
#[tokio::test]
async fn a_server_that_has_not_heard_of_its_leader_for_too_long_is_a_doubt_until_it_has() {
    let (fake, config) = Fake::start(quiet(vec![ONE], 5)).await;
    let observed = Observed::start(Adapter::new(config));
    let known = state(&[("orders", &[Instance::new(ONE)])]);
    observed.becomes(&known).await;
    // As long as `max_stale`, which is ten seconds.
    fake.says(|says| says.last_contact = 10_000);
    observed.is_silent_for(Duration::from_millis(500)).await;
    let before = observed.heard().notes.len();
    let doubt = |why: Option<&str>| Note::Impaired(why.map(str::to_owned));
    for (last_contact, expected) in [(10_001, doubt(Some("the data is 10.001s old"))), (10_000, doubt(None))] {
        fake.says(|says| says.last_contact = last_contact);
        until(PATIENT, "the doubt, or its end", async || {
            observed.heard().notes.last() == Some(&expected)
        })
        .await;
        assert_eq!(observed.state(), known);
    }
    assert_eq!(observed.heard().notes.len(), before + 2);
    assert_eq!(observed.status().counters.sessions, 1);
}

/// The catalog is read more often than that, and goes on saying that the service is gone.
#[tokio::test]
async fn a_service_that_is_gone_goes_although_its_proof_is_slow() {
    let (fake, config) = Fake::start(quiet(vec![ONE], 5)).await;
    let observed = Observed::start(Adapter::new(config));
    observed.becomes(&state(&[("orders", &[Instance::new(ONE)])])).await;
    fake.says(|says| {
        *says = Says {
            forgotten: true,
            proof_takes: Duration::from_millis(500),
            ..quiet(vec![], 6)
        }
    });
    observed.becomes(&state(&[])).await;
}

#[tokio::test]
async fn an_index_of_zero_does_not_keep_both_sides_busy() {
    let says = Says {
        restless: true,
        ..quiet(vec![ONE], 0)
    };
    let (fake, config) = Fake::start(says).await;
    let observed = Observed::start(Adapter::new(config));
    observed.becomes(&state(&[("orders", &[Instance::new(ONE)])])).await;
    let (before, began) = (fake.asked().len(), Instant::now());
    observed.is_silent_for(Duration::from_secs(1)).await;
    let questions = fake.asked().split_off(before);
    let most = began.elapsed().as_millis() / 100 + 2;
    assert!((questions.len() as u128) <= most, "{}", questions.len());
    assert!(questions.iter().all(|index| *index == 1), "{questions:?}");
    assert_eq!(observed.status().state, SourceState::Live);
}

#[tokio::test]
async fn an_index_that_is_far_too_high_is_given_up_and_no_change_is_missed() {
    let (fake, config) = Fake::start(quiet(vec![ONE], 5)).await;
    let observed = Observed::start(Adapter::new(config));
    observed.becomes(&state(&[("orders", &[Instance::new(ONE)])])).await;
    // The question in flight is answered when its wait is over, the next one at once.
    fake.says(|says| says.blocking = Some((u64::MAX, vec![ONE])));
    until(PATIENT, "a question with that index", async || {
        fake.asked().contains(&u64::MAX)
    })
    .await;
    fake.says(|says| *says = quiet(vec![ONE, TWO], 9));
    observed
        .becomes(&state(&[("orders", &[Instance::new(ONE), Instance::new(TWO)])]))
        .await;
    until(PATIENT, "a question with a real index", async || {
        fake.asked().last().is_some_and(|index| *index == 9)
    })
    .await;
    assert_eq!(observed.status().counters.resyncs, 1);
}

/// What the streaming backend answers when its token is taken away: 200, index 1, nothing.
#[tokio::test]
async fn an_index_that_goes_back_to_an_empty_list_takes_nothing_away() {
    let (fake, config) = Fake::start(quiet(vec![ONE, TWO], 5)).await;
    let observed = Observed::start(Adapter::new(config));
    let known = state(&[("orders", &[Instance::new(ONE), Instance::new(TWO)])]);
    observed.becomes(&known).await;
    fake.says(|says| says.blocking = Some((1, vec![])));
    let before = fake.asked().len();
    until(PATIENT, "three more questions", async || {
        fake.asked().len() >= before + 3
    })
    .await;
    throughout(Duration::from_millis(200), "what was known", async || {
        observed.state() == known
    })
    .await;
    let indexes = fake.asked();
    assert!(!indexes.contains(&1), "{indexes:?}");
}

/// The view of a streaming subscription stood still for good in several releases.
#[tokio::test]
async fn an_event_that_was_lost_is_found_and_counted_and_healed() {
    let says = Says {
        stuck: Some((5, vec![ONE, TWO])),
        ..quiet(vec![ONE, TWO], 5)
    };
    let (fake, config) = Fake::start(says).await;
    let config = Config {
        reconcile: Duration::from_millis(100),
        ..config
    };
    let observed = Observed::start(Adapter::new(config));
    let held = state(&[("orders", &[Instance::new(ONE), Instance::new(TWO)])]);
    observed.becomes(&held).await;
    // No `ONE` any more, and a `THREE` that no watch tells of.
    fake.says(|says| (says.plain, says.index) = (vec![TWO, THREE], 6));
    observed
        .becomes(&state(&[("orders", &[Instance::new(TWO), Instance::new(THREE)])]))
        .await;
    let listed = |revision| Note::Resync {
        services: 1,
        evidence: Evidence::Complete,
        revision,
    };
    let mut notes = observed.heard().notes;
    notes.retain(|note| *note != Note::Reconciled { drift: 0 });
    assert_eq!(notes, [listed(5), Note::Reconciled { drift: 2 }, listed(6)]);
    let counters = observed.status().counters;
    assert_eq!((counters.reconcile_drift, counters.resyncs), (2, 2));
}

//! What a real Eureka does not say within the time of a test, or not at will: leases that ran out hours ago, sums that
//! never agree, half answers. A small server says it, in the shapes that were recorded from a real one.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use leadsman_core::model::Evidence;
use leadsman_registry::eureka::{Config, Eureka as Adapter};
use leadsman_registry::{Overdue, SourceState};
use leadsman_tests::contract::state;
use leadsman_tests::instance::Instance;
use leadsman_tests::observed::Observed;
use leadsman_tests::rigs::eureka::{config, resyncs};
use leadsman_tests::wait::throughout;
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// What the server answers, with which status.
#[derive(Clone, Debug)]
struct Says {
    full: (u16, String),
    delta: (u16, String),
}

#[derive(Debug)]
struct Fake {
    says: Mutex<Says>,
}

impl Fake {
    async fn start(says: Says) -> (Arc<Self>, Observed) {
        let fake = Arc::new(Self { says: Mutex::new(says) });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/eureka", listener.local_addr().unwrap());
        let router = Router::new().fallback(answer).with_state(Arc::clone(&fake));
        tokio::spawn(async move { axum::serve(listener, router).await });
        let config = Config {
            reconcile: Duration::from_millis(500),
            ..config(vec![url])
        };
        (fake, Observed::start(Adapter::new(config)))
    }

    fn says(&self, says: Says) {
        *self.says.lock().unwrap_or_else(PoisonError::into_inner) = says;
    }
}

async fn answer(State(fake): State<Arc<Fake>>, uri: Uri) -> Response {
    let says = fake.says.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let (status, body) = match uri.path() {
        "/eureka/apps" => says.full,
        "/eureka/apps/delta" => says.delta,
        _ => (404, String::new()),
    };
    // The date is added by whoever serves, as a real one has it.
    let status = StatusCode::from_u16(status).unwrap();
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

const ONE: u16 = 9001;
const TWO: u16 = 9002;

/// Instances of `orders` that registered at a moment and were heard of last at another, in milliseconds.
fn listing(ports: &[u16], registered: u64, renewed: u64) -> String {
    applications(ports, &format!("UP_{}_", ports.len()), registered, renewed)
}

fn applications(ports: &[u16], sum: &str, registered: u64, renewed: u64) -> String {
    let instance = |port: &u16| -> Value {
        json!({
            "instanceId": format!("i:{port}"), "hostName": "127.0.0.1", "app": "ORDERS", "ipAddr": "127.0.0.1",
            "status": "UP", "overriddenStatus": "UNKNOWN", "port": { "$": port, "@enabled": "true" },
            "securePort": { "$": 443, "@enabled": "false" },
            "leaseInfo": { "renewalIntervalInSecs": 30, "durationInSecs": 90, "registrationTimestamp": registered,
                           "lastRenewalTimestamp": renewed },
            "metadata": { "weight": "10" }, "vipAddress": "orders",
            "lastUpdatedTimestamp": "1795182222055", "lastDirtyTimestamp": "1795182221894", "actionType": "ADDED",
        })
    };
    let instances: Vec<Value> = ports.iter().map(instance).collect();
    json!({ "applications": { "versions__delta": "1", "apps__hashcode": sum,
        "application": [{ "name": "ORDERS", "instance": instances }] } })
    .to_string()
}

/// Milliseconds of this long ago.
fn ago(seconds: u64) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(now.saturating_sub(Duration::from_secs(seconds)).as_millis()).unwrap()
}

fn well(ports: &[u16]) -> Says {
    let full = (200, listing(ports, ago(3600), ago(0)));
    Says {
        delta: full.clone(),
        full,
    }
}

fn known(ports: &[u16]) -> leadsman_tests::observed::State {
    let instances: Vec<Instance> = ports.iter().copied().map(Instance::new).collect();
    state(&[("orders", &instances)])
}

#[tokio::test]
async fn leases_that_ran_out_are_counted_while_their_instances_stay() {
    let stale = (200, listing(&[ONE, TWO], ago(9000), ago(7200)));
    let says = Says {
        delta: stale.clone(),
        full: stale,
    };
    let (fake, observed) = Fake::start(says).await;
    observed.becomes(&known(&[ONE, TWO])).await;
    let Overdue {
        instances,
        longest_seconds,
    } = observed.status().overdue;
    assert_eq!(instances, 2);
    // Two hours without the lease of ninety seconds.
    assert!((7100..7170).contains(&longest_seconds), "{longest_seconds}");
    assert_eq!(observed.status().state, SourceState::Live);
    // They are heard of again, as the next full listing says.
    fake.says(well(&[ONE, TWO]));
    observed
        .status_becomes("no lease that ran out", |status| status.overdue == Overdue::default())
        .await;
}

/// Everything that is no listing: the state stays, and why is told.
#[tokio::test]
async fn an_answer_that_is_no_listing_is_never_an_empty_one() {
    let (fake, observed) = Fake::start(well(&[ONE, TWO])).await;
    let state = known(&[ONE, TWO]);
    observed.becomes(&state).await;
    let page = |status: u16, body: &str| Says {
        full: (status, body.to_owned()),
        delta: (status, body.to_owned()),
    };
    // Its sum asks for a listing, and the listing holds nothing of what it says it holds.
    let half = Says {
        full: (200, applications(&[], "UP_2_", 0, 0)),
        delta: (200, applications(&[], "UP_5_", 0, 0)),
    };
    for (says, why) in [
        (page(200, "<applications></applications>"), "Accept"),
        (page(200, "{}"), "applications"),
        (page(200, r#"{"applications":{"application":7}}"#), "not a list"),
        (half, "says of itself"),
        (page(200, ""), "not JSON"),
        (page(403, "starting"), "403"),
        (page(503, "busy"), "503"),
        (page(302, ""), "redirects"),
    ] {
        fake.says(says);
        observed
            .status_becomes(why, |status| {
                status.state == SourceState::Degraded && status.last_error.as_deref().unwrap_or_default().contains(why)
            })
            .await;
        assert_eq!(observed.state(), state, "{why}");
        fake.says(well(&[ONE, TWO]));
        observed.enters(&[SourceState::Live]).await;
    }
    assert!(
        resyncs(&observed)
            .iter()
            .all(|listing| *listing == (1, Evidence::Complete))
    );
}

/// A server whose two answers never agree: what it lists counts in the end, and what it adds at once.
#[tokio::test]
async fn sums_that_never_agree_are_no_reason_to_stand_still() {
    let (fake, observed) = Fake::start(well(&[ONE])).await;
    observed.becomes(&known(&[ONE])).await;
    fake.says(Says {
        delta: (200, applications(&[], "UP_7_", 0, 0)),
        full: (200, listing(&[ONE, TWO], ago(3600), ago(0))),
    });
    observed.becomes(&known(&[ONE, TWO])).await;
    throughout(Duration::from_millis(500), "what is listed", async || {
        observed.state() == known(&[ONE, TWO])
    })
    .await;
}

/// A peer that lost its registry without a restart that anyone could see, and one that lists half.
#[tokio::test]
async fn a_peer_that_suddenly_knows_nothing_or_half_is_doubted() {
    let (fake, observed) = Fake::start(well(&[ONE, TWO])).await;
    observed.becomes(&known(&[ONE, TWO])).await;
    for (ports, services) in [(&[][..], 0), (&[ONE][..], 1)] {
        let before = resyncs(&observed).len();
        // Its leases are of a moment ago: nothing shows that it has been there.
        let sum = if ports.is_empty() {
            String::new()
        } else {
            format!("UP_{}_", ports.len())
        };
        let young = (200, applications(ports, &sum, ago(0), ago(0)));
        fake.says(Says {
            delta: young.clone(),
            full: young,
        });
        observed
            .status_becomes("another listing", |status| status.counters.resyncs as usize > before)
            .await;
        let (listed, evidence) = resyncs(&observed).pop().unwrap();
        assert_eq!(listed, services);
        assert!(matches!(evidence, Evidence::NewEpoch { .. }), "{evidence:?}");
        fake.says(well(&[ONE, TWO]));
        observed.becomes(&known(&[ONE, TWO])).await;
    }
}

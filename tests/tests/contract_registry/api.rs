//! What the calls promise, over both protocols and with both stores.

use http::Method;
use leadsman_core::model::Health;
use leadsman_proto::registry as pb;
use leadsman_tests::contract::Subject;
use leadsman_tests::etcd::Version;
use leadsman_tests::instance::Instance;
use leadsman_tests::registrar::{LASTING, Registrar, body, path};
use leadsman_tests::rigs::registry::{Embedded, Shared};
use serde_json::{Value, json};
use tonic::Code;

type Stub = pb::registry_client::RegistryClient<tonic::transport::Channel>;

/// Makes one test of each promise for each store.
macro_rules! promises {
    ($($promise:ident,)+) => {
        mod embedded {
            use super::*;
            $(#[tokio::test] async fn $promise() {
                let rig = Embedded::start().await;
                let observed = rig.observe();
                observed.enters(&[leadsman_registry::SourceState::Live]).await;
                super::$promise(rig.registrar()).await;
            })+
        }
        mod etcd {
            use super::*;
            $(#[tokio::test] async fn $promise() {
                let rig = Shared::start(Version::V36).await;
                super::$promise(rig.registrar()).await;
            })+
        }
    };
}

promises! {
    repeating_a_registration_changes_nothing,
    a_version_guards_every_change,
    another_holder_takes_over_and_the_first_one_is_told,
    draining_lasts_until_it_is_ended,
    what_is_not_registered_says_so,
    everything_registered_can_be_read_a_page_at_a_time,
    what_makes_no_sense_is_refused_with_a_reason,
    both_protocols_say_the_same,
    grpc_refuses_with_a_code_and_a_word,
}

/// An answer that is no success: its status and its word for programs.
async fn refused(registrar: &Registrar, method: Method, path: &str, body: Option<Value>) -> (u16, String) {
    let (status, answer) = registrar.ask(method, path, body).await;
    assert!(
        answer["error"].as_str().is_some_and(|error| !error.is_empty()),
        "{answer}"
    );
    (status, answer["code"].as_str().unwrap_or_default().to_owned())
}

fn held_by(holder: &str) -> Value {
    let mut body = body(Instance::new(9001), LASTING);
    body["holder"] = holder.into();
    body
}

async fn repeating_a_registration_changes_nothing(registrar: &Registrar) {
    let orders = path("orders", 9001);
    let (status, first) = registrar.ask(Method::PUT, &orders, Some(held_by("a"))).await;
    assert_eq!(
        (status, &first["changed"], &first["draining"]),
        (200, &json!(true), &json!(false))
    );
    assert_eq!(first["ttl_seconds"], LASTING);
    for _ in 0..5 {
        let again = registrar.insist(Method::PUT, &orders, Some(held_by("a"))).await;
        let mut expected = first.clone();
        expected["changed"] = json!(false);
        assert_eq!(again, expected);
    }
    let mut heavier = held_by("a");
    heavier["weight"] = json!(0.1);
    let changed = registrar.insist(Method::PUT, &orders, Some(heavier.clone())).await;
    assert!(changed["version"].as_u64() > first["version"].as_u64());
    assert_eq!(
        (&changed["lease"], &changed["changed"]),
        (&first["lease"], &json!(true))
    );
    assert_eq!(
        registrar.insist(Method::PUT, &orders, Some(heavier)).await["changed"],
        false
    );
}

async fn a_version_guards_every_change(registrar: &Registrar) {
    let orders = path("orders", 9001);
    let expecting = |version: u64| {
        let mut body = held_by("a");
        body["expected_version"] = version.into();
        Some(body)
    };
    let conflict = (409, "conflict".to_owned());
    assert_eq!(refused(registrar, Method::PUT, &orders, expecting(7)).await, conflict);
    let first = registrar.insist(Method::PUT, &orders, expecting(0)).await;
    assert_eq!(refused(registrar, Method::PUT, &orders, expecting(0)).await, conflict);
    let version = first["version"].as_u64().unwrap();
    assert_eq!(
        registrar.insist(Method::PUT, &orders, expecting(version)).await["changed"],
        false
    );
    let wrong = format!("{orders}?version={}", version + 1);
    assert_eq!(refused(registrar, Method::DELETE, &wrong, None).await, conflict);
    let wrong = format!("{orders}/draining?version={}", version + 1);
    assert_eq!(refused(registrar, Method::PUT, &wrong, None).await, conflict);
    let right = format!("{orders}?version={version}");
    assert_eq!(
        registrar.insist(Method::DELETE, &right, None).await,
        json!({ "removed": true })
    );
    assert_eq!(
        registrar.insist(Method::DELETE, &right, None).await,
        json!({ "removed": false })
    );
    // Versions never begin again.
    let again = registrar.insist(Method::PUT, &orders, expecting(0)).await;
    assert!(again["version"].as_u64() > Some(version), "{again}");
}

async fn another_holder_takes_over_and_the_first_one_is_told(registrar: &Registrar) {
    let orders = path("orders", 9001);
    let first = registrar.insist(Method::PUT, &orders, Some(held_by("a"))).await;
    let second = registrar.insist(Method::PUT, &orders, Some(held_by("b"))).await;
    let lease = |receipt: &Value| receipt["lease"].as_str().unwrap().to_owned();
    let (former, present) = (lease(&first), lease(&second));
    assert_ne!(former, present);
    let replaced = (409, "replaced".to_owned());
    let renewal = format!("{orders}/lease/{former}");
    assert_eq!(refused(registrar, Method::PUT, &renewal, None).await, replaced);
    let draining = format!("{orders}/draining?lease={former}");
    assert_eq!(refused(registrar, Method::PUT, &draining, None).await, replaced);
    // The end of the first process does not take the second one along.
    let end = format!("{orders}?lease={former}");
    assert_eq!(refused(registrar, Method::DELETE, &end, None).await, replaced);
    let renewed = registrar
        .insist(Method::PUT, &format!("{orders}/lease/{present}"), None)
        .await;
    assert_eq!(
        (&renewed["version"], &renewed["changed"]),
        (&second["version"], &json!(false))
    );
}

async fn draining_lasts_until_it_is_ended(registrar: &Registrar) {
    let orders = path("orders", 9001);
    let draining = format!("{orders}/draining");
    let first = registrar.insist(Method::PUT, &orders, Some(held_by("a"))).await;
    let drained = registrar.insist(Method::PUT, &draining, None).await;
    assert_eq!(
        (&drained["draining"], &drained["changed"]),
        (&json!(true), &json!(true))
    );
    assert_eq!(drained["lease"], first["lease"]);
    assert_eq!(registrar.insist(Method::PUT, &draining, None).await["changed"], false);
    let again = registrar.insist(Method::PUT, &orders, Some(held_by("a"))).await;
    assert_eq!((&again["draining"], &again["changed"]), (&json!(true), &json!(false)));
    let shown = registrar.insist(Method::GET, &orders, None).await;
    // What it says itself is not lost.
    assert_eq!(
        (&shown["draining"], &shown["endpoint"]["health"]),
        (&json!(true), &json!("healthy"))
    );
    let ended = registrar.insist(Method::DELETE, &draining, None).await;
    assert_eq!((&ended["draining"], &ended["changed"]), (&json!(false), &json!(true)));
    registrar.insist(Method::PUT, &draining, None).await;
    let fresh = registrar.insist(Method::PUT, &orders, Some(held_by("b"))).await;
    assert_eq!(fresh["draining"], false);
}

async fn what_is_not_registered_says_so(registrar: &Registrar) {
    let orders = path("orders", 9001);
    let unknown = (404, "unknown".to_owned());
    let renewal = format!("{orders}/lease/00000000000000ab");
    assert_eq!(refused(registrar, Method::PUT, &renewal, None).await, unknown);
    let (_, answer) = registrar.ask(Method::PUT, &renewal, None).await;
    assert!(answer["error"].as_str().unwrap().contains("register again"), "{answer}");
    assert_eq!(refused(registrar, Method::GET, &orders, None).await, unknown);
    assert_eq!(
        refused(registrar, Method::PUT, &format!("{orders}/draining"), None).await,
        unknown
    );
}

async fn everything_registered_can_be_read_a_page_at_a_time(registrar: &Registrar) {
    for service in ["a", "b", "b.c"] {
        for port in 1..=3 {
            registrar.put(service, Instance::new(port), LASTING).await;
        }
    }
    let names = async |path: &str, limit: usize| {
        let (mut names, mut after) = (Vec::new(), String::new());
        loop {
            let separator = if path.contains('?') { '&' } else { '?' };
            let page = format!("{path}{separator}limit={limit}&after={after}");
            let page = registrar.insist(Method::GET, &page, None).await;
            let instances = page["instances"].as_array().unwrap();
            assert!(
                instances.len() <= limit && page["revision"].as_u64() >= Some(9),
                "{page}"
            );
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            names.extend(
                instances
                    .iter()
                    .map(|i| format!("{}/{}", text(&i["service"]), text(&i["id"]))),
            );
            after = text(&page["next"]);
            if after.is_empty() {
                names.sort();
                return names;
            }
        }
    };
    // In the order of the whole texts, in which a dot comes before a slash.
    let all: Vec<String> = ["a", "b.c", "b"]
        .iter()
        .flat_map(|service| (1..=3).map(move |port| format!("{service}/{port}")))
        .collect();
    for limit in [1, 2, 4, 100] {
        assert_eq!(names("/v1/instances", limit).await, all);
        assert_eq!(names("/v1/services/b/instances", limit).await, all[6..]);
    }
    assert_eq!(names("/v1/services/none/instances", 5).await, [""; 0]);
}

async fn what_makes_no_sense_is_refused_with_a_reason(registrar: &Registrar) {
    let orders = path("orders", 9001);
    let invalid = (400, "invalid".to_owned());
    let mut wrong = vec![json!({}), json!([]), json!({ "address": "10.0.0.1" })];
    for (key, value) in [
        ("address", json!("db.internal")),
        ("port", json!(0)),
        ("port", json!(65536)),
        ("port", json!("9001")),
        ("weight", json!(-1)),
        ("health", json!("up")),
        ("ttl_seconds", json!(0)),
        ("ttl_seconds", json!(86401)),
        ("wieght", json!(1)),
        ("locality", json!({ "zome": "a" })),
        ("holder", json!("a b")),
        ("metadata", json!({ "k": "v".repeat(257) })),
        ("metadata", json!({ "k": "v".repeat(70_000) })),
    ] {
        let mut body = held_by("a");
        body[key] = value;
        wrong.push(body);
    }
    for body in wrong {
        let shown = body.to_string();
        assert_eq!(
            refused(registrar, Method::PUT, &orders, Some(body)).await,
            invalid,
            "{shown:.200}"
        );
    }
    for bad in [
        "/v1/services/a%2Fb/instances/c",
        "/v1/services/a/instances/b%20c",
        "/v1/services/a%00/instances/b",
    ] {
        assert_eq!(
            refused(registrar, Method::PUT, bad, Some(held_by("a"))).await,
            invalid,
            "{bad}"
        );
    }
    for bad in ["?after=x", "?limit=many", "?limt=1"] {
        let list = format!("/v1/instances{bad}");
        assert_eq!(refused(registrar, Method::GET, &list, None).await, invalid, "{bad}");
    }
    let lease = format!("{orders}/lease/first");
    assert_eq!(refused(registrar, Method::PUT, &lease, None).await, invalid);
    assert_eq!(refused(registrar, Method::GET, "/", None).await.0, 404);
    assert_eq!(refused(registrar, Method::POST, &orders, None).await.0, 405);
    assert_eq!(
        registrar.insist(Method::GET, "/v1/instances", None).await["instances"],
        json!([])
    );
}

/// The registration that [`Registrar::put`] makes of the instance at 9001.
fn wish(holder: &str) -> pb::RegisterRequest {
    pb::RegisterRequest {
        service: "orders".to_owned(),
        id: "9001".to_owned(),
        endpoint: Some(pb::Endpoint {
            address: "127.0.0.1".to_owned(),
            port: 9001,
            weight: Some(10.0),
            health: pb::Health::Healthy.into(),
            ..pb::Endpoint::default()
        }),
        ttl_seconds: LASTING,
        holder: holder.to_owned(),
        ..pb::RegisterRequest::default()
    }
}

fn renewal(lease: &str) -> pb::RenewRequest {
    pb::RenewRequest {
        service: "orders".to_owned(),
        id: "9001".to_owned(),
        lease: lease.to_owned(),
    }
}

fn get() -> pb::GetRequest {
    pb::GetRequest {
        service: "orders".to_owned(),
        id: "9001".to_owned(),
    }
}

fn deregistration(version: u64) -> pb::DeregisterRequest {
    pb::DeregisterRequest {
        service: "orders".to_owned(),
        id: "9001".to_owned(),
        expected_version: Some(version),
        ..pb::DeregisterRequest::default()
    }
}

async fn both_protocols_say_the_same(registrar: &Registrar) {
    let mut stub = Stub::connect_to(registrar).await;
    let first = stub.register(wish("")).await.unwrap().into_inner();
    // The same words over HTTP are the same registration.
    let over_http = registrar.put("orders", Instance::new(9001), LASTING).await;
    assert_eq!(over_http["version"], first.version);
    assert_eq!(over_http["lease"].as_str(), Some(first.lease.as_str()));
    assert_eq!(over_http["changed"], false);
    let renewed = stub.renew(renewal(&first.lease)).await.unwrap().into_inner();
    assert_eq!(renewed.version, first.version);
    let shown = stub.get(get()).await.unwrap().into_inner();
    assert_eq!(shown.endpoint.unwrap().weight, Some(10.0));
    let list = stub.list(pb::ListRequest::default()).await.unwrap().into_inner();
    assert_eq!((list.instances.len(), list.next.as_str()), (1, ""));
    let drain = |end| pb::DrainRequest {
        service: "orders".to_owned(),
        id: "9001".to_owned(),
        end,
        ..pb::DrainRequest::default()
    };
    assert!(stub.drain(drain(false)).await.unwrap().into_inner().draining);
    let version = stub.drain(drain(true)).await.unwrap().into_inner().version;
    let removed = stub.deregister(deregistration(version)).await;
    assert!(removed.unwrap().into_inner().removed);
}

async fn grpc_refuses_with_a_code_and_a_word(registrar: &Registrar) {
    let mut stub = Stub::connect_to(registrar).await;
    let former = stub.register(wish("a")).await.unwrap().into_inner();
    stub.register(wish("b")).await.unwrap();
    let replaced = stub.renew(renewal(&former.lease)).await;
    refuses(replaced, Code::Aborted, "replaced");
    let conflict = stub.deregister(deregistration(former.version)).await;
    refuses(conflict, Code::FailedPrecondition, "conflict");
    refuses(stub.renew(renewal("x")).await, Code::InvalidArgument, "invalid");
    let nothing = pb::RegisterRequest {
        endpoint: None,
        ..wish("b")
    };
    refuses(stub.register(nothing).await, Code::InvalidArgument, "invalid");
    registrar.remove("orders", 9001).await;
    refuses(stub.renew(renewal(&former.lease)).await, Code::NotFound, "unknown");
    refuses(stub.get(get()).await, Code::NotFound, "unknown");
}

fn refuses<T>(outcome: Result<T, tonic::Status>, code: Code, word: &str) {
    let status = outcome.map(|_| "an answer").unwrap_err();
    assert_eq!(status.code(), code, "{status:?}");
    let said = status.metadata().get("leadsman-code").unwrap();
    assert_eq!(said, word, "{status:?}");
}

trait ConnectTo: Sized {
    async fn connect_to(registrar: &Registrar) -> Self;
}

impl ConnectTo for Stub {
    async fn connect_to(registrar: &Registrar) -> Self {
        let url = format!("http://{}", registrar.address);
        let channel = tonic::transport::Endpoint::from_shared(url).unwrap().connect().await;
        Self::new(channel.unwrap())
    }
}

#[tokio::test]
async fn two_replicas_answer_for_each_other() {
    let mut rig = Shared::start(Version::V36).await;
    let one = Instance::new(9001);
    rig.put("orders", one).await;
    let observed = rig.observe();
    observed.becomes(&rig.state(&[("orders", &[one])])).await;
    // Registered at one, renewed, drained and removed at the other.
    let here = Registrar::new(rig.listen);
    let orders = path("orders", 9001);
    let first = rig.registrar().insist(Method::PUT, &orders, Some(held_by("a"))).await;
    let lease = first["lease"].as_str().unwrap();
    let renewed = here.insist(Method::PUT, &format!("{orders}/lease/{lease}"), None).await;
    assert_eq!(renewed["version"], first["version"]);
    here.drain("orders", 9001).await;
    observed
        .becomes(&rig.state(&[("orders", &[one.being(Health::Draining)])]))
        .await;
    here.remove("orders", 9001).await;
    observed.becomes(&rig.state(&[])).await;
    assert_eq!(rig.etcd.keys("/services/").await, [""; 0]);
}

#[tokio::test]
async fn a_race_for_one_instance_has_one_winner_of_each_version() {
    let rig = Shared::start(Version::V36).await;
    let observed = rig.observe();
    observed.enters(&[leadsman_registry::SourceState::Live]).await;
    let replicas = [rig.registrar().clone(), Registrar::new(rig.listen)];
    let orders = path("orders", 9001);
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..8_u64 {
        let registrar = replicas[usize::try_from(number % 2).unwrap()].clone();
        let orders = orders.clone();
        tasks.spawn(async move {
            let mut body = held_by(&format!("h{number}"));
            body["expected_version"] = json!(0);
            registrar.ask(Method::PUT, &orders, Some(body)).await.0
        });
    }
    let mut statuses = tasks.join_all().await;
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 409, 409, 409, 409, 409, 409, 409]);
}

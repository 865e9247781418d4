//! gRPC without a proxy: `xds:///SERVICE` on both implementations, with real servers behind it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::net::SocketAddr;

use leadsman_core::model::Health;
use leadsman_tests::grpc::{Call, Client, Implementation, Server};
use leadsman_tests::instance::{Instance, document};
use leadsman_tests::leadsman::{Leadsman, replace, run};
use leadsman_tests::wait::{PATIENT, until};
use serde_json::Value;
use tempfile::TempDir;

async fn leadsman(rest: &str) -> Leadsman {
    let directory = TempDir::new().unwrap();
    fs::create_dir(directory.path().join("services")).unwrap();
    // An empty directory proves nothing: whether a service exists is known when there is any.
    let other = document("other", [Instance::new(1)]);
    fs::write(directory.path().join("services/other.yaml"), other).unwrap();
    Leadsman::start_in(
        directory,
        &format!("sources: {{ local: {{ file: {{ path: services/ }} }} }}\n{rest}"),
    )
    .await
}

fn write(leadsman: &Leadsman, service: &str, instances: &[Instance]) {
    let path = leadsman.directory().join(format!("services/{service}.yaml"));
    replace(&path, &document(service, instances.iter().copied()));
}

fn client(leadsman: &Leadsman, implementation: Implementation) -> Client {
    let xds = leadsman.xds().to_string();
    let output = run(&["bootstrap", "--grpc", "--node-id", "checkout-1", "--xds", &xds]);
    assert!(output.status.success(), "{output:?}");
    let bootstrap: Value = serde_json::from_slice(&output.stdout).unwrap();
    Client::start(implementation, &bootstrap)
}

fn instance(server: &Server) -> Instance {
    Instance::new(server.address().port())
}

/// How many of the calls a server answered.
fn share(calls: &[Call], server: SocketAddr) -> usize {
    calls.iter().filter(|call| call.is_answered_by(server)).count()
}

fn assert_answered(calls: &[Call]) {
    assert!(calls.iter().all(|call| matches!(call, Call::Answered(_))), "{calls:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_balances_follows_a_drain_and_a_removal_and_no_call_fails() {
    for implementation in Implementation::ALL {
        let leadsman = leadsman("").await;
        let (one, two) = (Server::start().await, Server::start().await);
        let (first, second) = (instance(&one), instance(&two));
        write(&leadsman, "orders", &[first, second]);
        let mut client = client(&leadsman, implementation);
        until(PATIENT, "each server to take half", async || {
            let calls = client.call("orders", 20).await;
            share(&calls, one.address()) == 10 && share(&calls, two.address()) == 10
        })
        .await;

        write(&leadsman, "orders", &[first, second.being(Health::Draining)]);
        until(PATIENT, "the draining server to be left alone", async || {
            let calls = client.call("orders", 20).await;
            assert_answered(&calls);
            share(&calls, one.address()) == 20
        })
        .await;
        write(&leadsman, "orders", &[second]);
        until(PATIENT, "the other server to take over", async || {
            let calls = client.call("orders", 20).await;
            assert_answered(&calls);
            share(&calls, two.address()) == 20
        })
        .await;
        assert!(
            leadsman.ask(&["status"]).status.success(),
            "{implementation:?} refused something"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_service_fails_at_once_and_works_when_it_comes_and_fails_when_it_goes() {
    for implementation in Implementation::ALL {
        let leadsman = leadsman("").await;
        let server = Server::start().await;
        let mut client = client(&leadsman, implementation);
        let calls = client.call("orders", 2).await;
        assert!(calls.iter().all(Call::failed_at_once), "{implementation:?}: {calls:?}");
        write(&leadsman, "orders", &[instance(&server)]);
        until(PATIENT, "the service", async || {
            client
                .call("orders", 1)
                .await
                .iter()
                .all(|call| call.is_answered_by(server.address()))
        })
        .await;
        fs::remove_file(leadsman.directory().join("services/orders.yaml")).unwrap();
        until(PATIENT, "the service to be gone", async || {
            client.call("orders", 1).await.iter().all(Call::failed_at_once)
        })
        .await;
        write(&leadsman, "orders", &[instance(&server)]);
        until(PATIENT, "the service to be back", async || {
            client
                .call("orders", 1)
                .await
                .iter()
                .all(|call| call.is_answered_by(server.address()))
        })
        .await;
        assert!(
            leadsman.ask(&["status"]).status.success(),
            "{implementation:?} refused something"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_locality_a_weight_makes_the_weights_of_endpoints_count() {
    for implementation in Implementation::ALL {
        let leadsman = leadsman("services: { orders: { weight_localities: true } }\n").await;
        let (one, two) = (Server::start().await, Server::start().await);
        let (heavy, light) = (instance(&one).weighing(3.0), instance(&two).weighing(1.0));
        write(&leadsman, "orders", &[heavy, light]);
        let mut client = client(&leadsman, implementation);
        until(PATIENT, "three quarters to the heavy one", async || {
            let calls = client.call("orders", 400).await;
            (260..=340).contains(&share(&calls, one.address())) && share(&calls, two.address()) > 0
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_goes_on_while_the_control_plane_is_down_and_follows_it_when_it_is_back() {
    for implementation in Implementation::ALL {
        let mut leadsman = leadsman("").await;
        let (one, two) = (Server::start().await, Server::start().await);
        write(&leadsman, "orders", &[instance(&one)]);
        let mut client = client(&leadsman, implementation);
        until(PATIENT, "the service", async || {
            share(&client.call("orders", 1).await, one.address()) == 1
        })
        .await;
        leadsman.restart();
        assert_answered(&client.call("orders", 50).await);
        leadsman.ready().await;
        assert_answered(&client.call("orders", 50).await);
        write(&leadsman, "orders", &[instance(&two)]);
        until(PATIENT, "the change", async || {
            let calls = client.call("orders", 1).await;
            assert_answered(&calls);
            share(&calls, two.address()) == 1
        })
        .await;
    }
}

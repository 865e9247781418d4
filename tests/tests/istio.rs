//! Istio as a client: a real istiod reads its services from us, and a sidecar behind it hears of them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use leadsman_tests::etcd::{Etcd, Version};
use leadsman_tests::istiod::{Cluster, Istiod, Member, Mesh, Sidecar};
use leadsman_tests::leadsman::{Leadsman, replace, run};
use leadsman_tests::proxy::Proxy;
use leadsman_tests::wait::{PATIENT, throughout, until, until_ok};
use serde_json::{Value, json};
use tempfile::TempDir;

const ORDERS: &str = "outbound|8080||orders.leadsman.internal";
const USERS: &str = "outbound|80||users.leadsman.internal";

/// Everything that takes part; `orders` is in etcd, `users` in a file.
struct Stage {
    etcd: Etcd,
    /// Between the control plane and etcd.
    path: Proxy,
    leadsman: Leadsman,
    istiod: Istiod,
}

/// One instance of `orders`.
fn key(host: &str) -> String {
    format!("/services/orders/{host}")
}

fn record(host: &str, port: u16, weight: u32, zone: &str, health: &str) -> String {
    let locality = json!({ "region": "eu", "zone": zone });
    json!({ "address": host, "port": port, "weight": weight, "health": health, "locality": locality }).to_string()
}

fn users(ports: &[u16]) -> String {
    let endpoint = |port: &u16| format!("  - {{ address: 10.9.1.1, port: {port} }}\n");
    let endpoints: String = ports.iter().map(endpoint).collect();
    format!("service: users\nendpoints:\n{endpoints}")
}

fn member(weight: u32, locality: &str, locality_weight: u32) -> Member {
    Member {
        weight,
        locality: locality.to_owned(),
        locality_weight,
    }
}

fn cluster<const N: usize>(members: [(&str, Member); N]) -> Cluster {
    let members = members.into_iter();
    members
        .map(|(address, member)| (address.parse::<SocketAddr>().unwrap(), member))
        .collect()
}

fn mesh<const N: usize>(clusters: [(&str, Cluster); N]) -> Mesh {
    clusters.map(|(name, cluster)| (name.to_owned(), cluster)).into()
}

impl Stage {
    /// Starts all but the sidecar, while nobody can reach etcd.
    async fn start() -> Self {
        let etcd = Etcd::start(Version::V36).await;
        let path = Proxy::start(etcd.address()).await;
        path.sever();
        let directory = TempDir::new().unwrap();
        fs::create_dir(directory.path().join("services")).unwrap();
        replace(&directory.path().join("services/users.yaml"), &users(&[9003]));
        let config = format!(
            "sources:\n  local: {{ file: {{ path: services/ }} }}\n  \
             shop: {{ etcd: {{ endpoints: [http://{}], prefix: /services/ }} }}\n\
             services:\n  \"*\": {{ istio: {{ export: true }} }}\n  \
             orders: {{ protocol: grpc, istio: {{ port: 8080 }} }}\n  secret: {{ istio: {{ export: false }} }}\n",
            path.address()
        );
        let leadsman = Leadsman::launch_with(directory, "startup_wait: 1s", &config);
        let istiod = Istiod::launch(leadsman.xds()).await;
        Self {
            etcd,
            path,
            leadsman,
            istiod,
        }
    }

    async fn put(&self, host: &str, port: u16, weight: u32, zone: &str, health: &str) {
        let record = record(host, port, weight, zone, health);
        self.etcd.put(&key(host), &record).await;
    }

    fn write_users(&self, ports: &[u16]) {
        replace(&self.leadsman.directory().join("services/users.yaml"), &users(ports));
    }

    /// Waits until the server is done with waiting for its sources.
    async fn envoys_are_answered(&self) {
        let xds = self.leadsman.xds().to_string();
        let watch = move || run(&["xds", "watch", "--server", &xds, "--type", "cds", "--count", "1"]);
        let watched = tokio::task::spawn_blocking(watch).await.unwrap();
        let said = String::from_utf8_lossy(&watched.stdout).into_owned();
        assert!(said.contains("users") && !said.contains("orders"), "{said} {watched:?}");
    }

    /// Waits until istiod has a stream to us, on which it asked for entries.
    async fn istiod_is_connected(&self) {
        until(PATIENT, "istiod to be connected", async || {
            let proxies = self.leadsman.api("/api/v1/proxies").await;
            let types = proxies[0]["types"].as_array().cloned().unwrap_or_default();
            let is_entry = |of: &Value| of["type_url"] == "networking.istio.io/v1/ServiceEntry";
            types.iter().any(is_entry)
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mesh_follows_the_registries_and_loses_nothing_when_they_fail() {
    let mut stage = Stage::start().await;
    stage.put("10.9.0.1", 9001, 30, "a", "healthy").await;
    stage.put("10.9.0.2", 9002, 10, "b", "healthy").await;
    stage
        .etcd
        .put("/services/secret/1", &record("10.9.2.1", 9004, 1, "a", "healthy"))
        .await;

    // Of a mesh that lacks a source istiod would make a mesh that lacks its services.
    stage.istiod_is_connected().await;
    stage.envoys_are_answered().await;
    throughout(Duration::from_secs(1), "istiod that is not ready", async || {
        !stage.istiod.is_ready().await
    })
    .await;
    let said = stage.leadsman.log();
    assert!(said.contains("before every source has been read in full"), "{said}");
    stage.path.heal();
    stage.istiod.ready().await;

    let sidecar = stage.istiod.sidecar().await;
    follows_every_change(&stage, &sidecar).await;
    leaves_out_who_takes_no_requests(&stage, &sidecar).await;
    loses_nothing_in_an_outage(&mut stage, &sidecar).await;
    forgets_what_is_gone(&stage, &sidecar).await;
    let status = stage.leadsman.ask(&["status"]);
    assert!(status.status.success(), "{status:?}");
}

async fn follows_every_change(stage: &Stage, sidecar: &Sidecar) {
    let first = [
        ("10.9.0.1:9001", member(30, "eu/a", 30)),
        ("10.9.0.2:9002", member(10, "eu/b", 10)),
    ];
    let third = || cluster([("10.9.1.1:9003", member(1, "", 1))]);
    sidecar
        .becomes(&mesh([(ORDERS, cluster(first)), (USERS, third())]))
        .await;

    stage.put("10.9.0.2", 9002, 5, "b", "healthy").await;
    stage.put("10.9.0.3", 9005, 20, "b", "healthy").await;
    let second = [
        ("10.9.0.1:9001", member(30, "eu/a", 30)),
        ("10.9.0.2:9002", member(5, "eu/b", 25)),
        ("10.9.0.3:9005", member(20, "eu/b", 25)),
    ];
    sidecar
        .becomes(&mesh([(ORDERS, cluster(second)), (USERS, third())]))
        .await;
    // Two instances on one host, each with a port of its own.
    stage.write_users(&[9003, 9006]);
    let both = cluster([("10.9.1.1:9003", member(1, "", 2)), ("10.9.1.1:9006", member(1, "", 2))]);
    until_ok(PATIENT, "both instances", async || {
        let mesh = sidecar.mesh();
        if mesh.get(USERS) == Some(&both) {
            Ok(())
        } else {
            Err(mesh)
        }
    })
    .await;
}

async fn leaves_out_who_takes_no_requests(stage: &Stage, sidecar: &Sidecar) {
    let has = async |expected: Cluster| {
        until_ok(PATIENT, "orders in the sidecar", async || {
            let mesh = sidecar.mesh();
            if mesh.get(ORDERS) == Some(&expected) {
                Ok(())
            } else {
                Err(mesh)
            }
        })
        .await;
    };
    stage.put("10.9.0.3", 9005, 20, "b", "draining").await;
    let two = [
        ("10.9.0.1:9001", member(30, "eu/a", 30)),
        ("10.9.0.2:9002", member(5, "eu/b", 5)),
    ];
    has(cluster(two)).await;
    stage.put("10.9.0.1", 9001, 30, "a", "unhealthy").await;
    has(cluster([("10.9.0.2:9002", member(5, "eu/b", 5))])).await;
    // With the last healthy one gone, all of them are better than none.
    stage.put("10.9.0.2", 9002, 5, "b", "unhealthy").await;
    let all = [
        ("10.9.0.1:9001", member(30, "eu/a", 30)),
        ("10.9.0.2:9002", member(5, "eu/b", 25)),
        ("10.9.0.3:9005", member(20, "eu/b", 25)),
    ];
    has(cluster(all)).await;
    stage.put("10.9.0.1", 9001, 30, "a", "healthy").await;
    has(cluster([("10.9.0.1:9001", member(30, "eu/a", 30))])).await;
    stage.put("10.9.0.2", 9002, 5, "b", "healthy").await;
    let two = [
        ("10.9.0.1:9001", member(30, "eu/a", 30)),
        ("10.9.0.2:9002", member(5, "eu/b", 5)),
    ];
    has(cluster(two)).await;
}

async fn loses_nothing_in_an_outage(stage: &mut Stage, sidecar: &Sidecar) {
    let (before, losses) = (sidecar.mesh(), sidecar.losses());
    let whole = async |window| {
        throughout(Duration::from_secs(window), "the mesh", async || {
            sidecar.mesh() == before && sidecar.losses() == losses
        })
        .await;
    };
    stage.path.sever();
    until(PATIENT, "the outage to be noticed", async || {
        stage.leadsman.api("/api/v1/sources").await[1]["state"] == "degraded"
    })
    .await;
    whole(2).await;
    // A server that starts in the outage knows `users` from their file, and nothing of `orders`.
    stage.leadsman.restart();
    stage.istiod_is_connected().await;
    stage.envoys_are_answered().await;
    whole(2).await;
    stage.path.heal();
    stage.leadsman.ready().await;
    stage.put("10.9.0.4", 9007, 8, "c", "healthy").await;
    let late: SocketAddr = "10.9.0.4:9007".parse().unwrap();
    until(PATIENT, "the instance that came after the outage", async || {
        sidecar
            .mesh()
            .get(ORDERS)
            .is_some_and(|orders| orders.contains_key(&late))
    })
    .await;
    assert_eq!(sidecar.losses(), losses);
}

async fn forgets_what_is_gone(stage: &Stage, sidecar: &Sidecar) {
    for host in ["10.9.0.1", "10.9.0.2", "10.9.0.3"] {
        stage.etcd.delete(&key(host)).await;
    }
    let users = || sidecar.mesh().get(USERS).cloned().unwrap();
    sidecar
        .becomes(&mesh([
            (ORDERS, cluster([("10.9.0.4:9007", member(8, "eu/c", 8))])),
            (USERS, users()),
        ]))
        .await;
    stage.etcd.delete(&key("10.9.0.4")).await;
    // The host stays for some seconds, without endpoints, and goes then.
    sidecar
        .becomes(&mesh([(ORDERS, Cluster::new()), (USERS, users())]))
        .await;
    sidecar.becomes(&mesh([(USERS, users())])).await;
}

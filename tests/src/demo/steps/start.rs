//! The servers come up, and find each other.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Instant;

use anyhow::Context;
use serde_json::Value;
use tempfile::TempDir;

use crate::demo::ingress;
use crate::demo::instance::PREFIX;
use crate::demo::screen::{Screen, span};
use crate::demo::wait::{SOON, eventually, expect};
use crate::demo::world::{NODE, World, keep_logs};
use crate::envoy::Envoy;
use crate::etcd::{Etcd, Version};
use crate::http::{BACKEND_HEADER, Http};
use crate::leadsman::{self, Leadsman};
use crate::process::{built, free_port};

const BACKENDS: [&str; 4] = ["catalog-1", "orders-1", "orders-2", "orders-3"];

/// More than one worker, so that what the filter shares between them is put to use.
const WORKERS: u32 = 2;

/// Starts everything, with nothing registered in etcd and one service in a file.
///
/// # Errors
/// When a server does not come up, or does not find the others.
pub(crate) async fn start(screen: &mut Screen, directory: &Path) -> anyhow::Result<(World, Backends)> {
    let http = Http::new();
    let etcd = Etcd::start(Version::V35).await;
    keep_logs(directory);
    let version = http.get(etcd.address(), "/version").await?.text();
    let version: Value = serde_json::from_str(&version)?;
    screen.fact(
        "etcd",
        &format!("{} on {}", text(&version["etcdserver"]), etcd.address()),
    );

    let mut backends = BTreeMap::new();
    let mut addresses = BTreeMap::new();
    for name in BACKENDS {
        let (process, address) = World::start_backend(directory, name).await?;
        screen.fact("backend", &format!("{name} on {address}"));
        backends.insert(name.to_owned(), process);
        addresses.insert(name.to_owned(), address);
    }
    let catalog = addresses.remove("catalog-1").context("the backend of the catalog")?;
    let leadsman = start_leadsman(screen, directory, etcd.address(), catalog).await?;
    let begun = Instant::now();
    let (envoy, ingress) = start_envoy(screen, directory, &leadsman).await?;
    let world = World {
        ingress,
        envoy,
        leadsman,
        instances: BTreeMap::new(),
        etcd,
        backends,
        http,
        sent: 0,
        failed: 0,
        directory: directory.to_owned(),
    };
    check_connection(screen, &world).await?;
    screen.fact("Envoy up and connected in", &span(begun.elapsed()));
    check_catalog(screen, &world, catalog).await?;
    Ok((world, addresses))
}

/// Backends that run and are registered nowhere.
pub(crate) type Backends = BTreeMap<String, SocketAddr>;

async fn start_leadsman(
    screen: &mut Screen,
    directory: &Path,
    etcd: SocketAddr,
    catalog: SocketAddr,
) -> anyhow::Result<Leadsman> {
    let own = TempDir::new()?;
    let services = own.path().join("services");
    fs::create_dir(&services)?;
    let file = format!(
        "service: catalog\nendpoints:\n  - {{ address: {}, port: {} }}\n",
        catalog.ip(),
        catalog.port()
    );
    leadsman::replace(&services.join("catalog.yaml"), &file);
    // The comparison with a fresh read usually runs every five minutes; nobody waits for that here.
    let sources = format!(
        "sources:\n  local: {{ file: {{ path: services/ }} }}\n  \
         shop: {{ etcd: {{ endpoints: ['http://{etcd}'], prefix: {PREFIX}, layout: auto, reconcile: 1s }} }}\n"
    );
    let server = Leadsman::launch_in(own, &sources);
    keep_logs(directory);
    let http = Http::new();
    eventually(SOON, "leadsman to be ready", async || {
        match http.get(server.admin(), "/readyz").await {
            Ok(answer) if answer.status.is_success() => Ok(()),
            Ok(answer) => Err(answer.text()),
            Err(error) => Err(format!("{error:#}")),
        }
    })
    .await?;
    let version = leadsman::run(&["version"]);
    let version = String::from_utf8_lossy(&version.stdout).trim().to_owned();
    screen.fact(
        "leadsman serve",
        &format!("{version}, xDS on {}, admin on {}", server.xds(), server.admin()),
    );
    screen.fact("sources", &format!("local: files, shop: etcd below {PREFIX}"));
    Ok(server)
}

async fn start_envoy(
    screen: &mut Screen,
    directory: &Path,
    leadsman: &Leadsman,
) -> anyhow::Result<(Envoy, SocketAddr)> {
    let module = built("../wasm32-wasip1/wasm/leadsman_filter.wasm", "make wasm").canonicalize()?;
    let size = fs::metadata(&module)?.len();
    let ingress = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let mut bootstrap = leadsman.bootstrap(NODE, free_port());
    ingress::add(&mut bootstrap, ingress.port(), &module)?;
    let mut envoy = Envoy::launch(&bootstrap, WORKERS);
    keep_logs(directory);
    let (admin, http) = (envoy.admin(), Http::new());
    eventually(SOON, "Envoy to be ready", async || {
        match http.get(admin, "/ready").await {
            Ok(answer) if answer.status.is_success() => Ok(()),
            Ok(answer) => Err(answer.text()),
            Err(error) if envoy.process().is_running() => Err(format!("{error:#}")),
            Err(error) => Err(format!("{error:#}; it has ended: {}", envoy.log())),
        }
    })
    .await?;
    let info: Value = serde_json::from_slice(&http.get(admin, "/server_info").await?.body)?;
    let version = text(&info["version"]).split('/').nth(1).unwrap_or("?").to_owned();
    screen.fact(
        "Envoy",
        &format!("{version}, ingress on {ingress}, admin on {admin}, {WORKERS} workers"),
    );
    screen.fact(
        "filter",
        &format!(
            "leadsman_filter.wasm, {} KB, as trace filter, access log and upstream_log",
            size / 1024
        ),
    );
    Ok((envoy, ingress))
}

async fn check_connection(screen: &mut Screen, world: &World) -> anyhow::Result<()> {
    let proxies = world.leadsman.api("/api/v1/proxies").await;
    let mut all = proxies.as_array().into_iter().flatten();
    let own = all.find(|proxy| proxy["node_id"] == NODE);
    let own = own.with_context(|| format!("expected {NODE} among the connected proxies, saw {proxies}"))?;
    screen.fact(
        "connected proxy",
        &format!("{} as {}", text(&own["id"]), text(&own["user_agent"])),
    );
    Ok(())
}

/// What only a file says is already routed.
async fn check_catalog(screen: &mut Screen, world: &World, catalog: SocketAddr) -> anyhow::Result<()> {
    let hosts = world.envoy.hosts("catalog").await;
    expect(
        hosts.keys().eq([&catalog]),
        &format!("the host {catalog} of services/catalog.yaml in Envoy"),
        &format!("{hosts:?}"),
    )?;
    let answer = world.http.get(world.ingress, "/catalog/1").await?;
    let by = answer.header(BACKEND_HEADER).unwrap_or("nobody").to_owned();
    expect(
        answer.status.is_success() && by == "catalog-1",
        "an answer of catalog-1",
        &format!("{} by {by}", answer.status),
    )?;
    screen.fact(
        "GET /catalog/1",
        &format!("{} by {by}, from services/catalog.yaml", answer.status),
    );
    Ok(())
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or("?").to_owned()
}

//! `leadsman register`, as a service's own process would be started with it.

use std::process::Command;
use std::time::Duration;

use http::Method;
use leadsman_tests::etcd::{Etcd, Version};
use leadsman_tests::instance::Instance;
use leadsman_tests::leadsman::{binary, run};
use leadsman_tests::process::Process;
use leadsman_tests::proxy::Proxy;
use leadsman_tests::registrar::{LASTING, path};
use leadsman_tests::wait::{PATIENT, throughout, until};
use tempfile::TempDir;

use super::world::World;

fn register(world: &World, name: &str, flags: &[&str]) -> Process {
    let mut command = Command::new(binary());
    command
        .args(["register", "orders", "--server", &world.url()])
        .args(flags);
    Process::spawn(name, command, world.leadsman.directory())
}

async fn says(process: &Process, text: &str) {
    until(PATIENT, text, async || process.log().contains(text)).await;
}

async fn becomes(world: &World, members: &[(&str, &str)]) {
    until(PATIENT, &format!("{members:?}"), async || {
        let seen = world.members("orders").await;
        seen.iter()
            .map(|(a, h)| (a.as_str(), h.as_str()))
            .eq(members.iter().copied())
    })
    .await;
}

/// The lines without the numbers that differ from run to run.
fn lines(process: &Process) -> Vec<String> {
    let log = process.log();
    log.lines()
        .map(|line| line.split(" version=").next().unwrap_or(line).to_owned())
        .collect()
}

#[tokio::test]
async fn an_instance_is_registered_for_as_long_as_the_command_runs() {
    let world = World::start().await;
    let flags = [
        "--address",
        "127.0.0.1:9001",
        "--weight",
        "50",
        "--ttl",
        "2s",
        "--metadata",
        "version=v2",
        "--zone",
        "a",
        "--drain",
        "1h",
    ];
    let mut process = register(&world, "register", &flags);
    becomes(&world, &[("127.0.0.1:9001", "healthy")]).await;
    let shown = world
        .registrar
        .insist(Method::GET, "/v1/services/orders/instances/127.0.0.1:9001", None)
        .await;
    assert_eq!(shown["endpoint"]["weight"], 50.0);
    assert_eq!(
        (
            &shown["endpoint"]["metadata"]["version"],
            &shown["endpoint"]["locality"]["zone"]
        ),
        (&"v2".into(), &"a".into())
    );
    process.signal(rustix::process::Signal::TERM);
    // It is drained for as long as it likes, and stays registered meanwhile.
    becomes(&world, &[("127.0.0.1:9001", "draining")]).await;
    let version = |shown: &serde_json::Value| shown["version"].as_u64();
    let drained = world
        .registrar
        .insist(Method::GET, "/v1/services/orders/instances/127.0.0.1:9001", None)
        .await;
    assert!(version(&drained) > version(&shown));
    // Who can't wait says it twice.
    assert_eq!(process.terminate().code(), Some(0));
    becomes(&world, &[]).await;
    let orders = "orders/127.0.0.1:9001";
    assert_eq!(
        lines(&process),
        [
            format!("registered {orders}"),
            format!("drained {orders}"),
            format!("deregistered {orders}")
        ]
    );
}

#[tokio::test]
async fn a_command_that_is_ended_while_it_registers_leaves_nothing_behind() {
    let world = World::start().await;
    let slow = Proxy::start(world.registrar.address).await;
    slow.delay(Duration::from_millis(500));
    let mut command = Command::new(binary());
    let url = format!("http://{}", slow.address());
    command.args(["register", "orders", "--address", "127.0.0.1:9001", "--drain", "0s"]);
    command.args(["--ttl", "1h", "--server", &url]);
    let mut process = Process::spawn("register", command, world.leadsman.directory());
    // The answer is still on its way.
    becomes(&world, &[("127.0.0.1:9001", "healthy")]).await;
    process.signal(rustix::process::Signal::TERM);
    becomes(&world, &[]).await;
    until(PATIENT, "its end", async || !process.is_running()).await;
    assert_eq!(process.wait(PATIENT).code(), Some(0));
    assert_eq!(
        lines(&process).last().map(String::as_str),
        Some("deregistered orders/127.0.0.1:9001")
    );
}

#[tokio::test]
async fn a_registry_that_lost_everything_is_told_again() {
    let mut world = World::start().await;
    let process = register(&world, "register", &["--address", "127.0.0.1:9001", "--ttl", "3s"]);
    says(&process, "registered orders").await;
    world.leadsman.process().kill();
    std::fs::remove_dir_all(world.store()).unwrap();
    says(&process, "trying again").await;
    world.leadsman.restart();
    says(&process, "registered again orders").await;
    becomes(&world, &[("127.0.0.1:9001", "healthy")]).await;
}

#[tokio::test]
async fn a_replica_that_dies_is_replaced_by_the_next_one() {
    let etcd = Etcd::start(Version::V36).await;
    let store = format!(
        "store: {{ etcd: {{ endpoints: ['http://{}'], prefix: /leadsman/ }} }}",
        etcd.address()
    );
    let mut one = World::start_in(TempDir::new().unwrap(), &store).await;
    let other = World::start_in(TempDir::new().unwrap(), &store).await;
    let both = format!("{},{}", one.url(), other.url());
    let mut command = Command::new(binary());
    command.args([
        "register",
        "orders",
        "--address",
        "127.0.0.1:9001",
        "--ttl",
        "2s",
        "--server",
        &both,
    ]);
    let mut process = Process::spawn("register", command, other.leadsman.directory());
    says(&process, "registered orders").await;
    one.leadsman.process().kill();
    becomes(&other, &[("127.0.0.1:9001", "healthy")]).await;
    // Twice the life of the lease.
    throughout(Duration::from_secs(5), "the instance", async || {
        other.members("orders").await.len() == 1
    })
    .await;
    process.signal(rustix::process::Signal::TERM);
    becomes(&other, &[("127.0.0.1:9001", "draining")]).await;
    assert_eq!(process.terminate().code(), Some(0));
    becomes(&other, &[]).await;
}

#[tokio::test]
async fn an_id_that_is_given_twice_ends_the_first_command_and_not_the_instance() {
    let world = World::start().await;
    let flags = |address| ["--address", address, "--id", "one", "--ttl", "1s"];
    let mut first = register(&world, "first", &flags("127.0.0.1:9001"));
    says(&first, "registered orders/one").await;
    let mut second = register(&world, "second", &flags("127.0.0.1:9002"));
    assert_eq!(first.wait(PATIENT).code(), Some(1));
    assert!(
        first.log().contains("give each instance an id of its own"),
        "{}",
        first.log()
    );
    becomes(&world, &[("127.0.0.1:9002", "healthy")]).await;
    assert!(second.is_running());
    assert_eq!(second.terminate().code(), Some(0));
}

#[tokio::test]
async fn an_instance_that_somebody_drains_stays_drained_and_one_that_somebody_removes_comes_back() {
    let world = World::start().await;
    let process = register(
        &world,
        "register",
        &["--address", "127.0.0.1:9001", "--id", "9001", "--ttl", "1s"],
    );
    says(&process, "registered orders").await;
    world.registrar.drain("orders", 9001).await;
    says(&process, "drained orders").await;
    becomes(&world, &[("127.0.0.1:9001", "draining")]).await;
    world
        .registrar
        .insist(Method::DELETE, &format!("{}/draining", path("orders", 9001)), None)
        .await;
    says(&process, "back in service orders").await;
    world.registrar.remove("orders", 9001).await;
    says(&process, "registered again orders").await;
    becomes(&world, &[("127.0.0.1:9001", "healthy")]).await;
}

#[tokio::test]
async fn what_can_not_be_registered_is_said_with_an_exit_code() {
    let directory = TempDir::new().unwrap();
    std::fs::write(
        directory.path().join("tokens.yaml"),
        "tokens: [{ name: shop, token: shop-0123456789abcdef, namespaces: [orders] }]\n",
    )
    .unwrap();
    let token = directory.path().join("token");
    std::fs::write(&token, "shop-0123456789abcdef\n").unwrap();
    let token = token.to_str().unwrap().to_owned();
    let world = World::start_in(directory, "tokens: tokens.yaml").await;
    let url = world.url();
    let ends = |service: &str, flags: &[&str]| {
        let line = [
            &["register", service, "--server", &url, "--address", "127.0.0.1:9001"][..],
            flags,
        ]
        .concat();
        let output = run(&line);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), said)
    };
    let with_token = ["--token-file", token.as_str()];
    let (code, said) = ends("orders", &[]);
    assert!(
        code == Some(77) && said.contains("a token is needed"),
        "{code:?}: {said}"
    );
    let (code, said) = ends("users", &with_token);
    assert!(
        code == Some(77) && said.contains("is not for users"),
        "{code:?}: {said}"
    );
    assert_eq!(ends("orders", &["--token-file", "/nowhere"]).0, Some(77));
    let (code, said) = ends("orders", &[&with_token[..], &["--weight=-1"]].concat());
    assert!(code == Some(65) && said.contains("negative"), "{code:?}: {said}");
    assert_eq!(
        ends("orders", &[&with_token[..], &["--ttl", "25h"]].concat()).0,
        Some(65)
    );
    assert_eq!(ends("orders", &["--ttl", "1500ms"]).0, Some(64));
    assert_eq!(ends("orders", &["--health", "up"]).0, Some(64));
    let mut good = register(
        &world,
        "register",
        &[&["--address", "127.0.0.1:9001"][..], &with_token].concat(),
    );
    says(&good, "registered orders").await;
    assert!(good.is_running());
    let other = world.registrar.with_token("shop-0123456789abcdef");
    other.put("orders", Instance::new(9002), LASTING).await;
}

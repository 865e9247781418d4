//! What can become of the directory of the embedded store: death in the middle, damage, theft, fullness.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::Method;
use leadsman_core::model::Evidence;
use leadsman_registry::SourceState;
use leadsman_registry::own::{Config, Embedded, Own, Store};
use leadsman_tests::contract::{Subject, state};
use leadsman_tests::http::Answer;
use leadsman_tests::instance::Instance;
use leadsman_tests::judged::{Data, Judged};
use leadsman_tests::leadsman::binary;
use leadsman_tests::observed::{Note, Observed};
use leadsman_tests::process::{Process, free_port};
use leadsman_tests::registrar::{LASTING, Registrar, body, path};
use leadsman_tests::rigs::registry::{self, newest};
use leadsman_tests::seed;
use leadsman_tests::wait::{PATIENT, until, until_ok};
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use tempfile::TempDir;
use tokio::task::JoinSet;

use super::world::World;

/// Versions by instance, as the registry promised them.
type Promised = Arc<Mutex<BTreeMap<u16, u64>>>;

/// Registers instances as fast as it can, each again and again, until the registry dies.
async fn register_until_the_end(registrar: Registrar, ports: std::ops::Range<u16>, promised: Promised) {
    for round in 1_u32.. {
        for port in ports.clone() {
            let body = body(Instance::new(port).weighing(round.into()), LASTING);
            let Ok(answer) = registrar.call(Method::PUT, &path("orders", port), Some(body)).await else {
                return;
            };
            if !answer.status.is_success() {
                return;
            }
            let receipt: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
            promised
                .lock()
                .unwrap()
                .insert(port, receipt["version"].as_u64().unwrap());
        }
    }
}

#[tokio::test]
async fn whatever_was_promised_survives_a_death_at_any_moment() {
    let mut world = World::start().await;
    let mut random = seed::rng();
    let promised = Promised::default();
    for _ in 0..5 {
        let before: u64 = promised.lock().unwrap().values().sum();
        let mut writers = JoinSet::new();
        for writer in 0..4 {
            let ports = writer * 10 + 1..writer * 10 + 11;
            writers.spawn(register_until_the_end(world.registrar.clone(), ports, promised.clone()));
        }
        let enough = before + random.u64(50..2000);
        until(PATIENT, "some registrations", async || {
            promised.lock().unwrap().values().sum::<u64>() > enough
        })
        .await;
        world.leadsman.process().kill();
        writers.join_all().await;
        world.leadsman.restart();
        let list = world
            .registrar
            .insist(Method::GET, "/v1/services/orders/instances", None)
            .await;
        let kept: BTreeMap<u16, u64> = list["instances"]
            .as_array()
            .unwrap()
            .iter()
            .map(|i| {
                (
                    i["id"].as_str().unwrap().parse().unwrap(),
                    i["version"].as_u64().unwrap(),
                )
            })
            .collect();
        for (port, version) in promised.lock().unwrap().iter() {
            // What was written and not answered may be there as well.
            let found = kept.get(port).copied().unwrap_or_default();
            assert!(found >= *version, "{port}: promised {version}, found {found}");
        }
        let revision = list["revision"].as_u64().unwrap();
        assert!(kept.values().all(|version| *version <= revision), "{list}");
    }
    assert_eq!(world.source().await["state"], "live");
}

#[tokio::test]
async fn a_damaged_line_costs_one_instance_which_is_told_to_come_again() {
    let mut rig = registry::Embedded::start().await;
    let instances: Vec<Instance> = (1..=5).map(Instance::new).collect();
    for instance in &instances {
        rig.put("orders", *instance).await;
    }
    // Each change was the first of a life, and each life begins by reading: all are in one file.
    let file = rig.file();
    let mut bytes = fs::read(&file).unwrap();
    let place = String::from_utf8_lossy(&bytes).find(r#""id":"3""#).unwrap();
    bytes[place] ^= 1;
    fs::write(&file, &bytes).unwrap();
    let observed = rig.observe();
    let others: Vec<Instance> = instances.iter().filter(|i| i.port != 3).copied().collect();
    observed.becomes(&state(&[("orders", &others)])).await;
    observed.enters(&[SourceState::Degraded]).await;
    let heard = observed.heard();
    let doubt = |note: &Note| matches!(note, Note::Resync { evidence: Evidence::Partial { why }, .. } if why.contains("1 lines of"));
    assert!(heard.notes.iter().any(doubt), "{:?}", heard.notes);
    assert_eq!(heard.unattributed, 1);
    let aside: Vec<_> = fs::read_dir(rig.store())
        .unwrap()
        .flatten()
        .map(|f| f.file_name())
        .collect();
    assert!(
        aside.iter().any(|name| name.to_string_lossy().starts_with("damaged-")),
        "{aside:?}"
    );
    let third = path("orders", 3);
    let lost = rig
        .registrar()
        .ask(Method::PUT, &format!("{third}/lease/00000000000000ab"), None)
        .await;
    assert_eq!(lost.0, 404, "{}", lost.1);
    rig.put("orders", Instance::new(3)).await;
    observed.becomes(&state(&[("orders", &instances)])).await;
    rig.end(observed).await;
    let observed = rig.observe();
    observed.becomes(&state(&[("orders", &instances)])).await;
    observed.enters(&[SourceState::Live]).await;
}

#[tokio::test]
async fn doubt_ends_when_everybody_alive_has_been_heard() {
    let rig = registry::Embedded::start().await;
    let observed = rig.observe();
    rig.registrar().put("orders", Instance::new(1), 2).await;
    rig.registrar().put("orders", Instance::new(2), 2).await;
    rig.end(observed).await;
    let file = rig.file();
    let mut bytes = fs::read(&file).unwrap();
    let place = String::from_utf8_lossy(&bytes).find(r#""id":"1""#).unwrap();
    bytes[place] ^= 1;
    fs::write(&file, bytes).unwrap();
    let observed = rig.observe();
    observed.enters(&[SourceState::Degraded]).await;
    observed.enters(&[SourceState::Live]).await;
    assert_eq!(observed.status().counters.sessions, 1);
}

#[tokio::test]
async fn damage_on_the_disk_of_a_running_registry_is_found_and_mended() {
    let rig = registry::Embedded::start().await;
    let store = Store::embedded(Embedded {
        reconcile: Duration::from_millis(300),
        ..Embedded::new(rig.store())
    });
    let observed = Observed::start(Own::new(Config { store, ..rig.config() }));
    let one = Instance::new(9001);
    rig.registrar().put("orders", one, LASTING).await;
    observed
        .status_becomes("a reconcile", |status| status.counters.reconciles > 0)
        .await;
    assert_eq!(observed.status().counters.reconcile_drift, 0);
    let file = rig.file();
    let mut bytes = fs::read(&file).unwrap();
    let place = String::from_utf8_lossy(&bytes).find("9001").unwrap();
    bytes[place] ^= 1;
    fs::write(&file, bytes).unwrap();
    observed
        .status_becomes("the damage", |status| status.counters.reconcile_drift > 0)
        .await;
    observed.becomes(&state(&[("orders", &[one])])).await;
    until(PATIENT, "a new file", async || newest(&rig.store()) != file).await;
    rig.end(observed).await;
    let observed = rig.observe();
    observed.becomes(&state(&[("orders", &[one])])).await;
    let complete = |note: &Note| {
        matches!(
            note,
            Note::Resync {
                evidence: Evidence::Complete,
                ..
            }
        )
    };
    assert!(
        observed.heard().notes.iter().all(complete),
        "{:?}",
        observed.heard().notes
    );
}

#[tokio::test]
async fn a_store_that_comes_back_empty_is_a_new_epoch() {
    let mut rig = registry::Embedded::start().await;
    let one = Instance::new(9001);
    rig.put("orders", one).await;
    let observed = rig.observe();
    observed.becomes(&state(&[("orders", &[one])])).await;
    rig.stop().await;
    observed.enters(&[SourceState::Degraded]).await;
    // Who comes meanwhile is told why it has to wait.
    let (status, answer) = rig.registrar().ask(Method::GET, "/v1/instances", None).await;
    assert_eq!(
        (status, answer["code"].as_str()),
        (503, Some("unavailable")),
        "{answer}"
    );
    rig.start_again(Data::Lost).await;
    observed.becomes(&state(&[])).await;
    let notes = observed.heard().notes;
    let last = notes.last();
    let epoch = matches!(
        last,
        Some(Note::Resync {
            evidence: Evidence::NewEpoch { .. },
            ..
        })
    );
    assert!(epoch, "{notes:?}");
}

#[tokio::test]
async fn a_second_writer_waits_for_the_first() {
    let rig = registry::Embedded::start().await;
    let first = rig.observe();
    let one = Instance::new(9001);
    rig.registrar().put("orders", one, LASTING).await;
    let address = ([127, 0, 0, 1], free_port()).into();
    let second = Observed::start(Own::new(Config {
        listen: address,
        ..rig.config()
    }));
    second
        .status_becomes("its reason", |status| {
            status
                .last_error
                .as_ref()
                .is_some_and(|error| error.contains("in use by another process"))
        })
        .await;
    let refused = Registrar::new(address).ask(Method::GET, "/v1/instances", None).await;
    assert!(
        refused.0 == 503 && refused.1["error"].to_string().contains("in use"),
        "{}",
        refused.1
    );
    assert_eq!(second.heard().notes, []);
    drop(first);
    second.becomes(&state(&[("orders", &[one])])).await;
    second.enters(&[SourceState::Live]).await;
}

/// A leadsman whose files may not grow beyond a limit, which a parent may raise: a disk that is full, and is not any more.
fn limited(directory: &TempDir, address: std::net::SocketAddr, admin: u16, bytes: u64) -> Process {
    let config = format!(
        "xds: {{ listen: '127.0.0.1:{}' }}\nadmin: {{ listen: '127.0.0.1:{admin}' }}\n\
         sources: {{ own: {{ registry: {{ listen: '{address}' }} }} }}\n",
        free_port()
    );
    fs::write(directory.path().join("leadsman.yaml"), config).unwrap();
    let mut command = Command::new("sh");
    let blocks = bytes / 512;
    command
        // Without the trap, the signal of a file that is too large would end the process.
        .args([
            "-c",
            &format!("trap '' XFSZ; ulimit -S -f {blocks}; exec \"$0\" serve --log warn"),
            binary().to_str().unwrap(),
        ])
        .current_dir(directory.path());
    Process::spawn("leadsman", command, directory.path())
}

/// Registers until there is no room left: how many are registered, and the answer to the next.
async fn fill(registrar: &Registrar) -> (u16, Answer) {
    let mut registered = 0;
    loop {
        let wish = body(Instance::new(registered + 1), LASTING);
        let answer = until_ok(PATIENT, "an answer", async || {
            registrar
                .call(Method::PUT, &path("orders", registered + 1), Some(wish.clone()))
                .await
        })
        .await;
        if answer.status == http::StatusCode::SERVICE_UNAVAILABLE && registered > 0 {
            return (registered, answer);
        }
        if answer.status.is_success() {
            registered += 1;
        }
        assert!(registered < 1000, "the disk is never full");
    }
}

#[tokio::test]
async fn a_full_disk_costs_new_registrations_and_nothing_else() {
    const LIMIT: u64 = 32 * 1024;
    let directory = TempDir::new().unwrap();
    let address = ([127, 0, 0, 1], free_port()).into();
    let admin = free_port();
    let process = limited(&directory, address, admin, LIMIT);
    let registrar = Registrar::new(address);
    let (registered, refused) = fill(&registrar).await;
    assert!(refused.text().contains("try again"), "{}", refused.text());
    // Whoever is registered stays so, and can be renewed and read, also while others knock.
    let first = path("orders", 1);
    for _ in 0..5 {
        let (status, answer) = registrar
            .ask(
                Method::PUT,
                &path("orders", 999),
                Some(body(Instance::new(999), LASTING)),
            )
            .await;
        assert_eq!(status, 503, "{answer}");
        let (status, answer) = registrar
            .ask(Method::PUT, &first, Some(body(Instance::new(1), LASTING)))
            .await;
        assert_eq!((status, answer["changed"].as_bool()), (200, Some(false)), "{answer}");
    }
    let list = registrar
        .insist(Method::GET, "/v1/services/orders/instances", None)
        .await;
    assert_eq!(
        list["instances"].as_array().map(Vec::len),
        Some(registered.into()),
        "{}",
        process.log()
    );
    let pid = Pid::from_raw(process.id().cast_signed());
    let more = Rlimit {
        current: Some(LIMIT * 100),
        maximum: None,
    };
    prlimit(pid, Resource::Fsize, more).unwrap();
    registrar.put("orders", Instance::new(registered + 1), LASTING).await;
    let list = registrar
        .insist(Method::GET, "/v1/services/orders/instances", None)
        .await;
    assert_eq!(
        list["instances"].as_array().map(Vec::len),
        Some(usize::from(registered) + 1)
    );
}

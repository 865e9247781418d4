//! The source against real directories and the real watch, under the real supervisor.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;

use leadsman_core::model::SourceName;
use tempfile::TempDir;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use super::*;
use crate::contract::{SourceEvent, SourceState, SourceStatus, StatusReader};
use crate::session::{SuperviseOptions, supervise};

/// Far beyond what any of this takes, the safety scan and the backoff included.
const DEADLINE: Duration = Duration::from_secs(30);

/// The source, supervised, and what a controller would hold of it.
struct Harness {
    task: JoinHandle<()>,
    events: mpsc::Receiver<SourceEvent>,
    status: StatusReader,
    /// Addresses by service.
    held: BTreeMap<String, Vec<String>>,
    /// Every event in a short form, but for reconciles without drift, which come with time.
    log: Vec<String>,
}

#[tokio::test]
async fn files_come_change_and_go() {
    let root = TempDir::new().unwrap();
    put(root.path(), "a.yaml", &service("a", &[1]));
    let mut harness = start(root.path());
    harness.until(|h| h.log.len() == 1).await;

    put(root.path(), "b.yaml", &service("b", &[1, 2]));
    harness.until(|h| h.log.len() == 2).await;
    put(root.path(), "a.yaml", &service("a", &[3]));
    harness.until(|h| h.log.len() == 3).await;
    fs::remove_file(root.path().join("b.yaml")).unwrap();
    harness.until(|h| h.log.len() == 4).await;

    assert_eq!(harness.log, ["resync [a]", "apply b", "apply a", "delete b"]);
    assert_eq!(harness.held, held(&[("a", &[3])]));
    assert_eq!(harness.state(), SourceState::Live);
}

#[tokio::test]
async fn a_broken_file_keeps_its_services_and_siblings_go_on() {
    let root = TempDir::new().unwrap();
    put(root.path(), "a.yaml", &service("a", &[1]));
    put(root.path(), "b.yaml", &service("b", &[1]));
    let mut harness = start(root.path());
    harness.until(|h| h.log.len() == 1).await;

    put(root.path(), "a.yaml", "service: a\nendpoints:\n  - adress: 127.0.0.1\n");
    harness.until(|h| h.log.len() == 2).await;
    assert_eq!(harness.state(), SourceState::Degraded);
    put(root.path(), "b.yaml", &service("b", &[2]));
    harness.until(|h| h.log.len() == 3).await;
    assert_eq!(harness.held, held(&[("a", &[1]), ("b", &[2])]));
    put(root.path(), "a.yaml", &service("a", &[1]));
    harness.until(|h| h.log.len() == 4).await;
    assert_eq!(harness.state(), SourceState::Live);

    // Deleting a broken file is as explicit as deleting a good one.
    put(root.path(), "a.yaml", "service: [");
    harness.until(|h| h.log.len() == 5).await;
    fs::remove_file(root.path().join("a.yaml")).unwrap();
    harness.until(|h| h.log.len() == 7).await;

    assert!(harness.log.remove(4).starts_with("impaired a.yaml:1:10: "));
    assert_eq!(
        harness.log,
        [
            "resync [a, b]",
            "impaired a.yaml:3:5: unknown key `adress`, did you mean `address`?",
            "apply b",
            "mended",
            "delete a",
            "mended",
        ]
    );
}

#[tokio::test]
async fn a_file_broken_at_the_start_does_not_stop_the_others() {
    let root = TempDir::new().unwrap();
    put(root.path(), "a.yaml", "service: a\n");
    put(root.path(), "b.yaml", &service("b", &[1]));
    let mut harness = start(root.path());
    harness.until(|h| h.log.len() == 2).await;
    put(root.path(), "a.yaml", &service("a", &[1]));
    harness.until(|h| h.log.len() == 4).await;
    assert_eq!(
        harness.log,
        [
            "partial resync [b]",
            "impaired a.yaml:1:10: this service has no list of `endpoints`; \
             write `endpoints: []` if it is meant to have none",
            "apply a",
            "mended",
        ]
    );
}

#[tokio::test]
async fn an_empty_file_is_a_file_being_written() {
    let root = TempDir::new().unwrap();
    put(root.path(), "a.yaml", &service("a", &[1]));
    let mut harness = start(root.path());
    harness.until(|h| h.log.len() == 1).await;
    let mut file = fs::File::create(root.path().join("a.yaml")).unwrap();
    harness.until(|h| h.log.len() == 2).await;
    assert_eq!(harness.held, held(&[("a", &[1])]));
    file.write_all(service("a", &[2]).as_bytes()).unwrap();
    drop(file);
    harness.until(|h| h.log.len() == 4).await;
    assert_eq!(
        harness.log,
        [
            "resync [a]",
            "impaired a.yaml: the file is empty; delete the file to remove its services",
            "apply a",
            "mended"
        ]
    );
}

#[tokio::test]
async fn a_config_map_swap_is_one_change() {
    let root = TempDir::new().unwrap();
    let config_map = root.path().join("config-map");
    for (version, ports) in [("..1", [1]), ("..2", [2])] {
        fs::create_dir_all(config_map.join(version)).unwrap();
        put(&config_map.join(version), "a.yaml", &service("a", &ports));
        put(&config_map.join(version), "b.yaml", &service("b", &[9]));
    }
    symlink("..1", config_map.join("..data")).unwrap();
    for name in ["a.yaml", "b.yaml"] {
        symlink(format!("..data/{name}"), config_map.join(name)).unwrap();
    }
    let mut harness = start(&config_map);
    harness.until(|h| h.log.len() == 1).await;
    assert_eq!(harness.held, held(&[("a", &[1]), ("b", &[9])]));

    symlink("..2", config_map.join("..data_tmp")).unwrap();
    fs::rename(config_map.join("..data_tmp"), config_map.join("..data")).unwrap();
    fs::remove_dir_all(config_map.join("..1")).unwrap();
    harness.until(|h| h.log.len() == 2).await;
    assert_eq!(harness.log, ["resync [a, b]", "apply a"]);
    assert_eq!(harness.held, held(&[("a", &[2]), ("b", &[9])]));
}

#[tokio::test]
async fn a_removed_directory_keeps_everything_and_is_found_again() {
    let root = TempDir::new().unwrap();
    let services = root.path().join("services");
    fs::create_dir(&services).unwrap();
    put(&services, "a.yaml", &service("a", &[1]));
    let mut harness = start(&services);
    harness.until(|h| h.log.len() == 1).await;

    // In one step, as an unmount does it: emptying the directory first would be a removal of its services.
    fs::rename(&services, root.path().join("away")).unwrap();
    harness
        .until(|h| {
            h.status
                .borrow()
                .last_error
                .as_deref()
                .is_some_and(|e| e.contains("does not exist"))
        })
        .await;
    assert_eq!(harness.state(), SourceState::Degraded);
    assert_eq!(harness.log, ["resync [a]"]);

    fs::rename(root.path().join("away"), &services).unwrap();
    harness.until(|h| h.log.len() == 2).await;
    put(&services, "a.yaml", &service("a", &[2]));
    harness.until(|h| h.log.len() == 3).await;
    assert_eq!(harness.log, ["resync [a]", "resync [a]", "apply a"]);
    assert_eq!(harness.state(), SourceState::Live);
}

#[tokio::test]
async fn a_replaced_directory_is_watched_in_place_of_the_old_one() {
    let root = TempDir::new().unwrap();
    let (first, second) = (root.path().join("first"), root.path().join("second"));
    for (directory, port) in [(&first, 1), (&second, 2)] {
        fs::create_dir(directory).unwrap();
        put(directory, "a.yaml", &service("a", &[port]));
    }
    let current = root.path().join("current");
    symlink(&first, &current).unwrap();
    let mut harness = start(&current);
    harness.until(|h| h.log.len() == 1).await;

    symlink(&second, root.path().join("next")).unwrap();
    fs::rename(root.path().join("next"), &current).unwrap();
    harness.until(|h| h.log.len() == 2).await;
    put(&second, "a.yaml", &service("a", &[3]));
    harness.until(|h| h.log.len() == 3).await;
    put(&first, "b.yaml", &service("b", &[1]));
    put(&second, "c.yaml", &service("c", &[1]));
    harness.until(|h| h.log.len() == 4).await;
    assert_eq!(harness.log, ["resync [a]", "apply a", "apply a", "apply c"]);
    assert_eq!(harness.held, held(&[("a", &[3]), ("c", &[1])]));
}

#[tokio::test]
async fn a_change_the_watch_can_not_see_is_found_counted_and_healed() {
    let root = TempDir::new().unwrap();
    let (services, elsewhere) = (root.path().join("services"), root.path().join("elsewhere"));
    fs::create_dir(&services).unwrap();
    fs::create_dir(&elsewhere).unwrap();
    put(&elsewhere, "a.yaml", &service("a", &[1]));
    symlink(elsewhere.join("a.yaml"), services.join("a.yaml")).unwrap();
    let mut harness = start(&services);
    harness.until(|h| h.log.len() == 1).await;

    put(&elsewhere, "a.yaml", &service("a", &[2]));
    harness.until(|h| h.log.len() == 3).await;
    assert_eq!(harness.log, ["resync [a]", "reconciled 1", "resync [a]"]);
    assert_eq!(harness.held, held(&[("a", &[2])]));
    assert_eq!(harness.status.borrow().counters.reconcile_drift, 1);
    assert_eq!(harness.state(), SourceState::Live);
}

#[tokio::test]
async fn the_safety_scan_leaves_a_change_that_was_announced_to_the_watch() {
    let root = TempDir::new().unwrap();
    put(root.path(), "a.yaml", &service("a", &[1, 2]));
    let source = SourceName::new("local").unwrap();
    let (events, mut receiver) = mpsc::channel(16);
    let (status, _reader) = watch::channel(SourceStatus::new(source.clone(), "file"));
    let events = EventSender::new(source, events, Arc::new(status));
    let mut file = File::new(Config {
        path: root.path().to_owned(),
    });
    let mut session = Session {
        file: &mut file,
        events: &events,
        announcements: Arc::default(),
        watched: None,
    };
    session.begin().await.unwrap();
    assert!(matches!(receiver.try_recv().unwrap().event, Event::Resync { .. }));

    // A writer is halfway when the scan comes by: the first file stands already, the second does not.
    put(root.path(), "a.yaml", &service("a", &[1]));
    let deadline = Instant::now() + DEADLINE;
    while !session.announcements.soon().await {
        assert!(Instant::now() < deadline, "nothing was announced");
    }
    session.reconcile().await.unwrap();
    assert!(receiver.try_recv().is_err(), "half of a change was said");

    put(
        root.path(),
        "b.yaml",
        "service: a\nendpoints: [{ address: 127.0.0.1, port: 2, weight: 5 }]",
    );
    session.announcements.quiet().await;
    session.follow().await.unwrap();
    let event = receiver.try_recv().unwrap().event;
    assert!(
        matches!(&event, Event::Apply { service, .. } if service.endpoints.len() == 2),
        "{event:?}"
    );
    assert!(receiver.try_recv().is_err());
}

#[tokio::test]
async fn nothing_is_said_while_nothing_changes() {
    let root = TempDir::new().unwrap();
    put(root.path(), "a.yaml", &service("a", &[1]));
    let mut harness = start(root.path());
    harness.until(|h| h.status.borrow().counters.reconciles == 1).await;
    put(root.path(), "a.yaml", &service("a", &[1]));
    put(root.path(), ".hidden.yaml", &service("hidden", &[1]));
    put(root.path(), "notes.txt", "nothing");
    harness.until(|h| h.status.borrow().counters.reconciles == 2).await;
    assert_eq!(harness.log, ["resync [a]"]);
    let status = harness.status.borrow().clone();
    assert_eq!((status.state, status.counters.reconcile_drift), (SourceState::Live, 0));
}

#[tokio::test]
async fn a_path_that_is_a_file_is_a_mistake_in_the_configuration() {
    let root = TempDir::new().unwrap();
    put(root.path(), "a.yaml", &service("a", &[1]));
    let mut harness = start(&root.path().join("a.yaml"));
    harness.until(|h| h.status.borrow().last_error.is_some()).await;
    let status = harness.status.borrow().clone();
    assert_eq!(status.state, SourceState::Connecting);
    let error = status.last_error.unwrap();
    assert!(
        error.ends_with("the directory that holds the YAML files, not one of them"),
        "{error}"
    );
    assert_eq!(harness.log, Vec::<String>::new());
}

#[test]
fn the_configuration_is_a_path_and_nothing_else() {
    let config: Config = serde_saphyr::from_str("path: services/").unwrap();
    assert_eq!(config.path, Path::new("services/"));
    serde_saphyr::from_str::<Config>("path: services/\npoll: 1s").unwrap_err();
    serde_saphyr::from_str::<Config>("{}").unwrap_err();
}

impl Harness {
    /// Takes events in until the condition holds.
    async fn until(&mut self, condition: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + DEADLINE;
        while !condition(self) {
            let change = async {
                tokio::select! {
                    event = self.events.recv() => event,
                    _ = self.status.changed() => None,
                }
            };
            let Ok(event) = timeout_at(deadline, change).await else {
                panic!("not in time: {:?} {:?}", self.log, *self.status.borrow());
            };
            if let Some(event) = event {
                self.take(event.event);
            }
        }
    }

    fn take(&mut self, event: Event) {
        let line = match event {
            Event::Resync { services, evidence, .. } => {
                let partly = if matches!(evidence, Evidence::Partial { .. }) {
                    "partial "
                } else {
                    ""
                };
                self.held.clear();
                for service in services {
                    self.held.insert(service.name.to_string(), addresses(&service));
                }
                let names: Vec<_> = self.held.keys().map(String::as_str).collect();
                format!("{partly}resync [{}]", names.join(", "))
            }
            Event::Apply { service, .. } => {
                self.held.insert(service.name.to_string(), addresses(&service));
                format!("apply {}", service.name)
            }
            Event::Delete { name, .. } => {
                self.held.remove(name.as_str());
                format!("delete {name}")
            }
            Event::Reconciled { drift: 0 } => return,
            Event::Reconciled { drift } => format!("reconciled {drift}"),
            Event::Impaired { reason: Some(reason) } => format!("impaired {reason}"),
            Event::Impaired { reason: None } => "mended".to_owned(),
            Event::Progress { revision } => format!("progress {revision}"),
            Event::Unattributed { rejections } => format!("unattributed {}", rejections.len()),
        };
        self.log.push(line);
    }

    fn state(&self) -> SourceState {
        self.status.borrow().state
    }
}

impl Drop for Harness {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn start(directory: &Path) -> Harness {
    let source = SourceName::new("local").unwrap();
    let (events, receiver) = mpsc::channel(16);
    let (status, reader) = watch::channel(SourceStatus::new(source.clone(), "file"));
    let registry = File::new(Config {
        path: directory.to_owned(),
    });
    let task = tokio::spawn(supervise(
        registry,
        source,
        events,
        Arc::new(status),
        SuperviseOptions::default(),
    ));
    Harness {
        task,
        events: receiver,
        status: reader,
        held: BTreeMap::new(),
        log: Vec::new(),
    }
}

/// Writes beside the directory's listing and renames, so that no test depends on how a write is cut up.
fn put(directory: &Path, name: &str, text: &str) {
    let temporary = directory.join(format!(".{name}.new"));
    fs::write(&temporary, text).unwrap();
    fs::rename(temporary, directory.join(name)).unwrap();
}

fn service(name: &str, ports: &[u16]) -> String {
    let mut text = format!("service: {name}\nendpoints:\n");
    for port in ports {
        text.push_str(&format!("  - {{ address: 127.0.0.1, port: {port} }}\n"));
    }
    text
}

fn held(services: &[(&str, &[u16])]) -> BTreeMap<String, Vec<String>> {
    let shown = |ports: &[u16]| ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
    services
        .iter()
        .map(|(name, ports)| ((*name).to_owned(), shown(ports)))
        .collect()
}

fn addresses(service: &leadsman_core::model::Service) -> Vec<String> {
    service.endpoints.iter().map(|e| e.address.to_string()).collect()
}

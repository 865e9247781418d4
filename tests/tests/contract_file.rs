//! The file source against the registry contract, and what only files can do.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use leadsman_core::model::Health;
use leadsman_registry::SourceState;
use leadsman_registry::file::{Config, File};
use leadsman_tests::contract;
use leadsman_tests::contract::{Subject, state};
use leadsman_tests::instance::{Instance, document};
use leadsman_tests::leadsman::replace;
use leadsman_tests::observed::{Note, Observed};
use tempfile::TempDir;

contract! {
    file => std::future::ready(Files::new());
}

/// A directory with one file a service.
#[derive(Debug)]
struct Files {
    root: TempDir,
    services: BTreeMap<String, BTreeMap<u16, Instance>>,
    spoilt: BTreeSet<String>,
    lost: bool,
}

impl Files {
    fn new() -> Self {
        let root = TempDir::new().unwrap();
        fs::create_dir(root.path().join("services")).unwrap();
        Self {
            root,
            services: BTreeMap::new(),
            spoilt: BTreeSet::new(),
            lost: false,
        }
    }

    /// Where the adapter looks.
    fn seen(&self) -> PathBuf {
        self.root.path().join("services")
    }

    /// Where the files are.
    fn directory(&self) -> PathBuf {
        self.root.path().join(if self.lost { "away" } else { "services" })
    }

    fn path(&self, service: &str) -> PathBuf {
        self.directory().join(format!("{service}.yaml"))
    }

    fn write(&self, service: &str) {
        let instances = self.services.get(service).into_iter().flat_map(BTreeMap::values);
        let mut content = document(service, instances.copied());
        if self.spoilt.contains(service) {
            content.push_str("  - { address: nowhere.example, port: 80 }\n");
        }
        replace(&self.path(service), &content);
    }
}

impl Subject for Files {
    type Registry = File;

    fn registry(&self) -> File {
        File::new(Config { path: self.seen() })
    }

    async fn put(&mut self, service: &str, instance: Instance) {
        let instances = self.services.entry(service.to_owned()).or_default();
        instances.insert(instance.port, instance);
        self.write(service);
    }

    async fn remove(&mut self, service: &str, port: u16) {
        let instances = self.services.entry(service.to_owned()).or_default();
        instances.remove(&port);
        if instances.is_empty() {
            fs::remove_file(self.path(service)).unwrap();
        } else {
            self.write(service);
        }
    }

    async fn spoil(&mut self, service: &str) {
        self.spoilt.insert(service.to_owned());
        self.write(service);
    }

    async fn lose(&mut self) {
        fs::rename(self.root.path().join("services"), self.root.path().join("away")).unwrap();
        self.lost = true;
    }

    async fn heal(&mut self) {
        fs::rename(self.root.path().join("away"), self.root.path().join("services")).unwrap();
        self.lost = false;
    }
}

#[tokio::test]
async fn a_file_that_breaks_keeps_what_it_said_until_it_is_whole_again() {
    let (one, two) = (Instance::new(9001), Instance::new(9002));
    let mut files = Files::new();
    files.put("orders", one).await;
    files.put("users", one).await;
    let observed = Observed::start(files.registry());
    observed.becomes(&state(&[("orders", &[one]), ("users", &[one])])).await;
    let before = observed.heard().notes.len();

    replace(
        &files.path("orders"),
        "service: orders\nendpoints:\n  - { address: 127.0.",
    );
    observed.enters(&[SourceState::Degraded]).await;
    files.put("users", two).await;
    observed
        .becomes(&state(&[("orders", &[one]), ("users", &[one, two])]))
        .await;
    files.put("orders", two).await;
    observed
        .becomes(&state(&[("orders", &[one, two]), ("users", &[one, two])]))
        .await;
    observed.enters(&[SourceState::Live]).await;

    let notes = observed.heard().notes.split_off(before);
    let [Note::Impaired(Some(reason)), rest @ ..] = notes.as_slice() else {
        panic!("{notes:?}");
    };
    assert!(reason.contains("orders.yaml"), "{reason}");
    let impaired = rest.iter().filter(|note| matches!(note, Note::Impaired(_)));
    assert_eq!(impaired.collect::<Vec<_>>(), [&Note::Impaired(None)]);
    let changes = rest.iter().filter(|note| !matches!(note, Note::Impaired(_)));
    assert_eq!(
        changes.collect::<Vec<_>>(),
        [&Note::Apply("users".into()), &Note::Apply("orders".into())]
    );
}

#[tokio::test]
async fn a_directory_that_is_swapped_behind_a_link_is_followed() {
    let (one, two) = (Instance::new(9001), Instance::new(9002).being(Health::Draining));
    let root = TempDir::new().unwrap();
    let version = |name: &str, content: &[(&str, Instance)]| {
        let directory = root.path().join(name);
        fs::create_dir(&directory).unwrap();
        for (service, instance) in content {
            let text = document(service, [*instance]);
            fs::write(directory.join(format!("{service}.yaml")), text).unwrap();
        }
        // Kubernetes swaps the link of a mounted ConfigMap in the same way.
        symlink(name, root.path().join("..data.new")).unwrap();
        fs::rename(root.path().join("..data.new"), root.path().join("..data")).unwrap();
    };
    version("v1", &[("orders", one), ("users", one)]);
    symlink("..data/orders.yaml", root.path().join("orders.yaml")).unwrap();
    symlink("..data/users.yaml", root.path().join("users.yaml")).unwrap();
    let observed = Observed::start(File::new(Config {
        path: root.path().to_owned(),
    }));
    observed.becomes(&state(&[("orders", &[one]), ("users", &[one])])).await;

    version("v2", &[("orders", two), ("users", one)]);
    observed.becomes(&state(&[("orders", &[two]), ("users", &[one])])).await;
    assert_eq!(observed.status().state, SourceState::Live);
}

#[tokio::test]
async fn several_services_may_stand_in_one_file() {
    let (one, two) = (Instance::new(9001), Instance::new(9002));
    let files = Files::new();
    let both = [document("orders", [one]), document("users", [two])];
    replace(&files.path("all"), &both.join("---\n"));
    let observed = Observed::start(files.registry());
    observed.becomes(&state(&[("orders", &[one]), ("users", &[two])])).await;
    let before = observed.heard().notes.len();
    replace(&files.path("all"), &document("orders", [one]));
    observed.becomes(&state(&[("orders", &[one])])).await;
    observed.heard_only(before, &[Note::Delete("users".into())]);
}

//! The store on a real disk.

use tempfile::TempDir;

use super::super::ledger::{Ledger, Limits};
use super::super::model::{Content, Key, Lease, Place, Registration};
use super::*;

/// Registers `count` instances, from `first` on.
fn registered(ledger: &mut Ledger, first: u32, count: u32) -> Vec<Entry> {
    for number in first..first + count {
        let registration = Registration {
            key: Key::new("orders", &number.to_string()).unwrap(),
            content: Content {
                address: "10.0.0.1".to_owned(),
                port: number,
                weight: 1.0,
                health: "healthy".to_owned(),
                locality: Place::default(),
                metadata: [("padding".to_owned(), "x".repeat(200))].into(),
            },
            ttl_seconds: 30,
            holder: String::new(),
            expected: None,
        };
        ledger
            .register(std::time::Duration::ZERO, registration, Lease(number.into()))
            .unwrap();
    }
    ledger.take_entries()
}

fn open(directory: &Path) -> (Store, Found) {
    Store::open(directory, false).unwrap()
}

fn restored(found: &Found) -> Ledger {
    let Recovered { entries, revision, .. } = &found.recovered;
    Ledger::restore(Limits::default(), entries.iter().cloned(), *revision)
}

fn names(directory: &Path) -> Vec<String> {
    files(directory).unwrap().into_iter().map(|(name, _)| name).collect()
}

/// A store with five instances, closed.
fn five(directory: &Path) -> (Ledger, StoreId) {
    let mut ledger = Ledger::new(Limits::default());
    let (mut store, found) = open(directory);
    store.append(&registered(&mut ledger, 1, 5)).unwrap().unwrap();
    (ledger, found.id)
}

#[test]
fn a_store_is_made_on_first_use_and_found_again() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("a/registry");
    let (ledger, id) = five(&path);
    let (_store, found) = open(&path);
    assert_eq!(found.id, id);
    assert_eq!(restored(&found).drift(&ledger), 0);
    assert_eq!(found.recovered.report, None);
    assert_eq!(names(&path), ["lock", "state-0000000000000001.log"]);
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
    assert_eq!(mode(&path), 0o700);
    assert!(files(&path).unwrap().iter().all(|(_, path)| mode(path) == 0o600));
}

#[test]
fn one_process_at_a_time() {
    let directory = TempDir::new().unwrap();
    let (store, _) = open(directory.path());
    let error = Store::open(directory.path(), false).unwrap_err().to_string();
    assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
    drop(store);
    open(directory.path());
}

#[test]
fn a_change_that_was_cut_off_is_forgotten_and_written_over() {
    let directory = TempDir::new().unwrap();
    let (mut ledger, _) = five(directory.path());
    let path = newest(directory.path()).unwrap().unwrap().1;
    let whole = fs::read(&path).unwrap();
    let mut file = OpenOptions::new().append(true).open(&path).unwrap();
    file.write_all(b"0123456789abcdef {\"put\":{\"serv").unwrap();
    let (mut store, found) = open(directory.path());
    assert_eq!(found.recovered.report, None);
    assert_eq!(fs::read(&path).unwrap(), whole);
    store.append(&registered(&mut ledger, 6, 1)).unwrap().unwrap();
    drop(store);
    assert_eq!(restored(&open(directory.path()).1).drift(&ledger), 0);
}

#[test]
fn what_is_damaged_is_set_aside_and_what_is_good_goes_on() {
    let directory = TempDir::new().unwrap();
    let (mut ledger, id) = five(directory.path());
    let path = newest(directory.path()).unwrap().unwrap().1;
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let (mut store, found) = open(directory.path());
    let report = found.recovered.report.clone().unwrap();
    assert!(report.starts_with("1 lines of state-"), "{report}");
    assert_eq!(found.id, id);
    assert_eq!(restored(&found).drift(&ledger), 1);
    assert_eq!(
        names(directory.path()),
        ["damaged-0000000000000001.log", "lock", "state-0000000000000002.log"]
    );
    assert_eq!(
        fs::read(directory.path().join("damaged-0000000000000001.log")).unwrap(),
        bytes
    );
    // No revision is given out twice.
    let mut after = restored(&found);
    assert!(after.revision() >= ledger.revision());
    store.append(&registered(&mut after, 6, 1)).unwrap().unwrap();
    registered(&mut ledger, 6, 1);
    drop(store);
    let (_store, found) = open(directory.path());
    assert_eq!(found.recovered.report, None);
    assert_eq!(restored(&found).drift(&after), 0);
}

#[test]
fn a_store_whose_beginning_is_lost_is_another_store() {
    let directory = TempDir::new().unwrap();
    let (ledger, id) = five(directory.path());
    let path = newest(directory.path()).unwrap().unwrap().1;
    let mut bytes = fs::read(&path).unwrap();
    bytes[0] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let (_, found) = open(directory.path());
    assert_ne!(found.id, id);
    assert_eq!(restored(&found).drift(&ledger), 0);
}

#[test]
fn a_store_that_is_moved_away_is_noticed() {
    let directory = TempDir::new().unwrap();
    let (path, aside) = (directory.path().join("registry"), directory.path().join("aside"));
    let mut ledger = Ledger::new(Limits::default());
    let (mut store, _) = open(&path);
    store.check_place().unwrap();
    fs::rename(&path, &aside).unwrap();
    assert!(store.check_place().is_err());
    let error = store.append(&registered(&mut ledger, 1, 1)).unwrap_err();
    assert!(error.to_string().contains("was moved, removed or replaced"), "{error}");
    fs::create_dir(&path).unwrap();
    fs::copy(aside.join("lock"), path.join("lock")).unwrap();
    assert!(store.check_place().is_err());
}

#[test]
fn a_file_that_repeats_itself_is_made_anew() {
    let directory = TempDir::new().unwrap();
    let mut ledger = Ledger::new(Limits::default());
    let (mut store, _) = open(directory.path());
    let mut rounds = 0;
    while !store.has_outgrown() {
        rounds += 1;
        assert!(rounds < 1000, "{} bytes", store.length);
        for number in 1..=10 {
            let key = Key::new("orders", &number.to_string()).unwrap();
            ledger.deregister(&key, Default::default()).unwrap();
        }
        let ended = ledger.take_entries();
        store.append(&ended).unwrap().unwrap();
        store.append(&registered(&mut ledger, 1, 10)).unwrap().unwrap();
    }
    store.rewrite(&ledger.snapshot(), ledger.revision()).unwrap().unwrap();
    store.tidy().unwrap();
    assert!(!store.has_outgrown());
    assert_eq!(names(directory.path()), ["lock", "state-0000000000000002.log"]);
    assert_eq!(
        Ledger::restore(Limits::default(), store.reread().unwrap().entries, 0).drift(&ledger),
        0
    );
    drop(store);
    let (_store, found) = open(directory.path());
    assert_eq!(restored(&found).drift(&ledger), 0);
    assert_eq!(restored(&found).revision(), ledger.revision());
}

#[test]
fn after_a_failed_write_the_file_is_made_anew() {
    let directory = TempDir::new().unwrap();
    let (ledger, id) = five(directory.path());
    let (_store, found) = Store::open(directory.path(), true).unwrap();
    assert_eq!((found.id, restored(&found).drift(&ledger)), (id, 0));
    assert_eq!(names(directory.path()), ["lock", "state-0000000000000002.log"]);
}

#[test]
fn without_room_for_another_file_the_old_one_goes_on() {
    let directory = TempDir::new().unwrap();
    let (mut ledger, _) = five(directory.path());
    // Nothing can be written where a directory with something in it stands.
    fs::create_dir_all(directory.path().join("draft/in the way")).unwrap();
    let (mut store, found) = Store::open(directory.path(), true).unwrap();
    assert_eq!(restored(&found).drift(&ledger), 0);
    store.append(&registered(&mut ledger, 6, 1)).unwrap().unwrap();
    let refused = store.rewrite(&ledger.snapshot(), ledger.revision()).unwrap();
    assert!(refused.is_err() && !store.has_outgrown());
    store.append(&registered(&mut ledger, 7, 1)).unwrap().unwrap();
    drop(store);
    fs::remove_dir_all(directory.path().join("draft")).unwrap();
    assert_eq!(restored(&open(directory.path()).1).drift(&ledger), 0);
}

#[test]
fn only_a_few_damaged_files_are_kept_and_strangers_are_left_alone() {
    let directory = TempDir::new().unwrap();
    five(directory.path());
    for number in 1..=6 {
        fs::write(directory.path().join(format!("damaged-{number:016}.log")), "").unwrap();
    }
    fs::write(directory.path().join("README"), "").unwrap();
    fs::write(directory.path().join("draft"), "half a file").unwrap();
    drop(open(directory.path()));
    let names = names(directory.path());
    let damaged: Vec<_> = names.iter().filter(|name| name.starts_with("damaged-")).collect();
    assert_eq!(damaged.len(), MAX_DAMAGED);
    assert_eq!(damaged.first().unwrap().as_str(), "damaged-0000000000000003.log");
    assert!(names.contains(&"README".to_owned()) && !names.contains(&"draft".to_owned()));
}

#[test]
fn the_store_of_a_later_program_is_not_touched() {
    let directory = TempDir::new().unwrap();
    five(directory.path());
    let path = newest(directory.path()).unwrap().unwrap().1;
    let json = r#"{"head":{"format":2,"store":"1","generation":1,"revision":0,"instances":0}}"#;
    let line = format!("{:016x} {json}\n", xxhash_rust::xxh3::xxh3_64(json.as_bytes()));
    fs::write(&path, &line).unwrap();
    let error = Store::open(directory.path(), false).unwrap_err();
    assert!(
        matches!(&error, Error::Misconfigured(text) if text.contains("later Leadsman")),
        "{error}"
    );
    assert_eq!(fs::read_to_string(&path).unwrap(), line);
}

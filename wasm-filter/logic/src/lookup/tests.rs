//! The rules of a lookup, shown with several workers on one store.

use proptest::prelude::*;

use super::slot::{SLOTS, SlotNumber};
use super::*;

const GRACE_MS: u64 = 5_000;

/// A process: one store, and a tracker per worker.
struct Process {
    store: Memory,
    workers: Vec<Tracker>,
}

struct Memory {
    values: Vec<Option<Vec<u8>>>,
    versions: Vec<u32>,
    now_ms: u64,
    loads: usize,
    /// Swaps that another VM wins first.
    lost_swaps: usize,
}

impl SharedStore for Memory {
    fn load(&mut self, slot: SlotNumber) -> (Vec<u8>, Version) {
        self.loads += 1;
        match &self.values[slot.index()] {
            Some(value) => (value.clone(), Version::At(self.versions[slot.index()])),
            None => (Vec::new(), Version::Absent),
        }
    }

    fn swap(&mut self, slot: SlotNumber, value: &[u8], version: Version) -> bool {
        let place = slot.index();
        let now = match self.values[place] {
            Some(_) => Version::At(self.versions[place]),
            None => Version::Absent,
        };
        if self.lost_swaps > 0 {
            self.lost_swaps -= 1;
            return false;
        }
        if version != now {
            return false;
        }
        self.values[place] = Some(value.to_vec());
        self.versions[place] += 1;
        true
    }

    fn now_ms(&mut self) -> u64 {
        self.now_ms
    }
}

impl Process {
    fn new(workers: usize) -> Self {
        let store = Memory {
            values: vec![None; SLOTS],
            versions: vec![0; SLOTS],
            now_ms: 1_000,
            loads: 0,
            lost_swaps: 0,
        };
        Self {
            store,
            workers: (0..workers).map(|_| Tracker::default()).collect(),
        }
    }

    fn uses(&mut self, worker: usize, revision: &str) -> Outcome {
        self.uses_of(worker, "10.0.0.1:80", revision)
    }

    fn uses_of(&mut self, worker: usize, address: &str, revision: &str) -> Outcome {
        let endpoint = EndpointId::new(b"orders", address.as_bytes());
        let revision = Revision::new(revision.as_bytes());
        self.workers[worker].observe(endpoint, revision, GRACE_MS, &mut self.store)
    }

    fn tick(&mut self, elapsed_ms: u64) {
        self.store.now_ms += elapsed_ms;
        for worker in &mut self.workers {
            worker.refresh(GRACE_MS, &mut self.store);
        }
    }
}

use Outcome::{Hit, Miss, Stale};

#[test]
fn the_first_use_is_one_miss_for_all_workers() {
    let mut process = Process::new(2);
    assert_eq!(
        [0, 1, 0, 1].map(|worker| process.uses(worker, "a")),
        [Miss, Hit, Hit, Hit]
    );
}

#[test]
fn a_changed_revision_is_one_miss_for_all_workers() {
    let mut process = Process::new(2);
    process.uses(0, "a");
    process.uses(1, "a");
    assert_eq!(
        [0, 1, 0, 1].map(|worker| process.uses(worker, "b")),
        [Miss, Hit, Hit, Hit]
    );
}

#[test]
fn a_known_revision_costs_no_call_to_the_host() {
    let mut process = Process::new(1);
    process.uses(0, "a");
    let loads = process.store.loads;
    assert_eq!(process.uses(0, "a"), Hit);
    assert_eq!(process.store.loads, loads);
}

#[test]
fn a_worker_left_behind_is_stale_after_the_grace_until_it_moves_on() {
    let mut process = Process::new(2);
    process.uses(0, "a");
    process.uses(1, "a");
    process.uses(0, "b");
    process.tick(GRACE_MS);
    assert_eq!(process.uses(1, "a"), Hit);
    process.tick(1);
    assert_eq!([process.uses(1, "a"), process.uses(0, "b")], [Stale, Hit]);
    assert_eq!([process.uses(1, "b"), process.uses(1, "b")], [Hit, Hit]);
}

#[test]
fn a_worker_that_starts_with_superseded_data_is_stale_after_the_grace() {
    let mut process = Process::new(2);
    process.uses(0, "a");
    process.uses(0, "b");
    process.store.now_ms += GRACE_MS + 1;
    assert_eq!([process.uses(1, "a"), process.uses(1, "a")], [Stale, Stale]);
}

#[test]
fn an_endpoint_that_changes_back_is_a_change_and_not_stale() {
    let mut process = Process::new(2);
    for worker in [0, 1] {
        process.uses(worker, "a");
        process.uses(worker, "b");
    }
    process.tick(GRACE_MS * 2);
    assert_eq!([process.uses(0, "a"), process.uses(1, "a")], [Miss, Hit]);
    process.tick(GRACE_MS * 2);
    assert_eq!([process.uses(0, "a"), process.uses(1, "a")], [Hit, Hit]);
}

#[test]
fn a_worker_that_slept_through_a_change_and_its_undoing_recovers() {
    let mut process = Process::new(2);
    process.uses(0, "a");
    process.uses(1, "a");
    process.uses(0, "b");
    process.tick(GRACE_MS * 2);
    assert_eq!(process.uses(1, "a"), Stale);
    assert_eq!(process.uses(0, "a"), Miss);
    process.tick(1);
    assert_eq!(process.uses(1, "a"), Hit);
}

#[test]
fn endpoints_and_clusters_do_not_mix() {
    let mut process = Process::new(1);
    process.uses_of(0, "10.0.0.1:80", "a");
    assert_eq!(process.uses_of(0, "10.0.0.2:80", "a"), Miss);
    assert_ne!(EndpointId::new(b"ab", b"c"), EndpointId::new(b"a", b"bc"));
}

#[test]
fn a_lost_swap_is_tried_again_and_a_hopeless_one_still_counts() {
    let mut process = Process::new(2);
    process.store.lost_swaps = SWAP_ATTEMPTS - 1;
    assert_eq!([process.uses(0, "a"), process.uses(1, "a")], [Miss, Hit]);
    process.store.lost_swaps = SWAP_ATTEMPTS;
    assert_eq!([process.uses(0, "b"), process.uses(1, "b")], [Miss, Miss]);
}

#[test]
fn a_worker_that_remembers_too_much_starts_over_without_new_misses() {
    let mut process = Process::new(1);
    process.uses(0, "a");
    for number in 0..MOST_OWN as u64 {
        process.workers[0].remember(EndpointId(number), Revision(1), false);
    }
    assert!(process.workers[0].own_by_endpoint.len() < MOST_OWN);
    assert_eq!(process.uses(0, "a"), Hit);
}

proptest! {
    #![proptest_config(leadsman_property::cases(256))]
    /// Envoy gives each worker the same updates in the same order, each at its own time. Whatever the interleaving, once
    /// all workers have arrived and traffic went through them, everything is a hit.
    #[test]
    fn workers_that_follow_one_history_end_up_hitting(
        history in proptest::collection::vec(0..3u8, 1..12),
        steps in proptest::collection::vec((0..3usize, 0..8_000u64), 0..60),
    ) {
        let mut process = Process::new(3);
        let mut position = [0usize; 3];
        for (worker, elapsed_ms) in steps {
            process.uses(worker, &history[position[worker]].to_string());
            position[worker] = (position[worker] + 1).min(history.len() - 1);
            process.tick(elapsed_ms);
        }
        let last = history[history.len() - 1].to_string();
        for _ in 0..3 {
            for worker in 0..3 {
                process.uses(worker, &last);
            }
            process.tick(GRACE_MS + 1);
        }
        let outcomes = [0, 1, 2].map(|worker| process.uses(worker, &last));
        // A worker may have slept through a change and its undoing, and then nobody at the tip is left to undo it.
        let tip_was_used = outcomes.contains(&Hit);
        prop_assert!(!outcomes.contains(&Miss));
        prop_assert!(tip_was_used || outcomes == [Stale; 3], "{outcomes:?}");
    }
}

//! What the plugins of one VM share: the ids of the counters and the tracker of revisions.
//!
//! A VM is one thread, and plugins with the same `vm_id` and code run in the same one: sharing keeps each counter defined once
//! and each revision remembered once.

use std::cell::RefCell;

use leadsman_filter_logic::lookup::{EndpointId, Outcome, Revision, Tracker};
use leadsman_filter_logic::metrics::{ClusterCounter, Counters, GlobalCounter};

use crate::host;

#[derive(Default)]
struct Vm {
    counters: Counters,
    tracker: Tracker,
    /// The root context whose timer does the VM's periodic work. Envoy ticks each root, and once is enough.
    ticker: Option<u32>,
}

thread_local! {
    static VM: RefCell<Vm> = RefCell::default();
}

/// Runs on the shared state. It is never borrowed twice, since no hostcall made meanwhile calls back; were it so, the
/// count would be skipped.
fn with<T>(run: impl FnOnce(&mut Vm) -> T) -> Option<T> {
    VM.with(|vm| Some(run(&mut *vm.try_borrow_mut().ok()?)))
}

pub(crate) fn count(cluster: &[u8], counter: ClusterCounter, most_clusters: usize) {
    let id = with(|vm| {
        vm.counters
            .cluster(cluster, counter, most_clusters, host::define_counter)
    });
    id.flatten().into_iter().for_each(host::increment);
}

pub(crate) fn count_source(source: &[u8]) {
    let id = with(|vm| vm.counters.source(source, host::define_counter));
    id.flatten().into_iter().for_each(host::increment);
}

pub(crate) fn count_global(counter: GlobalCounter) {
    let id = with(|vm| vm.counters.global(counter, host::define_counter));
    id.flatten().into_iter().for_each(host::increment);
}

/// Accounts one use of an endpoint's revision.
pub(crate) fn observe(endpoint: EndpointId, revision: Revision, grace_ms: u64) -> Option<Outcome> {
    with(|vm| vm.tracker.observe(endpoint, revision, grace_ms, &mut host::SharedData))
}

/// The periodic work, done for the first root context that asks, until that one goes.
pub(crate) fn tick(context_id: u32, grace_ms: u64) {
    let mine = with(|vm| *vm.ticker.get_or_insert(context_id) == context_id);
    if mine == Some(true) {
        count_global(GlobalCounter::Heartbeat);
        with(|vm| vm.tracker.refresh(grace_ms, &mut host::SharedData));
    }
}

/// Lets another root context take over the periodic work.
pub(crate) fn stop_ticking(context_id: u32) {
    with(|vm| {
        if vm.ticker == Some(context_id) {
            vm.ticker = None;
        }
    });
}

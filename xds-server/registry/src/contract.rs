//! The contract between an adapter and everything else.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::SystemTime;

use leadsman_core::model::{Evidence, Rejection, Service, ServiceName, SourceName};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};

use crate::text::shorten;

/// One registry, driven by [`supervise`](crate::supervise).
pub trait Registry: Send + 'static {
    /// The word under a source's name in the configuration: `etcd`, `file`, …
    fn kind(&self) -> &'static str;

    /// One session: connect, send a full [`Event::Resync`], then every change, and return an error when in doubt.
    ///
    /// Dropping the future ends the session; it must hold nothing that outlives it.
    fn run(&mut self, events: &EventSender) -> impl Future<Output = Result<Infallible, Error>> + Send;
}

/// What a session says. Services are always whole.
#[derive(Clone, Debug)]
pub enum Event {
    /// The complete content of the registry. The first event of a session, and again whenever deltas are in doubt.
    Resync {
        services: Vec<Service>,
        /// Records that belong to no service that could be named.
        unattributed: Vec<Rejection>,
        evidence: Evidence,
        revision: u64,
    },
    /// One service, whole; `revision` is the registry's own counter, zero where it has none.
    Apply { service: Service, revision: u64 },
    /// The registry said that the service is gone.
    Delete { name: ServiceName, revision: u64 },
    /// Other records than before belong to no service that could be named: always all of them.
    Unattributed { rejections: Vec<Rejection> },
    /// The registry proved that nothing was missed up to `revision`.
    Progress { revision: u64 },
    /// A periodic reconcile compared the held state with a fresh read: `drift` records differed. Anything but zero is
    /// a lost event, and a [`Event::Resync`] follows.
    Reconciled { drift: u64 },
    /// The session lives, but part of the registry can't be read; `None` says that it can again. What was known of the
    /// unreadable part is kept.
    Impaired { reason: Option<String> },
}

/// An event and the source that said it, as the controller receives them.
#[derive(Clone, Debug)]
pub struct SourceEvent {
    pub source: SourceName,
    /// When the event was received, for the propagation histogram.
    pub received: tokio::time::Instant,
    pub event: Event,
}

/// Why a session ended. A variant exists only where the supervisor acts differently.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not reachable, reset, timed out, silent for too long: try again, on the next address.
    #[error("{0}")]
    Unavailable(String),
    /// The registry refused our credentials: try again at a slow pace, with the credentials read anew.
    #[error("credentials refused: {0}")]
    Denied(String),
    /// Deltas can't be trusted any more (compaction, a new epoch): list again at once.
    #[error("the watch can't be continued: {0}")]
    Resync(String),
    /// The configuration can't work (a directory that is a file, an unreadable certificate): try again at a slow pace.
    #[error("{0}")]
    Misconfigured(String),
    /// Nobody listens any more: the process is shutting down.
    #[error("shutting down")]
    Closed,
}

/// How the sessions of a source go. Whether what it said is believed is the catalog's to say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceState {
    /// No session yet, or none since the start.
    #[default]
    Connecting,
    /// Connected, listing.
    Syncing,
    /// Listed, and every change since has arrived.
    Live,
    /// The session is lost or partly unreadable: the last state is kept.
    Degraded,
}

/// Whether the supervisor tries, waits or probes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Breaker {
    /// Sessions are started as they are needed.
    #[default]
    Closed,
    /// Too many sessions failed in a row: waiting before the next one.
    Open,
    /// One session probes whether the registry is back.
    HalfOpen,
}

/// Monotonic counts of one source since the start of the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counters {
    pub sessions: u64,
    pub session_errors: u64,
    pub auth_failures: u64,
    pub resyncs: u64,
    pub applies: u64,
    pub deletes: u64,
    pub reconciles: u64,
    /// Records that differed at a reconcile: each is an event that was lost.
    pub reconcile_drift: u64,
}

/// Instances that a registry lists as alive although they have not been heard of for longer than it should allow: it
/// protects itself from removing many at once, or nobody removes anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Overdue {
    pub instances: u64,
    /// How long ago the first of their leases ran out.
    pub longest_seconds: u64,
}

/// One source as the admin API shows it.
#[derive(Clone, Debug, Serialize)]
pub struct SourceStatus {
    pub name: SourceName,
    pub kind: &'static str,
    pub state: SourceState,
    /// When `state` was entered.
    pub since: SystemTime,
    pub breaker: Breaker,
    /// Whether a full listing has ever arrived: what readiness waits for.
    pub synced: bool,
    pub revision: u64,
    pub last_event: Option<SystemTime>,
    /// At most [`MAX_ERROR_BYTES`].
    pub last_error: Option<String>,
    pub counters: Counters,
    /// As the latest listing says it; none where a registry does not tell when it heard of whom.
    pub overdue: Overdue,
}

impl SourceStatus {
    pub fn new(name: SourceName, kind: &'static str) -> Self {
        Self {
            name,
            kind,
            state: SourceState::Connecting,
            since: SystemTime::now(),
            breaker: Breaker::Closed,
            synced: false,
            revision: 0,
            last_event: None,
            last_error: None,
            counters: Counters::default(),
            overdue: Overdue::default(),
        }
    }

    pub(crate) fn enter(&mut self, state: SourceState) {
        if self.state != state {
            self.state = state;
            self.since = SystemTime::now();
        }
    }
}

/// The latest status of a source.
pub type StatusReader = watch::Receiver<SourceStatus>;

/// An adapter's way out: bounded, so that a slow controller slows the adapter and nothing grows.
#[derive(Clone, Debug)]
pub struct EventSender {
    source: SourceName,
    events: mpsc::Sender<SourceEvent>,
    status: Arc<watch::Sender<SourceStatus>>,
    /// Counts the steps of listings: as long as it moves, a session is given time.
    steps: Arc<watch::Sender<u64>>,
}

impl EventSender {
    pub fn new(
        source: SourceName,
        events: mpsc::Sender<SourceEvent>,
        status: Arc<watch::Sender<SourceStatus>>,
    ) -> Self {
        let steps = Arc::new(watch::Sender::new(0));
        Self {
            source,
            events,
            status,
            steps,
        }
    }

    /// The registry answered and the listing has begun, or gone on by a page. A session that is silent for too long
    /// before its first listing is dropped, so it says so after every page.
    pub fn syncing(&self) {
        self.steps.send_modify(|steps| *steps += 1);
        self.status.send_if_modified(|status| {
            let begins = !status.synced && status.state != SourceState::Syncing;
            if begins {
                status.enter(SourceState::Syncing);
            }
            begins
        });
    }

    /// Passes an event on, and waits while the controller is behind.
    ///
    /// # Errors
    /// [`Error::Closed`] when the controller is gone.
    pub async fn send(&self, event: Event) -> Result<(), Error> {
        self.status.send_modify(|status| note(status, &event));
        let event = SourceEvent {
            source: self.source.clone(),
            received: tokio::time::Instant::now(),
            event,
        };
        self.events.send(event).await.map_err(|_| Error::Closed)
    }

    /// Instances that are listed although their time ran out, as the latest listing says it.
    pub fn overdue(&self, overdue: Overdue) {
        self.status.send_if_modified(|status| {
            let differs = status.overdue != overdue;
            status.overdue = overdue;
            differs
        });
    }

    /// For the log lines of an adapter.
    pub fn source(&self) -> &SourceName {
        &self.source
    }

    /// Waits until the controller is gone.
    pub(crate) async fn closed(&self) {
        self.events.closed().await;
    }

    pub(crate) fn status(&self) -> StatusReader {
        self.status.subscribe()
    }

    /// Changes with every step of a listing.
    pub(crate) fn steps(&self) -> watch::Receiver<u64> {
        self.steps.subscribe()
    }

    pub(crate) fn update(&self, change: impl FnOnce(&mut SourceStatus)) {
        self.status.send_modify(change);
    }
}

/// Longest error text kept in a status: a registry writes it, and every status page repeats it.
pub const MAX_ERROR_BYTES: usize = 512;

fn note(status: &mut SourceStatus, event: &Event) {
    status.last_event = Some(SystemTime::now());
    match event {
        Event::Resync { evidence, revision, .. } => {
            status.counters.resyncs += 1;
            status.synced = true;
            status.revision = *revision;
            status.last_error = None;
            // The probe succeeded; set here so that nobody sees a live source behind an open breaker.
            status.breaker = Breaker::Closed;
            status.enter(match evidence {
                Evidence::Complete => SourceState::Live,
                Evidence::Partial { .. } => SourceState::Degraded,
                // Whether anything is held, and the source therefore suspect, only the catalog knows.
                Evidence::NewEpoch { .. } => SourceState::Live,
            });
        }
        Event::Apply { revision, .. } => {
            status.counters.applies += 1;
            status.revision = *revision;
        }
        Event::Delete { revision, .. } => {
            status.counters.deletes += 1;
            status.revision = *revision;
        }
        Event::Unattributed { .. } => {}
        Event::Progress { revision } => status.revision = *revision,
        Event::Reconciled { drift } => {
            status.counters.reconciles += 1;
            status.counters.reconcile_drift += drift;
        }
        Event::Impaired { reason: Some(reason) } => {
            status.last_error = Some(shorten(reason, MAX_ERROR_BYTES));
            if status.state == SourceState::Live {
                status.enter(SourceState::Degraded);
            }
        }
        Event::Impaired { reason: None } => {
            status.last_error = None;
            if status.state == SourceState::Degraded {
                status.enter(SourceState::Live);
            }
        }
    }
}

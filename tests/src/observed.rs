//! One supervised source, and the state that its events add up to.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use leadsman_core::model::{Evidence, Health, Service, SourceName};
use leadsman_registry::{
    Event, Registry, SourceEvent, SourceState, SourceStatus, StatusReader, SuperviseOptions, supervise,
};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::wait::{PATIENT, throughout, until};

/// What the suites compare of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shown {
    pub weight: f64,
    pub health: Health,
}

/// Endpoints by `address:port`.
pub type Endpoints = BTreeMap<String, Shown>;

/// Endpoints by service, for services that have any.
pub type State = BTreeMap<String, Endpoints>;

/// An event without its content, in the order of arrival.
#[derive(Clone, Debug, PartialEq)]
pub enum Note {
    Resync {
        services: usize,
        evidence: Evidence,
        revision: u64,
    },
    Apply(String),
    Delete(String),
    Reconciled {
        drift: u64,
    },
    Impaired(Option<String>),
}

/// Everything a source said so far.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    pub services: BTreeMap<String, Service>,
    /// Records that belong to no service that could be named, as last heard.
    pub unattributed: usize,
    /// Events in order; progress is left out, because nothing follows from it.
    pub notes: Vec<Note>,
    /// The revisions of all events that carry one, progress included.
    pub revisions: Vec<u64>,
}

/// A source under observation; dropping it ends its session.
#[derive(Debug)]
pub struct Observed {
    heard: Arc<Mutex<Heard>>,
    /// Counts the events that are in `heard`.
    count: watch::Receiver<u64>,
    status: StatusReader,
    _tasks: JoinSet<()>,
}

/// The pace of a test: as in production, but never slow to come back.
pub fn pace() -> SuperviseOptions {
    SuperviseOptions {
        backoff_max: Duration::from_secs(1),
        ..SuperviseOptions::default()
    }
}

impl Observed {
    /// Runs `registry` under the real supervisor.
    pub fn start<R: Registry>(registry: R) -> Self {
        Self::start_with(registry, pace())
    }

    /// # Panics
    /// Never: the name of the source is valid.
    pub fn start_with<R: Registry>(registry: R, options: SuperviseOptions) -> Self {
        let source = SourceName::new("tested").unwrap_or_else(|error| panic!("{error}"));
        let (events, inbox) = mpsc::channel(64);
        let (status, seen) = watch::channel(SourceStatus::new(source.clone(), registry.kind()));
        let heard = Arc::new(Mutex::new(Heard::default()));
        let mut tasks = JoinSet::new();
        tasks.spawn(supervise(registry, source, events, Arc::new(status), options));
        let (counted, count) = watch::channel(0);
        tasks.spawn(listen(inbox, Arc::clone(&heard), counted));
        Self {
            heard,
            count,
            status: seen,
            _tasks: tasks,
        }
    }

    pub fn heard(&self) -> Heard {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn status(&self) -> SourceStatus {
        self.status.borrow().clone()
    }

    /// The state that the events add up to.
    pub fn state(&self) -> State {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let shown = heard
            .services
            .iter()
            .map(|(name, service)| (name.clone(), endpoints(service)));
        shown.filter(|(_, endpoints)| !endpoints.is_empty()).collect()
    }

    /// Waits until the events add up to `expected`.
    ///
    /// # Panics
    /// When they do not in time; the message shows both.
    pub async fn becomes(&self, expected: &State) {
        self.becomes_within(PATIENT, expected).await;
    }

    /// # Panics
    /// When the state differs after `deadline`; the message shows both.
    pub async fn becomes_within(&self, deadline: Duration, expected: &State) {
        let mut count = self.count.clone();
        let reached = count.wait_for(|_| self.state() == *expected);
        if !matches!(tokio::time::timeout(deadline, reached).await, Ok(Ok(_))) {
            let (state, status) = (self.state(), self.status());
            let differing: BTreeMap<_, _> = expected
                .keys()
                .chain(state.keys())
                .filter(|name| expected.get(*name) != state.get(*name))
                .map(|name| (name, (expected.get(name), state.get(name))))
                .collect();
            panic!("after {deadline:?} (expected, heard) differ: {differing:#?}\n{status:#?}");
        }
    }

    /// Waits until the source is in one of `states`.
    pub async fn enters(&self, states: &[SourceState]) {
        self.status_becomes(&format!("{states:?}"), |status| states.contains(&status.state))
            .await;
    }

    /// Waits until the status is as `accept` wants it.
    pub async fn status_becomes(&self, what: &str, mut accept: impl FnMut(&SourceStatus) -> bool) {
        let before = format!("{what} (was {:?})", self.status());
        until(PATIENT, &before, async || accept(&self.status())).await;
    }

    /// Shows that for all of `window` no event says that anything changed.
    pub async fn is_silent_for(&self, window: Duration) {
        let before = self.heard().notes;
        throughout(window, "the silence of the source", async || {
            self.heard().notes == before
        })
        .await;
    }

    /// Shows that the events since `before` are `expected` and nothing else.
    ///
    /// # Panics
    /// When they are not.
    pub fn heard_only(&self, before: usize, expected: &[Note]) {
        let notes = self.heard().notes;
        let since = notes.get(before..).unwrap_or_default();
        assert_eq!(since, expected);
    }
}

async fn listen(mut inbox: mpsc::Receiver<SourceEvent>, heard: Arc<Mutex<Heard>>, count: watch::Sender<u64>) {
    while let Some(SourceEvent { event, .. }) = inbox.recv().await {
        heard.lock().unwrap_or_else(PoisonError::into_inner).hear(event);
        count.send_modify(|count| *count += 1);
    }
}

impl Heard {
    fn hear(&mut self, event: Event) {
        let note = match event {
            Event::Resync {
                services,
                unattributed,
                evidence,
                revision,
            } => {
                self.revisions.push(revision);
                self.unattributed = unattributed.len();
                let note = Note::Resync {
                    services: services.len(),
                    evidence,
                    revision,
                };
                let named = services.into_iter().map(|service| (service.name.to_string(), service));
                self.services = named.collect();
                note
            }
            Event::Apply { service, revision } => {
                self.revisions.push(revision);
                let name = service.name.to_string();
                self.services.insert(name.clone(), service);
                Note::Apply(name)
            }
            Event::Delete { name, revision } => {
                self.revisions.push(revision);
                self.services.remove(name.as_str());
                Note::Delete(name.to_string())
            }
            Event::Unattributed { rejections } => {
                self.unattributed = rejections.len();
                return;
            }
            Event::Progress { revision } => {
                self.revisions.push(revision);
                return;
            }
            Event::Reconciled { drift } => Note::Reconciled { drift },
            Event::Impaired { reason } => Note::Impaired(reason),
        };
        self.notes.push(note);
    }
}

fn endpoints(service: &Service) -> Endpoints {
    let shown = service.endpoints.iter().map(|endpoint| {
        let shown = Shown {
            weight: endpoint.weight.get(),
            health: endpoint.health,
        };
        (endpoint.address.to_string(), shown)
    });
    shown.collect()
}

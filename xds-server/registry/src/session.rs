//! Runs the sessions of one source for ever.
//!
//! What every registry needs and none should do itself: when to try again, how long a session may stand still before
//! its first listing, and what an operator sees of it. The supervisor never sends an event: a lost session leaves the last
//! state as it is.

mod backoff;

use std::convert::Infallible;
use std::hash::{BuildHasher, RandomState};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use leadsman_core::model::{Evidence, SourceName};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep};

use self::backoff::{Backoff, Cause, Decision, Ended};
use crate::contract::{Error, EventSender, MAX_ERROR_BYTES, Registry, SourceEvent, SourceState, SourceStatus};
use crate::text::shorten;

/// The pace of a supervisor.
#[derive(Clone, Debug)]
pub struct SuperviseOptions {
    /// The longest delay after the first failure; it doubles with each further one. Default: 100 ms.
    pub backoff_base: Duration,
    /// The longest delay of all. Default: 10 s, so that a registry that is back is noticed soon; a few servers that
    /// knock this often are no load for any registry.
    pub backoff_max: Duration,
    /// The shortest delay after refused credentials or a configuration that can't work. Default: 1 s.
    pub refused_base: Duration,
    /// How long a session must have lived for its end to count as a first failure. Default: 60 s.
    pub steady: Duration,
    /// The same for a session that delivered a listing. Default: 5 s.
    pub proven: Duration,
    /// How long a session may stand still before its first listing is complete. A listing of many pages may take much
    /// longer: the time begins anew at each of them. Default: 30 s.
    pub setup_timeout: Duration,
    /// How often in a row a broken watch is listed anew without delay. Default: 3.
    pub resyncs_at_once: u32,
    /// How many failures in a row open the breaker. Default: 5.
    pub open_after: u32,
}

impl Default for SuperviseOptions {
    fn default() -> Self {
        Self {
            backoff_base: Duration::from_millis(100),
            backoff_max: Duration::from_secs(10),
            refused_base: Duration::from_secs(1),
            steady: Duration::from_secs(60),
            proven: Duration::from_secs(5),
            setup_timeout: Duration::from_secs(30),
            resyncs_at_once: 3,
            open_after: 5,
        }
    }
}

/// Runs one session of `registry` after the other, until the future is dropped or the receiver of `events` is gone.
pub async fn supervise<R: Registry>(
    mut registry: R,
    source: SourceName,
    events: mpsc::Sender<SourceEvent>,
    status: Arc<watch::Sender<SourceStatus>>,
    options: SuperviseOptions,
) {
    let sender = EventSender::new(source, events, status);
    let mut outage = Outage::new(registry.kind());
    let mut backoff = Backoff::new(options.clone());
    loop {
        let breaker = backoff.begin();
        sender.update(|status| {
            status.counters.sessions += 1;
            status.breaker = breaker;
        });
        let (error, ended) = session(&mut registry, &sender, &options, &mut outage).await;
        let Some(ended) = ended else { return };
        let decision = backoff.next(ended, random());
        outage.note_end(&sender, &error, decision);
        record(&sender, &error, decision);
        tokio::select! {
            () = sleep(decision.delay) => {}
            () = sender.closed() => return,
        }
    }
}

/// One session, to its end; `None` when there is nobody left to retry for.
async fn session<R: Registry>(
    registry: &mut R,
    sender: &EventSender,
    options: &SuperviseOptions,
    outage: &mut Outage,
) -> (Error, Option<Ended>) {
    let started = Instant::now();
    let status = sender.status();
    let before = status.borrow().counters.resyncs;
    let error = {
        let mut run = pin!(registry.run(sender));
        tokio::select! {
            end = &mut run => error_of(end),
            () = sender.closed() => Error::Closed,
            listed = is_listed(sender, before, options.setup_timeout) => if listed {
                outage.note_listing(sender);
                tokio::select! {
                    end = &mut run => error_of(end),
                    () = sender.closed() => Error::Closed,
                }
            } else {
                Error::Unavailable(format!("no listing: no progress for {:?}", options.setup_timeout))
            },
        }
    };
    let ended = Cause::of(&error).map(|cause| Ended {
        cause,
        lived: started.elapsed(),
        listed: status.borrow().counters.resyncs > before,
    });
    (error, ended)
}

/// Waits for one listing more than `before`; false when there was no step towards it for too long.
async fn is_listed(sender: &EventSender, before: u64, patience: Duration) -> bool {
    let (mut status, mut steps) = (sender.status(), sender.steps());
    let mut listed = pin!(async { status.wait_for(|s| s.counters.resyncs > before).await.is_ok() });
    loop {
        tokio::select! {
            listed = &mut listed => return listed,
            Ok(()) = steps.changed() => {}
            () = sleep(patience) => return false,
        }
    }
}

fn error_of(end: Result<Infallible, Error>) -> Error {
    match end {
        Ok(never) => match never {},
        Err(error) => error,
    }
}

fn record(sender: &EventSender, error: &Error, decision: Decision) {
    sender.update(|status| {
        status.counters.session_errors += 1;
        if matches!(error, Error::Denied(_)) {
            status.counters.auth_failures += 1;
        }
        status.last_error = Some(shorten(&error.to_string(), MAX_ERROR_BYTES));
        status.breaker = decision.breaker;
        status.enter(if status.synced {
            SourceState::Degraded
        } else {
            SourceState::Connecting
        });
    });
}

/// What the log has said about the present outage: one line when it begins, one when it ends.
#[derive(Debug)]
struct Outage {
    kind: &'static str,
    since: Option<Instant>,
    warned: bool,
}

impl Outage {
    fn new(kind: &'static str) -> Self {
        Self {
            kind,
            since: None,
            warned: false,
        }
    }

    fn note_end(&mut self, sender: &EventSender, error: &Error, decision: Decision) {
        let (source, kind, error) = (sender.source(), self.kind, shorten(&error.to_string(), MAX_ERROR_BYTES));
        self.since.get_or_insert_with(Instant::now);
        let Decision { delay, failures, .. } = decision;
        if failures == 0 {
            tracing::debug!(%source, kind, error, "listing again");
        } else if self.warned {
            tracing::debug!(%source, kind, error, failures, ?delay, "source still lost");
        } else {
            self.warned = true;
            tracing::warn!(%source, kind, error, ?delay, "source lost; its last state is kept");
        }
    }

    fn note_listing(&mut self, sender: &EventSender) {
        let (source, kind) = (sender.source(), self.kind);
        let away = self.since.take().map(|since| since.elapsed());
        match away {
            Some(away) if self.warned => tracing::info!(%source, kind, ?away, "source is live again"),
            Some(_) => tracing::debug!(%source, kind, "listed again"),
            None => tracing::info!(%source, kind, "source is live"),
        }
        self.warned = false;
    }
}

/// A new epoch that the controller has not been told of: a session may be dropped while its listing waits for a controller
/// that is behind, and by then its adapter has taken the new epoch for the usual state of things.
#[derive(Debug, Default)]
pub(crate) struct Untold(Option<Evidence>);

impl Untold {
    /// What a listing has to be told with: with the new epoch before it, if that was never told.
    pub(crate) fn note(&mut self, evidence: Evidence) -> Evidence {
        if matches!(evidence, Evidence::NewEpoch { .. }) {
            self.0 = Some(evidence.clone());
        }
        self.0.clone().unwrap_or(evidence)
    }

    /// The controller has the listing.
    pub(crate) fn told(&mut self) {
        self.0 = None;
    }
}

/// Jitter needs no more than to differ between processes and moments, which the standard library's hash keys do.
pub(crate) fn random() -> u64 {
    RandomState::new().hash_one(0_u8)
}

#[cfg(test)]
mod tests;

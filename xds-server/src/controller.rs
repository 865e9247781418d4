//! The one writer: registry events in, snapshots out.
//!
//! The task owns the catalog and the builder with `&mut`. It awaits one event, takes in what else is ready, decides
//! once and publishes once. Whoever wants to know something of it asks by message.

mod state;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use leadsman_core::model::{Endpoint, Presence, ServiceName, SourceName};
use leadsman_registry::SourceEvent;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub(crate) use state::{Contents, Overview, Subject};

use crate::config::Services;
use crate::metrics::Metrics;
use crate::publication::Publication;
use state::State;

/// Events taken in before one publication: enough to swallow a burst whole, few enough to publish in between.
const BATCH: usize = 1024;

/// What can be asked of the controller.
#[derive(Debug)]
pub(crate) enum Command {
    /// Other settings for the services.
    Reload(Services),
    /// Every service, in the order of the names.
    Overview(oneshot::Sender<Vec<Overview>>),
    /// Everything about one service; `None` if nobody has ever heard of it.
    Explain(ServiceName, oneshot::Sender<Option<Subject>>),
    /// What is known of each source beside its services.
    Contents(oneshot::Sender<BTreeMap<SourceName, Contents>>),
    /// What one source lists; unknown while it has not answered.
    Listed(
        SourceName,
        oneshot::Sender<Presence<BTreeMap<ServiceName, Vec<Endpoint>>>>,
    ),
    /// Let go of what is held of a source.
    Release(SourceName, oneshot::Sender<usize>),
}

/// What the controller starts with.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) sources: Vec<SourceName>,
    pub(crate) services: Services,
    /// How long clients wait for sources that have not answered yet.
    pub(crate) startup_wait: Duration,
}

/// Runs until it is cancelled.
pub(crate) async fn run(
    settings: Settings,
    publication: Arc<Publication>,
    metrics: Arc<Metrics>,
    mut events: mpsc::Receiver<SourceEvent>,
    mut commands: mpsc::Receiver<Command>,
    shutdown: CancellationToken,
) {
    let started = Instant::now();
    let mut state = State::new(settings);
    let mut received: Option<Instant> = None;
    loop {
        let deadline = state.next_deadline().map(|deadline| started + deadline);
        tokio::select! {
            () = shutdown.cancelled() => return,
            Some(event) = events.recv() => {
                received = Some(event.received);
                state.handle_event(event, started.elapsed());
                for _ in 1..BATCH {
                    let Ok(event) = events.try_recv() else { break };
                    state.handle_event(event, started.elapsed());
                }
            }
            Some(command) = commands.recv() => answer(&mut state, command, started.elapsed()),
            () = until(deadline) => {}
        }
        if let Some(next) = state.advance(started.elapsed()) {
            publication.publish(next.snapshot, &next.changes, next.certainty);
            if let Some(received) = received.take() {
                metrics.published(received.elapsed());
            }
        }
        received = None;
        metrics.tick();
    }
}

/// A question whose asker has gone away needs no answer.
fn answer(state: &mut State, command: Command, now: Duration) {
    match command {
        Command::Reload(services) => state.reload(services),
        Command::Overview(reply) => drop(reply.send(state.overview())),
        Command::Explain(name, reply) => drop(reply.send(state.explain(&name))),
        Command::Contents(reply) => drop(reply.send(state.contents())),
        Command::Listed(source, reply) => drop(reply.send(state.listed(&source))),
        Command::Release(source, reply) => drop(reply.send(state.release(&source, now))),
    }
}

/// The heartbeat bounds the wait, so that liveness can tell a quiet loop from a stuck one.
async fn until(deadline: Option<Instant>) {
    let heartbeat = Instant::now() + Metrics::HEARTBEAT;
    tokio::time::sleep_until(deadline.map_or(heartbeat, |deadline| deadline.min(heartbeat))).await;
}

//! Thousands of clients on one thread: each subscribes, acknowledges every response and remembers what it holds.
//!
//! The thread does nothing but that, so that its own cost per message stays a few microseconds; whoever asks it something
//! sends a closure and waits.

mod client;
mod connection;
mod engine;

use std::sync::mpsc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

pub(crate) use engine::{Knowledge, Plan, Progress, Report, Truth};

use engine::Engine;

/// A question a time is asked, besides the one that stops the thread.
const QUESTIONS: usize = 2;
const POLL: Duration = Duration::from_millis(20);

type Question = Box<dyn FnOnce(&mut Engine) + Send>;

/// When each service was written, so that a receipt can be set against every write it satisfies.
#[derive(Debug, Default)]
pub(crate) struct Ledger(Mutex<Vec<Vec<u64>>>);

impl Ledger {
    /// Notes a write before it is done.
    pub(crate) fn note(&self, service: usize, stamp: u64) {
        let mut writes = self.lock();
        if writes.len() <= service {
            writes.resize_with(service + 1, Vec::new);
        }
        if let Some(writes) = writes.get_mut(service) {
            writes.push(stamp);
        }
    }

    /// Writes after one moment, up to and with another.
    pub(crate) fn between(&self, service: usize, after: u64, until: u64, mut each: impl FnMut(u64)) {
        let writes = self.lock();
        let writes = writes.get(service).map(Vec::as_slice).unwrap_or_default();
        let newest = writes.iter().rev();
        newest
            .skip_while(|write| **write > until)
            .take_while(|write| **write > after)
            .for_each(|write| each(*write));
    }

    /// Services that were written, with the moment of the last write.
    pub(crate) fn last(&self) -> Vec<(usize, u64)> {
        let writes = self.lock();
        let last = writes.iter().enumerate();
        last.filter_map(|(service, writes)| Some((service, *writes.last()?)))
            .collect()
    }

    pub(crate) fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Vec<u64>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
pub(crate) struct Driver {
    questions: mpsc::SyncSender<Question>,
    ledger: Arc<Ledger>,
}

impl Driver {
    /// Starts the thread, for services of these names.
    pub(crate) fn start(names: Vec<String>) -> anyhow::Result<Self> {
        let ledger = Arc::<Ledger>::default();
        let mut engine = Engine::new(names, Arc::clone(&ledger))?;
        let (questions, asked) = mpsc::sync_channel::<Question>(QUESTIONS);
        thread::Builder::new().name("driver".to_owned()).spawn(move || {
            let mut events = Vec::with_capacity(engine::EVENTS);
            loop {
                match asked.try_recv() {
                    Ok(question) => question(&mut engine),
                    Err(mpsc::TryRecvError::Empty) => engine.turn(&mut events),
                    Err(mpsc::TryRecvError::Disconnected) => return,
                }
            }
        })?;
        Ok(Self { questions, ledger })
    }

    pub(crate) fn ledger(&self) -> &Arc<Ledger> {
        &self.ledger
    }

    /// Waits until every client of the plan holds every name it asked for.
    pub(crate) async fn connect(&self, plan: Plan) -> anyhow::Result<()> {
        let clients = plan.clients;
        self.begin(plan).await?;
        self.until("every client to hold every name", move |progress| {
            progress.complete == clients
        })
        .await
    }

    /// Opens all connections at once and does not wait.
    pub(crate) async fn begin(&self, plan: Plan) -> anyhow::Result<()> {
        self.ask(move |engine| engine.connect(plan)).await?
    }

    /// Closes all connections; with `forget`, the clients are new ones when they come back.
    pub(crate) async fn disconnect(&self, forget: bool) -> anyhow::Result<()> {
        self.ask(move |engine| engine.disconnect(forget)).await
    }

    /// The slow clients of the plan stop reading, or read again.
    pub(crate) async fn stall(&self, stalled: bool) -> anyhow::Result<()> {
        self.ask(move |engine| engine.stall(stalled)).await?
    }

    /// Counts from here on; receipts of a service that is watched are kept one by one.
    pub(crate) async fn reset(&self, watched: Option<usize>) -> anyhow::Result<()> {
        self.ask(move |engine| engine.reset(watched)).await
    }

    pub(crate) async fn report(&self) -> anyhow::Result<Report> {
        self.ask(|engine| engine.report()).await
    }

    pub(crate) async fn truth(&self) -> anyhow::Result<Truth> {
        self.ask(|engine| engine.truth()).await
    }

    pub(crate) async fn progress(&self) -> anyhow::Result<Progress> {
        self.ask(|engine| engine.progress()).await
    }

    /// Waits until every client holds what was written last.
    pub(crate) async fn quiet(&self) -> anyhow::Result<()> {
        self.until("every client to hold the last writes", |progress| progress.behind == 0)
            .await
    }

    pub(crate) async fn until(&self, what: &str, reached: impl Fn(&Progress) -> bool) -> anyhow::Result<()> {
        let (began, patience) = (Instant::now(), Duration::from_secs(180));
        loop {
            let progress = self.progress().await?;
            if reached(&progress) {
                return Ok(());
            }
            if let Some(loss) = &progress.loss {
                bail!("while waiting for {what}, a client was lost: {loss}");
            }
            if began.elapsed() > patience {
                bail!("waited {patience:?} for {what}: {progress:?}");
            }
            tokio::time::sleep(POLL).await;
        }
    }

    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Engine) -> T + Send + 'static,
    ) -> anyhow::Result<T> {
        let (reply, answer) = tokio::sync::oneshot::channel();
        let question: Question = Box::new(move |engine| {
            // Whoever asked may have given up.
            let _ = reply.send(question(engine));
        });
        self.questions.send(question).ok().context("the driver is gone")?;
        answer.await.context("the driver is gone")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receipt_satisfies_every_write_since_the_last() {
        let ledger = Ledger::default();
        for stamp in [10, 20, 30, 40] {
            ledger.note(1, stamp);
        }
        let mut seen = Vec::new();
        ledger.between(1, 10, 30, |stamp| seen.push(stamp));
        ledger.between(0, 0, 99, |stamp| seen.push(stamp));
        assert_eq!((seen, ledger.last()), (vec![30, 20], vec![(1, 40)]));
    }
}

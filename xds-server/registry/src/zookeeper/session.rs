//! One session: watch, list, then follow, until there is a doubt.
//!
//! Invariant: the watch is older than the listing, and no connection is followed by another one: an event that came
//! while there was none is lost for good, so the end of the connection is the end of the session.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::time::Duration;

use leadsman_core::model::Evidence;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until};

use super::client::{Birth, Fault, Link, MAX_NODES, Node, PIPELINE, too_many};
use super::config::Config;
use super::jute::{Event as Told, Happening};
use super::layout::is_ignored;
use super::listing::{Listing, list};
use super::records::{Change, Records};
use crate::layout::entry::below;
use crate::session::Untold;
use crate::{Error, Event, EventSender};

/// How long a deleted node may come back before its instance is gone: frameworks register anew by deleting and
/// creating. It delays removals, and nothing else.
const GRACE: Duration = Duration::from_millis(200);

/// What survives a session.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// What was seen of the ensemble.
    seen: Option<Seen>,
    /// What the latest session with a listing held.
    records: Option<Records>,
    /// What could not be read, as it was told.
    impairment: Option<String>,
    untold: Untold,
    removals: Removals,
}

/// Nodes that are not there, and when their grace is over.
type Removals = BTreeMap<String, Instant>;

/// By what an ensemble is known again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    /// The newest transaction.
    newest: i64,
    /// How the prefix came to be, as far as it was read.
    prefix: Option<Birth>,
}

struct Session<'a> {
    config: &'a Config,
    link: Link,
    events: &'a EventSender,
    seen: &'a mut Seen,
    untold: &'a mut Untold,
    impairment: &'a mut Option<String>,
    records: &'a mut Records,
    unreadable: BTreeSet<String>,
    /// Nodes that have to be read again.
    changed: BTreeSet<String>,
    removals: &'a mut Removals,
}

/// Runs a session on a fresh connection.
pub(super) async fn run(
    config: &Config,
    mut link: Link,
    events: &EventSender,
    known: &mut Known,
) -> Result<Infallible, Error> {
    link.watch(config.root()).await?;
    link.sync(config.root()).await?;
    let listing = list(config, &mut link, events, known.records.as_ref()).await?;
    let Listing {
        mut records,
        newest,
        prefix,
        unreadable,
    } = listing;
    let now = Seen { newest, prefix };
    let evidence = known.untold.note(evidence(known.seen, now, &unreadable));
    known.removals = missing(&evidence, &mut records, known);
    let mut session = Session {
        config,
        link,
        events,
        seen: known.seen.insert(now),
        untold: &mut known.untold,
        impairment: &mut known.impairment,
        records: known.records.insert(records),
        unreadable,
        changed: BTreeSet::new(),
        removals: &mut known.removals,
    };
    session.resync(evidence).await?;
    session.follow().await
}

/// Instances also register anew while a session begins: with a new leader, most of them at that moment. So what a listing
/// does not show has the same grace, unless the catalog has to judge it, and never a second one.
fn missing(evidence: &Evidence, records: &mut Records, known: &Known) -> Removals {
    let mut removals = Removals::new();
    if let (Evidence::Complete | Evidence::Partial { .. }, Some(before)) = (evidence, &known.records) {
        let now = Instant::now();
        records.await_missing(before, |path| {
            let due = known.removals.get(path).copied().unwrap_or(now + GRACE);
            if due > now {
                removals.insert(path.to_owned(), due);
            }
            due > now
        });
    }
    removals
}

/// Whether a listing may be believed to be newer than everything seen before.
fn evidence(seen: Option<Seen>, now: Seen, unreadable: &BTreeSet<String>) -> Evidence {
    if let Some(seen) = seen {
        if now.newest < seen.newest {
            return Evidence::NewEpoch {
                why: format!("the newest transaction was {:#x} and is {:#x}", seen.newest, now.newest),
            };
        }
        // Nobody deletes the prefix of instances that are alive, but an ensemble that was set up anew has another one.
        if seen.prefix.is_some() && now.prefix != seen.prefix {
            return Evidence::NewEpoch {
                why: "the prefix was deleted, or is another one than before".to_owned(),
            };
        }
    }
    match impairment(unreadable) {
        Some(why) => Evidence::Partial { why },
        None => Evidence::Complete,
    }
}

fn impairment(unreadable: &BTreeSet<String>) -> Option<String> {
    let first = unreadable.first()?;
    Some(match unreadable.len() {
        1 => format!("{first} may not be read; what was known of it is kept"),
        count => format!(
            "{first} and {} other nodes may not be read; what was known of them is kept",
            count - 1
        ),
    })
}

impl Session<'_> {
    async fn resync(&mut self, evidence: Evidence) -> Result<(), Error> {
        let services = self.records.snapshot();
        tracing::debug!(nodes = self.records.len(), services = services.len(), "listed");
        let resync = Event::Resync {
            services,
            unattributed: self.records.tell_unattributed().unwrap_or_default(),
            evidence,
            revision: self.revision(),
        };
        self.events.send(resync).await?;
        self.untold.told();
        // A resync says that all is well, so what can't be read is said again.
        let reason = impairment(&self.unreadable);
        if reason.is_some() || self.impairment.is_some() {
            self.impair(reason).await?;
        }
        Ok(())
    }

    async fn follow(mut self) -> Result<Infallible, Error> {
        let period = self.config.reconcile;
        let mut reconcile = interval_at(Instant::now() + period, period);
        reconcile.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // What was told during the listing, too.
            self.drain()?;
            self.settle().await?;
            let due = self.removals.values().min().copied();
            tokio::select! {
                event = self.link.event() => {
                    let event = event?;
                    self.note(event);
                }
                () = until(due) => {}
                _ = reconcile.tick() => self.reconcile().await?,
            }
        }
    }

    /// Takes every event that waits.
    fn drain(&mut self) -> Result<(), Error> {
        while let Some(event) = self.link.next_event()? {
            self.note(event);
        }
        Ok(())
    }

    fn note(&mut self, event: Told) {
        let Told { happening, path, zxid } = event;
        if path == self.config.root() {
            match happening {
                // It was seen to go, or to come: nothing to be surprised at. The next reading says which it is.
                Happening::Created | Happening::Deleted => self.seen.prefix = None,
                Happening::Changed | Happening::Other => {}
            }
        }
        // A transaction on a node that is not read leaves no trace in those that are.
        let root = self.config.root();
        if path == root || below(root, &path).is_none() || is_ignored(self.config.layout, root, &path) {
            return;
        }
        self.advance(zxid.unwrap_or_default());
        match happening {
            Happening::Created | Happening::Changed => {
                self.removals.remove(&path);
                self.changed.insert(path);
            }
            Happening::Deleted => {
                self.changed.remove(&path);
                self.removals.entry(path).or_insert_with(|| Instant::now() + GRACE);
            }
            // A recursive watch tells of the children themselves.
            Happening::Other => {}
        }
    }

    /// Reads what changed, lets go of what stayed away, and says what came of it.
    async fn settle(&mut self) -> Result<(), Error> {
        let now = Instant::now();
        // What is to go is looked at once more: that it came back may be known to the server, and not yet here.
        let due = self.removals.iter().filter(|(_, due)| **due <= now);
        let due = due.map(|(path, _)| path.clone());
        let paths: Vec<String> = std::mem::take(&mut self.changed).into_iter().chain(due).collect();
        for paths in paths.chunks(PIPELINE) {
            for (path, read) in paths.iter().zip(self.link.nodes(paths).await?) {
                self.take(path, read, now)?;
            }
        }
        if self.records.len() > MAX_NODES {
            return Err(too_many());
        }
        self.tell().await
    }

    fn take(&mut self, path: &str, read: Result<Node, Fault>, now: Instant) -> Result<(), Error> {
        match read {
            Ok(node) => {
                self.advance(node.newest);
                self.removals.remove(path);
                self.unreadable.remove(path);
                self.records.put(path, &node, None);
            }
            Err(Fault::Gone) => {
                let due = *self.removals.entry(path.to_owned()).or_insert(now + GRACE);
                if due <= now {
                    self.removals.remove(path);
                    self.unreadable.remove(path);
                    self.records.remove(path);
                }
            }
            Err(Fault::NoAuth) => {
                self.removals.remove(path);
                self.unreadable.insert(path.to_owned());
            }
            Err(Fault::Session(error)) => return Err(error),
        }
        Ok(())
    }

    async fn tell(&mut self) -> Result<(), Error> {
        let revision = self.revision();
        for change in self.records.changes() {
            let event = match change {
                Change::Applied(service) => Event::Apply { service, revision },
                Change::Deleted(name) => Event::Delete { name, revision },
            };
            self.events.send(event).await?;
        }
        if let Some(rejections) = self.records.tell_unattributed() {
            self.events.send(Event::Unattributed { rejections }).await?;
        }
        let reason = impairment(&self.unreadable);
        if reason != *self.impairment {
            self.impair(reason).await?;
        }
        Ok(())
    }

    async fn impair(&mut self, reason: Option<String>) -> Result<(), Error> {
        if reason != *self.impairment {
            let source = self.events.source();
            match &reason {
                Some(reason) => tracing::warn!(%source, reason, "part of the tree can't be read"),
                None => tracing::info!(%source, "the whole tree can be read again"),
            }
            self.impairment.clone_from(&reason);
        }
        self.events.send(Event::Impaired { reason }).await
    }

    /// Compares what is held with a fresh read. What an event touched meanwhile proves itself: the client gets an event
    /// before it can read the change, so each of them waits in the queue when the reading is done.
    async fn reconcile(&mut self) -> Result<(), Error> {
        self.link.sync(self.config.root()).await?;
        let fresh = list(self.config, &mut self.link, self.events, Some(&*self.records)).await?;
        self.drain()?;
        self.seen.prefix = fresh.prefix;
        if fresh.unreadable != self.unreadable {
            return Err(Error::Resync("what may be read changed".to_owned()));
        }
        let excused = |path: &str| self.changed.contains(path) || self.removals.contains_key(path);
        let drift = self.records.drift(&fresh.records, excused);
        self.events.send(Event::Reconciled { drift }).await?;
        if drift > 0 {
            return Err(Error::Resync(format!(
                "{drift} held nodes differ from a fresh read: events were lost"
            )));
        }
        Ok(())
    }

    fn advance(&mut self, zxid: i64) {
        self.seen.newest = zxid.max(self.seen.newest);
    }

    fn revision(&self) -> u64 {
        u64::try_from(self.seen.newest).unwrap_or_default()
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;

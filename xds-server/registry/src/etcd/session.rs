//! One session: list, then follow, until there is a doubt.
//!
//! Invariant: what the controller has been told is exactly `records`, which is exactly the prefix at `delivered`.

use std::convert::Infallible;
use std::pin::Pin;
use std::time::Duration;

use etcd_client::{WatchRequestSender, WatchResponseStream};
use leadsman_core::model::Evidence;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until};

use super::client::{Link, Page, PageRequest};
use super::config::Config;
use super::errors::Fault;
use super::reconcile::Reconcile;
use super::records::{Change, Owners, Records};
use super::watch::{Assembler, Step};
use crate::{Error, Event, EventSender};

/// How often the server is asked whether the watch is up to date.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(30);
/// Silence that three questions could have broken.
const MAX_SILENCE: Duration = Duration::from_secs(90);
/// Listings begun anew because history was compacted under them. More in a row means that pages are too small for the
/// cluster's compaction.
const MAX_LISTINGS: usize = 5;

/// What survives a session.
#[derive(Debug, Default)]
pub(super) struct Known {
    seen: Option<Seen>,
    /// What the latest session with a listing held, until the next session begins.
    records: Option<Records>,
    /// What is left of it then: the new listing has to know whose a damaged record was.
    owners: Owners,
}

/// How far, and of which cluster, the registry has been seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    cluster_id: u64,
    revision: i64,
}

struct Session<'a> {
    link: Link,
    events: &'a EventSender,
    seen: &'a mut Option<Seen>,
    records: &'a mut Records,
    /// The last revision the watch has delivered whole.
    delivered: i64,
    /// A reconcile waits for the next proof of progress. An older revision may be compacted already, in a cluster
    /// that others keep busy while this prefix is quiet.
    due: bool,
    reconcile: Option<Reconcile>,
    /// The page the reconcile waits for.
    fetch: Option<Fetch>,
}

type Fetch = Pin<Box<dyn Future<Output = Result<Page, Fault>> + Send>>;

/// Runs a session on a fresh connection.
pub(super) async fn run(
    config: &Config,
    link: Link,
    events: &EventSender,
    known: &mut Known,
) -> Result<Infallible, Error> {
    // A session that ended before its listing was complete has no records, and the owners stay those of an older one.
    if let Some(records) = known.records.take() {
        known.owners = records.into_owners();
    }
    let (records, now) = list(config, &link, events, &known.owners).await?;
    let evidence = match evidence(known.seen, now) {
        Evidence::Complete => witnessed(&link, known.seen, records.witness(&known.owners)).await?,
        doubt @ (Evidence::Partial { .. } | Evidence::NewEpoch { .. }) => doubt,
    };
    let records = known.records.insert(records);
    known.owners.clear();
    let seen = &mut known.seen;
    let services = records.snapshot();
    tracing::debug!(
        revision = now.revision,
        records = records.len(),
        services = services.len(),
        "listed"
    );
    let resync = Event::Resync {
        services,
        unattributed: records.tell_unattributed().unwrap_or_default(),
        evidence,
        revision: unsigned(now.revision),
    };
    events.send(resync).await?;
    *seen = Some(now);
    let session = Session {
        link,
        events,
        seen,
        records,
        delivered: now.revision,
        due: false,
        reconcile: None,
        fetch: None,
    };
    session.follow(config.reconcile).await
}

/// Reads every page at one revision; begins anew when that revision is compacted meanwhile.
async fn list(config: &Config, link: &Link, events: &EventSender, owners: &Owners) -> Result<(Records, Seen), Error> {
    let mut last = String::new();
    for _ in 0..MAX_LISTINGS {
        match list_once(config, link, events, owners).await {
            Err(Fault::Compacted(text)) => {
                tracing::debug!(reason = %text, "the listing begins anew");
                last = text;
            }
            outcome => return Ok(outcome?),
        }
    }
    Err(Error::Unavailable(format!(
        "history was compacted during each of {MAX_LISTINGS} listings, raise page_size: {last}"
    )))
}

async fn list_once(
    config: &Config,
    link: &Link,
    events: &EventSender,
    owners: &Owners,
) -> Result<(Records, Seen), Fault> {
    let mut records = Records::new(config.layout, &config.prefix);
    let mut request = PageRequest::default();
    let mut now: Option<Seen> = None;
    loop {
        let page = link.page(request.clone()).await?;
        let at = *now.get_or_insert(Seen {
            cluster_id: page.cluster_id,
            revision: page.revision,
        });
        events.syncing();
        let last = page.records.last().map(|record| record.key.clone());
        records.load(page.records, owners);
        match last {
            Some(last) if page.more => {
                request = PageRequest {
                    after: Some(last),
                    revision: at.revision,
                    keys_only: false,
                };
            }
            Some(_) | None => return Ok((records, at)),
        }
    }
}

/// Whether a listing may be believed to be newer than everything seen before.
fn evidence(seen: Option<Seen>, now: Seen) -> Evidence {
    let Some(seen) = seen else {
        return Evidence::Complete;
    };
    if seen.cluster_id != now.cluster_id {
        let (was, is) = (seen.cluster_id, now.cluster_id);
        return Evidence::NewEpoch {
            why: format!("the cluster id was {was:x} and is {is:x}"),
        };
    }
    if now.revision < seen.revision {
        let (was, is) = (seen.revision, now.revision);
        return Evidence::NewEpoch {
            why: format!("the revision went back from {was} to {is}"),
        };
    }
    Evidence::Complete
}

/// Asks the registry about a key that is gone: a registry with the history we have seen still knows it at the revision
/// up to which we have seen it. One that lost its data, and has since written as much as it had before, does not.
async fn witnessed(link: &Link, seen: Option<Seen>, witness: Option<(&[u8], i64)>) -> Result<Evidence, Error> {
    let (Some(seen), Some((key, revision))) = (seen, witness) else {
        return Ok(Evidence::Complete);
    };
    match link.revision_of(key, seen.revision).await {
        Ok(Some(then)) if then == revision => Ok(Evidence::Complete),
        Ok(_) => Ok(Evidence::NewEpoch {
            why: format!(
                "{} was written at revision {revision}, and the registry has never heard of it",
                String::from_utf8_lossy(key)
            ),
        }),
        // The past is compacted away, which a registry that just lost its data does not get round to.
        Err(Fault::Compacted(_)) => Ok(Evidence::Complete),
        Err(fault) => Err(fault.into()),
    }
}

fn unsigned(revision: i64) -> u64 {
    u64::try_from(revision).unwrap_or_default()
}

impl Session<'_> {
    async fn follow(mut self, reconcile_every: Duration) -> Result<Infallible, Error> {
        // From the listed revision and not the next: newer etcd leaves the question for progress without an answer while
        // the store has not reached the revision a watch starts at, and a quiet registry would look like a dead one. What
        // was listed and arrives again changes nothing.
        let (mut questions, mut answers) = self.link.watch(self.delivered).await?;
        let mut assembler = Assembler::default();
        let mut heard = Instant::now();
        let mut progress = every(PROGRESS_INTERVAL);
        let mut reconcile = every(reconcile_every);
        loop {
            // The stream comes first: a slow controller must not turn answers that wait into silence.
            tokio::select! {
                biased;
                step = next(&mut answers, &mut assembler) => {
                    self.take(step?).await?;
                    heard = Instant::now();
                }
                page = fetched(&mut self.fetch) => {
                    self.fetch = None;
                    self.compare(page).await?;
                }
                () = sleep_until(heard + MAX_SILENCE) => {
                    return Err(Error::Unavailable(format!("the watch was silent for {MAX_SILENCE:?}")));
                }
                _ = progress.tick() => ask(&mut questions).await?,
                _ = reconcile.tick(), if self.reconcile.is_none() => {
                    self.due = true;
                    ask(&mut questions).await?;
                }
            }
        }
    }

    /// Passes on what a message of the watch says.
    async fn take(&mut self, step: Step) -> Result<(), Error> {
        match step {
            Step::Nothing => {}
            Step::Progress(revision) => {
                self.advance(revision);
                let revision = unsigned(self.delivered);
                self.events.send(Event::Progress { revision }).await?;
                if std::mem::take(&mut self.due) {
                    let pass = self.reconcile.insert(Reconcile::new(self.delivered));
                    self.fetch = Some(Box::pin(self.link.page(pass.request())));
                }
            }
            Step::Batch { records, revision } => {
                if self.reconcile.as_mut().is_some_and(|pass| !pass.touch(&records)) {
                    tracing::debug!("too many changes during a reconcile, it is given up");
                    self.reconcile = None;
                    self.fetch = None;
                }
                let changes = self.records.apply(records);
                self.advance(revision);
                self.tell(changes).await?;
            }
        }
        Ok(())
    }

    async fn tell(&mut self, changes: Vec<Change>) -> Result<(), Error> {
        let revision = unsigned(self.delivered);
        for change in changes {
            let event = match change {
                Change::Applied(service) => Event::Apply { service, revision },
                Change::Deleted(name) => Event::Delete { name, revision },
            };
            self.events.send(event).await?;
        }
        match self.records.tell_unattributed() {
            Some(rejections) => self.events.send(Event::Unattributed { rejections }).await,
            None => Ok(()),
        }
    }

    fn advance(&mut self, revision: i64) {
        self.delivered = self.delivered.max(revision);
        if let Some(seen) = self.seen {
            seen.revision = seen.revision.max(revision);
        }
    }

    /// Takes a page of a reconcile, and asks for the next one or says what came out.
    async fn compare(&mut self, page: Result<Page, Fault>) -> Result<(), Error> {
        let Some(mut pass) = self.reconcile.take() else {
            return Ok(());
        };
        let page = match page {
            Ok(page) => page,
            Err(Fault::Compacted(reason)) => {
                tracing::debug!(%reason, "a reconcile waits for the next progress");
                self.due = true;
                return Ok(());
            }
            Err(fault) => return Err(fault.into()),
        };
        let more = page.more && !page.records.is_empty();
        pass.compare(self.records, &page.records, !more);
        if more {
            self.fetch = Some(Box::pin(self.link.page(pass.request())));
            self.reconcile = Some(pass);
            return Ok(());
        }
        let drift = pass.drift();
        self.events.send(Event::Reconciled { drift }).await?;
        if drift == 0 {
            return Ok(());
        }
        Err(Error::Resync(format!(
            "{drift} held records differ from a fresh read: events were lost"
        )))
    }
}

fn every(period: Duration) -> tokio::time::Interval {
    let mut interval = interval_at(Instant::now() + period, period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

async fn next(answers: &mut WatchResponseStream, assembler: &mut Assembler) -> Result<Step, Error> {
    match answers.message().await {
        Ok(Some(response)) => assembler.accept(response.into()),
        Ok(None) => Err(Error::Unavailable("etcd ended the watch".to_owned())),
        Err(error) => Err(Fault::of(&error).into()),
    }
}

/// The page a reconcile waits for; never, when there is none.
async fn fetched(fetch: &mut Option<Fetch>) -> Result<Page, Fault> {
    match fetch {
        Some(page) => page.await,
        None => std::future::pending().await,
    }
}

async fn ask(questions: &mut WatchRequestSender) -> Result<(), Error> {
    questions
        .request_progress()
        .await
        .map_err(|error| Fault::of(&error).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_cluster_or_an_older_revision_is_a_new_epoch() {
        let seen = |cluster_id, revision| Seen { cluster_id, revision };
        let why = |before, now| match evidence(before, now) {
            Evidence::Complete => None,
            Evidence::NewEpoch { why } | Evidence::Partial { why } => Some(why),
        };
        assert_eq!(why(None, seen(1, 5)), None);
        assert_eq!(why(Some(seen(1, 5)), seen(1, 5)), None);
        assert_eq!(why(Some(seen(1, 5)), seen(1, 9)), None);
        assert_eq!(
            why(Some(seen(1, 5)), seen(1, 4)).unwrap(),
            "the revision went back from 5 to 4"
        );
        assert_eq!(
            why(Some(seen(0xa, 5)), seen(0xb, 500)).unwrap(),
            "the cluster id was a and is b"
        );
    }
}

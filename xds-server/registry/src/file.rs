//! The file source: a directory of YAML files, one service a document.
//!
//! The registry for everything that has none, and the one that every test and first try can use. A file that is broken
//! or being written keeps what it said; only a file that is gone takes its services along. The kernel's watch makes
//! changes quick, a scan every few seconds makes them certain.

mod merge;
mod parse;
mod scan;
mod watch;

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use leadsman_core::model::Evidence;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tokio::time::MissedTickBehavior;

use self::merge::{Change, Services, diff, merge, touched};
use self::scan::{Files, Reread, Scan, scan};
pub use self::scan::{MAX_FILE_BYTES, MAX_FILES, MAX_TOTAL_BYTES};
use self::watch::{Announcements, Pending, Watched};
use crate::contract::{Error, Event, EventSender, Registry};
use crate::settings::Settings;

/// How often the directory is compared with what is held, whatever the watch says.
const SAFETY_SCAN: Duration = Duration::from_secs(5);

/// How often a directory that is replaced again and again is read anew before the safety scan takes over.
const MAX_TRIES: usize = 3;

/// `file:` under a source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The directory that holds the `*.yaml` and `*.yml` files. A relative path counts from the folder of the
    /// configuration file, and is resolved before it gets here.
    pub path: PathBuf,
}

impl Settings for Config {
    fn validate(&self) -> Result<(), String> {
        Ok(())
    }

    fn files(&mut self) -> Vec<(&'static [&'static str], &mut PathBuf)> {
        vec![(&["path"], &mut self.path)]
    }
}

/// The registry that is a directory. What the files said last survives the end of a session.
#[derive(Debug)]
pub struct File {
    path: PathBuf,
    files: Arc<Files>,
    services: Services,
    /// What the controller was last told about unreadable files.
    impairment: Option<String>,
    /// Counts the scans that changed something.
    revision: u64,
    /// One read at a time: a file system that hangs must not collect threads.
    reading: Arc<Semaphore>,
    /// Whether the log knows that the directory can't be watched.
    unwatched: bool,
}

/// One session.
struct Session<'a> {
    file: &'a mut File,
    events: &'a EventSender,
    announcements: Arc<Announcements>,
    watched: Option<Watched>,
}

/// What one blocking read brings back.
struct Reading {
    scan: Scan,
    watched: Result<Watched, String>,
}

impl File {
    pub fn new(config: Config) -> Self {
        Self {
            path: config.path,
            files: Arc::default(),
            services: Services::new(),
            impairment: None,
            revision: 0,
            reading: Arc::new(Semaphore::new(1)),
            unwatched: false,
        }
    }
}

impl Registry for File {
    fn kind(&self) -> &'static str {
        "file"
    }

    async fn run(&mut self, events: &EventSender) -> Result<Infallible, Error> {
        events.syncing();
        let mut session = Session {
            file: self,
            events,
            announcements: Arc::default(),
            watched: None,
        };
        session.begin().await?;
        let mut ticks = tokio::time::interval(SAFETY_SCAN);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.tick().await;
        loop {
            tokio::select! {
                biased;
                () = session.announcements.announced() => {
                    session.announcements.quiet().await;
                    session.follow().await?;
                }
                _ = ticks.tick() => session.reconcile().await?,
            }
        }
    }
}

impl Session<'_> {
    async fn begin(&mut self) -> Result<(), Error> {
        let everything = Pending {
            reread: Reread::All,
            ..Pending::default()
        };
        let scan = self.read(everything).await?;
        self.resync(scan).await
    }

    /// Reads what was announced.
    async fn follow(&mut self) -> Result<(), Error> {
        let pending = self.announcements.take();
        let scan = self.read(pending).await?;
        let changes = self.compare(&scan);
        self.publish(scan, changes).await
    }

    /// Reads what nobody announced: the net under the watch.
    async fn reconcile(&mut self) -> Result<(), Error> {
        let was_watched = self.watched.is_some();
        let scan = self.read(Pending::default()).await?;
        let changes = self.compare(&scan);
        if !was_watched {
            return self.publish(scan, changes).await;
        }
        let found = !changes.is_empty() || scan.impairment() != self.file.impairment;
        if found && self.announcements.soon().await {
            // The writer may be halfway. What was announced is read when it has been quiet.
            return Ok(());
        }
        let drift = changes.len() as u64;
        self.events.send(Event::Reconciled { drift }).await?;
        if drift == 0 {
            return self.publish(scan, changes).await;
        }
        let (source, directory) = (self.events.source(), self.file.path.display());
        tracing::warn!(%source, %directory, drift, "files changed and the watch did not say so");
        self.resync(scan).await
    }

    fn compare(&self, scan: &Scan) -> Vec<Change> {
        let names = touched(&self.file.files, &scan.files);
        diff(&self.file.services, &scan.files, &names)
    }

    /// Says everything.
    async fn resync(&mut self, scan: Scan) -> Result<(), Error> {
        let impairment = scan.impairment();
        self.file.services = merge(&scan.files);
        self.file.files = Arc::new(scan.files);
        self.file.revision += 1;
        let resync = Event::Resync {
            services: self.file.services.values().cloned().collect(),
            unattributed: Vec::new(),
            evidence: match &impairment {
                Some(why) => Evidence::Partial { why: why.clone() },
                None => Evidence::Complete,
            },
            revision: self.file.revision,
        };
        self.events.send(resync).await?;
        // A resync says that all is well, so what is still broken is said again.
        if impairment.is_some() || self.file.impairment.is_some() {
            self.impair(impairment).await?;
        }
        Ok(())
    }

    /// Says what changed.
    async fn publish(&mut self, scan: Scan, changes: Vec<Change>) -> Result<(), Error> {
        let impairment = scan.impairment();
        self.file.files = Arc::new(scan.files);
        if !changes.is_empty() {
            self.file.revision += 1;
        }
        let revision = self.file.revision;
        for change in changes {
            let event = match change {
                Change::Apply(service) => {
                    self.file.services.insert(service.name.clone(), service.clone());
                    Event::Apply { service, revision }
                }
                Change::Delete(name) => {
                    self.file.services.remove(&name);
                    Event::Delete { name, revision }
                }
            };
            self.events.send(event).await?;
        }
        if impairment != self.file.impairment {
            self.impair(impairment).await?;
        }
        Ok(())
    }

    async fn impair(&mut self, reason: Option<String>) -> Result<(), Error> {
        if reason != self.file.impairment {
            let (source, directory) = (self.events.source(), self.file.path.display());
            match &reason {
                Some(reason) => tracing::warn!(%source, %directory, reason, "broken files; their last content is kept"),
                None => tracing::info!(%source, %directory, "every file is readable again"),
            }
            self.file.impairment.clone_from(&reason);
        }
        self.events.send(Event::Impaired { reason }).await
    }

    /// Reads the directory on a thread that may block, and keeps the watch on it.
    async fn read(&mut self, pending: Pending) -> Result<Scan, Error> {
        let permit = Arc::clone(&self.file.reading).acquire_owned().await;
        let path = self.file.path.clone();
        let announcements = Arc::clone(&self.announcements);
        let watched = self.watched.take().filter(|_| !pending.directory_moved);
        let known = Arc::clone(&self.file.files);
        let work = move || {
            let reading = read_watched(path, &announcements, watched, &known, &pending.reread);
            drop(permit);
            reading
        };
        let reading = tokio::task::spawn_blocking(work)
            .await
            .map_err(|error| Error::Unavailable(format!("reading the directory was broken off: {error}")))??;
        match reading.watched {
            Ok(watched) => {
                self.watched = Some(watched);
                self.file.unwatched = false;
            }
            Err(error) if !self.file.unwatched => {
                self.file.unwatched = true;
                let (source, directory) = (self.events.source(), self.file.path.display());
                tracing::warn!(%source, %directory, error, "no watch on the directory; it is read every few seconds");
            }
            Err(_) => {}
        }
        Ok(reading.scan)
    }
}

/// Sets the watch first and lists then, so that no change falls between the two.
fn read_watched(
    path: PathBuf,
    announcements: &Arc<Announcements>,
    watched: Option<Watched>,
    known: &Files,
    reread: &Reread,
) -> Result<Reading, Error> {
    let path = std::path::absolute(&path).unwrap_or(path);
    let mut watched = watched.map_or_else(|| Watched::open(&path, announcements), Ok);
    let mut scan_now = scan(&path, known, reread)?;
    for _ in 1..MAX_TRIES {
        if watched.as_ref().is_ok_and(|w| w.identity == scan_now.directory) || watched.is_err() {
            break;
        }
        watched = Watched::open(&path, announcements);
        scan_now = scan(&path, known, reread)?;
    }
    Ok(Reading {
        scan: scan_now,
        watched,
    })
}

#[cfg(test)]
mod tests;

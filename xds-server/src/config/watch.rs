//! A configuration file that is read again when it changes, or when somebody asks with SIGHUP.
//!
//! The directory is watched rather than the file: editors replace files, and a mounted ConfigMap swaps a link beside
//! them. Notifications can be lost, so the file is also looked at from time to time. Nothing is said while the content
//! stays the same, except after SIGHUP, where somebody waits for an answer.

use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::Watcher as _;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::problem::{Problem, Problems};
use super::read::{contents, understand};
use super::{Config, Overrides};

/// A file is read once it has been left alone for this long: writers write in pieces.
pub(super) const SETTLE: Duration = Duration::from_millis(200);
/// A file that never settles is read all the same.
const LONGEST_SETTLE: Duration = Duration::from_secs(2);
/// How long a change stays unseen when its notification is lost, or on a file system without any.
const RECHECK: Duration = Duration::from_secs(30);

/// Yields every new content of one file.
#[derive(Debug)]
pub struct Watcher {
    path: PathBuf,
    overrides: Overrides,
    last: Result<String, Box<Problem>>,
    changes: mpsc::Receiver<()>,
    hangups: Signal,
    pending: Option<Pending>,
    recheck: Instant,
    _directory: Option<notify::RecommendedWatcher>,
}

/// A change that is waited out. Kept outside the future, so that dropping the future loses nothing.
#[derive(Clone, Copy, Debug)]
struct Pending {
    read_at: Instant,
    no_later_than: Instant,
    asked_for: bool,
}

impl Watcher {
    /// Watches first and reads then, so that no change falls in between. Needs a tokio runtime.
    ///
    /// # Errors
    /// Every problem of the file at once.
    pub fn start(path: &Path, overrides: Overrides) -> Result<(Self, Config), Problems> {
        let problem =
            |message: String| Problems::new(path, vec![Problem::of_file(message, "this is not the file's fault")]);
        // One place is enough: a change that finds it taken will be seen with the one before.
        let (changed, changes) = mpsc::channel(1);
        let hangups =
            signal(SignalKind::hangup()).map_err(|error| problem(format!("SIGHUP can't be received: {error}")))?;
        let directory = watch_directory(path, changed);
        let last = contents(path);
        let config = match &last {
            Ok(text) => understand(text, path, &overrides).into_result()?,
            Err(problem) => return Err(Problems::new(path, vec![(**problem).clone()])),
        };
        let watcher = Self {
            path: path.to_owned(),
            overrides,
            last,
            changes,
            hangups,
            pending: None,
            recheck: Instant::now() + RECHECK,
            _directory: directory,
        };
        Ok((watcher, config))
    }

    /// The file in its next state. A caller keeps the old configuration when this is an error. Nothing is lost when
    /// the future is dropped.
    ///
    /// # Errors
    /// Every problem of the new content at once.
    pub async fn next(&mut self) -> Result<Config, Problems> {
        loop {
            let asked_for = self.settled().await;
            let content = contents(&self.path);
            self.pending = None;
            self.recheck = Instant::now() + RECHECK;
            if content == self.last && !asked_for {
                continue;
            }
            self.last.clone_from(&content);
            return match content {
                Ok(text) => understand(&text, &self.path, &self.overrides).into_result(),
                Err(problem) => Err(Problems::new(&self.path, vec![*problem])),
            };
        }
    }

    /// Waits for a reason to read and for the file to be left alone; says whether somebody asked.
    async fn settled(&mut self) -> bool {
        loop {
            let deadline = self.pending.map_or(self.recheck, |pending| pending.read_at);
            tokio::select! {
                biased;
                Some(()) = self.hangups.recv() => self.note(true),
                Some(()) = self.changes.recv() => self.note(false),
                () = tokio::time::sleep_until(deadline) => {
                    return self.pending.is_some_and(|pending| pending.asked_for);
                }
            }
        }
    }

    pub(super) fn note(&mut self, asked_for: bool) {
        let now = Instant::now();
        let pending = self.pending.get_or_insert(Pending {
            read_at: now,
            no_later_than: now + LONGEST_SETTLE,
            asked_for,
        });
        pending.asked_for |= asked_for;
        pending.read_at = (now + SETTLE).min(pending.no_later_than);
    }
}

/// Without notifications the file is still looked at from time to time, so this is no reason to give up.
fn watch_directory(path: &Path, changed: mpsc::Sender<()>) -> Option<notify::RecommendedWatcher> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    };
    let on_event = move |event: notify::Result<notify::Event>| {
        if !event.is_ok_and(|event| event.kind.is_access()) {
            // Full means that a change is already waiting to be seen.
            let _ = changed.try_send(());
        }
    };
    let watcher = notify::recommended_watcher(on_event).and_then(|mut watcher| {
        watcher.watch(directory, notify::RecursiveMode::NonRecursive)?;
        Ok(watcher)
    });
    watcher
        .inspect_err(|error| {
            tracing::warn!(
                directory = %directory.display(),
                %error,
                recheck_seconds = RECHECK.as_secs(),
                "the directory of the configuration can't be watched; the file is looked at from time to time"
            );
        })
        .ok()
}

//! What the kernel announces about the directory. A hint that something changed, never proof that nothing did.
//!
//! The directory is watched and not its files: a ConfigMap swaps a link in it, and editors replace files. Its parent is
//! watched too, for the moment in which the directory itself is replaced.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind};
use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::scan::{Identity, MAX_FILES, Reread};

/// A change is read when the directory has been quiet for so long: most writers need several steps.
const QUIET: Duration = Duration::from_millis(50);
/// A directory that is never quiet is read all the same.
const MAX_WAIT: Duration = Duration::from_millis(500);

/// What was announced and not yet read. Shared with the watcher's thread.
#[derive(Debug, Default)]
pub(super) struct Announcements {
    pending: Mutex<Pending>,
    wake: Notify,
}

#[derive(Debug, Default)]
pub(super) struct Pending {
    pub(super) reread: Reread,
    /// The directory itself was moved, removed or replaced: the watch may look at another one by now.
    pub(super) directory_moved: bool,
}

/// A watch and the directory it was set on.
#[derive(Debug)]
pub(super) struct Watched {
    pub(super) identity: Identity,
    _watcher: RecommendedWatcher,
}

impl Announcements {
    /// Waits for an announcement.
    pub(super) async fn announced(&self) {
        self.wake.notified().await;
    }

    /// Waits until the announcements pause.
    pub(super) async fn quiet(&self) {
        let latest = Instant::now() + MAX_WAIT;
        loop {
            let until = latest.min(Instant::now() + QUIET);
            if timeout_at(until, self.wake.notified()).await.is_err() || Instant::now() >= latest {
                return;
            }
        }
    }

    /// Whether something is announced now or within the time a watcher needs to say so.
    pub(super) async fn soon(&self) -> bool {
        let announced = timeout_at(Instant::now() + QUIET, self.wake.notified()).await.is_ok();
        if announced {
            self.wake.notify_one();
        }
        announced
    }

    pub(super) fn take(&self) -> Pending {
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, directory: &Path, event: notify::Result<Event>) {
        let Ok(event) = event else {
            self.lock().reread = Reread::All;
            self.wake.notify_one();
            return;
        };
        if event.need_rescan() {
            self.lock().reread = Reread::All;
            self.wake.notify_one();
        }
        // Our own reading opens and closes files, and must not announce itself.
        let is_read = matches!(event.kind, EventKind::Access(kind) if kind != AccessKind::Close(AccessMode::Write));
        if is_read {
            return;
        }
        for path in &event.paths {
            self.note_path(directory, event.kind, path);
        }
    }

    fn note_path(&self, directory: &Path, kind: EventKind, path: &Path) {
        let mut pending = self.lock();
        if path == directory {
            pending.directory_moved |= match kind {
                EventKind::Create(_) | EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_)) => true,
                EventKind::Any | EventKind::Access(_) | EventKind::Modify(_) | EventKind::Other => false,
            };
        } else if path.parent() == Some(directory) {
            pending.reread.add(path);
        } else if path.parent() == directory.parent() {
            return; // A neighbour of the directory.
        }
        drop(pending);
        self.wake.notify_one();
    }
}

impl Reread {
    fn add(&mut self, path: &Path) {
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            return;
        };
        match self {
            Self::All => {}
            Self::Changed => *self = Self::Named(BTreeSet::from([name.to_owned()])),
            Self::Named(names) if names.len() < MAX_FILES => {
                names.insert(name.to_owned());
            }
            Self::Named(_) => *self = Self::All,
        }
    }
}

impl Watched {
    /// Watches `directory`, an absolute path, from now on. Blocking.
    pub(super) fn open(directory: &Path, announcements: &Arc<Announcements>) -> Result<Self, String> {
        let handler = {
            let (directory, announcements) = (PathBuf::from(directory), Arc::clone(announcements));
            move |event| announcements.note(&directory, event)
        };
        let mut watcher = notify::recommended_watcher(handler).map_err(|error| error.to_string())?;
        watcher
            .watch(directory, RecursiveMode::NonRecursive)
            .map_err(|error| error.to_string())?;
        if let Some(parent) = directory.parent()
            && let Err(error) = watcher.watch(parent, RecursiveMode::NonRecursive)
        {
            tracing::debug!(directory = %directory.display(), %error, "the parent directory can't be watched");
        }
        let identity = Identity::of(directory).map_err(|error| error.to_string())?;
        Ok(Self {
            identity,
            _watcher: watcher,
        })
    }
}

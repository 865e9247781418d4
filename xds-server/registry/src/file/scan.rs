//! Reads the directory: blocking, and cheap when nothing changed.
//!
//! A file that can't be read or understood keeps what it said before, because only a file that is gone says that its
//! services are. What is gone is known from a listing that succeeded as a whole.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Metadata};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use leadsman_core::model::Service;

use super::parse::parse;
use crate::contract::Error;

/// Largest file that is read: some hundred thousand endpoints.
pub const MAX_FILE_BYTES: u64 = 16 * 1024 * 1024;
/// Most files that are read, the first by name. Each costs a `stat` at every safety scan.
pub const MAX_FILES: usize = 10_000;
/// Most bytes in all files together: parsed they need several times as much memory.
pub const MAX_TOTAL_BYTES: u64 = 256 * 1024 * 1024;

/// Two writes within one tick of the file system's clock look the same, so a file that has just changed is read again
/// until its last change is older than this, the tick of the coarsest clock in use (FAT).
const SETTLED_AFTER: Duration = Duration::from_secs(2);

/// Most broken files named in one message; the others are counted.
const MAX_NAMED: usize = 16;

/// All files, by name.
pub(super) type Files = BTreeMap<String, FileState>;

#[derive(Clone, Debug, Default)]
pub(super) struct FileState {
    /// `None` when the next scan has to read the file again, whatever it looks like.
    pub(super) seen: Option<Fingerprint>,
    /// What the file said when it was last understood; `None` when it never was.
    pub(super) content: Option<Arc<Vec<Service>>>,
    /// Why `content` is not what the file says now.
    pub(super) trouble: Option<String>,
}

/// What tells two states of a file apart without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fingerprint {
    identity: Identity,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// Device and inode: the same name with another identity is another file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
}

/// The directory at one moment.
#[derive(Debug)]
pub(super) struct Scan {
    pub(super) files: Files,
    pub(super) directory: Identity,
    /// Files beyond [`MAX_FILES`].
    overflow: usize,
}

/// Which files to read even if they look unchanged.
#[derive(Clone, Debug, Default)]
pub(super) enum Reread {
    #[default]
    Changed,
    Named(BTreeSet<String>),
    All,
}

impl Reread {
    fn includes(&self, name: &str) -> bool {
        match self {
            Self::Changed => false,
            Self::Named(names) => names.contains(name),
            Self::All => true,
        }
    }
}

impl Identity {
    /// The directory's identity; links are followed.
    pub(super) fn of(directory: &Path) -> Result<Self, Error> {
        let metadata = fs::metadata(directory).map_err(|error| unlistable(directory, &error))?;
        if !metadata.is_dir() {
            return Err(Error::Misconfigured(format!(
                "{} is not a directory; `path` names the directory that holds the YAML files, not one of them",
                directory.display()
            )));
        }
        Ok(Self::from_metadata(&metadata))
    }

    fn from_metadata(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
        }
    }
}

impl Fingerprint {
    fn new(metadata: &Metadata) -> Self {
        Self {
            identity: Identity::from_metadata(metadata),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Whether a further change would show in the fingerprint.
    fn is_settled(&self, now: SystemTime) -> bool {
        let changed = Duration::from_secs(self.changed.0.max(0).unsigned_abs());
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        now.abs_diff(changed) > SETTLED_AFTER
    }
}

impl Scan {
    /// One line about everything that can't be read, `None` when all is well.
    pub(super) fn impairment(&self) -> Option<String> {
        let mut troubles = self.files.values().filter_map(|state| state.trouble.as_deref());
        let mut named: Vec<String> = troubles.by_ref().take(MAX_NAMED).map(str::to_owned).collect();
        let unnamed = troubles.count();
        if unnamed > 0 {
            named.push(format!("and {unnamed} more files"));
        }
        if self.overflow > 0 {
            named.push(format!(
                "{} files beyond the first {MAX_FILES} are not read; put several services into one file",
                self.overflow
            ));
        }
        (!named.is_empty()).then(|| named.join("; "))
    }
}

/// Lists the directory and reads what changed since `known`.
///
/// # Errors
/// [`Error::Unavailable`] when the directory can't be listed as a whole, [`Error::Misconfigured`] when it is none.
pub(super) fn scan(directory: &Path, known: &Files, reread: &Reread) -> Result<Scan, Error> {
    let identity = Identity::of(directory)?;
    let (names, overflow) = list(directory).map_err(|error| unlistable(directory, &error))?;
    let mut files = Files::new();
    let mut total = 0;
    for name in &names {
        let before = known.get(name);
        if let Some(state) = read(directory, name, before, reread.includes(name), &mut total) {
            files.insert(name.clone(), state);
        }
    }
    // Whether a file beyond the limit still exists is not known, so those that were read once stay.
    if let Some(last) = names.last()
        && overflow > 0
    {
        let beyond = known.iter().filter(|(name, _)| *name > last);
        files.extend(beyond.map(|(name, state)| (name.clone(), state.clone())));
    }
    Ok(Scan {
        files,
        directory: identity,
        overflow,
    })
}

fn unlistable(directory: &Path, error: &io::Error) -> Error {
    let directory = directory.display();
    Error::Unavailable(if error.kind() == ErrorKind::NotFound {
        format!("the directory {directory} does not exist; create it or correct `path`")
    } else {
        format!("the directory {directory} can't be listed: {error}")
    })
}

/// The first [`MAX_FILES`] names of YAML files, and how many there are beyond.
fn list(directory: &Path) -> io::Result<(BTreeSet<String>, usize)> {
    let mut names = BTreeSet::new();
    let mut overflow = 0;
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name();
        // A name that is not UTF-8 is kept in its readable form: it is reported as a file that can't be found.
        let name = name.to_string_lossy();
        let is_yaml = name.ends_with(".yaml") || name.ends_with(".yml");
        if is_yaml && !name.starts_with('.') {
            names.insert(name.into_owned());
        }
        if names.len() > MAX_FILES {
            names.pop_last();
            overflow += 1;
        }
    }
    Ok((names, overflow))
}

/// The state of one file; `None` when it is gone since the directory was listed.
fn read(directory: &Path, name: &str, before: Option<&FileState>, reread: bool, total: &mut u64) -> Option<FileState> {
    let broken = |seen: Option<Fingerprint>, why: String| {
        Some(FileState {
            seen,
            content: before.and_then(|state| state.content.clone()),
            trouble: Some(why),
        })
    };
    let path = directory.join(name);
    let metadata = match fs::metadata(&path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let is_listed = fs::symlink_metadata(&path).is_ok() || name.contains(char::REPLACEMENT_CHARACTER);
            return is_listed
                .then(|| format!("{name}: the link leads nowhere, or the name is not UTF-8; mend it or delete it"))
                .and_then(|why| broken(None, why));
        }
        Err(error) => return broken(None, unreadable(name, &error)),
    };
    if !metadata.is_file() {
        return broken(
            None,
            format!("{name}: not a regular file; move it elsewhere or rename it"),
        );
    }
    let seen = Fingerprint::new(&metadata);
    if seen.size > MAX_FILE_BYTES {
        let (size, most) = (seen.size, MAX_FILE_BYTES);
        return broken(
            Some(seen),
            format!("{name}: {size} bytes, the limit is {most}; split the file"),
        );
    }
    *total += seen.size;
    if *total > MAX_TOTAL_BYTES {
        return broken(
            None,
            format!("{name}: more than {MAX_TOTAL_BYTES} bytes in all files; use several sources"),
        );
    }
    if let Some(before) = before
        && before.seen == Some(seen)
        && !reread
    {
        return Some(before.clone());
    }
    let bytes = match read_whole(&path, seen) {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return broken(None, format!("{name}: the file is being written")),
        Err(error) if error.kind() == ErrorKind::NotFound => return None,
        Err(error) => return broken(None, unreadable(name, &error)),
    };
    let settled = seen.is_settled(SystemTime::now()).then_some(seen);
    match understand(&bytes, name) {
        Ok(content) => Some(FileState {
            seen: settled,
            content: Some(Arc::new(content)),
            trouble: None,
        }),
        Err(why) => broken(settled, why),
    }
}

fn unreadable(name: &str, error: &io::Error) -> String {
    format!("{name}: {error}; make the file readable for this process or delete it")
}

/// The bytes of the file, or `None` when it changed meanwhile.
fn read_whole(path: &Path, seen: Fingerprint) -> io::Result<Option<Vec<u8>>> {
    let mut file = fs::File::open(path)?;
    let mut bytes = Vec::new();
    file.by_ref().take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    let whole = Fingerprint::new(&file.metadata()?) == seen && bytes.len() as u64 == seen.size;
    Ok(whole.then_some(bytes))
}

fn understand(bytes: &[u8], name: &str) -> Result<Vec<Service>, String> {
    let text = str::from_utf8(bytes).map_err(|error| {
        let valid = bytes.get(..error.valid_up_to()).unwrap_or_default();
        let line = 1 + valid.iter().filter(|byte| **byte == b'\n').count();
        let column = 1 + valid.iter().rev().take_while(|byte| **byte != b'\n').count();
        format!("{name}:{line}:{column}: not UTF-8; save the file in that encoding")
    })?;
    let services = parse(text, name).map_err(|error| format!("{name}:{error}"))?;
    if services.is_empty() {
        // An editor or a copy truncates the file first, and a deliberate removal can be said by deleting it.
        return Err(format!(
            "{name}: the file is empty; delete the file to remove its services"
        ));
    }
    Ok(services)
}

#[cfg(test)]
mod tests;

//! The embedded store: a directory with one file, which begins with everything that was registered when it was made and
//! goes on with every change since. Blocking; one process at a time.
//!
//! ```text
//! registry/lock                            held by the one that writes
//! registry/state-0000000000000007.log      what is written to
//! registry/damaged-0000000000000006.log    kept for people
//! ```
//!
//! A new file is made under another name, written through to the disk and renamed; a change is written through before
//! anybody is told. So a file under its name is whole up to the last line anybody was told of, whenever the process or
//! the machine dies. After a write that failed nothing is known about the file any more: it is read anew, and never
//! written to again.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::journal::{Head, Recovered, StoreId, encode_entry, encode_head, recover};
use super::ledger::Entry;
use crate::Error;

/// Largest file that is read: several times what the limits on instances allow.
const MAX_FILE_BYTES: u64 = 1024 * 1024 * 1024;
/// A file that grew to twice its snapshot is made anew, but not while it is small.
const MIN_GROWTH_BYTES: u64 = 1024 * 1024;
/// Damaged files that are kept, the newest.
const MAX_DAMAGED: usize = 4;

const STATE: &str = "state-";
const DAMAGED: &str = "damaged-";
const SUFFIX: &str = ".log";
const DRAFT: &str = "draft";
const LOCK: &str = "lock";

/// An open store; dropping it lets another process in.
#[derive(Debug)]
pub(super) struct Store {
    directory: PathBuf,
    lock: File,
    file: File,
    path: PathBuf,
    id: StoreId,
    generation: u64,
    /// Bytes in the file, and those of its snapshot.
    length: u64,
    snapshot: u64,
}

/// What was found when a store was opened.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) id: StoreId,
    pub(super) recovered: Recovered,
}

impl Store {
    /// Opens the store in `directory`, or makes one. What is damaged is set aside, and what is good of it written anew.
    /// `suspect` says that a write failed before: the file is written anew whatever it looks like.
    pub(super) fn open(directory: &Path, suspect: bool) -> Result<(Self, Found), Error> {
        let at = |path: &Path, error: io::Error| Error::Unavailable(format!("{}: {error}", path.display()));
        let mut builder = DirBuilder::new();
        builder
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(|error| at(directory, error))?;
        let lock = lock(directory)?;
        let newest = newest(directory).map_err(|error| at(directory, error))?;
        let Some((generation, path)) = newest else {
            return Self::create(directory, lock).map_err(|error| at(directory, error));
        };
        let bytes = read(&path).map_err(|error| at(&path, error))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let recovered =
            recover(&bytes, &name).map_err(|error| Error::Misconfigured(format!("{}: {error}", path.display())))?;
        let id = recovered.head.map_or_else(new_id, |head| head.store);
        let file = OpenOptions::new()
            .append(true)
            .open(&path)
            .map_err(|error| at(&path, error))?;
        let whole = recovered.whole as u64;
        let mut store = Self {
            directory: directory.to_owned(),
            lock,
            file,
            path,
            id,
            generation,
            length: whole,
            snapshot: 0,
        };
        store
            .mend(&recovered, bytes.len() as u64, suspect)
            .map_err(|error| at(directory, error))?;
        Ok((store, Found { id, recovered }))
    }

    fn create(directory: &Path, lock: File) -> io::Result<(Self, Found)> {
        let id = new_id();
        let (file, length) = write_draft(directory, Head::new(id, 1, 0, 0), &[])?;
        let path = publish(directory, 1)?;
        // The directory may be as new as the file.
        if let Some(parent) = directory.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            File::open(parent)?.sync_all()?;
        }
        let store = Self {
            directory: directory.to_owned(),
            lock,
            file,
            path,
            id,
            generation: 1,
            length,
            snapshot: length,
        };
        let recovered = Recovered::default();
        Ok((store, Found { id, recovered }))
    }

    fn mend(&mut self, recovered: &Recovered, length: u64, suspect: bool) -> io::Result<()> {
        if recovered.report.is_none() && !suspect {
            if self.length < length {
                self.file.set_len(self.length)?;
                self.file.sync_all()?;
            }
            return self.tidy();
        }
        let live = super::ledger::Ledger::restore(
            super::ledger::Limits::default(),
            recovered.entries.iter().cloned(),
            recovered.revision,
        );
        let (path, number) = (self.path.clone(), self.generation);
        if let Err(error) = self.rewrite(&live.snapshot(), live.revision())? {
            // Without room for another file this one is gone on with; what is damaged in it is found again.
            tracing::warn!(path = %path.display(), %error, "no room to write the store anew");
            self.file.set_len(self.length)?;
            return self.file.sync_all();
        }
        if recovered.report.is_some() {
            let name = format!("{DAMAGED}{number:016}{SUFFIX}");
            fs::rename(path, self.directory.join(name))?;
        }
        self.tidy()
    }

    /// Writes changes through to the disk; the inner error says that there was no room, and that nothing was written.
    pub(super) fn append(&mut self, entries: &[Entry]) -> io::Result<Result<(), io::Error>> {
        self.check_place()?;
        let mut bytes = Vec::new();
        for entry in entries {
            encode_entry(entry, &mut bytes);
        }
        if let Err(error) = self.file.write_all(&bytes) {
            // What was written of it is taken back. After a failure to do so, or to write through, nothing is known.
            self.file.set_len(self.length)?;
            return Ok(Err(error));
        }
        self.file.sync_data()?;
        self.length += bytes.len() as u64;
        Ok(Ok(()))
    }

    /// Whether what the file repeats is more than what it says.
    pub(super) fn has_outgrown(&self) -> bool {
        self.length.saturating_sub(self.snapshot) > self.snapshot.max(MIN_GROWTH_BYTES)
    }

    /// Begins a new file with what is true now; the inner error says that there was no room, and that the old one goes on.
    pub(super) fn rewrite(&mut self, entries: &[Entry], revision: u64) -> io::Result<Result<(), io::Error>> {
        let generation = self.generation.saturating_add(1);
        let head = Head::new(self.id, generation, revision, entries.len());
        let draft = match write_draft(&self.directory, head, entries) {
            Ok(draft) => draft,
            Err(error) => {
                // Not tried again before it has doubled once more, nor is half a file kept that takes up room.
                self.snapshot = self.length;
                let _ = fs::remove_file(self.directory.join(DRAFT));
                return Ok(Err(error));
            }
        };
        let (path, length) = (publish(&self.directory, generation)?, draft.1);
        (self.file, self.path, self.generation) = (draft.0, path, generation);
        (self.length, self.snapshot) = (length, length);
        Ok(Ok(()))
    }

    /// Reads what is on the disk.
    pub(super) fn reread(&self) -> io::Result<Recovered> {
        self.check_place()?;
        let bytes = read(&self.path)?;
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        recover(&bytes, &name).map_err(io::Error::other)
    }

    /// Whether the files in the directory are still the ones that are open: else nothing that is written lasts.
    pub(super) fn check_place(&self) -> io::Result<()> {
        for (file, path) in [(&self.file, &self.path), (&self.lock, &self.directory.join(LOCK))] {
            let (open, named) = (file.metadata()?, fs::metadata(path));
            let same = named.is_ok_and(|named| (named.dev(), named.ino()) == (open.dev(), open.ino()));
            if !same {
                let text = format!("{} was moved, removed or replaced", path.display());
                return Err(io::Error::other(text));
            }
        }
        Ok(())
    }

    /// Removes what older generations left: they are repeated in this one.
    pub(super) fn tidy(&self) -> io::Result<()> {
        let mut damaged = Vec::new();
        for (name, path) in files(&self.directory)? {
            if name == DRAFT || name.starts_with(STATE) && path != self.path {
                fs::remove_file(path)?;
            } else if name.starts_with(DAMAGED) {
                damaged.push(path);
            }
        }
        let superfluous = damaged.len().saturating_sub(MAX_DAMAGED);
        damaged.into_iter().take(superfluous).try_for_each(fs::remove_file)
    }
}

/// Takes the lock, or says who has it.
fn lock(directory: &Path) -> Result<File, Error> {
    let path = directory.join(LOCK);
    let failed = |error: io::Error| Error::Unavailable(format!("{}: {error}", path.display()));
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let mut file = options.open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut owner = String::new();
            // Who it is, is a courtesy.
            let _ = file.take(32).read_to_string(&mut owner);
            let directory = directory.display();
            return Err(Error::Unavailable(format!(
                "{directory} is in use by another process ({}); a store on one machine has one writer, several replicas share an etcd",
                owner.trim()
            )));
        }
        Err(TryLockError::Error(error)) => return Err(failed(error)),
    }
    let owner = format!("process {}\n", std::process::id());
    file.set_len(0)
        .and_then(|()| file.write_all(owner.as_bytes()))
        .map_err(failed)?;
    Ok(file)
}

/// The files of a directory by name, in order. Strangers' files are left alone.
fn files(directory: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if let Ok(name) = entry.file_name().into_string() {
            found.push((name, entry.path()));
        }
    }
    found.sort();
    Ok(found)
}

fn newest(directory: &Path) -> io::Result<Option<(u64, PathBuf)>> {
    let generation = |name: &str| name.strip_prefix(STATE)?.strip_suffix(SUFFIX)?.parse().ok();
    let numbered = files(directory)?
        .into_iter()
        .filter_map(|(name, path)| Some((generation(&name)?, path)));
    Ok(numbered.max())
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    if length > MAX_FILE_BYTES {
        let text = format!("the file has {length} bytes, the limit is {MAX_FILE_BYTES}");
        return Err(io::Error::other(text));
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Makes a file that nobody reads yet, whole and written through. It is open for what follows.
fn write_draft(directory: &Path, head: Head, entries: &[Entry]) -> io::Result<(File, u64)> {
    let mut bytes = Vec::new();
    encode_head(head, &mut bytes);
    for entry in entries {
        encode_entry(entry, &mut bytes);
    }
    let draft = directory.join(DRAFT);
    if let Err(error) = fs::remove_file(&draft)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let mut options = OpenOptions::new();
    let mut file = options.append(true).create_new(true).mode(0o600).open(&draft)?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    Ok((file, bytes.len() as u64))
}

/// Gives the draft its name: it appears whole or not at all.
fn publish(directory: &Path, generation: u64) -> io::Result<PathBuf> {
    let path = directory.join(format!("{STATE}{generation:016}{SUFFIX}"));
    fs::rename(directory.join(DRAFT), &path)?;
    File::open(directory)?.sync_all()?;
    Ok(path)
}

/// Stores are told apart, not guarded by it: the standard library's keys, which are random for each, are enough.
fn new_id() -> StoreId {
    let half = || u128::from(RandomState::new().hash_one(std::process::id()));
    StoreId(half() << 64 | half())
}

#[cfg(test)]
mod tests;

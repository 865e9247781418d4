//! What the embedded store writes down: one line an entry, `<checksum> <JSON>`.
//!
//! Lines, because a reader that meets damage is in step again at the next one: what is good stays, whatever stands before
//! it. A line whose end is missing was being written when the power went, and nobody was told that it had been; every
//! other line that does not match its checksum is damage, and is reported.
//!
//! ```text
//! <head: store, generation, revision, how many instances follow>
//! <put: an instance>            as many as the head says
//! <put or end: a change>        one above the revision before
//! ```

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use leadsman_core::model::{Provenance, Rejection};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use xxhash_rust::xxh3::xxh3_64;

use super::ledger::{End, Entry, Held};
use super::model::Key;

/// The form described above. A store of a later one is not touched.
const FORMAT: u32 = 1;
/// Damaged lines that are told one by one; the others are counted.
const MAX_TOLD: usize = 100;
/// The checksum in hexadecimal digits.
const CHECKSUM_BYTES: usize = 16;

/// Which store this is: another one under the same path has another id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StoreId(pub(super) u128);

impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl FromStr for StoreId {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u128::from_str_radix(text, 16).map(Self)
    }
}

impl Serialize for StoreId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for StoreId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// The first line of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Head {
    format: u32,
    pub(super) store: StoreId,
    pub(super) generation: u64,
    /// Up to which the instances that follow are the whole truth.
    pub(super) revision: u64,
    pub(super) instances: usize,
}

impl Head {
    pub(super) fn new(store: StoreId, generation: u64, revision: u64, instances: usize) -> Self {
        Self {
            format: FORMAT,
            store,
            generation,
            revision,
            instances,
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Head(Head),
    Put {
        service: Arc<str>,
        id: Arc<str>,
        held: Held,
    },
    End {
        service: Arc<str>,
        id: Arc<str>,
        revision: u64,
        why: End,
    },
}

/// What could be read of a file.
#[derive(Debug, Default)]
pub(super) struct Recovered {
    pub(super) head: Option<Head>,
    /// Instances and changes, in the order in which they were written.
    pub(super) entries: Vec<Entry>,
    /// Never below any revision that was ever given out.
    pub(super) revision: u64,
    /// One for each damaged line, up to a limit.
    pub(super) damage: Vec<Rejection>,
    /// What is wrong, in one sentence; `None` when nothing is.
    pub(super) report: Option<String>,
    /// Bytes up to the end of the last whole line.
    pub(super) whole: usize,
}

/// A file that is not for this program to read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it was written by a later Leadsman (format {0}); this one would lose what it does not understand")]
pub(super) struct TooNew(u32);

pub(super) fn encode_head(head: Head, into: &mut Vec<u8>) {
    encode(&Line::Head(head), into);
}

pub(super) fn encode_entry(entry: &Entry, into: &mut Vec<u8>) {
    let line = match entry {
        Entry::Put { key, held } => Line::Put {
            service: key.service.to_shared(),
            id: key.id.clone(),
            held: held.clone(),
        },
        Entry::End { key, revision, why } => Line::End {
            service: key.service.to_shared(),
            id: key.id.clone(),
            revision: *revision,
            why: *why,
        },
    };
    encode(&line, into);
}

fn encode(line: &Line, into: &mut Vec<u8>) {
    // Maps have texts for keys, and numbers are finite: there is nothing that JSON could not say.
    let json = serde_json::to_vec(line).unwrap_or_default();
    into.extend_from_slice(format!("{:016x} ", xxh3_64(&json)).as_bytes());
    into.extend_from_slice(&json);
    into.push(b'\n');
}

/// Reads everything that can be read of `bytes`, the content of the file `name`.
pub(super) fn recover(bytes: &[u8], name: &str) -> Result<Recovered, TooNew> {
    let mut reader = Reader::new(name);
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        reader.line(line)?;
    }
    Ok(reader.finish())
}

struct Reader<'a> {
    name: &'a str,
    recovered: Recovered,
    number: usize,
    /// Instances that the head announced and that were read.
    instances: usize,
    damaged_lines: usize,
    damaged_bytes: u64,
    /// Changes that stand nowhere, judging by the revisions around them.
    missing: u64,
}

impl<'a> Reader<'a> {
    fn new(name: &'a str) -> Self {
        Self {
            name,
            recovered: Recovered::default(),
            number: 0,
            instances: 0,
            damaged_lines: 0,
            damaged_bytes: 0,
            missing: 0,
        }
    }

    fn line(&mut self, line: &[u8]) -> Result<(), TooNew> {
        self.number += 1;
        let Some(content) = line.strip_suffix(b"\n") else {
            return Ok(());
        };
        self.recovered.whole += line.len();
        match decode(content) {
            Ok(Line::Head(head)) => return self.head(head),
            Ok(Line::Put { service, id, held }) => match Key::new(&service, &id) {
                Ok(key) => self.put(Entry::Put { key, held }),
                Err(refusal) => self.damaged(line, &refusal.to_string()),
            },
            Ok(Line::End {
                service,
                id,
                revision,
                why,
            }) => match Key::new(&service, &id) {
                Ok(key) => self.change(Entry::End { key, revision, why }),
                Err(refusal) => self.damaged(line, &refusal.to_string()),
            },
            Err(why) => self.damaged(line, why),
        }
        Ok(())
    }

    fn head(&mut self, head: Head) -> Result<(), TooNew> {
        if head.format > FORMAT {
            return Err(TooNew(head.format));
        }
        self.recovered.revision = self.recovered.revision.max(head.revision);
        self.recovered.head.get_or_insert(head);
        Ok(())
    }

    fn put(&mut self, entry: Entry) {
        let announced = self.recovered.head.map_or(0, |head| head.revision);
        if entry.revision() <= announced {
            self.instances += 1;
            self.recovered.entries.push(entry);
        } else {
            self.change(entry);
        }
    }

    fn change(&mut self, entry: Entry) {
        let revision = entry.revision();
        let expected = self.recovered.revision.saturating_add(1);
        if self.recovered.head.is_some() {
            self.missing += revision.saturating_sub(expected);
        }
        self.recovered.revision = self.recovered.revision.max(revision);
        self.recovered.entries.push(entry);
    }

    fn damaged(&mut self, line: &[u8], why: &str) {
        self.damaged_lines += 1;
        self.damaged_bytes += line.len() as u64;
        if self.recovered.damage.len() < MAX_TOLD {
            let place = format!("{}:{}", self.name, self.number);
            self.recovered.damage.push(Rejection {
                provenance: Provenance {
                    stable: false,
                    ..Provenance::new(&place, "registry", line, 0)
                },
                reason: why.to_owned(),
            });
        }
    }

    fn finish(self) -> Recovered {
        let mut recovered = self.recovered;
        let announced = recovered.head.map_or(0, |head| head.instances);
        let missing = self.missing + announced.saturating_sub(self.instances) as u64;
        // A damaged line explains one that is missing.
        let unexplained = missing.saturating_sub(self.damaged_lines as u64);
        let name = self.name;
        recovered.report = match (self.damaged_lines, unexplained) {
            (0, 0) if recovered.head.is_some() => None,
            (0, 0) => Some(format!("{name} has no beginning")),
            (0, missing) => Some(format!("{missing} lines are missing in {name}")),
            (damaged, 0) => Some(format!("{damaged} lines of {name} are damaged")),
            (damaged, missing) => Some(format!(
                "{damaged} lines of {name} are damaged, and {missing} are missing"
            )),
        };
        // Each lost change took a byte at least.
        recovered.revision = recovered.revision.saturating_add(self.damaged_bytes);
        recovered
    }
}

fn decode(line: &[u8]) -> Result<Line, &'static str> {
    let (checksum, json) = line
        .split_at_checked(CHECKSUM_BYTES)
        .ok_or("the line is damaged: it is too short")?;
    let json = json
        .strip_prefix(b" ")
        .ok_or("the line is damaged: it has no checksum")?;
    if format!("{:016x}", xxh3_64(json)).as_bytes() != checksum {
        return Err("the line is damaged: it does not match its checksum");
    }
    serde_json::from_slice(json).map_err(|_| "the line is whole, and is none that this program writes")
}

#[cfg(test)]
mod tests;

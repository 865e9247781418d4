//! The answers of a watch, put together into whole revisions.
//!
//! Pure. Invariant: nothing is released before the last fragment of an answer, so no reader ever sees half of a
//! revision.

use etcd_client::WatchResponse;

use super::errors::{is_compaction, is_denial};
use super::records::Record;
use crate::Error;

/// One message of the stream, reduced to what matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) created: bool,
    pub(super) canceled: bool,
    pub(super) compact_revision: i64,
    pub(super) cancel_reason: String,
    pub(super) fragment: bool,
    pub(super) revision: i64,
    /// A key, its value unless it was deleted, and its revision; an error for an event that can't be understood.
    pub(super) events: Result<Vec<Record>, String>,
}

/// What a message means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The watch exists, or a fragment has been put aside.
    Nothing,
    /// Whole revisions, up to `revision`.
    Batch { records: Vec<Record>, revision: i64 },
    /// Everything up to the revision has been delivered.
    Progress(i64),
}

/// The most bytes of an unfinished answer. etcd sends what it has, however much, when a watch falls far behind; past
/// this a fresh listing, which comes in pages, is the smaller evil.
const MAX_BUFFERED_BYTES: usize = 256 * 1024 * 1024;

/// Holds the fragments of an unfinished answer.
#[derive(Debug, Default)]
pub(super) struct Assembler {
    buffered: Vec<Record>,
    bytes: usize,
}

impl Assembler {
    /// Takes the next message of the stream.
    pub(super) fn accept(&mut self, frame: Frame) -> Result<Step, Error> {
        if frame.canceled {
            return Err(cancellation(&frame));
        }
        let events = frame
            .events
            .map_err(|reason| Error::Unavailable(format!("the watch said something unknown: {reason}")))?;
        if frame.created {
            return Ok(Step::Nothing);
        }
        if events.is_empty() && !frame.fragment && self.buffered.is_empty() {
            return Ok(Step::Progress(frame.revision));
        }
        self.bytes += events.iter().map(size).sum::<usize>();
        if self.bytes > MAX_BUFFERED_BYTES {
            return Err(Error::Resync(format!(
                "one answer of the watch is larger than {MAX_BUFFERED_BYTES} bytes"
            )));
        }
        self.buffered.extend(events);
        if frame.fragment {
            return Ok(Step::Nothing);
        }
        self.bytes = 0;
        let records = std::mem::take(&mut self.buffered);
        // The header has the revision of the store, which may be ahead of what a watch that catches up has delivered.
        let revision = records.iter().map(|record| record.revision).max().unwrap_or_default();
        Ok(Step::Batch { records, revision })
    }
}

fn size(record: &Record) -> usize {
    size_of::<Record>() + record.key.len() + record.value.as_ref().map_or(0, Vec::len)
}

fn cancellation(frame: &Frame) -> Error {
    let reason = &frame.cancel_reason;
    if frame.compact_revision > 0 || is_compaction(reason) {
        return Error::Resync(format!(
            "etcd compacted its history up to revision {}",
            frame.compact_revision
        ));
    }
    if is_denial(reason) {
        return Error::Denied(reason.clone());
    }
    Error::Unavailable(format!("etcd cancelled the watch: {reason:?}"))
}

impl From<WatchResponse> for Frame {
    fn from(response: WatchResponse) -> Self {
        let response = response.0;
        Self {
            created: response.created,
            canceled: response.canceled,
            compact_revision: response.compact_revision,
            cancel_reason: response.cancel_reason,
            fragment: response.fragment,
            revision: response.header.map_or(0, |header| header.revision),
            events: response.events.into_iter().map(record).collect(),
        }
    }
}

fn record(event: etcd_client::proto::PbEvent) -> Result<Record, String> {
    const PUT: i32 = 0;
    const DELETE: i32 = 1;
    let kv = event.kv.ok_or("an event without a key")?;
    let value = match event.r#type {
        PUT => Some(kv.value),
        DELETE => None,
        other => return Err(format!("an event of type {other}")),
    };
    Ok(Record {
        key: kv.key,
        value,
        revision: kv.mod_revision,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: &str, revision: i64) -> Record {
        Record {
            key: key.into(),
            value: Some(b"v".to_vec()),
            revision,
        }
    }

    fn frame(revision: i64, events: Vec<Record>) -> Frame {
        Frame {
            created: false,
            canceled: false,
            compact_revision: 0,
            cancel_reason: String::new(),
            fragment: false,
            revision,
            events: Ok(events),
        }
    }

    fn fragment(revision: i64, events: Vec<Record>) -> Frame {
        Frame {
            fragment: true,
            ..frame(revision, events)
        }
    }

    fn cancelled(created: bool, reason: &str, compact_revision: i64) -> Error {
        let frame = Frame {
            created,
            canceled: true,
            compact_revision,
            cancel_reason: reason.to_owned(),
            ..frame(0, Vec::new())
        };
        Assembler::default().accept(frame).unwrap_err()
    }

    #[test]
    fn a_revision_split_over_fragments_is_released_as_one() {
        // Revisions as a real server splits them: inside a revision, each fragment with the header of the last.
        let mut assembler = Assembler::default();
        let first = fragment(17, vec![put("a", 14), put("b", 15)]);
        assert_eq!(assembler.accept(first).unwrap(), Step::Nothing);
        let second = fragment(17, vec![put("c", 15), put("d", 16), put("e", 17)]);
        assert_eq!(assembler.accept(second).unwrap(), Step::Nothing);
        let step = assembler.accept(frame(17, vec![put("f", 17)])).unwrap();
        let Step::Batch { records, revision } = step else {
            panic!("{step:?}")
        };
        assert_eq!(revision, 17);
        assert_eq!(records.len(), 6);
        assert_eq!(assembler.accept(frame(20, vec![])).unwrap(), Step::Progress(20));
    }

    #[test]
    fn the_delivered_revision_is_the_last_events_not_the_headers() {
        let step = Assembler::default()
            .accept(frame(9000, vec![put("a", 5), put("b", 7)]))
            .unwrap();
        let records = vec![put("a", 5), put("b", 7)];
        assert_eq!(step, Step::Batch { records, revision: 7 });
    }

    #[test]
    fn an_empty_last_fragment_releases_what_was_put_aside() {
        let mut assembler = Assembler::default();
        assembler.accept(fragment(5, vec![put("a", 5)])).unwrap();
        let records = vec![put("a", 5)];
        assert_eq!(
            assembler.accept(frame(5, vec![])).unwrap(),
            Step::Batch { records, revision: 5 }
        );
    }

    #[test]
    fn the_answer_to_the_creation_is_no_progress() {
        let created = Frame {
            created: true,
            ..frame(8, vec![])
        };
        assert_eq!(Assembler::default().accept(created).unwrap(), Step::Nothing);
    }

    #[test]
    fn a_cancelled_watch_says_why() {
        let refused = "rpc error: code = PermissionDenied desc = etcdserver: permission denied";
        assert!(matches!(cancelled(true, refused, 0), Error::Denied(_)));
        let expired = "rpc error: code = Unauthenticated desc = etcdserver: invalid auth token";
        assert!(matches!(cancelled(true, expired, 0), Error::Denied(_)));
        assert!(matches!(cancelled(false, "", 40), Error::Resync(_)));
        let compacted = "etcdserver: mvcc: required revision has been compacted";
        assert!(matches!(cancelled(false, compacted, 0), Error::Resync(_)));
        assert!(matches!(
            cancelled(false, "etcdserver: no leader", 0),
            Error::Unavailable(_)
        ));
        assert!(matches!(cancelled(false, "", 0), Error::Unavailable(_)));
    }

    #[test]
    fn an_event_nobody_knows_ends_the_session() {
        let odd = Frame {
            events: Err("an event of type 7".to_owned()),
            ..frame(3, vec![])
        };
        assert!(matches!(Assembler::default().accept(odd), Err(Error::Unavailable(text)) if text.contains("type 7")));
    }
}

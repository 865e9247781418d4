//! The shared half of the set of revisions in use: a fixed number of slots, each one value in the store.
//!
//! A host never frees a key of its shared map while the VM lives, so keys must not follow the names of clusters or
//! endpoints, which come and go. 256 slots of at most 64 records bound the keys for good, keep a value below 4 KB, and spread
//! the compare-and-swap of the workers.
//!
//! Encoding: a version byte, then per record the endpoint and the time of its last change (u64 each), the number of revisions
//! (u8) and the revisions (u64 each), newest first. Little endian.

use super::{EndpointId, Revision};

/// Values in the store.
pub const SLOTS: usize = 256;
/// Endpoints per value; the one changed longest ago is forgotten first.
pub const MOST_RECORDS: usize = 64;
/// Revisions kept per endpoint: the newest, and those a late worker may still come with.
const MOST_REVISIONS: usize = 4;
const FORMAT: u8 = 1;

/// One of the [`SLOTS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SlotNumber(u8);

impl SlotNumber {
    pub fn of(endpoint: EndpointId) -> Self {
        // The high bits of FNV-1a are the better mixed ones.
        let [.., high] = endpoint.0.to_le_bytes();
        Self(high)
    }

    pub fn all() -> impl Iterator<Item = Self> {
        (0..=u8::MAX).map(Self)
    }

    pub fn index(self) -> usize {
        usize::from(self.0)
    }

    /// The name of the value in the store, with a prefix because other plugins may share it.
    pub fn key(self) -> String {
        format!("leadsman:seen:{:02x}", self.0)
    }
}

/// What the process has used of one endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    endpoint: EndpointId,
    /// When the current revision was first used.
    since_ms: u64,
    current: Revision,
    /// Earlier revisions, newest first.
    earlier: Vec<Revision>,
}

impl Record {
    pub fn endpoint(&self) -> EndpointId {
        self.endpoint
    }

    /// Whether a VM that last used `revision` has been left behind, and for longer than the grace.
    pub fn left_behind(&self, revision: Revision, now_ms: u64, grace_ms: u64) -> bool {
        self.current != revision && now_ms.saturating_sub(self.since_ms) > grace_ms
    }

    fn advance(&mut self, revision: Revision, now_ms: u64) {
        self.earlier.retain(|earlier| *earlier != revision);
        self.earlier.insert(0, self.current);
        self.earlier.truncate(MOST_REVISIONS - 1);
        self.current = revision;
        self.since_ms = now_ms;
    }
}

/// What a use of a revision means to the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// The revision is the current one.
    Current,
    /// Others moved on from this revision at that time.
    Superseded { since_ms: u64 },
    /// The revision is new, and is the current one from now on.
    Advanced,
}

/// The records of one value, longest unchanged first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slot(Vec<Record>);

impl Slot {
    pub fn records(&self) -> &[Record] {
        &self.0
    }

    /// Judges the use of a revision by a VM that used `previous` before, and notes it when it is new.
    pub fn judge(
        &mut self,
        endpoint: EndpointId,
        revision: Revision,
        previous: Option<Revision>,
        now_ms: u64,
    ) -> Judgement {
        let Some(place) = self.0.iter().position(|record| record.endpoint == endpoint) else {
            self.push(Record {
                endpoint,
                since_ms: now_ms,
                current: revision,
                earlier: Vec::new(),
            });
            return Judgement::Advanced;
        };
        let mut record = self.0.remove(place);
        let was_at_the_tip = previous == Some(record.current);
        if record.current == revision || (!was_at_the_tip && record.earlier.contains(&revision)) {
            let judgement = if record.current == revision {
                Judgement::Current
            } else {
                Judgement::Superseded {
                    since_ms: record.since_ms,
                }
            };
            self.0.insert(place, record);
            return judgement;
        }
        record.advance(revision, now_ms);
        self.push(record);
        Judgement::Advanced
    }

    /// Reads a value. One that cannot be read is empty: it is only a memory.
    pub fn decode(bytes: &[u8]) -> Self {
        Self::read(bytes).unwrap_or_default()
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![FORMAT];
        for record in &self.0 {
            bytes.extend(record.endpoint.0.to_le_bytes());
            bytes.extend(record.since_ms.to_le_bytes());
            let revisions = || {
                std::iter::once(&record.current)
                    .chain(&record.earlier)
                    .take(MOST_REVISIONS)
            };
            bytes.extend(revisions().map(|_| 1u8).sum::<u8>().to_le_bytes());
            bytes.extend(revisions().flat_map(|revision| revision.0.to_le_bytes()));
        }
        bytes
    }

    fn push(&mut self, record: Record) {
        if self.0.len() >= MOST_RECORDS {
            self.0.drain(..=self.0.len() - MOST_RECORDS);
        }
        self.0.push(record);
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes.strip_prefix(&[FORMAT])?;
        let mut records = Vec::new();
        while !rest.is_empty() && records.len() < MOST_RECORDS {
            let (endpoint, after) = number(rest)?;
            let (since_ms, after) = number(after)?;
            let (count, mut after) = after.split_first()?;
            let mut revisions = Vec::with_capacity(MOST_REVISIONS);
            for _ in 0..*count {
                let (revision, next) = number(after)?;
                revisions.push(Revision(revision));
                after = next;
            }
            if revisions.is_empty() || revisions.len() > MOST_REVISIONS {
                return None;
            }
            let current = revisions.remove(0);
            records.push(Record {
                endpoint: EndpointId(endpoint),
                since_ms,
                current,
                earlier: revisions,
            });
            rest = after;
        }
        Some(Self(records))
    }
}

fn number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (first, rest) = bytes.split_first_chunk()?;
    Some((u64::from_le_bytes(*first), rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ENDPOINT: EndpointId = EndpointId(7);

    #[test]
    fn a_full_slot_forgets_what_changed_longest_ago() {
        let mut slot = Slot::default();
        let most = MOST_RECORDS as u64;
        for number in 0..most {
            slot.judge(EndpointId(number), Revision(1), None, number);
        }
        slot.judge(EndpointId(0), Revision(2), Some(Revision(1)), most);
        slot.judge(EndpointId(most), Revision(1), None, most);
        let kept: Vec<u64> = slot.records().iter().map(|record| record.endpoint.0).collect();
        assert_eq!(kept, (2..most).chain([0, most]).collect::<Vec<_>>());
        assert!(slot.encode().len() < 4096);
        assert_eq!(Slot::decode(&slot.encode()), slot);
    }

    #[test]
    fn a_record_keeps_the_current_revision_and_three_earlier_ones() {
        let mut slot = Slot::default();
        for revision in 1..=6 {
            let previous = Some(Revision(revision - 1));
            assert_eq!(
                slot.judge(ENDPOINT, Revision(revision), previous, revision),
                Judgement::Advanced
            );
        }
        let record = Record {
            endpoint: ENDPOINT,
            since_ms: 6,
            current: Revision(6),
            earlier: vec![Revision(5), Revision(4), Revision(3)],
        };
        assert_eq!(slot.records(), [record]);
    }

    #[test]
    fn a_value_that_cannot_be_read_is_empty() {
        let mut slot = Slot::default();
        slot.judge(ENDPOINT, Revision(1), None, 5);
        let whole = slot.encode();
        for end in 2..whole.len() {
            assert_eq!(Slot::decode(&whole[..end]), Slot::default(), "{end}");
        }
        assert_eq!(Slot::decode(&[FORMAT + 1]), Slot::default());
        let no_revision = [&whole[..17], &[0]].concat();
        assert_eq!(Slot::decode(&no_revision), Slot::default());
    }

    #[test]
    fn keys_are_few_and_prefixed() {
        assert_eq!(SlotNumber::all().count(), SLOTS);
        assert_eq!(SlotNumber(10).key(), "leadsman:seen:0a");
    }

    proptest! {
        #![proptest_config(leadsman_property::cases(256))]
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            for bytes in [bytes.clone(), [vec![FORMAT], bytes].concat()] {
                prop_assert!(Slot::decode(&bytes).records().len() <= MOST_RECORDS);
            }
        }
    }
}

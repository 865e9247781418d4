//! One comparison of the held records with a fresh read.
//!
//! The read is of the past: it asks for the last revision the watch has delivered, so the comparison is exact while
//! events keep coming. A key that an event touches meanwhile proves itself and is left out. Pages are compared as they
//! come; only one is in memory.

use std::collections::{BTreeMap, BTreeSet};

use super::client::PageRequest;
use super::records::{Record, Records};

/// Keys that changed during one comparison. More than this, and the registry is far too busy for it: the next one may
/// find a quieter moment.
const MAX_TOUCHED: usize = 100_000;

#[derive(Debug)]
pub(super) struct Reconcile {
    revision: i64,
    after: Option<Vec<u8>>,
    touched: BTreeSet<Vec<u8>>,
    drift: u64,
}

impl Reconcile {
    pub(super) fn new(revision: i64) -> Self {
        Self {
            revision,
            after: None,
            touched: BTreeSet::new(),
            drift: 0,
        }
    }

    /// The page to ask for next.
    pub(super) fn request(&self) -> PageRequest {
        PageRequest {
            after: self.after.clone(),
            revision: self.revision,
            keys_only: true,
        }
    }

    /// An event arrived for these records; false when the comparison must be given up.
    pub(super) fn touch(&mut self, records: &[Record]) -> bool {
        self.touched.extend(records.iter().map(|record| record.key.clone()));
        self.touched.len() <= MAX_TOUCHED
    }

    /// Compares a page with what is held between the end of the page before and its own end.
    pub(super) fn compare(&mut self, held: &Records, page: &[Record], last_page: bool) {
        let end = page.last().map(|record| record.key.clone());
        let up_to = if last_page { None } else { end.as_deref() };
        let mut fresh: BTreeMap<&[u8], i64> = page
            .iter()
            .map(|record| (record.key.as_slice(), record.revision))
            .collect();
        for (key, revision) in held.revisions(self.after.as_deref(), up_to) {
            let same = fresh.remove(key) == Some(revision);
            if !same && !self.touched.contains(key) {
                self.drift += 1;
            }
        }
        let missing = fresh.keys().filter(|key| !self.touched.contains(**key)).count();
        self.drift += u64::try_from(missing).unwrap_or(u64::MAX);
        self.after = end.or(self.after.take());
    }

    /// How many records differ, so far.
    pub(super) fn drift(&self) -> u64 {
        self.drift
    }
}

#[cfg(test)]
mod tests {
    use super::super::layout::LayoutChoice;
    use super::super::records::Owners;
    use super::*;

    fn record(key: &str, revision: i64) -> Record {
        Record {
            key: key.into(),
            value: Some(b"10.0.0.1:80".to_vec()),
            revision,
        }
    }

    fn held(records: &[(&str, i64)]) -> Records {
        let mut held = Records::new(LayoutChoice::Auto, "");
        held.load(page(records), &Owners::new());
        held
    }

    fn page(records: &[(&str, i64)]) -> Vec<Record> {
        records.iter().map(|(key, revision)| record(key, *revision)).collect()
    }

    #[test]
    fn equal_listings_have_no_drift_in_one_page_or_in_several() {
        let held = held(&[("a/1", 1), ("b/1", 2), ("c/1", 3)]);
        let mut one = Reconcile::new(3);
        one.compare(&held, &page(&[("a/1", 1), ("b/1", 2), ("c/1", 3)]), true);
        assert_eq!(one.drift(), 0);
        let mut several = Reconcile::new(3);
        several.compare(&held, &page(&[("a/1", 1)]), false);
        assert_eq!(several.request().after, Some(b"a/1".to_vec()));
        several.compare(&held, &page(&[("b/1", 2)]), false);
        several.compare(&held, &page(&[("c/1", 3)]), true);
        assert_eq!(several.drift(), 0);
    }

    #[test]
    fn a_lost_put_a_lost_delete_and_a_lost_change_are_one_drift_each() {
        let held = held(&[("b/1", 2), ("c/1", 3), ("d/1", 4), ("z/1", 5)]);
        let mut pass = Reconcile::new(9);
        pass.compare(&held, &page(&[("a/1", 8), ("b/1", 2)]), false);
        pass.compare(&held, &page(&[("c/1", 7), ("d/1", 4)]), true);
        assert_eq!(pass.drift(), 3);
    }

    #[test]
    fn a_key_that_an_event_touched_meanwhile_is_left_out() {
        let held = held(&[("b/1", 12), ("c/1", 3)]);
        let mut pass = Reconcile::new(9);
        assert!(pass.touch(&[record("a/1", 11), record("b/1", 12)]));
        pass.compare(&held, &page(&[("a/1", 1), ("b/1", 2), ("c/1", 3)]), true);
        assert_eq!(pass.drift(), 0);
    }

    #[test]
    fn an_empty_registry_that_should_not_be_empty_is_all_drift() {
        let held = held(&[("a/1", 1), ("b/1", 2)]);
        let mut pass = Reconcile::new(9);
        pass.compare(&held, &[], true);
        assert_eq!(pass.drift(), 2);
    }
}

//! The comparison of what is held with fresh reads.
//!
//! Pure. A service that changes between its watch and the comparison differs without a loss, so what differs is looked
//! at a second time: only a difference that stands still is an event that was lost.

use std::collections::{BTreeMap, VecDeque};

use leadsman_core::model::ServiceName;

use crate::held::{Holdings, Records, same};

#[derive(Debug)]
pub(crate) struct Reconcile {
    todo: VecDeque<ServiceName>,
    suspects: BTreeMap<ServiceName, Records>,
    again: bool,
    drift: u64,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Read this service.
    Read(ServiceName),
    /// Give the watches time to catch up.
    Pause,
    /// This many instances differ for good.
    Done(u64),
}

impl Reconcile {
    pub(crate) fn new(names: impl Iterator<Item = ServiceName>) -> Self {
        Self {
            todo: names.collect(),
            suspects: BTreeMap::new(),
            again: false,
            drift: 0,
        }
    }

    pub(crate) fn next(&mut self) -> Step {
        if let Some(name) = self.todo.pop_front() {
            return Step::Read(name);
        }
        if self.again || self.suspects.is_empty() {
            return Step::Done(self.drift);
        }
        self.again = true;
        self.todo = self.suspects.keys().cloned().collect();
        Step::Pause
    }

    pub(crate) fn compare(&mut self, name: &ServiceName, records: Records, held: &Holdings) {
        let difference = held.difference(name, &records);
        if difference == 0 {
            return;
        }
        if !self.again {
            self.suspects.insert(name.clone(), records);
        } else if self.suspects.get(name).is_some_and(|before| same(before, &records)) {
            self.drift += difference;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::held::tests::records;

    fn one(weight: u16) -> Records {
        if weight == 0 {
            Records::new()
        } else {
            records(&[("1", "10.0.0.1", weight)])
        }
    }

    fn run(first: u16, second: u16) -> Step {
        let name = ServiceName::new("a").unwrap();
        let mut held = Holdings::default();
        held.take(&name, one(80), true);
        let mut pass = Reconcile::new(held.names().cloned());
        assert_eq!(pass.next(), Step::Read(name.clone()));
        pass.compare(&name, one(first), &held);
        match pass.next() {
            Step::Pause => {}
            step @ (Step::Read(_) | Step::Done(_)) => return step,
        }
        assert_eq!(pass.next(), Step::Read(name.clone()));
        pass.compare(&name, one(second), &held);
        pass.next()
    }

    #[test]
    fn only_a_difference_that_stands_still_is_a_lost_event() {
        assert_eq!(run(80, 0), Step::Done(0));
        assert_eq!(run(81, 80), Step::Done(0));
        assert_eq!(run(81, 82), Step::Done(0));
        assert_eq!(run(81, 81), Step::Done(1));
    }
}

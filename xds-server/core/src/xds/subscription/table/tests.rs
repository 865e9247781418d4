//! The table against ordered sets.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

#[test]
fn a_row_is_no_larger_than_its_name_and_its_version_and_eight_bytes() {
    assert_eq!(size_of::<Row>(), 32);
}

#[derive(Clone, Debug)]
enum Step {
    Name(u8),
    Unname(u8),
    Hold(u8),
    Release(u8),
    Due(u8),
    Settle(u8),
    AllDue,
    Next,
    KeepNamed,
    Fit,
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => any::<u8>().prop_map(Step::Name),
        4 => any::<u8>().prop_map(Step::Unname),
        6 => any::<u8>().prop_map(Step::Hold),
        4 => any::<u8>().prop_map(Step::Release),
        6 => any::<u8>().prop_map(Step::Due),
        2 => any::<u8>().prop_map(Step::Settle),
        1 => Just(Step::AllDue),
        8 => Just(Step::Next),
        1 => Just(Step::KeepNamed),
        1 => Just(Step::Fit),
    ]
}

#[derive(Debug, Default)]
struct Sets {
    named: BTreeSet<Arc<str>>,
    held: BTreeSet<Arc<str>>,
    due: BTreeSet<Arc<str>>,
}

impl Sets {
    fn play(&mut self, table: &mut Table, step: &Step) {
        let name = |number: &u8| Arc::<str>::from(format!("n{}", number % 40));
        match step {
            Step::Name(of) => {
                assert_eq!(table.ask(&name(of), true), self.named.insert(name(of)));
                self.held.insert(name(of));
                self.due.insert(name(of));
            }
            Step::Unname(of) => assert_eq!(table.unname(&name(of)), self.named.remove(&name(of))),
            Step::Hold(of) => {
                table.hold(&name(of)).acked = true;
                self.held.insert(name(of));
            }
            Step::Release(of) => {
                table.release(&name(of));
                self.held.remove(&name(of));
            }
            Step::Due(of) => {
                table.make_due(&name(of));
                self.due.insert(name(of));
            }
            Step::Settle(of) => {
                table.settle(&name(of));
                self.due.remove(&name(of));
            }
            Step::AllDue => {
                table.make_all_due([name(&0)].iter(), |_| true);
                self.due.insert(name(&0));
                self.due.extend(self.named.iter().chain(&self.held).cloned());
            }
            Step::Next => {
                let next = table.next_due();
                assert_eq!(next.is_some(), !self.due.is_empty());
                if let Some((name, named)) = &next {
                    assert!(self.due.remove(name), "{name} was due");
                    assert_eq!(*named, self.named.contains(name));
                    table.tidy(name);
                }
            }
            Step::KeepNamed => {
                table.keep_named();
                self.held.retain(|name| self.named.contains(name));
                self.due.retain(|name| self.named.contains(name));
            }
            Step::Fit => table.fit(),
        }
    }
}

fn those(table: &Table, which: fn(&Row) -> bool) -> BTreeSet<Arc<str>> {
    table
        .rows()
        .filter(|row| which(row))
        .map(|row| row.name.clone())
        .collect()
}

proptest! {
    #![proptest_config(leadsman_property::cases(200))]
    #[test]
    fn it_says_what_three_sets_would_say_and_keeps_no_more(
        steps in proptest::collection::vec(any_step(), 0..300),
    ) {
        let (mut table, mut sets) = (Table::default(), Sets::default());
        for step in &steps {
            sets.play(&mut table, step);
            prop_assert_eq!(&those(&table, |row| row.named), &sets.named);
            prop_assert_eq!(&those(&table, Row::is_held), &sets.held);
            prop_assert_eq!(&those(&table, |row| row.due), &sets.due);
            prop_assert_eq!(table.named(), sets.named.len());
            prop_assert!(table.rows().all(|row| !row.is_vacant()));
            prop_assert_eq!(table.places.len(), table.rows.len());
            prop_assert!(table.rows().all(|row| table.get(&row.name).is_some_and(|found| found.name == row.name)));
        }
    }
}

#[test]
fn a_name_does_not_wait_for_others_that_become_due_again_and_again() {
    let mut table = Table::default();
    let (busy, quiet): (Arc<str>, Arc<str>) = ("busy".into(), "quiet".into());
    table.make_due(&busy);
    table.make_due(&quiet);
    assert_eq!(table.next_due(), Some((busy.clone(), false)));
    table.make_due(&busy);
    assert_eq!(table.next_due(), Some((quiet, false)));
    assert_eq!(table.next_due(), Some((busy, false)));
    assert_eq!(table.next_due(), None);
}

#[test]
fn names_that_come_and_go_without_being_looked_at_leave_nothing_behind() {
    let mut table = Table::default();
    for number in 0..10_000 {
        let name: Arc<str> = number.to_string().into();
        table.ask(&name, false);
        table.unname(&name);
        table.release(&name);
        table.settle(&name);
    }
    assert_eq!((table.rows.len(), table.places.len()), (0, 0));
    assert!(table.due.len() <= SPARE + 1, "{}", table.due.len());
}

#[test]
fn names_that_come_and_go_one_at_a_time_do_not_move_all_the_others_each_time() {
    let names: Vec<Arc<str>> = (0..10_000).map(|number| number.to_string().into()).collect();
    let (mut table, mut moves) = (Table::default(), 0);
    for name in &names {
        let before = table.rows.capacity();
        table.reserve(1);
        table.ask(name, false);
        table.fit();
        moves += usize::from(table.rows.capacity() != before);
    }
    assert!(moves < 100, "{moves} moves");
    assert!(table.rows.capacity() < names.len() + names.len() / 7);
    for name in &names {
        let before = table.rows.capacity();
        table.unname(name);
        table.release(name);
        table.settle(name);
        table.fit();
        moves += usize::from(table.rows.capacity() != before);
    }
    assert!(moves < 200, "{moves} moves");
    assert!(table.rows.capacity() <= SPARE, "what is not needed is given back");
}

//! One row a name: whether it is asked for, what the client may hold of it, and whether it has to be looked at.
//!
//! There is a row for each name of each stream, so a row is small, rows lie side by side, and what few of them have lies
//! elsewhere. They are found by hashes with a random seed: names are the clients' to choose.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use ahash::RandomState;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use super::row::{Holds, Row};
use super::{Listed, Refused};

#[derive(Debug, Default)]
pub(super) struct Table {
    rows: Vec<Row>,
    /// Where in `rows`.
    places: HashTable<u32>,
    seed: RandomState,
    named: usize,
    /// The names to look at, first those that became due first: none waits for others that change all the time. Some may
    /// not be due any more.
    due: VecDeque<Arc<str>>,
    /// Bytes that the client refused; they are not sent again.
    pub(super) refused: BTreeMap<Arc<str>, Refused>,
    /// Where every response lists everything, what of each resource is listed.
    pub(super) listed: BTreeMap<Arc<str>, Listed>,
}

/// Room that is kept although nobody needs it just now.
const SPARE: usize = 4;

impl Table {
    pub(super) fn rows(&self) -> impl Iterator<Item = &Row> + Clone {
        self.rows.iter()
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// How many names are asked for.
    pub(super) fn named(&self) -> usize {
        self.named
    }

    pub(super) fn get(&self, name: &str) -> Option<&Row> {
        self.rows.get(self.find(name)?)
    }

    /// The row of a name that the client may have to do with.
    pub(super) fn held_mut(&mut self, name: &str) -> Option<&mut Row> {
        let place = self.find(name)?;
        self.rows.get_mut(place).filter(|row| row.is_held())
    }

    /// The row of a name that the client has to do with from now on.
    pub(super) fn hold(&mut self, name: &Arc<str>) -> &mut Row {
        let row = self.row(name);
        if !row.is_held() {
            row.set(Holds::Nothing);
        }
        row
    }

    pub(super) fn is_named(&self, name: &str) -> bool {
        self.get(name).is_some_and(|row| row.named)
    }

    /// The client may have forgotten everything.
    pub(super) fn doubt_all(&mut self) {
        self.refused.clear();
        for row in self.rows.iter_mut().filter(|row| row.is_held()) {
            row.set(Holds::Unknown);
            row.told_missing = false;
        }
    }

    /// Those of the names that are not asked for yet, and what is asked for and is not among them, each in order.
    pub(super) fn compare(&self, names: &[Arc<str>]) -> (Vec<Arc<str>>, Vec<Arc<str>>) {
        let mut seen = vec![false; self.rows.len()];
        let (mut known, mut new) = (0, Vec::new());
        for name in names {
            let named = |place: &usize| self.rows.get(*place).is_some_and(|row| row.named);
            match self.find(name).filter(named).and_then(|place| seen.get_mut(place)) {
                Some(seen) => known += usize::from(!std::mem::replace(seen, true)),
                None => new.push(name.clone()),
            }
        }
        new.sort_unstable();
        new.dedup();
        if known == self.named {
            return (new, Vec::new());
        }
        let unseen = self.rows.iter().zip(&seen).filter(|(row, seen)| row.named && !**seen);
        let mut gone: Vec<_> = unseen.map(|(row, _)| row.name.clone()).collect();
        gone.sort_unstable();
        (new, gone)
    }

    /// Forgets what happened to it, but for what is listed of it.
    pub(super) fn renew(&mut self, name: &Arc<str>, holds: Holds) -> &mut Row {
        self.refused.remove(name);
        let row = self.row(name);
        row.renew(holds);
        row
    }

    /// The client has nothing to do with it any more. Who names it or has to look at it still does.
    pub(super) fn release(&mut self, name: &str) {
        self.refused.remove(name);
        self.listed.remove(name);
        if let Some(place) = self.find(name)
            && let Some(row) = self.rows.get_mut(place)
        {
            row.release();
            self.vacate(place);
        }
    }

    /// It is asked for by its name, and what the client holds of it is not known: on its first request nothing, but for
    /// the versions that came along. Says whether it was not asked for before.
    pub(super) fn ask(&mut self, name: &Arc<str>, first: bool) -> bool {
        let row = self.row(name);
        let new = !std::mem::replace(&mut row.named, true);
        let unknown = !first || row.holds() == Holds::Nothing;
        if unknown {
            row.renew(if first { Holds::Nothing } else { Holds::Unknown });
        }
        row.told_missing = false;
        let quiet = !std::mem::replace(&mut row.due, true);
        self.named += usize::from(new);
        if unknown {
            self.refused.remove(name);
        }
        if quiet {
            self.queue(name.clone());
        }
        new
    }

    /// Whether it was named before.
    pub(super) fn unname(&mut self, name: &str) -> bool {
        let Some(place) = self.find(name) else { return false };
        let Some(row) = self.rows.get_mut(place) else {
            return false;
        };
        let was = std::mem::replace(&mut row.named, false);
        self.named -= usize::from(was);
        self.vacate(place);
        was
    }

    /// Keeps what is named, and what is known of it.
    pub(super) fn keep_named(&mut self) {
        self.rows.retain(|row| row.named);
        self.index();
        let (places, seed, rows) = (&self.places, &self.seed, &self.rows);
        let stays = |name: &Arc<str>| find(places, seed, rows, name).is_some();
        self.refused.retain(|name, _| stays(name));
        self.listed.retain(|name, _| stays(name));
        self.queue_again();
    }

    pub(super) fn make_due(&mut self, name: &Arc<str>) {
        if !std::mem::replace(&mut self.row(name).due, true) {
            self.queue(name.clone());
        }
    }

    /// The same, if it is asked for.
    pub(super) fn make_due_if_named(&mut self, name: &Arc<str>) {
        if let Some(place) = self.find(name)
            && let Some(row) = self.rows.get_mut(place).filter(|row| row.named)
            && !std::mem::replace(&mut row.due, true)
        {
            self.queue(name.clone());
        }
    }

    /// Looks at all of these, and at every row of which that is so.
    pub(super) fn make_all_due<'a>(&mut self, names: impl Iterator<Item = &'a Arc<str>>, which: impl Fn(&Row) -> bool) {
        for name in names {
            self.row(name).due = true;
        }
        for row in self.rows.iter_mut().filter(|row| which(row)) {
            row.due = true;
        }
        self.queue_again();
    }

    /// It needs no look any more.
    pub(super) fn settle(&mut self, name: &str) {
        if let Some(place) = self.find(name)
            && let Some(row) = self.rows.get_mut(place)
        {
            row.due = false;
            self.vacate(place);
        }
    }

    /// The next name to look at, and whether it is asked for. Whoever has looked at it leaves it tidy.
    pub(super) fn next_due(&mut self) -> Option<(Arc<str>, bool)> {
        while let Some(name) = self.due.pop_front() {
            if let Some(place) = self.find(&name)
                && let Some(row) = self.rows.get_mut(place)
                && std::mem::take(&mut row.due)
            {
                let named = row.named;
                return Some((name, named));
            }
        }
        if self.due.capacity() > SPARE {
            self.due = VecDeque::new();
        }
        None
    }

    /// Nothing is kept of a name that plays no part any more.
    pub(super) fn tidy(&mut self, name: &str) {
        if let Some(place) = self.find(name) {
            self.vacate(place);
        }
    }

    /// Room for so many more names.
    pub(super) fn reserve(&mut self, names: usize) {
        make_room(&mut self.rows, names);
        self.due.reserve(names);
        let (seed, rows) = (&self.seed, &self.rows);
        self.places.reserve(names, |place| hash(seed, rows, *place));
    }

    /// Gives back what is far too much.
    pub(super) fn fit(&mut self) {
        if self.rows.capacity() > self.rows.len() + self.rows.len() / 4 + SPARE {
            self.rows.shrink_to_fit();
            let (seed, rows) = (&self.seed, &self.rows);
            self.places.shrink_to(rows.len(), |place| hash(seed, rows, *place));
        }
    }

    fn find(&self, name: &str) -> Option<usize> {
        find(&self.places, &self.seed, &self.rows, name)
    }

    fn row(&mut self, name: &Arc<str>) -> &mut Row {
        let Self { rows, places, seed, .. } = self;
        let key = seed.hash_one(&**name);
        let is = |place: &u32| rows.get(wide(*place)).is_some_and(|row| row.name == *name);
        let place = match places.entry(key, is, |place| hash(seed, rows, *place)) {
            Entry::Occupied(known) => wide(*known.get()),
            Entry::Vacant(new) => {
                let place = rows.len();
                new.insert(narrow(place));
                make_room(rows, 1);
                rows.push(Row::new(name.clone()));
                place
            }
        };
        &mut rows[place]
    }

    /// Takes the row away if nobody needs it; the last one moves in.
    fn vacate(&mut self, place: usize) {
        let Some(row) = self.rows.get(place).filter(|row| row.is_vacant()) else {
            return;
        };
        let key = self.seed.hash_one(&*row.name);
        if let Ok(found) = self.places.find_entry(key, |other| wide(*other) == place) {
            found.remove();
        }
        self.rows.swap_remove(place);
        if let Some(moved) = self.rows.get(place) {
            let (key, last) = (self.seed.hash_one(&*moved.name), self.rows.len());
            if let Some(found) = self.places.find_mut(key, |other| wide(*other) == last) {
                *found = narrow(place);
            }
        }
    }

    fn index(&mut self) {
        self.places.clear();
        let (seed, rows) = (&self.seed, &self.rows);
        let rehash = |place: &u32| hash(seed, rows, *place);
        for (place, row) in rows.iter().enumerate() {
            self.places
                .insert_unique(seed.hash_one(&*row.name), narrow(place), rehash);
        }
    }

    fn queue(&mut self, name: Arc<str>) {
        self.due.push_back(name);
        // Names that come and go without being looked at leave something behind.
        if self.due.len() > 2 * self.rows.len() + SPARE {
            self.queue_again();
        }
    }

    fn queue_again(&mut self) {
        let due = self.rows.iter().filter(|row| row.due);
        self.due = due.map(|row| row.name.clone()).collect();
    }
}

/// There is one array a stream, so it grows by little; but by some part of it, or names that come one at a time would
/// each copy all of it.
fn make_room(rows: &mut Vec<Row>, names: usize) {
    if rows.capacity() - rows.len() < names {
        rows.reserve_exact(names.max(rows.len() / 8).max(SPARE));
    }
}

fn find(places: &HashTable<u32>, seed: &RandomState, rows: &[Row], name: &str) -> Option<usize> {
    let is = |place: &u32| rows.get(wide(*place)).is_some_and(|row| *row.name == *name);
    places.find(seed.hash_one(name), is).map(|place| wide(*place))
}

fn hash(seed: &RandomState, rows: &[Row], place: u32) -> u64 {
    rows.get(wide(place)).map_or(0, |row| seed.hash_one(&*row.name))
}

fn wide(place: u32) -> usize {
    place as usize
}

/// A stream has [`crate::xds::Limits::names`] names, and there are not so many clusters either.
fn narrow(place: usize) -> u32 {
    u32::try_from(place).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;

//! Between the one writer and the many streams: the newest snapshot, and a mailbox a stream.
//!
//! A stream registers what it wants to hear of before it reads the snapshot, and the writer puts the new snapshot up
//! before it looks for who wants to hear of it; so no change falls between the two. A mailbox holds names and not
//! changes: a slow client hears the latest and not the history, and what waits for it is bounded by what it asked for.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use arc_swap::ArcSwap;
use leadsman_core::snapshot::{Changes, ResourceType, Snapshot};
use leadsman_core::xds::{Interest, Place, StreamId, SubscriberIndex};
use smallvec::SmallVec;

use crate::bell::Bell;

/// What a stream still has to look at.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Letters {
    /// Mostly one. In no order, and some may be there twice.
    pub(crate) changed: SmallVec<[(ResourceType, Arc<str>); 1]>,
    /// The snapshot has begun to answer, or absence in it has become proof.
    pub(crate) certainty: bool,
}

#[derive(Debug, Default)]
struct Mailbox {
    letters: Mutex<Letters>,
    bell: Arc<Bell>,
}

#[derive(Debug, Default)]
struct Streams {
    index: SubscriberIndex,
    /// By the place of their stream.
    mailboxes: Vec<Option<Arc<Mailbox>>>,
    free: Vec<Place>,
    last: StreamId,
}

/// Shared by the controller and every stream.
#[derive(Debug, Default)]
pub(crate) struct Publication {
    snapshot: ArcSwap<Snapshot>,
    /// Taken by the writer once a publication and by a stream when it subscribes, never for an acknowledgement, and held
    /// for no longer than a look-up.
    streams: Mutex<Streams>,
    closed: AtomicBool,
}

impl Publication {
    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// Makes `snapshot` the newest and wakes those who wanted to hear of a change.
    pub(crate) fn publish(&self, snapshot: Snapshot, changes: &Changes, certainty: bool) {
        self.snapshot.store(Arc::new(snapshot));
        let streams = lock(&self.streams);
        for (place, kind, name) in streams.index.affected(changes) {
            if let Some(mailbox) = streams.mailbox(place) {
                lock(&mailbox.letters).add(kind, name);
                mailbox.bell.ring();
            }
        }
        if certainty {
            for mailbox in streams.mailboxes.iter().flatten() {
                lock(&mailbox.letters).certainty = true;
                mailbox.bell.ring();
            }
        }
    }

    /// Tells every stream that there will be nothing more.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        for mailbox in lock(&self.streams).mailboxes.iter().flatten() {
            mailbox.bell.ring();
        }
    }

    /// Enters a stream.
    pub(crate) fn enter(self: &Arc<Self>) -> Seat {
        let mailbox = Arc::<Mailbox>::default();
        let (id, place) = lock(&self.streams).enter(&mailbox);
        Seat {
            publication: self.clone(),
            id,
            place,
            mailbox,
        }
    }
}

impl Streams {
    fn mailbox(&self, place: Place) -> Option<&Arc<Mailbox>> {
        self.mailboxes.get(usize::try_from(place).ok()?)?.as_ref()
    }

    /// Places are used again, so that there are no more of them than there were streams at one time.
    fn enter(&mut self, mailbox: &Arc<Mailbox>) -> (StreamId, Place) {
        self.last += 1;
        let place = self.free.pop().unwrap_or_else(|| {
            self.mailboxes.push(None);
            Place::try_from(self.mailboxes.len() - 1).unwrap_or(Place::MAX)
        });
        self.put(place, Some(mailbox.clone()));
        (self.last, place)
    }

    fn leave(&mut self, place: Place) {
        self.put(place, None);
        self.free.push(place);
    }

    fn put(&mut self, place: Place, mailbox: Option<Arc<Mailbox>>) {
        let slot = usize::try_from(place).ok().and_then(|at| self.mailboxes.get_mut(at));
        if let Some(slot) = slot {
            *slot = mailbox;
        }
    }
}

impl Letters {
    /// A stream that does not read gets the same names again and again, so nothing grows before what is there twice is
    /// thrown away: what waits is bounded by what it asked for.
    fn add(&mut self, kind: ResourceType, name: &Arc<str>) {
        let letters = &mut self.changed;
        if letters.last().is_some_and(|(of, last)| (*of, last) == (kind, name)) {
            return;
        }
        if letters.len() == letters.capacity() {
            letters.sort_unstable();
            letters.dedup();
            // There is room for as many more, so that sorting stays rare.
            letters.reserve(letters.len());
        }
        letters.push((kind, name.clone()));
    }
}

/// Where a stream sits. Its mailbox is given back on drop; its interests the stream takes back itself before that. If it did
/// not, the next stream in its place would hear of names it does not want, and ignore them.
#[derive(Debug)]
pub(crate) struct Seat {
    publication: Arc<Publication>,
    id: StreamId,
    place: Place,
    mailbox: Arc<Mailbox>,
}

impl Seat {
    pub(crate) fn id(&self) -> StreamId {
        self.id
    }

    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        self.publication.snapshot()
    }

    /// Registers what the stream wants to hear of, or does not any more.
    pub(crate) fn update(&self, interests: &[Interest]) {
        if !interests.is_empty() {
            lock(&self.publication.streams).index.update(self.place, interests);
        }
    }

    /// Ready when there may be something new.
    pub(crate) fn poll_arrived(&self, cx: &Context<'_>) -> Poll<()> {
        self.mailbox.bell.poll_rung(cx)
    }

    /// What else the stream is woken for rings this.
    pub(crate) fn bell(&self) -> Arc<Bell> {
        self.mailbox.bell.clone()
    }

    /// Whether there will be nothing more.
    pub(crate) fn is_closed(&self) -> bool {
        self.publication.closed.load(Ordering::Acquire)
    }

    pub(crate) fn take(&self) -> Letters {
        std::mem::take(&mut *lock(&self.mailbox.letters))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        lock(&self.publication.streams).leave(self.place);
    }
}

/// The data behind these locks is whole between any two statements, so a panic elsewhere does not spoil it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(name: &str) -> Changes {
        Changes {
            endpoints: [Arc::from(name)].into(),
            ..Changes::default()
        }
    }

    #[test]
    fn letters_pile_up_as_names_and_a_left_seat_gets_none() {
        let publication = Arc::new(Publication::default());
        let seat = publication.enter();
        let wants = |name: &str| Interest::Subscribe(ResourceType::Endpoint, name.into());
        seat.update(&[wants("a")]);
        for _ in 0..1000 {
            publication.publish(Snapshot::default(), &changes("a"), false);
            publication.publish(Snapshot::default(), &changes("b"), false);
        }
        let changed = [(ResourceType::Endpoint, Arc::from("a"))].into_iter().collect();
        assert_eq!(
            seat.take(),
            Letters {
                changed,
                certainty: false
            }
        );
        assert_eq!(seat.take(), Letters::default());
        seat.update(&[Interest::Unsubscribe(ResourceType::Endpoint, "a".into())]);
        drop(seat);
        assert!(
            lock(&publication.streams)
                .index
                .affected(&changes("a"))
                .next()
                .is_none()
        );
    }

    #[test]
    fn many_names_that_change_all_the_time_are_kept_about_once_each() {
        let publication = Arc::new(Publication::default());
        let seat = publication.enter();
        let names: Vec<String> = (0..100).map(|name| name.to_string()).collect();
        let wants = |name: &String| Interest::Subscribe(ResourceType::Endpoint, name.as_str().into());
        seat.update(&names.iter().map(wants).collect::<Vec<_>>());
        for _ in 0..100 {
            for name in &names {
                publication.publish(Snapshot::default(), &changes(name), false);
            }
        }
        let mut changed = seat.take().changed;
        assert!(changed.capacity() <= 4 * names.len(), "{}", changed.capacity());
        changed.sort_unstable();
        changed.dedup();
        assert_eq!(changed.len(), names.len());
    }

    #[test]
    fn a_place_is_used_again_and_a_stream_is_told_nothing_of_its_former_owner() {
        let publication = Arc::new(Publication::default());
        let wants = Interest::Subscribe(ResourceType::Endpoint, "a".into());
        let (first, second) = (publication.enter(), publication.enter());
        first.update(std::slice::from_ref(&wants));
        first.update(&[Interest::Unsubscribe(ResourceType::Endpoint, "a".into())]);
        let (id, place) = (first.id(), first.place);
        drop(first);
        let third = publication.enter();
        assert_eq!(third.place, place);
        assert!(![id, second.id()].contains(&third.id()));
        second.update(&[wants]);
        publication.publish(Snapshot::default(), &changes("a"), false);
        assert_eq!(third.take(), Letters::default());
        assert_eq!(second.take().changed.len(), 1);
    }
}

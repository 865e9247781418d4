//! Between the one writer and the many streams: the newest snapshot, and a mailbox a stream.
//!
//! A stream registers what it wants to hear of before it reads the snapshot, and the writer puts the new snapshot up
//! before it looks for who wants to hear of it; so no change falls between the two. A mailbox holds names and not
//! changes: a slow client hears the latest and not the history, and what waits for it is bounded by what it asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use leadsman_core::snapshot::{Changes, ResourceType, Snapshot};
use leadsman_core::xds::{Interest, StreamId, SubscriberIndex};
use tokio::sync::Notify;

/// What a stream still has to look at.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Letters {
    pub(crate) changed: BTreeSet<(ResourceType, Arc<str>)>,
    /// The snapshot has begun to answer, or absence in it has become proof.
    pub(crate) certainty: bool,
}

#[derive(Debug, Default)]
struct Mailbox {
    letters: Mutex<Letters>,
    arrived: Notify,
}

#[derive(Debug, Default)]
struct Streams {
    index: SubscriberIndex,
    mailboxes: BTreeMap<StreamId, Arc<Mailbox>>,
    next: StreamId,
}

/// Shared by the controller and every stream.
#[derive(Debug, Default)]
pub(crate) struct Publication {
    snapshot: ArcSwap<Snapshot>,
    /// Taken by the writer once a publication and by a stream when it subscribes, never for an acknowledgement, and held
    /// for no longer than a look-up.
    streams: Mutex<Streams>,
}

impl Publication {
    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// Makes `snapshot` the newest and wakes those who wanted to hear of a change.
    pub(crate) fn publish(&self, snapshot: Snapshot, changes: &Changes, certainty: bool) {
        self.snapshot.store(Arc::new(snapshot));
        let streams = lock(&self.streams);
        for (stream, kind, name) in streams.index.affected(changes) {
            if let Some(mailbox) = streams.mailboxes.get(&stream) {
                lock(&mailbox.letters).changed.insert((kind, name.clone()));
                mailbox.arrived.notify_one();
            }
        }
        if certainty {
            for mailbox in streams.mailboxes.values() {
                lock(&mailbox.letters).certainty = true;
                mailbox.arrived.notify_one();
            }
        }
    }

    /// Enters a stream.
    pub(crate) fn enter(self: &Arc<Self>) -> Seat {
        let mut streams = lock(&self.streams);
        streams.next += 1;
        let (id, mailbox) = (streams.next, Arc::<Mailbox>::default());
        streams.mailboxes.insert(id, mailbox.clone());
        Seat {
            publication: self.clone(),
            id,
            mailbox,
        }
    }
}

/// A stream's place. Its mailbox is given back on drop; its interests the stream takes back itself.
#[derive(Debug)]
pub(crate) struct Seat {
    publication: Arc<Publication>,
    id: StreamId,
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
            lock(&self.publication.streams).index.update(self.id, interests);
        }
    }

    /// Waits for something new. Nothing is lost when the future is dropped.
    pub(crate) async fn arrived(&self) {
        self.mailbox.arrived.notified().await;
    }

    pub(crate) fn take(&self) -> Letters {
        std::mem::take(&mut *lock(&self.mailbox.letters))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        lock(&self.publication.streams).mailboxes.remove(&self.id);
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
        let changed = [(ResourceType::Endpoint, Arc::from("a"))].into();
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
}

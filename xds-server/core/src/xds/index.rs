//! Who wants to know about what: a change costs its subscribers, and nobody else.

mod places;

use std::collections::HashMap;
use std::sync::Arc;

use ahash::RandomState;
use places::Places;

use super::Interest;
use crate::snapshot::{Changes, PerType, ResourceType};

/// A stream, for as long as it lives. Node ids are not unique: two proxies may share one, and a proxy may be back
/// before its former stream is known to be dead.
pub type StreamId = u64;

/// Where a stream sits among those that are open. Small, because one is kept for each name of each stream; the next stream
/// may have it when this one has gone.
pub type Place = u32;

#[derive(Debug, Default)]
struct Interested {
    /// By hashes with a random seed: names are the clients' to choose.
    names: HashMap<Arc<str>, Places, RandomState>,
    everything: Places,
}

/// From resource names to streams.
#[derive(Debug, Default)]
pub struct SubscriberIndex(PerType<Interested>);

impl SubscriberIndex {
    pub fn update(&mut self, stream: Place, interests: &[Interest]) {
        for interest in interests {
            match interest {
                Interest::Subscribe(kind, name) => self.0.of_mut(*kind).note(stream, name),
                Interest::Unsubscribe(kind, name) => self.0.of_mut(*kind).forget(stream, name),
                Interest::Everything(kind) => self.0.of_mut(*kind).everything.insert(stream),
                Interest::NotEverything(kind) => self.0.of_mut(*kind).everything.remove(stream),
            }
        }
    }

    /// Which stream has to hear of which change. A stream that asked for a name and for everything may be told twice.
    pub fn affected<'a>(
        &'a self,
        changes: &'a Changes,
    ) -> impl Iterator<Item = (Place, ResourceType, &'a Arc<str>)> + 'a {
        ResourceType::ALL.into_iter().flat_map(move |kind| {
            let interested = self.0.of(kind);
            changes.of(kind).iter().flat_map(move |name| {
                let named = interested.names.get(name).into_iter().flat_map(Places::iter);
                let streams = named.chain(interested.everything.iter());
                streams.map(move |stream| (stream, kind, name))
            })
        })
    }
}

impl Interested {
    fn note(&mut self, stream: Place, name: &Arc<str>) {
        match self.names.get_mut(name) {
            Some(streams) => streams.insert(stream),
            None => self.names.entry(name.clone()).or_default().insert(stream),
        }
    }

    fn forget(&mut self, stream: Place, name: &Arc<str>) {
        if let Some(streams) = self.names.get_mut(name) {
            streams.remove(stream);
            if streams.is_empty() {
                self.names.remove(name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_reaches_its_subscribers_and_the_streams_that_want_everything_and_nobody_else() {
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        let mut index = SubscriberIndex::default();
        index.update(1, &[Interest::Everything(ResourceType::Cluster)]);
        index.update(2, &[Interest::Subscribe(ResourceType::Endpoint, a.clone())]);
        index.update(3, &[Interest::Subscribe(ResourceType::Endpoint, b)]);
        let changes = Changes {
            clusters: [a.clone()].into(),
            endpoints: [a.clone()].into(),
            ..Changes::default()
        };
        let affected: Vec<_> = index.affected(&changes).collect();
        let expected = [(1, ResourceType::Cluster, &a), (2, ResourceType::Endpoint, &a)];
        assert_eq!(affected, expected);
        index.update(1, &[Interest::NotEverything(ResourceType::Cluster)]);
        index.update(2, &[Interest::Unsubscribe(ResourceType::Endpoint, a.clone())]);
        assert_eq!(index.affected(&changes).next(), None);
        assert_eq!(
            index.0.of(ResourceType::Endpoint).names.len(),
            1,
            "a name that nobody wants takes no memory"
        );
    }
}

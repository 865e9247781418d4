//! Which services there are: the lists of names, what is new in them, and what is let go.

use std::collections::BTreeSet;
use std::sync::Arc;

use leadsman_core::model::{Provenance, Rejection, ServiceName};
use tokio::time::Instant;

use super::super::config::Protocol;
use super::super::decode::Place;
use super::super::link::Names;
use super::asking::Question;
use super::{Session, Timer};
use crate::text::shorten;
use crate::{Error, Event};

/// Of a name that can't be used.
const MAX_SHOWN_BYTES: usize = 100;

impl Session<'_> {
    pub(super) fn discover(&mut self, groups: &BTreeSet<Arc<str>>) {
        for group in groups {
            if self.discovering.insert(Arc::clone(group)) {
                self.asking.ask(Question::Names(Arc::clone(group)));
            }
        }
    }

    pub(super) async fn take_names(&mut self, group: &Arc<str>, found: Names) -> Result<(), Error> {
        self.discovering.remove(group);
        if found.whole {
            self.doubts.restless.remove(&**group);
        } else {
            self.doubts.restless.insert((**group).into());
        }
        self.followed.list(group, &found.names);
        let mut unusable = Vec::new();
        for name in &found.names {
            let place = Place::new(group, name);
            if place.is_dubbo_bookkeeping() {
                continue;
            }
            match place.service(self.config.service_name) {
                Ok(service) => self.find(&service, place),
                Err(error) => unusable.push(Rejection {
                    provenance: Provenance::new(&shorten(&place.to_string(), MAX_SHOWN_BYTES), "", b"", 0),
                    reason: format!("the service has no usable name: {error}"),
                }),
            }
        }
        let changed = self
            .unusable
            .get(group)
            .map_or(!unusable.is_empty(), |told| *told != unusable);
        self.unusable.insert(Arc::clone(group), unusable);
        if let Some(listing) = &mut self.listing {
            listing.groups.remove(group);
            return Ok(());
        }
        self.timers
            .entry(Timer::Discover)
            .or_insert_with(|| Instant::now() + self.config.discovery);
        if !found.names.is_empty() {
            self.doubts.emptiness = None;
        }
        if changed {
            let rejections = self.unusable();
            self.events.send(Event::Unattributed { rejections }).await?;
        }
        self.forget_unlisted();
        Ok(())
    }

    pub(super) fn unusable(&self) -> Vec<Rejection> {
        self.unusable.values().flatten().cloned().collect()
    }

    /// Begins to follow a service that is new.
    pub(super) fn find(&mut self, name: &ServiceName, place: Place) {
        self.known.places.insert(name.clone(), place.clone());
        if let Some((place, turn)) = self.followed.discover(name, place) {
            self.asking.ask(Question::Read(name.clone(), place, turn));
            if let Some(listing) = &mut self.listing {
                listing.open.insert(name.clone());
            }
        }
    }

    /// Lets go of services that the server neither lists nor has instances of.
    pub(super) fn forget_unlisted(&mut self) {
        for name in self.followed.unlisted() {
            if self.known.holdings.holds(&name) || self.doubts.is_unreadable(&name) {
                continue;
            }
            self.known.places.remove(&name);
            if let Some(place) = self.followed.forget(&name)
                && self.config.protocol == Protocol::Grpc
            {
                self.asking.ask(Question::Forget(place));
            }
        }
    }
}

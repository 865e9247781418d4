//! What is said of one service, by a push or in an answer, and what is believed of it.

use leadsman_core::model::ServiceName;
use tokio::time::Instant;

use super::super::config::Protocol;
use super::super::decode::{self, Content, Place};
use super::super::wire::ServiceInfo;
use super::Session;
use super::asking::Question;
use super::follow::{Turn, Why};
use crate::held::{Change, Records};
use crate::{Error, Event};

impl Session<'_> {
    pub(super) async fn pushed(&mut self, info: ServiceInfo) -> Result<(), Error> {
        let (group, name) = info.place();
        let groups = self.config.groups();
        // A push that names no group is about the only one there is.
        let only = groups.first().filter(|_| groups.len() == 1);
        let Some(group) = group.or(only.copied()) else {
            return Ok(());
        };
        let place = Place::new(group, name);
        let Ok(name) = place.service(self.config.service_name) else {
            return Ok(());
        };
        if !self.followed.follows(&name) {
            return Ok(());
        }
        let newer = self.followed.push(&name, info.last_ref_time.unwrap_or_default());
        let is_whole = newer && !info.is_protected();
        match info.hosts.filter(|hosts| is_whole && !hosts.is_empty()) {
            Some(hosts) => {
                let content = Content {
                    hosts,
                    ..Content::default()
                };
                self.take_content(&name, &place, &content, Why::Doubt).await?;
            }
            // Emptiness is asked for, and so is whether instances are as healthy as they are shown.
            None => self.read(&name, Why::Doubt),
        }
        self.tell_doubts().await
    }

    pub(super) async fn take_answer(
        &mut self,
        name: &ServiceName,
        turn: Turn,
        outcome: Result<Option<Content>, String>,
    ) -> Result<(), Error> {
        let content = match outcome {
            Ok(content) => content,
            Err(reason) => {
                self.doubts.unreadable(name, reason);
                None
            }
        };
        let written = content.as_ref().map(|content| content.written);
        let (taken, next) = self.followed.answered(name, turn, written);
        let asked_again = next.is_some();
        if let Some((place, turn)) = next {
            self.asking.ask(Question::Read(name.clone(), place, turn));
        }
        if let (true, Some(content), Some(place)) = (taken, &content, self.followed.place(name).cloned()) {
            self.doubts.readable(name);
            self.take_content(name, &place, content, turn.why).await?;
        }
        if let Some(listing) = &mut self.listing
            && !asked_again
        {
            listing.open.remove(name);
        }
        if self.config.protocol == Protocol::Http && !asked_again {
            self.followed.poll_at(name, Instant::now() + self.config.poll);
        }
        Ok(())
    }

    async fn take_content(
        &mut self,
        name: &ServiceName,
        place: &Place,
        content: &Content,
        why: Why,
    ) -> Result<(), Error> {
        let records = decode::records(self.config, place, content);
        self.note_protection(name, content);
        if let Some(listing) = &mut self.listing {
            listing.fresh.insert(name.clone(), records);
            return Ok(());
        }
        if why == Why::Poll && records.is_empty() && self.known.holdings.holds(name) {
            self.read(name, Why::Doubt);
            return Ok(());
        }
        self.apply(name, records).await
    }

    async fn apply(&mut self, name: &ServiceName, records: Records) -> Result<(), Error> {
        let proven = !self.is_settling(name);
        let event = match self.known.holdings.take(name, records, proven) {
            None => return Ok(()),
            Some(Change::Applied(service)) => Event::Apply { service, revision: 0 },
            Some(Change::Deleted(name)) => Event::Delete { name, revision: 0 },
        };
        self.events.send(event).await
    }

    fn note_protection(&mut self, name: &ServiceName, content: &Content) {
        let source = self.events.source();
        if content.truth.is_some() {
            if self.protected.insert(name.clone()) {
                tracing::warn!(
                    %source, service = %name,
                    "protectThreshold is reached: Nacos shows all instances as healthy, and is not believed"
                );
            }
        } else if self.protected.remove(name) {
            tracing::info!(%source, service = %name, "protectThreshold is not reached any more");
        }
    }
}

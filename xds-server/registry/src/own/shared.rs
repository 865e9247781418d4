//! The store that several replicas share: records in an etcd, in Leadsman's own layout, which the etcd adapter reads back
//! like any other. Leases are etcd's, versions are its revisions, and every change is a compare-and-set.
//!
//! A replica holds nothing: whoever is asked next knows as much.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::ledger::Limits;
use super::model::{Content, Guard, Key, Lease, Listing, Page, Receipt, Refusal, Registration, Shown};
use crate::Error;
use crate::etcd::{Config, Stored, Writer};

/// How often a change is tried when others change the same instance at the same moment.
const MAX_TRIES: usize = 8;

#[derive(Debug)]
pub(super) struct Shared {
    writer: Writer,
    /// Ends where the name of a service begins.
    prefix: String,
    limits: Limits,
}

/// What this registry keeps in a record besides what the layout says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Origin {
    holder: String,
    ttl_seconds: u32,
    draining: bool,
    /// What the instance says itself, while the record says that it is draining.
    health: String,
}

/// A record that is there.
#[derive(Clone, Debug, PartialEq)]
struct Seen {
    /// `None` for a record that somebody else wrote, in words that are not ours.
    content: Option<Content>,
    origin: Origin,
    version: i64,
    lease: i64,
}

impl Shared {
    pub(super) fn new(config: Config) -> Self {
        Self {
            prefix: base(&config.prefix),
            writer: Writer::new(config),
            limits: Limits::default(),
        }
    }

    pub(super) async fn register(&self, registration: Registration) -> Result<Receipt, Refusal> {
        registration.check()?;
        let key = &registration.key;
        for _ in 0..MAX_TRIES {
            let before = self.read(key).await?;
            let actual = before.as_ref().map_or(0, Seen::version);
            if let Some(expected) = registration.expected.filter(|expected| *expected != actual) {
                return Err(Refusal::Conflict { expected, actual });
            }
            let own = before.as_ref().filter(|seen| seen.is_of(&registration));
            if let Some(seen) = own.filter(|seen| seen.says(&registration)) {
                if self.writer.keep_alive(seen.lease).await? {
                    return Ok(seen.receipt());
                }
                // It ran out between the two: the record goes with it.
                continue;
            }
            if before.is_none() {
                self.check_room(key).await?;
            }
            if let Some(receipt) = self.write(&registration, before.as_ref()).await? {
                return Ok(receipt);
            }
        }
        Err(contended(key))
    }

    /// One try; `None` when the record changed meanwhile.
    async fn write(&self, registration: &Registration, before: Option<&Seen>) -> Result<Option<Receipt>, Refusal> {
        let own = before.filter(|seen| seen.is_of(registration));
        let draining = own.is_some_and(|seen| seen.origin.draining);
        let former = before.and_then(Seen::own_lease).unwrap_or_default();
        let same = own.filter(|seen| seen.origin.ttl_seconds == registration.ttl_seconds && seen.lease != 0);
        let kept = match same {
            Some(seen) if self.writer.keep_alive(seen.lease).await? => Some(seen.lease),
            Some(_) | None => None,
        };
        let lease = match kept {
            Some(lease) => lease,
            None => self.writer.grant(registration.ttl_seconds).await?,
        };
        let origin = Origin {
            holder: registration.holder.clone(),
            ttl_seconds: registration.ttl_seconds,
            draining,
            health: String::new(),
        };
        let value = encode(&registration.content, origin);
        let path = self.path(&registration.key);
        let seen = before.map_or(0, |seen| seen.version);
        let written = self.writer.put_if(&path, &value, lease, seen).await?;
        // Whichever of the two leases has no record now.
        let useless = if written.is_some() { former } else { lease };
        if kept.is_none() && useless != 0 {
            self.writer.revoke(useless).await;
        }
        Ok(written.map(|version| Receipt {
            version: unsigned(version),
            lease: Lease(unsigned(lease)),
            ttl_seconds: registration.ttl_seconds,
            draining,
            changed: true,
        }))
    }

    pub(super) async fn renew(&self, key: &Key, lease: Lease) -> Result<Receipt, Refusal> {
        let seen = self.read(key).await?.ok_or_else(|| Refusal::unknown(key))?;
        let guard = Guard {
            lease: Some(lease),
            version: None,
        };
        guard.check(key, seen.lease(), seen.version())?;
        if self.writer.keep_alive(seen.lease).await? {
            Ok(seen.receipt())
        } else {
            Err(Refusal::unknown(key))
        }
    }

    pub(super) async fn drain(&self, key: &Key, guard: Guard, draining: bool) -> Result<Receipt, Refusal> {
        for _ in 0..MAX_TRIES {
            let seen = self.read(key).await?.ok_or_else(|| Refusal::unknown(key))?;
            guard.check(key, seen.lease(), seen.version())?;
            if seen.origin.draining == draining {
                return Ok(seen.receipt());
            }
            let content = seen.content.as_ref().ok_or_else(|| foreign(key))?;
            let origin = Origin {
                draining,
                ..seen.origin.clone()
            };
            let value = encode(content, origin);
            let path = self.path(key);
            let written = self.writer.put_if(&path, &value, seen.lease, seen.version).await?;
            if let Some(version) = written {
                return Ok(Receipt {
                    version: unsigned(version),
                    draining,
                    changed: true,
                    ..seen.receipt()
                });
            }
        }
        Err(contended(key))
    }

    pub(super) async fn deregister(&self, key: &Key, guard: Guard) -> Result<bool, Refusal> {
        for _ in 0..MAX_TRIES {
            let Some(seen) = self.read(key).await? else {
                return Ok(false);
            };
            guard.check(key, seen.lease(), seen.version())?;
            if self.writer.delete_if(&self.path(key), seen.version).await?.is_some() {
                if let Some(lease) = seen.own_lease() {
                    self.writer.revoke(lease).await;
                }
                return Ok(true);
            }
        }
        Err(contended(key))
    }

    pub(super) async fn get(&self, key: &Key) -> Result<Shown, Refusal> {
        let seen = self.read(key).await?.ok_or_else(|| Refusal::unknown(key))?;
        seen.shown(key).ok_or_else(|| foreign(key))
    }

    /// Records of others that are no instances are left out.
    pub(super) async fn list(&self, listing: &Listing) -> Result<Page, Refusal> {
        let prefix = match &listing.service {
            Some(service) => format!("{}{service}/", self.prefix),
            None => self.prefix.clone(),
        };
        let mut after = listing.after.as_ref().map(|key| self.path(key));
        // A place in another service would begin outside of the one that is asked for.
        after = after.filter(|after| after.as_str() > prefix.as_str());
        let mut page = Page {
            instances: Vec::new(),
            next: String::new(),
            revision: 0,
        };
        loop {
            let wanted = listing.limit - page.instances.len();
            let keys = self.writer.keys(&prefix, after.as_deref(), wanted).await?;
            page.revision = unsigned(keys.revision);
            let last = keys
                .found
                .last()
                .map(|stored| String::from_utf8_lossy(&stored.key).into_owned());
            page.instances
                .extend(keys.found.iter().filter_map(|stored| self.shown(stored)));
            let (Some(last), true) = (last, keys.more) else {
                return Ok(page);
            };
            if page.instances.len() >= listing.limit {
                let end = page.instances.last();
                page.next = end.map_or_else(String::new, |shown| format!("{}/{}", shown.service, shown.id));
                return Ok(page);
            }
            after = Some(last);
        }
    }

    fn shown(&self, stored: &Stored) -> Option<Shown> {
        let path = std::str::from_utf8(&stored.key).ok()?;
        let (service, id) = path.strip_prefix(&self.prefix)?.split_once('/')?;
        Seen::of(stored).shown(&Key::new(service, id).ok()?)
    }

    /// Replicas don't wait for each other, so a few more than the limit may slip in.
    async fn check_room(&self, key: &Key) -> Result<(), Refusal> {
        let Limits {
            instances,
            instances_per_service,
            ..
        } = self.limits;
        let service = &key.service;
        let of_service = self.writer.count(&format!("{}{service}/", self.prefix)).await?;
        if of_service >= instances_per_service {
            return Err(Refusal::Full(format!(
                "{service} has {of_service} instances, and a service may have no more"
            )));
        }
        let all = self.writer.count(&self.prefix).await?;
        if all >= instances {
            return Err(Refusal::Full(format!(
                "{all} instances are registered, and there may be no more"
            )));
        }
        Ok(())
    }

    async fn read(&self, key: &Key) -> Result<Option<Seen>, Refusal> {
        let stored = self.writer.get(&self.path(key)).await?;
        Ok(stored.as_ref().map(Seen::of))
    }

    fn path(&self, key: &Key) -> String {
        format!("{}{key}", self.prefix)
    }
}

impl Seen {
    fn of(stored: &Stored) -> Self {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Rest {
            registry: Origin,
        }
        let Rest { registry: origin } = serde_json::from_slice(&stored.value).unwrap_or_default();
        let content = serde_json::from_slice::<Content>(&stored.value).ok().map(|content| {
            let health = if origin.draining {
                origin.health.clone()
            } else {
                content.health
            };
            Content { health, ..content }
        });
        Self {
            content,
            origin,
            version: stored.revision,
            lease: stored.lease,
        }
    }

    fn version(&self) -> u64 {
        unsigned(self.version)
    }

    fn lease(&self) -> Lease {
        Lease(unsigned(self.lease))
    }

    /// The lease, if it was made for this record: whoever wrote a record by other means may keep more under one lease.
    fn own_lease(&self) -> Option<i64> {
        (self.origin.ttl_seconds > 0 && self.lease != 0).then_some(self.lease)
    }

    fn is_of(&self, registration: &Registration) -> bool {
        self.origin.holder == registration.holder
    }

    fn says(&self, registration: &Registration) -> bool {
        let same_time = self.origin.ttl_seconds == registration.ttl_seconds && self.lease != 0;
        same_time && self.content.as_ref() == Some(&registration.content)
    }

    fn receipt(&self) -> Receipt {
        Receipt {
            version: self.version(),
            lease: self.lease(),
            ttl_seconds: self.origin.ttl_seconds,
            draining: self.origin.draining,
            changed: false,
        }
    }

    fn shown(self, key: &Key) -> Option<Shown> {
        Some(Shown {
            service: key.service.to_shared(),
            id: Arc::clone(&key.id),
            ttl_seconds: self.origin.ttl_seconds,
            version: self.version(),
            draining: self.origin.draining,
            remaining_seconds: 0,
            endpoint: self.content?,
        })
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Unavailable(format!("the store can't be used: {error}"))
    }
}

/// A record in our own layout, which says what Envoy is to be told, and besides what this registry has to remember.
fn encode(content: &Content, origin: Origin) -> Vec<u8> {
    #[derive(Serialize)]
    struct Record<'a> {
        #[serde(flatten)]
        content: &'a Content,
        registry: &'a Origin,
    }
    let mut content = content.clone();
    let mut origin = Origin {
        health: String::new(),
        ..origin
    };
    if origin.draining {
        origin.health = std::mem::replace(&mut content.health, "draining".to_owned());
    }
    let record = Record {
        content: &content,
        registry: &origin,
    };
    // Maps have texts for keys, and numbers are finite: there is nothing that JSON could not say.
    serde_json::to_vec(&record).unwrap_or_default()
}

/// The prefix up to the name of a service, which the etcd source takes in whole segments.
fn base(prefix: &str) -> String {
    if prefix.is_empty() || prefix.ends_with(['/', ':']) {
        prefix.to_owned()
    } else {
        format!("{prefix}/")
    }
}

/// etcd counts from 1 and never below.
fn unsigned(number: i64) -> u64 {
    number.cast_unsigned()
}

fn contended(key: &Key) -> Refusal {
    Refusal::Unavailable(format!("others change {key} at the same time"))
}

fn foreign(key: &Key) -> Refusal {
    Refusal::Invalid(format!(
        "{key} was not written by this registry, and can't be read by it; register it again, or delete its key"
    ))
}

#[cfg(test)]
mod tests {
    use leadsman_core::model::Health;

    use super::*;
    use crate::layout::Reading;
    use crate::layout::entry::Entry;
    use crate::layout::leadsman;

    fn content(health: &str) -> Content {
        Content {
            address: "10.0.0.1".to_owned(),
            port: 9001,
            weight: 2.5,
            health: health.to_owned(),
            locality: Default::default(),
            metadata: [("version".to_owned(), "v2".to_owned())].into(),
        }
    }

    fn origin(draining: bool) -> Origin {
        Origin {
            holder: "h".to_owned(),
            ttl_seconds: 30,
            draining,
            health: String::new(),
        }
    }

    fn seen(value: &[u8]) -> Seen {
        Seen::of(&Stored {
            key: Vec::new(),
            value: value.to_vec(),
            revision: 7,
            lease: 9,
        })
    }

    #[test]
    fn a_record_is_read_back_as_it_was_meant() {
        for draining in [false, true] {
            let read = seen(&encode(&content("degraded"), origin(draining)));
            assert_eq!(read.content, Some(content("degraded")));
            assert_eq!((read.origin.draining, read.origin.ttl_seconds), (draining, 30));
            // Ending the drain gives the instance its own words back.
            let after = seen(&encode(
                &read.content.unwrap(),
                Origin {
                    draining: false,
                    ..read.origin
                },
            ));
            assert_eq!(after.content, Some(content("degraded")));
        }
    }

    #[test]
    fn the_layout_of_the_etcd_source_reads_what_envoy_is_to_be_told() {
        for (draining, health) in [(false, Health::Degraded), (true, Health::Draining)] {
            let value = encode(&content("degraded"), origin(draining));
            let entry = Entry::new("/a/orders/1", "/a/", "orders/1", &value);
            let Reading::Instances(service, Ok(outcomes)) = leadsman::read(&entry) else {
                panic!("not read");
            };
            let endpoint = outcomes.into_iter().next().unwrap().unwrap();
            assert_eq!((service.as_str(), endpoint.health), ("orders", health));
            assert_eq!(endpoint.address.to_string(), "10.0.0.1:9001");
            assert_eq!(endpoint.weight.get(), 2.5);
            assert_eq!(endpoint.metadata, content("").metadata);
        }
    }

    #[test]
    fn the_form_of_a_record_does_not_change_by_accident() {
        assert_eq!(
            String::from_utf8(encode(&content("healthy"), origin(true))).unwrap(),
            concat!(
                r#"{"address":"10.0.0.1","port":9001,"weight":2.5,"health":"draining","#,
                r#""locality":{"region":"","zone":"","sub_zone":""},"metadata":{"version":"v2"},"#,
                r#""registry":{"holder":"h","ttl_seconds":30,"draining":true,"health":"healthy"}}"#
            )
        );
    }

    #[test]
    fn what_others_wrote_is_shown_if_it_can_be_and_never_trusted() {
        let key = Key::new("orders", "1").unwrap();
        let by_hand = seen(br#"{"address":"10.0.0.1","port":9001}"#);
        assert_eq!(by_hand.origin, Origin::default());
        assert_eq!(by_hand.shown(&key).unwrap().ttl_seconds, 0);
        for value in [
            "",
            "{",
            "[]",
            "null",
            r#"{"address":"a"}"#,
            r#"{"registry":7,"port":"x"}"#,
            "\u{0}",
        ] {
            assert_eq!(seen(value.as_bytes()).shown(&key), None, "{value}");
        }
    }

    #[test]
    fn a_prefix_ends_where_a_service_begins() {
        assert_eq!(base("/services"), "/services/");
        assert_eq!(base("/services/"), "/services/");
        assert_eq!(base(""), "");
    }
}

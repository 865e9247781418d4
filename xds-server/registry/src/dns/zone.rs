//! Which zone a name belongs to, and how far that zone has come: what tells a removal from a zone that was lost.
//!
//! A server that was restored from an old copy, or a resolver that suddenly asks somebody else, denies names just as one
//! whose records were removed. The zone's SOA record tells them apart: its serial only ever grows.

use std::collections::BTreeMap;
use std::time::Duration;

use hickory_proto::rr::Name;
use tokio::time::Instant;

use super::question::Zone;

/// How old what is known of a zone may become. What a zone loses by an older copy that has grown beyond that again in the
/// meantime is not noticed.
const FRESH: Duration = Duration::from_mins(1);

/// Names and masters that are remembered for one service; what is beyond is never proven.
const MAX_KNOWN: usize = 4096;

/// How far an answer that lacks something can be believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    /// The zone is the one it was, and not older.
    Proven,
    /// The server names no zone, or none that could be compared.
    Unproven,
    /// Another zone answers, or an older version of it.
    Refuted(String),
}

/// The zones of the names of one service.
#[derive(Clone, Debug, Default)]
pub(super) struct Zones {
    of: BTreeMap<Name, Known>,
    serials: BTreeMap<(Name, Name), u32>,
}

#[derive(Clone, Debug)]
struct Known {
    apex: Option<Name>,
    asked: Instant,
}

impl Zones {
    /// Whether the zone of `name` should be asked for, though nothing is in doubt.
    pub(super) fn is_due(&self, name: &Name, root: bool, now: Instant) -> bool {
        match self.of.get(name) {
            Some(known) => root && now.saturating_duration_since(known.asked) >= FRESH,
            None => self.of.len() < MAX_KNOWN,
        }
    }

    /// What an answer without some of the known records proves about them.
    pub(super) fn judge(&self, name: &Name, zone: Option<&Zone>) -> Proof {
        let (Some(zone), Some(known)) = (zone, self.of.get(name)) else {
            return Proof::Unproven;
        };
        match &known.apex {
            Some(apex) if *apex != zone.apex => {
                return Proof::Refuted(format!(
                    "{} was in zone {}, and zone {} denies it",
                    name.to_ascii(),
                    apex.to_ascii(),
                    zone.apex.to_ascii()
                ));
            }
            Some(_) => {}
            None => return Proof::Unproven,
        }
        match self.serials.get(&(zone.apex.clone(), zone.master.clone())) {
            Some(seen) if is_older(zone.serial, *seen) => Proof::Refuted(format!(
                "zone {} was at serial {seen} and is at {}",
                zone.apex.to_ascii(),
                zone.serial
            )),
            Some(_) => Proof::Proven,
            None => Proof::Unproven,
        }
    }

    /// Remembers what a server said of a name's zone. Serials only grow.
    pub(super) fn learn(&mut self, name: &Name, zone: Option<&Zone>, now: Instant) {
        if self.of.len() >= MAX_KNOWN && !self.of.contains_key(name) {
            return;
        }
        let known = self.of.entry(name.clone()).or_insert(Known { apex: None, asked: now });
        known.asked = now;
        let Some(zone) = zone else { return };
        known.apex.get_or_insert_with(|| zone.apex.clone());
        let version = (zone.apex.clone(), zone.master.clone());
        if self.serials.len() < MAX_KNOWN || self.serials.contains_key(&version) {
            let seen = self.serials.entry(version).or_insert(zone.serial);
            if is_older(*seen, zone.serial) {
                *seen = zone.serial;
            }
        }
    }

    /// Forgets the names that nobody asks about any more.
    pub(super) fn retain(&mut self, wanted: impl Fn(&Name) -> bool) {
        self.of.retain(|name, _| wanted(name));
    }
}

/// Whether serial `a` comes before `b`, on a circle of 2^32 (RFC 1982).
fn is_older(a: u32, b: u32) -> bool {
    a != b && b.wrapping_sub(a) < 1 << 31
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::from_ascii(text).unwrap()
    }

    fn zone(apex: &str, master: &str, serial: u32) -> Zone {
        Zone {
            apex: name(apex),
            master: name(master),
            serial,
        }
    }

    #[test]
    fn serials_are_compared_on_a_circle() {
        for (a, b) in [(1, 2), (0, 1), (u32::MAX, 0), (4_000_000_000, 5)] {
            assert!(is_older(a, b) && !is_older(b, a), "{a} {b}");
        }
        assert!(!is_older(7, 7));
    }

    #[tokio::test]
    async fn a_zone_is_compared_with_what_it_was() {
        let now = Instant::now();
        let a = name("a.shop.example.");
        let mut zones = Zones::default();
        let at = |serial| zone("shop.example.", "ns1.", serial);
        assert_eq!(zones.judge(&a, Some(&at(5))), Proof::Unproven, "nothing is known yet");
        zones.learn(&a, Some(&at(5)), now);
        assert_eq!(zones.judge(&a, Some(&at(5))), Proof::Proven);
        assert_eq!(zones.judge(&a, Some(&at(6))), Proof::Proven);
        assert_eq!(zones.judge(&a, None), Proof::Unproven);
        zones.learn(&a, Some(&at(9)), now);
        zones.learn(&a, Some(&at(7)), now);
        let why = "zone shop.example. was at serial 9 and is at 8".to_owned();
        assert_eq!(zones.judge(&a, Some(&at(8))), Proof::Refuted(why));
        assert_eq!(
            zones.judge(&a, Some(&zone("shop.example.", "ns2.", 1))),
            Proof::Unproven,
            "every master counts for itself"
        );
        let why = "a.shop.example. was in zone shop.example., and zone . denies it".to_owned();
        assert_eq!(zones.judge(&a, Some(&zone(".", "ns1.", 9))), Proof::Refuted(why));
    }

    #[tokio::test]
    async fn a_zone_is_asked_for_once_and_that_of_the_service_again_and_again() {
        let now = Instant::now();
        let (root, host) = (name("_a._tcp.example."), name("h.example."));
        let mut zones = Zones::default();
        assert!(zones.is_due(&root, true, now) && zones.is_due(&host, false, now));
        zones.learn(&root, None, now);
        zones.learn(&host, None, now);
        assert!(!zones.is_due(&root, true, now));
        let later = now + FRESH;
        assert!(zones.is_due(&root, true, later) && !zones.is_due(&host, false, later));
        zones.retain(|kept| *kept == root);
        assert!(zones.is_due(&host, false, later));
    }
}

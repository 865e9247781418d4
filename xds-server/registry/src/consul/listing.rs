//! Everything at once: the first step of a session.
//!
//! Everything is read from a leader that a majority confirmed, since one that was just elected may not know yet what the
//! one before has said. An error or an old answer ends the session before anything is said.

use std::collections::{BTreeMap, BTreeSet};

use leadsman_core::model::{Evidence, Provenance, Rejection, ServiceName};
use tokio::task::JoinSet;

use super::client::{Answer, Link, Meta, NoAnswer, Read};
use super::config::Config;
use super::decode;
use crate::held::{Holdings, Records};
use crate::session::Untold;
use crate::text::shorten;
use crate::{Error, EventSender};

/// Reads in flight: they count towards the connections that an agent lets one client have.
pub(super) const READS_AT_ONCE: usize = 8;
const OTHER_SERVERS: &str = "every server is another one than before";
/// Of a name that can't be used.
const MAX_SHOWN_BYTES: usize = 100;

/// What survives a session.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) holdings: Holdings,
    /// How far the catalog was seen; zero before the first listing.
    pub(super) index: u64,
    /// How far each service was seen by the leader. It outlives sessions, and falls behind no session's watch.
    services: BTreeMap<ServiceName, u64>,
    /// The node IDs of the servers.
    servers: BTreeSet<String>,
    pub(super) untold: Untold,
}

/// The names of a catalog.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Names {
    pub(super) usable: BTreeSet<ServiceName>,
    pub(super) unusable: Vec<Rejection>,
}

#[derive(Debug)]
pub(super) struct Listing {
    pub(super) names: Names,
    pub(super) catalog: Meta,
    pub(super) instances: BTreeMap<ServiceName, (Records, Meta)>,
    /// Services that can't be asked for, and why.
    pub(super) refused: BTreeMap<ServiceName, String>,
    servers: BTreeSet<String>,
}

/// Reads the catalog and every service.
pub(super) async fn list(
    config: &Config,
    link: &Link,
    events: &EventSender,
    held: &Holdings,
) -> Result<Listing, Error> {
    // Any server says at once that there is no leader; asked for the leader it thinks about it for ten seconds.
    check_leader(&link.clone().catalog(Read::Stale).await?.meta)?;
    let answer = led(link.clone().catalog(Read::Consistent).await?)?;
    events.syncing();
    let names = names(config, &answer.body)?;
    let servers = servers(link.clone().servers().await?)?;
    let mut waiting = names.usable.iter().cloned();
    let mut reads = JoinSet::new();
    let (mut instances, mut refused) = (BTreeMap::new(), BTreeMap::new());
    loop {
        while reads.len() < READS_AT_ONCE {
            let Some(name) = waiting.next() else { break };
            let link = link.clone();
            reads.spawn(async move {
                let answer = link.service(name.to_shared(), Read::Consistent).await;
                (name, answer)
            });
        }
        let Some(read) = reads.join_next().await else { break };
        let (name, answer) = read.map_err(|error| Error::Unavailable(format!("a read ended: {error}")))?;
        events.syncing();
        let answer = match answer {
            Err(NoAnswer::Refused(why)) if !held.holds(&name) => {
                refused.insert(name, why);
                continue;
            }
            Err(none) => return Err(none.into()),
            Ok(answer) => led(answer)?,
        };
        let records = decode::instances_of(config, &name, &answer.body).map_err(Error::Unavailable)?;
        instances.insert(name, (records, answer.meta));
    }
    Ok(Listing {
        names,
        catalog: answer.meta,
        instances,
        refused,
        servers,
    })
}

/// Who the cluster is.
pub(super) fn servers(answer: Answer) -> Result<BTreeSet<String>, Error> {
    decode::nodes(&led(answer)?.body).map_err(Error::Unavailable)
}

/// A name that no question can hold rejects itself.
pub(super) fn unusable(name: &str, why: &str) -> Rejection {
    Rejection {
        provenance: Provenance::new(&shorten(name, MAX_SHOWN_BYTES), "", b"", 0),
        reason: format!("the service has no usable name: {why}"),
    }
}

/// The names in an answer, without those that the configuration leaves out.
pub(super) fn names(config: &Config, body: &[u8]) -> Result<Names, Error> {
    let mut names = Names::default();
    for text in decode::catalog(body).map_err(Error::Unavailable)? {
        if config.exclude.contains(&text) {
            continue;
        }
        // In a URL these mean another place, and a service of that name can't be asked for.
        let name = match text.as_str() {
            "." | ".." => Err("a path segment, which no URL can hold".to_owned()),
            usual => ServiceName::new(usual).map_err(|error| error.to_string()),
        };
        match name {
            Ok(name) => drop(names.usable.insert(name)),
            Err(error) => names.unusable.push(unusable(&text, &error)),
        }
    }
    Ok(names)
}

fn check_leader(meta: &Meta) -> Result<(), Error> {
    if meta.known_leader {
        return Ok(());
    }
    Err(Error::Unavailable("the servers have no leader".to_owned()))
}

/// An answer of a leader that knows to be one.
pub(super) fn led(answer: Answer) -> Result<Answer, Error> {
    check_leader(&answer.meta)?;
    if answer.meta.stale {
        return Err(Error::Unavailable("somebody other than the leader answered".to_owned()));
    }
    Ok(answer)
}

impl Known {
    /// Whether a listing may be believed to be newer than everything seen before; remembers it.
    pub(super) fn judge(&mut self, listing: &Listing, partial: Option<&str>) -> Evidence {
        let (was, is) = (self.index, listing.catalog.index);
        let replaced = self.are_others(&listing.servers);
        let mut indexes = listing.instances.iter().map(|(name, (_, meta))| (name, meta.index));
        let set_back = indexes.find_map(|(name, index)| self.went_back(name, index));
        let evidence = if is < was {
            Evidence::NewEpoch {
                why: format!("the index went back from {was} to {is}"),
            }
        } else if replaced {
            Evidence::NewEpoch {
                why: OTHER_SERVERS.to_owned(),
            }
        } else if let Some(why) = set_back {
            Evidence::NewEpoch { why }
        } else {
            partial.map_or(Evidence::Complete, |why| Evidence::Partial { why: why.to_owned() })
        };
        let evidence = self.untold.note(evidence);
        self.index = is;
        if !listing.servers.is_empty() {
            self.servers.clone_from(&listing.servers);
        }
        if matches!(evidence, Evidence::NewEpoch { .. }) {
            // The catalog holds what is missing, and says so.
            self.holdings.clear();
        }
        let indexes = listing.instances.iter();
        self.services = indexes.map(|(name, (_, meta))| (name.clone(), meta.index)).collect();
        evidence
    }

    /// Remembers who the servers are now: over time each of them may be replaced by another one. Unless all are at once:
    /// then why the session can't go on.
    pub(super) fn meet(&mut self, servers: BTreeSet<String>) -> Result<(), Error> {
        if self.are_others(&servers) {
            return Err(Error::Resync(OTHER_SERVERS.to_owned()));
        }
        if !servers.is_empty() {
            self.servers = servers;
        }
        Ok(())
    }

    fn are_others(&self, servers: &BTreeSet<String>) -> bool {
        !self.servers.is_empty() && !servers.is_empty() && self.servers.is_disjoint(servers)
    }

    /// Whether a confirmed leader knows less of a service than one did before: Consul was set back to a snapshot. The list
    /// of services says so for a moment only, because Consul counts on from where it was.
    pub(super) fn went_back(&self, name: &ServiceName, index: u64) -> Option<String> {
        let was = self.services.get(name).filter(|was| index < **was)?;
        Some(format!("the index of {name} went back from {was} to {index}"))
    }

    /// Remembers how far the leader knew a service.
    pub(super) fn reach(&mut self, name: &ServiceName, index: u64) {
        let reached = self.services.entry(name.clone()).or_default();
        *reached = index.max(*reached);
    }

    /// The service is gone.
    pub(super) fn forget(&mut self, name: &ServiceName) {
        self.services.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn listing(index: u64, servers: &[&str]) -> Listing {
        Listing {
            names: Names::default(),
            catalog: Meta {
                index,
                stale: false,
                known_leader: true,
                last_contact: Duration::ZERO,
                hidden: None,
            },
            instances: BTreeMap::new(),
            refused: BTreeMap::new(),
            servers: servers.iter().map(|&id| id.to_owned()).collect(),
        }
    }

    #[test]
    fn an_older_index_or_other_servers_are_a_new_epoch() {
        let mut known = Known::default();
        let mut judge = |index, servers: &[&str], partial| {
            let evidence = known.judge(&listing(index, servers), partial);
            known.untold.told();
            evidence
        };
        let mut why = |index, servers: &[&str], partial| match judge(index, servers, partial) {
            Evidence::Complete => String::new(),
            Evidence::Partial { why } => format!("partial: {why}"),
            Evidence::NewEpoch { why } => why,
        };
        assert_eq!(why(10, &["a", "b"], None), "");
        assert_eq!(why(10, &["b", "c"], Some("hidden")), "partial: hidden");
        assert_eq!(why(9, &["b", "c"], None), "the index went back from 10 to 9");
        assert_eq!(why(9, &[], None), "");
        assert_eq!(
            why(50, &["d"], Some("hidden")),
            "every server is another one than before"
        );
        assert_eq!(why(50, &["d"], None), "");
    }

    #[test]
    fn servers_that_are_replaced_one_by_one_are_the_same_cluster() {
        let mut known = Known::default();
        known.judge(&listing(10, &["a", "b"]), None);
        let ids = |ids: &[&str]| ids.iter().map(|&id| id.to_owned()).collect::<BTreeSet<_>>();
        assert!(known.meet(ids(&["b", "c"])).is_ok());
        assert!(known.meet(ids(&[])).is_ok());
        assert!(known.meet(ids(&["c", "d"])).is_ok());
        assert!(matches!(known.meet(ids(&["a", "b"])), Err(Error::Resync(_))));
        assert_eq!(known.judge(&listing(10, &["d", "e"]), None), Evidence::Complete);
    }

    #[test]
    fn a_service_that_went_back_is_a_new_epoch_although_the_list_of_services_went_on() {
        let name = |text: &str| ServiceName::new(text).unwrap();
        let of = |catalog, services: &[(&str, u64)]| {
            let mut listing = listing(catalog, &["a"]);
            for &(text, index) in services {
                let meta = Meta {
                    index,
                    ..listing.catalog.clone()
                };
                listing.instances.insert(name(text), (Records::new(), meta));
            }
            listing
        };
        let mut known = Known::default();
        assert_eq!(known.judge(&of(20, &[("a", 10), ("b", 12)]), None), Evidence::Complete);
        known.reach(&name("a"), 30);
        known.reach(&name("a"), 29);
        assert_eq!(known.went_back(&name("a"), 30), None);
        assert_eq!(known.went_back(&name("c"), 1), None);
        let why = "the index of a went back from 30 to 11".to_owned();
        assert_eq!(
            known.judge(&of(90, &[("a", 11), ("b", 90)]), None),
            Evidence::NewEpoch { why }
        );
        let again = known.judge(&of(90, &[("a", 11), ("b", 90)]), None);
        assert!(
            matches!(again, Evidence::NewEpoch { .. }),
            "it was never told: {again:?}"
        );
        known.untold.told();
        assert_eq!(known.judge(&of(91, &[("a", 11), ("b", 91)]), None), Evidence::Complete);
        known.forget(&name("a"));
        assert_eq!(known.judge(&of(92, &[("a", 1)]), None), Evidence::Complete);
    }

    #[test]
    fn a_name_that_can_not_be_asked_for_rejects_itself() {
        let config = Config::new(vec![]);
        let long = "x".repeat(300);
        let body = format!(r#"{{"consul":[],"a":["t"],"..":[],"b c/d":null,"":[],"{long}":[]}}"#);
        let names = names(&config, body.as_bytes()).unwrap();
        let usable: Vec<_> = names.usable.iter().map(ServiceName::as_str).collect();
        assert_eq!(usable, ["a", "b c/d"]);
        assert_eq!(names.unusable.len(), 3);
        for body in ["", "null", "[]", "no", "{\"a\":"] {
            assert!(super::names(&config, body.as_bytes()).is_err(), "{body:?}");
        }
    }
}

//! ACK and NACK: what was accepted, what was refused, and how the culprit of a refusal is found.
//!
//! Envoy may have applied any part of a response it refuses, so nothing of it is known any more. What the client's words
//! blame is held back, and the others are sent again without it: when they are accepted, the blame is proven without a
//! second look at the refused bytes. Only where the words do not help, each resource is tried once more, alone.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::culprit::{self, Blame};
use super::row::Holds;
use super::{InFlight, Refused, Retry, Subscription};
use crate::snapshot::Version;

/// Envoy's refusals quote whole resources; this much says which one and why.
const MAX_NACK_BYTES: usize = 1024;

/// Responses for which there is always room, so that a client that answers each costs no allocation.
const IDLE_IN_FLIGHT: usize = 4;

/// The resources of a refused response that may be the reason.
#[derive(Debug, Default)]
struct Parties {
    /// Those that are still what the client is to hold.
    suspects: Vec<(Arc<str>, Version)>,
    /// Those that are not, and need no further thought.
    superseded: Vec<Arc<str>>,
    /// Those that are known to be refused, and were on their way a second time: they explain the refusal.
    known: Vec<Arc<str>>,
}

impl Subscription {
    /// An ACK or a NACK. One that answers nothing we are waiting for is ignored, and costs nothing.
    pub(super) fn answer(&mut self, nonce: &str, error: Option<&str>) {
        let Ok(nonce) = nonce.parse::<u64>() else { return };
        let Some(position) = self.in_flight.iter().position(|response| response.nonce == nonce) else {
            return;
        };
        // Answers come in order, so what was sent before and not answered never will be: it confirmed nothing.
        for skipped in self.in_flight.drain(..position).collect::<Vec<_>>() {
            self.release(skipped.accused);
        }
        let Some(response) = self.in_flight.pop_front() else {
            return;
        };
        if self.in_flight.is_empty() {
            self.in_flight.shrink_to(IDLE_IN_FLIGHT);
        }
        match error {
            None => self.ack(response),
            Some(error) => self.nack(response, error),
        }
    }

    fn ack(&mut self, response: InFlight) {
        for sent in response.sent {
            self.table.accept(sent, Some(response.number));
        }
    }

    fn nack(&mut self, response: InFlight, error: &str) {
        self.nacks += 1;
        let end = (0..=MAX_NACK_BYTES.min(error.len()))
            .rev()
            .find(|end| error.is_char_boundary(*end))
            .unwrap_or(0);
        self.last_nack = error.get(..end).map(ToOwned::to_owned);
        let parties = self.parties(&response);
        if let ([], [], [alone]) = (&*parties.suspects, &*parties.superseded, &*parties.known)
            && let Some(refused) = self.table.refused.get_mut(alone)
        {
            refused.accused = false;
        }
        if self.came_holding {
            return self.endure(response, &parties, error);
        }
        let possible = parties.suspects.iter().map(|(name, _)| name).chain(&parties.superseded);
        let names: BTreeSet<&str> = possible.map(AsRef::as_ref).collect();
        let blame = if names.len() == 1 && parties.known.is_empty() {
            Blame::Stated(names)
        } else {
            culprit::read(error, &names)
        };
        // A hint that has misled once is not followed again, nor one that nothing can confirm.
        let all_told = parties.superseded.is_empty() && parties.known.is_empty() && response.accused.is_empty();
        let confirmable = all_told && parties.suspects.len() > 1;
        let blame = if matches!(blame, Blame::Hinted(_)) && !confirmable {
            Blame::Nobody
        } else {
            blame
        };
        let (blamed, sure): (BTreeSet<&str>, bool) = match blame {
            Blame::Stated(names) => (names, true),
            Blame::Hinted(names) => (names, false),
            Blame::Nobody => (BTreeSet::new(), false),
        };
        // Their absence did not mend it.
        self.release(response.accused);
        let removes = response.removes;
        let found = !parties.known.is_empty() || !blamed.is_empty();
        let (culprits, others): (Vec<_>, Vec<_>) = parties
            .suspects
            .iter()
            .cloned()
            .partition(|(name, _)| blamed.contains(name.as_ref()));
        self.quarantine(&culprits, sure);
        let accused = if sure { Vec::new() } else { culprits };
        self.settle(others, found.then_some(accused), removes);
    }

    /// A refusal by a client that may hold an older version of anything: leaving a name out of a list would take that
    /// away, so nothing is tried, and what was never accepted here stays listed although it is refused. Such clients use
    /// what is valid of a refused list.
    fn endure(&mut self, response: InFlight, parties: &Parties, error: &str) {
        let names: BTreeSet<&str> = parties.suspects.iter().map(|(name, _)| name.as_ref()).collect();
        let blamed = match culprit::read(error, &names) {
            _ if names.len() == 1 && parties.known.is_empty() => names.clone(),
            Blame::Stated(names) => names,
            Blame::Hinted(names) if parties.known.is_empty() => names,
            Blame::Hinted(_) | Blame::Nobody => BTreeSet::new(),
        };
        let is_blamed = |(name, _): &&(Arc<str>, Version)| blamed.contains(name.as_ref());
        let culprits: Vec<_> = parties.suspects.iter().filter(is_blamed).cloned().collect();
        self.quarantine(&culprits, true);
        if culprits.is_empty() && parties.known.is_empty() {
            return;
        }
        for sent in response
            .sent
            .into_iter()
            .filter(|sent| names.contains(sent.name.as_ref()))
        {
            let rejected = self.table.rejected(&sent.name);
            let Some(row) = self.table.held_mut(&sent.name) else {
                continue;
            };
            if rejected != Some(sent.version) {
                row.set(Holds::This(sent.version));
                self.table.accept(sent, None);
            }
        }
    }

    /// Who of a refused response may be at fault. What was sent later is on its way and settles it, whatever became of
    /// this; where everything is listed each time, what was accepted before is innocent; and a removal can't be refused.
    fn parties(&mut self, response: &InFlight) -> Parties {
        let whole = self.is_whole();
        let mut parties = Parties::default();
        for sent in &response.sent {
            let version = sent.version;
            let (rejected, accepted) = (self.table.rejected(&sent.name), self.table.accepted(&sent.name));
            let Some(row) = self.table.held_mut(&sent.name) else {
                parties.superseded.push(sent.name.clone());
                continue;
            };
            if rejected == Some(version) {
                parties.known.push(sent.name.clone());
                continue;
            }
            if whole && accepted == Some(version) {
                continue;
            }
            if [Holds::This(version), Holds::Unknown].contains(&row.holds()) {
                row.set(Holds::Unknown);
                parties.suspects.push((sent.name.clone(), version));
            } else {
                parties.superseded.push(sent.name.clone());
            }
        }
        parties
    }

    /// Who was blamed by a hint that nothing confirmed is tried alone.
    pub(super) fn release(&mut self, accused: Vec<(Arc<str>, Version)>) {
        for (name, version) in accused {
            if self.table.refused.get(&name) == Some(&Refused { version, accused: true }) {
                self.table.refused.remove(&name);
                self.retry(vec![(name, version)], Vec::new());
            }
        }
    }

    fn quarantine(&mut self, culprits: &[(Arc<str>, Version)], sure: bool) {
        for (name, version) in culprits {
            if self.table.held_mut(name).is_some() {
                let refused = Refused {
                    version: *version,
                    accused: !sure,
                };
                self.table.refused.insert(name.clone(), refused);
                self.quarantines += 1;
            }
            self.unlist(name);
        }
    }

    fn unlist(&mut self, name: &str) {
        if let Some(listed) = self.table.listed.get_mut(name)
            && (listed.good.is_some() || !self.came_holding)
        {
            listed.now = listed.good.clone();
        }
    }

    /// The others of a refused response are sent again: together, when somebody was blamed, and each alone otherwise.
    fn settle(&mut self, others: Vec<(Arc<str>, Version)>, blamed: Option<Vec<(Arc<str>, Version)>>, removes: bool) {
        let Some(accused) = blamed else {
            for other in others {
                self.unlist(&other.0);
                self.retry(vec![other], Vec::new());
            }
            return;
        };
        if !others.is_empty() {
            self.retry(others, accused);
        } else if self.is_whole() && removes {
            self.owes_answer = true;
        }
    }

    fn retry(&mut self, names: Vec<(Arc<str>, Version)>, accused: Vec<(Arc<str>, Version)>) {
        self.retries.push_back(Retry { names, accused });
    }
}

//! A subscription as the admin API shows it.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::{Held, Holds, Subscription};
use crate::snapshot::Version;

/// Where a resource stands with a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum ResourceState {
    NotSubscribed,
    /// Subscribed to, and not sent yet.
    NotSent,
    Sent {
        version: Version,
    },
    Acked {
        version: Version,
    },
    Rejected {
        version: Version,
    },
}

/// Where a type stands with a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TypeReport {
    pub type_url: &'static str,
    /// Whether the client has asked for the type at all.
    pub requested: bool,
    pub wildcard: bool,
    pub subscribed: usize,
    /// Resources the client holds or has been sent.
    pub sent: usize,
    pub acked: usize,
    pub rejected: Vec<(Arc<str>, Version)>,
    /// The last refusal, in the client's words, cut to a bound.
    pub last_nack: Option<String>,
    pub nacks: u64,
    /// How many times a resource was found to be the reason of one.
    pub quarantines: u64,
    /// How long the oldest response has been waiting for its answer.
    pub oldest_unacked: Option<Duration>,
}

impl Subscription {
    pub(in crate::xds) fn state(&self, name: &str) -> ResourceState {
        if !self.is_wanted(name) {
            return ResourceState::NotSubscribed;
        }
        match self.held.get(name) {
            Some(Held {
                holds: Holds::This(version),
                acked: true,
                ..
            }) => ResourceState::Acked { version: *version },
            Some(Held {
                holds: Holds::This(version),
                ..
            }) => ResourceState::Sent { version: *version },
            Some(held) => held
                .rejected()
                .map_or(ResourceState::NotSent, |version| ResourceState::Rejected { version }),
            None => ResourceState::NotSent,
        }
    }

    pub(in crate::xds) fn quarantines(&self) -> u64 {
        self.quarantines
    }

    pub(in crate::xds) fn report(&self, now: Duration) -> TypeReport {
        let sent = self.held.values().filter(|held| matches!(held.holds, Holds::This(_)));
        let acked = sent.clone().filter(|held| held.acked);
        let rejected = self
            .held
            .iter()
            .filter_map(|(name, held)| Some((name.clone(), held.rejected()?)));
        TypeReport {
            type_url: self.kind.type_url(),
            requested: self.started,
            wildcard: self.wildcard,
            subscribed: self.names.len(),
            sent: sent.count(),
            acked: acked.count(),
            rejected: rejected.collect(),
            last_nack: self.last_nack.clone(),
            nacks: self.nacks,
            quarantines: self.quarantines,
            oldest_unacked: self
                .in_flight
                .front()
                .map(|response| now.saturating_sub(response.since)),
        }
    }
}

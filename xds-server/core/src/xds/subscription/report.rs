//! A subscription as the admin API shows it.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::Subscription;
use super::row::{Holds, Row};
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
        let Some(row) = self.table.get(name) else {
            return ResourceState::NotSent;
        };
        match (row.holds(), row.acked) {
            (Holds::This(version), true) => ResourceState::Acked { version },
            (Holds::This(version), false) => ResourceState::Sent { version },
            (Holds::Nothing | Holds::Unknown, _) => self
                .table
                .rejected(name)
                .map_or(ResourceState::NotSent, |version| ResourceState::Rejected { version }),
        }
    }

    pub(in crate::xds) fn quarantines(&self) -> u64 {
        self.quarantines
    }

    pub(in crate::xds) fn report(&self, now: Duration) -> TypeReport {
        let holds = |row: &&Row| matches!(row.holds(), Holds::This(_));
        let sent = self.table.rows().filter(holds);
        let acked = sent.clone().filter(|row| row.acked);
        let refused = self.table.refused.iter();
        let rejected = refused.map(|(name, refused)| (name.clone(), refused.version));
        TypeReport {
            type_url: self.kind.type_url(),
            requested: self.started,
            wildcard: self.wildcard,
            subscribed: self.len(),
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

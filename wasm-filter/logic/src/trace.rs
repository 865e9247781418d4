//! W3C trace context: what to do with a request's `traceparent` and `tracestate`.
//!
//! Envoy forwards what it gets, valid or not, and the next service then parses it in its own way. The filter decides
//! once, at the edge it sits on. Rules: <https://www.w3.org/TR/trace-context-2/>.
//!
//! Invariant: after [`Decision`] is applied, the request carries no `traceparent` or exactly one valid one, and a
//! `tracestate` only beside a `traceparent`. An unchanged `traceparent` keeps its `tracestate` byte for byte, unless
//! that is unreadable.

pub mod traceparent;
pub mod tracestate;

use crate::config::{TraceConfig, TraceMode};
use traceparent::Traceparent;

/// What to do with the two headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Nothing: there is no context, or it is valid.
    Leave(Seen),
    /// The `traceparent` is valid, the `tracestate` is not: remove the latter.
    RemoveTracestate,
    /// A `tracestate` alone means nothing: remove it.
    RemoveOrphan,
    /// No context, and one is wanted: set a new `traceparent`, remove any `tracestate`.
    Start,
    /// The context is invalid: set a new `traceparent`, remove the `tracestate`.
    Restart,
    /// The context is valid and this proxy takes part in it: set a `traceparent` of the same trace.
    Continue { parent: Traceparent, drop_tracestate: bool },
}

/// What a request that is left alone carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    Valid,
    Nothing,
}

/// What [`Decision`] is counted as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Kept,
    Missing,
    TracestateRemoved,
    OrphanRemoved,
    Started,
    Restarted,
    Continued,
}

impl Action {
    pub const ALL: [Self; 7] = [
        Self::Kept,
        Self::Missing,
        Self::TracestateRemoved,
        Self::OrphanRemoved,
        Self::Started,
        Self::Restarted,
        Self::Continued,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::Missing => "missing",
            Self::TracestateRemoved => "tracestate_removed",
            Self::OrphanRemoved => "orphan_removed",
            Self::Started => "started",
            Self::Restarted => "restarted",
            Self::Continued => "continued",
        }
    }
}

impl Decision {
    pub fn action(&self) -> Action {
        match self {
            Self::Leave(Seen::Valid) => Action::Kept,
            Self::Leave(Seen::Nothing) => Action::Missing,
            Self::RemoveTracestate => Action::TracestateRemoved,
            Self::RemoveOrphan => Action::OrphanRemoved,
            Self::Start => Action::Started,
            Self::Restart => Action::Restarted,
            Self::Continue { .. } => Action::Continued,
        }
    }

    /// The value to set, from 24 random bytes of the caller: 16 for a trace id and 8 for a parent id.
    pub fn traceparent(&self, random: &[u8; 24], sampled: bool) -> Option<String> {
        match self {
            Self::Start | Self::Restart => Some(Traceparent::fresh(random, sampled).to_string()),
            Self::Continue { parent, .. } => Some(parent.with_parent(random).to_string()),
            Self::Leave(_) | Self::RemoveTracestate | Self::RemoveOrphan => None,
        }
    }

    /// Whether a `traceparent` is to be set, so random bytes are needed.
    pub fn sets_traceparent(&self) -> bool {
        match self {
            Self::Start | Self::Restart | Self::Continue { .. } => true,
            Self::Leave(_) | Self::RemoveTracestate | Self::RemoveOrphan => false,
        }
    }

    pub fn removes_tracestate(&self) -> bool {
        match self {
            Self::RemoveTracestate | Self::RemoveOrphan | Self::Start | Self::Restart => true,
            Self::Continue { drop_tracestate, .. } => *drop_tracestate,
            Self::Leave(_) => false,
        }
    }
}

/// Decides from every value of the two headers, duplicates included and in order.
pub fn decide(traceparents: &[&[u8]], tracestates: &[&[u8]], config: &TraceConfig) -> Decision {
    let participate = match config.mode {
        TraceMode::Off => return Decision::Leave(Seen::Nothing),
        TraceMode::Repair => false,
        TraceMode::Participate => true,
    };
    let parent = match traceparents {
        [] if config.generate => return Decision::Start,
        [] if tracestates.is_empty() => return Decision::Leave(Seen::Nothing),
        [] => return Decision::RemoveOrphan,
        [one] => Traceparent::parse(one),
        // Two contexts contradict each other even when they are equal: no sender may write two.
        [_, _, ..] => None,
    };
    let Some(parent) = parent else {
        return Decision::Restart;
    };
    let drop_tracestate = !tracestates.is_empty() && !tracestate::is_valid(tracestates);
    match (participate, drop_tracestate) {
        (true, drop_tracestate) => Decision::Continue {
            parent,
            drop_tracestate,
        },
        (false, true) => Decision::RemoveTracestate,
        (false, false) => Decision::Leave(Seen::Valid),
    }
}

#[cfg(test)]
mod tests;

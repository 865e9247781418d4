//! What one client has of what it wants, resource by resource: the server's view of a stream.
//!
//! It compares what the stream was told and answered with what is published now, so it is made where both are known, in
//! the stream's own task, and only when somebody asks.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use leadsman_core::snapshot::{Resource, ResourceType, Snapshot, Version};
use leadsman_core::xds::{DiscoveryStream, Interest, ResourceState, TypeReport};

use crate::proxies::Refusal;

/// Where a resource stands, from the best to the worst. The words are those of Envoy's `ConfigStatus`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Status {
    /// The client accepted what is published.
    Synced,
    /// What is published is still to be sent.
    NotSent,
    /// Sent, and neither accepted nor refused yet.
    Stale,
    /// The client refused what is published.
    Error,
}

/// One resource that a client wants.
#[derive(Clone, Debug)]
pub(crate) struct Holding {
    pub(crate) name: Arc<str>,
    pub(crate) state: ResourceState,
    /// What the client should have; `None` when there is no such resource.
    pub(crate) published: Option<Arc<Resource>>,
}

/// One type of one stream.
#[derive(Clone, Debug)]
pub(crate) struct Holdings {
    pub(crate) kind: ResourceType,
    pub(crate) report: TypeReport,
    /// The last refusal of any resource of the type.
    pub(crate) refusal: Option<Refusal>,
    /// In the order of their names.
    pub(crate) resources: Vec<Holding>,
}

/// How many resources stand where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) synced: usize,
    pub(crate) not_sent: usize,
    pub(crate) stale: usize,
    pub(crate) errors: usize,
}

/// Where a stream stands, type by type, without the refusals, which it does not keep.
pub(crate) fn of(protocol: &DiscoveryStream, snapshot: &Snapshot, now: Duration) -> Vec<Holdings> {
    // What would take back every interest names all of them.
    let interests = protocol.farewell();
    let holdings = protocol.report(now).into_iter().filter_map(|report| {
        let kind = ResourceType::from_type_url(report.type_url)?;
        let resources = wanted(kind, &interests, &report, snapshot)
            .into_iter()
            .map(|name| Holding {
                state: protocol.state(kind, &name),
                published: snapshot.get(kind, &name),
                name,
            })
            .collect();
        Some(Holdings {
            kind,
            report,
            refusal: None,
            resources,
        })
    });
    holdings.collect()
}

fn wanted(kind: ResourceType, interests: &[Interest], report: &TypeReport, snapshot: &Snapshot) -> BTreeSet<Arc<str>> {
    let named = interests.iter().filter_map(|interest| match interest {
        Interest::Unsubscribe(of, name) if *of == kind => Some(name.clone()),
        Interest::Unsubscribe(..) | Interest::Subscribe(..) | Interest::Everything(_) | Interest::NotEverything(_) => {
            None
        }
    });
    let all = snapshot.all(kind).map(|resource| resource.name.clone());
    named.chain(all.filter(|_| report.wildcard)).collect()
}

impl Holding {
    /// `None` when there is nothing to have: the resource does not exist.
    pub(crate) fn status(&self) -> Option<Status> {
        let published = self.published.as_ref()?.version;
        Some(match self.state {
            ResourceState::NotSubscribed => return None,
            ResourceState::Sent { .. } => Status::Stale,
            ResourceState::Acked { version } if version == published => Status::Synced,
            ResourceState::Rejected { version } if version == published => Status::Error,
            // Another one is published since.
            ResourceState::Acked { .. } | ResourceState::Rejected { .. } | ResourceState::NotSent => Status::NotSent,
        })
    }

    /// The version the client was sent last, as far as that is known.
    pub(crate) fn told(&self) -> Option<Version> {
        match self.state {
            ResourceState::NotSubscribed | ResourceState::NotSent => None,
            ResourceState::Sent { version }
            | ResourceState::Acked { version }
            | ResourceState::Rejected { version } => Some(version),
        }
    }
}

impl Tally {
    /// The worst there is; nothing to have is all there.
    pub(crate) fn worst(&self) -> Status {
        let Self {
            synced: _,
            not_sent,
            stale,
            errors,
        } = *self;
        match (errors, stale, not_sent) {
            (0, 0, 0) => Status::Synced,
            (0, 0, _) => Status::NotSent,
            (0, _, _) => Status::Stale,
            (_, _, _) => Status::Error,
        }
    }
}

impl Holdings {
    pub(crate) fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        for status in self.resources.iter().filter_map(Holding::status) {
            *match status {
                Status::Synced => &mut tally.synced,
                Status::NotSent => &mut tally.not_sent,
                Status::Stale => &mut tally.stale,
                Status::Error => &mut tally.errors,
            } += 1;
        }
        tally
    }
}

#[cfg(test)]
mod tests;

//! What frameworks write about an instance, as far as it is the same in more than one registry.
//!
//! Pure: a path, a value and a revision in, endpoints or reasons out. Which framework wrote a record, and what is
//! written in one registry only, is the business of that registry's own module. The data is hostile: nothing in it can
//! panic, and a bad record is the rejection of itself.

pub(crate) mod choice;
pub(crate) mod dubbo_interface;
pub(crate) mod entry;
pub(crate) mod go_micro;
pub(crate) mod goframe;
pub(crate) mod kratos;
pub(crate) mod leadsman;
pub(crate) mod rpcx;
pub(crate) mod tags;

use leadsman_core::model::{Endpoint, Provenance, Rejection, ServiceName};

/// What one record is.
#[derive(Clone, Debug)]
pub(crate) enum Decoded {
    /// A marker, a router rule, a sibling of the prefix: nothing that anyone could connect to.
    NotAnInstance,
    /// Meant as an instance perhaps, but of no service that could be named.
    Unattributed(Rejection),
    /// The addresses one record registers for one service.
    Instances {
        service: ServiceName,
        outcomes: Vec<Result<Endpoint, Rejection>>,
    },
}

/// What a layout makes of an entry, before names are checked and reasons get their provenance.
#[derive(Debug)]
pub(crate) enum Reading {
    Marker,
    Stray(String),
    /// The service and its addresses; the outer error rejects the record as a whole.
    Instances(String, Result<Vec<Result<Endpoint, String>>, String>),
}

/// Checks the name, and says where each reason comes from.
pub(crate) fn finish(reading: Reading, provenance: Provenance) -> Decoded {
    let (service, outcomes) = match reading {
        Reading::Marker => return Decoded::NotAnInstance,
        Reading::Stray(reason) => return unattributed(provenance, reason),
        Reading::Instances(service, outcomes) => (service, outcomes),
    };
    let service = match ServiceName::new(&service) {
        Ok(service) => service,
        Err(error) => return unattributed(provenance, format!("the service has no usable name: {error}")),
    };
    let reject = |reason| Rejection {
        provenance: provenance.clone(),
        reason,
    };
    let outcomes = match outcomes {
        Ok(outcomes) => outcomes.into_iter().map(|outcome| outcome.map_err(reject)).collect(),
        Err(reason) => vec![Err(reject(reason))],
    };
    Decoded::Instances { service, outcomes }
}

pub(crate) fn unattributed(provenance: Provenance, reason: String) -> Decoded {
    Decoded::Unattributed(Rejection { provenance, reason })
}

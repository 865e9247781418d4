//! What the registries say, in Envoy's words. Nothing here knows where a record came from or what becomes of it.

mod catalog;
mod endpoint;
mod name;

pub use catalog::{Catalog, ChangeSet, Evidence, Kept, Listed, Listing, Place, Presence};
pub use endpoint::{
    Address, AddressError, Endpoint, Health, HealthError, Locality, Provenance, Rejection, Service, Weight, WeightError,
};
pub use name::{MAX_NAME_BYTES, NameError, ServiceName, SourceName};

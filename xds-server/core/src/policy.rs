//! From what the registries say to what Envoy should do, with a reason for every decision.

mod settings;

pub use settings::{Merge, Protocol, ServiceSettings};

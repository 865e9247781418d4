//! From what the registries say to what Envoy should do, with a reason for every decision.
//!
//! [`resolve`] is one pure function from the catalog and the settings to a [`Resolution`]. The snapshot publishes it and
//! `explain` prints it, so what a person reads is what Envoy got.

mod istio;
mod pace;
mod resolve;
mod settings;
mod share;
mod weight;

pub use istio::{HostError, HostTemplate, Istio, Namespace};
pub(crate) use istio::{MAX_LABEL_BYTES, is_label};
pub use pace::{Pace, Urgency};
pub use resolve::{Decision, Resolution, SourceView, resolve};
pub use settings::{Merge, Percentages, PercentagesError, Protocol, ServiceSettings};
pub use weight::{MAX_WEIGHT, WeightScale};

//! What a service registry must do to become a source, what runs it, and one module per registry.
//!
//! An adapter turns one vendor's protocol into [`Event`]s of the model. It does not retry, sleep between tries, diff,
//! guard, or know Envoy: [`supervise`] does the first three once for all of them, and the model and policy the rest.
//! Vendor types never leave their module.

mod certificates;
pub mod consul;
mod contract;
pub mod dns;
pub mod etcd;
pub mod eureka;
pub mod file;
mod held;
mod http;
pub mod kubernetes;
mod layout;
pub mod nacos;
pub mod own;
mod reconcile;
mod session;
mod settings;
mod text;
pub mod zookeeper;

pub use certificates::{Certificates, ServerTls};
pub use contract::{
    Breaker, Counters, Error, Event, EventSender, MAX_ERROR_BYTES, Overdue, Registry, SourceEvent, SourceState,
    SourceStatus, StatusReader,
};
pub use session::{SuperviseOptions, supervise};
pub use settings::{Settings, Tls};

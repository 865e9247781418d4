//! The steps of the demo, in their order. Each does one thing and then shows, from outside, what it led to.

mod explain;
mod filter;
mod latency;
mod members;
mod outage;
mod start;

pub use explain::explain;
pub use filter::{clean, filter};
pub use latency::latency;
pub use members::{crash, drain, register, reweigh};
pub use outage::{lose_etcd, regain_etcd};
pub use start::{Backends, start};

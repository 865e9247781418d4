//! The steps of the demo, in their order. Each does one thing and then shows, from outside, what it led to.

mod explain;
mod filter;
mod latency;
mod members;
mod outage;
mod start;

pub(crate) use explain::explain;
pub(crate) use filter::{clean, filter};
pub(crate) use latency::latency;
pub(crate) use members::{crash, drain, register, reweigh};
pub(crate) use outage::{lose_etcd, regain_etcd};
pub(crate) use start::{Backends, start};

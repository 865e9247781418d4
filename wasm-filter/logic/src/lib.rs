//! Everything `leadsman_filter.wasm` decides, without a host.
//!
//! The shell (`wasm-filter`) fetches bytes from Envoy, asks this crate, and carries the answer out. Nothing here calls a
//! host, so every rule is tested natively, and another host (a dynamic module, say) can reuse it unchanged.
//!
//! Invariant: no input makes this crate panic. A panic in a filter stops its VM, and with it the accounting of a worker.

#![cfg_attr(
    not(test),
    deny(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)
)]

pub mod attempt;
pub mod config;
pub mod lookup;
pub mod metadata;
pub mod metrics;
pub mod trace;

//! The pure middle of Leadsman.
//!
//! ```text
//! registry events ─► model::Catalog ─► policy ─► snapshot::Store ─► xds::DeltaStream ─► bytes
//! ```
//!
//! Nothing here waits, reads a clock, draws a random number, opens a file or knows a runtime: time and limits come in
//! as arguments, and everything that happened goes out as a return value. That is why every rule of the protocol and
//! of the policy is a synchronous test.

pub mod model;
pub mod policy;
pub mod snapshot;
pub mod xds;

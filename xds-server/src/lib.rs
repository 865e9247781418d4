//! Leadsman: service registries in, xDS out.
//!
//! ```text
//! registry sessions ─► controller ─► publication ─► transport (one task a connection) ─► Envoy
//!                          ▲              │
//!                        admin ◄──────────┴── proxies
//! ```
//!
//! This crate only wires: what is decided is decided in `leadsman-core`, and what a registry says is understood in
//! `leadsman-registry`. In reading order:

pub mod config;

pub mod api;
pub mod app;
mod bell;
pub mod cli;

mod controller;
mod publication;

mod content;
mod holdings;
mod proxies;
mod transport;

mod admin;
mod metrics;
mod telemetry;

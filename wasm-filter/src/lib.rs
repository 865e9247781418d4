//! `leadsman_filter.wasm`: the thin half of the filter.
//!
//! Envoy calls `root` (configuration, timer, access logger) and `http` (HTTP filter); both fetch bytes through `host`, ask
//! `leadsman-filter-logic` what they mean, and count through `vm`, the state all plugins of one VM share. No decision is
//! made here.
//!
//! Invariant: nothing in here panics, because a panic ends the VM and with it the accounting of a whole worker.

#![deny(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod account;
mod host;
mod http;
mod root;
mod vm;

proxy_wasm::main! {{
    proxy_wasm::set_root_context(root::create);
}}

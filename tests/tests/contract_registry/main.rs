//! The built-in registry against the registry contract, with both of its stores, and against everything that clients,
//! disks and clocks can do to it.

#![expect(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod access;
mod api;
mod command;
mod compare;
mod disk;
mod documentation;
mod leases;
mod world;

use leadsman_tests::contract;
use leadsman_tests::etcd::Version;
use leadsman_tests::rigs::registry::{Embedded, Shared};

contract! {
    embedded => Embedded::start();
    etcd => Shared::start(Version::V36);
}

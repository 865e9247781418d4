//! The Nacos adapter against the registry contract, and against everything a network or a Nacos can do to it: gRPC and
//! HTTP, with real servers of two versions, behind proxies that break on request.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod access;
mod fake;
mod instances;
mod network;
mod oddities;
mod server;

use leadsman_registry::nacos::Protocol;
use leadsman_tests::contract;
use leadsman_tests::nacos::Version;
use leadsman_tests::rigs::nacos::Rig;

contract! {
    grpc_of_3_1 => Rig::start(Version::V31, Protocol::Grpc);
    grpc_of_2_5_locked => Rig::start(Version::V25, Protocol::Grpc);
    http_of_2_5_locked => Rig::start(Version::V25, Protocol::Http);
}

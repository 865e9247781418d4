//! The Kubernetes adapter against the registry contract, and against everything a network or an API server can do to it,
//! with a real kube-apiserver on a real etcd behind a proxy that breaks on request.

#![expect(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod access;
mod fake;
mod history;
mod network;
mod server;
mod slices;

use leadsman_tests::contract;
use leadsman_tests::rigs::kubernetes::Rig;

contract! {
    kubernetes => Rig::start();
}

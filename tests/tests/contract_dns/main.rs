//! The DNS adapter against the registry contract, and against everything a network or a DNS server can do to it, with real
//! servers behind proxies that break on request.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod answers;
mod fallback;
mod network;
mod server;
mod zoneless;

use leadsman_registry::dns::Transport;
use leadsman_tests::contract;
use leadsman_tests::rigs::dns::Rig;

contract! {
    by_udp => Rig::start(Transport::Auto);
    by_tcp => Rig::start(Transport::Tcp);
    behind_a_forwarder => Rig::start_behind_a_forwarder();
}

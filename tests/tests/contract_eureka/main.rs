//! The Eureka adapter against the registry contract, and against everything a network or a Eureka can do to it, with the
//! real server in the three dialects of its JSON, behind a proxy that breaks on request.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod history;
mod odd;
mod peers;
mod server;

use leadsman_tests::contract;
use leadsman_tests::eureka::Dialect;

use leadsman_tests::rigs::eureka::Rig;

// The third dialect, between the two, is that of `history`.
contract! {
    legacy_dialect => Rig::shared(Dialect::Legacy);
    xstream_dialect => Rig::shared(Dialect::XStream);
}

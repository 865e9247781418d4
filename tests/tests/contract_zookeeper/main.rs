//! The ZooKeeper adapter against the registry contract, and against everything a network or an ensemble can do to it,
//! with a real ZooKeeper behind a proxy that breaks on request.

mod network;
mod nodes;
mod server;

use leadsman_tests::contract;

use leadsman_tests::rigs::zookeeper::Rig;

contract! {
    zookeeper => Rig::shared();
}

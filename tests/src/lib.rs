//! What the black-box suites stand on: real servers as child processes, faults between them, and ways to wait.
//!
//! A server that is missing fails the test and says which command installs it; nothing is skipped. Everything started
//! here ends with the value that started it, and with the test process whatever way that ends.

#![expect(
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking, and then shows what its servers wrote"
)]

pub mod ads;
pub mod authority;
pub mod backend;
pub mod claim;
pub mod consul;
pub mod contract;
pub mod datagrams;
pub mod demo;
pub mod dns;
pub mod envoy;
pub mod etcd;
pub mod eureka;
pub mod fleet;
pub mod grpc;
pub mod http;
pub mod instance;
pub mod istiod;
pub mod judged;
pub mod kubernetes;
pub mod latency;
pub mod leadsman;
pub mod nacos;
pub mod observed;
pub mod process;
pub mod proxy;
pub mod registrar;
pub mod rigs;
pub mod seed;
pub mod spoiler;
pub mod wait;
pub mod world;
pub mod zookeeper;

//! What the black-box suites stand on: real servers as child processes, faults between them, and ways to wait.
//!
//! A server that is missing fails the test and says which command installs it; nothing is skipped. Everything started
//! here ends with the value that started it, and with the test process whatever way that ends.

#![expect(
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking, and then shows what its servers wrote"
)]

pub mod backend;
pub mod contract;
pub mod demo;
pub mod envoy;
pub mod etcd;
pub mod http;
pub mod instance;
pub mod leadsman;
pub mod observed;
pub mod process;
pub mod proxy;
pub mod seed;
pub mod wait;
pub mod world;

//! A real registry each, behind a proxy that breaks on request, as a subject of the suites.

pub mod consul;
pub mod dns;
pub mod etcd;
pub mod eureka;
pub mod kubernetes;
pub mod nacos;
pub mod registry;
pub mod zookeeper;

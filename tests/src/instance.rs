//! An instance of a service on 127.0.0.1, and how the registries of the tests write it down.

use std::fmt::Write;
use std::net::SocketAddr;

use leadsman_core::model::Health;
use serde_json::{Value, json};

use crate::backend::Backend;

/// Where every etcd source of the tests reads.
pub const PREFIX: &str = "/services/";

/// What the registries are told.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Instance {
    pub port: u16,
    pub weight: f64,
    pub health: Health,
}

impl Instance {
    /// A healthy instance of weight 10.
    pub fn new(port: u16) -> Self {
        Self {
            port,
            weight: 10.0,
            health: Health::Healthy,
        }
    }

    /// The same, where a backend answers.
    pub fn of(backend: &Backend) -> Self {
        Self::new(backend.address().port())
    }

    pub fn weighing(self, weight: f64) -> Self {
        Self { weight, ..self }
    }

    pub fn being(self, health: Health) -> Self {
        Self { health, ..self }
    }

    pub fn address(self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// The record in etcd, in our own layout.
    pub fn record(self) -> Value {
        let Self { port, weight, health } = self;
        json!({ "address": "127.0.0.1", "port": port, "weight": weight, "health": health })
    }
}

/// The key in etcd of what listens on a port.
pub fn key(service: &str, port: u16) -> String {
    format!("{PREFIX}{service}/{port}")
}

/// The file of a service.
pub fn document(service: &str, instances: impl IntoIterator<Item = Instance>) -> String {
    let mut text = format!("service: {service}\nendpoints:\n");
    for Instance { port, weight, health } in instances {
        // Writing to a string can't fail.
        let _ = writeln!(
            text,
            "  - {{ address: 127.0.0.1, port: {port}, weight: {weight}, health: {health} }}"
        );
    }
    text
}

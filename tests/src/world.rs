//! Everything at once: etcd and files, the real control plane on them, and a real Envoy that carries traffic.

use std::fs;
use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};

use tempfile::TempDir;

use crate::etcd::{Etcd, Version};
use crate::fleet::Fleet;
use crate::instance::{Instance, PREFIX, document, key};
use crate::leadsman::replace;
use crate::proxy::Proxy;

/// One of each.
#[derive(Debug)]
pub struct World {
    pub etcd: Etcd,
    /// Between the control plane and etcd.
    pub registry_path: Proxy,
    fleet: Fleet,
}

impl World {
    /// Starts everything, with a listener that leads to `services` by the name of the host.
    pub async fn start(services: &[&str]) -> Self {
        Self::start_with(services, "").await
    }

    /// As [`World::start`], with more configuration for the control plane.
    ///
    /// # Panics
    /// When something does not start.
    pub async fn start_with(services: &[&str], rest: &str) -> Self {
        let etcd = Etcd::start(Version::V36).await;
        let directory = TempDir::new().unwrap_or_else(|error| panic!("no directory: {error}"));
        let files = fs::create_dir(directory.path().join("services"));
        assert!(files.is_ok(), "no directory for the services: {files:?}");
        let registry_path = Proxy::start(etcd.address()).await;
        let fleet = Fleet::start_in(directory, services, &sources(registry_path.address(), rest)).await;
        Self {
            etcd,
            registry_path,
            fleet,
        }
    }

    /// Gives the control plane a new configuration; the sources stay.
    pub fn configure(&self, rest: &str) {
        self.leadsman.configure(&sources(self.registry_path.address(), rest));
    }

    /// Registers an instance in etcd, or changes it.
    pub async fn put(&self, service: &str, instance: Instance) {
        self.etcd
            .put(&key(service, instance.port), &instance.record().to_string())
            .await;
    }

    /// Removes an instance from etcd.
    pub async fn remove(&self, service: &str, instance: Instance) {
        self.etcd.delete(&key(service, instance.port)).await;
    }

    /// Writes the file of a service.
    pub fn write(&self, service: &str, instances: &[Instance]) {
        let path = self
            .leadsman
            .directory()
            .join("services")
            .join(format!("{service}.yaml"));
        replace(&path, &document(service, instances.iter().copied()));
    }
}

impl Deref for World {
    type Target = Fleet;

    fn deref(&self) -> &Fleet {
        &self.fleet
    }
}

impl DerefMut for World {
    fn deref_mut(&mut self) -> &mut Fleet {
        &mut self.fleet
    }
}

/// A file source in `services/` and an etcd source, and whatever else there is to configure.
pub fn sources(etcd: SocketAddr, rest: &str) -> String {
    format!(
        "sources:\n  \
         local: {{ file: {{ path: services/ }} }}\n  \
         shop: {{ etcd: {{ endpoints: ['http://{etcd}'], prefix: {PREFIX}, layout: auto, reconcile: 1s }} }}\n{rest}"
    )
}

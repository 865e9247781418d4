//! Everything at once: etcd and files, the real control plane on them, and a real Envoy that carries traffic.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;

use serde_json::Value;
use tempfile::TempDir;

use crate::envoy::{Envoy, add_listener};
use crate::etcd::{Etcd, Version};
use crate::http::Load;
use crate::instance::{Instance, PREFIX, document, key};
use crate::leadsman::{Leadsman, replace};
use crate::process::free_port;
use crate::proxy::Proxy;
use crate::wait::{PATIENT, until, until_ok};

/// One of each.
#[derive(Debug)]
pub struct World {
    pub etcd: Etcd,
    /// Between the control plane and etcd.
    pub registry_path: Proxy,
    pub leadsman: Leadsman,
    /// Between Envoy and the control plane.
    pub xds_path: Proxy,
    pub envoy: Envoy,
    listener: SocketAddr,
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
        let leadsman = Leadsman::start_in(directory, &sources(registry_path.address(), rest)).await;
        let xds_path = Proxy::start(leadsman.xds()).await;
        let mut bootstrap = leadsman.bootstrap_via(xds_path.address(), "edge-1", free_port());
        let listener = SocketAddr::from(([127, 0, 0, 1], free_port()));
        add_listener(&mut bootstrap, listener.port(), services, &[]);
        let envoy = Envoy::start(&bootstrap, 2).await;
        Self {
            etcd,
            registry_path,
            leadsman,
            xds_path,
            envoy,
            listener,
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

    /// Requests for a service, through Envoy.
    pub fn load(&self, service: &str) -> Load {
        Load {
            address: self.listener,
            host: service.to_owned(),
            path: "/".to_owned(),
            requests_per_second: 100,
            workers: 4,
        }
    }

    /// Waits until Envoy has exactly these instances of a service, each as healthy as given.
    pub async fn envoy_has(&self, service: &str, instances: &[Instance]) {
        let expected: BTreeMap<SocketAddr, String> = instances
            .iter()
            .map(|instance| (instance.address(), instance.health.as_str().to_uppercase()))
            .collect();
        until_ok(PATIENT, &format!("Envoy to have {expected:?}"), async || {
            let hosts = self.envoy.hosts(service).await;
            let seen: BTreeMap<SocketAddr, String> = hosts
                .into_iter()
                .map(|(address, host)| (address, host.health))
                .collect();
            if seen == expected { Ok(()) } else { Err(seen) }
        })
        .await;
    }

    /// How often the membership of a service changed in Envoy.
    ///
    /// # Panics
    /// When Envoy does not know the service.
    pub async fn membership_changes(&self, service: &str) -> u64 {
        let name = format!("cluster.{service}.membership_change");
        let count = self.envoy.stat(&name).await;
        count.unwrap_or_else(|| panic!("Envoy does not know {service}"))
    }

    /// One source, as the admin API shows it.
    pub async fn source(&self, name: &str) -> Value {
        let sources = self.leadsman.api("/api/v1/sources").await;
        let mut named = sources
            .as_array()
            .into_iter()
            .flatten()
            .filter(|source| source["name"] == name);
        named.next().cloned().unwrap_or(Value::Null)
    }

    /// Waits until a source is in a state.
    pub async fn source_enters(&self, name: &str, state: &str) {
        let what = format!("the source {name} to be {state}");
        until(PATIENT, &what, async || self.source(name).await["state"] == state).await;
    }

    /// The endpoints of a service that `explain` says Envoy is told about.
    pub async fn explained(&self, service: &str) -> BTreeSet<String> {
        let explanation = self.leadsman.api(&format!("/api/v1/explain/{service}")).await;
        let endpoints = explanation["endpoints"].as_array().into_iter().flatten();
        let told = endpoints.filter(|endpoint| endpoint["in_envoy"] == true);
        told.filter_map(|endpoint| Some(endpoint["address"].as_str()?.to_owned()))
            .collect()
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

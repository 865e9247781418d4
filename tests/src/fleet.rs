//! A control plane with a real Envoy on it that carries traffic, whatever registries it watches.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use leadsman_core::model::Health;
use serde_json::Value;
use tempfile::TempDir;

use crate::envoy::{Envoy, add_listener};
use crate::http::Load;
use crate::instance::Instance;
use crate::leadsman::Leadsman;
use crate::process::free_port;
use crate::proxy::Proxy;
use crate::wait::{PATIENT, until, until_ok};

/// One of each; dropping it ends them.
#[derive(Debug)]
pub struct Fleet {
    pub leadsman: Leadsman,
    /// Between Envoy and the control plane.
    pub xds_path: Proxy,
    pub envoy: Envoy,
    listener: SocketAddr,
}

impl Fleet {
    /// Starts the control plane with `config` in `directory`, and an Envoy with a listener that leads to `services` by
    /// the name of the host.
    pub async fn start_in(directory: TempDir, services: &[&str], config: &str) -> Self {
        let leadsman = Leadsman::start_in(directory, config).await;
        let xds_path = Proxy::start(leadsman.xds()).await;
        let mut bootstrap = leadsman.bootstrap_via(xds_path.address(), "edge-1", free_port());
        let listener = SocketAddr::from(([127, 0, 0, 1], free_port()));
        add_listener(&mut bootstrap, listener.port(), services, &[]);
        let envoy = Envoy::start(&bootstrap, 2).await;
        Self {
            leadsman,
            xds_path,
            envoy,
            listener,
        }
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
            .map(|instance| (instance.address(), in_envoy(instance.health)))
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

/// How Envoy shows a health: what is not known to be ill counts as healthy.
fn in_envoy(health: Health) -> String {
    match health {
        Health::Unknown => Health::Healthy.as_str().to_uppercase(),
        Health::Healthy | Health::Degraded | Health::Draining | Health::Unhealthy => health.as_str().to_uppercase(),
    }
}

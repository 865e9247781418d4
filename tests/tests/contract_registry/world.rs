//! The real binary with a registry of its own.

use std::net::SocketAddr;
use std::path::PathBuf;

use leadsman_tests::leadsman::Leadsman;
use leadsman_tests::process::free_port;
use leadsman_tests::registrar::Registrar;
use serde_json::Value;
use tempfile::TempDir;

pub(crate) struct World {
    pub(crate) leadsman: Leadsman,
    pub(crate) registrar: Registrar,
}

impl World {
    /// With further keys of the source, such as `tokens: …, `.
    pub(crate) async fn start_in(directory: TempDir, keys: &str) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let config = format!("sources: {{ own: {{ registry: {{ listen: '{address}', {keys} }} }} }}\n");
        Self {
            leadsman: Leadsman::start_in(directory, &config).await,
            registrar: Registrar::new(address),
        }
    }

    pub(crate) async fn start() -> Self {
        Self::start_in(TempDir::new().unwrap(), "").await
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.registrar.address)
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.leadsman.directory().join("registry")
    }

    /// The source as the admin API shows it.
    pub(crate) async fn source(&self) -> Value {
        self.leadsman.api("/api/v1/sources").await[0].clone()
    }

    /// What Envoy is told of a service: the health by address; nothing when there is no such service.
    pub(crate) async fn members(&self, service: &str) -> Vec<(String, String)> {
        // A server that was killed a moment ago tells nothing either.
        let Ok(answer) = self.leadsman.get(&format!("/api/v1/services/{service}")).await else {
            return Vec::new();
        };
        let detail: Value = serde_json::from_slice(&answer.body).unwrap();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let members = detail["members"].as_array().cloned().unwrap_or_default();
        members
            .iter()
            .map(|member| (text(&member["address"]), text(&member["health"])))
            .collect()
    }
}

//! `leadsman services` and `leadsman endpoints`.

use super::Failure;
use super::admin::{Server, segment};
use super::output::{self, Output, Table};
use crate::api::{ServiceDetail, ServiceSummary};

#[derive(Debug, clap::Args)]
pub(super) struct Services {
    #[command(flatten)]
    server: Server,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, clap::Args)]
pub(super) struct Endpoints {
    #[command(flatten)]
    server: Server,
    #[command(flatten)]
    output: Output,
    /// The service, as its registry names it.
    service: String,
}

impl Services {
    pub(super) async fn run(&self) -> Result<(), Failure> {
        let services: Vec<ServiceSummary> = self.server.get("/api/v1/services").await?;
        output::show(&services, self.output.output, |services| {
            let mut table = Table::new([
                "SERVICE",
                "CLUSTER",
                "HEALTHY",
                "ENDPOINTS",
                "REJECTED",
                "SOURCES",
                "VERSION",
            ]);
            for service in services {
                table.row([
                    service.name.clone(),
                    service.cluster.clone(),
                    service.healthy.to_string(),
                    service.endpoints.to_string(),
                    service.rejected.to_string(),
                    service.sources.join(","),
                    service.version.clone(),
                ]);
            }
            table.render()
        })
    }
}

impl Endpoints {
    pub(super) async fn run(&self) -> Result<(), Failure> {
        let path = format!("/api/v1/services/{}", segment(&self.service));
        let detail: ServiceDetail = self.server.get(&path).await?;
        output::show(&detail, self.output.output, |detail| {
            let mut table = Table::new(["ADDRESS", "HEALTH", "WEIGHT", "LOCALITY", "SOURCE", "METADATA"]);
            for endpoint in &detail.members {
                let metadata: Vec<String> = endpoint.metadata.iter().map(|(k, v)| format!("{k}={v}")).collect();
                table.row([
                    endpoint.address.clone(),
                    endpoint.health.clone(),
                    endpoint.weight.to_string(),
                    endpoint.locality.to_string(),
                    endpoint.source.clone(),
                    metadata.join(","),
                ]);
            }
            table.render()
        })
    }
}

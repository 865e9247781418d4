//! `leadsman diff`: what the server has for a proxy against what that Envoy holds.
//!
//! Both ends give resources as JSON; they are compared member by member and endpoint by endpoint, so order and
//! notation make no difference.

mod compare;
mod envoy;

use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use self::compare::{Difference, What, compare};
use self::envoy::Held;
use super::Failure;
use super::admin::{Address, Server, segment};
use super::output::{self, Output, Table};
use crate::api::{ProxyResources, SyncStatus};

/// The two ends are asked one after the other: what changes in between is no difference, and is gone after this.
const SECOND_LOOK: Duration = Duration::from_millis(500);

#[derive(Debug, clap::Args)]
pub(super) struct Diff {
    #[command(flatten)]
    server: Server,
    #[command(flatten)]
    output: Output,
    /// The address of Envoy's admin pages.
    #[arg(long, value_name = "URL")]
    envoy_admin: String,
    /// The proxy to compare with, by node id or id: `leadsman proxies` lists them. Without it, the node id that Envoy
    /// says it has.
    #[arg(long, value_name = "ID")]
    node: Option<String>,
}

/// Everything that differs.
#[derive(Debug, Serialize)]
struct Comparison {
    /// The proxy's id at the server.
    proxy: String,
    same: bool,
    /// Resources that the server has for the proxy.
    clusters: usize,
    assignments: usize,
    differences: Vec<Difference>,
}

impl Diff {
    pub(super) async fn run(&self) -> Result<(), Failure> {
        let node = match &self.node {
            Some(node) => node.clone(),
            None => self.node_of_envoy().await?,
        };
        let mut comparison = self.look(&node).await?;
        if !comparison.same {
            tokio::time::sleep(SECOND_LOOK).await;
            comparison = self.look(&node).await?;
        }
        output::show(&comparison, self.output.output, text)?;
        if comparison.same {
            Ok(())
        } else {
            Err(Failure::Findings)
        }
    }

    async fn look(&self, node: &str) -> Result<Comparison, Failure> {
        let path = format!("/api/v1/proxies/{}/resources", segment(node));
        let wanted: ProxyResources = self.server.get(&path).await?;
        // The dump has everything but the health as EDS said it, which the list of clusters has.
        let dump: Value = self.envoy().get("/config_dump?include_eds").await?;
        let clusters: Value = self.envoy().get("/clusters?format=json").await?;
        let held = Held::read(&dump, &clusters);
        let differences = compare(&wanted, &held);
        let count = |short: &str| {
            let of = wanted
                .types
                .iter()
                .filter(|of| super::status::short(&of.type_url) == short);
            of.flat_map(|of| &of.resources).filter(|r| r.status.is_some()).count()
        };
        Ok(Comparison {
            same: differences.is_empty(),
            clusters: count("cds"),
            assignments: count("eds"),
            proxy: wanted.id,
            differences,
        })
    }

    fn envoy(&self) -> Address<'_> {
        Address {
            flag: "--envoy-admin",
            url: &self.envoy_admin,
        }
    }

    async fn node_of_envoy(&self) -> Result<String, Failure> {
        let info: Value = self.envoy().get("/server_info").await?;
        let node = info.pointer("/node/id").and_then(Value::as_str);
        node.map(str::to_owned).ok_or_else(|| {
            Failure::Other(format!(
                "{} does not say its node id: name it with --node",
                self.envoy_admin
            ))
        })
    }
}

fn text(comparison: &Comparison) -> String {
    let Comparison {
        proxy,
        clusters,
        assignments,
        differences,
        ..
    } = comparison;
    if differences.is_empty() {
        let line = format!("{proxy}: the same, {clusters} clusters and {assignments} assignments");
        return format!("{}\n", output::visible(&line));
    }
    let mut table = Table::new(["TYPE", "NAME", "DIFFERENCE", "FIELD", "SERVER", "ENVOY", "WHY"]);
    for difference in differences {
        let Difference {
            kind,
            name,
            what,
            status,
            nack,
            fields,
        } = difference;
        let why = match (status, nack) {
            (_, Some(nack)) => nack.clone(),
            (Some(SyncStatus::Stale), None) => "sent, and not answered yet".to_owned(),
            (Some(SyncStatus::NotSent), None) => "not sent yet".to_owned(),
            (Some(SyncStatus::Synced | SyncStatus::Error) | None, None) => String::new(),
        };
        let row = |field: &str, server: &Value, envoy: &Value| {
            let (kind, what) = ((*kind).to_owned(), what.as_str().to_owned());
            [
                kind,
                name.clone(),
                what,
                field.to_owned(),
                cell(server),
                cell(envoy),
                why.clone(),
            ]
        };
        if fields.is_empty() {
            table.row(row("", &Value::Null, &Value::Null));
        }
        for field in fields {
            table.row(row(&field.path, &field.server, &field.envoy));
        }
    }
    table.render()
}

/// `-` stands for what one end does not have.
fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

impl What {
    fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Extra => "extra",
            Self::Different => "different",
            Self::Warming => "warming",
            Self::Nacked => "nacked",
        }
    }
}

#[cfg(test)]
mod tests;

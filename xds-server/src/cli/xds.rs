//! `leadsman xds watch`: a delta ADS client that shows what a server says.
//!
//! It accepts everything, keeps nothing it does not need, and never reconnects: a lost stream is an answer too.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use clap::{Subcommand, ValueEnum};
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::service::discovery::v3 as discovery;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};

use self::discovery::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use self::resource::Shown;
use super::{Failure, output};

mod resource;

/// As much as our own server accepts in the other direction.
const MAX_MESSAGE_BYTES: usize = 64 << 20;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A server that died in silence is noticed after the two together.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// An answer is queued for each response, one at a time.
const REQUEST_QUEUE: usize = 16;

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Subscribe like an Envoy, accept everything, and print each response.
    ///
    /// Ends with 69 when the server can't be reached or goes away.
    Watch(Watch),
}

#[derive(Debug, clap::Args)]
pub(super) struct Watch {
    /// The xDS address of the server.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:18000")]
    server: String,
    /// What to watch: clusters, or their endpoints.
    #[arg(long = "type", value_name = "TYPE", default_value = "cds")]
    kind: Kind,
    /// Only these resources. Without it, all of them: for eds, those of every cluster the server has.
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    names: Vec<String>,
    /// The node id to show to the server.
    #[arg(long, value_name = "ID", default_value = "leadsman-xds-watch")]
    node_id: String,
    /// End after this many responses.
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// One line, or one JSON object on a line, for each response.
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    output: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Cds,
    Eds,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Text,
    Json,
}

impl Kind {
    fn type_url(self) -> &'static str {
        match self {
            Self::Cds => "type.googleapis.com/envoy.config.cluster.v3.Cluster",
            Self::Eds => "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Cds => "cds",
            Self::Eds => "eds",
        }
    }
}

/// One response, as it is printed.
#[derive(Debug, Serialize)]
struct Line {
    time: String,
    #[serde(rename = "type")]
    kind: Kind,
    nonce: String,
    system_version: String,
    control_plane: String,
    resources: Vec<Shown>,
    removed: Vec<String>,
}

/// The half of the stream that speaks.
struct Session<'a> {
    watch: &'a Watch,
    requests: mpsc::Sender<discovery::DeltaDiscoveryRequest>,
    /// The assignments asked for on behalf of the server's own clusters.
    followed: BTreeSet<String>,
}

impl Watch {
    pub(super) async fn run(&self) -> Result<(), Failure> {
        let channel = self.connect().await?;
        let (requests, receiver) = mpsc::channel(REQUEST_QUEUE);
        let mut session = Session {
            watch: self,
            requests,
            followed: BTreeSet::new(),
        };
        session.open().await?;
        let mut client = AggregatedDiscoveryServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES);
        let mut responses = client
            .delta_aggregated_resources(ReceiverStream::new(receiver))
            .await
            .map_err(|status| self.failed(&status))?
            .into_inner();
        let mut printed = 0;
        while self.count.is_none_or(|count| printed < count) {
            let Some(response) = responses.message().await.map_err(|status| self.failed(&status))? else {
                return Err(self.unreachable("the server ended the stream"));
            };
            if session.handle(response).await? {
                printed += 1;
            }
        }
        Ok(())
    }

    async fn connect(&self) -> Result<Channel, Failure> {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.server))
            .map_err(|_| Failure::Usage(format!("--server {:?} is not host:port", self.server)))?;
        endpoint
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .keep_alive_while_idle(true)
            .connect()
            .await
            .map_err(|error| self.unreachable(&output::innermost(&error)))
    }

    fn unreachable(&self, why: &str) -> Failure {
        Failure::Unreachable(format!("{}: {}", self.server, output::visible(why)))
    }

    fn failed(&self, status: &tonic::Status) -> Failure {
        let said = format!("{:?}: {}", status.code(), status.message());
        match status.code() {
            tonic::Code::PermissionDenied | tonic::Code::Unauthenticated => {
                Failure::Permission(format!("{}: {}", self.server, output::visible(&said)))
            }
            tonic::Code::InvalidArgument => Failure::BadInput(format!("{}: {}", self.server, output::visible(&said))),
            tonic::Code::Ok
            | tonic::Code::Cancelled
            | tonic::Code::Unknown
            | tonic::Code::DeadlineExceeded
            | tonic::Code::NotFound
            | tonic::Code::AlreadyExists
            | tonic::Code::ResourceExhausted
            | tonic::Code::FailedPrecondition
            | tonic::Code::Aborted
            | tonic::Code::OutOfRange
            | tonic::Code::Unimplemented
            | tonic::Code::Internal
            | tonic::Code::Unavailable
            | tonic::Code::DataLoss => self.unreachable(&said),
        }
    }

    /// Whether the clusters are asked for only to learn the names of the assignments.
    fn follows_clusters(&self) -> bool {
        self.kind == Kind::Eds && self.names.is_empty()
    }

    fn print(&self, line: &Line) -> Result<(), Failure> {
        output::print(&match self.output {
            Format::Text => line.text(),
            Format::Json => format!("{}\n", serde_json::to_string(line).map_err(Failure::from_error)?),
        })
    }
}

impl Session<'_> {
    async fn open(&self) -> Result<(), Failure> {
        let first = if self.watch.follows_clusters() {
            Kind::Cds
        } else {
            self.watch.kind
        };
        let names = if self.watch.names.is_empty() {
            vec!["*".to_owned()]
        } else {
            self.watch.names.clone()
        };
        let version = core::node::UserAgentVersionType::UserAgentVersion(env!("CARGO_PKG_VERSION").to_owned());
        self.send(discovery::DeltaDiscoveryRequest {
            node: Some(core::Node {
                id: self.watch.node_id.clone(),
                cluster: "leadsman".to_owned(),
                user_agent_name: "leadsman".to_owned(),
                user_agent_version_type: Some(version),
                ..core::Node::default()
            }),
            type_url: first.type_url().to_owned(),
            resource_names_subscribe: names,
            ..discovery::DeltaDiscoveryRequest::default()
        })
        .await
    }

    /// Accepts a response; says whether it was one to print.
    async fn handle(&mut self, response: discovery::DeltaDiscoveryResponse) -> Result<bool, Failure> {
        self.send(discovery::DeltaDiscoveryRequest {
            type_url: response.type_url.clone(),
            response_nonce: response.nonce.clone(),
            ..discovery::DeltaDiscoveryRequest::default()
        })
        .await?;
        let kind = [Kind::Cds, Kind::Eds]
            .into_iter()
            .find(|kind| kind.type_url() == response.type_url);
        let Some(kind) = kind else { return Ok(false) };
        let resources: Vec<Shown> = response.resources.iter().map(Shown::decode).collect();
        if kind == Kind::Cds && self.watch.follows_clusters() {
            self.follow(&resources, &response.removed_resources).await?;
        }
        if kind != self.watch.kind {
            return Ok(false);
        }
        self.watch.print(&Line {
            time: humantime::format_rfc3339_millis(SystemTime::now()).to_string(),
            kind,
            nonce: response.nonce,
            system_version: response.system_version_info,
            control_plane: response.control_plane.map(|plane| plane.identifier).unwrap_or_default(),
            resources,
            removed: response.removed_resources,
        })?;
        Ok(true)
    }

    /// Subscribes to the assignment of every cluster that wants one, as Envoy does.
    async fn follow(&mut self, changed: &[Shown], removed: &[String]) -> Result<(), Failure> {
        let wanted = changed.iter().filter_map(Shown::assignment_name).map(str::to_owned);
        let subscribe: Vec<String> = wanted.filter(|name| self.followed.insert(name.clone())).collect();
        let unsubscribe: Vec<String> = removed
            .iter()
            .filter(|name| self.followed.remove(*name))
            .cloned()
            .collect();
        if subscribe.is_empty() && unsubscribe.is_empty() {
            return Ok(());
        }
        self.send(discovery::DeltaDiscoveryRequest {
            type_url: Kind::Eds.type_url().to_owned(),
            resource_names_subscribe: subscribe,
            resource_names_unsubscribe: unsubscribe,
            ..discovery::DeltaDiscoveryRequest::default()
        })
        .await
    }

    async fn send(&self, request: discovery::DeltaDiscoveryRequest) -> Result<(), Failure> {
        self.requests
            .send(request)
            .await
            .map_err(|_| self.watch.unreachable("the server ended the stream"))
    }
}

impl Line {
    fn text(&self) -> String {
        let mut parts = vec![format!(
            "{} {} nonce={} changed={} removed={}",
            self.time,
            self.kind.as_str(),
            self.nonce,
            self.resources.len(),
            self.removed.len()
        )];
        parts.extend(self.resources.iter().map(Shown::text));
        parts.extend(self.removed.iter().map(|name| format!("-{name}")));
        let mut line = output::visible(&parts.join("  "));
        line.push('\n');
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_is_one_line_whatever_is_in_it() {
        let line = Line {
            time: "2026-01-01T00:00:00.000Z".to_owned(),
            kind: Kind::Eds,
            nonce: "7".to_owned(),
            system_version: String::new(),
            control_plane: "cp-1".to_owned(),
            resources: Vec::new(),
            removed: vec!["or\nders".to_owned()],
        };
        assert_eq!(
            line.text(),
            "2026-01-01T00:00:00.000Z eds nonce=7 changed=0 removed=1  -or\u{fffd}ders\n"
        );
    }
}

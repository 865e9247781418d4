//! A plain delta ADS client with the identity of a sidecar: what istiod makes of its services, as a proxy hears it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use anyhow::Context as _;
use envoy_types::pb::envoy::config::cluster::v3::Cluster as ClusterPb;
use envoy_types::pb::envoy::config::core::v3::address::Address as AddressPb;
use envoy_types::pb::envoy::config::core::v3::socket_address::PortSpecifier;
use envoy_types::pb::envoy::config::core::v3::{Locality, Node};
use envoy_types::pb::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
use envoy_types::pb::envoy::config::endpoint::v3::{ClusterLoadAssignment, LbEndpoint};
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use envoy_types::pb::google::protobuf::value::Kind;
use envoy_types::pb::google::protobuf::{Struct, Value};
use prost::Message;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Endpoint;

use crate::wait::{PATIENT, until_ok};

const CDS: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
const EDS: &str = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";
const NODE: &str = "sidecar~10.1.1.1~app.default~default.svc.cluster.local";
/// Services of Kubernetes itself, which are no matter of these tests.
const OF_KUBERNETES: &str = ".svc.cluster.local";

/// The clusters that lead to services, by name.
pub type Mesh = BTreeMap<String, Cluster>;

/// The members of a cluster, by address.
pub type Cluster = BTreeMap<SocketAddr, Member>;

/// One endpoint as a proxy hears of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub weight: u32,
    /// `region/zone/sub_zone`
    pub locality: String,
    /// Of the locality.
    pub locality_weight: u32,
}

/// What was heard so far.
#[derive(Clone, Debug, Default)]
struct Heard {
    mesh: Mesh,
    /// How often a cluster or a member went away.
    losses: usize,
    ended: Option<String>,
}

/// One stream; dropping it ends it.
#[derive(Debug)]
pub struct Sidecar {
    heard: watch::Receiver<Heard>,
    task: JoinHandle<()>,
}

impl Sidecar {
    pub(super) async fn connect(istiod: SocketAddr) -> Self {
        let (heard, seen) = watch::channel(Heard::default());
        let address = format!("http://{istiod}");
        let channel = until_ok(PATIENT, "a connection to istiod", async || {
            anyhow::Ok(Endpoint::from_shared(address.clone())?.connect().await?)
        })
        .await;
        let task = tokio::spawn(async move {
            let client = AggregatedDiscoveryServiceClient::new(channel);
            if let Err(error) = follow(client, &heard).await {
                heard.send_modify(|heard| heard.ended = Some(format!("{error:#}")));
            }
        });
        Self { heard: seen, task }
    }

    /// Waits until the clusters of the mesh are exactly these.
    ///
    /// # Panics
    /// When they are not in time, or the stream ends.
    pub async fn becomes(&self, expected: &Mesh) {
        until_ok(PATIENT, "the sidecar to hear", async || {
            let heard = self.heard.borrow().clone();
            assert_eq!(heard.ended, None, "the stream to istiod ended");
            if heard.mesh == *expected {
                Ok(())
            } else {
                Err(heard.mesh)
            }
        })
        .await;
    }

    pub fn mesh(&self) -> Mesh {
        self.heard.borrow().mesh.clone()
    }

    /// How often anything went away.
    pub fn losses(&self) -> usize {
        self.heard.borrow().losses
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Heard {
    fn set(&mut self, name: &str, cluster: Cluster) {
        let held = self.mesh.insert(name.to_owned(), cluster).unwrap_or_default();
        let now = self.mesh.get(name);
        let lost = held
            .keys()
            .filter(|address| now.is_none_or(|now| !now.contains_key(address)));
        self.losses += lost.count();
    }

    fn remove(&mut self, name: &str) {
        self.losses += usize::from(self.mesh.remove(name).is_some());
    }
}

/// Asks for every cluster, and for the endpoints of each that leads out of the proxy.
async fn follow(
    mut client: AggregatedDiscoveryServiceClient<tonic::transport::Channel>,
    heard: &watch::Sender<Heard>,
) -> anyhow::Result<()> {
    let (requests, queue) = mpsc::channel(64);
    requests.send(first(CDS)).await?;
    let stream = client.delta_aggregated_resources(ReceiverStream::new(queue)).await;
    let mut responses = stream.context("istiod refused the stream")?.into_inner();
    let mut asked = BTreeSet::new();
    while let Some(response) = responses.message().await? {
        let answer = DeltaDiscoveryRequest {
            type_url: response.type_url.clone(),
            response_nonce: response.nonce.clone(),
            ..DeltaDiscoveryRequest::default()
        };
        let interest = match response.type_url.as_str() {
            CDS => Some(take_clusters(&response, &mut asked, heard)?),
            _ => {
                take_endpoints(&response, &asked, heard)?;
                None
            }
        };
        requests.send(answer).await?;
        if let Some(interest) = interest {
            requests.send(interest).await?;
        }
    }
    anyhow::bail!("istiod ended the stream")
}

fn first(type_url: &str) -> DeltaDiscoveryRequest {
    let text = |text: &str| Value {
        kind: Some(Kind::StringValue(text.to_owned())),
    };
    let metadata = [("NAMESPACE", "default"), ("CLUSTER_ID", "Kubernetes")];
    let fields = metadata.map(|(key, value)| (key.to_owned(), text(value)));
    DeltaDiscoveryRequest {
        node: Some(Node {
            id: NODE.to_owned(),
            metadata: Some(Struct { fields: fields.into() }),
            ..Node::default()
        }),
        type_url: type_url.to_owned(),
        ..DeltaDiscoveryRequest::default()
    }
}

/// What to ask for and not to ask for any more, after a response with clusters.
fn take_clusters(
    response: &DeltaDiscoveryResponse,
    asked: &mut BTreeSet<String>,
    heard: &watch::Sender<Heard>,
) -> anyhow::Result<DeltaDiscoveryRequest> {
    let mut interest = DeltaDiscoveryRequest {
        type_url: EDS.to_owned(),
        ..DeltaDiscoveryRequest::default()
    };
    for resource in &response.resources {
        let body = resource.resource.as_ref().context("a cluster without a body")?;
        let cluster = ClusterPb::decode(body.value.as_slice())?;
        let leads_out = cluster.name.starts_with("outbound|") && !cluster.name.ends_with(OF_KUBERNETES);
        if leads_out && asked.insert(cluster.name.clone()) {
            interest.resource_names_subscribe.push(cluster.name);
        }
    }
    for name in &response.removed_resources {
        if asked.remove(name) {
            interest.resource_names_unsubscribe.push(name.clone());
            heard.send_modify(|heard| heard.remove(name));
        }
    }
    Ok(interest)
}

/// What was unsubscribed from may still be on its way.
fn take_endpoints(
    response: &DeltaDiscoveryResponse,
    asked: &BTreeSet<String>,
    heard: &watch::Sender<Heard>,
) -> anyhow::Result<()> {
    for resource in &response.resources {
        let body = resource.resource.as_ref().context("an assignment without a body")?;
        let assignment = ClusterLoadAssignment::decode(body.value.as_slice())?;
        if !asked.contains(&assignment.cluster_name) {
            continue;
        }
        let members = members(&assignment)?;
        heard.send_modify(|heard| heard.set(&assignment.cluster_name, members));
    }
    Ok(())
}

fn members(assignment: &ClusterLoadAssignment) -> anyhow::Result<Cluster> {
    let mut members = Cluster::new();
    for group in &assignment.endpoints {
        let weight = |weight: Option<u32>| weight.unwrap_or_default();
        let Locality { region, zone, sub_zone } = group.locality.clone().unwrap_or_default();
        for endpoint in &group.lb_endpoints {
            let member = Member {
                weight: weight(endpoint.load_balancing_weight.as_ref().map(|weight| weight.value)),
                locality: [region.as_str(), &zone, &sub_zone]
                    .join("/")
                    .trim_end_matches('/')
                    .to_owned(),
                locality_weight: weight(group.load_balancing_weight.as_ref().map(|weight| weight.value)),
            };
            members.insert(address(endpoint).context("an endpoint without an address")?, member);
        }
    }
    Ok(members)
}

fn address(endpoint: &LbEndpoint) -> Option<SocketAddr> {
    let HostIdentifier::Endpoint(endpoint) = endpoint.host_identifier.as_ref()? else {
        return None;
    };
    let AddressPb::SocketAddress(socket) = endpoint.address.as_ref()?.address.as_ref()? else {
        return None;
    };
    let PortSpecifier::PortValue(port) = socket.port_specifier.as_ref()? else {
        return None;
    };
    Some(SocketAddr::new(
        socket.address.parse().ok()?,
        u16::try_from(*port).ok()?,
    ))
}

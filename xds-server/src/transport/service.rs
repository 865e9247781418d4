//! The discovery services, aggregated and one a type, without the generated servers: those would encode every response
//! anew for every client, and keep a buffer of the size of the largest for as long as the stream lives.

use std::fmt;
use std::net::SocketAddr;
use std::pin::Pin;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use leadsman_core::snapshot::ResourceType;
use leadsman_core::xds::Variant;
use tonic::Status;
use tonic::transport::server::{TcpConnectInfo, TlsConnectInfo};

use super::convert::Ask;
use super::grpc::{Gone, Responses, head};
use super::request::{DeltaDiscoveryRequest, DiscoveryRequest};
use super::{Server, ads, client_status, foreign};

/// Every method we have: its path, the variant it speaks, and its type unless it is aggregated. The REST methods
/// (`Fetch…`) of these services are polls, which the promise of prompt changes excludes.
const METHODS: [(&str, Variant, Option<ResourceType>); 10] = [
    (
        "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources",
        Variant::Delta,
        None,
    ),
    (
        "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources",
        Variant::StateOfTheWorld,
        None,
    ),
    (
        "/envoy.service.cluster.v3.ClusterDiscoveryService/DeltaClusters",
        Variant::Delta,
        Some(ResourceType::Cluster),
    ),
    (
        "/envoy.service.cluster.v3.ClusterDiscoveryService/StreamClusters",
        Variant::StateOfTheWorld,
        Some(ResourceType::Cluster),
    ),
    (
        "/envoy.service.endpoint.v3.EndpointDiscoveryService/DeltaEndpoints",
        Variant::Delta,
        Some(ResourceType::Endpoint),
    ),
    (
        "/envoy.service.endpoint.v3.EndpointDiscoveryService/StreamEndpoints",
        Variant::StateOfTheWorld,
        Some(ResourceType::Endpoint),
    ),
    (
        "/envoy.service.listener.v3.ListenerDiscoveryService/DeltaListeners",
        Variant::Delta,
        Some(ResourceType::Listener),
    ),
    (
        "/envoy.service.listener.v3.ListenerDiscoveryService/StreamListeners",
        Variant::StateOfTheWorld,
        Some(ResourceType::Listener),
    ),
    (
        "/envoy.service.route.v3.RouteDiscoveryService/DeltaRoutes",
        Variant::Delta,
        Some(ResourceType::Route),
    ),
    (
        "/envoy.service.route.v3.RouteDiscoveryService/StreamRoutes",
        Variant::StateOfTheWorld,
        Some(ResourceType::Route),
    ),
];

/// Who is at the other end of a connection.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    tcp: TcpConnectInfo,
    /// With the certificate that the client showed.
    tls: Option<TlsConnectInfo<TcpConnectInfo>>,
}

impl Peer {
    pub(super) fn plain(tcp: TcpConnectInfo) -> Self {
        Self { tcp, tls: None }
    }

    pub(super) fn secure(tcp: TcpConnectInfo, tls: TlsConnectInfo<TcpConnectInfo>) -> Self {
        Self { tcp, tls: Some(tls) }
    }

    fn address(&self) -> Option<SocketAddr> {
        self.tcp.remote_addr
    }

    /// Tells tonic.
    pub(super) fn introduce(self, extensions: &mut http::Extensions) {
        match self.tls {
            Some(tls) => extensions.insert(tls).map(drop),
            None => extensions.insert(self.tcp).map(drop),
        };
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address() {
            Some(address) => address.fmt(f),
            None => f.write_str("a client without an address"),
        }
    }
}

/// One call; it is dropped with its connection.
pub(super) type Call = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Server {
    pub(super) fn answer(&self, request: http::Request<RecvStream>, respond: SendResponse<Bytes>, peer: &Peer) -> Call {
        let path = request.uri().path();
        if path.starts_with(client_status::PATH) {
            let (service, peer) = (self.client_status.clone(), peer.clone());
            return Box::pin(async move {
                // Whoever is gone needs no answer.
                let _ = foreign::answer(service, request, respond, peer).await;
            });
        }
        match METHODS.iter().find(|(method, ..)| *method == path) {
            Some((_, Variant::Delta, only)) => self.open::<DeltaDiscoveryRequest>(*only, request, respond, peer),
            Some((_, Variant::StateOfTheWorld, only)) => self.open::<DiscoveryRequest>(*only, request, respond, peer),
            None => {
                refuse(respond);
                Box::pin(std::future::ready(()))
            }
        }
    }

    fn open<R: Ask>(
        &self,
        only: Option<ResourceType>,
        request: http::Request<RecvStream>,
        respond: SendResponse<Bytes>,
        peer: &Peer,
    ) -> Call {
        match Responses::begin(respond, head()) {
            Ok(responses) => Box::pin(ads::serve::<R>(
                self.shared.clone(),
                only,
                peer.address(),
                request.into_body(),
                responses,
            )),
            Err(Gone) => Box::pin(std::future::ready(())),
        }
    }
}

fn refuse(mut respond: SendResponse<Bytes>) {
    let text =
        "this server streams xDS, delta or state of the world: aggregated, clusters, endpoints, listeners and routes";
    // Whoever is gone needs no answer.
    let _ = respond.send_response(Status::unimplemented(text).into_http(), true);
}

//! A plain server on tonic: a task a client, a queue a client, and every response encoded for its client alone.
//!
//! This is what one gets without thinking about it; a change that finds a queue full is lost, as nothing is proved here.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_server::{
    AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
};
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse, Resource,
};
use prost::Message;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};

use super::{parse, resource};
use crate::population::Population;
use crate::wire::ads::ENDPOINT_TYPE;

const BACKLOG: u32 = 4096;
/// Responses that wait for a client.
const QUEUE: usize = 64;

type Responses = mpsc::Sender<Result<DeltaDiscoveryResponse, Status>>;
type Seats = Vec<Vec<Responses>>;

#[derive(Clone, Debug)]
struct Echo {
    population: Population,
    subscribers: Arc<Mutex<Seats>>,
}

/// Serves until it is killed.
pub(crate) async fn serve(address: SocketAddr, feed: SocketAddr, population: Population) -> anyhow::Result<()> {
    let echo = Echo {
        population,
        subscribers: Arc::new(Mutex::new(vec![Vec::new(); population.services])),
    };
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    let listener = socket.listen(BACKLOG)?;
    let feeds = TcpListener::bind(feed).await.context("no feed")?;
    let fed = echo.clone();
    tokio::spawn(async move {
        while let Ok((socket, _)) = feeds.accept().await {
            let mut lines = BufReader::new(socket).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                if let Some((service, stamp)) = parse(&line) {
                    fed.change(service, stamp);
                }
            }
        }
    });
    let service = AggregatedDiscoveryServiceServer::new(echo);
    let server = Server::builder().tcp_nodelay(true).add_service(service);
    server.serve_with_incoming(TcpListenerStream::new(listener)).await?;
    Ok(())
}

impl Echo {
    fn change(&self, service: usize, stamp: u64) {
        let response = self.response([(service, stamp)].into_iter());
        let mut subscribers = self.subscribers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(subscribers) = subscribers.get_mut(service) {
            subscribers.retain(|subscriber| {
                let sent = subscriber.try_send(Ok(response.clone()));
                !matches!(sent, Err(mpsc::error::TrySendError::Closed(_)))
            });
        }
    }

    fn response(&self, changes: impl Iterator<Item = (usize, u64)>) -> DeltaDiscoveryResponse {
        let resources = changes.filter_map(|(service, stamp)| {
            let bytes = resource(self.population, service, stamp);
            Resource::decode(bytes.as_slice()).ok()
        });
        DeltaDiscoveryResponse {
            resources: resources.collect(),
            type_url: ENDPOINT_TYPE.to_owned(),
            nonce: "1".to_owned(),
            ..Default::default()
        }
    }

    fn subscribe(&self, request: &DeltaDiscoveryRequest, responses: &Responses) -> DeltaDiscoveryResponse {
        let mut subscribers = self.subscribers.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = request.resource_names_subscribe.iter();
        let services: Vec<usize> = wanted
            .filter_map(|name| name.rsplit('-').next()?.parse().ok())
            .collect();
        let known = services
            .iter()
            .copied()
            .filter(|service| *service < self.population.services);
        for service in known.clone() {
            if let Some(subscribers) = subscribers.get_mut(service) {
                subscribers.push(responses.clone());
            }
        }
        self.response(known.map(|service| (service, 1)))
    }
}

#[tonic::async_trait]
impl AggregatedDiscoveryService for Echo {
    type StreamAggregatedResourcesStream = ReceiverStream<Result<DiscoveryResponse, Status>>;
    type DeltaAggregatedResourcesStream = ReceiverStream<Result<DeltaDiscoveryResponse, Status>>;

    async fn stream_aggregated_resources(
        &self,
        _: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        Err(Status::unimplemented("delta only"))
    }

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        let (responses, stream) = mpsc::channel(QUEUE);
        let (echo, mut requests) = (self.clone(), request.into_inner());
        tokio::spawn(async move {
            while let Ok(Some(request)) = requests.message().await {
                if !request.resource_names_subscribe.is_empty() {
                    let response = echo.subscribe(&request, &responses);
                    // A client that is gone ends the requests too.
                    let _ = responses.send(Ok(response)).await;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

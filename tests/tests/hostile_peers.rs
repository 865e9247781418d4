//! What a peer that is no Envoy can do to the server: nothing, and the others notice nothing.

#![expect(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::DeltaDiscoveryRequest;
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use leadsman_tests::leadsman::{Leadsman, run};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::{Code, Status};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";
const SETTINGS: u8 = 4;
const MAX_CONCURRENT_STREAMS: u16 = 3;
const INITIAL_WINDOW_SIZE: u16 = 4;
const MAX_FRAME_SIZE: u16 = 5;
const MAX_HEADER_LIST_SIZE: u16 = 6;

async fn server() -> Leadsman {
    let directory = TempDir::new().unwrap();
    fs::create_dir(directory.path().join("services")).unwrap();
    let service = "service: orders\nendpoints: [{ address: 127.0.0.1, port: 9001 }]\n";
    fs::write(directory.path().join("services/orders.yaml"), service).unwrap();
    Leadsman::start_in(directory, "sources: { local: { file: { path: services/ } } }\n").await
}

/// The settings of the first frame a server sends.
async fn settings(leadsman: &Leadsman) -> BTreeMap<u16, u32> {
    let mut stream = TcpStream::connect(leadsman.xds()).await.unwrap();
    stream.write_all(PREFACE).await.unwrap();
    let mut header = [0; 9];
    stream.read_exact(&mut header).await.unwrap();
    assert_eq!(header[3], SETTINGS);
    let length = u32::from_be_bytes([0, header[0], header[1], header[2]]);
    let mut payload = vec![0; usize::try_from(length).unwrap()];
    stream.read_exact(&mut payload).await.unwrap();
    let setting = |bytes: &[u8]| {
        let [a, b, c, d, e, f] = bytes else { panic!("six bytes") };
        (u16::from_be_bytes([*a, *b]), u32::from_be_bytes([*c, *d, *e, *f]))
    };
    payload.chunks(6).map(setting).collect()
}

#[tokio::test]
async fn every_limit_of_http2_is_announced() {
    let leadsman = server().await;
    let announced = settings(&leadsman).await;
    let of = |setting: u16| announced.get(&setting).copied();
    assert_eq!(of(MAX_CONCURRENT_STREAMS), Some(16), "{announced:?}");
    assert_eq!(of(MAX_HEADER_LIST_SIZE), Some(16 << 10), "{announced:?}");
    // These are the protocol's own defaults, which need not be announced.
    assert!(
        [None, Some(65_535), Some(65_536)].contains(&of(INITIAL_WINDOW_SIZE)),
        "{announced:?}"
    );
    assert!([None, Some(16 << 10)].contains(&of(MAX_FRAME_SIZE)), "{announced:?}");
}

#[tokio::test]
async fn garbage_and_silence_on_both_ports_disturb_nobody() {
    let leadsman = server().await;
    let mut held = Vec::new();
    for port in [leadsman.xds(), leadsman.admin()] {
        for seed in 0_u8..20 {
            let mut stream = TcpStream::connect(port).await.unwrap();
            let garbage: Vec<u8> = (0..2048_u16)
                .map(|n| seed.wrapping_mul(31).wrapping_add(n.to_le_bytes()[0]))
                .collect();
            // The server may have hung up on the first bytes already.
            let _ = stream.write_all(&garbage).await;
            held.push(stream);
            held.push(TcpStream::connect(port).await.unwrap());
        }
    }
    let xds = leadsman.xds().to_string();
    let watched = tokio::task::spawn_blocking(move || {
        run(&[
            "xds", "watch", "--server", &xds, "--type", "eds", "--names", "orders", "--count", "1",
        ])
    });
    let watched = watched.await.unwrap();
    assert!(watched.status.success(), "{watched:?}");
    let said = String::from_utf8_lossy(&watched.stdout).into_owned();
    assert!(said.contains("orders"), "{said}");
    leadsman.ready().await;
}

#[tokio::test]
async fn a_server_with_silent_connections_ends_in_time() {
    let mut leadsman = server().await;
    let _silent = (
        TcpStream::connect(leadsman.xds()).await.unwrap(),
        TcpStream::connect(leadsman.admin()).await.unwrap(),
    );
    let ended = leadsman.process().terminate();
    assert!(ended.success(), "{ended}");
}

/// How many resources a client gets that says one thing and no more, and how its stream ends.
async fn say_once(leadsman: &Leadsman, request: DeltaDiscoveryRequest) -> (usize, Result<(), Status>) {
    let address = format!("http://{}", leadsman.xds());
    let mut client = AggregatedDiscoveryServiceClient::connect(address).await.unwrap();
    let requests = tokio_stream::iter([request]);
    let mut responses = client.delta_aggregated_resources(requests).await.unwrap().into_inner();
    let mut resources = 0;
    loop {
        match responses.message().await {
            Ok(Some(response)) => resources += response.resources.len(),
            Ok(None) => return (resources, Ok(())),
            Err(status) => return (resources, Err(status)),
        }
    }
}

#[tokio::test]
async fn whoever_says_one_thing_is_answered_and_whoever_says_too_much_is_told_why() {
    let leadsman = server().await;
    let node = |id: &str| {
        Some(Node {
            id: id.to_owned(),
            ..Node::default()
        })
    };
    let request = DeltaDiscoveryRequest {
        node: node("once"),
        type_url: "type.googleapis.com/envoy.config.cluster.v3.Cluster".to_owned(),
        ..DeltaDiscoveryRequest::default()
    };
    let (resources, end) = say_once(&leadsman, request.clone()).await;
    assert_eq!((resources, end.is_ok()), (1, true), "{end:?}");
    let endless = DeltaDiscoveryRequest {
        node: node(&"x".repeat(5000)),
        ..request.clone()
    };
    let huge = DeltaDiscoveryRequest {
        resource_names_subscribe: vec!["x".repeat(65 << 20)],
        ..request
    };
    for (request, code, why) in [
        (endless, Code::InvalidArgument, "longer than 4096 bytes"),
        (huge, Code::OutOfRange, "too large"),
    ] {
        let (resources, end) = say_once(&leadsman, request).await;
        let status = end.unwrap_err();
        assert_eq!((resources, status.code()), (0, code), "{status}");
        assert!(status.message().contains(why), "{status}");
    }
}

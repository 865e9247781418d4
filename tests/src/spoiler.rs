//! A TCP proxy that spoils what the server says: a resource that no Envoy takes, which our own server does not make.
//!
//! The bytes are replaced by as many others, so that the frames around them stay whole.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use crate::process::free_port;
use crate::wait::{PATIENT, until_ok};

/// Bytes and what stands in their place.
pub type Swap = (Vec<u8>, Vec<u8>);

/// What makes Envoy refuse the cluster of a service, whose name has three letters.
pub type Fault = fn(&str) -> Swap;

/// Why it does, in words.
pub const FAULTS: [(&str, Fault); 2] = [
    ("it can't be made", wrong_when_made),
    ("it breaks a rule of the API", against_the_rules),
];

/// It becomes a cluster of another type, which Envoy finds wrong when it makes the cluster.
fn wrong_when_made(name: &str) -> Swap {
    let cluster = |kind: u8| [&[10, 3], name.as_bytes(), &[16, kind, 26]].concat();
    (cluster(3), cluster(2))
}

/// It has a connect timeout of nothing, which breaks a rule of the API.
fn against_the_rules(name: &str) -> Swap {
    let cluster = |seconds: u8| {
        [
            &[10, 3],
            name.as_bytes(),
            &[16, 3, 26, 6, 10, 4, 26, 0, 48, 2, 34, 2, 8, seconds],
        ]
        .concat()
    };
    (cluster(1), cluster(0))
}

/// A proxy in front of one address; dropping it ends it and its connections.
#[derive(Debug)]
pub struct Spoiler {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Spoiler {
    /// # Panics
    /// When something is to be replaced by more or less than it is.
    pub async fn start(upstream: SocketAddr, swaps: Vec<Swap>) -> Self {
        assert!(swaps.iter().all(|(from, to)| from.len() == to.len()), "{swaps:?}");
        let bind = async || TcpListener::bind(("127.0.0.1", free_port())).await;
        let listener = until_ok(PATIENT, "a port for the proxy", bind).await;
        let address = listener.local_addr().unwrap_or(upstream);
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let swaps = swaps.clone();
                connections.spawn(async move { carry(client, upstream, &swaps).await });
            }
        });
        Self { address, task }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Spoiler {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Until either side ends. What one read brings is looked at for itself: the server writes a response in one piece.
async fn carry(mut client: TcpStream, upstream: SocketAddr, swaps: &[Swap]) -> std::io::Result<()> {
    let mut server = TcpStream::connect(upstream).await?;
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    let asking = tokio::io::copy(&mut from_client, &mut to_server);
    let answering = async {
        let mut bytes = vec![0; 1 << 20];
        loop {
            let length = from_server.read(&mut bytes).await?;
            if length == 0 {
                return Ok(());
            }
            let chunk = bytes.get_mut(..length).unwrap_or_default();
            swaps.iter().for_each(|swap| spoil(chunk, swap));
            to_client.write_all(chunk).await?;
        }
    };
    tokio::select! {
        ended = asking => ended.map(drop),
        ended = answering => ended,
    }
}

fn spoil(chunk: &mut [u8], (from, to): &Swap) {
    let found: Vec<usize> = chunk
        .windows(from.len())
        .enumerate()
        .filter(|(_, w)| w == from)
        .map(|(at, _)| at)
        .collect();
    for at in found {
        if let Some(place) = chunk.get_mut(at..at + to.len()) {
            place.copy_from_slice(to);
        }
    }
}

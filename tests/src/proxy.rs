//! A TCP proxy that breaks on request: what the network does to a registry's connection, inside the test process.
//!
//! Bytes are never changed or reordered, so whatever a client gets wrong behind it is the client's own doing.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::process::free_port;
use crate::wait::{PATIENT, until_ok};

/// What one read may take: larger than a frame, so that a throttled connection still moves in steps.
const CHUNK: usize = 16 * 1024;

/// What is wrong with the network at this moment; the default is a perfect one.
#[derive(Clone, Copy, Debug, Default)]
struct Faults {
    refuse: bool,
    stall: bool,
    delay: Duration,
    bytes_per_second: Option<u32>,
    ended: Ended,
}

/// How many times every open connection was ended, and how the last time.
#[derive(Clone, Copy, Debug, Default)]
struct Ended {
    times: u64,
    by_reset: bool,
}

/// A proxy in front of one address; dropping it ends it and its connections.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    upstream: watch::Sender<SocketAddr>,
    faults: watch::Sender<Faults>,
    accepted: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Starts a healthy proxy to `upstream` on a free port.
    pub async fn start(upstream: SocketAddr) -> Self {
        let listener = until_ok(PATIENT, "a port for the proxy", async || listen(free_port()).await).await;
        let address = listener.local_addr().unwrap_or(upstream);
        let (faults, seen) = watch::channel(Faults::default());
        let (upstream, leading_to) = watch::channel(upstream);
        let accepted = Arc::new(AtomicU64::new(0));
        let accepting = Accepting {
            upstream: leading_to,
            port: address.port(),
            faults: seen,
            accepted: Arc::clone(&accepted),
        };
        let task = tokio::spawn(accepting.run(listener));
        Self {
            address,
            upstream,
            faults,
            accepted,
            task,
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections accepted since the start: how often the client came back.
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Leads new connections to another address. Open ones go on where they are.
    pub fn turn_to(&self, upstream: SocketAddr) {
        self.upstream.send_replace(upstream);
    }

    /// Closes every open connection in the ordinary way; new ones are welcome.
    pub fn cut(&self) {
        self.end(false);
    }

    /// Resets every open connection; new ones are welcome.
    pub fn reset(&self) {
        self.end(true);
    }

    /// Refuses new connections. Open ones go on.
    pub fn refuse(&self) {
        self.faults.send_modify(|faults| faults.refuse = true);
    }

    /// Resets every connection and refuses new ones: the server is gone.
    pub fn sever(&self) {
        self.refuse();
        self.reset();
    }

    /// Forwards nothing in either direction, not even the end of a connection: the silent death of a path.
    pub fn stall(&self) {
        self.faults.send_modify(|faults| faults.stall = true);
    }

    /// Holds every chunk back for this long.
    pub fn delay(&self, delay: Duration) {
        self.faults.send_modify(|faults| faults.delay = delay);
    }

    /// Forwards at most this much in each direction of each connection.
    pub fn throttle(&self, bytes_per_second: u32) {
        self.faults
            .send_modify(|faults| faults.bytes_per_second = Some(bytes_per_second));
    }

    /// Ends every fault; what was held back flows on.
    pub fn heal(&self) {
        self.faults.send_modify(|faults| {
            *faults = Faults {
                ended: faults.ended,
                ..Faults::default()
            };
        });
    }

    fn end(&self, by_reset: bool) {
        self.faults.send_modify(|faults| {
            faults.ended = Ended {
                times: faults.ended.times + 1,
                by_reset,
            };
        });
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Accepting {
    upstream: watch::Receiver<SocketAddr>,
    port: u16,
    faults: watch::Receiver<Faults>,
    accepted: Arc<AtomicU64>,
}

impl Accepting {
    async fn run(mut self, mut listener: TcpListener) {
        let mut connections = JoinSet::new();
        loop {
            let refuse = self.faults.borrow_and_update().refuse;
            if refuse {
                drop(listener);
                if self.faults.wait_for(|faults| !faults.refuse).await.is_err() {
                    return;
                }
                let Ok(again) = listen(self.port).await else { return };
                listener = again;
            }
            tokio::select! {
                changed = self.faults.changed() => if changed.is_err() { return },
                accepted = listener.accept() => if let Ok((client, _)) = accepted {
                    self.accepted.fetch_add(1, Ordering::Relaxed);
                    let upstream = *self.upstream.borrow();
                    connections.spawn(carry(client, upstream, self.faults.clone()));
                },
                Some(_) = connections.join_next() => {}
            }
        }
    }
}

/// A closed listener is what refuses a connection, so the proxy binds its port anew after each time it refused.
async fn listen(port: u16) -> io::Result<TcpListener> {
    TcpListener::bind(("127.0.0.1", port)).await
}

async fn carry(mut client: TcpStream, upstream: SocketAddr, mut faults: watch::Receiver<Faults>) {
    let before = faults.borrow().ended.times;
    let Ok(mut server) = TcpStream::connect(upstream).await else {
        // The server refused; the client sees a connection that ends at once, as it would through a load balancer.
        let _ = client.set_zero_linger();
        return;
    };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let ended = {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        tokio::select! {
            _ = pump(from_client, to_server, faults.clone()) => false,
            _ = pump(from_server, to_client, faults.clone()) => false,
            by_reset = ended_by_reset(faults.clone(), before) => by_reset,
        }
    };
    let stalled = faults
        .wait_for(|faults| !faults.stall || faults.ended.times > before)
        .await
        .is_err();
    if ended || stalled {
        let _ = (client.set_zero_linger(), server.set_zero_linger());
    }
}

/// Waits until every connection older than `before` is ended, and says whether by a reset.
async fn ended_by_reset(mut faults: watch::Receiver<Faults>, before: u64) -> bool {
    let seen = faults.wait_for(|faults| faults.ended.times > before).await;
    seen.map_or(true, |faults| faults.ended.by_reset)
}

async fn pump(mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, mut faults: watch::Receiver<Faults>) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    loop {
        let read = from.read(&mut chunk).await?;
        let now = match faults.wait_for(|faults| !faults.stall).await {
            Ok(faults) => *faults,
            Err(_) => return Ok(()),
        };
        let Some(bytes) = chunk.get(..read).filter(|bytes| !bytes.is_empty()) else {
            return Ok(());
        };
        let paced = now.bytes_per_second.map_or(0.0, |rate| read as f64 / f64::from(rate));
        tokio::time::sleep(now.delay + Duration::from_secs_f64(paced)).await;
        to.write_all(bytes).await?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wait::{throughout, until};

    async fn echo() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = stream.split();
                    let _ = tokio::io::copy(&mut from, &mut to).await;
                });
            }
        });
        address
    }

    async fn ping(stream: &mut TcpStream) -> io::Result<u8> {
        stream.write_u8(7).await?;
        stream.read_u8().await
    }

    #[tokio::test]
    async fn a_healthy_proxy_carries_and_a_reset_one_resets() {
        let proxy = Proxy::start(echo().await).await;
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(ping(&mut stream).await.unwrap(), 7);
        proxy.reset();
        let error = until_ok(PATIENT, "the reset", async || match stream.read_u8().await {
            Ok(byte) => Err(byte),
            Err(error) => Ok(error.kind()),
        })
        .await;
        assert_eq!(error, io::ErrorKind::ConnectionReset);
        let mut again = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(ping(&mut again).await.unwrap(), 7);
        assert_eq!(proxy.accepted(), 2);
    }

    #[tokio::test]
    async fn a_turned_proxy_leads_new_connections_elsewhere_and_leaves_open_ones_alone() {
        let proxy = Proxy::start(echo().await).await;
        let mut before = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(ping(&mut before).await.unwrap(), 7);
        let elsewhere = TcpListener::bind("127.0.0.1:0").await.unwrap();
        proxy.turn_to(elsewhere.local_addr().unwrap());
        let mut after = TcpStream::connect(proxy.address()).await.unwrap();
        elsewhere.accept().await.unwrap().0.write_u8(8).await.unwrap();
        assert_eq!(after.read_u8().await.unwrap(), 8);
        assert_eq!(ping(&mut before).await.unwrap(), 7);
    }

    #[tokio::test]
    async fn a_cut_connection_ends_in_order() {
        let proxy = Proxy::start(echo().await).await;
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(ping(&mut stream).await.unwrap(), 7);
        proxy.cut();
        assert_eq!(stream.read_u8().await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[tokio::test]
    async fn a_stalled_path_stays_open_and_silent_until_it_heals() {
        let proxy = Proxy::start(echo().await).await;
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(ping(&mut stream).await.unwrap(), 7);
        proxy.stall();
        stream.write_u8(9).await.unwrap();
        let mut byte = [0];
        throughout(Duration::from_millis(200), "silence", async || {
            stream
                .try_read(&mut byte)
                .is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
        })
        .await;
        proxy.heal();
        assert_eq!(stream.read_u8().await.unwrap(), 9);
    }

    #[tokio::test]
    async fn a_refusing_proxy_leaves_open_connections_alone() {
        let proxy = Proxy::start(echo().await).await;
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(ping(&mut stream).await.unwrap(), 7);
        proxy.refuse();
        until(PATIENT, "a refused connection", async || {
            let attempt = TcpStream::connect(proxy.address()).await;
            attempt.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
        })
        .await;
        assert_eq!(ping(&mut stream).await.unwrap(), 7);
        proxy.heal();
        let again = until_ok(PATIENT, "an accepted connection", async || {
            TcpStream::connect(proxy.address()).await
        });
        assert_eq!(ping(&mut again.await).await.unwrap(), 7);
    }
}

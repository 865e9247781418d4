//! The listening socket: a backlog for herds, and an accept loop that outlives its errors.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// The default of 128 drops connections when a fleet comes back at once, and each drop costs a client a second.
const BACKLOG: u32 = 4096;
/// Out of file descriptors is an error of the moment; trying again at once would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Binds and listens.
pub(crate) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// The next connection. Nothing is lost when the future is dropped.
pub(super) async fn next(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

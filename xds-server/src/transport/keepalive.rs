//! Finding out that a client is gone although its connection was never closed.

use std::time::Duration;

use h2::{Ping, PingPong};
use tokio::time::{sleep, timeout};

pub(super) const INTERVAL: Duration = Duration::from_secs(30);
pub(super) const TIMEOUT: Duration = Duration::from_secs(10);

/// Pings a connection from time to time, and ends when there was no answer in time.
pub(super) async fn lost(mut pings: PingPong) {
    loop {
        sleep(INTERVAL).await;
        let answered = timeout(TIMEOUT, pings.ping(Ping::opaque())).await;
        if !matches!(answered, Ok(Ok(_))) {
            return;
        }
    }
}

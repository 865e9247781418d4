//! Finding out that a client is gone although its connection was never closed.

use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

use h2::{Ping, PingPong};
use tokio::time::{Instant, Sleep, sleep};

pub(super) const INTERVAL: Duration = Duration::from_secs(30);
pub(super) const TIMEOUT: Duration = Duration::from_secs(10);

/// Pings one connection for as long as it lives.
pub(super) struct Keepalive {
    pings: PingPong,
    awaited: bool,
    /// When the next ping is due, or the answer to the last one overdue.
    timer: Pin<Box<Sleep>>,
}

impl Keepalive {
    pub(super) fn new(pings: PingPong) -> Self {
        Self {
            pings,
            awaited: false,
            timer: Box::pin(sleep(INTERVAL)),
        }
    }

    /// Ends when the client has not answered in time. Nothing is lost when the future is dropped.
    pub(super) async fn lost(&mut self) {
        loop {
            tokio::select! {
                biased;
                pong = poll_fn(|cx| self.pings.poll_pong(cx)), if self.awaited => {
                    if pong.is_err() {
                        return;
                    }
                    self.wait(false);
                }
                () = &mut self.timer => {
                    if self.awaited || self.pings.send_ping(Ping::opaque()).is_err() {
                        return;
                    }
                    self.wait(true);
                }
            }
        }
    }

    fn wait(&mut self, for_pong: bool) {
        self.awaited = for_pong;
        let time = if for_pong { TIMEOUT } else { INTERVAL };
        self.timer.as_mut().reset(Instant::now() + time);
    }
}

//! Waiting for a condition with a deadline: the only way a test of this workspace lets time pass.

use std::fmt::Debug;
use std::time::{Duration, Instant};

/// How often a condition is looked at: short beside every deadline, long beside the cost of one look.
const POLL: Duration = Duration::from_millis(20);

/// Long enough for a server to start, or a lost connection to be noticed, on a machine with other work.
pub const PATIENT: Duration = Duration::from_secs(60);

/// Waits until `condition` holds.
///
/// # Panics
/// When `deadline` passes first; the message names `what`.
pub async fn until(deadline: Duration, what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let state = until_ok(
        deadline,
        what,
        async || if condition().await { Ok(()) } else { Err("not yet") },
    );
    state.await;
}

/// Waits until `attempt` gives a value, and returns it.
///
/// # Panics
/// When `deadline` passes first; the message names `what` and the last error.
pub async fn until_ok<T, E: Debug>(
    deadline: Duration,
    what: &str,
    mut attempt: impl AsyncFnMut() -> Result<T, E>,
) -> T {
    let start = Instant::now();
    loop {
        let last = match attempt().await {
            Ok(value) => return value,
            Err(error) => error,
        };
        assert!(
            start.elapsed() < deadline,
            "waited {deadline:?} for {what}, the last answer was {last:?}"
        );
        tokio::time::sleep(POLL).await;
    }
}

/// Watches that `condition` holds for the whole of `window`: silence is a result that needs time to be seen.
///
/// # Panics
/// As soon as it does not hold; the message names `what`.
pub async fn throughout(window: Duration, what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while start.elapsed() < window {
        assert!(
            condition().await,
            "{what} broke after {:?} of {window:?}",
            start.elapsed()
        );
        tokio::time::sleep(POLL).await;
    }
}

//! Waiting that fails with what was expected and what was seen instead, rather than with a panic.

use std::time::{Duration, Instant};

use anyhow::bail;

/// Short beside everything the demo waits for.
const POLL: Duration = Duration::from_millis(5);

/// Long enough for whatever should follow within a second, on a machine with other work.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// Asks until the answer is a value, and returns it.
///
/// # Errors
/// When `deadline` passes first: names what was expected, and the last answer.
pub(crate) async fn eventually<T>(
    deadline: Duration,
    expected: &str,
    mut ask: impl AsyncFnMut() -> Result<T, String>,
) -> anyhow::Result<T> {
    let begun = Instant::now();
    loop {
        let saw = match ask().await {
            Ok(value) => return Ok(value),
            Err(saw) => saw,
        };
        if begun.elapsed() >= deadline {
            bail!("expected {expected} within {} s, saw {saw}", deadline.as_secs());
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Checks one thing.
///
/// # Errors
/// When it does not hold: says what was expected and what was seen.
pub(crate) fn expect(holds: bool, expected: &str, saw: &str) -> anyhow::Result<()> {
    if holds {
        return Ok(());
    }
    bail!("expected {expected}, saw {saw}");
}

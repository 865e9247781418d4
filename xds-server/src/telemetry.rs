//! Logs: one JSON object a line, or text for a person at a terminal.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

/// Writes to standard error at `level` (`info`, or directives such as `leadsman_registry=debug,info`).
///
/// # Errors
/// When `level` is not understood, or logging was set up before.
pub(crate) fn init(level: &str) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(level)?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_span_events(FmtSpan::NONE);
    let set = if std::io::stderr().is_terminal() {
        builder.try_init()
    } else {
        builder
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .try_init()
    };
    set.map_err(|error| anyhow::anyhow!("logging can't be set up: {error}"))
}

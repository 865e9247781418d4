//! `make bench-registries`: from the write in each registry to the endpoint in Envoy, as a table for the documentation.

use std::io::Write;
use std::time::Duration;

use leadsman_tests::etcd::Version;
use leadsman_tests::judged::Judged;
use leadsman_tests::latency::{Latencies, measure, percentile};
use leadsman_tests::rigs::etcd;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let only: Vec<String> = std::env::args().skip(1).collect();
    say("| registry | the write itself | registry and adapter | Leadsman and Envoy | write to Envoy |")?;
    say("|---|---|---|---|---|")?;
    row(&only, "etcd 3.6", async || etcd::Rig::start(Version::V36).await).await?;
    Ok(())
}

/// One line; a name given on the command line leaves the others out.
async fn row<J: Judged>(only: &[String], name: &str, start: impl AsyncFnOnce() -> J) -> anyhow::Result<()> {
    if !only.is_empty()
        && !only
            .iter()
            .any(|word| name.to_lowercase().starts_with(&word.to_lowercase()))
    {
        return Ok(());
    }
    let Latencies {
        write,
        heard,
        ours,
        total,
    } = measure(start().await).await?;
    let cells = [&write, &heard, &ours, &total].map(|sorted| cell(sorted));
    say(&format!("| {name} | {} |", cells.join(" | ")))
}

/// p50 / p99 in milliseconds.
fn cell(sorted: &[Duration]) -> String {
    let at = |share| percentile(sorted, share).unwrap_or_default().as_secs_f64() * 1e3;
    format!("{:.1} / {:.1} ms", at(0.5), at(0.99))
}

fn say(line: &str) -> anyhow::Result<()> {
    writeln!(std::io::stdout(), "{line}")?;
    Ok(())
}

//! `make bench`: what a delivered change costs, beside other servers and beside the least it can cost.
//!
//! ```text
//!            etcd ──► leadsman │ go-control-plane, linear or snapshot ──► driver: N clients
//!  writer ──►                                                              ▲ receipts, and what they hold
//!            ───────► floor │ tonic echo ──────────────────────────────────┘
//! ```
//!
//! One server runs at a time, on core 0; the registry, the writer and the clients share what is left. The writer puts the
//! moment of a change into the change itself, so that each client knows how old it is when it comes.

mod control;
mod driver;
mod gates;
mod histogram;
mod lab;
mod machine;
mod plot;
mod population;
mod report;
mod subject;
mod wire;
mod workload;

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::SystemTime;

use anyhow::Context;
use clap::{Parser, Subcommand};
use rustix::process::{Resource, getrlimit, setrlimit};

use population::Population;
use report::Section;
use workload::Scale;

#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Measure and write a table and drawings.
    Run {
        /// smoke, quick or full.
        #[arg(default_value = "quick")]
        scale: String,
        /// Letters of workloads, such as ABF.
        #[arg(long, default_value = "ABCDEFG")]
        only: String,
        #[arg(long, default_value = "target/bench")]
        to: PathBuf,
    },
    /// Instructions, allocations and system calls per delivered update, against the thresholds of gates.json.
    Gates {
        /// Write the thresholds anew instead.
        #[arg(long)]
        record: bool,
    },
    /// The hand-framed control.
    Floor(Control),
    /// The plain control.
    Echo(Control),
}

#[derive(Debug, clap::Args)]
struct Control {
    address: SocketAddr,
    feed: SocketAddr,
    services: usize,
    endpoints: usize,
}

impl Control {
    fn population(&self) -> Population {
        Population {
            services: self.services,
            endpoints: self.endpoints,
        }
    }
}

fn main() -> anyhow::Result<()> {
    let most = getrlimit(Resource::Nofile);
    setrlimit(
        Resource::Nofile,
        rustix::process::Rlimit {
            current: most.maximum,
            maximum: most.maximum,
        },
    )?;
    let arguments = Arguments::parse();
    if let Verb::Floor(control) = &arguments.verb {
        return control::floor::serve(control.address, control.feed, control.population());
    }
    if matches!(arguments.verb, Verb::Run { .. } | Verb::Gates { .. }) {
        machine::divide()?;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        match arguments.verb {
            Verb::Run { scale, only, to } => run(&scale, &only, &to).await,
            Verb::Gates { record } => gates::run(record).await,
            Verb::Floor(control) | Verb::Echo(control) => {
                control::echo::serve(control.address, control.feed, control.population()).await
            }
        }
    })
}

async fn run(scale: &str, only: &str, to: &PathBuf) -> anyhow::Result<()> {
    let scale = match scale {
        "smoke" => Scale::Smoke,
        "quick" => Scale::Quick,
        "full" => Scale::Full,
        other => anyhow::bail!("no scale is called {other:?}: smoke, quick or full"),
    };
    fs::create_dir_all(to)?;
    let mut text = head(scale, only)?;
    for letter in only.chars() {
        say(&format!("==> {letter}"))?;
        let section = match letter {
            'A' => workload::churn(scale).await?,
            'B' => workload::herd(scale).await?,
            'C' => workload::growth(scale).await?,
            'D' => workload::idle(scale).await?,
            'E' => workload::ingest(scale).await?,
            'F' => workload::storm(scale).await?,
            'G' => workload::slow(scale).await?,
            other => anyhow::bail!("no workload is called {other:?}: A to G"),
        };
        text.push_str(&write(&section, to)?);
        // What is there already is worth having when a later workload fails.
        fs::write(to.join("performance.md"), &text)?;
    }
    say(&format!("load at the end: {}", machine::load()))?;
    say(&format!("{}", to.join("performance.md").display()))
}

fn head(scale: Scale, only: &str) -> anyhow::Result<String> {
    let seconds = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
    let command = scale.pick("make bench SMOKE=1", "make bench", "make bench FULL=1");
    Ok(format!(
        "{}\n# Results\n\n- `{command}` ({}, workloads {only}), {}\n- {}; load average before: {}\n\n",
        include_str!("../head.md").trim_end(),
        scale.name(),
        date(seconds),
        machine::describe(),
        machine::load()
    ))
}

fn write(section: &Section, to: &std::path::Path) -> anyhow::Result<String> {
    let mut text = section.markdown();
    if let Some(drawing) = plot::svg(section) {
        // Beside the page where the documentation has its drawings, so that the page can be copied as it is.
        let name = format!("performance/{}.svg", section.id.to_lowercase());
        fs::create_dir_all(to.join("performance"))?;
        fs::write(to.join(&name), drawing).with_context(|| name.clone())?;
        text.push_str(&format!("\n![{}]({name})\n", section.title));
    }
    say(&text)?;
    text.push('\n');
    Ok(text)
}

/// The day in UTC, by the rule of the Gregorian calendar.
fn date(seconds: u64) -> String {
    let leap = |year: u64| year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400);
    let (mut days, mut year) = (seconds / 86_400, 1970);
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let lengths = [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 1;
    for length in lengths {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    format!("{year}-{month:02}-{:02}", days + 1)
}

pub(crate) fn say(line: &str) -> anyhow::Result<()> {
    writeln!(std::io::stdout(), "{line}")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(super::date(0), "1970-01-01");
        assert_eq!(super::date(951_782_400), "2000-02-29");
        assert_eq!(super::date(1_735_689_599), "2024-12-31");
    }
}

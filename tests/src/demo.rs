//! The demo: a real etcd, a real Envoy and real traffic, and step by step what happens to them.
//!
//! Every number is asked of Envoy's admin interface, of the filter's counters there, or of Leadsman's admin API. A step
//! that does not show what it should ends the demo, which then exits with an error and keeps the logs.

mod counters;
mod ingress;
mod instance;
mod screen;
mod steps;
mod wait;
mod world;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;

use crate::process::built;
use screen::Screen;
use world::{ORDERS, World};

/// What the command line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Leave everything running at the end.
    pub keep: bool,
    /// How long etcd stays dead.
    pub outage: Duration,
    /// What was done before, and how long it took.
    pub parts: Vec<(String, Duration)>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            keep: false,
            outage: Duration::from_secs(60),
            parts: Vec::new(),
        }
    }
}

impl Options {
    pub const USAGE: &str = "usage: demo [--keep] [--outage SECONDS] [--spent PART=SECONDS]...";

    /// # Errors
    /// When an argument is not understood.
    pub fn parse(arguments: impl IntoIterator<Item = String>) -> anyhow::Result<Self> {
        let mut options = Self::default();
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().context(Self::USAGE);
            match argument.as_str() {
                "--keep" => options.keep = true,
                "--outage" => options.outage = Duration::from_secs(value()?.parse().context(Self::USAGE)?),
                "--spent" => {
                    let spent = value()?;
                    let (part, seconds) = spent.split_once('=').context(Self::USAGE)?;
                    let took = Duration::from_secs(seconds.parse().context(Self::USAGE)?);
                    options.parts.push((part.to_owned(), took));
                }
                _ => anyhow::bail!(Self::USAGE),
            }
        }
        Ok(options)
    }
}

/// Runs the demo to its end, and says whether every step showed what it should.
///
/// # Errors
/// When a directory for the logs can't be made; what goes wrong in a step is shown, and is `false`.
pub async fn run(options: Options) -> anyhow::Result<bool> {
    let directory = fresh_directory()?;
    let mut screen = Screen::new(options.parts.clone());
    screen.line("Leadsman's demo: what the registry says, and what Envoy does.");
    let outcome = tokio::select! {
        outcome = steps(&mut screen, &options, &directory) => Some(outcome),
        _ = tokio::signal::ctrl_c() => None,
    };
    let Some(outcome) = outcome else {
        screen.line("Interrupted.");
        delete(&directory);
        return Ok(false);
    };
    screen.times();
    let Ok(world) = outcome else {
        // The step has said why.
        screen.line(&format!("\nThe demo FAILED. The logs are in {}", directory.display()));
        return Ok(false);
    };
    screen.line("\nEvery step showed what it should.");
    if options.keep {
        keep(&mut screen, &world).await;
    }
    drop(world);
    delete(&directory);
    Ok(true)
}

/// A leftover that can't be deleted is in nobody's way.
fn delete(directory: &Path) {
    let _ = fs::remove_dir_all(directory);
}

async fn steps(screen: &mut Screen, options: &Options, directory: &Path) -> anyhow::Result<World> {
    let started = screen.step(
        "Start etcd, four backends, leadsman and Envoy with the filter",
        async |screen| steps::start(screen, directory).await,
    );
    let (mut world, backends) = started.await?;
    let outcome = changes(screen, options, &mut world, backends).await;
    world.keep_logs();
    outcome.map(|()| world)
}

async fn changes(
    screen: &mut Screen,
    options: &Options,
    world: &mut World,
    backends: steps::Backends,
) -> anyhow::Result<()> {
    let heading = "Register three instances of orders in etcd, each under a lease";
    screen
        .step(heading, async |screen| steps::register(screen, world, backends).await)
        .await?;
    let heading = "Change a weight: orders-3 counts four times";
    screen
        .step(heading, async |screen| steps::reweigh(screen, world).await)
        .await?;
    let heading = "Drain orders-3, and take it back";
    screen
        .step(heading, async |screen| steps::drain(screen, world).await)
        .await?;
    let heading = "Kill orders-2: the process, and with it the lease";
    screen
        .step(heading, async |screen| steps::crash(screen, world).await)
        .await?;
    let heading = format!("Kill etcd for {} s, under load", options.outage.as_secs());
    let outage = options.outage;
    screen
        .step(&heading, async |screen| steps::lose_etcd(screen, world, outage).await)
        .await?;
    let heading = "Start etcd again, and register one more instance";
    screen
        .step(heading, async |screen| steps::regain_etcd(screen, world).await)
        .await?;
    let heading = "Time 200 changes from the write in etcd to the endpoint in Envoy";
    screen
        .step(heading, async |screen| steps::latency(screen, world).await)
        .await?;
    let heading = "Ask leadsman why";
    screen
        .step(heading, async |screen| steps::explain(screen, world).await)
        .await?;
    let heading = "Repair a trace context, and read what the filter counted";
    screen
        .step(heading, async |screen| steps::filter(screen, world).await)
        .await?;
    let heading = "See that Envoy is content";
    screen
        .step(heading, async |screen| steps::clean(screen, world).await)
        .await
}

/// Shows where everything is, and leaves it there until somebody presses Ctrl-C.
async fn keep(screen: &mut Screen, world: &World) {
    let (admin, etcd) = (world.leadsman.admin(), world.etcd.address());
    screen.line("\nAll of it keeps running until Ctrl-C.");
    screen.fact("through Envoy", &format!("curl -i http://{}/{ORDERS}/1", world.ingress));
    screen.fact("Envoy's admin", &format!("http://{}/clusters", world.envoy.admin()));
    screen.fact(
        "the filter's counters",
        &format!("http://{}/stats/prometheus", world.envoy.admin()),
    );
    screen.fact("leadsman's admin", &format!("http://{admin}/api/v1/explain/{ORDERS}"));
    screen.fact("leadsman's metrics", &format!("http://{admin}/metrics"));
    screen.fact(
        "leadsman",
        &format!("target/debug/leadsman status --server http://{admin}"),
    );
    screen.fact(
        "etcd",
        &format!(".tools/venv/bin/etcdctl --endpoints {etcd} get --prefix /services/"),
    );
    screen.fact(
        "files",
        &world.leadsman.directory().join("services").display().to_string(),
    );
    screen.fact("logs", &world.directory.display().to_string());
    if tokio::signal::ctrl_c().await.is_err() {
        screen.line("Ctrl-C can't be waited for here.");
    }
}

/// A directory for the logs of this run, below `target`. What earlier runs left there is deleted, unless they still run.
fn fresh_directory() -> anyhow::Result<PathBuf> {
    let target = built("..", "make build").canonicalize()?;
    let all = target.join("demo");
    let own = all.join(std::process::id().to_string());
    for run in all.read_dir().into_iter().flatten().flatten() {
        let alive = Path::new("/proc").join(run.file_name()).exists();
        if !alive || run.path() == own {
            delete(&run.path());
        }
    }
    fs::create_dir_all(&own).with_context(|| format!("can't make {}", own.display()))?;
    // Below it the servers keep their data, so that their logs can be linked from it.
    tempfile::env::override_temp_dir(&own)
        .ok()
        .context("the temporary directory is set already")?;
    Ok(own)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> anyhow::Result<Options> {
        Options::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn the_command_line_is_read_and_what_is_not_understood_is_refused() {
        assert_eq!(parse("").unwrap(), Options::default());
        let options = parse("--keep --outage 5 --spent setup=3 --spent build=70").unwrap();
        let part = |name: &str, seconds| (name.to_owned(), Duration::from_secs(seconds));
        assert_eq!((options.keep, options.outage.as_secs()), (true, 5));
        assert_eq!(options.parts, [part("setup", 3), part("build", 70)]);
        for line in [
            "--outage",
            "--outage soon",
            "--spent build",
            "--spent build=x",
            "keep",
            "--help",
        ] {
            assert_eq!(parse(line).unwrap_err().to_string(), Options::USAGE, "{line}");
        }
    }
}

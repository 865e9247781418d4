//! The servers under test, each started the same way: on a core of its own, and on the registry that the others read.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::Context;
use leadsman_tests::http::Http;
use leadsman_tests::process::{Process, built, free_port, tool};
use leadsman_tests::wait::until_ok;
use tempfile::TempDir;

use crate::machine::server_core;
use crate::population::{PREFIX, Population, SOURCE};

/// Listing half a million keys under an instrumenting tool takes its time.
const START: Duration = Duration::from_secs(300);
pub(crate) const REFERENCE: &str = "servers/reference-xds-0.14.0/reference-xds";

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Leadsman,
    /// go-control-plane's `LinearCache`.
    Linear,
    /// go-control-plane's `SnapshotCache`, all nodes in one group.
    Snapshot,
    Echo,
    Floor,
}

/// Those that read the registry.
pub(crate) const SERVERS: [Kind; 3] = [Kind::Leadsman, Kind::Linear, Kind::Snapshot];
pub(crate) const CONTROLS: [Kind; 2] = [Kind::Echo, Kind::Floor];

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Leadsman => "leadsman",
            Self::Linear => "go linear",
            Self::Snapshot => "go snapshot",
            Self::Echo => "tonic echo",
            Self::Floor => "floor",
        }
    }

    pub(crate) fn reads_the_registry(self) -> bool {
        match self {
            Self::Leadsman | Self::Linear | Self::Snapshot => true,
            Self::Echo | Self::Floor => false,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Subject {
    pub(crate) kind: Kind,
    pub(crate) address: SocketAddr,
    pub(crate) process: Process,
    admin: SocketAddr,
    /// Deleted with the process.
    _directory: TempDir,
}

impl Subject {
    /// Starts a server and waits until it serves. With `wrapper`, it runs under that program and on our cores.
    pub(crate) async fn start(
        kind: Kind,
        etcd: SocketAddr,
        population: Population,
        wrapper: &[String],
    ) -> anyhow::Result<Self> {
        let directory = TempDir::new()?;
        let local = || SocketAddr::from(([127, 0, 0, 1], free_port()));
        let (address, admin) = (local(), local());
        let arguments = arguments(kind, [address, admin, etcd], population, &directory)?;
        let pinned = server_core().map(|core| ["taskset".to_owned(), "-c".to_owned(), core.to_string()]);
        let before = match &pinned {
            Some(pinned) if wrapper.is_empty() => pinned.as_slice(),
            Some(_) | None => wrapper,
        };
        let mut words = before.iter().map(Into::into).chain(arguments);
        let mut command = Command::new(words.next().context("no program")?);
        command.args(words).current_dir(directory.path());
        // One core, one thread: both runtimes would otherwise start as many as the machine has.
        command.env("TOKIO_WORKER_THREADS", "1").env("GOMAXPROCS", "1");
        let mut subject = Self {
            kind,
            address,
            process: Process::spawn(kind.name(), command, directory.path()),
            admin,
            _directory: directory,
        };
        subject.ready().await;
        Ok(subject)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    async fn ready(&mut self) {
        let http = Http::new();
        until_ok(START, self.kind.name(), async || {
            anyhow::ensure!(self.process.is_running(), "it ended: {}", self.process.log());
            match self.kind {
                Kind::Leadsman => {
                    let answer = http.get(self.admin, "/readyz").await?;
                    anyhow::ensure!(answer.status.is_success(), "{}", answer.text());
                }
                Kind::Linear | Kind::Snapshot => {
                    anyhow::ensure!(self.process.log().contains("ready"), "{}", self.process.log());
                }
                Kind::Echo | Kind::Floor => drop(TcpStream::connect(self.address)?),
            }
            Ok(())
        })
        .await;
    }

    /// Where changes are made: for a control on its own connection, else in the registry.
    pub(crate) fn feed(&self) -> anyhow::Result<Option<TcpStream>> {
        if self.kind.reads_the_registry() {
            return Ok(None);
        }
        let feed = TcpStream::connect(self.admin)?;
        feed.set_nodelay(true)?;
        Ok(Some(feed))
    }
}

fn arguments(
    kind: Kind,
    [address, admin, etcd]: [SocketAddr; 3],
    population: Population,
    directory: &TempDir,
) -> anyhow::Result<Vec<std::ffi::OsString>> {
    let words = |program: PathBuf, arguments: &[String]| {
        let arguments = arguments.iter().map(Into::into);
        std::iter::once(program.into_os_string()).chain(arguments).collect()
    };
    Ok(match kind {
        Kind::Leadsman => {
            let config = format!(
                "node: {{ id: bench }}\nxds: {{ listen: '{address}' }}\nadmin: {{ listen: '{admin}' }}\n\
                 sources:\n  {SOURCE}: {{ etcd: {{ endpoints: ['http://{etcd}'], prefix: {PREFIX}, layout: leadsman }} }}\n"
            );
            let mut file = std::fs::File::create(directory.path().join("leadsman.yaml"))?;
            file.write_all(config.as_bytes())?;
            let program = built("leadsman", "make bench");
            words(program, &["serve", "--config", "leadsman.yaml"].map(ToOwned::to_owned))
        }
        Kind::Linear | Kind::Snapshot => {
            let cache = if kind == Kind::Linear { "linear" } else { "snapshot" };
            let arguments = [
                format!("-listen={address}"),
                format!("-etcd={etcd}"),
                format!("-prefix={PREFIX}"),
                format!("-cache={cache}"),
                format!("-source={SOURCE}"),
            ];
            words(tool(REFERENCE, "make reference-xds"), &arguments)
        }
        Kind::Echo | Kind::Floor => {
            let control = if kind == Kind::Echo { "echo" } else { "floor" };
            let arguments = [
                control.to_owned(),
                address.to_string(),
                admin.to_string(),
                population.services.to_string(),
                population.endpoints.to_string(),
            ];
            words(std::env::current_exe()?, &arguments)
        }
    })
}

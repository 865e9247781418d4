//! Real gRPC clients without a proxy, on both implementations, and servers for them to call.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStdin, ChildStdout};

use crate::process::{Process, free_port, tool, wheel_in, workspace};
use crate::wait::{PATIENT, until};

const INSTALL: &str = "make clients";

/// Whose gRPC it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Implementation {
    Go,
    /// The C++ core, in Python's `grpcio`.
    Core,
}

impl Implementation {
    pub const ALL: [Self; 2] = [Self::Go, Self::Core];
}

/// How one call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// The server that answered.
    Answered(SocketAddr),
    Failed {
        code: String,
        millis: u64,
        why: String,
    },
}

impl Call {
    pub fn is_answered_by(&self, server: SocketAddr) -> bool {
        *self == Self::Answered(server)
    }

    /// Whether the call failed before any time limit: gRPC waits 15 s for a resource it hears nothing of.
    pub fn failed_at_once(&self) -> bool {
        match self {
            Self::Answered(_) => false,
            Self::Failed { code, millis, .. } => code.eq_ignore_ascii_case("unavailable") && *millis < 10_000,
        }
    }
}

/// A client process; it ends with this value.
#[derive(Debug)]
pub struct Client {
    _child: Child,
    commands: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    _directory: TempDir,
}

impl Client {
    /// Starts a client with what `leadsman bootstrap --grpc` printed.
    ///
    /// # Panics
    /// When the client is not installed, or does not start.
    pub fn start(implementation: Implementation, bootstrap: &Value) -> Self {
        let directory = TempDir::new().unwrap_or_else(|error| panic!("no directory: {error}"));
        let path = directory.path().join("grpc.json");
        let written = std::fs::write(&path, bootstrap.to_string());
        assert!(written.is_ok(), "can't write {}: {written:?}", path.display());
        let mut child = tokio::process::Command::from(command(implementation, &path))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("can't start a gRPC client: {error}"));
        let (Some(commands), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            panic!("a client without pipes")
        };
        Self {
            _child: child,
            commands,
            lines: BufReader::new(output).lines(),
            _directory: directory,
        }
    }

    /// Calls a service so many times, one after the other.
    ///
    /// # Panics
    /// When the client ends.
    pub async fn call(&mut self, service: &str, times: usize) -> Vec<Call> {
        let asked = format!("xds:///{service} {times}\n");
        let sent = self.commands.write_all(asked.as_bytes()).await;
        assert!(sent.is_ok(), "the client is gone: {sent:?}");
        let mut calls = Vec::with_capacity(times);
        for _ in 0..times {
            let line = self.lines.next_line().await;
            let line = line.ok().flatten().unwrap_or_else(|| panic!("the client ended"));
            calls.push(parse(&line));
        }
        calls
    }
}

fn command(implementation: Implementation, bootstrap: &Path) -> Command {
    let mut command = match implementation {
        Implementation::Go => Command::new(go()),
        Implementation::Core => {
            let mut python = Command::new(tool("clients/grpcio/bin/python", INSTALL));
            let _installed = wheel_in("clients/grpcio", "grpc/__init__.py", INSTALL);
            python.arg(workspace().join("tests/servers/grpcio/client.py"));
            python
        }
    };
    command
        .env("GRPC_XDS_BOOTSTRAP", bootstrap)
        .env("GRPC_VERBOSITY", "NONE");
    command
}

fn go() -> PathBuf {
    tool("clients/grpc-go", INSTALL)
}

/// `ok ADDRESS` or `failed CODE MILLISECONDS "REASON"`.
fn parse(line: &str) -> Call {
    read(line).unwrap_or_else(|| panic!("not an answer: {line}"))
}

fn read(line: &str) -> Option<Call> {
    if let Some(address) = line.strip_prefix("ok ") {
        return Some(Call::Answered(address.parse().ok()?));
    }
    let mut words = line.strip_prefix("failed ")?.splitn(3, ' ');
    Some(Call::Failed {
        code: words.next()?.to_owned(),
        millis: words.next()?.parse().ok()?,
        why: words.next()?.to_owned(),
    })
}

/// A gRPC server; dropping it kills it.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    _process: Process,
    _directory: TempDir,
}

impl Server {
    /// # Panics
    /// When it does not start.
    pub async fn start() -> Self {
        let directory = TempDir::new().unwrap_or_else(|error| panic!("no directory: {error}"));
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let mut command = Command::new(go());
        command.arg("-serve").arg(address.to_string());
        let process = Process::spawn("grpc-server", command, directory.path());
        until(PATIENT, "a gRPC server", async || {
            TcpStream::connect(address).await.is_ok()
        })
        .await;
        Self {
            address,
            _process: process,
            _directory: directory,
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

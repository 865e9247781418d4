//! A real Nacos of one server, that can be killed, paused, restarted, emptied and locked; and one of each version that
//! all tests of a process share.

mod writer;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use http::StatusCode;
use tempfile::TempDir;
use tokio::sync::OnceCell;

pub use self::writer::{Writer, record};
use crate::claim::{Turn, claim_port};
use crate::http::Http;
use crate::process::{Process, free_port, tool};
use crate::wait::{PATIENT, until_ok};

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    V25,
    V31,
}

/// How a server is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setup {
    pub version: Version,
    /// Only users may read and write. Tokens are worth nothing after five seconds.
    pub locked: bool,
    /// Subscribers are told of changes as slowly as Nacos tells them by default.
    pub slow: bool,
}

/// What the only administrator of a server that asks for one is called, and her password.
pub const ADMIN: (&str, &str) = ("nacos", "administrator");

/// One server; dropping it kills it and deletes its data.
#[derive(Debug)]
pub struct Nacos {
    setup: Setup,
    port: u16,
    process: Process,
    directory: TempDir,
}

impl Setup {
    pub fn of(version: Version) -> Self {
        Self {
            version,
            locked: false,
            slow: false,
        }
    }
}

/// The server of a version that all tests of this process share; 2.5 is locked, 3.1 is open. Each test has a namespace of
/// its own. It ends with the process.
pub async fn shared(version: Version) -> &'static Nacos {
    static V25: OnceCell<Nacos> = OnceCell::const_new();
    static V31: OnceCell<Nacos> = OnceCell::const_new();
    let cell = match version {
        Version::V25 => &V25,
        Version::V31 => &V31,
    };
    let start = async || {
        let nacos = Nacos::start(Setup {
            locked: version == Version::V25,
            ..Setup::of(version)
        });
        let nacos = nacos.await;
        // What is shared is never dropped, and its data is half a gigabyte.
        delete_at_exit(nacos.directory.path());
        nacos
    };
    cell.get_or_init(start).await
}

impl Nacos {
    pub async fn start(setup: Setup) -> Self {
        let directory = TempDir::new().unwrap_or_else(|error| panic!("no directory for Nacos: {error}"));
        certify(directory.path());
        let port = four_ports();
        let turn = Turn::take().await;
        let mut nacos = Self {
            setup,
            port,
            process: spawn(setup, port, directory.path()),
            directory,
        };
        nacos.ready().await;
        drop(turn);
        if setup.locked {
            nacos.make_admin().await;
        }
        nacos
    }

    /// Of HTTP.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    pub fn grpc_address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port + 1000))
    }

    /// The certificate under which gRPC may be spoken; it is spoken without one, too.
    pub fn certificate(&self) -> PathBuf {
        self.directory.path().join("cert.pem")
    }

    /// `SIGKILL`.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// `SIGSTOP`: accepts connections and answers nothing.
    pub fn pause(&self) {
        self.process.pause();
    }

    /// `SIGCONT`.
    pub fn resume(&self) {
        self.process.resume();
    }

    /// Starts a killed server where it was. Instances that only live in its memory are gone, whatever becomes of its data.
    pub async fn restart(&mut self) {
        let _turn = Turn::take().await;
        self.process = spawn(self.setup, self.port, self.directory.path());
        self.ready().await;
    }

    async fn ready(&mut self) {
        let http = Http::new();
        let path = match self.setup.version {
            Version::V25 => "/nacos/v1/ns/operator/metrics",
            Version::V31 => "/nacos/v3/admin/core/state/readiness",
        };
        // Several Java servers that start at once on two cores take their time.
        let mut again = 2;
        until_ok(3 * PATIENT, "Nacos to answer", async || {
            if !self.process.is_running() {
                let log = self.process.log();
                // It gives its own database a few seconds to open, and ends where a busy machine does not have them.
                assert!(
                    again > 0 && log.contains("Login timeout exceeded"),
                    "Nacos ended:\n{log}"
                );
                again -= 1;
                self.process = spawn(self.setup, self.port, self.directory.path());
            }
            match http.get(self.address(), path).await {
                Ok(answer) if answer.status == StatusCode::OK => Ok(()),
                Ok(answer) => Err(answer.status.to_string()),
                Err(error) => Err(error.to_string()),
            }
        })
        .await;
    }
}

/// A port whose neighbours are free too: Nacos takes those 1000 and 1001 above, and 1000 below.
fn four_ports() -> u16 {
    loop {
        let port = free_port();
        if [port + 1000, port + 1001, port - 1000].into_iter().all(claim_port) {
            return port;
        }
    }
}

fn certify(directory: &Path) {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]);
    let made = made.unwrap_or_else(|error| panic!("no certificate: {error}"));
    let write = |name: &str, text: String| {
        let written = std::fs::write(directory.join(name), text);
        assert!(written.is_ok(), "can't write {name}: {written:?}");
    };
    write("cert.pem", made.cert.pem());
    write("key.pem", made.signing_key.serialize_pem());
}

fn spawn(setup: Setup, port: u16, home: &Path) -> Process {
    let (server, port) = match setup.version {
        Version::V25 => ("servers/nacos-2.5.0", format!("-Dserver.port={port}")),
        Version::V31 => ("servers/nacos-3.1.0-bugfix", format!("-Dnacos.server.main.port={port}")),
    };
    let server = tool(server, "make servers");
    let mut command = Command::new("java");
    // The archive of its classes names its jar as it was called there.
    command
        .current_dir(&server)
        .args(["-XX:SharedArchiveFile=classes.jsa", &port])
        .args([
            "-Xmx160m",
            "-XX:TieredStopAtLevel=1",
            "-XX:+UseSerialGC",
            "-Djava.net.preferIPv4Stack=true",
            "-Dnacos.standalone=true",
        ]);
    if setup.version == Version::V25 {
        for package in ["lang", "lang.reflect", "math", "util"] {
            command
                .arg("--add-opens")
                .arg(format!("java.base/java.{package}=ALL-UNNAMED"));
        }
    }
    let property = |name: &str, value: &dyn std::fmt::Display| format!("-D{name}={value}");
    let delay = if setup.slow { 500 } else { 50 };
    command.args([
        property("nacos.home", &home.display()),
        property("nacos.logs.path", &home.join("logs").display()),
        property("java.io.tmpdir", &home.display()),
        property("derby.stream.error.file", &home.join("derby.log").display()),
        property("nacos.naming.push.pushTaskDelay", &delay),
        property("nacos.core.auth.enabled", &setup.locked),
        property("nacos.core.auth.admin.enabled", &setup.locked),
        property("nacos.core.auth.plugin.nacos.token.expire.seconds", &5),
        property("nacos.remote.server.rpc.tls.enableTls", &true),
        property("nacos.remote.server.rpc.tls.compatibility", &true),
        property(
            "nacos.remote.server.rpc.tls.certChainFile",
            &format!("file:{}", home.join("cert.pem").display()),
        ),
        property(
            "nacos.remote.server.rpc.tls.certPrivateKey",
            &format!("file:{}", home.join("key.pem").display()),
        ),
    ]);
    command.args(["-jar", "nacos.jar"]);
    Process::spawn("nacos", command, home)
}

/// Deletes a directory when this process has ended, in whatever way: then the pipe to the one who deletes it breaks.
fn delete_at_exit(directory: &Path) {
    /// Kept for as long as the process lives, and their pipes with them.
    static WAITING: Mutex<Vec<Child>> = Mutex::new(Vec::new());
    let mut command = Command::new("sh");
    command
        .args(["-c", "trap '' INT TERM; cat; sleep 1; rm -rf \"$0\""])
        .arg(directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let spawned = command.spawn();
    let mut waiting = WAITING.lock().unwrap_or_else(PoisonError::into_inner);
    waiting.push(spawned.unwrap_or_else(|error| panic!("can't start sh: {error}")));
}

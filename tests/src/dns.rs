//! Real DNS servers: BIND, whose zones can be changed, broken and lost, and dnsmasq, which knows no zones and has a cache.

use std::fmt::Write;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::process::{Process, free_port, tool};
use crate::wait::{PATIENT, until_ok};

/// The zone that tests may change.
pub const ZONE: &str = "leadsman.test.";
/// A zone whose file can't be read until [`Named::mend`]: every name in it is a SERVFAIL.
pub const BROKEN: &str = "broken.test.";
/// The serial that a zone begins with.
pub const FIRST_SERIAL: u32 = 100;

/// Where `make servers` puts them.
const DIRECTORY: &str = "servers/debian-dns";

const UNREADABLE: &str = "nothing that anybody could read\n";
const OUTSIDE: &str = "@ 0 SOA ns admin 7 3600 600 86400 0\n@ 0 NS ns\nns 0 A 127.0.0.1\n";

/// A BIND with authority for [`ZONE`] and [`BROKEN`]; dropping it kills it and deletes its data.
#[derive(Debug)]
pub struct Named {
    port: u16,
    setup: Setup,
    process: Process,
    directory: TempDir,
}

/// What is written into the configuration of a BIND.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    /// Statements for `options`.
    pub options: String,
    /// Further zones. The file `outside` has what every zone needs, and `ns` at 127.0.0.1.
    pub zones: String,
    /// No authority for [`ZONE`].
    pub without_zone: bool,
}

/// What remains of a BIND that is restarted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Data {
    /// All of it.
    Kept,
    /// The zone is as it was at its very beginning.
    Lost,
    /// The zone's file can't be read.
    Broken,
}

/// A change of the zone, in the words of a zone file.
#[derive(Clone, Debug)]
pub enum Change {
    /// `name ttl type data`.
    Add(String),
    /// `name type data`.
    Remove(String),
    /// `name type`: all of them.
    RemoveAll(String),
}

impl Named {
    pub async fn start() -> Self {
        Self::start_with(Setup::default()).await
    }

    pub async fn start_with(setup: Setup) -> Self {
        let directory = TempDir::new().unwrap_or_else(|error| panic!("no directory for BIND: {error}"));
        let port = free_port();
        write(&directory, "zone", &first_zone());
        write(&directory, "broken", UNREADABLE);
        write(&directory, "outside", OUTSIDE);
        let process = launch(port, &setup, &directory);
        let mut named = Self {
            port,
            setup,
            process,
            directory,
        };
        named.ready().await;
        named
    }

    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// Changes the zone, all at once.
    ///
    /// # Panics
    /// When BIND refuses.
    pub async fn update(&self, changes: &[Change]) {
        let mut message = Message::new(1, MessageType::Query, OpCode::Update);
        message.add_query(Query::query(name(ZONE), RecordType::SOA));
        message.add_authorities(changes.iter().map(record));
        // Doing it twice is doing it once, so a connection that BIND had no room for may be tried again.
        let answer = until_ok(PATIENT, "BIND to take a change", async || {
            exchange(self.address(), &message).await
        })
        .await;
        let code = answer.metadata.response_code;
        assert_eq!(code, ResponseCode::NoError, "BIND refused {changes:?}");
    }

    /// Gives [`BROKEN`] a file that can be read, with the records of a zone file.
    pub fn mend(&self, records: &str) {
        let soa = "@ 0 SOA ns.broken.test. admin.broken.test. 1 3600 600 86400 0\n@ 0 NS ns\nns 0 A 127.0.0.1\n";
        write(&self.directory, "broken", &format!("$ORIGIN {BROKEN}\n{soa}{records}"));
        self.process.hang_up();
    }

    /// Takes the file of [`BROKEN`] away again, which shows when BIND is restarted.
    pub fn unmend(&self) {
        write(&self.directory, "broken", UNREADABLE);
    }

    /// `SIGKILL`.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// `SIGSTOP`: takes questions and answers nothing.
    pub fn pause(&self) {
        self.process.pause();
    }

    /// `SIGCONT`.
    pub fn resume(&self) {
        self.process.resume();
    }

    /// Starts a killed BIND on the port it had.
    pub async fn restart(&mut self, data: Data) {
        match data {
            Data::Kept => self.launch().await,
            Data::Lost => self.restart_from("").await,
            Data::Broken => self.launch_with(UNREADABLE).await,
        }
    }

    /// The same with a zone that is at its first version, and has these records of a zone file.
    pub async fn restart_from(&mut self, records: &str) {
        self.launch_with(&format!("{}{records}", first_zone())).await;
    }

    async fn launch_with(&mut self, zone: &str) {
        // The journal of the zone's changes, which may not be there yet.
        let _ = fs::remove_file(self.directory.path().join("zone.jnl"));
        write(&self.directory, "zone", zone);
        self.launch().await;
    }

    async fn launch(&mut self) {
        self.process = launch(self.port, &self.setup, &self.directory);
        self.ready().await;
    }

    /// What BIND answers itself, past every proxy.
    ///
    /// # Panics
    /// When it does not.
    pub async fn answers(&self, question: &str) -> Message {
        let (name_of, kind) = question
            .split_once(' ')
            .unwrap_or_else(|| panic!("{question:?} is not `name type`"));
        ask(self.address(), name_of, kind)
            .await
            .unwrap_or_else(|error| panic!("BIND does not answer {question:?}: {error}"))
    }

    async fn ready(&mut self) {
        let address = self.address();
        until_ok(PATIENT, "BIND to answer", async || {
            assert!(self.process.is_running(), "BIND ended:\n{}", self.process.log());
            // Whatever it says.
            ask(address, ZONE, "SOA").await
        })
        .await;
    }
}

fn launch(port: u16, setup: &Setup, directory: &TempDir) -> Process {
    let path = directory.path().display();
    let Setup {
        options,
        zones,
        without_zone,
    } = setup;
    let zone = format!("zone \"{ZONE}\" {{ type primary; file \"zone\"; allow-update {{ any; }}; }};");
    let zone = if *without_zone { "" } else { &zone };
    let configuration = format!(
        "options {{\n  directory \"{path}\"; managed-keys-directory \"{path}\";\n  listen-on port {port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }};\n  \
         pid-file none; lock-file none; session-keyfile none;\n  recursion no; allow-query {{ any; }}; dnssec-validation no; notify no; empty-zones-enable no;\n  \
         minimal-responses yes; tcp-clients 500;\n  {options}\n}};\ncontrols {{ }};\n\
         {zone}\n\
         zone \"{BROKEN}\" {{ type primary; file \"broken\"; }};\n{zones}\n"
    );
    write(directory, "named.conf", &configuration);
    let mut command = server("named");
    command
        .args(["-f", "-g", "-n", "1", "-c"])
        .arg(directory.path().join("named.conf"));
    Process::spawn("named", command, directory.path())
}

fn first_zone() -> String {
    format!(
        "$ORIGIN {ZONE}\n@ 0 SOA ns.{ZONE} admin.{ZONE} {FIRST_SERIAL} 3600 600 86400 0\n@ 0 NS ns\nns 0 A 127.0.0.1\n"
    )
}

/// A dnsmasq; dropping it kills it.
#[derive(Debug)]
pub struct Dnsmasq {
    port: u16,
    arguments: Vec<String>,
    process: Process,
    directory: TempDir,
}

impl Dnsmasq {
    /// Starts with options of dnsmasq's command line besides the harness's own.
    pub async fn start(arguments: &[&str]) -> Self {
        let directory = TempDir::new().unwrap_or_else(|error| panic!("no directory for dnsmasq: {error}"));
        let port = free_port();
        write(&directory, "hosts", "");
        let arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
        let process = launch_dnsmasq(port, &arguments, &directory);
        let mut dnsmasq = Self {
            port,
            arguments,
            process,
            directory,
        };
        dnsmasq.ready().await;
        dnsmasq
    }

    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// Replaces the hosts, `(name, address)`.
    pub fn hosts(&self, hosts: &[(&str, &str)]) {
        let mut text = String::new();
        for (name, address) in hosts {
            // Writing to a string can't fail.
            let _ = writeln!(text, "{address} {name}");
        }
        write(&self.directory, "hosts", &text);
        self.process.hang_up();
    }

    /// Ends it and starts it anew with other options.
    pub async fn restart(&mut self, arguments: &[&str]) {
        self.process.kill();
        self.arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        self.process = launch_dnsmasq(self.port, &self.arguments, &self.directory);
        self.ready().await;
    }

    async fn ready(&mut self) {
        let address = self.address();
        until_ok(PATIENT, "dnsmasq to answer", async || {
            assert!(self.process.is_running(), "dnsmasq ended:\n{}", self.process.log());
            ask(address, "ready.dnsmasq.test.", "A").await
        })
        .await;
    }
}

fn launch_dnsmasq(port: u16, arguments: &[String], directory: &TempDir) -> Process {
    let mut command = server("dnsmasq");
    command
        .args([
            "--no-daemon",
            "--conf-file=/dev/null",
            "--no-resolv",
            "--no-hosts",
            "--bind-interfaces",
        ])
        .args(["--listen-address=127.0.0.1", "--pid-file=", "--local=/dnsmasq.test/"])
        .arg(format!("--port={port}"))
        .arg(format!("--addn-hosts={}", directory.path().join("hosts").display()))
        .args(arguments);
    Process::spawn("dnsmasq", command, directory.path())
}

/// A program with the libraries it was packaged with.
fn server(program: &str) -> Command {
    let binary = tool(&format!("{DIRECTORY}/{program}"), "make servers");
    let libraries: PathBuf = binary.parent().unwrap_or(&binary).join("lib");
    let mut command = Command::new(&binary);
    command.env("LD_LIBRARY_PATH", libraries);
    command
}

fn write(directory: &TempDir, file: &str, text: &str) {
    let path: &Path = &directory.path().join(file);
    fs::write(path, text).unwrap_or_else(|error| panic!("can't write {}: {error}", path.display()));
}

fn name(text: &str) -> Name {
    let mut name = Name::from_ascii(text).unwrap_or_else(|error| panic!("{text:?} is no name: {error}"));
    name.set_fqdn(true);
    name
}

fn kind(text: &str) -> RecordType {
    text.parse()
        .unwrap_or_else(|error| panic!("{text:?} is no type: {error}"))
}

/// A change as RFC 2136 writes it.
fn record(change: &Change) -> Record {
    match change {
        Change::Add(line) => {
            let (owner, rest) = word(line);
            let (ttl, rest) = word(rest);
            let (of, data) = word(rest);
            let ttl = ttl.parse().unwrap_or_else(|error| panic!("{ttl:?} is no TTL: {error}"));
            Record::from_rdata(name(owner), ttl, data_of(of, data))
        }
        Change::Remove(line) => {
            let (owner, rest) = word(line);
            let (of, data) = word(rest);
            let mut record = Record::from_rdata(name(owner), 0, data_of(of, data));
            record.dns_class = DNSClass::NONE;
            record
        }
        Change::RemoveAll(line) => {
            let (owner, of) = word(line);
            let mut record = Record::update0(name(owner), 0, kind(of));
            record.dns_class = DNSClass::ANY;
            record
        }
    }
}

fn word(text: &str) -> (&str, &str) {
    text.split_once(' ').unwrap_or((text, ""))
}

fn data_of(of: &str, data: &str) -> RData {
    RData::try_from_str(kind(of), data).unwrap_or_else(|error| panic!("{data:?} is no {of}: {error}"))
}

async fn ask(address: SocketAddr, of: &str, kind_of: &str) -> std::io::Result<Message> {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(name(of), kind(kind_of)));
    exchange(address, &message).await
}

async fn exchange(address: SocketAddr, message: &Message) -> std::io::Result<Message> {
    let bytes = message.to_vec().map_err(std::io::Error::other)?;
    let mut stream = TcpStream::connect(address).await?;
    stream.write_u16(u16::try_from(bytes.len()).unwrap_or(u16::MAX)).await?;
    stream.write_all(&bytes).await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; usize::from(length)];
    stream.read_exact(&mut answer).await?;
    Message::from_vec(&answer).map_err(std::io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_zone_is_changed_lost_broken_and_mended() {
        let mut named = Named::start().await;
        named
            .update(&[Change::Add("a.leadsman.test. 5 SRV 0 10 9001 h.leadsman.test.".into())])
            .await;
        let answer = named.answers("a.leadsman.test. SRV").await;
        assert_eq!((answer.answers.len(), answer.metadata.authoritative), (1, true));
        named.kill();
        named.restart(Data::Kept).await;
        assert_eq!(named.answers("a.leadsman.test. SRV").await.answers.len(), 1);
        named
            .update(&[Change::Remove("a.leadsman.test. SRV 0 10 9001 h.leadsman.test.".into())])
            .await;
        assert_eq!(
            named.answers("a.leadsman.test. SRV").await.metadata.response_code,
            ResponseCode::NXDomain
        );
        named.kill();
        named.restart(Data::Broken).await;
        assert_eq!(
            named.answers("a.leadsman.test. SRV").await.metadata.response_code,
            ResponseCode::ServFail
        );
        named.mend("x 0 A 127.0.0.1\n");
        until_ok(PATIENT, "the mended zone", async || {
            let answer = named.answers("x.broken.test. A").await;
            if answer.answers.len() == 1 { Ok(()) } else { Err(answer) }
        })
        .await;
    }

    #[tokio::test]
    async fn dnsmasq_denies_without_a_zone() {
        let dnsmasq = Dnsmasq::start(&[]).await;
        dnsmasq.hosts(&[("a.dnsmasq.test", "127.0.0.1")]);
        until_ok(PATIENT, "the host", async || {
            let answer = ask(dnsmasq.address(), "a.dnsmasq.test.", "A").await?;
            if answer.answers.len() == 1 {
                Ok(())
            } else {
                Err(std::io::Error::other("not there"))
            }
        })
        .await;
        let answer = ask(dnsmasq.address(), "b.dnsmasq.test.", "A").await.unwrap();
        assert_eq!(
            (answer.metadata.response_code, answer.authorities.len()),
            (ResponseCode::NXDomain, 0)
        );
    }
}

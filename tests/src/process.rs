//! Child processes that end with the test, and loopback ports that nobody else takes.
//!
//! Envoy asks the kernel to end it with the *thread* that spawned it, so one thread spawns everything and lives as long
//! as the process. Every child asks for the same, so that not even a killed test leaves a server behind.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{OnceLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use crate::claim::claim_port;
use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};

/// The end of a log is where the reason stands.
const SHOWN_LOG_BYTES: u64 = 8 * 1024;

/// A server that is asked to stop has this long before it is killed.
const GRACE: Duration = Duration::from_secs(10);

/// Ports below Linux's range for outgoing connections (32768 and up), so that a stopped server finds its port free.
const FIRST_PORT: u16 = 20_000;
const PORTS: u16 = 12_000;

/// A running child; dropping it kills it.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command` with its output in `directory/name.log`, appended to what an earlier run left there.
    ///
    /// # Panics
    /// When the program can't be started.
    pub fn spawn(name: &str, mut command: Command, directory: &Path) -> Self {
        let log = directory.join(format!("{name}.log"));
        let open = || {
            let file = File::options().create(true).append(true).open(&log);
            file.unwrap_or_else(|error| panic!("can't write {}: {error}", log.display()))
        };
        command.stdin(Stdio::null()).stdout(open()).stderr(open());
        let child = spawn_on_lasting_thread(command).unwrap_or_else(|error| panic!("can't start {name}: {error}"));
        Self {
            name: name.to_owned(),
            child,
            log,
        }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Everything the process wrote so far.
    pub fn log(&self) -> String {
        std::fs::read(&self.log).map_or_else(
            |error| error.to_string(),
            |bytes| String::from_utf8_lossy(&bytes).into_owned(),
        )
    }

    /// Whether the process still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// # Panics
    /// When the process is gone: a fault injected into nothing would show nothing.
    pub fn signal(&self, signal: Signal) {
        let sent = Pid::from_raw(self.child.id().cast_signed()).map(|pid| kill_process(pid, signal));
        assert!(
            matches!(sent, Some(Ok(()))),
            "{signal:?} did not reach {}: {sent:?}",
            self.name
        );
    }

    /// `SIGSTOP`: the process hangs with its connections open.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// `SIGCONT`.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// `SIGHUP`: read the configuration again.
    pub fn hang_up(&self) {
        self.signal(Signal::HUP);
    }

    /// `SIGKILL`, and waits for the end.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.wait(GRACE);
    }

    /// `SIGTERM`, and waits for the end.
    ///
    /// # Panics
    /// When the process does not end in time.
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait(GRACE)
    }

    /// Waits for the end of the process.
    ///
    /// # Panics
    /// When it does not end in time.
    pub fn wait(&mut self, deadline: Duration) -> ExitStatus {
        let start = Instant::now();
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return status,
                Ok(None) => assert!(start.elapsed() < deadline, "{} did not end in {deadline:?}", self.name),
                Err(error) => panic!("can't wait for {}: {error}", self.name),
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let ended = self.child.try_wait();
        // Errors mean that it has ended already, which is the aim.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let end = ended.map(|status| status.map(|status| format!(", which ended before the test with {status}")));
            let end = end.ok().flatten().unwrap_or_default();
            eprintln!("--- the log of {}{end} ---\n{}", self.name, tail(&self.log));
        }
    }
}

/// A file of the installed tools, by its path below the workspace's `.tools`.
///
/// # Panics
/// When it is not there; the message says which command brings it.
pub fn tool(path: &str, install: &str) -> PathBuf {
    let found = workspace().join(".tools").join(path);
    assert!(found.exists(), "{} is missing: run `{install}`", found.display());
    found
}

/// A file of an installed Python wheel, by its path below `site-packages`.
///
/// # Panics
/// When it is not there; the message says which command brings it.
pub fn wheel(path: &str) -> PathBuf {
    wheel_in("venv", path, "make setup")
}

/// As [`wheel`], in an environment of its own below `.tools`, such as that of an older version.
///
/// # Panics
/// When it is not there; the message says which command brings it.
pub fn wheel_in(environment: &str, path: &str, install: &str) -> PathBuf {
    // The directory between is named after whichever Python made the environment.
    let pythons = workspace()
        .join(".tools")
        .join(environment)
        .join("lib")
        .read_dir()
        .into_iter()
        .flatten()
        .flatten();
    let mut candidates = pythons.map(|python| python.path().join("site-packages").join(path));
    let found = candidates.find(|candidate| candidate.exists());
    found.unwrap_or_else(|| panic!("{path} is missing below .tools/{environment}: run `{install}`"))
}

/// A file that cargo builds, by its path below the profile's directory, such as `leadsman`.
///
/// # Panics
/// When it is not there; the message says which command builds it.
pub fn built(path: &str, build: &str) -> PathBuf {
    let this = std::env::current_exe().unwrap_or_else(|error| panic!("where am I: {error}"));
    let directory = this.parent().unwrap_or(&this);
    let profile = match directory.file_name() {
        Some(name) if name == OsStr::new("deps") => directory.parent().unwrap_or(directory),
        Some(_) | None => directory,
    };
    let found = profile.join(path);
    assert!(found.exists(), "{} is missing: run `{build}`", found.display());
    found
}

/// The root of the workspace.
pub fn workspace() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}

/// A TCP port of 127.0.0.1 that was free a moment ago, and that no other caller is given while this process lives.
///
/// # Panics
/// When no port is free.
pub fn free_port() -> u16 {
    static NEXT: OnceLock<AtomicU16> = OnceLock::new();
    // Two test processes at once start at different places.
    let next =
        NEXT.get_or_init(|| AtomicU16::new(u16::try_from(std::process::id() * 61 % u32::from(PORTS)).unwrap_or(0)));
    for _ in 0..PORTS {
        let port = FIRST_PORT + next.fetch_add(1, Ordering::Relaxed) % PORTS;
        if claim_port(port) {
            return port;
        }
    }
    panic!("no free port between {FIRST_PORT} and {}", FIRST_PORT + PORTS);
}

type Answer = mpsc::SyncSender<io::Result<Child>>;

fn spawn_on_lasting_thread(mut command: Command) -> io::Result<Child> {
    static SPAWNER: OnceLock<mpsc::SyncSender<(Command, Answer)>> = OnceLock::new();
    die_with_parent(&mut command);
    let spawner = SPAWNER.get_or_init(|| {
        let (requests, inbox) = mpsc::sync_channel::<(Command, Answer)>(1);
        thread::spawn(move || {
            for (mut command, answer) in inbox {
                // The caller waits for the answer, so it is there to take it.
                let _ = answer.send(command.spawn());
            }
        });
        requests
    });
    let (answer, spawned) = mpsc::sync_channel(1);
    let gone = |_| io::Error::other("the spawning thread is gone");
    spawner
        .send((command, answer))
        .map_err(|_| io::Error::other("the spawning thread is gone"))?;
    spawned.recv().map_err(gone)?
}

#[expect(
    unsafe_code,
    reason = "only the child itself can ask the kernel to end it with its parent"
)]
fn die_with_parent(command: &mut Command) {
    // SAFETY: between fork and exec the closure makes one system call; it allocates nothing and takes no lock.
    unsafe {
        command.pre_exec(|| Ok(set_parent_process_death_signal(Some(Signal::KILL))?));
    }
}

fn tail(log: &Path) -> String {
    let read = || -> io::Result<Vec<u8>> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(SHOWN_LOG_BYTES)))?;
        let mut end = Vec::new();
        file.read_to_end(&mut end)?;
        Ok(end)
    };
    read().map_or_else(
        |error| error.to_string(),
        |end| String::from_utf8_lossy(&end).into_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_ends_with_its_value_and_its_output_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "echo ready; exec sleep 1000"]);
        let process = Process::spawn("sleeper", command, directory.path());
        let id = Pid::from_raw(process.id().cast_signed()).unwrap();
        while process.log() != "ready\n" {
            thread::yield_now();
        }
        drop(process);
        assert!(kill_process(id, Signal::CONT).is_err());
    }

    #[test]
    fn a_child_outlives_the_thread_that_asked_for_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().to_owned();
        let mut process = thread::spawn(move || {
            let mut command = Command::new("sleep");
            command.arg("1000");
            Process::spawn("sleeper", command, &path)
        })
        .join()
        .unwrap();
        assert!(process.is_running());
        assert_eq!(process.terminate().code(), None);
    }

    #[test]
    fn ports_are_given_once() {
        let ports: std::collections::BTreeSet<u16> = (0..100).map(|_| free_port()).collect();
        assert_eq!(ports.len(), 100);
    }
}

//! What several test processes at once have to share: ports, and the processor while a heavy server starts.
//!
//! A claim is a lock on a file, which the kernel gives back however the process ends.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::wait::{PATIENT, until_ok};

/// Java servers that start at once take each other's deadlines.
const HEAVY_AT_ONCE: usize = 2;

/// A whole suite may wait before us.
const TURN: Duration = Duration::from_secs(10 * PATIENT.as_secs());

fn file(name: &str) -> File {
    let directory: PathBuf = std::env::temp_dir().join("leadsman-tests");
    let path = directory.join(name);
    let opened = fs::create_dir_all(&directory)
        .and_then(|()| File::options().create(true).truncate(false).write(true).open(&path));
    opened.unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Takes a port of 127.0.0.1 that nobody listens on, for as long as this process lives.
pub fn claim_port(port: u16) -> bool {
    static HELD: Mutex<Vec<File>> = Mutex::new(Vec::new());
    let file = file(&format!("port-{port}"));
    let claimed = file.try_lock().is_ok() && TcpListener::bind(("127.0.0.1", port)).is_ok();
    if claimed {
        HELD.lock().unwrap_or_else(PoisonError::into_inner).push(file);
    }
    claimed
}

/// The leave to start a heavy server, until it is dropped.
#[derive(Debug)]
pub struct Turn {
    _lock: File,
}

impl Turn {
    /// Waits until few enough others are starting.
    pub async fn take() -> Self {
        until_ok(TURN, "a turn to start a heavy server", async || {
            let slots = (0..HEAVY_AT_ONCE).map(|slot| file(&format!("turn-{slot}")));
            let free = slots.into_iter().find(|slot| slot.try_lock().is_ok());
            free.map(|lock| Self { _lock: lock }).ok_or("all are taken")
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::free_port;

    #[test]
    fn a_port_is_claimed_once() {
        assert!(!claim_port(free_port()));
    }
}

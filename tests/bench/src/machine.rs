//! What the kernel knows about a process and about the machine.

use std::fs;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::Context;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};

static SERVER_CORE: OnceLock<usize> = OnceLock::new();

/// The monotonic clock, the same for all processes of the machine.
pub(crate) fn now() -> u64 {
    nanos(ClockId::Monotonic)
}

/// The processor time of the calling thread.
pub(crate) fn thread_cpu() -> Duration {
    Duration::from_nanos(nanos(ClockId::ThreadCPUTime))
}

fn nanos(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    u64::try_from(time.tv_sec).unwrap_or_default() * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or_default()
}

/// The processor time of a process, in user space and in the kernel, of the threads that it has: to the nanosecond, where
/// the usual figure counts hundredths of a second.
pub(crate) fn cpu(pid: u32) -> anyhow::Result<Duration> {
    let mut total = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task")).context("the server has ended")? {
        // A thread may end between the listing and the reading.
        let times = fs::read_to_string(task?.path().join("schedstat")).unwrap_or_default();
        total += times
            .split(' ')
            .next()
            .and_then(|nanos| nanos.parse::<u64>().ok())
            .unwrap_or_default();
    }
    Ok(Duration::from_nanos(total))
}

/// Memory of a process in KiB: what it has now, and the most it ever had.
pub(crate) fn memory(pid: u32) -> anyhow::Result<(f64, f64)> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).with_context(|| path.clone())?;
    Ok((field(&status, "VmRSS:"), field(&status, "VmHWM:")))
}

/// KiB of memory that sockets hold in the kernel, of the whole machine.
pub(crate) fn socket_memory() -> f64 {
    let text = fs::read_to_string("/proc/net/sockstat").unwrap_or_default();
    let tcp = text.lines().find(|line| line.starts_with("TCP:")).unwrap_or_default();
    let pages: Option<f64> = tcp.rsplit(' ').next().and_then(|pages| pages.parse().ok());
    pages.unwrap_or_default() * 4.0
}

/// Connections that did not fit a listener's backlog, of the whole machine.
pub(crate) fn listen_overflows() -> f64 {
    let text = fs::read_to_string("/proc/net/netstat").unwrap_or_default();
    let mut lines = text.lines().filter(|line| line.starts_with("TcpExt:"));
    let (names, values) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let mut pairs = names.split(' ').zip(values.split(' '));
    let found = pairs.find(|(name, _)| *name == "ListenOverflows");
    found.and_then(|(_, value)| value.parse().ok()).unwrap_or_default()
}

/// The core of the server under test; `None` where there is only one for everybody.
pub(crate) fn server_core() -> Option<usize> {
    SERVER_CORE.get().copied()
}

/// Keeps the first core for the server under test: this thread, and everything that it starts from now on, leaves it.
pub(crate) fn divide() -> anyhow::Result<()> {
    let mut ours = sched_getaffinity(None)?;
    let mut allowed = (0..CpuSet::MAX_CPU).filter(|core| ours.is_set(*core));
    if let (Some(first), Some(_)) = (allowed.next(), allowed.next()) {
        ours.unset(first);
        sched_setaffinity(None, &ours)?;
        SERVER_CORE.get_or_init(|| first);
    }
    Ok(())
}

/// Cores, and what they are.
pub(crate) fn describe() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let model = model.map_or("unknown processor", |(_, model)| model);
    let cores = cpu.lines().filter(|line| line.starts_with("processor")).count();
    format!("{cores} cores, {model}, Linux {}", kernel.trim())
}

/// Processes that wanted a core during the last minute, those of others included.
pub(crate) fn load() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ')
        .next()
        .and_then(|load| load.parse().ok())
        .unwrap_or_default()
}

fn field(text: &str, name: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.and_then(|number| number.parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_is_understood() {
        let pid = std::process::id();
        assert!(cpu(pid).unwrap() < Duration::from_secs(3600));
        let (now, most) = memory(pid).unwrap();
        assert!(now > 1000.0 && most >= now && socket_memory() >= 0.0 && listen_overflows() >= 0.0);
        assert!(super::now() > 0 && thread_cpu() > Duration::ZERO && load() >= 0.0);
        assert!(!describe().contains("unknown"));
    }
}

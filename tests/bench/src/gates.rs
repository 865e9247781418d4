//! What a delivered update costs in things that can be counted: instructions, allocations and system calls, all under
//! callgrind. None of them depends on the clock or on who else uses the machine, so a growth fails the build.
//!
//! Two runs that differ in nothing but the number of changes are subtracted, so that starting and stopping cancel out.
//! Each change waits until the last one has reached everybody, so that nothing is merged.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, ensure};
use leadsman_tests::process::workspace;
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::lab::Lab;
use crate::population::Population;
use crate::subject::{Kind, Subject};

const POPULATION: Population = Population {
    services: 100,
    endpoints: 10,
};
const CLIENTS: usize = 50;
const NAMES: usize = 100;
const FEW: usize = 20;
const MANY: usize = 120;
const THRESHOLDS: &str = "tests/bench/gates.json";
const VALGRIND: &str = ".tools/valgrind/valgrind";
/// A recorded threshold leaves this much room: what varies from run to run.
const ROOM: f64 = 1.1;
const ALLOCATORS: [&str; 5] = ["malloc", "calloc", "realloc", "posix_memalign", "aligned_alloc"];

type Counts = BTreeMap<String, f64>;

/// Fails when a count is above its threshold.
pub(crate) async fn run(record: bool) -> anyhow::Result<()> {
    let counts = measure().await?;
    let path = workspace().join(THRESHOLDS);
    if record {
        let room: Counts = counts
            .iter()
            .map(|(name, count)| (name.clone(), (count * ROOM * 100.0).round() / 100.0))
            .collect();
        fs::write(&path, format!("{}\n", serde_json::to_string_pretty(&room)?))?;
        return crate::say(&format!("recorded {}: {counts:?}", path.display()));
    }
    let thresholds: Value = serde_json::from_slice(&fs::read(&path)?)?;
    let mut failed = Vec::new();
    crate::say("| per delivered update | counted | at most |\n|---|---|---|")?;
    for (name, count) in &counts {
        let most = thresholds
            .get(name)
            .and_then(Value::as_f64)
            .with_context(|| format!("no threshold for {name}"))?;
        crate::say(&format!("| {name} | {count:.2} | {most:.2} |"))?;
        if *count > most {
            failed.push(name.as_str());
        }
    }
    ensure!(
        failed.is_empty(),
        "more than {THRESHOLDS} allows: {}",
        failed.join(", ")
    );
    Ok(())
}

async fn measure() -> anyhow::Result<Counts> {
    let lab = Lab::open(POPULATION).await?;
    let mut ends = Vec::new();
    for changes in [FEW, MANY] {
        crate::say(&format!("==> callgrind, {changes} changes to {CLIENTS} clients"))?;
        ends.push(under_callgrind(&lab, changes).await?);
    }
    let [few, many] = ends.as_slice() else {
        anyhow::bail!("two runs were meant")
    };
    let updates = many.updates - few.updates;
    let per_update = |of: fn(&Ended) -> f64| (of(many) - of(few)) / updates;
    Ok(Counts::from([
        ("instructions".to_owned(), per_update(|ended| ended.instructions)),
        ("allocations".to_owned(), per_update(|ended| ended.allocations)),
        ("system calls".to_owned(), per_update(|ended| ended.system_calls)),
    ]))
}

struct Ended {
    instructions: f64,
    allocations: f64,
    system_calls: f64,
    updates: f64,
}

async fn under_callgrind(lab: &Lab, changes: usize) -> anyhow::Result<Ended> {
    let directory = TempDir::new()?;
    let (out, log) = (directory.path().join("callgrind.out"), directory.path().join("calls"));
    let valgrind = workspace().join(VALGRIND);
    ensure!(valgrind.exists(), "{VALGRIND} is missing: run `make gates`");
    // It looks for its tools where Debian has them, unless it is told.
    let library = valgrind.parent().unwrap_or(&valgrind);
    let wrapper = [
        "env",
        &format!("VALGRIND_LIB={}", library.display()),
        &valgrind.display().to_string(),
        "--tool=callgrind",
        &format!("--callgrind-out-file={}", out.display()),
        "--trace-syscalls=yes",
        &format!("--log-file={}", log.display()),
    ]
    .map(ToOwned::to_owned);
    let mut subject = Subject::start(Kind::Leadsman, lab.etcd.address(), lab.population, &wrapper).await?;
    let updates = deliver(lab, &subject, changes).await?;
    lab.driver.disconnect(true).await?;
    subject.process.signal(Signal::TERM);
    subject.process.wait(std::time::Duration::from_secs(120));
    let (instructions, allocations) = read_profile(&out)?;
    Ok(Ended {
        instructions,
        allocations,
        system_calls: count_calls(&fs::read_to_string(&log)?),
        updates,
    })
}

/// One change after the other; returns the updates that clients got.
async fn deliver(lab: &Lab, subject: &Subject, count: usize) -> anyhow::Result<f64> {
    lab.driver.connect(lab.plan(subject, CLIENTS, NAMES)).await?;
    lab.driver.reset(None).await?;
    let mut feed = lab.feed(subject)?;
    for change in 0..count {
        feed.change(change % NAMES).await?;
        lab.driver.quiet().await?;
    }
    let updates = lab.driver.report().await?.stats.resources;
    ensure!(
        updates as usize == count * CLIENTS,
        "{updates} updates for {count} changes to {CLIENTS} clients"
    );
    lab.check(Kind::Leadsman).await?;
    Ok(updates as f64)
}

/// Instructions in all, and calls of functions that allocate.
///
/// A function is written in full once, as `(7) malloc`, and as `(7)` from then on; `calls=` follows what is called.
fn read_profile(path: &Path) -> anyhow::Result<(f64, f64)> {
    let text = fs::read_to_string(path).with_context(|| format!("no profile in {}", path.display()))?;
    let mut instructions = None;
    let (mut allocators, mut allocations) = (Vec::new(), 0.0);
    let mut called = "";
    for line in text.lines() {
        if let Some(total) = line.strip_prefix("totals: ").or_else(|| line.strip_prefix("summary: ")) {
            instructions = total.trim().parse().ok();
        }
        let function = line.strip_prefix("fn=").or_else(|| line.strip_prefix("cfn="));
        if let Some((id, name)) = function.and_then(|function| function.split_once(' '))
            && ALLOCATORS.contains(&name.trim_start_matches("_rjem_"))
        {
            allocators.push(id);
        }
        if let Some(function) = line.strip_prefix("cfn=") {
            called = function.split(' ').next().unwrap_or_default();
        } else if let Some(calls) = line.strip_prefix("calls=")
            && allocators.contains(&called)
        {
            allocations += calls
                .split(' ')
                .next()
                .and_then(|count| count.parse::<f64>().ok())
                .unwrap_or_default();
        }
    }
    Ok((instructions.context("a profile without a sum")?, allocations))
}

/// A call that may wait has two lines, of which the second names no function. Only here is the clock read by a call.
fn count_calls(log: &str) -> f64 {
    let calls = log.lines().filter(|line| line.starts_with("SYSCALL["));
    let real = calls.filter(|line| line.contains(" sys_") && !line.contains(" sys_clock_gettime"));
    real.count() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_and_a_log_of_calls_are_read() {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("out");
        let profile = "fn=(1) main\n1 5\ncfn=(2) malloc\ncalls=3 0\n1 9\ncfn=(3) free\ncalls=8 0\n1 1\nfn=(4) f\n\
                       cfn=(2)\ncalls=4 0\n1 2\ntotals: 1234\n";
        fs::write(&path, profile).unwrap();
        assert_eq!(read_profile(&path).unwrap(), (1234.0, 7.0));
        let log = "SYSCALL[7,1](228) sys_clock_gettime( 1, 0x1f )[sync] --> Success(0x0)\n\
                   SYSCALL[7,1](9) sys_mmap ( 0x0, 8192 ) --> [pre-success] Success(0x4835000)\n\
                   SYSCALL[7,1](0) sys_read ( 4, 0x1f, 832 ) --> [async] ...\n\
                   SYSCALL[7,1](0) ... [async] --> Success(0x340)\n";
        assert!((count_calls(log) - 2.0).abs() < f64::EPSILON);
    }
}

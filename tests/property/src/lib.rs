//! Randomness that can be repeated: a test that uses it says its seed when it fails, and the environment sets both the
//! seed and how many inputs a property is tried with.

#![expect(
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking, and what it wrote is shown when it does"
)]

use proptest::test_runner::{Config, RngSeed};

const SEED: &str = "LEADSMAN_SEED";
const CASES: &str = "LEADSMAN_CASES";

/// How a property is tried: with `cases` inputs, or `LEADSMAN_CASES` times as many. For the head of a `proptest!`.
///
/// # Panics
/// When a variable is set to something that is no number.
pub fn cases(cases: u32) -> Config {
    let times = number(CASES).unwrap_or(1);
    let times = u32::try_from(times).unwrap_or_else(|error| panic!("{CASES}={times}: {error}"));
    let usual = Config::default();
    Config {
        cases: cases.saturating_mul(times),
        max_local_rejects: usual.max_local_rejects.saturating_mul(times),
        max_global_rejects: usual.max_global_rejects.saturating_mul(times),
        rng_seed: RngSeed::Fixed(seed()),
        // What was found once becomes a test of its own, with a name.
        failure_persistence: None,
        ..usual
    }
}

/// A seed for the test that runs on this thread, which is told how to repeat it.
///
/// # Panics
/// When `LEADSMAN_SEED` is set to something that is no number.
pub fn seed() -> u64 {
    let seed = number(SEED).unwrap_or_else(|| fastrand::u64(..));
    let cases = number(CASES).map_or_else(String::new, |times| format!("{CASES}={times} "));
    let package =
        variable("CARGO_PKG_NAME").map_or_else(|| "--workspace".to_owned(), |name| format!("--package {name}"));
    let thread = std::thread::current();
    // A test that runs alone runs on the thread of the process.
    let test = thread.name().filter(|name| *name != "main");
    let test = test.map_or_else(String::new, |name| format!(" -- --exact {name}"));
    eprintln!("repeat with: {SEED}={seed} {cases}cargo test {package}{test}");
    seed
}

fn number(name: &str) -> Option<u64> {
    let text = variable(name)?;
    Some(text.parse().unwrap_or_else(|error| panic!("{name}={text}: {error}")))
}

#[expect(clippy::disallowed_methods, reason = "the only input a test takes")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

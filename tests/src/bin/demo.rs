//! `make demo`: etcd, Leadsman, Envoy and traffic, step by step. Exits with 0 only if each step showed what it should.

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use leadsman_tests::demo::{Options, run};
use tokio::runtime::Runtime;

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(error) => return fail(&format!("{error:#}")),
    };
    // The harness panics when a server does not start or is gone, and shows the end of every log. The message says it
    // all: where in the demo it was raised is of no use to who runs it.
    std::panic::set_hook(Box::new(|panic| {
        fail(&format!(
            "    FAILED: {}",
            panic.payload_as_str().unwrap_or("for no reason that could be shown")
        ));
    }));
    let demo = || Runtime::new()?.block_on(run(options));
    match catch_unwind(AssertUnwindSafe(demo)) {
        Ok(Ok(true)) => ExitCode::SUCCESS,
        Ok(Ok(false)) => ExitCode::FAILURE,
        Ok(Err(error)) => fail(&format!("FAILED: {error:#}")),
        Err(_) => fail("The demo FAILED. All logs are in target/demo."),
    }
}

fn fail(message: &str) -> ExitCode {
    // Without a terminal to print to, the exit code still tells.
    let _ = writeln!(std::io::stderr(), "{message}");
    ExitCode::FAILURE
}

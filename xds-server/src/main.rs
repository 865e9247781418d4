//! The binary `leadsman`.

use std::process::ExitCode;

fn main() -> ExitCode {
    xds_server::cli::run()
}

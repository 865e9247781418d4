//! The binary `leadsman`.

use std::process::ExitCode;

/// A control plane keeps many small objects a client, and frees large ones now and then: this allocator gives those back.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    xds_server::cli::run()
}

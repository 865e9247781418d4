//! The tests' HTTP backend as a process of its own: `backend NAME [PORT]` prints the address it serves on.

use std::io::Write;

use anyhow::Context;
use leadsman_tests::backend::Backend;
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().context("usage: backend NAME [PORT]")?;
    let port = arguments.next().as_deref().unwrap_or("0").parse::<u16>()?;
    let backend = Backend::serve(&name, TcpListener::bind(("127.0.0.1", port)).await?);
    writeln!(std::io::stdout(), "{}", backend.address())?;
    backend.run().await;
    Ok(())
}

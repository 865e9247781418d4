//! go-zero: `<key>/<lease id>` -> `host:port`.
//!
//! After a lost lease the same address sits under two keys for a while; the service counts it once.

use leadsman_core::model::{Address, Endpoint};

use crate::layout::Reading;
use crate::layout::entry::Entry;

pub(super) fn read(entry: &Entry<'_>) -> Reading {
    match entry.parent("") {
        Some(service) => Reading::Instances(service.to_owned(), instance(entry).map(|endpoint| vec![Ok(endpoint)])),
        None => Entry::stray("<key>/<lease id>"),
    }
}

fn instance(entry: &Entry<'_>) -> Result<Endpoint, String> {
    let address = Address::parse(entry.text()?).map_err(|error| error.to_string())?;
    Ok(entry.endpoint(address))
}

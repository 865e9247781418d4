//! CloudWeGo kitex and hertz: `<base><service>/<address>` -> `{"network","address","weight","tags"}`.
//!
//! Both write the same record below different bases; a weight of zero or less means the default.

use leadsman_core::model::{Address, Endpoint};

use crate::layout::Reading;
use crate::layout::entry::{Entry, map, number, text, weight_above_zero};
use crate::layout::tags::Tags;

const DEFAULT_WEIGHT: f64 = 10.0;

pub(super) fn read(entry: &Entry<'_>, base: &str) -> Reading {
    match entry.parent(base) {
        Some(service) => Reading::Instances(service.to_owned(), instance(entry).map(|endpoint| vec![Ok(endpoint)])),
        None => Entry::stray(&format!("{base}<service>/<address>")),
    }
}

fn instance(entry: &Entry<'_>) -> Result<Endpoint, String> {
    let object = entry.object()?;
    let address = Address::parse(text(object, "address")).map_err(|error| error.to_string())?;
    let mut tags = Tags::default();
    tags.put_all(map(object, "tags"), &[]);
    Ok(Endpoint {
        weight: weight_above_zero(number(object.get("weight")), DEFAULT_WEIGHT),
        metadata: tags.metadata,
        locality: tags.locality,
        ..entry.endpoint(address)
    })
}

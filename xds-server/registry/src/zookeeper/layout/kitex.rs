//! CloudWeGo kitex and hertz: `/<service>/<host>:<port>` -> `{"Weight","Tags"}`.
//!
//! Both write the same record; the address is the name of the node. A weight of zero or less means the default.

use leadsman_core::model::{Address, Endpoint};

use crate::layout::Reading;
use crate::layout::entry::{Entry, map, number, weight_above_zero};
use crate::layout::tags::Tags;

const DEFAULT_WEIGHT: f64 = 10.0;

pub(super) fn read(entry: &Entry<'_>) -> Reading {
    match entry.parent("") {
        Some(service) => Reading::Instances(service.to_owned(), instance(entry).map(|endpoint| vec![Ok(endpoint)])),
        None => Entry::stray("/<service>/<host>:<port>"),
    }
}

fn instance(entry: &Entry<'_>) -> Result<Endpoint, String> {
    let object = entry.object()?;
    let address = Address::parse(entry.leaf()).map_err(|error| error.to_string())?;
    let either = |upper: &str, lower: &str| number(object.get(upper)).or_else(|| number(object.get(lower)));
    let mut tags = Tags::default();
    tags.put_all(map(object, "Tags").or_else(|| map(object, "tags")), &[]);
    Ok(Endpoint {
        weight: weight_above_zero(either("Weight", "weight"), DEFAULT_WEIGHT),
        metadata: tags.metadata,
        locality: tags.locality,
        ..entry.endpoint(address)
    })
}

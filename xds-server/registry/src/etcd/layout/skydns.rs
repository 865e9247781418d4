//! SkyDNS, as CoreDNS reads it: `/skydns/<labels reversed>/<id>` -> `{"host","port","priority","weight",…}`.
//!
//! The service is the DNS name of the parent: `/skydns/local/skydns/x5` belongs to `skydns.local`. Weight 0 means
//! "not set", which CoreDNS counts as 100.

use leadsman_core::model::{Address, Endpoint};

use crate::layout::Reading;
use crate::layout::entry::{Entry, number, port, text, weight_above_zero};
use crate::layout::tags::Tags;

const DEFAULT_WEIGHT: f64 = 100.0;
const DEFAULT_PRIORITY: f64 = 10.0;

pub(super) fn read(entry: &Entry<'_>) -> Reading {
    match entry.parent("skydns/") {
        Some(path) => {
            let labels: Vec<&str> = path.rsplit('/').collect();
            Reading::Instances(labels.join("."), instance(entry).map(|endpoint| vec![Ok(endpoint)]))
        }
        None => Entry::stray("/skydns/<labels reversed>/<id>"),
    }
}

fn instance(entry: &Entry<'_>) -> Result<Endpoint, String> {
    let object = entry.object()?;
    let address = Address::new(text(object, "host"), port(object.get("port"))).map_err(|error| error.to_string())?;
    let priority = number(object.get("priority")).filter(|priority| *priority > 0.0);
    let mut tags = Tags::default();
    tags.known("priority", &priority.unwrap_or(DEFAULT_PRIORITY).to_string());
    tags.known("group", text(object, "group"));
    tags.known("text", text(object, "text"));
    Ok(Endpoint {
        weight: weight_above_zero(number(object.get("weight")), DEFAULT_WEIGHT),
        metadata: tags.metadata,
        locality: tags.locality,
        ..entry.endpoint(address)
    })
}

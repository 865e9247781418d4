//! grpc-go's `naming/endpoints`: `<target>/<anything>` -> `{"Op":0,"Addr":"10.0.0.1:8080","Metadata":<any>}`.
//!
//! The target is the user's own, so the service is what lies between the prefix and the last segment.

use leadsman_core::model::{Address, Endpoint};

use super::Reading;
use super::entry::{Entry, map, number, text, weight};
use super::tags::Tags;

pub(super) fn read(entry: &Entry<'_>) -> Reading {
    match entry.parent("") {
        Some(service) => Reading::Instances(service.to_owned(), instance(entry).map(|endpoint| vec![Ok(endpoint)])),
        None => Entry::stray("<target>/<id>"),
    }
}

fn instance(entry: &Entry<'_>) -> Result<Endpoint, String> {
    let object = entry.object()?;
    if number(object.get("Op")) == Some(1.0) {
        return Err("Op is 1: the record announces a deletion, not an instance".to_owned());
    }
    let address = Address::parse(text(object, "Addr")).map_err(|error| error.to_string())?;
    let metadata = map(object, "Metadata");
    let mut tags = Tags::default();
    tags.put_all(metadata, &["weight"]);
    Ok(Endpoint {
        weight: weight(metadata.and_then(|metadata| number(metadata.get("weight"))), 1.0),
        metadata: tags.metadata,
        locality: tags.locality,
        ..entry.endpoint(address)
    })
}

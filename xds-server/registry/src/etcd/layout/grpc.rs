//! grpc-go's `naming/endpoints`: `<target>/<anything>` -> `{"Op":0,"Addr":"10.0.0.1:8080","Metadata":<any>}`.
//!
//! The target is the user's own, so the service is what lies between the prefix and the last segment.

use leadsman_core::model::{Address, Endpoint};

use crate::layout::Reading;
use crate::layout::entry::{Entry, Object, announces_deletion, map, number, text, weight};
use crate::layout::tags::Tags;

pub(super) fn read(entry: &Entry<'_>) -> Reading {
    match entry.parent("") {
        Some(service) => Reading::Instances(service.to_owned(), instances(entry)),
        None => Entry::stray("<target>/<id>"),
    }
}

fn instances(entry: &Entry<'_>) -> Result<Vec<Result<Endpoint, String>>, String> {
    let object = entry.object()?;
    if announces_deletion(object) {
        return Ok(Vec::new());
    }
    instance(entry, object).map(|endpoint| vec![Ok(endpoint)])
}

fn instance(entry: &Entry<'_>, object: &Object) -> Result<Endpoint, String> {
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

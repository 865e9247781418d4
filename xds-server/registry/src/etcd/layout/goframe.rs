//! GoFrame: `/service/<deployment>/<namespace>/<name>/<version>/<h:p[,h:p]>` -> metadata.
//!
//! The addresses are in the key, so the value can be anything but a broken object.

use leadsman_core::model::{Address, Endpoint};

use super::Reading;
use super::entry::{Entry, Object, number, weight};
use super::tags::Tags;

const DEFAULT_WEIGHT: f64 = 100.0;

pub(super) fn read(entry: &Entry<'_>) -> Reading {
    let segments = entry.segments();
    let Some([head @ .., deployment, namespace, name, version, addresses]) = segments.get(..) else {
        return stray();
    };
    if head.is_empty() {
        return stray();
    }
    let empty = Object::new();
    let metadata = match entry.text() {
        Ok("" | "null") => Ok(&empty),
        Ok(_) | Err(_) => entry.object(),
    };
    let outcomes = metadata.map(|metadata| {
        let mut tags = Tags::default();
        tags.known("version", version);
        tags.known("deployment", deployment);
        tags.known("namespace", namespace);
        tags.put_all(Some(metadata), &["weight"]);
        let weight = weight(number(metadata.get("weight")), DEFAULT_WEIGHT);
        let endpoint = |address: &str| {
            let address = Address::parse(address).map_err(|error| error.to_string())?;
            Ok(Endpoint {
                weight,
                metadata: tags.metadata.clone(),
                locality: tags.locality.clone(),
                ..entry.endpoint(address)
            })
        };
        addresses.split(',').map(endpoint).collect()
    });
    Reading::Instances((*name).to_owned(), outcomes)
}

fn stray() -> Reading {
    Entry::stray("/service/<deployment>/<namespace>/<name>/<version>/<addresses>")
}

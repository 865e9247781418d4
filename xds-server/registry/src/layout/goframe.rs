//! GoFrame: `/service/<deployment>/<namespace>/<name>/<version>/<h:p[,h:p]>` -> metadata.
//!
//! The addresses are in the key, so the value can be anything but a broken object. In ZooKeeper, where a key can't hold
//! slashes, key and value are both in the node: `/microservices/<dashed key>/<h:p[,h:p]>` -> `{"Key","Value"}`.

use leadsman_core::model::{Address, Endpoint};

use super::Reading;
use super::entry::{Entry, Object, brief, number, text, weight};
use super::tags::Tags;

const DEFAULT_WEIGHT: f64 = 100.0;

/// A node that holds a key and its value. It is called by its addresses; older versions call it by the service, so that
/// there is one a service, the last instance that started.
pub(crate) fn read_packed(entry: &Entry<'_>) -> Reading {
    let object = match entry.object() {
        Ok(object) => object,
        Err(reason) => return Reading::Stray(reason),
    };
    let (key, value) = (text(object, "Key"), text(object, "Value"));
    let mut inner = Entry::new(key, "", key, value.as_bytes());
    inner.provenance = entry.provenance.clone();
    match read(&inner) {
        Reading::Instances(name, outcomes) => {
            let called = entry.leaf();
            let outcomes = match called == name || called == inner.leaf() {
                true => outcomes,
                false => Err(brief(&format!("the node {called:?} holds the Key {key:?}"))),
            };
            Reading::Instances(name, outcomes)
        }
        Reading::Stray(_) | Reading::Marker => Reading::Stray(brief(&format!("the Key {key:?} is not GoFrame's"))),
    }
}

pub(crate) fn read(entry: &Entry<'_>) -> Reading {
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

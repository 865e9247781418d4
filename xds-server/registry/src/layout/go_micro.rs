//! go-micro: `<base><service>/<node>` -> a service with its nodes, usually one.
//!
//! The key has `-` where the service's name has `/`, so the name is the record's.

use leadsman_core::model::{Address, Endpoint};
use serde_json::Value;

use super::Reading;
use super::entry::{Entry, Object, brief, list, map, number, port, text, weight};
use super::tags::Tags;

/// `base` is where this registry's records are unless the framework was told otherwise.
pub(crate) fn read(entry: &Entry<'_>, base: &str) -> Reading {
    let Some(keyed) = entry.parent(base) else {
        return Entry::stray(&format!("/{base}<service>/<node>"));
    };
    let object = match entry.object() {
        Ok(object) => object,
        Err(reason) => return Reading::Instances(keyed.to_owned(), Err(reason)),
    };
    let name = text(object, "name");
    if name.is_empty() || name == keyed {
        return Reading::Instances(keyed.to_owned(), instances(entry, object));
    }
    if name.replace('/', "-") == keyed {
        return Reading::Instances(name.to_owned(), instances(entry, object));
    }
    let reason = brief(&format!(
        "the record says that its name is {name:?}, its key says {keyed:?}"
    ));
    Reading::Instances(keyed.to_owned(), Err(reason))
}

fn instances(entry: &Entry<'_>, object: &Object) -> Result<Vec<Result<Endpoint, String>>, String> {
    let nodes = list(object, "nodes").ok_or("the record lists no nodes")?;
    Ok(nodes.iter().map(|node| instance(entry, object, node)).collect())
}

fn instance(entry: &Entry<'_>, object: &Object, node: &Value) -> Result<Endpoint, String> {
    let node = node.as_object().ok_or("a node is not a JSON object")?;
    let host = text(node, "address");
    // The first versions had the port in a field of its own.
    let address = match port(node.get("port")) {
        0 => Address::parse(host),
        port => Address::new(host, port),
    };
    let address = address.map_err(|error| error.to_string())?;
    let metadata = map(node, "metadata");
    let mut tags = Tags::default();
    tags.known("version", text(object, "version"));
    tags.put_all(metadata, &["weight"]);
    Ok(Endpoint {
        weight: weight(metadata.and_then(|metadata| number(metadata.get("weight"))), 1.0),
        metadata: tags.metadata,
        locality: tags.locality,
        ..entry.endpoint(address)
    })
}

//! go-kratos: `/microservices/<name>/<id>` -> `{"id","name","version","metadata":{},"endpoints":["grpc://h:p"]}`.
//!
//! One record has one endpoint a protocol; each keeps its scheme. TLS is the scheme (`grpcs`, `https`) or
//! `?isSecure=true`.

use leadsman_core::model::{Address, Endpoint};
use serde_json::Value;

use super::Reading;
use super::entry::{Entry, Object, brief, list, map, number, text, weight};
use super::tags::Tags;

const DEFAULT_WEIGHT: f64 = 100.0;

pub(crate) fn read(entry: &Entry<'_>) -> Reading {
    match entry.parent("microservices/") {
        Some(service) => Reading::Instances(service.to_owned(), instances(entry, service)),
        None => Entry::stray("/microservices/<name>/<id>"),
    }
}

fn instances(entry: &Entry<'_>, service: &str) -> Result<Vec<Result<Endpoint, String>>, String> {
    let object = entry.object()?;
    let name = text(object, "name");
    if !name.is_empty() && name != service && !service.ends_with(&format!("/{name}")) {
        return Err(brief(&format!(
            "the record says that its name is {name:?}, its key says {service:?}"
        )));
    }
    let listed = list(object, "endpoints").ok_or("the record lists no endpoints")?;
    Ok(listed.iter().map(|listed| instance(entry, object, listed)).collect())
}

fn instance(entry: &Entry<'_>, object: &Object, listed: &Value) -> Result<Endpoint, String> {
    let url = listed.as_str().ok_or("an endpoint is not a text")?;
    let parts = url.split_once("://").filter(|(scheme, _)| !scheme.is_empty());
    let (scheme, rest) = parts.ok_or_else(|| brief(&format!("the endpoint {url:?} has no scheme")))?;
    let (authority, query) = rest.split_once('?').unwrap_or((rest, ""));
    let authority = authority.split('/').next().unwrap_or_default();
    let address = Address::parse(authority).map_err(|error| error.to_string())?;
    let flagged = form_urlencoded::parse(query.as_bytes()).any(|(key, value)| key == "isSecure" && value == "true");
    let metadata = map(object, "metadata");
    let mut tags = Tags::default();
    tags.known("version", text(object, "version"));
    if flagged || matches!(scheme, "grpcs" | "https") {
        tags.known("secure", "true");
    }
    tags.put_all(metadata, &["weight"]);
    Ok(Endpoint {
        weight: weight(
            metadata.and_then(|metadata| number(metadata.get("weight"))),
            DEFAULT_WEIGHT,
        ),
        scheme: Some(brief(scheme).into()),
        metadata: tags.metadata,
        locality: tags.locality,
        ..entry.endpoint(address)
    })
}

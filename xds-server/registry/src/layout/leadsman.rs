//! Our own layout: `<prefix><service>/<anything>` ->
//! `{"address","port","weight","health","locality":{"region","zone","sub_zone"},"metadata":{}}`.
//!
//! Only the address and the port are needed. Who writes it reads these docs, so what has no meaning is refused rather
//! than guessed.

use leadsman_core::model::{Address, Endpoint, Health, HealthError, Locality, Weight};
use serde_json::Value;

use super::Reading;
use super::entry::{Entry, Object, map, number, port, text};
use super::tags::{MAX_VALUE_BYTES, Tags};

pub(crate) fn read(entry: &Entry<'_>) -> Reading {
    match entry.relative.split_once('/') {
        Some((service, rest)) if !service.is_empty() && !rest.is_empty() => {
            Reading::Instances(service.to_owned(), instance(entry).map(|endpoint| vec![Ok(endpoint)]))
        }
        Some(_) | None => Entry::stray("<prefix><service>/<anything>"),
    }
}

fn instance(entry: &Entry<'_>) -> Result<Endpoint, String> {
    let object = entry.object()?;
    let host = text(object, "address");
    let address = match object.get("port") {
        Some(value) => Address::new(host, port(Some(value))),
        None => Address::parse(host),
    };
    let address = address.map_err(|error| error.to_string())?;
    let mut tags = Tags {
        locality: locality(object)?,
        ..Tags::default()
    };
    if let Some(metadata) = map(object, "metadata") {
        tags.put_all(Some(metadata), &[]);
    }
    Ok(Endpoint {
        weight: weight(object)?,
        health: health(object)?,
        metadata: tags.metadata,
        locality: tags.locality,
        ..entry.endpoint(address)
    })
}

fn weight(object: &Object) -> Result<Weight, String> {
    match object.get("weight") {
        None | Some(Value::Null) => Ok(Weight::ONE),
        value => {
            let raw = number(value).ok_or("weight is not a number")?;
            Weight::new(raw).map_err(|error| error.to_string())
        }
    }
}

fn health(object: &Object) -> Result<Health, String> {
    match object.get("health") {
        None | Some(Value::Null) => Ok(Health::Unknown),
        Some(Value::String(word)) => word.parse().map_err(|error: HealthError| error.to_string()),
        Some(other) => other
            .to_string()
            .parse()
            .map_err(|error: HealthError| error.to_string()),
    }
}

fn locality(object: &Object) -> Result<Locality, String> {
    let Some(locality) = map(object, "locality") else {
        return Ok(Locality::default());
    };
    let part = |name: &str| {
        let part = text(locality, name);
        match part.len() {
            0..=MAX_VALUE_BYTES => Ok(part.to_owned()),
            long => Err(format!(
                "locality.{name} is {long} bytes long, the limit is {MAX_VALUE_BYTES}"
            )),
        }
    };
    Ok(Locality {
        region: part("region")?,
        zone: part("zone")?,
        sub_zone: part("sub_zone")?,
    })
}

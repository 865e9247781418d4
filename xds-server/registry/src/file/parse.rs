//! From the text of one file to services. Pure.
//!
//! A mistake in the structure (syntax, an unknown or missing key) refuses the whole text, because what stands around it
//! can't be trusted: half of a file being written looks like this. A wrong value refuses its own endpoint only.

use std::collections::BTreeMap;

use leadsman_core::model::{
    Address, Endpoint, Health, HealthError, Locality, Provenance, Rejection, Service, ServiceName, Weight,
};
use serde::Deserialize;
use serde_saphyr::{Error, Location, MessageFormatter, Options, Spanned, UserMessageFormatter};

use crate::text::shorten;

/// What [`Provenance::layout`] says of endpoints of this source.
const LAYOUT: &str = "file";

/// Bounds on one file, each above what the largest allowed file of real services holds. They stop files that are small
/// but expand, and nothing else.
const MAX_NODES: usize = 4_000_000;
const MAX_EVENTS: usize = 8_000_000;
const MAX_DOCUMENTS: usize = 100_000;

/// Longest error text about one file: it quotes the file.
const MAX_MESSAGE_BYTES: usize = 300;

/// Longest word of a file in an error text.
const MAX_WORD_BYTES: usize = 40;

/// Why a text is refused as a whole, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{line}:{column}: {message}")]
pub(super) struct FileError {
    pub(super) line: u64,
    pub(super) column: u64,
    pub(super) message: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename = "service")]
struct Document {
    service: Spanned<String>,
    endpoints: Option<Vec<Spanned<Record>>>,
}

/// Numbers and words are read as text, so that a wrong one refuses its record and not the file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename = "endpoint")]
struct Record {
    address: String,
    port: String,
    #[serde(default = "default_weight")]
    weight: String,
    #[serde(default = "default_health")]
    health: String,
    #[serde(default)]
    locality: Place,
    #[serde(default)]
    metadata: BTreeMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename = "locality")]
struct Place {
    region: String,
    zone: String,
    sub_zone: String,
}

/// Reads every document of `text`; `name` is the file's name and goes into the provenance.
///
/// One service a document, in the order of the text, so a service may occur twice. A text without any document that
/// says something gives an empty vector.
pub(super) fn parse(text: &str, name: &str) -> Result<Vec<Service>, FileError> {
    let documents: Vec<Document> =
        serde_saphyr::from_multiple_with_options(text, options()).map_err(|error| explain(&error))?;
    documents.into_iter().map(|d| to_service(d, text, name)).collect()
}

fn options() -> Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_nodes: MAX_NODES,
            max_events: MAX_EVENTS,
            max_documents: MAX_DOCUMENTS,
        },
        with_snippet: false,
    }
}

fn default_weight() -> String {
    "1".to_owned()
}

fn default_health() -> String {
    Health::Unknown.as_str().to_owned()
}

fn to_service(document: Document, text: &str, name: &str) -> Result<Service, FileError> {
    let Document { service, endpoints } = document;
    let refuse = |message: String| FileError {
        line: service.referenced.line(),
        column: service.referenced.column(),
        message,
    };
    let service_name = ServiceName::new(&service.value).map_err(|error| refuse(format!("key `service`: {error}")))?;
    let Some(records) = endpoints else {
        return Err(refuse(
            "this service has no list of `endpoints`; write `endpoints: []` if it is meant to have none".to_owned(),
        ));
    };
    let mut built = Service::new(service_name, Vec::with_capacity(records.len()));
    let starts: Vec<Location> = records.iter().map(|record| record.referenced).collect();
    for (index, Spanned { value, referenced, .. }) in records.into_iter().enumerate() {
        let raw = raw_item(text, &referenced, starts.get(index + 1));
        let place = format!("{name}:{}", referenced.line());
        let provenance = Provenance {
            // Another instance may stand in this line tomorrow.
            stable: false,
            ..Provenance::new(&place, LAYOUT, raw.as_bytes(), 0)
        };
        match to_endpoint(value, provenance.clone()) {
            Ok(endpoint) => built.endpoints.push(endpoint),
            Err(reason) => built.rejections.push(Rejection { provenance, reason }),
        }
    }
    Ok(built)
}

fn to_endpoint(record: Record, provenance: Provenance) -> Result<Endpoint, String> {
    let port: i64 = record
        .port
        .parse()
        .map_err(|_| format!("port {:?} is not a whole number", shorten(&record.port, MAX_WORD_BYTES)))?;
    let address = Address::new(&record.address, port).map_err(|error| error.to_string())?;
    let weight: f64 = record
        .weight
        .parse()
        .map_err(|_| format!("weight {:?} is not a number", shorten(&record.weight, MAX_WORD_BYTES)))?;
    let weight = Weight::new(weight).map_err(|error| error.to_string())?;
    let health: Health = record.health.parse().map_err(|error: HealthError| error.to_string())?;
    Ok(Endpoint {
        weight,
        health,
        locality: Locality {
            region: record.locality.region,
            zone: record.locality.zone,
            sub_zone: record.locality.sub_zone,
        },
        metadata: record.metadata,
        ..Endpoint::new(address, provenance)
    })
}

/// The text of one item of the list: up to the next item, or to the first line that is indented less.
fn raw_item<'a>(text: &'a str, item: &Location, next: Option<&Location>) -> &'a str {
    let Some(start) = byte_offset(item) else { return "" };
    let end = next.and_then(byte_offset).filter(|end| *end > start);
    let rest = match end {
        Some(end) => text.get(start..end),
        None => text.get(start..),
    };
    let rest = rest.unwrap_or_default();
    let indent = usize::try_from(item.column().saturating_sub(1)).unwrap_or(usize::MAX);
    let mut length = 0;
    for (number, line) in rest.split_inclusive('\n').enumerate() {
        let content = line.trim_start_matches(' ');
        let dedented = !content.trim().is_empty() && line.len() - content.len() < indent;
        if (number > 0 && dedented) || length > Provenance::MAX_RAW_BYTES {
            break;
        }
        length += line.len();
    }
    let mut raw = rest.get(..length).unwrap_or(rest);
    if raw.starts_with('{')
        && let Some(close) = raw.rfind('}')
    {
        raw = raw.get(..=close).unwrap_or(raw);
    }
    raw.trim_end_matches(|c: char| c.is_whitespace() || c == '-' || c == ',')
}

fn byte_offset(location: &Location) -> Option<usize> {
    usize::try_from(location.span().byte_offset()?).ok()
}

/// Says what is wrong in the words of the format, and how to mend it.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "an enum of the parser, with dozens of variants that its own words explain well"
)]
fn explain(error: &Error) -> FileError {
    let error = error.without_snippet();
    let (line, column) = error.location().map_or((1, 1), |at| (at.line(), at.column()));
    let message = match error {
        Error::SerdeUnknownField { field, expected, .. } => {
            let field = shorten(field, MAX_WORD_BYTES);
            match expected.iter().find(|known| distance(known, &field) <= 2) {
                Some(near) => format!("unknown key `{field}`, did you mean `{near}`?"),
                None => format!("unknown key `{field}`; the keys here are {}", expected.join(", ")),
            }
        }
        Error::SerdeMissingField { field, .. } => format!("the key `{field}` is missing; add it"),
        Error::NullIntoString { .. } => "a value is missing here; write one or remove the key".to_owned(),
        Error::Unexpected { expected, .. } if expected.contains("scalar") => {
            "one word or number belongs here".to_owned()
        }
        other => UserMessageFormatter.format_message(other).into_owned(),
    };
    FileError {
        line,
        column,
        message: shorten(&message.replace(char::is_control, " "), MAX_MESSAGE_BYTES),
    }
}

/// Levenshtein distance; the words are keys of the format and a key already cut to length.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, to) in row.iter_mut().skip(1).zip(b.chars()) {
            let replaced = diagonal + usize::from(from != to);
            diagonal = *cell;
            left = replaced.min(left + 1).min(*cell + 1);
            *cell = left;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests;

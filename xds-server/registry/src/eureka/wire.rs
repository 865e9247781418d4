//! What a Eureka server's JSON says, in each of the dialects that servers of the last ten years speak.
//!
//! Pure and lenient: a list of one may be the thing itself, a number may be a text, and what is missing is missing. Only
//! what is no listing at all is an error; it must never look like an empty one.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use crate::layout::entry::Object;

/// A full listing or a delta.
#[derive(Debug)]
pub(super) struct Applications {
    /// What the server says the statuses of its whole registry add up to; `None` where a server has no such word.
    pub(super) hash: Option<String>,
    pub(super) records: Vec<Record>,
}

/// The application and the instance in it.
pub(super) type Id = (Arc<str>, Arc<str>);

/// One instance.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) id: Id,
    /// Whether the instance named itself, rather than its place in the answer.
    pub(super) named: bool,
    pub(super) status: Status,
    pub(super) stamp: Stamp,
    pub(super) deleted: bool,
    pub(super) lease: Lease,
    pub(super) body: Object,
}

/// When a record was written, by two clocks in milliseconds. Zero where a server does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Stamp {
    /// The instance's clock: equal on every peer.
    pub(super) dirty: u64,
    /// The clock of the server that answered.
    pub(super) updated: u64,
}

/// What a server knows of an instance's heartbeats, by its own clock in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Lease {
    /// When this process of the server took the instance up.
    pub(super) registered: u64,
    /// The last heartbeat, put forward by the length of the lease.
    pub(super) renewed: u64,
    pub(super) duration: u64,
}

/// In the order of their names, which is the order of the hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Status {
    Down,
    OutOfService,
    Starting,
    Unknown,
    Up,
}

impl Status {
    fn of(value: &Value) -> Self {
        match value.as_str() {
            Some("UP") => Self::Up,
            Some("DOWN") => Self::Down,
            Some("STARTING") => Self::Starting,
            Some("OUT_OF_SERVICE") => Self::OutOfService,
            // As Eureka itself reads a word it does not know.
            _ => Self::Unknown,
        }
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Up => "UP",
            Self::Down => "DOWN",
            Self::Starting => "STARTING",
            Self::OutOfService => "OUT_OF_SERVICE",
            Self::Unknown => "UNKNOWN",
        }
    }
}

/// What the statuses of a registry add up to: `DOWN_1_UP_2_`, nothing for an empty one.
pub(super) fn hash_of(statuses: impl Iterator<Item = Status>) -> String {
    let mut counts = BTreeMap::<Status, usize>::new();
    for status in statuses {
        *counts.entry(status).or_default() += 1;
    }
    let parts = counts
        .iter()
        .map(|(status, count)| format!("{}_{count}_", status.as_str()));
    parts.collect()
}

/// Reads an answer.
///
/// # Errors
/// Why it is no listing.
pub(super) fn read(body: &[u8]) -> Result<Applications, String> {
    if body.trim_ascii_start().starts_with(b"<") {
        return Err(
            "the answer is XML or HTML although JSON was asked for: something on the way drops the Accept \
                    header, or the endpoint lacks its path, such as /eureka"
                .to_owned(),
        );
    }
    let answer: Value = serde_json::from_slice(body).map_err(|error| format!("the answer is not JSON: {error}"))?;
    let Some(applications) = answer.get("applications").and_then(Value::as_object) else {
        return Err("the answer has no \"applications\": this is not a Eureka server, or the path is wrong".to_owned());
    };
    let hash = match applications.get("apps__hashcode") {
        Some(Value::String(hash)) => Some(hash.clone()),
        Some(_) | None => None,
    };
    let mut records = Vec::new();
    for application in many(applications.get("application"), "application")? {
        let name = text(application, "name");
        for instance in many(application.get("instance"), "instance")? {
            let number = records.len();
            records.push(record(name.as_deref(), instance, number));
        }
    }
    Ok(Applications { hash, records })
}

impl Applications {
    /// Whether what is listed is what the server says it lists.
    pub(super) fn adds_up(&self) -> bool {
        let listed = hash_of(self.records.iter().map(|record| record.status));
        self.hash.as_ref().is_none_or(|hash| *hash == listed)
    }
}

/// A list, one thing instead of a list of one, or nothing.
fn many<'a>(value: Option<&'a Value>, what: &str) -> Result<Vec<&'a Object>, String> {
    match value {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Object(one)) => Ok(vec![one]),
        Some(Value::Array(list)) => {
            let objects = list.iter().map(Value::as_object);
            let objects: Option<Vec<&Object>> = objects.collect();
            objects.ok_or_else(|| format!("an element of {what:?} is not an object"))
        }
        Some(Value::Bool(_) | Value::Number(_) | Value::String(_)) => Err(format!("{what:?} is not a list")),
    }
}

fn record(application: Option<&str>, instance: &Object, number: usize) -> Record {
    let own = text(instance, "app");
    let app = application.or(own.as_deref()).unwrap_or_default();
    let name = name_of(instance);
    let named = name.is_some();
    let name = name.unwrap_or_else(|| format!("#{number}"));
    let lease = instance.get("leaseInfo").and_then(Value::as_object);
    let moment = |key| lease.and_then(|lease| number_of(lease.get(key))).unwrap_or_default();
    Record {
        id: (app.into(), name.as_str().into()),
        named,
        status: instance.get("status").map_or(Status::Up, Status::of),
        stamp: Stamp {
            dirty: number_of(instance.get("lastDirtyTimestamp")).unwrap_or_default(),
            updated: number_of(instance.get("lastUpdatedTimestamp")).unwrap_or_default(),
        },
        deleted: text(instance, "actionType").as_deref() == Some("DELETED"),
        lease: Lease {
            registered: moment("registrationTimestamp"),
            renewed: moment("lastRenewalTimestamp"),
            duration: moment("durationInSecs").saturating_mul(1000),
        },
        body: instance.clone(),
    }
}

/// As Eureka itself names an instance that has no `instanceId`.
fn name_of(instance: &Object) -> Option<String> {
    let amazon = || {
        let metadata = instance.get("dataCenterInfo")?.get("metadata")?.as_object()?;
        text(metadata, "instance-id")
    };
    text(instance, "instanceId")
        .or_else(amazon)
        .or_else(|| text(instance, "hostName"))
}

/// A text that says something.
pub(super) fn text(object: &Object, key: &str) -> Option<String> {
    let text = object.get(key)?.as_str()?.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

/// A number, or a text that is one.
pub(super) fn number_of(value: Option<&Value>) -> Option<u64> {
    match value? {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.trim().parse().ok(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_counts_statuses_in_the_order_of_their_names() {
        use Status::*;
        let statuses = [Up, Down, Unknown, Up, Starting, OutOfService];
        assert_eq!(
            hash_of(statuses.into_iter()),
            "DOWN_1_OUT_OF_SERVICE_1_STARTING_1_UNKNOWN_1_UP_2_"
        );
        assert_eq!(hash_of([].into_iter()), "");
    }

    #[test]
    fn an_empty_registry_is_told_in_several_ways() {
        for body in [
            r#"{"applications":{"versions__delta":"1","apps__hashcode":"","application":[]}}"#,
            r#"{"applications":{"versions__delta":1,"apps__hashcode":""}}"#,
            r#"{"applications":{"application":null,"apps__hashcode":""}}"#,
            r#"{"applications":{"application":{"name":"X","instance":[]}}}"#,
        ] {
            let read = read(body.as_bytes()).unwrap();
            assert!(read.records.is_empty() && read.adds_up(), "{body}");
        }
    }

    #[test]
    fn a_listing_without_its_instances_does_not_add_up() {
        for body in [
            r#"{"applications":{"apps__hashcode":"UP_3_","application":[]}}"#,
            r#"{"applications":{"apps__hashcode":"UP_3_"}}"#,
            r#"{"applications":{"apps__hashcode":"","application":{"name":"X","instance":{"instanceId":"a","status":"UP"}}}}"#,
        ] {
            assert!(!read(body.as_bytes()).unwrap().adds_up(), "{body}");
        }
    }

    #[test]
    fn what_is_no_listing_is_an_error_and_says_why() {
        let why = |body: &str| read(body.as_bytes()).unwrap_err();
        assert!(why("<applications></applications>").contains("Accept header"));
        assert!(why(" \n<!doctype html>").contains("path"));
        assert!(why("").contains("not JSON"));
        assert!(why(r#"{"applications":{"application":["#).contains("not JSON"));
        for body in ["{}", "[]", "null", r#"{"applications":[]}"#, r#"{"status":404}"#] {
            assert!(why(body).contains("not a Eureka server"), "{body}");
        }
        assert!(why(r#"{"applications":{"application":"X"}}"#).contains("not a list"));
        assert!(why(r#"{"applications":{"application":[1]}}"#).contains("not an object"));
        assert!(why(r#"{"applications":{"application":{"instance":true}}}"#).contains("not a list"));
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(why(&deep).contains("not JSON"));
    }

    #[test]
    fn an_instance_without_an_id_goes_by_what_eureka_would_call_it() {
        let id = |instance: &str| {
            let body = format!(r#"{{"applications":{{"application":{{"name":"X","instance":{instance}}}}}}}"#);
            let record = read(body.as_bytes()).unwrap().records.remove(0);
            (record.id.1.to_string(), record.named)
        };
        assert_eq!(id(r#"{"instanceId":"i","hostName":"h"}"#), ("i".into(), true));
        let amazon = r#"{"hostName":"h","dataCenterInfo":{"name":"Amazon","metadata":{"instance-id":"i-1"}}}"#;
        assert_eq!(id(amazon), ("i-1".into(), true));
        assert_eq!(id(r#"{"hostName":"h"}"#), ("h".into(), true));
        assert_eq!(id("{}"), ("#0".into(), false));
    }
}

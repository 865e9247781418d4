//! The messages of Nacos: an envelope in protobuf, JSON inside.
//!
//! Two services with one method each carry everything, so what a message is says the name of its type. Everything
//! that a server writes is read leniently field by field, and what can't be read is an error, never an empty list.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::layout::entry::brief;

/// What gRPC carries.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Payload {
    #[prost(message, optional, tag = "2")]
    pub(super) metadata: Option<Metadata>,
    #[prost(message, optional, tag = "3")]
    pub(super) body: Option<Body>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Metadata {
    #[prost(string, tag = "3")]
    pub(super) kind: String,
    #[prost(btree_map = "string, string", tag = "7")]
    pub(super) headers: BTreeMap<String, String>,
}

/// `google.protobuf.Any` without a type: the name is in the metadata.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Body {
    #[prost(bytes = "vec", tag = "2")]
    pub(super) value: Vec<u8>,
}

impl Payload {
    pub(super) fn new(kind: &str, body: &impl Serialize, token: Option<&str>) -> Self {
        let headers = token.map(|token| ("accessToken".to_owned(), token.to_owned()));
        Self {
            metadata: Some(Metadata {
                kind: kind.to_owned(),
                headers: headers.into_iter().collect(),
            }),
            body: Some(Body {
                // Nothing that is sent has a key that is no text, which is all that can fail here.
                value: serde_json::to_vec(body).unwrap_or_default(),
            }),
        }
    }

    pub(super) fn kind(&self) -> &str {
        self.metadata.as_ref().map_or("", |metadata| &metadata.kind)
    }

    pub(super) fn json(&self) -> &[u8] {
        self.body.as_ref().map_or(b"", |body| &body.value)
    }
}

/// The beginning of every answer. A code that is missing is zero, which is no success.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Verdict {
    pub(super) result_code: i64,
    pub(super) error_code: i64,
    pub(super) message: Option<String>,
}

/// `ConnectionSetupRequest`: an empty table of abilities makes servers that can say that they are ready.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Setup<'a> {
    pub(super) client_version: &'a str,
    pub(super) tenant: &'a str,
    pub(super) labels: BTreeMap<&'a str, &'a str>,
    pub(super) ability_table: BTreeMap<&'a str, bool>,
}

/// Which service, in every question about one. `clusters` is how subscriptions spell it, `cluster` how queries do.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct About<'a> {
    pub(super) namespace: &'a str,
    pub(super) group_name: &'a str,
    pub(super) service_name: &'a str,
    pub(super) clusters: &'a str,
    pub(super) cluster: &'a str,
    pub(super) healthy_only: bool,
    pub(super) subscribe: bool,
}

/// `ServiceListRequest`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PageRequest<'a> {
    pub(super) namespace: &'a str,
    pub(super) group_name: &'a str,
    pub(super) page_no: usize,
    pub(super) page_size: usize,
}

/// A page of the names of a group, by gRPC or HTTP.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct NamesPage {
    /// Some servers write it as text.
    count: Value,
    #[serde(alias = "doms")]
    pub(super) service_names: Vec<String>,
}

impl NamesPage {
    /// How many names all pages have together, if the server says so.
    pub(super) fn count(&self) -> Option<u64> {
        match &self.count {
            Value::Number(number) => number.as_u64(),
            Value::String(text) => text.parse().ok(),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
        }
    }
}

/// The answer to a query or a subscription, and the content of a push.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct AboutService {
    pub(super) service_info: ServiceInfo,
}

/// A service with all its instances.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ServiceInfo {
    #[serde(default)]
    pub(super) name: String,
    #[serde(default)]
    pub(super) group_name: Option<String>,
    /// `null` and absence say nothing; an empty list is written `[]`.
    #[serde(default)]
    pub(super) hosts: Option<Vec<Box<RawValue>>>,
    /// The server's clock when it wrote this.
    #[serde(default)]
    pub(super) last_ref_time: Option<i64>,
    /// So few instances are healthy that all are shown as if they were.
    #[serde(default)]
    pub(super) reach_protection_threshold: Option<bool>,
}

/// What a server wants answered.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Numbered {
    pub(super) request_id: Value,
}

/// The answer to it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Acknowledgement {
    pub(super) request_id: Value,
    pub(super) result_code: i64,
    pub(super) success: bool,
}

/// What a login brings.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Login {
    pub(super) access_token: String,
    /// In seconds.
    #[serde(default)]
    pub(super) token_ttl: Option<u64>,
}

impl ServiceInfo {
    /// The group and the name, however the server writes them.
    pub(super) fn place(&self) -> (Option<&str>, &str) {
        match self.name.split_once("@@") {
            Some((group, name)) => (Some(group), name),
            None => (self.group_name.as_deref(), &self.name),
        }
    }

    pub(super) fn is_protected(&self) -> bool {
        self.reach_protection_threshold == Some(true)
    }
}

pub(super) fn parse<'a, T: Deserialize<'a>>(what: &str, json: &'a [u8]) -> Result<T, String> {
    serde_json::from_slice(json).map_err(|error| brief(&format!("{what} can't be read: {error}")))
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    /// Recorded from Nacos 2.5.0, as it came through gRPC.
    const PUSH: &str = r#"{"headers":{},"requestId":"2","serviceInfo":{"name":"web","groupName":"DEFAULT_GROUP","clusters":"","cacheMillis":10000,"hosts":[{"instanceId":"127.0.0.1#9004#DEFAULT#DEFAULT_GROUP@@web","ip":"127.0.0.1","port":9004,"weight":1.0,"healthy":false,"enabled":true,"ephemeral":true,"clusterName":"DEFAULT","serviceName":"DEFAULT_GROUP@@web","metadata":{},"instanceHeartBeatInterval":5000,"instanceHeartBeatTimeOut":15000,"ipDeleteTimeout":30000,"instanceIdGenerator":"simple"}],"lastRefTime":1795199082111,"checksum":"","allIPs":false,"reachProtectionThreshold":false,"valid":true},"module":"naming"}"#;

    #[test]
    fn an_envelope_is_what_the_protocol_says() {
        let payload = Payload::new("HealthCheckRequest", &BTreeMap::<&str, &str>::new(), Some("t"));
        let expected = b"\x12\x26\x1a\x12HealthCheckRequest:\x10\x0a\x0baccessToken\x12\x01t\x1a\x04\x12\x02{}";
        assert_eq!(payload.encode_to_vec(), expected);
        let read = Payload::decode(expected.as_slice()).unwrap();
        assert_eq!((read.kind(), read.json()), ("HealthCheckRequest", b"{}".as_slice()));
        let empty = Payload::decode(b"".as_slice()).unwrap();
        assert_eq!((empty.kind(), empty.json()), ("", b"".as_slice()));
    }

    #[test]
    fn a_push_and_a_page_of_http_are_read() {
        let push: AboutService = parse("it", PUSH.as_bytes()).unwrap();
        assert_eq!(push.service_info.place(), (Some("DEFAULT_GROUP"), "web"));
        assert_eq!(push.service_info.hosts.as_ref().map(Vec::len), Some(1));
        assert!(!push.service_info.is_protected());
        let number: Numbered = parse("it", PUSH.as_bytes()).unwrap();
        assert_eq!(number.request_id, "2");
        let http: ServiceInfo = parse("it", br#"{"name":"G1@@web1","groupName":"G1","hosts":[]}"#).unwrap();
        assert_eq!(http.place(), (Some("G1"), "web1"));
        assert_eq!(http.hosts.map(|hosts| hosts.len()), Some(0));
        let page: NamesPage = parse("it", br#"{"count":2,"doms":["web1","web2"]}"#).unwrap();
        assert_eq!((page.count(), page.service_names.len()), (Some(2), 2));
        let old: NamesPage = parse("it", br#"{"count":"7","doms":[]}"#).unwrap();
        assert_eq!(old.count(), Some(7));
    }

    #[test]
    fn nothing_is_never_an_empty_list() {
        let hosts =
            |json: &str| parse::<ServiceInfo>("it", json.as_bytes()).map(|info| info.hosts.map(|hosts| hosts.len()));
        assert_eq!(hosts(r#"{"name":"a","hosts":null}"#), Ok(None));
        assert_eq!(hosts("{}"), Ok(None));
        assert_eq!(hosts(r#"{"hosts":[]}"#), Ok(Some(0)));
        assert_eq!(hosts("[]"), Ok(None));
        for broken in ["", "null", r#"{"hosts":{}}"#, r#"{"hosts":[}"#, r#"{"name":1}"#] {
            assert!(hosts(broken).is_err(), "{broken}");
        }
        assert!(parse::<NamesPage>("it", br#"{"count":1}"#).is_err());
        assert!(parse::<NamesPage>("it", br#"{"count":1,"doms":null}"#).is_err());
        assert!(parse::<AboutService>("it", br#"{"serviceInfo":null}"#).is_err());
    }
}

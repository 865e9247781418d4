//! One endpoint of a slice, before it is multiplied by the ports of the slice.
//!
//! Pure, and as lenient as the slice: what is wrong with one endpoint is the rejection of that one.

use std::sync::Arc;

use leadsman_core::model::{Address, Endpoint, Health, Locality, Provenance, Rejection};
use serde_json::Value;

use super::conditions::{Conditions, Verdict};
use super::config::NotReady;
use super::slice::{Entry, LAYOUT, MAX_NAME_BYTES, Rules, Slice, number};
use crate::layout::entry::{Object, list, map, text};
use crate::layout::tags::Tags;
use crate::text::shorten;

/// An endpoint without a port.
pub(super) enum Reading {
    Usable {
        address: String,
        model: Box<Endpoint>,
        pod: Option<Arc<str>>,
        omitted: bool,
    },
    Refused(Rejection),
}

impl Reading {
    pub(super) fn of(rules: &Rules, slice: &Slice, place: usize, value: &Value) -> Self {
        let raw = value.to_string();
        let addresses = value.as_object().and_then(|endpoint| list(endpoint, "addresses"));
        // Several addresses of one endpoint are interchangeable, says the API; the first is enough.
        let address = addresses.and_then(|all| all.first()).and_then(Value::as_str);
        let (record, stable) = match address {
            Some(address) => (format!("{}/{}", slice.key, shorten(address, MAX_NAME_BYTES)), true),
            // A place in a list names another endpoint tomorrow.
            None => (format!("{}#{place}", slice.key), false),
        };
        let provenance = Provenance {
            stable,
            ..Provenance::new(&record, LAYOUT, raw.as_bytes(), number(&slice.identity.version))
        };
        let refused = |reason: &str| {
            Self::Refused(Rejection {
                provenance: provenance.clone(),
                reason: reason.to_owned(),
            })
        };
        let (Some(endpoint), Some(address)) = (value.as_object(), address) else {
            return refused("the endpoint has no address");
        };
        let conditions = match Conditions::read(endpoint) {
            Ok(conditions) => conditions,
            Err(reason) => return refused(&reason),
        };
        // The port is another matter; any will do to see whether the address is one.
        let model = match Address::new(address, 1) {
            Ok(address) => Endpoint::new(address, provenance.clone()),
            Err(error) => return refused(&error.to_string()),
        };
        let (health, omitted) = match conditions.verdict() {
            Verdict::Ready => (Health::Healthy, false),
            Verdict::Draining => (Health::Draining, false),
            Verdict::NotReady => (Health::Unhealthy, rules.not_ready == NotReady::Omit),
            Verdict::Ended => (Health::Unhealthy, true),
        };
        let (tags, pod) = describe(endpoint);
        let model = Endpoint {
            health,
            health_reason: conditions.to_string().into(),
            locality: tags.locality,
            metadata: tags.metadata,
            ..model
        };
        Self::Usable {
            address: address.to_owned(),
            model: Box::new(model),
            pod,
            omitted,
        }
    }

    pub(super) fn at(&self, port: i64, application: &str) -> Entry {
        let (host, model, pod, omitted) = match self {
            Self::Usable {
                address,
                model,
                pod,
                omitted,
            } => (address, model, pod, *omitted),
            Self::Refused(rejection) => return Entry::Refused(rejection.clone()),
        };
        let address = match Address::new(host, port) {
            Ok(address) if omitted => return Entry::Omitted(address),
            Ok(address) => address,
            Err(error) => {
                return Entry::Refused(Rejection {
                    provenance: model.provenance.clone(),
                    reason: error.to_string(),
                });
            }
        };
        let mut endpoint = Endpoint {
            address,
            ..model.as_ref().clone()
        };
        if !application.is_empty() {
            endpoint
                .metadata
                .insert("app_protocol".to_owned(), application.to_owned());
        }
        Entry::Listed {
            endpoint,
            pod: pod.clone(),
        }
    }
}

/// What an endpoint says of itself beyond address and conditions, and the pod behind it.
fn describe(endpoint: &Object) -> (Tags, Option<Arc<str>>) {
    let mut tags = Tags::default();
    let Locality { zone, .. } = &mut tags.locality;
    *zone = shorten(text(endpoint, "zone"), MAX_NAME_BYTES);
    tags.known("node", text(endpoint, "nodeName"));
    let Some(target) = map(endpoint, "targetRef") else {
        return (tags, None);
    };
    if text(target, "kind") == "Pod" {
        tags.known("pod", text(target, "name"));
    }
    let uid = text(target, "uid");
    let pod = (!uid.is_empty() && uid.len() <= MAX_NAME_BYTES).then(|| uid.into());
    (tags, pod)
}

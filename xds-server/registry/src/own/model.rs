//! What is registered, what may be asked for, and what is answered. Plain values, the same for both stores and both APIs.
//!
//! What a client sends is checked here, once. What a store holds is not trusted to have been: it becomes an endpoint or
//! the rejection of itself, like the record of any registry.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use leadsman_core::model::{
    Address, Endpoint, Health, HealthError, Locality, Provenance, Rejection, ServiceName, Weight,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::layout::tags::{MAX_ENTRIES, MAX_KEY_BYTES, MAX_VALUE_BYTES};
use crate::text::shorten;

/// Ids of instances and words of holders: long enough for two UUIDs and a host name.
const MAX_WORD_BYTES: usize = 128;
/// The shortest lease: a client has to be able to renew it over a network, several times.
pub(super) const MIN_TTL_SECONDS: u32 = 1;
/// The longest lease: a dead instance that nobody takes out is gone within a day.
pub(super) const MAX_TTL_SECONDS: u32 = 24 * 60 * 60;
/// Ten seconds between renewals, and two of them may be lost.
pub(super) const DEFAULT_TTL_SECONDS: u32 = 30;
/// Texts of clients are quoted in errors, but never at length.
const MAX_QUOTED_BYTES: usize = 80;

/// Which instance of which service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) service: ServiceName,
    pub(super) id: Arc<str>,
}

impl Key {
    /// # Errors
    /// [`Refusal::Invalid`] for names that no key of a store, line of a log or path of a URL could hold.
    pub(super) fn new(service: &str, id: &str) -> Result<Self, Refusal> {
        Ok(Self {
            service: service_name(service)?,
            id: word("the id", id)?.into(),
        })
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.service, self.id)
    }
}

/// A service name that can be a segment of a key.
pub(super) fn service_name(text: &str) -> Result<ServiceName, Refusal> {
    let name = ServiceName::new(text).map_err(|error| Refusal::Invalid(format!("service: {error}")))?;
    if text.contains('/') {
        return Err(Refusal::Invalid(format!(
            "service: {:?} holds a slash; separate the parts of a name with dots",
            shorten(text, MAX_QUOTED_BYTES)
        )));
    }
    Ok(name)
}

fn word<'a>(what: &str, text: &'a str) -> Result<&'a str, Refusal> {
    let invalid = |why: String| Err(Refusal::Invalid(format!("{what} {why}")));
    match text.len() {
        0 => return invalid("is empty".to_owned()),
        1..=MAX_WORD_BYTES => {}
        long => return invalid(format!("is {long} bytes long, the limit is {MAX_WORD_BYTES}")),
    }
    match text.chars().find(|c| *c == '/' || c.is_whitespace() || c.is_control()) {
        Some(c) => invalid(format!("holds the character {c:?}")),
        None => Ok(text),
    }
}

/// What an instance says about itself, in the words of every file and record of Leadsman. Unknown words are passed over:
/// a later program may have written them. The API is stricter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Content {
    pub(super) address: String,
    pub(super) port: u32,
    #[serde(default = "default_weight")]
    pub(super) weight: f64,
    #[serde(default = "default_health")]
    pub(super) health: String,
    #[serde(default)]
    pub(super) locality: Place,
    #[serde(default)]
    pub(super) metadata: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Place {
    pub(super) region: String,
    pub(super) zone: String,
    pub(super) sub_zone: String,
}

pub(super) fn default_weight() -> f64 {
    1.0
}

pub(super) fn default_health() -> String {
    Health::Unknown.as_str().to_owned()
}

impl Content {
    /// The endpoint, or why there is none.
    pub(super) fn endpoint(&self, provenance: Provenance, draining: bool) -> Result<Endpoint, Rejection> {
        match self.read() {
            Ok((address, weight, health)) => Ok(Endpoint {
                weight,
                health: if draining { Health::Draining } else { health },
                health_reason: if draining { "drained" } else { "" }.into(),
                locality: Locality {
                    region: self.locality.region.clone(),
                    zone: self.locality.zone.clone(),
                    sub_zone: self.locality.sub_zone.clone(),
                },
                metadata: self.metadata.clone(),
                ..Endpoint::new(address, provenance)
            }),
            Err(reason) => Err(Rejection { provenance, reason }),
        }
    }

    fn read(&self) -> Result<(Address, Weight, Health), String> {
        let address = Address::new(&self.address, i64::from(self.port)).map_err(|error| error.to_string())?;
        let weight = Weight::new(self.weight).map_err(|error| error.to_string())?;
        let health = self
            .health
            .parse()
            .map_err(|error: HealthError| format!("health: {error}"))?;
        let Place { region, zone, sub_zone } = &self.locality;
        for (part, text) in [("region", region), ("zone", zone), ("sub_zone", sub_zone)] {
            if text.len() > MAX_VALUE_BYTES {
                let long = text.len();
                return Err(format!(
                    "locality.{part} is {long} bytes long, the limit is {MAX_VALUE_BYTES}"
                ));
            }
        }
        self.check_metadata()?;
        Ok((address, weight, health))
    }

    fn check_metadata(&self) -> Result<(), String> {
        let count = self.metadata.len();
        if count > MAX_ENTRIES {
            return Err(format!("metadata has {count} entries, the limit is {MAX_ENTRIES}"));
        }
        for (key, value) in &self.metadata {
            if key.is_empty() || key.len() > MAX_KEY_BYTES {
                let key = shorten(key, MAX_QUOTED_BYTES);
                return Err(format!("the metadata key {key:?} has not 1 to {MAX_KEY_BYTES} bytes"));
            }
            if value.len() > MAX_VALUE_BYTES {
                let long = value.len();
                return Err(format!(
                    "metadata.{key} is {long} bytes long, the limit is {MAX_VALUE_BYTES}"
                ));
            }
        }
        Ok(())
    }
}

/// A lease of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Lease(pub(super) u64);

impl fmt::Display for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for Lease {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        let digits = text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit());
        let number = u64::from_str_radix(text, 16).ok().filter(|_| digits);
        number.map(Self).ok_or_else(|| {
            let text = shorten(text, MAX_QUOTED_BYTES);
            Refusal::Invalid(format!("lease: {text:?} is not 16 hexadecimal digits"))
        })
    }
}

impl Serialize for Lease {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Lease {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A wish to be registered.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Registration {
    pub(super) key: Key,
    pub(super) content: Content,
    pub(super) ttl_seconds: u32,
    pub(super) holder: String,
    /// Zero: the instance must not be there.
    pub(super) expected: Option<u64>,
}

impl Registration {
    /// # Errors
    /// [`Refusal::Invalid`], with the field first.
    pub(super) fn check(&self) -> Result<(), Refusal> {
        if !self.holder.is_empty() {
            word("the holder", &self.holder)?;
        }
        if !(MIN_TTL_SECONDS..=MAX_TTL_SECONDS).contains(&self.ttl_seconds) {
            return Err(Refusal::Invalid(format!(
                "ttl_seconds {} is outside {MIN_TTL_SECONDS} to {MAX_TTL_SECONDS}",
                self.ttl_seconds
            )));
        }
        self.content.read().map(|_| ()).map_err(Refusal::Invalid)
    }
}

/// What has to hold still for a change to be made; nothing, when both are missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Guard {
    pub(super) lease: Option<Lease>,
    pub(super) version: Option<u64>,
}

impl Guard {
    /// # Errors
    /// [`Refusal::Replaced`] or [`Refusal::Conflict`].
    pub(super) fn check(self, key: &Key, lease: Lease, version: u64) -> Result<(), Refusal> {
        if self.lease.is_some_and(|expected| expected != lease) {
            return Err(Refusal::replaced(key));
        }
        match self.version.filter(|expected| *expected != version) {
            Some(expected) => Err(Refusal::Conflict {
                expected,
                actual: version,
            }),
            None => Ok(()),
        }
    }
}

/// How an instance stands after a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Receipt {
    pub(super) version: u64,
    pub(super) lease: Lease,
    pub(super) ttl_seconds: u32,
    pub(super) draining: bool,
    pub(super) changed: bool,
}

/// An instance as it is shown to whoever asks.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Shown {
    pub(super) service: Arc<str>,
    pub(super) id: Arc<str>,
    pub(super) endpoint: Content,
    pub(super) ttl_seconds: u32,
    pub(super) version: u64,
    pub(super) draining: bool,
    pub(super) remaining_seconds: u32,
}

/// What to list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listing {
    pub(super) service: Option<ServiceName>,
    pub(super) after: Option<Key>,
    pub(super) limit: usize,
}

impl Listing {
    /// A page is one answer, and has to be made while others wait.
    pub(super) const MAX_LIMIT: usize = 1000;

    /// # Errors
    /// [`Refusal::Invalid`] for a place that no page could have ended at.
    pub(super) fn new(service: &str, after: &str, limit: u32) -> Result<Self, Refusal> {
        let service = if service.is_empty() {
            None
        } else {
            Some(service_name(service)?)
        };
        let after = match after {
            "" => None,
            text => {
                let place = text.split_once('/');
                let (service, id) =
                    place.ok_or_else(|| Refusal::Invalid("after is no `next` of a page before".to_owned()))?;
                Some(Key::new(service, id)?)
            }
        };
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        Ok(Self {
            service,
            after,
            limit: match limit {
                0 => Self::MAX_LIMIT,
                _ => limit.min(Self::MAX_LIMIT),
            },
        })
    }
}

/// One page.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Page {
    pub(super) instances: Vec<Shown>,
    /// Empty on the last page.
    pub(super) next: String,
    pub(super) revision: u64,
}

/// Why something is not done: one variant for each way in which a client goes on differently.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("{0}")]
    Invalid(String),
    #[error("{0} is not registered: its lease has run out, or it never was; register again")]
    Unknown(String),
    #[error(
        "{0} has another lease now: somebody else has registered this id since; give each instance an id of its own"
    )]
    Replaced(String),
    #[error("the version is {actual} and not {expected}; read the instance and decide again")]
    Conflict { expected: u64, actual: u64 },
    #[error("{0}")]
    Full(String),
    #[error("{0}")]
    Unauthenticated(String),
    #[error("{0}")]
    Forbidden(String),
    #[error("{0}; try again")]
    Unavailable(String),
}

impl Refusal {
    pub(super) fn unknown(key: &Key) -> Self {
        Self::Unknown(key.to_string())
    }

    pub(super) fn replaced(key: &Key) -> Self {
        Self::Replaced(key.to_string())
    }

    /// The word for programs.
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::Invalid(_) => "invalid",
            Self::Unknown(_) => "unknown",
            Self::Replaced(_) => "replaced",
            Self::Conflict { .. } => "conflict",
            Self::Full(_) => "full",
            Self::Unauthenticated(_) => "unauthenticated",
            Self::Forbidden(_) => "forbidden",
            Self::Unavailable(_) => "unavailable",
        }
    }
}

#[cfg(test)]
mod tests;

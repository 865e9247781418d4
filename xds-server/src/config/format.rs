//! How names, addresses and durations are written.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::time::Duration;

use leadsman_core::model::{ServiceName, SourceName};
use serde::de::Error;
use serde::{Deserialize, Deserializer};

use super::SourceConfig;

/// A name that is checked where it stands, so that a mistake points at it.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Named<T>(pub(super) T);

impl<'de> Deserialize<'de> for Named<ServiceName> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        ServiceName::new(&text).map(Self).map_err(D::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Named<SourceName> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        SourceName::new(&text).map(Self).map_err(D::Error::custom)
    }
}

pub(super) fn sources<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<SourceName, SourceConfig>, D::Error> {
    let sources = BTreeMap::<Named<SourceName>, SourceConfig>::deserialize(deserializer)?;
    Ok(sources.into_iter().map(|(name, source)| (name.0, source)).collect())
}

pub(super) fn source_names<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<SourceName>>, D::Error> {
    let names = Option::<Vec<Named<SourceName>>>::deserialize(deserializer)?;
    Ok(names.map(|names| names.into_iter().map(|name| name.0).collect()))
}

pub(super) fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(|_| {
        D::Error::custom(format!(
            "{text:?} is not an IP address and a port, such as 127.0.0.1:18000"
        ))
    })
}

pub(super) fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    humantime::parse_duration(&text).map_err(|_| {
        D::Error::custom(format!(
            "{text:?} is not a duration: write a number and a unit, such as 1s or 250ms"
        ))
    })
}

/// A port of TCP.
pub(super) fn some_port<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<NonZeroU16>, D::Error> {
    let Some(number) = Option::<i64>::deserialize(deserializer)? else {
        return Ok(None);
    };
    let port = u16::try_from(number).ok().and_then(NonZeroU16::new);
    match port {
        Some(port) => Ok(Some(port)),
        None => Err(D::Error::custom(format!("port {number} is outside 1 to 65535"))),
    }
}

pub(super) fn some_duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    /// Lets an absent value and a present one share one rule.
    #[derive(Deserialize)]
    #[serde(transparent)]
    struct Present(#[serde(deserialize_with = "duration")] Duration);
    Ok(Option::<Present>::deserialize(deserializer)?.map(|present| present.0))
}

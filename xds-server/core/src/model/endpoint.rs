//! A service, its endpoints, and the records that could not become one.

use std::cmp::{Ordering, Reverse};
use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use super::ServiceName;

/// An address Envoy can connect to: an IP literal and a port from 1 to 65535.
///
/// EDS takes no host names, and an unspecified or multicast address is never an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(SocketAddr);

/// Why a text is not an endpoint address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    #[error("{0:?} is not an IP address; EDS takes no host names, so register the address itself")]
    NotAnIp(String),
    #[error("{0:?} carries an IPv6 zone, which has a meaning on one machine only")]
    ZoneId(String),
    #[error("{0} is no address of an instance (unspecified, multicast or broadcast)")]
    NotUnicast(IpAddr),
    #[error("port {0} is outside 1 to 65535")]
    Port(i64),
    #[error("{0:?} is not host:port")]
    NotHostPort(String),
}

impl Address {
    /// Accepts an IP literal, with or without brackets, and a port.
    ///
    /// # Errors
    /// [`AddressError`], one variant a rule.
    pub fn new(host: &str, port: i64) -> Result<Self, AddressError> {
        let bare = host
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .unwrap_or(host);
        if bare.contains('%') {
            return Err(AddressError::ZoneId(shorten(host)));
        }
        let ip = IpAddr::from_str(bare).map_err(|_| AddressError::NotAnIp(shorten(host)))?;
        let broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
        if ip.is_unspecified() || ip.is_multicast() || broadcast {
            return Err(AddressError::NotUnicast(ip));
        }
        match u16::try_from(port) {
            Ok(port) if port > 0 => Ok(Self(SocketAddr::new(ip, port))),
            Ok(_) | Err(_) => Err(AddressError::Port(port)),
        }
    }

    /// Accepts `host:port` and `[v6]:port`.
    ///
    /// # Errors
    /// [`AddressError::NotHostPort`] without a final `:port`, else as [`Address::new`].
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let (host, port) = text
            .rsplit_once(':')
            .ok_or_else(|| AddressError::NotHostPort(shorten(text)))?;
        let port = port
            .parse::<i64>()
            .map_err(|_| AddressError::NotHostPort(shorten(text)))?;
        Self::new(host, port)
    }

    pub fn ip(&self) -> IpAddr {
        self.0.ip()
    }

    pub fn port(&self) -> u16 {
        self.0.port()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Hostile text is quoted in errors, but never at length.
fn shorten(text: &str) -> String {
    const MOST: usize = 80;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// Envoy's `HealthStatus`, without `TIMEOUT`, which no registry says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// The registry says nothing about health; Envoy treats it as healthy.
    #[default]
    Unknown,
    Healthy,
    /// Used only when the healthy ones are not enough.
    Degraded,
    /// Takes no new requests, and does not count towards panic or priority spill.
    Draining,
    Unhealthy,
}

impl Health {
    /// Whether Envoy sends new requests there outside panic mode.
    pub fn is_usable(self) -> bool {
        match self {
            Self::Unknown | Self::Healthy | Self::Degraded => true,
            Self::Draining | Self::Unhealthy => false,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Draining => "draining",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// A text that is none of the five words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no health; it is one of unknown, healthy, degraded, draining, unhealthy")]
pub struct HealthError(String);

impl FromStr for Health {
    type Err = HealthError;

    fn from_str(text: &str) -> Result<Self, HealthError> {
        let words = [
            Self::Unknown,
            Self::Healthy,
            Self::Degraded,
            Self::Draining,
            Self::Unhealthy,
        ];
        let found = words.into_iter().find(|health| health.as_str() == text);
        found.ok_or_else(|| HealthError(shorten(text)))
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The registry's own weight, kept raw: finite, not negative, in the registry's unit. Zero means "drain".
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Weight(f64);

/// Why a number is not a weight.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum WeightError {
    #[error("weight {0} is negative")]
    Negative(f64),
    #[error("weight {0} is not a finite number")]
    NotFinite(f64),
}

impl Weight {
    /// What an endpoint weighs when its registry has no weights.
    pub const ONE: Self = Self(1.0);

    /// # Errors
    /// [`WeightError`] for NaN, infinities and negative numbers.
    pub fn new(raw: f64) -> Result<Self, WeightError> {
        if !raw.is_finite() {
            return Err(WeightError::NotFinite(raw));
        }
        if raw < 0.0 {
            return Err(WeightError::Negative(raw));
        }
        Ok(Self(raw.abs()))
    }

    pub fn get(self) -> f64 {
        self.0
    }

    pub fn is_zero(self) -> bool {
        self.0 == 0.0
    }
}

impl Eq for Weight {}

impl PartialOrd for Weight {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Weight {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Envoy's locality. Empty parts are unset.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Locality {
    pub region: String,
    pub zone: String,
    pub sub_zone: String,
}

/// Where an endpoint comes from: what `explain` prints, and nothing else may depend on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Provenance {
    /// The record's place in its registry: an etcd key, or `file.yaml:line`.
    pub record: Arc<str>,
    /// The layout that understood the record, such as `kratos`.
    pub layout: Arc<str>,
    /// The record itself, cut to [`Provenance::MAX_RAW_BYTES`].
    pub raw: Arc<str>,
    /// The registry's revision of the record (etcd `mod_revision`), zero where it has none.
    pub revision: u64,
    /// Whether `record` names the same instance for as long as it is there. A key does; a line of a file does not.
    pub stable: bool,
}

impl Provenance {
    /// Enough to recognise a record; the registry keeps the whole.
    pub const MAX_RAW_BYTES: usize = 4096;

    /// Cuts `raw` at a character boundary and replaces what is not UTF-8.
    pub fn new(record: &str, layout: &str, raw: &[u8], revision: u64) -> Self {
        let cut = raw.get(..Self::MAX_RAW_BYTES).unwrap_or(raw);
        Self {
            record: record.into(),
            layout: layout.into(),
            raw: String::from_utf8_lossy(cut).into(),
            revision,
            stable: true,
        }
    }
}

/// One instance of a service.
#[derive(Clone, Debug, Serialize)]
pub struct Endpoint {
    pub address: Address,
    /// Zero is used first, and the next one where those before it are not enough.
    pub priority: u16,
    pub weight: Weight,
    pub health: Health,
    /// The registry's own words for the health, such as `enabled=false`; empty when there is nothing to add.
    pub health_reason: Arc<str>,
    pub locality: Locality,
    /// `http`, `grpc`, … where one instance registers several addresses, one a protocol.
    pub scheme: Option<Arc<str>>,
    pub metadata: BTreeMap<String, String>,
    pub provenance: Provenance,
}

impl Endpoint {
    /// An endpoint of unknown health and weight one; set the other fields with struct update.
    pub fn new(address: Address, provenance: Provenance) -> Self {
        Self {
            address,
            priority: 0,
            weight: Weight::ONE,
            health: Health::Unknown,
            health_reason: "".into(),
            locality: Locality::default(),
            scheme: None,
            metadata: BTreeMap::new(),
            provenance,
        }
    }

    /// Of several records with one address the greatest counts: the healthiest, then the one of the first priority, then
    /// the heaviest.
    pub fn preference(&self) -> impl Ord + use<> {
        let health = match self.health {
            Health::Healthy => 4,
            Health::Unknown => 3,
            Health::Degraded => 2,
            Health::Draining => 1,
            Health::Unhealthy => 0,
        };
        (health, Reverse(self.priority), self.weight)
    }

    /// Equal in everything Envoy could notice. Registries rewrite records without changing them, so provenance and
    /// the wording of the health do not count.
    pub fn same_content(&self, other: &Self) -> bool {
        self.address == other.address
            && self.priority == other.priority
            && self.weight == other.weight
            && self.health == other.health
            && self.locality == other.locality
            && self.scheme == other.scheme
            && self.metadata == other.metadata
    }
}

/// A record that could not become an endpoint. It rejects itself, never its siblings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rejection {
    pub provenance: Provenance,
    pub reason: String,
}

/// A service as one registry describes it: always the whole.
#[derive(Clone, Debug, Serialize)]
pub struct Service {
    pub name: ServiceName,
    pub endpoints: Vec<Endpoint>,
    pub rejections: Vec<Rejection>,
}

impl Service {
    pub fn new(name: ServiceName, endpoints: Vec<Endpoint>) -> Self {
        Self {
            name,
            endpoints,
            rejections: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_unicast_ip_literal_with_a_real_port() {
        let shown = |host, port| Address::new(host, port).map(|a| a.to_string());
        assert_eq!(shown("10.0.0.1", 8080).unwrap(), "10.0.0.1:8080");
        assert_eq!(shown("[::1]", 1).unwrap(), "[::1]:1");
        assert_eq!(shown("::1", 65535).unwrap(), "[::1]:65535");
        for port in [0, -1, 65536] {
            assert_eq!(shown("10.0.0.1", port), Err(AddressError::Port(port)));
        }
        for host in ["0.0.0.0", "::", "224.0.0.1", "255.255.255.255"] {
            assert!(matches!(shown(host, 80), Err(AddressError::NotUnicast(_))), "{host}");
        }
        assert!(matches!(shown("fe80::1%eth0", 80), Err(AddressError::ZoneId(_))));
        assert!(matches!(shown("db.internal", 80), Err(AddressError::NotAnIp(_))));
        assert!(matches!(Address::parse("10.0.0.1"), Err(AddressError::NotHostPort(_))));
        assert_eq!(
            Address::parse("[2001:db8::1]:80").unwrap().to_string(),
            "[2001:db8::1]:80"
        );
    }

    #[test]
    fn hostile_text_is_quoted_briefly() {
        let error = Address::new(&"é".repeat(1000), 80).unwrap_err().to_string();
        assert!(error.chars().count() < 200, "{error}");
    }

    #[test]
    fn a_weight_is_finite_and_not_negative() {
        assert!(Weight::new(f64::NAN).is_err());
        assert!(Weight::new(f64::INFINITY).is_err());
        assert!(Weight::new(-0.5).is_err());
        assert!(Weight::new(-0.0).unwrap().is_zero());
        assert_eq!(Weight::new(0.5).unwrap().get(), 0.5);
    }

    #[test]
    fn a_record_is_cut_without_breaking_characters() {
        let raw = "é".repeat(Provenance::MAX_RAW_BYTES);
        assert!(Provenance::new("k", "l", raw.as_bytes(), 1).raw.len() <= Provenance::MAX_RAW_BYTES + 4);
    }
}

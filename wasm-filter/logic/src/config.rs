//! The plugin configuration: what one filter or access logger in Envoy's configuration is there to do.
//!
//! Invariant: a configuration is taken whole or not at all. A mistake is reported and [`Config::fallback`] is used, so a
//! typing error costs an adjustment, never the traffic.

use serde::Deserialize;

/// What the instance of the filter does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Counts requests, and repairs the trace context where it is an HTTP filter.
    Request,
    /// Counts upstream attempts; belongs in the router's `upstream_log`.
    Attempt,
    /// Repairs the trace context and counts no traffic.
    Trace,
}

impl Role {
    /// The role a `root_id` asks for when the configuration names none.
    pub fn from_root_id(root_id: &[u8]) -> Self {
        match root_id {
            b"leadsman-attempt" => Self::Attempt,
            b"leadsman-trace" => Self::Trace,
            // A root_id is the user's own word: anything else is a plain request filter.
            _ => Self::Request,
        }
    }
}

/// What happens to `traceparent` and `tracestate`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TraceMode {
    /// The headers are not read.
    Off,
    /// A valid context passes untouched; an invalid one is replaced.
    #[default]
    Repair,
    /// As `repair`, and a valid context gets a parent id of this proxy.
    Participate,
}

/// The `trace` section.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TraceConfig {
    pub mode: TraceMode,
    /// Start a trace for a request that carries none. Off by default: a trace that begins in the proxy takes the
    /// sampling decision away from the service behind it.
    pub generate: bool,
    /// The sampled flag of a context made here.
    pub sampled: bool,
}

impl Default for TraceConfig {
    fn default() -> Self {
        Self {
            mode: TraceMode::default(),
            generate: false,
            sampled: true,
        }
    }
}

/// A checked configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    pub role: Role,
    pub trace: TraceConfig,
    /// Clusters with a label of their own, per VM; the others share `__other__`.
    pub max_clusters: usize,
    /// How long superseded discovery data may still be used before it counts as stale.
    pub stale_grace_ms: u64,
}

/// Why a configuration is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError(String);

impl std::fmt::Display for ConfigError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConfigError {}

/// The default of `max_clusters`: about 30 counters each, so a few thousand stats at the most.
pub const DEFAULT_MAX_CLUSTERS: usize = 256;
/// The most `max_clusters` may be; Envoy never frees a stat while its VM lives.
pub const MOST_CLUSTERS: usize = 4096;
/// The default of `stale_grace_ms`: workers take an update within milliseconds, a slow tick within seconds.
pub const DEFAULT_STALE_GRACE_MS: u64 = 5_000;
/// The most `stale_grace_ms` may be.
pub const MOST_STALE_GRACE_MS: u64 = 3_600_000;

const NOT_AN_OBJECT: &str = "the configuration is not a JSON object; give it as a google.protobuf.StringValue";

/// The JSON as written, before the limits are checked.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Raw {
    role: Option<Role>,
    trace: TraceConfig,
    max_clusters: Option<usize>,
    stale_grace_ms: Option<u64>,
}

impl Config {
    /// Reads the plugin configuration; an empty one is all defaults.
    ///
    /// # Errors
    /// [`ConfigError`] names the unknown key, the wrong value or the limit, with its place in the JSON.
    pub fn parse(json: &[u8], root_id: &[u8]) -> Result<Self, ConfigError> {
        match json.trim_ascii() {
            [] => return Ok(Self::fallback(root_id)),
            [b'{', ..] => {}
            // The parser would take an array for a struct, and Envoy hands a Struct to an access logger as protobuf.
            _ => return Err(ConfigError(NOT_AN_OBJECT.to_owned())),
        }
        let raw: Raw = serde_json::from_slice(json).map_err(|error| ConfigError(error.to_string()))?;
        let max_clusters = raw.max_clusters.unwrap_or(DEFAULT_MAX_CLUSTERS);
        if !(1..=MOST_CLUSTERS).contains(&max_clusters) {
            return Err(ConfigError(format!(
                "max_clusters is {max_clusters}, outside 1 to {MOST_CLUSTERS}"
            )));
        }
        let stale_grace_ms = raw.stale_grace_ms.unwrap_or(DEFAULT_STALE_GRACE_MS);
        if stale_grace_ms > MOST_STALE_GRACE_MS {
            return Err(ConfigError(format!(
                "stale_grace_ms is {stale_grace_ms}, above {MOST_STALE_GRACE_MS}"
            )));
        }
        Ok(Self {
            role: raw.role.unwrap_or_else(|| Role::from_root_id(root_id)),
            trace: raw.trace,
            max_clusters,
            stale_grace_ms,
        })
    }

    /// The defaults, with the role the `root_id` asks for.
    pub fn fallback(root_id: &[u8]) -> Self {
        Self {
            role: Role::from_root_id(root_id),
            trace: TraceConfig::default(),
            max_clusters: DEFAULT_MAX_CLUSTERS,
            stale_grace_ms: DEFAULT_STALE_GRACE_MS,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(json: &str) -> String {
        Config::parse(json.as_bytes(), b"").unwrap_err().to_string()
    }

    #[test]
    fn an_empty_configuration_is_all_defaults() {
        let defaults = Config {
            role: Role::Request,
            trace: TraceConfig {
                mode: TraceMode::Repair,
                generate: false,
                sampled: true,
            },
            max_clusters: 256,
            stale_grace_ms: 5_000,
        };
        for json in ["", " \n", "{}", r#"{"trace":{}}"#] {
            assert_eq!(Config::parse(json.as_bytes(), b""), Ok(defaults.clone()), "{json:?}");
        }
    }

    #[test]
    fn every_key_is_read() {
        let json = br#"{"role":"attempt","trace":{"mode":"participate","generate":true,"sampled":false},
            "max_clusters":7,"stale_grace_ms":0}"#;
        let expected = Config {
            role: Role::Attempt,
            trace: TraceConfig {
                mode: TraceMode::Participate,
                generate: true,
                sampled: false,
            },
            max_clusters: 7,
            stale_grace_ms: 0,
        };
        assert_eq!(Config::parse(json, b"leadsman-trace"), Ok(expected));
    }

    #[test]
    fn the_root_id_decides_the_role_only_where_the_configuration_does_not() {
        for (root_id, role) in [
            ("leadsman-attempt", Role::Attempt),
            ("leadsman-trace", Role::Trace),
            ("leadsman-request", Role::Request),
            ("anything", Role::Request),
        ] {
            assert_eq!(Config::fallback(root_id.as_bytes()).role, role, "{root_id}");
            assert_eq!(
                Config::parse(b"{}", root_id.as_bytes()).unwrap().role,
                role,
                "{root_id}"
            );
        }
        let named = Config::parse(br#"{"role":"request"}"#, b"leadsman-attempt");
        assert_eq!(named.unwrap().role, Role::Request);
    }

    #[test]
    fn a_mistake_is_named() {
        assert!(error(r#"{"rolle":"request"}"#).contains("unknown field `rolle`"));
        assert!(error(r#"{"trace":{"modus":"off"}}"#).contains("unknown field `modus`"));
        assert!(error(r#"{"role":"both"}"#).contains("unknown variant `both`"));
        assert!(error("{").contains("line 1"));
        assert_eq!(error("[]"), NOT_AN_OBJECT);
        // What Envoy 1.40 hands an access logger for a Struct: protobuf, not JSON.
        assert_eq!(error("\n\u{19}\n\u{c}max_clusters"), NOT_AN_OBJECT);
        assert_eq!(error(r#"{"max_clusters":0}"#), "max_clusters is 0, outside 1 to 4096");
        assert_eq!(
            error(r#"{"max_clusters":4097}"#),
            "max_clusters is 4097, outside 1 to 4096"
        );
        assert_eq!(
            error(r#"{"stale_grace_ms":3600001}"#),
            "stale_grace_ms is 3600001, above 3600000"
        );
    }
}

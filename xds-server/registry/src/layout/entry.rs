//! A key and its value as a layout sees them, and lenient readings of JSON.
//!
//! Every reading of a field has an answer for "missing" and for "of another type": frameworks differ in both.

use leadsman_core::model::{Address, Endpoint, Provenance, Weight};
use serde_json::{Map, Value};

use super::Reading;
use crate::text::shorten;

/// A JSON object.
pub(crate) type Object = Map<String, Value>;

/// One record.
#[derive(Debug)]
pub(crate) struct Entry<'a> {
    pub(crate) key: &'a str,
    /// The key below the configured prefix, without the slash between them.
    pub(crate) relative: &'a str,
    pub(crate) value: &'a [u8],
    pub(crate) provenance: Provenance,
    prefix: &'a str,
    object: Result<Object, String>,
}

/// The part of `key` below `prefix`; `None` for a sibling, such as `/services-old/x` for the prefix `/services`.
///
/// A prefix means whole segments; besides `/`, jupiter separates with `:`.
pub(crate) fn below<'a>(prefix: &str, key: &'a str) -> Option<&'a str> {
    const SEPARATORS: [char; 2] = ['/', ':'];
    let rest = key.strip_prefix(prefix)?;
    let whole = prefix.is_empty() || prefix.ends_with(SEPARATORS) || rest.is_empty() || rest.starts_with(SEPARATORS);
    whole.then(|| rest.strip_prefix('/').unwrap_or(rest))
}

impl<'a> Entry<'a> {
    pub(crate) fn new(key: &'a str, prefix: &'a str, relative: &'a str, value: &'a [u8]) -> Self {
        Self {
            key,
            relative,
            value,
            provenance: Provenance::default(),
            prefix,
            object: parse_object(value),
        }
    }

    /// The value, when it is a JSON object.
    pub(crate) fn object(&self) -> Result<&Object, String> {
        self.object.as_ref().map_err(Clone::clone)
    }

    /// The value, when it is text.
    pub(crate) fn text(&self) -> Result<&'a str, String> {
        std::str::from_utf8(self.value)
            .map(str::trim)
            .map_err(|_| "the value is not UTF-8".to_owned())
    }

    /// The last segment of the key.
    pub(crate) fn leaf(&self) -> &'a str {
        self.key.rsplit('/').next().unwrap_or(self.key)
    }

    /// The segments of the whole key, without the empty one before a leading slash.
    pub(crate) fn segments(&self) -> Vec<&'a str> {
        self.key.strip_prefix('/').unwrap_or(self.key).split('/').collect()
    }

    /// The service a key of the form `<base or prefix><service>/<leaf>` belongs to.
    ///
    /// `base` is where a framework puts its records unless told otherwise; it is cut off even when the configured
    /// prefix is shorter. When the prefix names the service itself, its last segment is the name.
    pub(crate) fn parent(&self, base: &str) -> Option<&'a str> {
        let parent = |path: &'a str| {
            let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent).trim_matches('/');
            (!parent.is_empty()).then_some(parent)
        };
        let bare = self.key.strip_prefix('/').unwrap_or(self.key);
        if let Some(path) = bare.strip_prefix(base).filter(|_| !base.is_empty()) {
            return parent(path);
        }
        parent(self.relative).or_else(|| {
            let outer = self.prefix.trim_end_matches('/').rsplit('/').next()?;
            (!outer.is_empty() && !self.relative.is_empty()).then_some(outer)
        })
    }

    /// An endpoint of this record.
    pub(crate) fn endpoint(&self, address: Address) -> Endpoint {
        Endpoint::new(address, self.provenance.clone())
    }

    /// A reading for keys that can't be attributed.
    pub(crate) fn stray(expected: &str) -> Reading {
        Reading::Stray(format!("the key is not of the form {expected}"))
    }
}

fn parse_object(value: &[u8]) -> Result<Object, String> {
    if value.trim_ascii_start().first() != Some(&b'{') {
        return Err("the value is not a JSON object".to_owned());
    }
    serde_json::from_slice(value).map_err(|error| brief(&format!("the value is not a JSON object: {error}")))
}

/// Hostile text is quoted in reasons, but never at length.
pub(crate) fn brief(text: &str) -> String {
    const MAX_BYTES: usize = 160;
    shorten(text, MAX_BYTES)
}

/// Whether a record of grpc-go's kind says that its address is gone.
pub(crate) fn announces_deletion(object: &Object) -> bool {
    number(object.get("Op")) == Some(1.0)
}

/// What a Go list becomes as JSON: `null` while it is empty and was never set. `None` when it is missing or no list.
pub(crate) fn list<'o>(object: &'o Object, name: &str) -> Option<&'o [Value]> {
    match object.get(name)? {
        Value::Array(items) => Some(items),
        Value::Null => Some(&[]),
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => None,
    }
}

/// A text field; empty when it is missing or something else.
pub(crate) fn text<'o>(object: &'o Object, name: &str) -> &'o str {
    object.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// A map field; `None` when it is missing, null or something else.
pub(crate) fn map<'o>(object: &'o Object, name: &str) -> Option<&'o Object> {
    object.get(name).and_then(Value::as_object)
}

/// A truth value, also as text; `None` when it is missing or something else.
pub(crate) fn flag(object: &Object, name: &str) -> Option<bool> {
    match object.get(name)? {
        Value::Bool(flag) => Some(*flag),
        Value::String(text) => parse_flag(text),
        Value::Null | Value::Number(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

pub(crate) fn parse_flag(text: &str) -> Option<bool> {
    match text {
        "true" | "True" | "TRUE" | "1" => Some(true),
        "false" | "False" | "FALSE" | "0" => Some(false),
        _ => None,
    }
}

/// A finite number, also as text; `None` for everything else.
pub(crate) fn number(value: Option<&Value>) -> Option<f64> {
    match value? {
        Value::Number(number) => number.as_f64().filter(|number| number.is_finite()),
        Value::String(text) => parse_number(text),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

pub(crate) fn parse_number(text: &str) -> Option<f64> {
    text.trim().parse().ok().filter(|number: &f64| number.is_finite())
}

/// A port, also as text, or as a float without a fraction; what can't be one becomes 0, which no address accepts.
pub(crate) fn port(value: Option<&Value>) -> i64 {
    let number = number(value).unwrap_or_default();
    if number.fract() != 0.0 {
        return 0;
    }
    // `as` saturates, and a saturated port is refused like any other outside the range.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the fraction is zero and the cast saturates"
    )]
    let port = number as i64;
    port
}

/// The registry's own number, kept raw. What is missing, not a number or negative is the framework's default, and
/// nothing is heavier than Envoy can count.
pub(crate) fn weight(raw: Option<f64>, default: f64) -> Weight {
    const MOST: f64 = u32::MAX as f64;
    let raw = raw.filter(|raw| *raw >= 0.0).unwrap_or(default);
    Weight::new(raw.min(MOST)).unwrap_or(Weight::ONE)
}

/// As [`weight`], for frameworks in which zero means "not set".
pub(crate) fn weight_above_zero(raw: Option<f64>, default: f64) -> Weight {
    weight(raw.filter(|raw| *raw > 0.0), default)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_means_whole_segments() {
        assert_eq!(below("/services", "/services/a/1"), Some("a/1"));
        assert_eq!(below("/services/", "/services/a/1"), Some("a/1"));
        assert_eq!(below("/services", "/services-old/a/1"), None);
        assert_eq!(below("/microservices/foo", "/microservices/foobar/1"), None);
        assert_eq!(below("", "a/1"), Some("a/1"));
        assert_eq!(below("grpc:", "grpc:a:v1:m/1"), Some("a:v1:m/1"));
        assert_eq!(below("/services", "/services"), Some(""));
        assert_eq!(below("/other", "/services"), None);
    }

    #[test]
    fn the_parent_of_a_leaf_is_its_service() {
        let parent = |key: &str, prefix: &str, base: &str| {
            let relative = below(prefix, key).unwrap_or_default();
            Entry::new(key, prefix, relative, b"").parent(base).map(str::to_owned)
        };
        let some = |name: &str| Some(name.to_owned());
        assert_eq!(parent("/microservices/a/1", "/", "microservices/"), some("a"));
        assert_eq!(
            parent("/microservices/a/1", "/microservices/", "microservices/"),
            some("a")
        );
        assert_eq!(
            parent("/microservices/a/1", "/microservices/a/", "microservices/"),
            some("a")
        );
        assert_eq!(parent("/custom/a/1", "/custom", "microservices/"), some("a"));
        assert_eq!(parent("user.rpc/1", "user.rpc", ""), some("user.rpc"));
        assert_eq!(parent("user.rpc/1", "", ""), some("user.rpc"));
        assert_eq!(parent("foo/bar/svc/e1", "foo/", ""), some("bar/svc"));
        assert_eq!(parent("/microservices/1", "/microservices/", "microservices/"), None);
        assert_eq!(parent("lonely", "", ""), None);
    }

    #[test]
    fn a_weight_that_makes_no_sense_is_the_default() {
        assert_eq!(weight(None, 100.0).get(), 100.0);
        assert_eq!(weight(Some(-3.0), 100.0).get(), 100.0);
        assert_eq!(weight(parse_number("NaN"), 10.0).get(), 10.0);
        assert_eq!(weight(parse_number("1e300"), 10.0).get(), f64::from(u32::MAX));
        assert_eq!(weight(Some(0.0), 100.0).get(), 0.0);
        assert_eq!(weight_above_zero(Some(0.0), 10.0).get(), 10.0);
        assert_eq!(weight(Some(0.5), 1.0).get(), 0.5);
    }
}

//! What an instance says about itself beyond address, weight and health, within limits.
//!
//! Endpoint metadata travels to every Envoy: a registry with bloated records must not become a control plane with
//! bloated answers. What does not fit is left out.

use std::collections::BTreeMap;

use leadsman_core::model::Locality;
use serde_json::Value;

use super::entry::Object;

/// Entries per endpoint: more than any framework writes by itself.
pub(crate) const MAX_ENTRIES: usize = 32;
/// Bytes of a key.
pub(crate) const MAX_KEY_BYTES: usize = 64;
/// Bytes of a value; long values are documents, such as Dubbo's lists of methods, which no route matches on.
pub(crate) const MAX_VALUE_BYTES: usize = 256;

/// Collects metadata and the locality that hides in it. What is put first stays.
#[derive(Debug, Default)]
pub(crate) struct Tags {
    pub(crate) metadata: BTreeMap<String, String>,
    pub(crate) locality: Locality,
}

impl Tags {
    /// A pair of the framework's own: an empty value means that there is none.
    pub(crate) fn known(&mut self, key: &str, value: &str) {
        if !value.is_empty() {
            self.put(key, value);
        }
    }

    /// A pair of the user's. `region`, `zone` and `sub_zone` become the locality.
    pub(crate) fn put(&mut self, key: &str, value: &str) {
        if key.is_empty() || key.len() > MAX_KEY_BYTES || value.len() > MAX_VALUE_BYTES {
            return;
        }
        let part = match key {
            "region" => &mut self.locality.region,
            "zone" => &mut self.locality.zone,
            "sub_zone" => &mut self.locality.sub_zone,
            _ => {
                if self.metadata.len() < MAX_ENTRIES && !self.metadata.contains_key(key) {
                    self.metadata.insert(key.to_owned(), value.to_owned());
                }
                return;
            }
        };
        if part.is_empty() {
            value.clone_into(part);
        }
    }

    /// Every scalar of a JSON object except the `skipped`, in the order of the keys.
    pub(crate) fn put_all(&mut self, object: Option<&Object>, skipped: &[&str]) {
        // The order decides what is left out, and a JSON map may keep the order of the document.
        let sorted: BTreeMap<&String, &Value> = object.into_iter().flatten().collect();
        for (key, value) in sorted {
            if skipped.contains(&key.as_str()) {
                continue;
            }
            match value {
                Value::String(text) => self.put(key, text),
                Value::Bool(flag) => self.put(key, if *flag { "true" } else { "false" }),
                Value::Number(number) => self.put(key, &number.to_string()),
                Value::Null | Value::Array(_) | Value::Object(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(json: &str) -> Object {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn scalars_are_kept_and_the_locality_is_taken_out() {
        let mut tags = Tags::default();
        tags.known("version", "v1");
        tags.known("group", "");
        let json = r#"{"version":"other","region":"eu","zone":"a","sub_zone":"r1","n":1.5,"b":true,"x":null,"l":[1],"o":{},"weight":"3"}"#;
        tags.put_all(Some(&object(json)), &["weight"]);
        let pairs: Vec<_> = tags.metadata.iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(pairs, ["b=true", "n=1.5", "version=v1"]);
        assert_eq!(
            tags.locality,
            Locality {
                region: "eu".into(),
                zone: "a".into(),
                sub_zone: "r1".into()
            }
        );
    }

    #[test]
    fn what_is_too_long_or_too_many_is_left_out() {
        let mut tags = Tags::default();
        tags.put(&"k".repeat(MAX_KEY_BYTES + 1), "v");
        tags.put("k", &"v".repeat(MAX_VALUE_BYTES + 1));
        tags.put("zone", &"z".repeat(MAX_VALUE_BYTES + 1));
        tags.put("", "v");
        assert_eq!((tags.metadata.len(), tags.locality.zone.len()), (0, 0));
        for n in 0..100 {
            tags.put(&format!("k{n:03}"), &"v".repeat(MAX_VALUE_BYTES));
        }
        assert_eq!(tags.metadata.len(), MAX_ENTRIES);
        assert!(tags.metadata.contains_key("k000") && !tags.metadata.contains_key("k032"));
    }
}

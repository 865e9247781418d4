//! What the conditions of an endpoint mean.
//!
//! Pure. Each may be missing, and then means what the API says it means.

use std::fmt;

use serde_json::Value;

use crate::layout::entry::Object;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Conditions {
    ready: Option<bool>,
    serving: Option<bool>,
    terminating: Option<bool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Takes traffic.
    Ready,
    /// Shuts down, and still answers what it has.
    Draining,
    /// Not yet, or not any more.
    NotReady,
    /// Shuts down, and answers nothing.
    Ended,
}

impl Conditions {
    pub(super) fn read(endpoint: &Object) -> Result<Self, String> {
        let conditions = match endpoint.get("conditions") {
            None | Some(Value::Null) => &Object::new(),
            Some(Value::Object(conditions)) => conditions,
            Some(_) => return Err("conditions is not an object".to_owned()),
        };
        let read = |name: &str| match conditions.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Bool(is)) => Ok(Some(*is)),
            Some(_) => Err(format!("the condition {name} is neither true nor false")),
        };
        Ok(Self {
            ready: read("ready")?,
            serving: read("serving")?,
            terminating: read("terminating")?,
        })
    }

    /// Ready decides alone, because of `publishNotReadyAddresses`: it is true there whatever the others are.
    pub(super) fn verdict(self) -> Verdict {
        let ready = self.ready.unwrap_or(true);
        let serving = self.serving.unwrap_or(true);
        match (ready, self.terminating.unwrap_or(false), serving) {
            (true, _, _) => Verdict::Ready,
            (false, true, true) => Verdict::Draining,
            (false, true, false) => Verdict::Ended,
            (false, false, _) => Verdict::NotReady,
        }
    }
}

/// What is said, in the words of the API; nothing about an endpoint that is simply ready.
impl fmt::Display for Conditions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.verdict() == Verdict::Ready && self.terminating != Some(true) {
            return Ok(());
        }
        let named = [
            ("ready", self.ready),
            ("serving", self.serving),
            ("terminating", self.terminating),
        ];
        let said = named
            .iter()
            .filter_map(|(name, is)| is.map(|is| format!("{name}={is}")));
        f.write_str(&said.collect::<Vec<_>>().join(" "))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// `T`, `F` or `-` for each of ready, serving and terminating.
    fn of(text: &str) -> Conditions {
        let mut read = text.chars().map(|letter| match letter {
            'T' => Some(true),
            'F' => Some(false),
            _ => None,
        });
        let mut next = || read.next().flatten();
        Conditions {
            ready: next(),
            serving: next(),
            terminating: next(),
        }
    }

    #[test]
    fn every_combination_has_its_meaning() {
        for ready in ['T', '-'] {
            for serving in ['T', 'F', '-'] {
                for terminating in ['T', 'F', '-'] {
                    let text = format!("{ready}{serving}{terminating}");
                    assert_eq!(of(&text).verdict(), Verdict::Ready, "{text}");
                }
            }
        }
        let cases = [
            ("FTT", Verdict::Draining),
            ("F-T", Verdict::Draining),
            ("FFT", Verdict::Ended),
            ("FFF", Verdict::NotReady),
            ("FF-", Verdict::NotReady),
            ("FTF", Verdict::NotReady),
            ("FT-", Verdict::NotReady),
            ("F-F", Verdict::NotReady),
            ("F--", Verdict::NotReady),
        ];
        for (text, verdict) in cases {
            assert_eq!(of(text).verdict(), verdict, "{text}");
        }
    }

    #[test]
    fn the_reason_is_what_the_api_said() {
        assert_eq!(of("TTF").to_string(), "");
        assert_eq!(of("---").to_string(), "");
        assert_eq!(of("TTT").to_string(), "ready=true serving=true terminating=true");
        assert_eq!(of("F--").to_string(), "ready=false");
    }

    #[test]
    fn what_is_no_condition_is_refused_and_what_is_missing_is_not() {
        let read = |conditions: Value| {
            let endpoint = json!({ "conditions": conditions });
            Conditions::read(endpoint.as_object().unwrap())
        };
        assert_eq!(read(Value::Null), Ok(of("---")));
        assert_eq!(
            read(json!({ "ready": false, "terminating": null, "more": 7 })),
            Ok(of("F--"))
        );
        assert_eq!(
            read(json!({ "ready": "true" })),
            Err("the condition ready is neither true nor false".to_owned())
        );
        assert_eq!(read(json!([])), Err("conditions is not an object".to_owned()));
        assert_eq!(Conditions::read(&Object::new()), Ok(of("---")));
    }
}

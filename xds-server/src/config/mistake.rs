//! What decoding stumbles over, in the words of somebody who writes YAML.

use std::fmt;

use serde::de::{self, Expected, Unexpected};

use super::tree::Step;

/// What is wrong with one part of the tree.
#[derive(Debug)]
pub(super) struct Mistake {
    pub(super) kind: Kind,
    /// From the root to the offending part.
    pub(super) path: Vec<Step>,
}

#[derive(Debug)]
pub(super) enum Kind {
    UnknownKey {
        known: &'static [&'static str],
    },
    UnknownWord {
        given: String,
        known: &'static [&'static str],
    },
    UnknownSource {
        given: String,
        known: &'static [&'static str],
    },
    NotOneSource {
        given: usize,
        known: &'static [&'static str],
    },
    Missing {
        key: &'static str,
    },
    Invalid(String),
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} at {:?}", self.kind, self.path)
    }
}

impl std::error::Error for Mistake {}

impl Mistake {
    pub(super) fn new(kind: Kind) -> Self {
        Self { kind, path: Vec::new() }
    }

    /// Paths grow from the leaf to the root while the error travels up.
    pub(super) fn below(mut self, step: Step) -> Self {
        self.path.push(step);
        self
    }
}

impl de::Error for Mistake {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(Kind::Invalid(message.to_string()))
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(Kind::Invalid(format!(
            "expected {}, found {}",
            in_words(expected),
            found_in_words(found)
        )))
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(found, expected)
    }

    fn unknown_field(_: &str, known: &'static [&'static str]) -> Self {
        Self::new(Kind::UnknownKey { known })
    }

    fn unknown_variant(given: &str, known: &'static [&'static str]) -> Self {
        Self::new(Kind::UnknownWord {
            given: given.to_owned(),
            known,
        })
    }

    fn missing_field(key: &'static str) -> Self {
        Self::new(Kind::Missing { key })
    }
}

/// serde names Rust types; a user writes YAML.
fn in_words(expected: &dyn Expected) -> String {
    let text = expected.to_string();
    match text.as_str() {
        "a boolean" => "true or false".to_owned(),
        "u8" => "a whole number from 0 to 255".to_owned(),
        "u16" => "a whole number from 0 to 65535".to_owned(),
        "u32" | "u64" | "usize" => "a whole number of at least 0".to_owned(),
        "i32" | "i64" | "isize" => "a whole number".to_owned(),
        "f32" | "f64" => "a number".to_owned(),
        "a sequence" => "a list".to_owned(),
        "a map" => "a mapping".to_owned(),
        "a string" | "path string" => "a text".to_owned(),
        other if other.starts_with("struct ") => "a mapping".to_owned(),
        other => other.to_owned(),
    }
}

fn found_in_words(found: Unexpected<'_>) -> String {
    match found {
        Unexpected::Bool(value) => value.to_string(),
        Unexpected::Unsigned(value) => value.to_string(),
        Unexpected::Signed(value) => value.to_string(),
        Unexpected::Float(value) => value.to_string(),
        Unexpected::Str(text) => format!("the text {text:?}"),
        Unexpected::Unit | Unexpected::Option => "nothing".to_owned(),
        Unexpected::Seq => "a list".to_owned(),
        Unexpected::Map => "a mapping".to_owned(),
        Unexpected::Char(_)
        | Unexpected::Bytes(_)
        | Unexpected::NewtypeStruct
        | Unexpected::Enum
        | Unexpected::UnitVariant
        | Unexpected::NewtypeVariant
        | Unexpected::TupleVariant
        | Unexpected::StructVariant
        | Unexpected::Other(_) => found.to_string(),
    }
}

//! The configuration file as a tree that knows where everything stands in it.
//!
//! serde stops at the first error. A tree is read once and can be visited again with the offending part struck out,
//! so that one run names every mistake. A struck part stays in place: positions and indexes never shift.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Location, MessageFormatter, Spanned, UserMessageFormatter};

/// A place in the file; both numbers start at one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Mark {
    pub(super) line: u64,
    pub(super) column: u64,
}

#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) mark: Mark,
    pub(super) value: Value,
    pub(super) struck: bool,
}

#[derive(Clone, Debug)]
pub(super) enum Value {
    Null,
    Bool { value: bool, raw: String },
    Unsigned { value: u64, raw: String },
    Signed { value: i64, raw: String },
    Float { value: f64, raw: String },
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) key_mark: Mark,
    pub(super) node: Node,
}

/// One step down the tree.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    Key(String),
    Index(usize),
}

/// Why a text is not YAML.
#[derive(Debug)]
pub(super) struct SyntaxError {
    pub(super) mark: Option<Mark>,
    pub(super) message: String,
}

impl Node {
    pub(super) fn parse(text: &str) -> Result<Self, SyntaxError> {
        let parsed: Spanned<Parsed> = serde_saphyr::from_str(text).map_err(|error| SyntaxError {
            mark: error.location().map(mark),
            message: UserMessageFormatter
                .format_message(error.without_snippet())
                .into_owned(),
        })?;
        Ok(convert(parsed, text))
    }

    /// The node at the end of `path`, struck or not.
    pub(super) fn find(&self, path: &[Step]) -> Option<&Self> {
        path.iter().try_fold(self, |node, step| match (&node.value, step) {
            (Value::Map(entries), Step::Key(key)) => entries.iter().find(|e| e.key == *key).map(|e| &e.node),
            (Value::List(nodes), Step::Index(index)) => nodes.get(*index),
            (_, Step::Key(_) | Step::Index(_)) => None,
        })
    }

    pub(super) fn find_mut(&mut self, path: &[Step]) -> Option<&mut Self> {
        path.iter().try_fold(self, |node, step| match (&mut node.value, step) {
            (Value::Map(entries), Step::Key(key)) => entries.iter_mut().find(|e| e.key == *key).map(|e| &mut e.node),
            (Value::List(nodes), Step::Index(index)) => nodes.get_mut(*index),
            (_, Step::Key(_) | Step::Index(_)) => None,
        })
    }

    /// Where the key at the end of `path` is written; the node itself when `path` ends in an index.
    pub(super) fn key_mark(&self, path: &[Step]) -> Option<Mark> {
        let (last, parent) = path.split_last()?;
        match (&self.find(parent)?.value, last) {
            (Value::Map(entries), Step::Key(key)) => entries.iter().find(|e| e.key == *key).map(|e| e.key_mark),
            (_, Step::Key(_) | Step::Index(_)) => self.find(path).map(|node| node.mark),
        }
    }

    /// Where a value is written; for a mapping or a list, where its key is, which reads better.
    pub(super) fn value_mark(&self, path: &[Step]) -> Option<Mark> {
        let node = self.find(path)?;
        match node.value {
            Value::Map(_) | Value::List(_) | Value::Null => self.key_mark(path).or(Some(node.mark)),
            Value::Bool { .. }
            | Value::Unsigned { .. }
            | Value::Signed { .. }
            | Value::Float { .. }
            | Value::Text(_) => Some(node.mark),
        }
    }

    pub(super) fn is_struck(&self, path: &[Step]) -> bool {
        self.find(path).is_some_and(|node| node.struck)
    }
}

fn mark(location: Location) -> Mark {
    Mark {
        line: location.line(),
        column: location.column(),
    }
}

/// What serde-saphyr hands over before the text of the numbers is put back.
enum Parsed {
    Null,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Text(String),
    List(Vec<Spanned<Parsed>>),
    Map(Vec<(Spanned<String>, Spanned<Parsed>)>),
}

fn convert(parsed: Spanned<Parsed>, text: &str) -> Node {
    // YAML guesses a type for a bare word, and a string key may hold `no` or `1.10`: the text as written is kept.
    let span = parsed.defined.span();
    let raw = || {
        let start = usize::try_from(span.byte_offset()?).ok()?;
        let end = start.checked_add(usize::try_from(span.byte_len()?).ok()?)?;
        text.get(start..end).map(|raw| raw.trim().to_owned())
    };
    let value = match parsed.value {
        Parsed::Null => Value::Null,
        Parsed::Bool(value) => Value::Bool {
            value,
            raw: raw().unwrap_or_else(|| value.to_string()),
        },
        Parsed::Unsigned(value) => Value::Unsigned {
            value,
            raw: raw().unwrap_or_else(|| value.to_string()),
        },
        Parsed::Signed(value) => Value::Signed {
            value,
            raw: raw().unwrap_or_else(|| value.to_string()),
        },
        Parsed::Float(value) => Value::Float {
            value,
            raw: raw().unwrap_or_else(|| value.to_string()),
        },
        Parsed::Text(value) => Value::Text(value),
        Parsed::List(nodes) => Value::List(nodes.into_iter().map(|node| convert(node, text)).collect()),
        Parsed::Map(entries) => Value::Map(
            entries
                .into_iter()
                .map(|(key, node)| Entry {
                    key_mark: mark(key.referenced),
                    key: key.value,
                    node: convert(node, text),
                })
                .collect(),
        ),
    };
    Node {
        mark: mark(parsed.referenced),
        value,
        struck: false,
    }
}

impl<'de> Deserialize<'de> for Parsed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ParsedVisitor)
    }
}

struct ParsedVisitor;

impl<'de> Visitor<'de> for ParsedVisitor {
    type Value = Parsed;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("YAML")
    }

    fn visit_unit<E>(self) -> Result<Parsed, E> {
        Ok(Parsed::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Parsed, E> {
        Ok(Parsed::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Parsed, E> {
        Ok(Parsed::Unsigned(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Parsed, E> {
        Ok(Parsed::Signed(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Parsed, E> {
        Ok(Parsed::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Parsed, E> {
        Ok(Parsed::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Parsed, E> {
        Ok(Parsed::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Parsed, A::Error> {
        let mut nodes = Vec::new();
        while let Some(node) = seq.next_element()? {
            nodes.push(node);
        }
        Ok(Parsed::List(nodes))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Parsed, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Parsed::Map(entries))
    }
}

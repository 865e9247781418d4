//! From the tree to typed structs, with every mistake reported rather than the first.
//!
//! Decoding is tried, the part it stumbled over is reported and struck out, and it is tried again. Each round strikes
//! one more part, so the rounds are bounded by the size of the file; [`MAX_MISTAKES`] bounds them for a file that is
//! no configuration at all.

use serde::de::value::StrDeserializer;
use serde::de::{
    self, Deserialize, DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, MapAccess, SeqAccess, Unexpected,
    VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;

use super::mistake::{Kind, Mistake};
use super::tree::{Entry, Node, Step, Value};

/// Nobody mends more at a time, and each costs one pass over the file.
const MAX_MISTAKES: usize = 100;

/// Decodes what it can and strikes out the rest; `None` when even the root has to go.
pub(super) fn decode<T: for<'a> Deserialize<'a>>(root: &mut Node) -> (Option<T>, Vec<Mistake>) {
    let mut mistakes = Vec::new();
    while mistakes.len() < MAX_MISTAKES {
        let mut mistake = match T::deserialize(&*root) {
            Ok(value) => return (Some(value), mistakes),
            Err(mistake) => mistake,
        };
        mistake.path.reverse();
        let Some(path) = strike_path(&mistake, root).map(<[Step]>::to_vec) else {
            mistakes.push(mistake);
            break;
        };
        if !follows_from_another(&mistake, root) {
            mistakes.push(mistake);
        }
        if let Some(node) = root.find_mut(&path) {
            node.struck = true;
        }
    }
    (None, mistakes)
}

/// The part to leave out so that decoding gets past the mistake: never one that is left out already, so that every
/// round comes nearer to the end. `None` when only the root is left.
fn strike_path<'a>(mistake: &'a Mistake, root: &Node) -> Option<&'a [Step]> {
    let path = mistake.path.as_slice();
    let mut path = match mistake.kind {
        // A mapping around a kind has to go with its only key.
        Kind::UnknownSource { .. } => path.split_last().map_or(path, |(_, parent)| parent),
        Kind::UnknownWord { .. }
        | Kind::UnknownKey { .. }
        | Kind::NotOneSource { .. }
        | Kind::Missing { .. }
        | Kind::Invalid(_) => path,
    };
    while root.is_struck(path) {
        path = path.split_last()?.1;
    }
    if path.is_empty() { None } else { Some(path) }
}

/// What is wrong only because something in it was struck out is not the user's mistake.
fn follows_from_another(mistake: &Mistake, root: &Node) -> bool {
    if root.is_struck(&mistake.path) {
        return true;
    }
    let Kind::Missing { key } = mistake.kind else {
        return false;
    };
    let mut path = mistake.path.clone();
    path.push(Step::Key(key.to_owned()));
    root.is_struck(&path)
}

impl<'de> Deserializer<'de> for &Node {
    type Error = Mistake;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        match &self.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool { value, .. } => visitor.visit_bool(*value),
            Value::Unsigned { value, .. } => visitor.visit_u64(*value),
            Value::Signed { value, .. } => visitor.visit_i64(*value),
            Value::Float { value, .. } => visitor.visit_f64(*value),
            Value::Text(text) => visitor.visit_str(text),
            Value::List(nodes) => visitor.visit_seq(List { nodes, next: 0 }),
            Value::Map(entries) => visitor.visit_map(Map {
                entries: entries.iter(),
                current: None,
            }),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        match &self.value {
            Value::Bool { raw, .. }
            | Value::Unsigned { raw, .. }
            | Value::Signed { raw, .. }
            | Value::Float { raw, .. } => visitor.visit_str(raw),
            Value::Null | Value::Text(_) | Value::List(_) | Value::Map(_) => self.deserialize_any(visitor),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        self.deserialize_str(visitor)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        match self.value {
            Value::Null => visitor.visit_none(),
            Value::Bool { .. }
            | Value::Unsigned { .. }
            | Value::Signed { .. }
            | Value::Float { .. }
            | Value::Text(_)
            | Value::List(_)
            | Value::Map(_) => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _name: &'static str, visitor: V) -> Result<V::Value, Mistake> {
        visitor.visit_newtype_struct(self)
    }

    /// A key with nothing behind it is a mapping without keys: everything under it may be commented out.
    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        match self.value {
            Value::Null => visitor.visit_map(Map {
                entries: [].iter(),
                current: None,
            }),
            // Derived structs take a list of their fields, which no file should rely on.
            Value::List(_) => Err(de::Error::invalid_type(Unexpected::Seq, &visitor)),
            Value::Bool { .. }
            | Value::Unsigned { .. }
            | Value::Signed { .. }
            | Value::Float { .. }
            | Value::Text(_)
            | Value::Map(_) => self.deserialize_any(visitor),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mistake> {
        self.deserialize_map(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mistake> {
        match &self.value {
            Value::Text(text) => visitor.visit_enum(IntoDeserializer::<Mistake>::into_deserializer(text.as_str())),
            Value::Bool { raw, .. }
            | Value::Unsigned { raw, .. }
            | Value::Signed { raw, .. }
            | Value::Float { raw, .. } => {
                visitor.visit_enum(IntoDeserializer::<Mistake>::into_deserializer(raw.as_str()))
            }
            Value::Map(entries) => match entries.as_slice() {
                [entry] => visitor.visit_enum(Variant { entry }),
                several => Err(Mistake::new(Kind::NotOneSource {
                    given: several.len(),
                    known: variants,
                })),
            },
            Value::Null => Err(Mistake::new(Kind::NotOneSource {
                given: 0,
                known: variants,
            })),
            Value::List(_) => Err(de::Error::invalid_type(Unexpected::Seq, &"a mapping")),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf unit unit_struct seq tuple
        tuple_struct ignored_any
    }
}

struct List<'a> {
    nodes: &'a [Node],
    next: usize,
}

impl<'de> SeqAccess<'de> for List<'_> {
    type Error = Mistake;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Mistake> {
        while let Some(node) = self.nodes.get(self.next) {
            let index = self.next;
            self.next += 1;
            if !node.struck {
                return seed
                    .deserialize(node)
                    .map(Some)
                    .map_err(|m| m.below(Step::Index(index)));
            }
        }
        Ok(None)
    }
}

struct Map<'a> {
    entries: std::slice::Iter<'a, Entry>,
    current: Option<&'a Entry>,
}

impl<'de> MapAccess<'de> for Map<'_> {
    type Error = Mistake;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Mistake> {
        let Some(entry) = self.entries.find(|entry| !entry.node.struck) else {
            return Ok(None);
        };
        self.current = Some(entry);
        seed.deserialize(key(entry))
            .map(Some)
            .map_err(|m| m.below(Step::Key(entry.key.clone())))
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Mistake> {
        let Some(entry) = self.current.take() else {
            return Err(de::Error::custom("a value was asked for before its key"));
        };
        seed.deserialize(&entry.node)
            .map_err(|m| m.below(Step::Key(entry.key.clone())))
    }
}

fn key(entry: &Entry) -> StrDeserializer<'_, Mistake> {
    entry.key.as_str().into_deserializer()
}

struct Variant<'a> {
    entry: &'a Entry,
}

impl<'de, 'a> EnumAccess<'de> for Variant<'a> {
    type Error = Mistake;
    type Variant = Content<'a>;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Content<'a>), Mistake> {
        let value = seed.deserialize(key(self.entry)).map_err(|mistake| {
            let kind = match mistake.kind {
                Kind::UnknownWord { given, known } => Kind::UnknownSource { given, known },
                other @ (Kind::UnknownKey { .. }
                | Kind::UnknownSource { .. }
                | Kind::NotOneSource { .. }
                | Kind::Missing { .. }
                | Kind::Invalid(_)) => other,
            };
            Mistake::new(kind).below(Step::Key(self.entry.key.clone()))
        })?;
        Ok((value, Content { entry: self.entry }))
    }
}

struct Content<'a> {
    entry: &'a Entry,
}

impl Content<'_> {
    fn below(&self, mistake: Mistake) -> Mistake {
        mistake.below(Step::Key(self.entry.key.clone()))
    }
}

impl<'de> VariantAccess<'de> for Content<'_> {
    type Error = Mistake;

    fn unit_variant(self) -> Result<(), Mistake> {
        <()>::deserialize(&self.entry.node).map_err(|m| self.below(m))
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Mistake> {
        seed.deserialize(&self.entry.node).map_err(|m| self.below(m))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _len: usize, visitor: V) -> Result<V::Value, Mistake> {
        self.entry.node.deserialize_any(visitor).map_err(|m| self.below(m))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mistake> {
        self.entry.node.deserialize_map(visitor).map_err(|m| self.below(m))
    }
}

//! Which layout a source has: told from each record, or pinned by the configuration.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer};

/// The layouts of one registry.
pub trait Layouts: Copy + fmt::Display + 'static {
    /// Each of them; shown as it is called in the configuration.
    const LAYOUTS: &'static [Self];
}

/// How the layout of a record is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice<L> {
    /// From the record itself.
    #[default]
    Auto,
    /// From the configuration.
    Pinned(L),
}

/// A text that names no layout.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a layout; the layouts are auto{names}")]
pub struct UnknownLayout {
    text: String,
    names: String,
}

impl<L: Layouts> FromStr for Choice<L> {
    type Err = UnknownLayout;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        let named = L::LAYOUTS.iter().find(|layout| layout.to_string() == text);
        named.map(|layout| Self::Pinned(*layout)).ok_or_else(|| UnknownLayout {
            text: text.to_owned(),
            names: L::LAYOUTS.iter().map(|layout| format!(", {layout}")).collect(),
        })
    }
}

impl<L: fmt::Display> fmt::Display for Choice<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Pinned(layout) => layout.fmt(f),
        }
    }
}

impl<'de, L: Layouts> Deserialize<'de> for Choice<L> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

//! Names that must not be swapped by mistake.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

/// Longest accepted name in bytes: the length of a DNS name, and short enough for every stat Envoy derives from it.
pub const MAX_NAME_BYTES: usize = 253;

/// Why a text is not a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("the name is empty")]
    Empty,
    #[error("the name is {0} bytes long, the limit is {MAX_NAME_BYTES}")]
    TooLong(usize),
    #[error("the name holds the control character {0:?}")]
    Control(char),
}

fn checked(text: &str) -> Result<Arc<str>, NameError> {
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    if text.len() > MAX_NAME_BYTES {
        return Err(NameError::TooLong(text.len()));
    }
    match text.chars().find(|c| c.is_control()) {
        Some(c) => Err(NameError::Control(c)),
        None => Ok(text.into()),
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Accepts 1 to [`MAX_NAME_BYTES`] bytes without control characters.
            ///
            /// # Errors
            /// [`NameError`] says which of the three rules the text breaks.
            pub fn new(text: &str) -> Result<Self, NameError> {
                checked(text).map(Self)
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The same text, shared.
            pub fn to_shared(&self) -> Arc<str> {
                Arc::clone(&self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

name! {
    /// A service as its registry names it.
    ServiceName
}
name! {
    /// A configured source: the key under `sources:` in the configuration.
    SourceName
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_one_to_253_bytes_and_no_control_characters() {
        assert_eq!(ServiceName::new(""), Err(NameError::Empty));
        assert_eq!(ServiceName::new(&"x".repeat(254)), Err(NameError::TooLong(254)));
        assert_eq!(ServiceName::new("a\u{1b}[31m"), Err(NameError::Control('\u{1b}')));
        assert_eq!(ServiceName::new("orders.v1/gRPC").unwrap().as_str(), "orders.v1/gRPC");
    }
}

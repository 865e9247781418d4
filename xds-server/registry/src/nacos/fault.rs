//! Why a question has no answer. A variant exists only where the session acts differently.

use crate::Error;

#[derive(Debug)]
pub(super) enum Fault {
    /// Nothing else will be answered either.
    Session(Error),
    /// The token is not or no longer good enough.
    Denied(String),
    /// This question only.
    Refused(String),
}

impl Fault {
    pub(super) fn unavailable(text: impl Into<String>) -> Self {
        Self::Session(Error::Unavailable(text.into()))
    }

    /// Where there is nobody to log in again or to leave something out.
    pub(super) fn into_error(self) -> Error {
        match self {
            Self::Session(error) => error,
            Self::Denied(text) => Error::Denied(text),
            Self::Refused(text) => Error::Unavailable(text),
        }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Session(error)
    }
}

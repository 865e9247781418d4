//! Why a verb did not do what it was asked to, and the exit code that says so to a script.

use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

use crate::config::Problems;

pub(super) const USAGE: u8 = 64;

/// Each variant is an exit code; the words go to standard error.
#[derive(Debug)]
pub enum Failure {
    /// 1: anything without a code of its own.
    Other(String),
    /// 64: the command line makes no sense.
    Usage(String),
    /// 65: the input is wrong: a configuration file, or a name nobody knows. Empty when everything is said already.
    BadInput(String),
    /// 69: the server can't be reached, or went away.
    Unreachable(String),
    /// 77: not allowed.
    Permission(String),
    /// 79: all went well, and something that was looked at is not in order. The findings are printed already.
    Findings,
    /// 0: nobody reads the output any more, as in `leadsman services | head`.
    NobodyReads,
}

impl Failure {
    pub(super) fn from_error(error: impl fmt::Display) -> Self {
        Self::Other(error.to_string())
    }

    pub(super) fn code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Other(_) => 1,
            Self::Usage(_) => USAGE,
            Self::BadInput(_) => 65,
            Self::Unreachable(_) => 69,
            Self::Permission(_) => 77,
            Self::Findings => 79,
            Self::NobodyReads => 0,
        })
    }

    pub(super) fn report(&self) {
        let message = match self {
            Self::Other(message)
            | Self::Usage(message)
            | Self::BadInput(message)
            | Self::Unreachable(message)
            | Self::Permission(message) => message,
            Self::Findings | Self::NobodyReads => return,
        };
        if message.is_empty() {
            return;
        }
        // Without a standard error there is nobody to tell, and the exit code still says it.
        let _ = writeln!(io::stderr().lock(), "{}", message.trim_end());
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        if let Some(problems) = error.downcast_ref::<Problems>() {
            return Self::BadInput(problems.to_string());
        }
        let denied = error
            .chain()
            .filter_map(|cause| cause.downcast_ref::<io::Error>())
            .any(|cause| cause.kind() == io::ErrorKind::PermissionDenied);
        let message = format!("leadsman: {error:#}");
        if denied {
            Self::Permission(message)
        } else {
            Self::Other(message)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{self, Overrides};

    #[test]
    fn a_bad_configuration_is_bad_input_with_every_line_and_a_refused_port_is_a_matter_of_permission() {
        let problems = config::parse("a: 1\nb: 2\n", Path::new("x.yaml"), &Overrides::default()).unwrap_err();
        let said = problems.to_string();
        let Failure::BadInput(message) = Failure::from(anyhow::Error::from(problems)) else {
            panic!("not bad input");
        };
        assert_eq!(message, said);
        let denied = anyhow::Error::from(io::Error::from(io::ErrorKind::PermissionDenied)).context("listen on :80");
        assert!(matches!(Failure::from(denied), Failure::Permission(_)));
        assert!(matches!(Failure::from(anyhow::anyhow!("no")), Failure::Other(_)));
    }
}

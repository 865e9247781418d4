//! What an etcd error means for a session.
//!
//! etcd's gRPC codes are not enough: `OutOfRange` says "compacted" as well as "your decode limit is too small", and
//! taking the second for the first would list for ever.

use etcd_client::Error as ClientError;
use tonic::{Code, Status};

use crate::Error;

/// Why a call failed, as far as the session acts differently.
#[derive(Debug)]
pub(super) enum Fault {
    /// The revision we asked for is gone.
    Compacted(String),
    /// The answer does not fit into one message.
    TooLarge(String),
    /// A user is configured, but the cluster has no authentication.
    AuthNotEnabled,
    Other(Error),
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Compacted(text) => Self::Resync(text),
            Fault::TooLarge(text) => Self::Unavailable(format!("an answer is larger than the decode limit: {text}")),
            Fault::AuthNotEnabled => Self::Denied("the cluster has no authentication enabled".to_owned()),
            Fault::Other(error) => error,
        }
    }
}

impl Fault {
    pub(super) fn of(error: &ClientError) -> Self {
        if let ClientError::GRpcStatus(status) = error {
            return of_status(status);
        }
        Self::unavailable(chain(error))
    }

    pub(super) fn unavailable(text: impl Into<String>) -> Self {
        Self::Other(Error::Unavailable(text.into()))
    }
}

/// An error with its causes: the outermost text of a failed connection is only "transport error".
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        // Wrappers often repeat what they wrap.
        let inner = error.to_string();
        if !text.contains(&inner) {
            text = format!("{text}: {inner}");
        }
        cause = error.source();
    }
    text
}

/// Whether a text of etcd, in a status or in a watch's cancel reason, is about who we are.
pub(super) fn is_denial(text: &str) -> bool {
    const TEXTS: [&str; 6] = [
        "authentication failed",
        "invalid auth token",
        "permission denied",
        "PermissionDenied",
        "Unauthenticated",
        "user name is empty",
    ];
    TEXTS.iter().any(|denial| text.contains(denial))
}

pub(super) fn is_compaction(text: &str) -> bool {
    text.contains("required revision has been compacted")
}

fn of_status(status: &Status) -> Fault {
    let text = status.message();
    if is_compaction(text) {
        return Fault::Compacted(text.to_owned());
    }
    if text.contains("authentication is not enabled") {
        return Fault::AuthNotEnabled;
    }
    // The first is our own limit, the second that of a member.
    let too_large = [
        (Code::OutOfRange, "decoded message length too large"),
        (Code::ResourceExhausted, "message larger than max"),
    ];
    if too_large
        .iter()
        .any(|(code, words)| status.code() == *code && text.contains(words))
    {
        return Fault::TooLarge(text.to_owned());
    }
    let denied = matches!(status.code(), Code::Unauthenticated | Code::PermissionDenied);
    if denied || is_denial(text) {
        return Fault::Other(Error::Denied(text.to_owned()));
    }
    if status.code() == Code::Unknown {
        // No member answers with this code: it is what gRPC makes of a connection that broke.
        return Fault::unavailable(format!("the connection was lost: {text}"));
    }
    Fault::unavailable(format!("{:?}: {text}", status.code()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meaning(code: Code, text: &str) -> Error {
        of_status(&Status::new(code, text)).into()
    }

    #[test]
    fn out_of_range_is_a_compaction_only_when_it_says_so() {
        let compacted = meaning(
            Code::OutOfRange,
            "etcdserver: mvcc: required revision has been compacted",
        );
        assert!(matches!(compacted, Error::Resync(_)), "{compacted:?}");
        let large = meaning(
            Code::OutOfRange,
            "Error, decoded message length too large: found 7340032 bytes, the limit is: 4194304 bytes",
        );
        assert!(
            matches!(&large, Error::Unavailable(text) if text.contains("decode limit")),
            "{large:?}"
        );
    }

    #[test]
    fn an_answer_that_no_message_can_carry_is_too_large_whoever_says_so() {
        for (code, text) in [
            (
                Code::OutOfRange,
                "Error, decoded message length too large: found 70000000 bytes, the limit is: 67108864 bytes",
            ),
            (
                Code::ResourceExhausted,
                "grpc: trying to send message larger than max (70000000 vs. 4194304)",
            ),
        ] {
            let fault = of_status(&Status::new(code, text));
            assert!(matches!(fault, Fault::TooLarge(_)), "{fault:?}");
        }
        let busy = of_status(&Status::new(Code::ResourceExhausted, "etcdserver: too many requests"));
        assert!(matches!(busy, Fault::Other(Error::Unavailable(_))), "{busy:?}");
    }

    #[test]
    fn refused_credentials_are_told_apart_from_everything_else() {
        for (code, text) in [
            (
                Code::InvalidArgument,
                "etcdserver: authentication failed, invalid user ID or password",
            ),
            (Code::Unauthenticated, "etcdserver: invalid auth token"),
            (Code::PermissionDenied, "etcdserver: permission denied"),
            (Code::InvalidArgument, "etcdserver: user name is empty"),
        ] {
            assert!(matches!(meaning(code, text), Error::Denied(_)), "{text}");
        }
        for (code, text) in [
            (Code::Unavailable, "etcdserver: no leader"),
            // An administrator changed a user: the next session logs in again at once.
            (Code::InvalidArgument, "etcdserver: revision of auth store is old"),
            (Code::Unknown, "etcdserver: request timed out"),
        ] {
            assert!(matches!(meaning(code, text), Error::Unavailable(_)), "{text}");
        }
    }
}

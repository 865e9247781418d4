//! What one upstream attempt, or one request, came to.
//!
//! Envoy says it with a bit vector of response flags and a status code that is missing when nothing answered. Flags are
//! bits in the order of Envoy's `CoreResponseFlag`, and win over the code: an answer cut off half way is a reset.

/// Bits of `response.flags`.
pub mod flag {
    pub const NO_HEALTHY_UPSTREAM: u64 = 1 << 1;
    pub const UPSTREAM_REQUEST_TIMEOUT: u64 = 1 << 2;
    pub const LOCAL_RESET: u64 = 1 << 3;
    pub const UPSTREAM_REMOTE_RESET: u64 = 1 << 4;
    pub const UPSTREAM_CONNECTION_FAILURE: u64 = 1 << 5;
    pub const UPSTREAM_CONNECTION_TERMINATION: u64 = 1 << 6;
    pub const UPSTREAM_OVERFLOW: u64 = 1 << 7;
    pub const DOWNSTREAM_CONNECTION_TERMINATION: u64 = 1 << 14;
    pub const STREAM_IDLE_TIMEOUT: u64 = 1 << 16;
    pub const UPSTREAM_MAX_STREAM_DURATION_REACHED: u64 = 1 << 19;
    pub const DURATION_TIMEOUT: u64 = 1 << 22;
    pub const UPSTREAM_PROTOCOL_ERROR: u64 = 1 << 23;
    pub const NO_CLUSTER_FOUND: u64 = 1 << 24;
    pub const DOWNSTREAM_REMOTE_RESET: u64 = 1 << 28;
}

/// The outcome of one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptOutcome {
    /// Answered with a status below 500.
    Ok,
    /// Answered with a status of 500 or more.
    ServerError,
    /// No connection: refused, unreachable, timed out, or a failed TLS handshake.
    ConnectFailure,
    /// The connection or the stream broke off before the answer was complete.
    Reset,
    /// The attempt's timeout ran out.
    Timeout,
    /// A circuit breaker or a retry budget was full.
    Overflow,
    /// There was no host to choose.
    NoUpstream,
    /// The upstream broke the protocol.
    ProtocolError,
    /// The client went away first, and Envoy says so.
    ClientGone,
    /// Given up without a reason of its own: the client left, the request's timeout ran out, or another attempt won.
    NoResponse,
}

impl AttemptOutcome {
    pub const ALL: [Self; 10] = [
        Self::Ok,
        Self::ServerError,
        Self::ConnectFailure,
        Self::Reset,
        Self::Timeout,
        Self::Overflow,
        Self::NoUpstream,
        Self::ProtocolError,
        Self::ClientGone,
        Self::NoResponse,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::ServerError => "5xx",
            Self::ConnectFailure => "connect_failure",
            Self::Reset => "reset",
            Self::Timeout => "timeout",
            Self::Overflow => "overflow",
            Self::NoUpstream => "no_upstream",
            Self::ProtocolError => "protocol_error",
            Self::ClientGone => "client_gone",
            Self::NoResponse => "no_response",
        }
    }

    /// Flags that say nothing about the attempt itself, such as "retry limit exceeded", do not count.
    pub fn of(flags: u64, code: Option<u64>) -> Self {
        const CAUSES: [(u64, AttemptOutcome); 7] = [
            (
                flag::NO_HEALTHY_UPSTREAM | flag::NO_CLUSTER_FOUND,
                AttemptOutcome::NoUpstream,
            ),
            (flag::UPSTREAM_OVERFLOW, AttemptOutcome::Overflow),
            (flag::UPSTREAM_CONNECTION_FAILURE, AttemptOutcome::ConnectFailure),
            (
                flag::UPSTREAM_REQUEST_TIMEOUT
                    | flag::STREAM_IDLE_TIMEOUT
                    | flag::UPSTREAM_MAX_STREAM_DURATION_REACHED
                    | flag::DURATION_TIMEOUT,
                AttemptOutcome::Timeout,
            ),
            (flag::UPSTREAM_PROTOCOL_ERROR, AttemptOutcome::ProtocolError),
            (
                flag::UPSTREAM_CONNECTION_TERMINATION | flag::UPSTREAM_REMOTE_RESET | flag::LOCAL_RESET,
                AttemptOutcome::Reset,
            ),
            (
                flag::DOWNSTREAM_CONNECTION_TERMINATION | flag::DOWNSTREAM_REMOTE_RESET,
                AttemptOutcome::ClientGone,
            ),
        ];
        if let Some((_, outcome)) = CAUSES.into_iter().find(|(bits, _)| flags & bits != 0) {
            return outcome;
        }
        match code {
            None | Some(0) => Self::NoResponse,
            Some(..=499) => Self::Ok,
            Some(500..) => Self::ServerError,
        }
    }
}

/// Whether a request found no host to go to: an empty or unhealthy cluster, or no cluster at all.
pub fn found_no_host(flags: u64) -> bool {
    flags & (flag::NO_HEALTHY_UPSTREAM | flag::NO_CLUSTER_FOUND) != 0
}

/// The class of a response status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseClass {
    Informational,
    Success,
    Redirection,
    ClientError,
    ServerError,
    /// No response was sent.
    None,
}

impl ResponseClass {
    pub const ALL: [Self; 6] = [
        Self::Informational,
        Self::Success,
        Self::Redirection,
        Self::ClientError,
        Self::ServerError,
        Self::None,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Informational => "1xx",
            Self::Success => "2xx",
            Self::Redirection => "3xx",
            Self::ClientError => "4xx",
            Self::ServerError => "5xx",
            Self::None => "none",
        }
    }

    pub fn of(code: Option<u64>) -> Self {
        match code {
            Some(100..=199) => Self::Informational,
            Some(200..=299) => Self::Success,
            Some(300..=399) => Self::Redirection,
            Some(400..=499) => Self::ClientError,
            Some(500..=599) => Self::ServerError,
            None | Some(_) => Self::None,
        }
    }
}

/// Why a connection could not be made, as far as Envoy's `upstream.transport_failure_reason` tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectFailure {
    Refused,
    Unreachable,
    Timeout,
    Tls,
    Other,
}

impl ConnectFailure {
    pub const ALL: [Self; 5] = [Self::Refused, Self::Unreachable, Self::Timeout, Self::Tls, Self::Other];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Unreachable => "unreachable",
            Self::Timeout => "timeout",
            Self::Tls => "tls",
            Self::Other => "other",
        }
    }

    /// Looks for the operating system's and BoringSSL's words in the text. Envoy gives no reason when its own connect
    /// timeout ran out.
    pub fn of(reason: &[u8]) -> Self {
        if reason.is_empty() {
            return Self::Timeout;
        }
        const WORDS: [(&[u8], ConnectFailure); 6] = [
            (b"TLS", ConnectFailure::Tls),
            (b"SSL", ConnectFailure::Tls),
            (b"refused", ConnectFailure::Refused),
            (b"unreachable", ConnectFailure::Unreachable),
            (b"No route", ConnectFailure::Unreachable),
            (b"timeout", ConnectFailure::Timeout),
        ];
        let contains = |word: &[u8]| reason.windows(word.len()).any(|window| window == word);
        WORDS
            .into_iter()
            .find(|(word, _)| contains(word))
            .map_or(Self::Other, |(_, kind)| kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_win_over_the_code() {
        for (flags, code, outcome) in [
            (0, Some(200), "ok"),
            (0, Some(404), "ok"),
            (0, Some(503), "5xx"),
            (0, None, "no_response"),
            (0, Some(0), "no_response"),
            (2, None, "no_upstream"),
            (2, Some(503), "no_upstream"),
            (4, None, "timeout"),
            (4 | 8, None, "timeout"),
            (8, None, "reset"),
            (16, None, "reset"),
            (32, None, "connect_failure"),
            (64, None, "reset"),
            (64, Some(200), "reset"),
            (128, Some(503), "overflow"),
            (32_768, Some(503), "5xx"),
            (32_768 | 32, Some(503), "connect_failure"),
            (16_384, None, "client_gone"),
            (16_777_216, Some(503), "no_upstream"),
            (1 << 23, None, "protocol_error"),
            (1 << 19, None, "timeout"),
            (1 << 22, None, "timeout"),
            (1 << 28, None, "client_gone"),
            (u64::MAX, None, "no_upstream"),
        ] {
            assert_eq!(AttemptOutcome::of(flags, code).as_str(), outcome, "{flags} {code:?}");
        }
    }

    #[test]
    fn a_response_has_one_of_six_classes() {
        for (code, class) in [
            (Some(100), "1xx"),
            (Some(204), "2xx"),
            (Some(304), "3xx"),
            (Some(499), "4xx"),
            (Some(599), "5xx"),
            (Some(0), "none"),
            (Some(600), "none"),
            (None, "none"),
        ] {
            assert_eq!(ResponseClass::of(code).as_str(), class, "{code:?}");
        }
    }

    #[test]
    fn only_a_missing_host_is_an_absent_lookup() {
        assert!(found_no_host(2) && found_no_host(16_777_216));
        for flags in [0, 4, 32, 64, 128, 256, 32_768] {
            assert!(!found_no_host(flags), "{flags}");
        }
    }

    #[test]
    fn a_connect_failure_is_known_by_its_words() {
        for (reason, kind) in [
            (&b"delayed connect error: Connection refused"[..], "refused"),
            (b"immediate connect error: Network is unreachable", "unreachable"),
            (b"delayed connect error: No route to host", "unreachable"),
            (
                b"TLS_error:|268435581:SSL routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED",
                "tls",
            ),
            (b"connection timeout", "timeout"),
            (b"", "timeout"),
            (b"\xff\xfe", "other"),
        ] {
            assert_eq!(ConnectFailure::of(reason).as_str(), kind);
        }
    }
}

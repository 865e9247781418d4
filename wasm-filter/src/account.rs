//! What is read and counted when Envoy logs a request or an attempt.
//!
//! Each property costs about two microseconds, so what only failures need is read for failures only.

use leadsman_filter_logic::attempt::{self, AttemptOutcome, ConnectFailure, ResponseClass};
use leadsman_filter_logic::config::Config;
use leadsman_filter_logic::lookup::{EndpointId, Outcome, Revision};
use leadsman_filter_logic::metadata::EndpointMetadata;
use leadsman_filter_logic::metrics::ClusterCounter;
use leadsman_proto::endpoint_metadata;

use crate::{host, vm};

const CLUSTER: &[&str] = &["xds", "cluster_name"];
const CODE: &[&str] = &["response", "code"];
const FLAGS: &[&str] = &["response", "flags"];
const ADDRESS: &[&str] = &["upstream", "address"];
const FAILURE_REASON: &[&str] = &["upstream", "transport_failure_reason"];
const METADATA: &[&str] = &[
    "xds",
    "upstream_host_metadata",
    "filter_metadata",
    endpoint_metadata::NAMESPACE,
];
/// Written by the router where the virtual host has `include_request_attempt_count`.
const ATTEMPT_COUNT: &str = "x-envoy-attempt-count";

/// Counts a finished request.
pub(crate) fn request(config: &Config) {
    let cluster = host::property(CLUSTER).unwrap_or_default();
    let code = host::number(CODE);
    let count = |counter| vm::count(&cluster, counter, config.max_clusters);
    count(ClusterCounter::Requests(ResponseClass::of(code)));
    // A host that was never chosen makes no attempt, so the request is the only place to see it.
    let may_have_failed = code.is_none_or(|code| code >= 400);
    if may_have_failed && attempt::found_no_host(host::number(FLAGS).unwrap_or_default()) {
        count(ClusterCounter::Lookups(Outcome::Absent));
    }
}

/// Counts a finished attempt.
pub(crate) fn attempt(config: &Config) {
    let cluster = host::property(CLUSTER).unwrap_or_default();
    let count = |counter| vm::count(&cluster, counter, config.max_clusters);
    let flags = host::number(FLAGS).unwrap_or_default();
    let outcome = AttemptOutcome::of(flags, host::number(CODE));
    count(ClusterCounter::Attempts(outcome));
    if outcome == AttemptOutcome::ConnectFailure {
        let reason = host::property(FAILURE_REASON).unwrap_or_default();
        count(ClusterCounter::ConnectFailures(ConnectFailure::of(&reason)));
    }
    if host::logged_request_header(ATTEMPT_COUNT).is_some_and(|number| number != b"1") {
        count(ClusterCounter::Retries);
    }
    if let Some(outcome) = lookup(&cluster, config) {
        count(ClusterCounter::Lookups(outcome));
    }
}

/// The lookup behind an attempt; nothing where no host was chosen, which the request counts.
fn lookup(cluster: &[u8], config: &Config) -> Option<Outcome> {
    let address = host::property(ADDRESS)?;
    let metadata = host::property(METADATA).unwrap_or_default();
    let metadata = EndpointMetadata::parse(&metadata).unwrap_or_default();
    if metadata.rev.is_empty() {
        return Some(Outcome::Untracked);
    }
    if !metadata.src.is_empty() {
        vm::count_source(metadata.src);
    }
    let endpoint = EndpointId::new(cluster, &address);
    vm::observe(endpoint, Revision::new(metadata.rev), config.stale_grace_ms)
}

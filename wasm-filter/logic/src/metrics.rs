//! The counters, their names, and how many of them there may be.
//!
//! A proxy-wasm metric has a name and no labels; Envoy makes labels from `key=.=value;.;` inside the name, given the
//! `stats_tags` of `envoy-config/filter.yaml`. Envoy keeps a metric as long as the VM lives, so the number of label values is
//! bounded: first come, first served, then `__other__`.
//!
//! Invariant: each name is defined once per VM, and no more names exist than the bounds allow.

use std::borrow::Cow;
use std::collections::HashMap;

use crate::attempt::{AttemptOutcome, ConnectFailure, ResponseClass};
use crate::lookup::Outcome;
use crate::trace::Action;

/// The label of everything beyond a bound, and of names unfit for a label.
pub const OTHER: &str = "__other__";
/// The label of requests that were routed to no cluster.
pub const NONE: &str = "__none__";
/// Sources with a label of their own. A control plane has a handful.
pub const MOST_SOURCES: usize = 64;
/// Cluster names are at most this long here; Envoy's own limit for what we generate is 253.
const MOST_LABEL_BYTES: usize = 256;

/// A counter that exists once per cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClusterCounter {
    Requests(ResponseClass),
    Attempts(AttemptOutcome),
    Retries,
    Lookups(Outcome),
    ConnectFailures(ConnectFailure),
}

/// A counter that exists once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GlobalCounter {
    Trace(Action),
    ConfigErrors,
    Heartbeat,
}

const ATTEMPTS: usize = ResponseClass::ALL.len();
const RETRIES: usize = ATTEMPTS + AttemptOutcome::ALL.len();
const LOOKUPS: usize = RETRIES + 1;
const CONNECT_FAILURES: usize = LOOKUPS + Outcome::ALL.len();
const PER_CLUSTER: usize = CONNECT_FAILURES + ConnectFailure::ALL.len();
const CONFIG_ERRORS: usize = Action::ALL.len();
const HEARTBEAT: usize = CONFIG_ERRORS + 1;
const GLOBAL: usize = HEARTBEAT + 1;

impl ClusterCounter {
    fn slot(self) -> usize {
        match self {
            Self::Requests(class) => class as usize,
            Self::Attempts(outcome) => ATTEMPTS + outcome as usize,
            Self::Retries => RETRIES,
            Self::Lookups(outcome) => LOOKUPS + outcome as usize,
            Self::ConnectFailures(reason) => CONNECT_FAILURES + reason as usize,
        }
    }

    fn name(self, cluster: &str) -> String {
        let (name, label) = match self {
            Self::Requests(class) => ("requests", Some(("class", class.as_str()))),
            Self::Attempts(outcome) => ("attempts", Some(("outcome", outcome.as_str()))),
            Self::Retries => ("retries", None),
            Self::Lookups(outcome) => ("lookups", Some(("outcome", outcome.as_str()))),
            Self::ConnectFailures(reason) => ("connect_failures", Some(("reason", reason.as_str()))),
        };
        let mut text = format!("leadsman_{name}_total.cluster=.={cluster};.;");
        if let Some((key, value)) = label {
            text.push_str(&format!("{key}=.={value};.;"));
        }
        text
    }
}

impl GlobalCounter {
    fn slot(self) -> usize {
        match self {
            Self::Trace(action) => action as usize,
            Self::ConfigErrors => CONFIG_ERRORS,
            Self::Heartbeat => HEARTBEAT,
        }
    }

    fn name(self) -> String {
        match self {
            Self::Trace(action) => format!("leadsman_trace_total.action=.={};.;", action.as_str()),
            Self::ConfigErrors => "leadsman_config_errors_total".to_owned(),
            Self::Heartbeat => "leadsman_heartbeat_total".to_owned(),
        }
    }
}

/// The host's ids of the counters of one VM.
#[derive(Debug, Default)]
pub struct Counters {
    clusters: HashMap<Box<[u8]>, ClusterIds>,
    other: ClusterIds,
    none: ClusterIds,
    sources: HashMap<Box<[u8]>, Option<u32>>,
    other_source: Option<u32>,
    global: [Option<u32>; GLOBAL],
}

#[derive(Debug)]
struct ClusterIds([Option<u32>; PER_CLUSTER]);

impl Default for ClusterIds {
    fn default() -> Self {
        Self([None; PER_CLUSTER])
    }
}

impl Counters {
    /// The id of a cluster's counter, defined through `define` at its first use. An empty name is no cluster.
    pub fn cluster(
        &mut self,
        cluster: &[u8],
        counter: ClusterCounter,
        most_clusters: usize,
        define: impl FnOnce(&str) -> Option<u32>,
    ) -> Option<u32> {
        let slot = counter.slot();
        let known = self.clusters.get(cluster);
        if let Some(id) = known.and_then(|ids| ids.0.get(slot).copied().flatten()) {
            return Some(id);
        }
        let known = known.is_some();
        let (ids, name) = if cluster.is_empty() {
            (&mut self.none, Cow::Borrowed(NONE))
        } else if !known && self.clusters.len() >= most_clusters {
            (&mut self.other, Cow::Borrowed(OTHER))
        } else {
            match label(cluster) {
                None => (&mut self.other, Cow::Borrowed(OTHER)),
                Some(name) => (self.clusters.entry(cluster.into()).or_default(), name),
            }
        };
        let id = ids.0.get_mut(slot)?;
        if id.is_none() {
            *id = define(&counter.name(&name));
        }
        *id
    }

    /// The id of the attempts counter of a source.
    pub fn source(&mut self, source: &[u8], define: impl FnOnce(&str) -> Option<u32>) -> Option<u32> {
        let known = self.sources.contains_key(source);
        let label = label(source).filter(|_| !source.is_empty() && (known || self.sources.len() < MOST_SOURCES));
        let (id, name) = match label {
            Some(name) => (self.sources.entry(source.into()).or_default(), name),
            None => (&mut self.other_source, Cow::Borrowed(OTHER)),
        };
        if id.is_none() {
            *id = define(&format!("leadsman_source_attempts_total.source=.={name};.;"));
        }
        *id
    }

    /// The id of a counter that exists once.
    pub fn global(&mut self, counter: GlobalCounter, define: impl FnOnce(&str) -> Option<u32>) -> Option<u32> {
        let id = self.global.get_mut(counter.slot())?;
        if id.is_none() {
            *id = define(&counter.name());
        }
        *id
    }
}

/// A text that may stand between the delimiters, or nothing for what is no fit label.
fn label(raw: &[u8]) -> Option<Cow<'_, str>> {
    if raw.len() > MOST_LABEL_BYTES {
        return None;
    }
    let text = std::str::from_utf8(raw).ok()?;
    if text.chars().any(char::is_control) {
        return None;
    }
    if text.contains(';') || text.contains("=.=") {
        return Some(Cow::Owned(text.replace(';', "_").replace("=.=", "_._")));
    }
    Some(Cow::Borrowed(text))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// Defines names as a host does, and keeps them.
    #[derive(Default)]
    struct Host(Vec<String>);

    impl Host {
        fn define(&mut self, name: &str) -> Option<u32> {
            self.0.push(name.to_owned());
            Some(self.0.len() as u32)
        }
    }

    fn all_cluster_counters() -> Vec<ClusterCounter> {
        let mut all = vec![ClusterCounter::Retries];
        all.extend(ResponseClass::ALL.map(ClusterCounter::Requests));
        all.extend(AttemptOutcome::ALL.map(ClusterCounter::Attempts));
        all.extend(Outcome::ALL.map(ClusterCounter::Lookups));
        all.extend(ConnectFailure::ALL.map(ClusterCounter::ConnectFailures));
        all
    }

    #[test]
    fn names_carry_their_labels_between_delimiters() {
        let mut host = Host::default();
        let mut counters = Counters::default();
        let class = ClusterCounter::Requests(ResponseClass::Success);
        counters.cluster(b"outbound|80||a.b.svc", class, 9, |name| host.define(name));
        counters.cluster(b"", ClusterCounter::Lookups(Outcome::Absent), 9, |name| {
            host.define(name)
        });
        counters.cluster(b"a", ClusterCounter::Retries, 9, |name| host.define(name));
        counters.source(b"shop", |name| host.define(name));
        counters.global(GlobalCounter::Trace(Action::Kept), |name| host.define(name));
        counters.global(GlobalCounter::Heartbeat, |name| host.define(name));
        counters.global(GlobalCounter::ConfigErrors, |name| host.define(name));
        let expected = [
            "leadsman_requests_total.cluster=.=outbound|80||a.b.svc;.;class=.=2xx;.;",
            "leadsman_lookups_total.cluster=.=__none__;.;outcome=.=absent;.;",
            "leadsman_retries_total.cluster=.=a;.;",
            "leadsman_source_attempts_total.source=.=shop;.;",
            "leadsman_trace_total.action=.=kept;.;",
            "leadsman_heartbeat_total",
            "leadsman_config_errors_total",
        ];
        assert_eq!(host.0, expected);
    }

    #[test]
    fn every_counter_has_its_own_id_and_is_defined_once() {
        let mut host = Host::default();
        let mut counters = Counters::default();
        for _ in 0..2 {
            for cluster in [&b"a"[..], b"b", b""] {
                for counter in all_cluster_counters() {
                    assert!(
                        counters
                            .cluster(cluster, counter, 9, |name| host.define(name))
                            .is_some()
                    );
                }
            }
            for action in Action::ALL {
                counters.global(GlobalCounter::Trace(action), |name| host.define(name));
            }
            counters.global(GlobalCounter::Heartbeat, |name| host.define(name));
            counters.global(GlobalCounter::ConfigErrors, |name| host.define(name));
        }
        let names: BTreeSet<&String> = host.0.iter().collect();
        assert_eq!(names.len(), host.0.len());
        assert_eq!(host.0.len(), 3 * PER_CLUSTER + GLOBAL);
    }

    #[test]
    fn beyond_the_bound_clusters_share_one_label_and_known_ones_keep_theirs() {
        let mut host = Host::default();
        let mut counters = Counters::default();
        let mut id = |cluster: &[u8]| counters.cluster(cluster, ClusterCounter::Retries, 2, |name| host.define(name));
        assert_eq!(
            [id(b"a"), id(b"b"), id(b"c"), id(b"d"), id(b"a")],
            [1, 2, 3, 3, 1].map(Some)
        );
        assert_eq!(host.0[2], "leadsman_retries_total.cluster=.=__other__;.;");
    }

    #[test]
    fn beyond_the_bound_sources_share_one_label() {
        let mut host = Host::default();
        let mut counters = Counters::default();
        for number in 0..MOST_SOURCES + 10 {
            counters.source(format!("s{number}").as_bytes(), |name| host.define(name));
        }
        counters.source(b"", |name| host.define(name));
        counters.source(b"\xff", |name| host.define(name));
        assert_eq!(host.0.len(), MOST_SOURCES + 1);
        assert_eq!(
            host.0[MOST_SOURCES],
            "leadsman_source_attempts_total.source=.=__other__;.;"
        );
    }

    #[test]
    fn a_name_unfit_for_a_label_is_other() {
        let long = vec![b'x'; MOST_LABEL_BYTES + 1];
        for raw in [&b"a\nb"[..], b"\xa1\xb1", &long] {
            assert_eq!(label(raw), None);
        }
        assert_eq!(label(b"a;.;class=.=9xx;.;").unwrap(), "a_._class_._9xx_._");
    }

    #[test]
    fn a_refused_definition_is_tried_again() {
        let mut counters = Counters::default();
        assert_eq!(counters.global(GlobalCounter::Heartbeat, |_| None), None);
        assert_eq!(counters.global(GlobalCounter::Heartbeat, |_| Some(4)), Some(4));
    }

    proptest! {
        #![proptest_config(leadsman_property::cases(256))]
        #[test]
        fn a_label_never_holds_a_delimiter(raw in proptest::collection::vec(any::<u8>(), 0..40), text in "[a;.=]{0,12}") {
            for raw in [&raw[..], text.as_bytes()] {
                if let Some(label) = label(raw) {
                    prop_assert!(!label.contains(';') && !label.contains("=.="), "{}", label);
                }
            }
        }
    }
}

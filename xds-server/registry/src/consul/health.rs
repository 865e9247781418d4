//! What the checks of an instance add up to.
//!
//! Every check counts, those of the node too. Nothing is left to Consul's own filter: it hides instances with a warning
//! along with the dead ones.

use leadsman_core::model::Health;
use serde_json::Value;

use crate::layout::entry::{brief, text};

/// A verdict and the check that decided it, in the registry's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) health: Health,
    pub(super) reason: String,
}

/// In the order of precedence, the weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    Passing,
    /// A word that Consul does not use today.
    Other,
    Warning,
    Critical,
    /// Somebody took the instance or its node out of service on purpose: it may finish what it does.
    Maintenance,
}

/// The worst of all checks; without any, nothing is known.
pub(super) fn judge(checks: &[Value]) -> Verdict {
    let mut worst: Option<(State, String)> = None;
    for check in checks.iter().filter_map(Value::as_object) {
        let (id, status) = (text(check, "CheckID"), text(check, "Status"));
        let state = state(id, status);
        if worst.as_ref().is_none_or(|(held, _)| state > *held) {
            let why = match state {
                State::Maintenance => format!("maintenance: {}", text(check, "Notes")),
                State::Passing | State::Other | State::Warning | State::Critical => format!("{id} is {status}"),
            };
            worst = Some((state, brief(why.trim_end_matches([':', ' ']))));
        }
    }
    let (health, reason) = match worst {
        None => (Health::Unknown, String::new()),
        Some((State::Passing, _)) => (Health::Healthy, String::new()),
        Some((State::Other, why)) => (Health::Unknown, why),
        Some((State::Warning, why)) => (Health::Degraded, why),
        Some((State::Critical, why)) => (Health::Unhealthy, why),
        Some((State::Maintenance, why)) => (Health::Draining, why),
    };
    Verdict { health, reason }
}

fn state(id: &str, status: &str) -> State {
    match status {
        "passing" => State::Passing,
        "warning" => State::Warning,
        "critical" if id == "_node_maintenance" || id.starts_with("_service_maintenance:") => State::Maintenance,
        "critical" => State::Critical,
        _ => State::Other,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(checks: &[(&str, &str)]) -> (Health, String) {
        let check = |(id, status): &(&str, &str)| json!({ "CheckID": id, "Status": status, "Notes": "upgrade" });
        let verdict = judge(&checks.iter().map(check).collect::<Vec<_>>());
        (verdict.health, verdict.reason)
    }

    #[test]
    fn the_worst_check_decides_and_maintenance_beats_all() {
        let (serf, ok) = (("serfHealth", "passing"), ("c", "passing"));
        let node = ("_node_maintenance", "critical");
        let service = ("_service_maintenance:web1", "critical");
        let cases = [
            (&[][..], Health::Unknown, ""),
            (&[serf, ok], Health::Healthy, ""),
            (&[serf, ("c", "warning")], Health::Degraded, "c is warning"),
            (
                &[("c", "critical"), ("d", "warning"), serf],
                Health::Unhealthy,
                "c is critical",
            ),
            (
                &[("serfHealth", "critical"), ok],
                Health::Unhealthy,
                "serfHealth is critical",
            ),
            (
                &[serf, ("c", "critical"), service],
                Health::Draining,
                "maintenance: upgrade",
            ),
            (&[node, serf], Health::Draining, "maintenance: upgrade"),
            (&[("_node_maintenance", "passing"), serf], Health::Healthy, ""),
            (&[serf, ("c", "sleepy")], Health::Unknown, "c is sleepy"),
            (
                &[("c", "sleepy"), ("d", "critical")],
                Health::Unhealthy,
                "d is critical",
            ),
        ];
        for (checks, health, reason) in cases {
            assert_eq!(of(checks), (health, reason.to_owned()), "{checks:?}");
        }
    }

    #[test]
    fn what_is_no_check_does_not_count() {
        let checks = [json!(null), json!("critical"), json!({}), json!({ "Status": 7 })];
        assert_eq!(judge(&checks).health, Health::Unknown);
        let long = json!({ "CheckID": "_node_maintenance", "Status": "critical", "Notes": "x".repeat(9999) });
        assert!(judge(&[long]).reason.len() < 200);
    }
}

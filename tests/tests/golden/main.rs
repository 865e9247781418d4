//! What Envoy is told about a recorded record of every layout: written into the real registry, read by the real server, and
//! shown by `leadsman xds watch`.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod consul;
mod dns;
mod etcd;
mod eureka;
mod kubernetes;
mod nacos;
mod registry;
mod zookeeper;

use std::path::Path;

use leadsman_tests::leadsman::{Leadsman, run};
use leadsman_tests::process::workspace;
use leadsman_tests::wait::{PATIENT, until_ok};
use serde_json::Value;

/// Compares what a client is told with the file, and leaves what it was told beside the other build output.
pub(crate) async fn compare(leadsman: &Leadsman, registry: &str) {
    let expected = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{registry}.golden"));
    let expected = std::fs::read_to_string(&expected).unwrap_or_default();
    let told = workspace().join(format!("target/{registry}.golden"));
    until_ok(
        PATIENT,
        &format!("tests/tests/golden/{registry}.golden (see {})", told.display()),
        async || {
            let seen = watched(leadsman);
            std::fs::write(&told, &seen).unwrap();
            if seen == expected {
                Ok(())
            } else {
                Err(first_difference(&seen, &expected))
            }
        },
    )
    .await;
}

/// Clusters and assignments, a line each, without what differs from run to run.
fn watched(leadsman: &Leadsman) -> String {
    let mut lines = Vec::new();
    for kind in ["cds", "eds"] {
        let server = leadsman.xds().to_string();
        let output = run(&[
            "xds", "watch", "--server", &server, "--type", kind, "-o", "json", "--count", "1",
        ]);
        assert!(output.status.success(), "{output:?}");
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            let mut response: Value = serde_json::from_str(line).unwrap();
            for resource in response["resources"].as_array_mut().unwrap() {
                scrub(resource);
                lines.push(format!("{kind} {resource}"));
            }
        }
    }
    lines.sort();
    lines.join("\n") + "\n"
}

/// Revisions count what else was written, and versions hash the revisions.
fn scrub(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, _| name != "rev" && name != "version");
            fields.values_mut().for_each(scrub);
        }
        Value::Array(values) => values.iter_mut().for_each(scrub),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn first_difference(seen: &str, expected: &str) -> String {
    let mut pairs = seen.lines().zip(expected.lines().chain(std::iter::repeat("nothing")));
    let differing = pairs.find(|(seen, expected)| seen != expected);
    differing.map_or_else(
        || "less than expected".to_owned(),
        |(seen, expected)| format!("{seen}\nexpected: {expected}"),
    )
}

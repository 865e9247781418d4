//! The examples of `docs/registries/registry.md`: each is run as it stands there, and has to print what stands there.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use leadsman_tests::process::workspace;
use serde_json::Value;

use super::world::World;

/// What the page calls the address of the registry.
const ADDRESS: &str = "127.0.0.1:18002";

/// A command and what it prints.
struct Example {
    command: String,
    output: String,
}

/// The commands of the blocks that show a console.
fn examples(page: &str) -> Vec<Example> {
    let mut examples: Vec<Example> = Vec::new();
    let blocks = page
        .split("```console\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next());
    for line in blocks.flat_map(str::lines) {
        let last = examples.last_mut();
        match (line.strip_prefix("$ "), last) {
            (Some(command), _) => examples.push(Example {
                command: command.to_owned(),
                output: String::new(),
            }),
            (None, Some(last)) if last.command.ends_with('\\') => {
                last.command = format!("{} {}", last.command.trim_end_matches('\\'), line.trim());
            }
            (None, Some(last)) => last.output += line,
            (None, None) => panic!("an output without a command: {line}"),
        }
    }
    examples
}

/// Compares, except for leases, of which each stands for another one here.
fn same(shown: &Value, printed: &Value, leases: &mut BTreeMap<String, String>) -> bool {
    match (shown, printed) {
        (Value::Object(shown), Value::Object(printed)) => {
            shown.keys().eq(printed.keys())
                && shown.iter().all(|(key, value)| {
                    let other = &printed[key];
                    match (key.as_str(), value.as_str(), other.as_str()) {
                        ("lease", Some(value), Some(other)) => {
                            leases.entry(value.to_owned()).or_insert(other.to_owned()) == other
                        }
                        ("remaining_seconds", ..) => value.is_u64() && other.is_u64(),
                        _ => same(value, other, leases),
                    }
                })
        }
        (Value::Array(shown), Value::Array(printed)) => {
            shown.len() == printed.len() && shown.iter().zip(printed).all(|(a, b)| same(a, b, leases))
        }
        _ => shown == printed,
    }
}

#[tokio::test]
async fn every_example_prints_what_stands_below_it() {
    let page = fs::read_to_string(workspace().join("docs/registries/registry.md")).unwrap();
    let examples = examples(&page);
    assert!(examples.len() >= 8, "{} examples", examples.len());
    let world = World::start().await;
    let mut leases: BTreeMap<String, String> = BTreeMap::new();
    for Example { command, output } in examples {
        assert!(command.starts_with("curl "), "{command}");
        let mut line = command.replace(ADDRESS, &world.registrar.address.to_string());
        for (shown, actual) in &leases {
            line = line.replace(shown, actual);
        }
        let run = Command::new("sh").args(["-c", &line]).output().unwrap();
        let said = String::from_utf8_lossy(&run.stderr);
        assert!(
            run.status.success(),
            "{line}: {said}: `apt-get install curl`, if it is missing"
        );
        let printed = String::from_utf8_lossy(&run.stdout).into_owned();
        let (shown, read): (Value, Value) = (
            serde_json::from_str(&output).unwrap_or_else(|error| panic!("{command}: {error}: {output}")),
            serde_json::from_str(&printed).unwrap_or_else(|error| panic!("{line}: {error}: {printed}")),
        );
        assert!(
            same(&shown, &read, &mut leases),
            "{command}\nshown   {shown}\nprinted {read}"
        );
    }
}

//! The direction of every import, as a test: `registry → model → policy → snapshot → xds → transport`, never back.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A folder or file, and what its production code must not mention.
const LAW: &[(&str, &[&str])] = &[
    (
        "core/src",
        &[
            "tokio",
            "tonic",
            "hyper",
            "std::env",
            "std::fs",
            "std::net::Tcp",
            "SystemTime",
            "Instant",
            ".await",
        ],
    ),
    (
        "core/src/model",
        &["crate::policy", "crate::snapshot", "crate::xds", "prost"],
    ),
    ("core/src/policy", &["crate::snapshot", "crate::xds", "prost"]),
    ("core/src/snapshot", &["crate::xds"]),
    (
        "registry/src",
        &[
            "leadsman_core::policy",
            "leadsman_core::snapshot",
            "leadsman_core::xds",
            "envoy_types",
        ],
    ),
    ("registry/src/own/model", PLAIN),
    ("registry/src/own/ledger", PLAIN),
    ("registry/src/own/journal", PLAIN),
    (
        "src/transport",
        &[
            "leadsman_registry",
            "leadsman_core::policy",
            "crate::controller",
            "crate::admin",
        ],
    ),
    (
        "src/controller",
        &["tonic", "crate::transport", "crate::admin", "leadsman_core::xds"],
    ),
    ("src/admin", &["tonic", "envoy_types", "crate::transport"]),
];

/// What a value has no use for: who is registered is decided without a runtime, a clock or a disk.
const PLAIN: &[&str] = &[
    "tokio",
    "tonic",
    "axum",
    "std::fs",
    "SystemTime",
    "Instant",
    ".await",
    "tracing",
];

/// Vendor types stay in their module.
const VENDORS: &[(&str, &str)] = &[
    ("etcd_client", "registry/src/etcd"),
    ("hickory_proto", "registry/src/dns"),
    ("notify::", "registry/src/file"),
    ("zookeeper_client", "registry/src/zookeeper"),
    ("axum", "registry/src/own/api"),
    ("leadsman_proto", "registry/src/own/api"),
];

/// Everything that ships.
const PLACES: [&str; 6] = [
    "src",
    "core/src",
    "registry/src",
    "../wasm-filter/src",
    "../wasm-filter/logic/src",
    "../proto/src",
];

const MAX_PRODUCTION_LINES: usize = 400;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

/// Every source file below `path`, and the file of the module itself.
fn sources(path: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let file = path.with_extension("rs");
    if file.is_file() {
        found.push(file);
    }
    let Ok(entries) = fs::read_dir(path) else { return found };
    for entry in entries.map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            found.extend(
                sources(&entry)
                    .into_iter()
                    .filter(|inner| *inner != entry.with_extension("rs")),
            );
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            found.push(entry);
        }
    }
    found.sort();
    found.dedup();
    found
}

/// The code that ships: without comments and without tests.
fn production(path: &Path) -> Vec<String> {
    if path.file_stem().is_some_and(|stem| stem == "tests") || path.components().any(|part| part.as_os_str() == "tests")
    {
        return Vec::new();
    }
    let text = fs::read_to_string(path).unwrap();
    let code = text.split("\n#[cfg(test)]\nmod ").next().unwrap_or_default();
    code.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .map(ToOwned::to_owned)
        .collect()
}

#[test]
fn nothing_points_back() {
    let mut found = Vec::new();
    for (place, forbidden) in LAW {
        let files = sources(&root().join(place));
        assert!(
            !files.is_empty(),
            "{place} has no sources: the law names a place that moved"
        );
        for file in files {
            for line in production(&file) {
                for word in forbidden.iter().filter(|word| line.contains(**word)) {
                    found.push(format!("{}: {word}: {}", file.display(), line.trim()));
                }
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn vendor_types_stay_in_their_module() {
    let mut found = Vec::new();
    for (vendor, home) in VENDORS {
        let home = root().join(home);
        let files = sources(&root().join("registry/src"));
        let away = files.iter().filter(|file| !file.with_extension("").starts_with(&home));
        for file in away {
            let lines = production(file).into_iter().filter(|line| line.contains(vendor));
            found.extend(lines.map(|line| format!("{}: {}", file.display(), line.trim())));
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn no_file_is_longer_than_a_person_reads_at_once() {
    let files = PLACES.iter().flat_map(|place| sources(&root().join(place)));
    let long: Vec<String> = files
        .map(|file| (production(&file).len(), file))
        .filter(|(lines, _)| *lines > MAX_PRODUCTION_LINES)
        .map(|(lines, file)| format!("{}: {lines} lines", file.display()))
        .collect();
    assert!(long.is_empty(), "{}", long.join("\n"));
}

#[test]
fn every_file_says_what_it_is_for() {
    let files = PLACES.iter().flat_map(|place| sources(&root().join(place)));
    let silent: Vec<_> = files
        .filter(|file| !fs::read_to_string(file).unwrap().starts_with("//!"))
        .collect();
    assert!(silent.is_empty(), "{silent:?}");
}

#[test]
fn core_has_no_runtime_and_no_transport() {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args([
            "tree",
            "--offline",
            "--locked",
            "-p",
            "leadsman-core",
            "--prefix",
            "none",
            "--format",
            "{p}",
        ])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let tree = String::from_utf8(output.stdout).unwrap();
    assert!(
        tree.contains("prost "),
        "the tree is not what this test believes:\n{tree}"
    );
    let forbidden = ["tokio ", "tonic ", "hyper ", "h2 ", "axum "];
    let found: Vec<&str> = tree
        .lines()
        .filter(|line| forbidden.iter().any(|name| line.starts_with(name)))
        .collect();
    assert!(found.is_empty(), "leadsman-core depends on {found:?}");
}

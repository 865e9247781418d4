//! What the parts of a configuration mean together, and on this machine.
//!
//! Runs on whatever could be decoded, so that a typing mistake does not hide a mistake in the meaning. A part that was
//! struck out stands at its default here: nothing is concluded from it.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use leadsman_core::model::MAX_NAME_BYTES;

use super::problem::Severity;
use super::tree::{Node, Step, Value};
use super::{Config, Overrides};

mod istio;
mod sources;

pub(super) use sources::check_written;

/// No wait of this program makes sense for longer, and Envoy's own limits are far away.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 3600);

pub(super) struct Finding {
    pub(super) severity: Severity,
    pub(super) origin: Origin,
    pub(super) message: String,
    pub(super) hint: String,
}

/// Where the offending value was written.
pub(super) enum Origin {
    Value(Vec<Step>),
    Key(Vec<Step>),
    Flag(&'static str),
}

pub(super) fn check(config: &Config, tree: &Node, overrides: &Overrides) -> Vec<Finding> {
    let mut checks = Checks {
        config,
        tree,
        overrides,
        findings: Vec::new(),
    };
    checks.node();
    checks.exposure();
    checks.listeners();
    checks.tls();
    checks.sources();
    checks.services();
    checks.istio();
    checks.findings
}

struct Checks<'a> {
    config: &'a Config,
    tree: &'a Node,
    overrides: &'a Overrides,
    findings: Vec<Finding>,
}

fn path<const N: usize>(keys: [&str; N]) -> Vec<Step> {
    keys.map(|key| Step::Key(key.to_owned())).to_vec()
}

impl Checks<'_> {
    fn error(&mut self, origin: Origin, message: String, hint: &str) {
        self.findings.push(Finding {
            severity: Severity::Error,
            origin,
            message,
            hint: hint.to_owned(),
        });
    }

    fn warn(&mut self, origin: Origin, message: String, hint: &str) {
        self.findings.push(Finding {
            severity: Severity::Warning,
            origin,
            message,
            hint: hint.to_owned(),
        });
    }

    /// Where a listen address comes from; the section stands in for a key that is absent.
    fn listen_origin(&self, section: &str) -> Origin {
        let overridden = match section {
            "xds" => self.overrides.xds_listen.map(|_| "--xds-listen"),
            _ => self.overrides.admin_listen.map(|_| "--admin-listen"),
        };
        overridden.map_or_else(|| Origin::Value(path([section, "listen"])), Origin::Flag)
    }

    fn node(&mut self) {
        let id = &self.config.node.id;
        let message = if id.is_empty() {
            "the id is empty".to_owned()
        } else if id.len() > MAX_NAME_BYTES {
            format!("the id is {} bytes long, the limit is {MAX_NAME_BYTES}", id.len())
        } else if let Some(control) = id.chars().find(|c| c.is_control()) {
            format!("the id holds the control character {control:?}")
        } else {
            return;
        };
        let origin = match self.overrides.node_id {
            Some(_) => Origin::Flag("--node-id"),
            None => Origin::Value(path(["node", "id"])),
        };
        self.error(origin, message, "write a short name, such as cp-1");
    }

    fn exposure(&mut self) {
        let xds = &self.config.xds;
        let tls_struck = self.tree.is_struck(&path(["xds", "tls"])) || self.tree.is_struck(&path(["xds", "insecure"]));
        if xds.tls.is_some() && xds.insecure {
            self.warn(
                Origin::Value(path(["xds", "insecure"])),
                "has no effect beside `tls:`".to_owned(),
                "remove one of the two",
            );
        } else if xds.tls.is_none() && !xds.listen.ip().is_loopback() && !tls_struck {
            let origin = self.listen_origin("xds");
            if xds.insecure {
                let message = format!("{} serves plaintext to other machines", xds.listen);
                self.warn(origin, message, "fine on a trusted network; else configure `xds.tls`");
            } else {
                let message = format!("{} would serve plaintext to other machines", xds.listen);
                self.error(
                    origin,
                    message,
                    "configure `xds.tls`, or say `insecure: true` under `xds:`",
                );
            }
        }
        let admin = &self.config.admin;
        if !admin.listen.ip().is_loopback() && !self.tree.is_struck(&path(["admin", "insecure"])) {
            let origin = self.listen_origin("admin");
            let message = format!("{} opens the admin API, which asks for no password", admin.listen);
            if admin.insecure {
                self.warn(origin, message, "fine on a trusted network; else listen on 127.0.0.1");
            } else {
                self.error(
                    origin,
                    message,
                    "listen on 127.0.0.1, or say `insecure: true` under `admin:`",
                );
            }
        }
    }

    fn listeners(&mut self) {
        let (xds, admin) = (self.config.xds.listen, self.config.admin.listen);
        if !overlap(xds, admin) {
            return;
        }
        let message = format!("{admin} is taken by `xds.listen` ({xds})");
        let admin_is_written =
            self.overrides.admin_listen.is_some() || self.tree.find(&path(["admin", "listen"])).is_some();
        let origin = self.listen_origin(if admin_is_written { "admin" } else { "xds" });
        self.error(origin, message, "give the two listeners different ports");
    }

    fn tls(&mut self) {
        let Some(tls) = &self.config.xds.tls else {
            return;
        };
        let files = [
            ("cert", Some(&tls.cert)),
            ("key", Some(&tls.key)),
            ("client_ca", tls.client_ca.as_ref()),
        ];
        for (key, file) in files {
            if let Some(message) = file.and_then(|file| unreadable(file)) {
                let hint = "name a PEM file that this user can read; relative paths start at the configuration file";
                self.error(Origin::Value(path(["xds", "tls", key])), message, hint);
            }
        }
    }

    fn services(&mut self) {
        let known = self.source_names();
        let wait = &self.config.xds.startup_wait;
        if *wait > LONGEST_WAIT {
            self.error(
                Origin::Value(path(["xds", "startup_wait"])),
                "is longer than a day".to_owned(),
                "write at most 24h",
            );
        }
        for (key, service) in self.config.services.entries() {
            let durations = [
                ("connect_timeout", service.connect_timeout),
                ("timeout", service.timeout),
            ];
            for (name, duration) in durations {
                let origin = || Origin::Value(path(["services", key, name]));
                if duration.is_some_and(|duration| duration > LONGEST_WAIT) {
                    self.error(origin(), "is longer than a day".to_owned(), "write at most 24h");
                } else if name == "connect_timeout" && duration.is_some_and(|duration| duration.is_zero()) {
                    let message = "Envoy refuses a connect timeout of zero".to_owned();
                    self.error(origin(), message, "write at least 1ms");
                }
            }
            if service.sources.is_some() {
                self.service_sources(key, &known);
            }
            for (place, name) in service.named_sources() {
                if place == "merge.percentage" && !known.contains(name.as_str()) {
                    let origin = Origin::Key(path(["services", key, "merge", "percentage", name.as_str()]));
                    let names: Vec<_> = known.iter().map(String::as_str).collect();
                    let hint = format!("configured under `sources:`: {}", names.join(", "));
                    self.error(origin, format!("{:?} is not a source", name.as_str()), &hint);
                }
            }
        }
    }

    fn service_sources(&mut self, service: &str, known: &BTreeSet<String>) {
        let list = path(["services", service, "sources"]);
        let Some(Value::List(nodes)) = self.tree.find(&list).map(|node| &node.value) else {
            return;
        };
        if nodes.is_empty() {
            let hint = "name at least one, or leave the key out to ask every source";
            self.error(Origin::Key(list), "no source is named".to_owned(), hint);
            return;
        }
        let mut seen = BTreeSet::new();
        for (index, node) in nodes.iter().enumerate() {
            let (Value::Text(name)
            | Value::Bool { raw: name, .. }
            | Value::Unsigned { raw: name, .. }
            | Value::Signed { raw: name, .. }
            | Value::Float { raw: name, .. }) = &node.value
            else {
                continue;
            };
            let mut place = list.clone();
            place.push(Step::Index(index));
            if !known.contains(name) && !node.struck {
                let names: Vec<_> = known.iter().map(String::as_str).collect();
                let hint = format!("configured under `sources:`: {}", names.join(", "));
                self.error(Origin::Value(place), format!("{name:?} is not a source"), &hint);
            } else if !seen.insert(name) {
                self.error(
                    Origin::Value(place),
                    format!("{name:?} is named twice"),
                    "remove one of them",
                );
            }
        }
    }

    /// The names under `sources:`, those of broken sources too: a mistake in a source must not spread to its users.
    fn source_names(&self) -> BTreeSet<String> {
        let decoded = self.config.sources.keys().map(ToString::to_string);
        let written = match self.tree.find(&path(["sources"])).map(|node| &node.value) {
            Some(Value::Map(entries)) => entries.iter().map(|entry| entry.key.clone()).collect(),
            Some(_) | None => Vec::new(),
        };
        decoded.chain(written).collect()
    }
}

/// Whether two listeners would ask the system for the same port of the same address.
fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    let port_is_chosen_by_the_system = a.port() == 0;
    let same_address = a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() == b.port() && same_address && !port_is_chosen_by_the_system
}

fn unreadable(file: &Path) -> Option<String> {
    let opened = std::fs::File::open(file).and_then(|file| file.metadata());
    match opened {
        Ok(found) if found.is_file() => None,
        Ok(_) => Some(format!("{} is not a file", file.display())),
        Err(error) => Some(format!("{} can't be read: {error}", file.display())),
    }
}

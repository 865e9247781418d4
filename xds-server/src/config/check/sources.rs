//! What the sources mean: directories, urls, and keys that need each other.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use http::Uri;
use leadsman_registry::etcd;

use super::super::SourceConfig;
use super::super::problem::Severity;
use super::super::tree::{Node, Step, Value};
use super::{Checks, Finding, Origin, path, unreadable};

/// Checks lists whose decoder would name only the first bad element, and strikes out those it names.
pub(in super::super) fn check_written(tree: &mut Node) -> Vec<Finding> {
    let Some(Value::Map(entries)) = tree.find(&path(["sources"])).map(|node| &node.value) else {
        return Vec::new();
    };
    let sources: Vec<String> = entries.iter().map(|entry| entry.key.clone()).collect();
    let mut findings = Vec::new();
    for source in sources {
        let list = path(["sources", &source, "etcd", "endpoints"]);
        let found = match tree.find(&list).map(|node| &node.value) {
            Some(Value::List(nodes)) => endpoints(&list, nodes),
            Some(_) | None => continue,
        };
        let broken = found.iter().any(|finding| finding.severity == Severity::Error);
        if let Some(node) = tree.find_mut(&list) {
            node.struck = broken;
        }
        findings.extend(found);
    }
    findings
}

fn endpoints(list: &[Step], nodes: &[Node]) -> Vec<Finding> {
    const HINT: &str = "write the urls of the members, such as [http://127.0.0.1:2379]";
    if nodes.is_empty() {
        return vec![Finding {
            severity: Severity::Error,
            origin: Origin::Key(list.to_vec()),
            message: "no endpoint is given".to_owned(),
            hint: HINT.to_owned(),
        }];
    }
    let mut seen = BTreeSet::new();
    let mut findings = Vec::new();
    for (index, node) in nodes.iter().enumerate() {
        let Value::Text(text) = &node.value else { continue };
        let mut place = list.to_vec();
        place.push(Step::Index(index));
        let origin = Origin::Value(place);
        if let Some(message) = not_an_endpoint(text) {
            findings.push(Finding {
                severity: Severity::Error,
                origin,
                message,
                hint: HINT.to_owned(),
            });
        } else if !seen.insert(text) {
            findings.push(Finding {
                severity: Severity::Warning,
                origin,
                message: format!("{text:?} is given twice"),
                hint: "remove one of them".to_owned(),
            });
        }
    }
    findings
}

impl Checks<'_> {
    pub(super) fn sources(&mut self) {
        let section = path(["sources"]);
        let written = self.tree.find(&section);
        if self.config.sources.is_empty() && written.is_some_and(is_empty) {
            let hint = "add one, such as `local: { file: { path: services/ } }`, or leave the key out";
            self.error(Origin::Key(section), "no source is configured".to_owned(), hint);
        }
        let mut directories = BTreeMap::<PathBuf, &str>::new();
        for (name, source) in &self.config.sources {
            match source {
                SourceConfig::File(file) => {
                    self.directory(name.as_str(), &file.path);
                    if let Some(other) = directories.insert(file.path.clone(), name.as_str()) {
                        let origin = Origin::Value(path(["sources", name.as_str(), "file", "path"]));
                        let message = format!("is the directory of the source `{other}` too");
                        self.warn(
                            origin,
                            message,
                            "two sources with the same content only double the work",
                        );
                    }
                }
                SourceConfig::Etcd(etcd) => self.etcd(name.as_str(), etcd),
            }
        }
    }

    fn directory(&mut self, source: &str, directory: &Path) {
        let origin = || Origin::Value(path(["sources", source, "file", "path"]));
        match std::fs::metadata(directory) {
            Ok(found) if found.is_dir() => {}
            Ok(_) => {
                let message = format!("{} is not a directory", directory.display());
                self.error(origin(), message, "name the directory that holds the files");
            }
            Err(error) => {
                let message = format!("{} can't be read: {error}", directory.display());
                self.warn(origin(), message, "create it; the source waits for it until then");
            }
        }
    }

    fn etcd(&mut self, source: &str, config: &etcd::Config) {
        let section = path(["sources", source, "etcd"]);
        if let Err(message) = config.validate() {
            // The sentence begins with the field it is about.
            let field = message.split([' ', '.']).next().unwrap_or_default();
            let mut place = section.clone();
            place.push(Step::Key(field.to_owned()));
            let place = if self.tree.find(&place).is_some() {
                place
            } else {
                section.clone()
            };
            self.error(
                Origin::Value(place),
                message,
                "see the etcd keys in docs/configuration.md",
            );
        }
        let tls = config.tls.as_ref();
        let files = [
            (["password_file", ""], config.password_file.as_ref()),
            (["tls", "ca"], tls.and_then(|tls| tls.ca.as_ref())),
            (["tls", "cert"], tls.and_then(|tls| tls.cert.as_ref())),
            (["tls", "key"], tls.and_then(|tls| tls.key.as_ref())),
        ];
        for (keys, file) in files {
            if let Some(message) = file.and_then(|file| unreadable(file)) {
                let keys = keys.into_iter().filter(|key| !key.is_empty());
                let mut place = section.clone();
                place.extend(keys.map(|key| Step::Key(key.to_owned())));
                self.warn(
                    Origin::Value(place),
                    message,
                    "the source waits for the file; relative paths start at the configuration file",
                );
            }
        }
    }
}

fn is_empty(node: &Node) -> bool {
    match &node.value {
        Value::Map(entries) => entries.is_empty(),
        Value::Null => true,
        Value::Bool { .. }
        | Value::Unsigned { .. }
        | Value::Signed { .. }
        | Value::Float { .. }
        | Value::Text(_)
        | Value::List(_) => false,
    }
}

fn not_an_endpoint(text: &str) -> Option<String> {
    let uri = match text.parse::<Uri>() {
        Ok(uri) => uri,
        Err(error) => return Some(format!("{text:?} is not a url: {error}")),
    };
    match uri.scheme_str() {
        Some("http" | "https") => {}
        Some(other) => {
            return Some(format!(
                "{text:?} has the scheme {other:?}; http and https are understood"
            ));
        }
        None => return Some(format!("{text:?} has no scheme; http:// or https:// is needed")),
    }
    match uri.authority() {
        Some(authority) if !authority.host().is_empty() => {}
        Some(_) | None => return Some(format!("{text:?} has no host")),
    }
    (uri.path() != "/" || uri.query().is_some()).then(|| format!("{text:?} has a path; only host and port are used"))
}

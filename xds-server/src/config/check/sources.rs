//! What the sources mean: directories, urls, and keys that need each other.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use http::Uri;
use leadsman_registry::own;

use super::super::SourceConfig;
use super::super::problem::Severity;
use super::super::tree::{Node, Step, Value};
use super::{Checks, Finding, Origin, overlap, path, unreadable};

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
                SourceConfig::Etcd(_)
                | SourceConfig::Consul(_)
                | SourceConfig::Dns(_)
                | SourceConfig::Eureka(_)
                | SourceConfig::Kubernetes(_)
                | SourceConfig::Nacos(_)
                | SourceConfig::Zookeeper(_) => self.remote(name.as_str(), source.clone()),
                SourceConfig::Registry(config) => {
                    self.remote(name.as_str(), source.clone());
                    self.port(name.as_str(), config);
                }
            }
        }
    }

    /// The port of a registry of our own: whether it is free, and whom it is open to.
    fn port(&mut self, name: &str, config: &own::Config) {
        let place = |key: &str| Origin::Value(path(["sources", name, "registry", key]));
        let others = self
            .config
            .sources
            .iter()
            .take_while(|(other, _)| other.as_str() != name);
        let before = others.filter_map(|(other, source)| match source {
            SourceConfig::Registry(other_config) => {
                Some((format!("sources.{other}.registry.listen"), other_config.listen))
            }
            SourceConfig::File(_)
            | SourceConfig::Etcd(_)
            | SourceConfig::Consul(_)
            | SourceConfig::Eureka(_)
            | SourceConfig::Dns(_)
            | SourceConfig::Kubernetes(_)
            | SourceConfig::Nacos(_)
            | SourceConfig::Zookeeper(_) => None,
        });
        let own = [
            ("xds.listen".to_owned(), self.config.xds.listen),
            ("admin.listen".to_owned(), self.config.admin.listen),
        ];
        let taken = own
            .into_iter()
            .chain(before)
            .find(|(_, address)| overlap(*address, config.listen));
        if let Some((by, address)) = taken {
            let message = format!("{} is taken by `{by}` ({address})", config.listen);
            self.error(place("listen"), message, "give the listeners different ports");
        }
        if config.tls.is_some() && config.insecure {
            let message = "has no effect beside `tls:`".to_owned();
            self.warn(place("insecure"), message, "remove one of the two");
        }
        let is_open = config.tokens.is_none() && config.tls.as_ref().is_none_or(|tls| tls.client_ca.is_none());
        if is_open && !config.listen.ip().is_loopback() {
            let message = format!("{} lets everybody who reaches it register anything", config.listen);
            self.warn(
                place("listen"),
                message,
                "name a file of `tokens:`, or ask for certificates by `tls.client_ca`",
            );
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

    /// A source behind a network: what its adapter says, and the files it reads.
    fn remote(&mut self, name: &str, mut source: SourceConfig) {
        let kind = source.kind();
        let section = path(["sources", name, kind]);
        let verdict = source.settings().validate();
        self.validated(
            &section,
            verdict,
            &format!("see the {kind} keys in docs/configuration.md"),
        );
        for (keys, file) in source.settings().files() {
            let Some(message) = unreadable(file) else { continue };
            let mut place = section.clone();
            place.extend(keys.iter().map(|key| Step::Key((*key).to_owned())));
            self.warn(
                Origin::Value(place),
                message,
                "the source waits for the file; relative paths start at the configuration file",
            );
        }
    }

    /// Says what an adapter has against its section.
    fn validated(&mut self, section: &[Step], verdict: Result<(), String>, hint: &str) {
        let Err(message) = verdict else { return };
        // The sentence begins with the field it is about.
        let field = message.split([' ', '.']).next().unwrap_or_default();
        let mut place = section.to_vec();
        place.push(Step::Key(field.to_owned()));
        if self.tree.find(&place).is_none() {
            place.pop();
        }
        self.error(Origin::Value(place), message, hint);
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

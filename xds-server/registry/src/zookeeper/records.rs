//! The nodes below the prefix, as a session holds them.
//!
//! Pure. Invariant: `services` names exactly the nodes in `nodes` that say something about a service, so a whole service
//! can be told at any time. `told` is what was said of it, so that silence is kept where nothing changed.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use leadsman_core::model::{Endpoint, Provenance, Rejection, Service, ServiceName};

use super::client::Node;
use super::configurator::Rule;
use super::layout::{LayoutChoice, Meaning, decode};
use crate::layout::Decoded;

/// What happened to one service.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Applied(Service),
    Deleted(ServiceName),
}

type Path = Arc<str>;

/// Rejections kept for nodes of no service. A prefix that is far too wide finds as many as it has nodes; this many are
/// enough to see that.
const MAX_UNATTRIBUTED: usize = 1000;

#[derive(Debug)]
pub(super) struct Records {
    layout: LayoutChoice,
    prefix: String,
    nodes: BTreeMap<Path, Held>,
    services: BTreeMap<ServiceName, BTreeSet<Path>>,
    unattributed: BTreeMap<Path, Rejection>,
    /// Whether `unattributed` differs from what was told of it last.
    untold: bool,
    told: BTreeMap<ServiceName, Service>,
    /// Services with a node that is not told yet.
    touched: BTreeSet<ServiceName>,
}

#[derive(Clone, Debug)]
struct Held {
    mzxid: i64,
    content: Content,
}

#[derive(Clone, Debug)]
enum Content {
    Nothing,
    Instances(ServiceName, Vec<Result<Endpoint, Rejection>>),
    Rule(ServiceName, Rule),
}

impl Content {
    fn service(&self) -> Option<&ServiceName> {
        match self {
            Self::Nothing => None,
            Self::Instances(service, _) | Self::Rule(service, _) => Some(service),
        }
    }

    /// The service that a node registers an instance of.
    fn owner(&self) -> Option<&ServiceName> {
        match self {
            Self::Instances(service, _) => Some(service),
            Self::Nothing | Self::Rule(..) => None,
        }
    }
}

impl Records {
    pub(super) fn new(layout: LayoutChoice, prefix: &str) -> Self {
        Self {
            layout,
            prefix: prefix.to_owned(),
            nodes: BTreeMap::new(),
            services: BTreeMap::new(),
            unattributed: BTreeMap::new(),
            untold: false,
            told: BTreeMap::new(),
            touched: BTreeSet::new(),
        }
    }

    /// Takes what was read of a node. `before` are the records of the session before: what was damaged since still
    /// belongs to its service.
    pub(super) fn put(&mut self, path: &str, node: &Node, before: Option<&Self>) {
        let mut content = self.content(path, node);
        let held = self.nodes.get(path).or_else(|| before?.nodes.get(path));
        if let Some(owner) = held.and_then(|held| held.content.owner()).cloned() {
            content = self.keep(owner, content, path, node);
        }
        self.forget_leaf(path);
        let mzxid = node.mzxid;
        self.set(path.into(), Held { mzxid, content });
    }

    pub(super) fn remove(&mut self, path: &str) {
        self.take(path);
        self.untold |= self.unattributed.remove(path).is_some();
    }

    /// Takes over what was held of a node that may not be read any more, and of everything below.
    pub(super) fn inherit(&mut self, before: &Self, path: &str) {
        let below = format!("{path}/");
        let inherited = before.nodes.range::<str, _>((Bound::Included(path), Bound::Unbounded));
        let inherited = inherited.take_while(|(held, _)| held.starts_with(path));
        for (held, content) in inherited.filter(|(held, _)| held.as_ref() == path || held.starts_with(&below)) {
            self.set(Arc::clone(held), content.clone());
        }
    }

    /// What a listing does not show any more of the records before it: nodes that said something of a service. Those that
    /// are to `stay` for a while are taken over.
    pub(super) fn await_missing(&mut self, before: &Self, mut stay: impl FnMut(&str) -> bool) {
        for (path, held) in &before.nodes {
            if held.content.service().is_some() && !self.nodes.contains_key(path) && stay(path) {
                self.set(Arc::clone(path), held.clone());
            }
        }
    }

    /// Every service; from here on, only what changes is told.
    pub(super) fn snapshot(&mut self) -> Vec<Service> {
        self.touched.clear();
        let all = self.services.keys().filter_map(|name| self.compose(name));
        self.told = all.map(|service| (service.name.clone(), service)).collect();
        self.told.values().cloned().collect()
    }

    /// What is different from what was told, in the order of the names.
    pub(super) fn changes(&mut self) -> Vec<Change> {
        let mut changes = Vec::new();
        for name in std::mem::take(&mut self.touched) {
            match self.compose(&name) {
                Some(service) if self.told.get(&name).is_none_or(|told| !same(told, &service)) => {
                    self.told.insert(name, service.clone());
                    changes.push(Change::Applied(service));
                }
                None if self.told.remove(&name).is_some() => changes.push(Change::Deleted(name)),
                Some(_) | None => {}
            }
        }
        changes
    }

    /// The nodes that belong to no service, unless they are still those that were told the last time.
    pub(super) fn tell_unattributed(&mut self) -> Option<Vec<Rejection>> {
        std::mem::take(&mut self.untold).then(|| self.unattributed.values().cloned().collect())
    }

    /// How many nodes differ from those of a fresh read, the `excused` left out.
    pub(super) fn drift(&self, fresh: &Self, excused: impl Fn(&str) -> bool) -> u64 {
        let differs = |path: &Path, held: &Held, other: &Self| {
            let same = other.nodes.get(path).is_some_and(|node| node.mzxid == held.mzxid);
            !same && !excused(path)
        };
        let changed = self.nodes.iter().filter(|(path, held)| differs(path, held, fresh));
        let added = fresh.nodes.keys().filter(|path| !self.nodes.contains_key(*path));
        let drift = changed.count() + added.filter(|path| !excused(path)).count();
        u64::try_from(drift).unwrap_or(u64::MAX)
    }

    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    fn content(&mut self, path: &str, node: &Node) -> Content {
        let was = self.unattributed.remove(path);
        let content = match decode(self.layout, &self.prefix, path, node) {
            Meaning::Rule { service, rule } => Content::Rule(service, rule),
            Meaning::Record(Decoded::Instances { service, outcomes }) => Content::Instances(service, outcomes),
            Meaning::Record(Decoded::NotAnInstance) => Content::Nothing,
            Meaning::Record(Decoded::Unattributed(rejection)) => {
                if self.unattributed.len() < MAX_UNATTRIBUTED {
                    self.unattributed.insert(path.into(), rejection);
                }
                Content::Nothing
            }
        };
        let is = self.unattributed.get(path);
        self.untold |= was.as_ref().map(|rejection| &rejection.reason) != is.map(|rejection| &rejection.reason);
        content
    }

    /// A record of which nothing can be read any more is a damaged record of the service it belonged to: a node is
    /// created empty and filled afterwards, and only what can be read takes an endpoint away.
    fn keep(&mut self, owner: ServiceName, content: Content, path: &str, node: &Node) -> Content {
        let outcomes = match content {
            Content::Instances(_, outcomes) if !outcomes.is_empty() && outcomes.iter().all(Result::is_err) => outcomes,
            readable @ Content::Instances(..) => return readable,
            Content::Nothing | Content::Rule(..) => {
                let unknown = self.unattributed.remove(path);
                let rejection = unknown.unwrap_or_else(|| Rejection {
                    provenance: Provenance::new(path, "", &node.data, u64::try_from(node.mzxid).unwrap_or_default()),
                    reason: "the node was an instance and is none any more; delete it if it is gone".to_owned(),
                });
                vec![Err(rejection)]
            }
        };
        Content::Instances(owner, outcomes)
    }

    /// A node with something below it is a directory, whatever it was taken for while it had nothing.
    fn forget_leaf(&mut self, child: &str) {
        let Some((parent, _)) = child.rsplit_once('/').filter(|(parent, _)| !parent.is_empty()) else {
            return;
        };
        self.untold |= self.unattributed.remove(parent).is_some();
        if let Some(held) = self.take(parent) {
            let mzxid = held.mzxid;
            let content = Content::Nothing;
            self.nodes.insert(parent.into(), Held { mzxid, content });
        }
    }

    fn set(&mut self, path: Path, held: Held) {
        self.take(&path);
        if let Some(service) = held.content.service() {
            self.touched.insert(service.clone());
            let paths = self.services.entry(service.clone()).or_default();
            paths.insert(Arc::clone(&path));
        }
        self.nodes.insert(path, held);
    }

    fn take(&mut self, path: &str) -> Option<Held> {
        let held = self.nodes.remove(path)?;
        if let Some(service) = held.content.service() {
            self.touched.insert(service.clone());
            if let Some(paths) = self.services.get_mut(service) {
                paths.remove(path);
                if paths.is_empty() {
                    self.services.remove(service);
                }
            }
        }
        Some(held)
    }

    /// A service as its nodes describe it; `None` when none of them registers an instance.
    ///
    /// Of several records with one address and scheme the healthiest counts, then the heaviest, then the first.
    fn compose(&self, name: &ServiceName) -> Option<Service> {
        let paths = self.services.get(name)?;
        let contents: Vec<&Content> = paths
            .iter()
            .filter_map(|path| Some(&self.nodes.get(path)?.content))
            .collect();
        let mut rules: Vec<&Rule> = contents.iter().filter_map(|content| rule(content)).collect();
        rules.sort();
        let mut endpoints: BTreeMap<_, Endpoint> = BTreeMap::new();
        let (mut rejections, mut registered) = (Vec::new(), false);
        for outcomes in contents.iter().filter_map(|content| instances(content)) {
            registered = true;
            for outcome in outcomes {
                let mut endpoint = match outcome {
                    Ok(endpoint) => endpoint.clone(),
                    Err(rejection) => {
                        rejections.push(rejection.clone());
                        continue;
                    }
                };
                rules.iter().for_each(|rule| rule.apply(&mut endpoint));
                let place = (endpoint.address, endpoint.scheme.clone());
                let best = endpoints.get(&place);
                if best.is_none_or(|best| endpoint.preference() > best.preference()) {
                    endpoints.insert(place, endpoint);
                }
            }
        }
        registered.then(|| Service {
            name: name.clone(),
            endpoints: endpoints.into_values().collect(),
            rejections,
        })
    }
}

fn rule(content: &Content) -> Option<&Rule> {
    match content {
        Content::Rule(_, rule) => Some(rule),
        Content::Nothing | Content::Instances(..) => None,
    }
}

fn instances(content: &Content) -> Option<&[Result<Endpoint, Rejection>]> {
    match content {
        Content::Instances(_, outcomes) => Some(outcomes),
        Content::Nothing | Content::Rule(..) => None,
    }
}

fn same(one: &Service, other: &Service) -> bool {
    let endpoints = || one.endpoints.iter().zip(&other.endpoints);
    let rejections = || one.rejections.iter().zip(&other.rejections);
    one.endpoints.len() == other.endpoints.len()
        && one.rejections.len() == other.rejections.len()
        && endpoints().all(|(one, other)| one.same_content(other))
        && rejections()
            .all(|(one, other)| one.reason == other.reason && one.provenance.record == other.provenance.record)
}

#[cfg(test)]
mod tests;

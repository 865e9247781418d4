//! Which framework wrote a node, and what the node says.
//!
//! Pure. Frameworks fill directories too, Dubbo and Curator with the address of whoever made them, so a node that has
//! children is never an instance, and neither is a lasting one with nothing but such a marker in it.

mod curator;
mod detect;
mod kitex;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::IpAddr;

use leadsman_core::model::{Provenance, ServiceName};

use super::client::Node;
use super::configurator::Rule;
use crate::layout::choice::{Choice, Layouts};
use crate::layout::entry::{Entry, below};
use crate::layout::{
    Decoded, Reading, dubbo_interface, finish, go_micro, goframe, kratos, leadsman, rpcx, unattributed,
};

/// A framework's way to write instances into ZooKeeper.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Layout {
    /// Curator's service discovery.
    Curator,
    /// Spring Cloud ZooKeeper.
    SpringCloud,
    /// Dubbo, one node an application.
    DubboApp,
    /// Dubbo, one node an interface.
    DubboInterface,
    /// go-kratos.
    Kratos,
    /// rpcx.
    Rpcx,
    /// go-micro.
    GoMicro,
    /// CloudWeGo kitex.
    Kitex,
    /// CloudWeGo hertz.
    Hertz,
    /// GoFrame.
    Goframe,
    /// Our own, for scripts and for services without a framework.
    Leadsman,
}

impl Layout {
    pub const ALL: [Self; 11] = [
        Self::Curator,
        Self::SpringCloud,
        Self::DubboApp,
        Self::DubboInterface,
        Self::Kratos,
        Self::Rpcx,
        Self::GoMicro,
        Self::Kitex,
        Self::Hertz,
        Self::Goframe,
        Self::Leadsman,
    ];

    /// The name in the configuration and in explanations.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Curator => "curator",
            Self::SpringCloud => "spring-cloud",
            Self::DubboApp => "dubbo-app",
            Self::DubboInterface => "dubbo-interface",
            Self::Kratos => "kratos",
            Self::Rpcx => "rpcx",
            Self::GoMicro => "go-micro",
            Self::Kitex => "kitex",
            Self::Hertz => "hertz",
            Self::Goframe => "goframe",
            Self::Leadsman => "leadsman",
        }
    }

    fn read(self, entry: &Entry<'_>) -> Reading {
        match self {
            Self::Curator | Self::SpringCloud => curator::read(entry),
            Self::DubboApp => curator::read_dubbo(entry),
            Self::DubboInterface => dubbo(entry),
            Self::Kratos => kratos::read(entry),
            Self::Rpcx => rpcx::read(entry),
            Self::GoMicro => go_micro::read(entry, "micro-registry/"),
            Self::Kitex | Self::Hertz => kitex::read(entry),
            Self::Goframe => goframe::read_packed(entry),
            Self::Leadsman => leadsman::read(entry),
        }
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Layouts for Layout {
    const LAYOUTS: &'static [Self] = &Self::ALL;
}

/// How the layout of a record is known.
pub type LayoutChoice = Choice<Layout>;

/// What one node is.
#[derive(Clone, Debug)]
pub(super) enum Meaning {
    Record(Decoded),
    /// What changes the instances of a service, and is none.
    Rule {
        service: ServiceName,
        rule: Rule,
    },
}

/// Says what a node is.
pub(super) fn decode(choice: LayoutChoice, prefix: &str, path: &str, node: &Node) -> Meaning {
    let Some(relative) = below(prefix, path) else {
        return Meaning::Record(Decoded::NotAnInstance);
    };
    let revision = u64::try_from(node.mzxid).unwrap_or_default();
    let mut entry = Entry::new(path, prefix, relative, &node.data);
    if relative.is_empty() || is_directory(&entry, node) || is_ignored(choice, prefix, path) {
        return Meaning::Record(Decoded::NotAnInstance);
    }
    let layout = match choice {
        LayoutChoice::Pinned(layout) => Some(layout),
        LayoutChoice::Auto => detect::detect(&entry),
    };
    let Some(layout) = layout else {
        let provenance = Provenance::new(path, "auto", &node.data, revision);
        return Meaning::Record(unattributed(provenance, "no layout knows this node".to_owned()));
    };
    if layout == Layout::DubboInterface
        && let Some((service, rule)) = rule(&entry)
    {
        return Meaning::Rule { service, rule };
    }
    entry.provenance = Provenance::new(path, layout.as_str(), &node.data, revision);
    let reading = layout.read(&entry);
    Meaning::Record(finish(reading, entry.provenance))
}

/// Levels below the prefix. Frameworks use three; deeper trees are somebody else's.
const MAX_DEPTH: usize = 15;

/// Whether nothing at or below a node is of any interest: what Dubbo keeps beside its providers can be far more.
pub(super) fn is_ignored(choice: LayoutChoice, prefix: &str, path: &str) -> bool {
    let depth = below(prefix, path).map_or(0, |relative| relative.split('/').count());
    if depth > MAX_DEPTH {
        return true;
    }
    match choice {
        LayoutChoice::Auto | LayoutChoice::Pinned(Layout::DubboInterface) => {}
        LayoutChoice::Pinned(_) => return prefix == "/" && is_system(path),
    }
    let mut segments = path.trim_start_matches('/').split('/');
    let head = segments.next();
    let (second, third) = (segments.next(), segments.next());
    let dubbo = head == Some("dubbo") && matches!(second, Some("mapping" | "metadata" | "config"));
    dubbo || (head == Some("dubbo") && matches!(third, Some("consumers" | "routers"))) || is_system(path)
}

/// ZooKeeper's own nodes.
fn is_system(path: &str) -> bool {
    path == "/zookeeper" || path.starts_with("/zookeeper/")
}

fn is_directory(entry: &Entry<'_>, node: &Node) -> bool {
    if node.has_children {
        return true;
    }
    let leaf = entry.leaf();
    if node.ephemeral || leaf.contains('@') || is_url(leaf) {
        return false;
    }
    let marker = |text: &str| text.is_empty() || text == leaf || text == "rpcx_path" || text.parse::<IpAddr>().is_ok();
    entry.text().is_ok_and(marker)
}

fn is_url(leaf: &str) -> bool {
    leaf.to_ascii_lowercase().contains("%3a%2f%2f")
}

/// Dubbo's provider list. It may say that it is empty, which is not a bad record.
fn dubbo(entry: &Entry<'_>) -> Reading {
    if let [.., interface, "providers", url] = entry.segments().as_slice()
        && url.to_ascii_lowercase().starts_with("empty%3a%2f%2f")
    {
        return Reading::Instances((*interface).to_owned(), Ok(Vec::new()));
    }
    dubbo_interface::read(entry)
}

fn rule(entry: &Entry<'_>) -> Option<(ServiceName, Rule)> {
    let segments = entry.segments();
    let [.., interface, "configurators", url] = segments.as_slice() else {
        return None;
    };
    let rule = Rule::parse(&dubbo_interface::unescape(url))?;
    Some((ServiceName::new(interface).ok()?, rule))
}

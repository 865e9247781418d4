//! One reading of the whole tree, level by level.
//!
//! ZooKeeper has no reading of many nodes at one moment: what changes meanwhile is what the watch, set before, tells.

use std::collections::BTreeSet;

use super::client::{Birth, Fault, Link, MAX_NODES, Node, PIPELINE};
use super::config::Config;
use super::layout::is_ignored;
use super::records::Records;
use crate::{Error, EventSender};

/// What a reading found.
#[derive(Debug)]
pub(super) struct Listing {
    pub(super) records: Records,
    /// The newest transaction that any node knows of.
    pub(super) newest: i64,
    /// How the prefix came to be; `None` while it does not exist.
    pub(super) prefix: Option<Birth>,
    /// Nodes that may not be read. What was held of them is still in `records`.
    pub(super) unreadable: BTreeSet<String>,
}

struct Walk<'a> {
    config: &'a Config,
    link: &'a mut Link,
    before: Option<&'a Records>,
    listing: Listing,
    met: usize,
}

/// Reads every node below the prefix. `before` is what was held until now.
pub(super) async fn list(
    config: &Config,
    link: &mut Link,
    events: &EventSender,
    before: Option<&Records>,
) -> Result<Listing, Error> {
    let root = config.root();
    let listing = Listing {
        records: Records::new(config.layout, root),
        newest: 0,
        prefix: None,
        unreadable: BTreeSet::new(),
    };
    let mut walk = Walk {
        config,
        link,
        before,
        listing,
        met: 0,
    };
    for ancestor in ancestors(root) {
        walk.meet(&ancestor).await?;
    }
    events.syncing();
    let mut level = vec![root.to_owned()];
    while !level.is_empty() {
        let mut next = Vec::new();
        for paths in level.chunks(PIPELINE) {
            let parents = walk.read(paths).await?;
            next.extend(walk.descend(&parents).await?);
            events.syncing();
        }
        level = next;
    }
    Ok(walk.listing)
}

impl Walk<'_> {
    /// Reads nodes, and says which of them have something below.
    async fn read(&mut self, paths: &[String]) -> Result<Vec<String>, Error> {
        let mut parents = Vec::new();
        for (path, read) in paths.iter().zip(self.link.nodes(paths).await?) {
            match read {
                Ok(node) => {
                    self.take(path, &node);
                    if node.has_children {
                        parents.push(path.clone());
                    }
                }
                Err(fault) => self.fail(path, fault).await?,
            }
        }
        Ok(parents)
    }

    async fn descend(&mut self, parents: &[String]) -> Result<Vec<String>, Error> {
        let mut below = Vec::new();
        let left = MAX_NODES.saturating_sub(self.met);
        for (parent, read) in parents.iter().zip(self.link.children(parents, left).await?) {
            match read {
                Ok(names) => below.extend(names.iter().map(|name| join(parent, name))),
                Err(fault) => self.fail(parent, fault).await?,
            }
        }
        let (layout, root) = (self.config.layout, self.config.root());
        below.retain(|path| !is_ignored(layout, root, path));
        self.met += below.len();
        Ok(below)
    }

    fn take(&mut self, path: &str, node: &Node) {
        self.listing.newest = self.listing.newest.max(node.newest);
        if path == self.config.root() {
            self.listing.prefix = Some(node.birth);
        } else {
            self.listing.records.put(path, node, self.before);
        }
    }

    async fn fail(&mut self, path: &str, fault: Fault) -> Result<(), Error> {
        match fault {
            // Whoever deleted it was seen, or will be.
            Fault::Gone => Ok(()),
            Fault::NoAuth if path == self.config.root() => {
                Err(Error::Denied(format!("{path} may not be read: grant `r` on it")))
            }
            Fault::NoAuth => {
                if let Some(before) = self.before {
                    self.listing.records.inherit(before, path);
                }
                self.listing.unreadable.insert(path.to_owned());
                self.meet(path).await
            }
            Fault::Session(error) => Err(error),
        }
    }

    /// Takes notice of a node that is not read.
    async fn meet(&mut self, path: &str) -> Result<(), Error> {
        if let Some(node) = self.link.stat(path).await? {
            self.listing.newest = self.listing.newest.max(node.newest);
        }
        Ok(())
    }
}

/// A deletion leaves its transaction in the parent, so with every node above, the newest transaction never goes back.
fn ancestors(root: &str) -> Vec<String> {
    let ends = root.match_indices('/').map(|(at, _)| at.max(1));
    ends.filter_map(|end| root.get(..end)).map(str::to_owned).collect()
}

fn join(parent: &str, name: &str) -> String {
    match parent {
        "/" => format!("/{name}"),
        parent => format!("{parent}/{name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_node_above_the_prefix_is_met() {
        assert_eq!(ancestors("/"), ["/"]);
        assert_eq!(ancestors("/services"), ["/"]);
        assert_eq!(ancestors("/a/b/c"), ["/", "/a", "/a/b"]);
        assert_eq!((join("/", "a"), join("/a", "b")), ("/a".to_owned(), "/a/b".to_owned()));
    }
}

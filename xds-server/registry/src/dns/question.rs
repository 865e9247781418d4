//! What can be asked of a DNS server, and what it may say: our own words, between the wire and everything else.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::rr::Name;

/// The records that are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Srv,
    A,
    Aaaa,
    Ptr,
    Txt,
    Soa,
}

impl Kind {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Srv => "SRV",
            Self::A => "A",
            Self::Aaaa => "AAAA",
            Self::Ptr => "PTR",
            Self::Txt => "TXT",
            Self::Soa => "SOA",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Question {
    pub(super) name: Name,
    pub(super) kind: Kind,
}

impl Question {
    pub(super) fn new(name: &Name, kind: Kind) -> Self {
        Self {
            name: name.clone(),
            kind,
        }
    }
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name.to_ascii(), self.kind)
    }
}

/// What makes a record the one it is: the rest of it may change without its having gone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Item {
    Target { host: Name, port: u16 },
    Address(IpAddr),
    Instance(Name),
    Text(Arc<[Box<[u8]>]>),
}

/// What an SRV record says of its target; nothing for other records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    pub(super) priority: u16,
    pub(super) weight: u16,
}

pub(super) type Items = BTreeMap<Item, Rank>;

/// A definite answer: from a server with authority, or from one that asked those.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) said: Said,
    /// The end of the chain of aliases: whose records these are.
    pub(super) owner: Name,
    /// The least of all records of the chain; `None` where the server did not say how long an absence lasts.
    pub(super) ttl: Option<Duration>,
    /// The zone that `owner` belongs to, where the server named it.
    pub(super) zone: Option<Zone>,
    /// The server has authority, so asking it again is another look and not the same one out of a cache.
    pub(super) authoritative: bool,
}

impl Answer {
    /// How many records it has.
    pub(super) fn records(&self) -> usize {
        match &self.said {
            Said::Items(items) => items.len(),
            Said::Nothing { .. } => 0,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    Items(Items),
    /// No such records. The name may have others.
    Nothing {
        name_exists: bool,
    },
}

/// A version of a zone, as its SOA record has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Zone {
    pub(super) apex: Name,
    /// The server it comes from; each of several masters counts for itself.
    pub(super) master: Name,
    pub(super) serial: u32,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) reason: String,
    /// A server spoke, and did not say anything that could be used.
    pub(super) spoke: bool,
}

pub(super) type Outcome = Result<Answer, Failure>;

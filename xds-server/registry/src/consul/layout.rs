//! What frameworks hide in tags, meta and tagged addresses.
//!
//! Pure. Consul has fields for address, port and weight, and frameworks use them differently or not at all; what no
//! framework claims is read as Consul means it.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read as _;
use std::sync::Arc;

use leadsman_core::model::{Address, Health, Weight};
use serde_json::Value;

use crate::layout::choice::{Choice, Layouts};
use crate::layout::entry::{
    Object, brief, flag, list, map, number, parse_flag, parse_number, port, text, weight, weight_above_zero,
};
use crate::layout::tags::Tags;

/// Who registered an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Layout {
    /// Consul's own fields, without a framework.
    Consul,
    /// go-kratos.
    Kratos,
    /// go-micro.
    GoMicro,
    /// Spring Cloud Consul.
    SpringCloud,
    /// CloudWeGo kitex and hertz, which write the same.
    Kitex,
    /// GoFrame.
    Goframe,
}

impl Layout {
    pub const ALL: [Self; 6] = [
        Self::Consul,
        Self::Kratos,
        Self::GoMicro,
        Self::SpringCloud,
        Self::Kitex,
        Self::Goframe,
    ];

    /// The name in the configuration and in explanations.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Consul => "consul",
            Self::Kratos => "kratos",
            Self::GoMicro => "go-micro",
            Self::SpringCloud => "spring-cloud",
            Self::Kitex => "kitex",
            Self::Goframe => "goframe",
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

/// An instance as Consul answers it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Instance<'a> {
    pub(super) node: &'a Object,
    pub(super) service: &'a Object,
    /// The key of the tagged address that the configuration prefers.
    pub(super) tagged_address: Option<&'a str>,
}

/// One address of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) address: Address,
    pub(super) scheme: Option<Arc<str>>,
    pub(super) secure: bool,
}

/// What a framework keeps in tags although it is a map, in the order of the tags.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Pairs(Vec<(String, String)>);

impl Pairs {
    fn get(&self, key: &str) -> Option<&str> {
        let found = self.0.iter().find(|(name, _)| name == key);
        found.map(|(_, value)| value.as_str())
    }
}

/// Of a text that go-micro packed: a key and a value as long as an endpoint may have them, as JSON.
const MAX_UNPACKED_BYTES: u64 = 1024;

/// Weights that frameworks use where nobody set one.
const DEFAULT_KRATOS: f64 = 100.0;
const DEFAULT_KITEX: f64 = 10.0;
const DEFAULT_GOFRAME: f64 = 100.0;

impl<'a> Instance<'a> {
    /// The layout of this instance.
    pub(super) fn layout(&self, choice: LayoutChoice) -> Layout {
        if let LayoutChoice::Pinned(layout) = choice {
            return layout;
        }
        let meta = self.meta();
        let is_document = |field| meta.is_some_and(|meta| document(text(meta, field)).is_some());
        if self.urls().next().is_some() {
            Layout::Kratos
        } else if self.tags().any(|tag| packed(tag, "v-").is_some()) {
            Layout::GoMicro
        } else if is_document("metadata") && !self.meta_text("version").is_empty() || self.is_named(&self.versioned()) {
            Layout::Goframe
        } else if meta.is_some_and(|meta| flag(meta, "secure").is_some())
            || parse_flag(self.tag_after("secure=")).is_some()
        {
            Layout::SpringCloud
        } else if self.is_named(":") {
            Layout::Kitex
        } else {
            Layout::Consul
        }
    }

    /// The pairs in the tags of the layouts that keep some there.
    pub(super) fn pairs(&self, layout: Layout) -> Pairs {
        let split = |separator| {
            let pairs = self.tags().filter_map(move |tag| tag.split_once(separator));
            pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
        };
        Pairs(match layout {
            Layout::Kitex => split(':'),
            Layout::SpringCloud => split('='),
            Layout::GoMicro => self.tags().flat_map(packed_pairs).collect(),
            Layout::Consul | Layout::Kratos | Layout::Goframe => Vec::new(),
        })
    }

    /// Every address that the instance can be reached at.
    pub(super) fn places(&self, layout: Layout, pairs: &Pairs) -> Vec<Result<Place, String>> {
        let said = self.meta().and_then(|meta| flag(meta, "secure"));
        let secure = said.or_else(|| parse_flag(pairs.get("secure")?)) == Some(true);
        if layout == Layout::Kratos && self.urls().next().is_some() {
            return self.urls().map(place).collect();
        }
        let place = self.address().map(|address| Place {
            address,
            scheme: None,
            secure,
        });
        vec![place]
    }

    /// The weight in the registry's own unit; an instance with a warning may have another one.
    pub(super) fn weight(&self, layout: Layout, pairs: &Pairs, health: Health) -> Weight {
        let field = if health == Health::Degraded {
            "Warning"
        } else {
            "Passing"
        };
        let own = map(self.service, "Weights").and_then(|weights| number(weights.get(field)));
        let tagged = self.meta().and_then(|meta| number(meta.get("weight")));
        let tagged = tagged.or_else(|| parse_number(pairs.get("weight")?));
        match layout {
            Layout::Consul => weight(own, 1.0),
            Layout::GoMicro | Layout::SpringCloud => weight(tagged.or(own), 1.0),
            Layout::Kratos => weight(tagged, DEFAULT_KRATOS),
            Layout::Kitex => weight_above_zero(own, DEFAULT_KITEX),
            Layout::Goframe => {
                let inner = document(self.meta_text("metadata"));
                let inner = inner.as_ref().and_then(|inner| number(inner.get("weight")));
                weight(inner, DEFAULT_GOFRAME)
            }
        }
    }

    /// Metadata and locality. The datacentre is the region of whoever says nothing else.
    pub(super) fn labels(&self, layout: Layout, pairs: &Pairs) -> Tags {
        let mut tags = Tags::default();
        match layout {
            Layout::Kratos => tags.known("version", self.tag_after("version=")),
            Layout::GoMicro => {
                let found = self.tags().find_map(|tag| packed(tag, "v-"));
                tags.known("version", &found.unwrap_or_default());
                tags.known("version", self.tag_after("v="));
            }
            Layout::Goframe => {
                tags.known("version", self.meta_text("version"));
                tags.known("version", self.tags().next().unwrap_or_default());
                tags.put_all(document(self.meta_text("metadata")).as_ref(), &["weight"]);
            }
            Layout::Consul | Layout::SpringCloud | Layout::Kitex => {}
        }
        for (key, value) in pairs.0.iter().filter(|(key, _)| key != "weight") {
            tags.put(key, value);
        }
        tags.put_all(self.meta(), &["weight", "metadata"]);
        if let Some(meta) = map(self.node, "Meta") {
            tags.known("zone", text(meta, "zone"));
            tags.known("region", text(meta, "region"));
        }
        tags.known("region", text(self.node, "Datacenter"));
        tags
    }

    fn meta(&self) -> Option<&'a Object> {
        map(self.service, "Meta")
    }

    fn meta_text(&self, field: &str) -> &'a str {
        self.meta().map_or("", |meta| text(meta, field))
    }

    fn tags(&self) -> impl Iterator<Item = &'a str> {
        let tags = list(self.service, "Tags").unwrap_or_default();
        tags.iter().filter_map(Value::as_str)
    }

    fn tag_after(&self, prefix: &str) -> &'a str {
        self.tags().find_map(|tag| tag.strip_prefix(prefix)).unwrap_or_default()
    }

    /// The tagged addresses that are URLs, in the order of their keys.
    fn urls(&self) -> impl Iterator<Item = &'a str> {
        let tagged = map(self.service, "TaggedAddresses").into_iter().flatten();
        let mut urls: Vec<&str> = tagged
            .filter_map(|(_, tagged)| host(tagged.as_object()?))
            .filter(|host| host.contains("://"))
            .collect();
        urls.sort_unstable();
        urls.into_iter()
    }

    fn address(&self) -> Result<Address, String> {
        let (host, port) = self.tagged().unwrap_or((self.usual_host(), self.port()));
        Address::new(host, port).map_err(|error| error.to_string())
    }

    fn usual_host(&self) -> &'a str {
        let own = text(self.service, "Address");
        if own.is_empty() {
            text(self.node, "Address")
        } else {
            own
        }
    }

    /// The preferred tagged address: of the service, or of the node with the service's port.
    fn tagged(&self) -> Option<(&'a str, i64)> {
        let key = self.tagged_address?;
        let of_service = map(self.service, "TaggedAddresses").and_then(|tagged| map(tagged, key));
        if let Some(tagged) = of_service {
            let given = port(tagged.get("Port").or_else(|| tagged.get("port")));
            let port = if given == 0 { self.port() } else { given };
            return Some((host(tagged)?, port));
        }
        // What the service says of its address beats what its node says.
        if !text(self.service, "Address").is_empty() {
            return None;
        }
        let of_node = text(map(self.node, "TaggedAddresses")?, key);
        (!of_node.is_empty()).then_some((of_node, self.port()))
    }

    /// Newer servers leave out a port of zero, and list several ports by name.
    fn port(&self) -> i64 {
        let several = list(self.service, "Ports").unwrap_or_default();
        let is_default = |entry: &&Value| entry.as_object().and_then(|entry| flag(entry, "Default")) == Some(true);
        let chosen = several.iter().find(is_default).or(several.first());
        let single = self.service.get("Port");
        port(single.or_else(|| chosen.and_then(|entry| entry.get("Port"))))
    }

    /// kitex and hertz name an instance `<service>:<host>:<port>`, GoFrame puts the version between.
    fn is_named(&self, between: &str) -> bool {
        let (service, host) = (text(self.service, "Service"), self.usual_host());
        text(self.service, "ID") == format!("{service}{between}{host}:{}", self.port())
    }

    fn versioned(&self) -> String {
        format!("-{}-", self.tags().next().unwrap_or_default())
    }
}

/// The documentation writes these keys in lower case, servers do not.
fn host(tagged: &Object) -> Option<&str> {
    let found = tagged.get("Address").or_else(|| tagged.get("address"))?.as_str()?;
    (!found.is_empty()).then_some(found)
}

fn place(url: &str) -> Result<Place, String> {
    let parts = url.split_once("://").filter(|(scheme, _)| !scheme.is_empty());
    let (scheme, rest) = parts.ok_or_else(|| brief(&format!("the endpoint {url:?} has no scheme")))?;
    let (location, query) = rest.split_once('?').unwrap_or((rest, ""));
    let authority = location.split('/').next().unwrap_or_default();
    let address = Address::parse(authority).map_err(|error| error.to_string())?;
    let flagged = form_urlencoded::parse(query.as_bytes()).any(|(key, value)| key == "isSecure" && value == "true");
    Ok(Place {
        address,
        scheme: Some(brief(scheme).into()),
        secure: flagged || matches!(scheme, "grpcs" | "https"),
    })
}

/// A JSON object inside a text.
fn document(text: &str) -> Option<Object> {
    text.starts_with('{').then(|| serde_json::from_str(text).ok())?
}

/// What go-micro packed into a tag: `v-` and the hexadecimal digits of deflated text.
fn packed(tag: &str, prefix: &str) -> Option<String> {
    let digits = tag.strip_prefix(prefix)?;
    let pairs = digits.as_bytes().chunks(2);
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let bytes: Vec<u8> = pairs.map(byte).collect::<Option<_>>()?;
    // A few bytes may unpack to gigabytes.
    let mut text = String::new();
    let unpacked = flate2::read::ZlibDecoder::new(bytes.as_slice())
        .take(MAX_UNPACKED_BYTES)
        .read_to_string(&mut text);
    let unpacked = unpacked.ok().filter(|length| *length > 0);
    unpacked.map(|_| match serde_json::from_str::<String>(&text) {
        // The versions of go-micro differ in whether they quote.
        Ok(quoted) => quoted,
        Err(_) => text,
    })
}

/// go-micro's metadata: an object with one pair a tag, packed, or plain as old versions wrote it.
fn packed_pairs(tag: &str) -> BTreeMap<String, String> {
    let plain = tag.strip_prefix("t=").map(str::to_owned);
    let found = plain.or_else(|| packed(tag, "t-"));
    found
        .and_then(|text| serde_json::from_str(&text).ok())
        .unwrap_or_default()
}

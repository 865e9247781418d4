//! What frameworks write about their instances.
//!
//! Pure. Nacos has fields for address, port, weight and health, and most frameworks use them as they are meant: kitex,
//! hertz and GoFrame leave no trace of themselves. Dubbo has a weight of its own, and ports of its own.

use std::fmt;
use std::sync::Arc;

use leadsman_core::model::{Address, Health, Weight};
use serde_json::Value;

use crate::layout::choice::{Choice, Layouts};
use crate::layout::entry::{Object, brief, flag, map, number, parse_flag, port, text, weight};
use crate::layout::tags::Tags;

/// Who registered an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Layout {
    /// Nacos's own fields; also CloudWeGo kitex and hertz, and GoFrame.
    Nacos,
    /// Spring Cloud Alibaba.
    SpringCloud,
    /// Dubbo and dubbo-go, a service an interface.
    DubboInterface,
    /// Dubbo and dubbo-go, a service an application.
    DubboApp,
    /// go-kratos.
    Kratos,
}

impl Layout {
    pub const ALL: [Self; 5] = [
        Self::Nacos,
        Self::SpringCloud,
        Self::DubboInterface,
        Self::DubboApp,
        Self::Kratos,
    ];

    /// The name in the configuration and in explanations.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Nacos => "nacos",
            Self::SpringCloud => "spring-cloud",
            Self::DubboInterface => "dubbo-interface",
            Self::DubboApp => "dubbo-app",
            Self::Kratos => "kratos",
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

/// An instance as Nacos answers it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Instance<'a> {
    /// The name of its service, without the group.
    pub(super) service: &'a str,
    pub(super) fields: &'a Object,
}

/// One address of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) address: Address,
    pub(super) scheme: Option<Arc<str>>,
}

const DEFAULT_NACOS: f64 = 1.0;
const DEFAULT_DUBBO: f64 = 100.0;

/// Directions to Nacos itself, which say nothing about the instance.
const PRESERVED: &str = "preserved.";
/// Dubbo's own plumbing, documents, and what changes at every start.
const DUBBO_NO_TAGS: [&str; 24] = [
    "weight",
    "timestamp",
    "pid",
    "side",
    "methods",
    "revision",
    "path",
    "category",
    "anyhost",
    "dynamic",
    "deprecated",
    "generic",
    "bind.ip",
    "bind.port",
    "registry.role",
    "bean.name",
    "service-name-mapping",
    "dubbo.tag",
    "ssl-enabled",
    "dubbo.endpoints",
    "dubbo.metadata-service.url-params",
    "dubbo.metadata-service.urls",
    "dubbo.metadata.revision",
    "dubbo.metadata.storage-type",
];

impl<'a> Instance<'a> {
    /// The layout of this instance.
    pub(super) fn layout(&self, choice: LayoutChoice) -> Layout {
        if let LayoutChoice::Pinned(layout) = choice {
            return layout;
        }
        let has = |key: &str| !self.metadata_text(key).is_empty();
        let kind = self.metadata_text("kind");
        if self.service.starts_with("providers:") && has("interface") {
            Layout::DubboInterface
        } else if self.metadata_text("preserved.register.source") == "SPRING_CLOUD" {
            // With Dubbo in it perhaps, but what is registered is the port of Spring's own server.
            Layout::SpringCloud
        } else if has("dubbo.metadata.revision") || has("dubbo.endpoints") || has("dubbo.metadata.storage-type") {
            Layout::DubboApp
        } else if !kind.is_empty() && self.service.strip_suffix(kind).is_some_and(|name| name.ends_with('.')) {
            Layout::Kratos
        } else {
            Layout::Nacos
        }
    }

    /// Every address that the instance can be reached at.
    pub(super) fn places(&self, layout: Layout) -> Vec<Result<Place, String>> {
        let protocol = match layout {
            Layout::Nacos | Layout::SpringCloud => "",
            Layout::DubboInterface => self.metadata_text("protocol"),
            Layout::Kratos => self.metadata_text("kind"),
            Layout::DubboApp => {
                let listed = self.metadata_text("dubbo.endpoints");
                // Dubbo falls back to the instance's own port when the list can't be read, and so do we.
                let listed: Vec<Value> = serde_json::from_str(listed).unwrap_or_default();
                if !listed.is_empty() {
                    return listed.iter().map(|listed| self.dubbo_place(listed)).collect();
                }
                ""
            }
        };
        vec![self.place(port(self.fields.get("port")), protocol)]
    }

    /// The weight in the unit of whoever set it. A zero in Nacos's own field is never a default: somebody drains.
    pub(super) fn weight(&self, layout: Layout) -> Weight {
        let own = number(self.fields.get("weight"));
        match layout {
            Layout::Nacos | Layout::SpringCloud | Layout::Kratos => weight(own, DEFAULT_NACOS),
            Layout::DubboInterface | Layout::DubboApp => {
                let tagged = self.metadata().and_then(|metadata| number(metadata.get("weight")));
                let drained = own.filter(|own| *own == 0.0);
                weight(drained.or(tagged), DEFAULT_DUBBO)
            }
        }
    }

    /// What Nacos says of its health, and in which words.
    pub(super) fn health(&self) -> (Health, &'static str) {
        match (flag(self.fields, "enabled"), flag(self.fields, "healthy")) {
            (Some(false), _) => (Health::Draining, "enabled=false"),
            (Some(true) | None, Some(false)) => (Health::Unhealthy, "healthy=false"),
            (Some(true) | None, Some(true)) => (Health::Healthy, ""),
            (Some(true) | None, None) => (Health::Unknown, ""),
        }
    }

    /// Metadata and locality. A cluster that somebody named is the zone of whoever says nothing else.
    pub(super) fn labels(&self, layout: Layout) -> Tags {
        let mut tags = Tags::default();
        let metadata = self.metadata();
        let skipped: &[&str] = match layout {
            Layout::Nacos | Layout::SpringCloud => &[],
            Layout::DubboInterface | Layout::DubboApp => {
                tags.known("tag", self.metadata_text("dubbo.tag"));
                if parse_flag(self.metadata_text("ssl-enabled")) == Some(true) {
                    tags.known("secure", "true");
                }
                &DUBBO_NO_TAGS
            }
            Layout::Kratos => &["kind"],
        };
        let preserved = metadata.into_iter().flatten().map(|(key, _)| key.as_str());
        let skipped: Vec<&str> = preserved
            .filter(|key| key.starts_with(PRESERVED))
            .chain(skipped.iter().copied())
            .collect();
        tags.put_all(metadata, &skipped);
        let cluster = text(self.fields, "clusterName");
        if cluster != "DEFAULT" {
            tags.known("zone", cluster);
        }
        tags
    }

    fn metadata(&self) -> Option<&'a Object> {
        map(self.fields, "metadata")
    }

    fn metadata_text(&self, key: &str) -> &'a str {
        self.metadata().map_or("", |metadata| text(metadata, key))
    }

    fn dubbo_place(&self, listed: &Value) -> Result<Place, String> {
        let listed = listed
            .as_object()
            .ok_or("an item of dubbo.endpoints is not a JSON object")?;
        self.place(port(listed.get("port")), text(listed, "protocol"))
    }

    fn place(&self, port: i64, protocol: &str) -> Result<Place, String> {
        let address = Address::new(text(self.fields, "ip"), port).map_err(|error| error.to_string())?;
        Ok(Place {
            address,
            scheme: (!protocol.is_empty()).then(|| brief(protocol).into()),
        })
    }
}

//! `services:`, the live part of the configuration.
//!
//! Settings are laid over each other key by key: a service's own, then those under `*`, then the built-in defaults.

use std::collections::BTreeMap;
use std::num::NonZeroU16;
use std::time::Duration;

use leadsman_core::model::{ServiceName, SourceName};
use leadsman_core::policy::{HostTemplate, Istio, Merge, Namespace, Protocol, ServiceSettings};
use serde::{Deserialize, Deserializer};

use super::format::{self, Named};

/// The key whose settings hold for every service.
pub(super) const EVERY_SERVICE: &str = "*";

/// The settings of all services.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Services {
    defaults: Service,
    by_name: BTreeMap<ServiceName, Service>,
}

/// What the file says about one service; `None` is left to the next layer. Every key is live.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Service {
    /// What the endpoints speak: http1, http2, grpc or tcp. Default: `http1`.
    pub protocol: Option<Protocol>,
    /// How long Envoy waits for a connection to an endpoint. A duration. Default: `1s`.
    #[serde(deserialize_with = "format::some_duration")]
    pub connect_timeout: Option<Duration>,
    /// How long a request may take, for clients that take their routes from us. A duration. Default: `15s`.
    #[serde(deserialize_with = "format::some_duration")]
    pub timeout: Option<Duration>,
    /// The sources to ask, most trusted first. Default: every source, in the order of their names.
    #[serde(deserialize_with = "format::source_names")]
    pub sources: Option<Vec<SourceName>>,
    /// What to do when several sources know the service: priority, union, fallback, or
    /// `{ percentage: { SOURCE: 90, OTHER: 10 } }`. Default: `priority`.
    pub merge: Option<Merge>,
    /// Whether endpoints of one weight make a locality of their own, for gRPC clients, which weigh localities and not
    /// endpoints. Default: `false`.
    pub weight_localities: Option<bool>,
    /// How the service appears in Istio, for an istiod that reads this server.
    pub istio: InIstio,
}

/// What the file says about a service in Istio; `None` is left to the next layer, key by key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct InIstio {
    /// Whether istiod is told of the service. Default: `false`.
    pub export: Option<bool>,
    /// The host by which clients in the mesh know the service; `{service}` stands for its name. Default:
    /// `{service}.leadsman.internal`.
    pub host: Option<HostTemplate>,
    /// The port that clients in the mesh say, 1 to 65535. Default: `80`.
    #[serde(deserialize_with = "format::some_port")]
    pub port: Option<NonZeroU16>,
    /// The Kubernetes namespace that the service belongs to in Istio. Default: `leadsman`.
    pub namespace: Option<Namespace>,
}

impl Service {
    /// The sources that are named, for whatever reason, with the path of the key that names them.
    pub(super) fn named_sources(&self) -> impl Iterator<Item = (&'static str, &SourceName)> {
        let asked = self.sources.iter().flatten().map(|name| ("sources", name));
        let percentages = match &self.merge {
            Some(Merge::Percentage(percentages)) => Some(percentages),
            Some(Merge::Priority | Merge::Union | Merge::Fallback) | None => None,
        };
        let divided = percentages.into_iter().flat_map(|percentages| percentages.iter());
        asked.chain(divided.map(|(name, _)| ("merge.percentage", name)))
    }
}

impl Services {
    /// The settings of one service, with every default filled in.
    pub fn settings(&self, name: &ServiceName) -> ServiceSettings {
        let own = self.by_name.get(name);
        let builtin = ServiceSettings::default();
        ServiceSettings {
            protocol: self.pick(own, |s| s.protocol).unwrap_or(builtin.protocol),
            connect_timeout: self.pick(own, |s| s.connect_timeout).unwrap_or(builtin.connect_timeout),
            timeout: self.pick(own, |s| s.timeout).unwrap_or(builtin.timeout),
            sources: self.pick(own, |s| s.sources.clone()).unwrap_or(builtin.sources),
            merge: self.pick(own, |s| s.merge.clone()).unwrap_or(builtin.merge),
            weight_localities: self
                .pick(own, |s| s.weight_localities)
                .unwrap_or(builtin.weight_localities),
            istio: self.istio(own),
        }
    }

    fn istio(&self, own: Option<&Service>) -> Option<Istio> {
        let export = self.pick(own, |s| s.istio.export).unwrap_or(false);
        let builtin = Istio::default();
        export.then(|| Istio {
            host: self.pick(own, |s| s.istio.host.clone()).unwrap_or(builtin.host),
            port: self.pick(own, |s| s.istio.port).unwrap_or(builtin.port),
            namespace: self
                .pick(own, |s| s.istio.namespace.clone())
                .unwrap_or(builtin.namespace),
        })
    }

    /// The services that have settings of their own, in the order of their names.
    pub fn names(&self) -> impl Iterator<Item = &ServiceName> {
        self.by_name.keys()
    }

    /// Every entry with the key it has in the file.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&str, &Service)> {
        let named = self.by_name.iter().map(|(name, service)| (name.as_str(), service));
        std::iter::once((EVERY_SERVICE, &self.defaults)).chain(named)
    }

    fn pick<T>(&self, own: Option<&Service>, key: impl Fn(&Service) -> Option<T>) -> Option<T> {
        own.and_then(&key).or_else(|| key(&self.defaults))
    }
}

impl<'de> Deserialize<'de> for Services {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let entries = BTreeMap::<Named<ServiceName>, Service>::deserialize(deserializer)?;
        let mut by_name: BTreeMap<_, _> = entries.into_iter().map(|(name, service)| (name.0, service)).collect();
        let defaults = by_name.remove(EVERY_SERVICE).unwrap_or_default();
        Ok(Self { defaults, by_name })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_services_own_keys_override_the_defaults_key_by_key() {
        let services: Services = serde_saphyr::from_str(
            r#"
            "*": { protocol: http2, timeout: 3s, sources: [b, a], istio: { namespace: shop, port: 8080 } }
            orders: { protocol: grpc, connect_timeout: 250ms, merge: union, weight_localities: true, istio: { export: true, port: 9000 } }
            "#,
        )
        .unwrap();
        let source = |name| SourceName::new(name).unwrap();
        let orders = services.settings(&ServiceName::new("orders").unwrap());
        assert_eq!(
            orders,
            ServiceSettings {
                protocol: Protocol::Grpc,
                connect_timeout: Duration::from_millis(250),
                timeout: Duration::from_secs(3),
                sources: vec![source("b"), source("a")],
                merge: Merge::Union,
                weight_localities: true,
                istio: Some(Istio {
                    port: NonZeroU16::new(9000).unwrap(),
                    namespace: Namespace::new("shop").unwrap(),
                    ..Istio::default()
                }),
            }
        );
        let other = services.settings(&ServiceName::new("other").unwrap());
        assert_eq!(
            other,
            ServiceSettings {
                protocol: Protocol::Http2,
                connect_timeout: Duration::from_secs(1),
                timeout: Duration::from_secs(3),
                sources: vec![source("b"), source("a")],
                merge: Merge::Priority,
                weight_localities: false,
                istio: None,
            }
        );
        assert_eq!(
            services.names().map(ServiceName::as_str).collect::<Vec<_>>(),
            ["orders"]
        );
    }

    #[test]
    fn without_any_entry_the_built_in_defaults_hold() {
        let settings = Services::default().settings(&ServiceName::new("orders").unwrap());
        assert_eq!(settings, ServiceSettings::default());
    }
}

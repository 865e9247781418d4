//! The kinds of sources, one variant each.

use leadsman_registry::{Settings, consul, dns, etcd, eureka, file, kubernetes, nacos, own, zookeeper};
use serde::Deserialize;

/// One registry.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceConfig {
    /// Files in a directory, one service a file.
    File(file::Config),
    /// Keys under a prefix in etcd.
    Etcd(etcd::Config),
    /// The applications of a Eureka cluster.
    Eureka(eureka::Config),
    /// A datacentre of a Consul.
    Consul(consul::Config),
    /// The EndpointSlices of a Kubernetes cluster.
    Kubernetes(kubernetes::Config),
    /// Names in DNS.
    Dns(dns::Config),
    /// Nodes below a prefix in ZooKeeper.
    Zookeeper(zookeeper::Config),
    /// Services that register with Leadsman itself.
    Registry(own::Config),
    /// Groups of a namespace of a Nacos.
    Nacos(nacos::Config),
}

impl SourceConfig {
    /// The word under the name of the source.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::File(_) => "file",
            Self::Etcd(_) => "etcd",
            Self::Eureka(_) => "eureka",
            Self::Consul(_) => "consul",
            Self::Kubernetes(_) => "kubernetes",
            Self::Dns(_) => "dns",
            Self::Zookeeper(_) => "zookeeper",
            Self::Registry(_) => "registry",
            Self::Nacos(_) => "nacos",
        }
    }

    /// What its adapter can say about it.
    pub fn settings(&mut self) -> &mut dyn Settings {
        match self {
            Self::File(config) => config,
            Self::Etcd(config) => config,
            Self::Eureka(config) => config,
            Self::Consul(config) => config,
            Self::Kubernetes(config) => config,
            Self::Dns(config) => config,
            Self::Zookeeper(config) => config,
            Self::Registry(config) => config,
            Self::Nacos(config) => config,
        }
    }
}

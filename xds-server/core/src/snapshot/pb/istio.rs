//! The part of Istio's API that we publish: a service as istiod reads it from another control plane.
//!
//! Sources: `mcp/v1alpha1/{resource,metadata}.proto` and `networking/v1alpha3/{service_entry,workload_entry}.proto` of
//! `istio.io/api`.

use std::collections::BTreeMap;

use super::Any;

/// `istio.mcp.v1alpha1.Resource`
#[derive(Clone, PartialEq, prost::Message)]
pub struct Resource {
    #[prost(message, optional, tag = "1")]
    pub metadata: Option<Metadata>,
    #[prost(message, optional, tag = "2")]
    pub body: Option<Any>,
}

/// `istio.mcp.v1alpha1.Metadata`. Without a time, istiod takes every resource to be as old as any other.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Metadata {
    /// `NAMESPACE/NAME`
    #[prost(string, tag = "1")]
    pub name: String,
    /// istiod takes a resource over when this is another one.
    #[prost(string, tag = "3")]
    pub version: String,
}

/// `istio.networking.v1alpha3.ServiceEntry`
#[derive(Clone, PartialEq, prost::Message)]
pub struct ServiceEntry {
    #[prost(string, repeated, tag = "1")]
    pub hosts: Vec<String>,
    #[prost(message, repeated, tag = "3")]
    pub ports: Vec<ServicePort>,
    /// `Resolution`; `STATIC` is 1.
    #[prost(int32, tag = "5")]
    pub resolution: i32,
    #[prost(message, repeated, tag = "6")]
    pub endpoints: Vec<WorkloadEntry>,
}

pub const RESOLUTION_STATIC: i32 = 1;

/// `istio.networking.v1alpha3.ServicePort`
#[derive(Clone, PartialEq, prost::Message)]
pub struct ServicePort {
    #[prost(uint32, tag = "1")]
    pub number: u32,
    #[prost(string, tag = "2")]
    pub protocol: String,
    #[prost(string, tag = "3")]
    pub name: String,
}

/// `istio.networking.v1alpha3.WorkloadEntry`
#[derive(Clone, PartialEq, prost::Message)]
pub struct WorkloadEntry {
    #[prost(string, tag = "1")]
    pub address: String,
    /// By the name of the service's port.
    #[prost(btree_map = "string, uint32", tag = "2")]
    pub ports: BTreeMap<String, u32>,
    /// `region/zone/sub_zone`
    #[prost(string, tag = "5")]
    pub locality: String,
    #[prost(uint32, tag = "6")]
    pub weight: u32,
}

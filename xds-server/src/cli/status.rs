//! `leadsman status` and `leadsman proxies`.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::Failure;
use super::admin::{Server, segment};
use super::output::{self, Output, Table, age};
use crate::api::{Proxy, ProxyType, Source, SourceState, SyncStatus};

/// The columns of the table, with what ends the type urls they stand for.
const TYPES: [(&str, &str); 5] = [
    ("cds", "envoy.config.cluster.v3.Cluster"),
    ("eds", "envoy.config.endpoint.v3.ClusterLoadAssignment"),
    ("lds", "envoy.config.listener.v3.Listener"),
    ("rds", "envoy.config.route.v3.RouteConfiguration"),
    (ISTIO, "ServiceEntry"),
];
/// The type that only istiod asks for; its column is shown where one is connected.
const ISTIO: &str = "istio";
/// A change that goes out in this very moment is no finding: what is not sent yet is looked at once more after this.
const SECOND_LOOK: Duration = Duration::from_millis(500);

/// Refused resources that are named in a cell.
const NAMED: usize = 10;

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
    proxies: Vec<Row>,
}

/// A proxy, and what is made of what the server says about it.
#[derive(Serialize)]
struct Row {
    #[serde(flatten)]
    proxy: Proxy,
    /// By the short names of the types, those that the proxy asked for.
    sync: BTreeMap<String, Sync>,
    in_order: bool,
}

impl Status {
    pub(super) async fn run(&self) -> Result<(), Failure> {
        let mut overview = self.look().await?;
        if overview.proxies.iter().any(Row::awaits) {
            tokio::time::sleep(SECOND_LOOK).await;
            overview = self.look().await?;
        }
        let now = SystemTime::now();
        output::show(&overview, self.output.output, |overview| text(overview, now))?;
        if overview.in_order {
            Ok(())
        } else {
            Err(Failure::Findings)
        }
    }

    async fn look(&self) -> Result<Overview, Failure> {
        let sources: Vec<Source> = self.server.get("/api/v1/sources").await?;
        let proxies: Vec<Proxy> = self.server.get("/api/v1/proxies").await?;
        let proxies: Vec<Row> = proxies
            .into_iter()
            .map(|proxy| Row::new(proxy, self.stale_after))
            .collect();
        Ok(Overview {
            in_order: sources.iter().all(|source| source.state == SourceState::Live)
                && proxies.iter().all(|row| row.in_order),
            sources,
            proxies,
        })
    }
}

impl Row {
    fn new(proxy: Proxy, stale_after: Duration) -> Self {
        let of = |kind: &ProxyType| (short(&kind.type_url).to_owned(), Sync::of(kind, stale_after));
        let sync: BTreeMap<String, Sync> = proxy.types.iter().map(of).collect();
        Self {
            in_order: proxy.answering && sync.values().all(|sync| sync.is_in_order()),
            sync,
            proxy,
        }
    }

    /// Whether something is still to be sent.
    fn awaits(&self) -> bool {
        self.sync.values().any(|sync| *sync == Sync::NotSent)
    }

    fn cell(&self, column: &str) -> String {
        if !self.proxy.answering {
            return "UNKNOWN".to_owned();
        }
        let kind = self.proxy.types.iter().find(|kind| short(&kind.type_url) == column);
        let (Some(kind), Some(sync)) = (kind, self.sync.get(column)) else {
            return String::new();
        };
        let concerned = match sync {
            Sync::Synced => return format!("SYNCED ({})", kind.resources),
            Sync::Waiting | Sync::Stale => kind.sent,
            Sync::NotSent => kind.not_sent,
            Sync::Error => kind.rejected,
        };
        format!("{} ({concerned} of {})", sync.as_str(), kind.resources)
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum Sync {
    Synced,
    /// Sent, and not answered yet: the normal course of a change.
    Waiting,
    /// Not answered for too long.
    Stale,
    /// Not sent although it is published.
    NotSent,
    /// Refused.
    Error,
}

impl Sync {
    fn of(kind: &ProxyType, stale_after: Duration) -> Self {
        let waited = kind.oldest_unacked_ms.map(Duration::from_millis);
        let late = waited.is_some_and(|waited| waited > stale_after);
        match kind.status {
            SyncStatus::Error => Self::Error,
            SyncStatus::Synced | SyncStatus::Stale | SyncStatus::NotSent if late => Self::Stale,
            SyncStatus::NotSent => Self::NotSent,
            SyncStatus::Stale => Self::Waiting,
            SyncStatus::Synced if waited.is_some() => Self::Waiting,
            SyncStatus::Synced => Self::Synced,
        }
    }

    fn is_in_order(self) -> bool {
        match self {
            Self::Synced | Self::Waiting => true,
            Self::Stale | Self::NotSent | Self::Error => false,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Synced => "SYNCED",
            Self::Waiting => "WAITING",
            Self::Stale => "STALE",
            Self::NotSent => "NOT SENT",
            Self::Error => "ERROR",
        }
    }
}

fn text(overview: &Overview, now: SystemTime) -> String {
    let mut text = sources_table(&overview.sources, now).render();
    text.push('\n');
    text.push_str(&sync_table(&overview.proxies, now).render());
    let refused = |row: &&Row| row.sync.values().any(|sync| *sync == Sync::Error);
    if overview.proxies.iter().any(|row| refused(&row)) {
        text.push('\n');
        text.push_str(&refusals_table(&overview.proxies, now).render());
    }
    text
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

fn sync_table(proxies: &[Row], now: SystemTime) -> Table {
    let mut table = Table::new(["PROXY", "CLUSTER", "CDS", "EDS", "LDS", "RDS", "ISTIO", "AGE", "AGENT"]);
    for row in proxies {
        let [cds, eds, lds, rds, istio] = TYPES.map(|(column, _)| row.cell(column));
        let Proxy {
            id,
            cluster,
            user_agent,
            connected_since,
            ..
        } = &row.proxy;
        let age = age(connected_since.age(now));
        let (id, cluster, agent) = (id.clone(), cluster.clone(), user_agent.clone());
        table.row([id, cluster, cds, eds, lds, rds, istio, age, agent]);
    }
    if !proxies.iter().any(|row| row.sync.contains_key(ISTIO)) {
        table.drop_column("ISTIO");
    }
    table
}

/// What is refused now, in the proxy's words: the last ones of the type.
fn refusals_table(proxies: &[Row], now: SystemTime) -> Table {
    let mut table = Table::new(["PROXY", "TYPE", "REFUSED", "WHEN", "WHY"]);
    for row in proxies {
        let refused = row.proxy.types.iter().filter(|kind| kind.status == SyncStatus::Error);
        for kind in refused {
            let named: Vec<&str> = kind.quarantined.iter().map(|refused| refused.name.as_str()).collect();
            let named = named.get(..named.len().min(NAMED)).unwrap_or_default();
            let mut names = named.join(", ");
            let more = kind.rejected.saturating_sub(named.len() as u64);
            if more > 0 {
                names.push_str(&format!(", {more} more"));
            }
            let nack = kind.last_nack.as_ref();
            table.row([
                row.proxy.id.clone(),
                short(&kind.type_url).to_owned(),
                names,
                nack.map(|nack| age(nack.at.age(now))).unwrap_or_default(),
                nack.map(|nack| nack.message.clone()).unwrap_or_default(),
            ]);
        }
    }
    table
}

/// A type by what it is called in tables.
pub(super) fn short(type_url: &str) -> &str {
    let name = type_url.rsplit('/').next().unwrap_or(type_url);
    TYPES
        .iter()
        .find(|(_, long)| *long == name)
        .map_or(name, |(short, _)| short)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Locality, Nack, Quarantined, Time};

    fn kind(status: SyncStatus, oldest_unacked_ms: Option<u64>) -> ProxyType {
        let rejected = u64::from(status == SyncStatus::Error);
        let refused = (rejected > 0).then_some("bad");
        ProxyType {
            type_url: "type.googleapis.com/envoy.config.cluster.v3.Cluster".to_owned(),
            status,
            resources: 3,
            not_sent: u64::from(status == SyncStatus::NotSent),
            wildcard: true,
            subscribed: 0,
            sent: u64::from(oldest_unacked_ms.is_some()),
            acked: 2,
            rejected,
            quarantined: refused
                .into_iter()
                .map(|name| Quarantined {
                    name: name.to_owned(),
                    version: "0".to_owned(),
                })
                .collect(),
            last_nack: refused.map(|_| Nack {
                at: Time(SystemTime::UNIX_EPOCH),
                message: "bad\u{1b}[2J".to_owned(),
            }),
            oldest_unacked_ms,
        }
    }

    fn row(id: &str, types: Vec<ProxyType>) -> Row {
        let proxy = Proxy {
            id: id.to_owned(),
            node_id: id.to_owned(),
            cluster: "edge".to_owned(),
            locality: Locality::default(),
            user_agent: "envoy 1.40.0".to_owned(),
            peer: String::new(),
            connected_since: Time(SystemTime::UNIX_EPOCH),
            answering: !types.is_empty(),
            types,
        };
        Row::new(proxy, Duration::from_secs(30))
    }

    #[test]
    fn the_column_of_istio_is_there_where_istiod_is() {
        let entries = ProxyType {
            type_url: "networking.istio.io/v1/ServiceEntry".to_owned(),
            ..kind(SyncStatus::Synced, None)
        };
        let rows = [row("a", vec![kind(SyncStatus::Synced, None)]), row("b", vec![entries])];
        assert_eq!(
            sync_table(&rows, SystemTime::UNIX_EPOCH).render(),
            "\
PROXY  CLUSTER  CDS         EDS  LDS  RDS  ISTIO       AGE  AGENT
a      edge     SYNCED (3)  -    -    -    -           0s   envoy 1.40.0
b      edge     -           -    -    -    SYNCED (3)  0s   envoy 1.40.0
"
        );
    }

    #[test]
    fn the_state_of_a_proxy_is_its_worst_word() {
        let rows = vec![
            row("a", vec![kind(SyncStatus::Synced, None)]),
            row("b", vec![kind(SyncStatus::Stale, Some(10))]),
            row("c", vec![kind(SyncStatus::Stale, Some(31_000))]),
            row("d", vec![kind(SyncStatus::NotSent, None)]),
            row("e", vec![kind(SyncStatus::Error, Some(31_000))]),
            row("f", vec![]),
        ];
        let in_order: Vec<bool> = rows.iter().map(|row| row.in_order).collect();
        assert_eq!(in_order, [true, true, false, false, false, false]);
        let overview = Overview {
            in_order: false,
            sources: Vec::new(),
            proxies: rows,
        };
        assert_eq!(
            text(&overview, SystemTime::UNIX_EPOCH + Duration::from_secs(61)),
            "\
SOURCE  KIND  STATE  SINCE  LAST-EVENT  ERROR

PROXY  CLUSTER  CDS                EDS      LDS      RDS      AGE   AGENT
a      edge     SYNCED (3)         -        -        -        1m1s  envoy 1.40.0
b      edge     WAITING (1 of 3)   -        -        -        1m1s  envoy 1.40.0
c      edge     STALE (1 of 3)     -        -        -        1m1s  envoy 1.40.0
d      edge     NOT SENT (1 of 3)  -        -        -        1m1s  envoy 1.40.0
e      edge     ERROR (1 of 3)     -        -        -        1m1s  envoy 1.40.0
f      edge     UNKNOWN            UNKNOWN  UNKNOWN  UNKNOWN  1m1s  envoy 1.40.0

PROXY  TYPE  REFUSED  WHEN  WHY
e      cds   bad      1m1s  bad\u{fffd}[2J
"
        );
    }
}

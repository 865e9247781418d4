//! What an operator says about a DNS source: which names to ask for, whom, and how often.
//!
//! Plain data. Names are texts here, and are parsed at the start of each session; `validate` says beforehand which of
//! them can't be.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use hickory_proto::rr::Name;
use leadsman_core::model::ServiceName;
use serde::{Deserialize, Deserializer};

use super::question::Kind;
use crate::settings::{Settings, duration};

/// The names to ask for and the servers to ask. Unknown keys are errors.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// What to ask for, by the name of the service that it becomes: 1 to 2000 entries. Required.
    pub names: BTreeMap<String, Entry>,
    /// The servers to ask, `address` or `address:port`, at most 8: resolvers, or servers with authority for all of the names.
    /// The first that answers counts. Default: those of `resolv_conf`.
    #[serde(default)]
    pub servers: Vec<String>,
    /// The file that names the servers where `servers` does not; read anew when it changes. Default `/etc/resolv.conf`.
    #[serde(default = "default_resolv_conf")]
    pub resolv_conf: PathBuf,
    /// `auto`: UDP, and TCP for an answer that is cut short. `tcp`: TCP for everything. Default `auto`.
    #[serde(default)]
    pub transport: Transport,
    /// Which addresses of a host become endpoints: `ipv4`, `ipv6`, `all`, or those of one family where there are any:
    /// `ipv4-preferred`, `ipv6-preferred`. Default `ipv4-preferred`.
    #[serde(default)]
    pub family: Family,
    /// How long one server may take for one answer, `50ms` to `30s`. Default `2s`.
    #[serde(default = "default_timeout", deserialize_with = "duration")]
    pub timeout: Duration,
    /// The shortest time between two looks at a name, `10ms` to `1h`, however short its records say that they live.
    /// Default `1s`.
    #[serde(default = "default_min_ttl", deserialize_with = "duration")]
    pub min_ttl: Duration,
    /// The longest, up to `24h` and not below `min_ttl`. Default `5m`.
    #[serde(default = "default_max_ttl", deserialize_with = "duration")]
    pub max_ttl: Duration,
    /// How soon a name is asked again that could not be answered, `10ms` to `1h`. Default `5s`.
    #[serde(default = "default_retry", deserialize_with = "duration")]
    pub retry: Duration,
    /// How long a record that a further answer lacks is taken to be there all the same, up to `1h`: for servers that answer
    /// with a part of what they know. Default `0s`: as soon as a second answer lacks it, too.
    #[serde(default, deserialize_with = "duration")]
    pub window: Duration,
    /// How long names that can't be asked any more keep the health of their endpoints; after that they are unhealthy. From
    /// `1s`. Default: for ever.
    #[serde(default, deserialize_with = "some_duration")]
    pub max_stale: Option<Duration>,
}

/// One name to ask for. Unknown keys are errors.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// The name, always complete: nothing is appended to it. Required.
    pub name: String,
    /// `srv`: SRV records. `address`: A and AAAA records. `dns-sd`: the instances of a service by PTR, SRV and TXT records.
    /// Default `srv`.
    #[serde(default)]
    pub kind: Records,
    /// The port of the instances, 1 to 65535. Required for `address`, and only there.
    #[serde(default)]
    pub port: Option<u16>,
}

/// The records that a name has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Records {
    #[default]
    Srv,
    Address,
    DnsSd,
}

/// How questions travel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    #[default]
    Auto,
    Tcp,
}

/// Which addresses of a host count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    Ipv4,
    Ipv6,
    All,
    #[default]
    Ipv4Preferred,
    Ipv6Preferred,
}

impl Family {
    /// What to ask for, in this order.
    pub(super) fn kinds(self) -> &'static [Kind] {
        match self {
            Self::Ipv4 => &[Kind::A],
            Self::Ipv6 => &[Kind::Aaaa],
            Self::All | Self::Ipv4Preferred => &[Kind::A, Kind::Aaaa],
            Self::Ipv6Preferred => &[Kind::Aaaa, Kind::A],
        }
    }

    /// Whether the second kind counts only where there is none of the first.
    pub(super) fn is_exclusive(self) -> bool {
        match self {
            Self::Ipv4Preferred | Self::Ipv6Preferred => true,
            Self::Ipv4 | Self::Ipv6 | Self::All => false,
        }
    }
}

/// An entry that was understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lookup {
    pub(super) service: ServiceName,
    pub(super) name: Name,
    pub(super) records: Records,
    /// Zero where the records have it.
    pub(super) port: u16,
}

/// More names than one process should ask for every few seconds.
const MAX_NAMES: usize = 2000;
/// More servers than a resolver of any system uses.
const MAX_SERVERS: usize = 8;
/// The port that everybody means.
const DNS_PORT: u16 = 53;

const TIMEOUTS: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(30)];
const PERIODS: [Duration; 2] = [Duration::from_millis(10), Duration::from_hours(1)];
const LONGEST_TTL: Duration = Duration::from_hours(24);
const LONGEST_WINDOW: Duration = Duration::from_hours(1);
const SHORTEST_STALE: Duration = Duration::from_secs(1);

impl Config {
    /// A configuration with every default.
    pub fn new(names: BTreeMap<String, Entry>) -> Self {
        Self {
            names,
            servers: Vec::new(),
            resolv_conf: default_resolv_conf(),
            transport: Transport::default(),
            family: Family::default(),
            timeout: default_timeout(),
            min_ttl: default_min_ttl(),
            max_ttl: default_max_ttl(),
            retry: default_retry(),
            window: Duration::ZERO,
            max_stale: None,
        }
    }

    /// The names, understood.
    pub(super) fn lookups(&self) -> Result<Vec<Lookup>, String> {
        if self.names.is_empty() || self.names.len() > MAX_NAMES {
            return Err(format!("names has {} entries, not 1 to {MAX_NAMES}", self.names.len()));
        }
        let lookup = |(service, entry): (&String, &Entry)| {
            understand(service, entry).map_err(|reason| format!("names.{service}: {reason}"))
        };
        self.names.iter().map(lookup).collect()
    }

    /// The servers, understood; none where the system's are to be asked.
    pub(super) fn addresses(&self) -> Result<Vec<SocketAddr>, String> {
        if self.servers.len() > MAX_SERVERS {
            return Err(format!("servers has more than {MAX_SERVERS} entries"));
        }
        let distinct: BTreeSet<&String> = self.servers.iter().collect();
        if distinct.len() < self.servers.len() {
            return Err("servers names one of them twice".to_owned());
        }
        let address = |text: &String| {
            server(text).ok_or_else(|| format!("servers: {text:?} is neither an IP address nor address:port"))
        };
        self.servers.iter().map(address).collect()
    }
}

impl Settings for Config {
    fn validate(&self) -> Result<(), String> {
        self.lookups()?;
        self.addresses()?;
        within("timeout", self.timeout, TIMEOUTS)?;
        within("min_ttl", self.min_ttl, PERIODS)?;
        within("max_ttl", self.max_ttl, [self.min_ttl, LONGEST_TTL])?;
        within("retry", self.retry, PERIODS)?;
        within("window", self.window, [Duration::ZERO, LONGEST_WINDOW])?;
        within(
            "max_stale",
            self.max_stale.unwrap_or(SHORTEST_STALE),
            [SHORTEST_STALE, Duration::MAX],
        )
    }

    fn files(&mut self) -> Vec<(&'static [&'static str], &mut PathBuf)> {
        if self.servers.is_empty() {
            vec![(&["resolv_conf"], &mut self.resolv_conf)]
        } else {
            Vec::new()
        }
    }
}

/// An address with or without a port.
pub(super) fn server(text: &str) -> Option<SocketAddr> {
    let bare = || text.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, DNS_PORT));
    text.parse()
        .ok()
        .or_else(bare)
        .filter(|address: &SocketAddr| address.port() > 0)
}

fn understand(service: &str, entry: &Entry) -> Result<Lookup, String> {
    let service = ServiceName::new(service).map_err(|error| error.to_string())?;
    // `_orders._tcp` is no host name, so the rules of internationalised ones are for names that need them.
    let parsed = if entry.name.is_ascii() {
        Name::from_ascii(&entry.name)
    } else {
        Name::from_utf8(&entry.name)
    };
    let mut name = parsed.map_err(|error| format!("{:?} is no DNS name: {error}", entry.name))?;
    name.set_fqdn(true);
    if name.is_root() {
        return Err(format!("{:?} is no name of a service", entry.name));
    }
    let port = match (entry.kind, entry.port) {
        (Records::Address, Some(port)) if port > 0 => port,
        (Records::Address, _) => return Err("kind address needs a port from 1 to 65535".to_owned()),
        (Records::Srv | Records::DnsSd, None) => 0,
        (Records::Srv | Records::DnsSd, Some(_)) => {
            return Err("port is for kind address; SRV records have one".to_owned());
        }
    };
    Ok(Lookup {
        service,
        name: name.to_lowercase(),
        records: entry.kind,
        port,
    })
}

fn within(field: &str, value: Duration, [least, most]: [Duration; 2]) -> Result<(), String> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    if most == Duration::MAX {
        return Err(format!("{field} {value:?} is below {least:?}"));
    }
    Err(format!("{field} {value:?} is outside {least:?} to {most:?}"))
}

fn some_duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    duration(deserializer).map(Some)
}

fn default_resolv_conf() -> PathBuf {
    "/etc/resolv.conf".into()
}

fn default_timeout() -> Duration {
    Duration::from_secs(2)
}

fn default_min_ttl() -> Duration {
    Duration::from_secs(1)
}

fn default_max_ttl() -> Duration {
    Duration::from_mins(5)
}

fn default_retry() -> Duration {
    Duration::from_secs(5)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(yaml: &str) -> Result<Config, String> {
        serde_saphyr::from_str(yaml).map_err(|error| error.to_string())
    }

    fn one() -> Config {
        parse("names: { orders: { name: _orders._tcp.example.com } }\n").unwrap()
    }

    #[test]
    fn a_source_needs_names_and_the_rest_has_defaults() {
        let config = one();
        assert_eq!(config, Config::new(config.names.clone()));
        assert_eq!(config.validate(), Ok(()));
        let lookup = config.lookups().unwrap().remove(0);
        assert_eq!(
            (lookup.name.to_string().as_str(), lookup.records, lookup.port),
            ("_orders._tcp.example.com.", Records::Srv, 0)
        );
        assert_eq!(config.addresses(), Ok(vec![]));
    }

    #[test]
    fn every_field_is_read() {
        let mut config = parse(
            "names:\n  users: { name: Users.Example.com., kind: address, port: 8080 }\n  cart: { name: _cart._tcp.example.com, kind: dns-sd }\n\
             servers: [10.0.0.2, '10.0.0.3:5353', '::1', '[::1]:54']\nresolv_conf: r\ntransport: tcp\nfamily: ipv6-preferred\n\
             timeout: 1s\nmin_ttl: 2s\nmax_ttl: 10s\nretry: 3s\nwindow: 1m\nmax_stale: 1h\n",
        )
        .unwrap();
        assert_eq!(config.validate(), Ok(()));
        let shown: Vec<String> = config
            .lookups()
            .unwrap()
            .iter()
            .map(|l| format!("{} {:?} {}", l.name, l.records, l.port))
            .collect();
        assert_eq!(
            shown,
            ["_cart._tcp.example.com. DnsSd 0", "users.example.com. Address 8080"]
        );
        let servers: Vec<String> = config.addresses().unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["10.0.0.2:53", "10.0.0.3:5353", "[::1]:53", "[::1]:54"]);
        assert_eq!(
            (config.transport, config.family),
            (Transport::Tcp, Family::Ipv6Preferred)
        );
        assert_eq!(
            (config.window.as_secs(), config.max_stale.unwrap().as_secs()),
            (60, 3600)
        );
        assert!(config.files().is_empty(), "servers are given");
        config.servers.clear();
        assert_eq!(config.files().len(), 1);
    }

    #[test]
    fn what_can_not_work_is_refused_by_name() {
        let refused = |yaml: &str, word: &str| {
            let error = parse(yaml).unwrap_err();
            assert!(error.contains(word), "{yaml}: {error}");
        };
        refused("names: { a: { name: a, colour: red } }", "colour");
        refused("names: { a: { name: a, kind: mx } }", "dns-sd");
        refused("names: { a: { name: a, port: 65536 } }", "port");
        refused("names: { a: { name: a } }\nmin_ttl: soon", "duration");
        refused("names: { a: { name: a } }\nfamily: ipv5", "ipv4");
    }

    #[test]
    fn fields_that_need_each_other_are_checked() {
        let invalid = |change: fn(&mut Config)| {
            let mut config = one();
            change(&mut config);
            config.validate().unwrap_err()
        };
        let named = |yaml: &str, word: &str| {
            let config = parse(&format!("names: {{ orders: {yaml} }}")).unwrap();
            let error = config.validate().unwrap_err();
            assert!(
                error.starts_with("names.orders: ") && error.contains(word),
                "{yaml}: {error}"
            );
        };
        named("{ name: '' }", "no name");
        named("{ name: . }", "no name");
        named("{ name: a..b }", "no DNS name");
        named(&format!("{{ name: {}.com }}", "a".repeat(64)), "no DNS name");
        named("{ name: a, kind: address }", "needs a port");
        named("{ name: a, kind: address, port: 0 }", "needs a port");
        named("{ name: a, port: 80 }", "SRV");
        assert!(invalid(|c| c.names.clear()).contains("1 to 2000"));
        for server in ["", "dns.example", "10.0.0.1:0", "10.0.0.1:x", "fe80::1%eth0"] {
            let config = Config {
                servers: vec![server.to_owned()],
                ..one()
            };
            assert!(config.validate().unwrap_err().contains("servers"), "{server}");
        }
        assert!(invalid(|c| c.servers = vec!["::1".into(), "::1".into()]).contains("twice"));
        assert!(invalid(|c| c.timeout = Duration::ZERO).starts_with("timeout"));
        assert!(invalid(|c| c.min_ttl = Duration::ZERO).starts_with("min_ttl"));
        assert!(invalid(|c| c.max_ttl = Duration::from_millis(1)).starts_with("max_ttl"));
        assert!(invalid(|c| c.retry = Duration::from_hours(2)).starts_with("retry"));
        assert!(invalid(|c| c.window = Duration::from_hours(2)).starts_with("window"));
        assert!(invalid(|c| c.max_stale = Some(Duration::ZERO)).starts_with("max_stale"));
    }

    #[test]
    fn a_name_may_be_written_in_any_script() {
        let config = parse("names: { a: { name: bücher.example, kind: address, port: 1 } }").unwrap();
        let lookup = config.lookups().unwrap().remove(0);
        assert_eq!(lookup.name.to_ascii(), "xn--bcher-kva.example.");
    }
}

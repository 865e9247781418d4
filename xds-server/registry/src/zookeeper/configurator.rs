//! Dubbo's configurators: `/dubbo/<interface>/configurators/<escaped override URL>`.
//!
//! Consoles write them to weigh a provider or switch it off, and every consumer applies them to what providers say.
//! Envoy is a consumer here: rules for the other side, for one consumer's host or for one application are not for it.

use std::borrow::Cow;
use std::collections::BTreeMap;

use leadsman_core::model::{Address, Endpoint, Health};

use crate::layout::entry::{parse_flag, parse_number, weight};

const DEFAULT_WEIGHT: f64 = 100.0;
const ANY_HOST: &str = "0.0.0.0";
const DISABLED: &str = "disabled=true";

/// One rule; the smallest one is applied first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rule {
    /// Dubbo sorts by host, which puts the rules for everybody before those for one provider.
    host: String,
    priority: i64,
    port: Option<u16>,
    /// Addresses that the rule is for; empty for every one.
    addresses: Vec<String>,
    group: String,
    version: String,
    /// What a provider has to say for the rule to be for it.
    conditions: BTreeMap<String, String>,
    weight: Option<String>,
    disabled: Option<bool>,
}

impl Rule {
    /// `None` for what changes nothing here.
    pub(super) fn parse(url: &str) -> Option<Self> {
        let rest = url.strip_prefix("override://")?;
        let (location, query) = rest.split_once('?').unwrap_or((rest, ""));
        let authority = location.split('/').next().unwrap_or_default();
        let (user, authority) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) => (host, Some(port.parse().ok()?).filter(|port| *port != 0)),
            None => (authority, None),
        };
        let parameters: BTreeMap<Cow<'_, str>, Cow<'_, str>> = form_urlencoded::parse(query.as_bytes()).collect();
        let parameter = |name: &str| parameters.get(name).map_or("", |value| value.as_ref());
        let anyone = |name: &str| matches!(parameter(name), "" | "*");
        // A host without a port is a consumer's.
        let ours = host == ANY_HOST || port.is_some();
        let side = anyone("side") || parameter("side") == "consumer";
        // Where the application is not a parameter, the user is the application.
        let anybody = matches!((parameter("application"), user), ("", "") | ("*", _));
        if !ours || !side || !anybody || parse_flag(parameter("enabled")) == Some(false) {
            return None;
        }
        let condition = |(name, value): (&Cow<'_, str>, &Cow<'_, str>)| {
            let name = name.strip_prefix('~')?;
            (value != "*").then(|| (name.to_owned(), value.to_string()))
        };
        let addresses = parameter("providerAddresses").split(',').map(str::trim);
        Some(Self {
            host: host.to_owned(),
            priority: parameter("priority").parse().unwrap_or_default(),
            port,
            addresses: addresses.filter(|at| !at.is_empty()).map(str::to_owned).collect(),
            group: parameter("group").to_owned(),
            version: parameter("version").to_owned(),
            conditions: parameters.iter().filter_map(condition).collect(),
            weight: parameters.get("weight").map(|weight| weight.to_string()),
            disabled: parse_flag(parameter("disabled")),
        })
    }

    /// Changes a provider that the rule is for.
    pub(super) fn apply(&self, endpoint: &mut Endpoint) {
        if !self.is_for(endpoint) {
            return;
        }
        if let Some(raw) = &self.weight {
            endpoint.weight = weight(parse_number(raw), DEFAULT_WEIGHT);
        }
        match self.disabled {
            Some(true) => {
                endpoint.health = Health::Draining;
                endpoint.health_reason = DISABLED.into();
            }
            Some(false) if endpoint.health == Health::Draining => {
                endpoint.health = Health::Unknown;
                endpoint.health_reason = "".into();
            }
            Some(false) | None => {}
        }
    }

    fn is_for(&self, endpoint: &Endpoint) -> bool {
        let at = endpoint.address;
        let says = |name: &str| endpoint.metadata.get(name).map_or("", String::as_str);
        let same = |asked: &str, name: &str| asked == "*" || asked == says(name);
        (self.host == ANY_HOST || is_host(&self.host, at))
            && self.port.is_none_or(|port| port == at.port())
            && (self.addresses.is_empty() || self.addresses.iter().any(|text| is_address(text, at)))
            && same(&self.group, "group")
            && same(&self.version, "version")
            && self.conditions.iter().all(|(name, value)| value == says(name))
    }
}

fn is_host(text: &str, at: Address) -> bool {
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    bare.parse().is_ok_and(|ip: std::net::IpAddr| ip == at.ip())
}

fn is_address(text: &str, at: Address) -> bool {
    let (host, port) = text.rsplit_once(':').unwrap_or((text, "*"));
    let host_ok = host == ANY_HOST || is_host(host, at);
    // An IPv6 address without a port has colons, too.
    (host_ok && (port == "*" || port == at.port().to_string())) || is_host(text, at)
}

#[cfg(test)]
mod tests {
    use leadsman_core::model::Provenance;

    use super::*;

    fn provider(pairs: &[(&str, &str)]) -> Endpoint {
        let metadata = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        let address = Address::parse("10.0.0.1:20880").unwrap();
        Endpoint {
            weight: weight(None, DEFAULT_WEIGHT),
            metadata: metadata.collect(),
            ..Endpoint::new(address, Provenance::default())
        }
    }

    fn after(url: &str, pairs: &[(&str, &str)]) -> String {
        let mut endpoint = provider(pairs);
        match Rule::parse(url) {
            Some(rule) => rule.apply(&mut endpoint),
            None => return "not for us".to_owned(),
        }
        format!("{} {}", endpoint.weight, endpoint.health)
    }

    #[test]
    fn a_rule_weighs_or_disables_whom_it_is_for() {
        for (url, says) in [
            (
                "override://0.0.0.0/a?category=configurators&dynamic=false&enabled=true&weight=200",
                "200 unknown",
            ),
            ("override://10.0.0.1:20880/a?weight=0", "0 unknown"),
            ("override://10.0.0.1:20881/a?weight=7", "100 unknown"),
            ("override://10.0.0.2:20880/a?weight=7", "100 unknown"),
            ("override://10.0.0.1:20880/a?disabled=true", "100 draining"),
            ("override://0.0.0.0/a?disabled=true&enabled=false", "not for us"),
            ("override://10.0.0.1/a?weight=7", "not for us"),
            ("override://0.0.0.0/a?weight=7&side=provider", "not for us"),
            ("override://0.0.0.0/a?weight=7&side=consumer", "7 unknown"),
            ("override://0.0.0.0/a?weight=7&application=shop", "not for us"),
            ("override://0.0.0.0/a?weight=7&application=*", "7 unknown"),
            (
                "override://0.0.0.0/a?weight=7&providerAddresses=10.0.0.9:1,10.0.0.1:20880",
                "7 unknown",
            ),
            (
                "override://0.0.0.0/a?weight=7&providerAddresses=10.0.0.9:1",
                "100 unknown",
            ),
            ("override://0.0.0.0/a?weight=7&providerAddresses=0.0.0.0", "7 unknown"),
            ("override://0.0.0.0/a?weight=7&providerAddresses=0.0.0.0:*", "7 unknown"),
            (
                "override://0.0.0.0/a?weight=7&providerAddresses=0.0.0.0:20880",
                "7 unknown",
            ),
            (
                "override://0.0.0.0/a?weight=7&providerAddresses=0.0.0.0:20881",
                "100 unknown",
            ),
            ("override://0.0.0.0/a?weight=7&providerAddresses=10.0.0.1", "7 unknown"),
            (
                "override://0.0.0.0/a?weight=7&providerAddresses=10.0.0.2",
                "100 unknown",
            ),
            ("override://shop@0.0.0.0/a?weight=7", "not for us"),
            ("override://shop@0.0.0.0/a?weight=7&application=*", "7 unknown"),
            ("override://0.0.0.0/a?weight=heavy", "100 unknown"),
            ("override://0.0.0.0/a?timeout=1000", "100 unknown"),
            ("absent://0.0.0.0/a?weight=7", "not for us"),
            ("empty://0.0.0.0/a?category=configurators", "not for us"),
            ("override://10.0.0.1:x/a?weight=7", "not for us"),
            ("", "not for us"),
        ] {
            assert_eq!(after(url, &[]), says, "{url}");
        }
    }

    #[test]
    fn group_version_and_conditions_have_to_fit() {
        let pairs = [("group", "g"), ("version", "1.0.0"), ("release", "3")];
        for (query, says) in [
            ("weight=7", "100 unknown"),
            ("weight=7&group=g&version=1.0.0", "7 unknown"),
            ("weight=7&group=*&version=*", "7 unknown"),
            ("weight=7&group=*&version=*&~release=3", "7 unknown"),
            ("weight=7&group=*&version=*&~release=2", "100 unknown"),
        ] {
            assert_eq!(after(&format!("override://0.0.0.0/a?{query}"), &pairs), says, "{query}");
        }
    }

    #[test]
    fn a_provider_that_is_switched_off_can_be_switched_on_by_a_rule() {
        let rule = Rule::parse("override://10.0.0.1:20880/a?disabled=false").unwrap();
        for (health, reason, after) in [
            (Health::Draining, "enabled=false", "unknown"),
            (Health::Draining, DISABLED, "unknown"),
            (Health::Unhealthy, "", "unhealthy"),
        ] {
            let mut endpoint = provider(&[]);
            (endpoint.health, endpoint.health_reason) = (health, reason.into());
            rule.apply(&mut endpoint);
            assert_eq!(endpoint.health.as_str(), after);
        }
    }

    #[test]
    fn a_rule_for_one_provider_beats_a_rule_for_all() {
        let url = |host: &str, weight: u8| format!("override://{host}/a?weight={weight}");
        let mut rules = [
            Rule::parse(&url("10.0.0.1:20880", 5)).unwrap(),
            Rule::parse(&url("0.0.0.0", 9)).unwrap(),
        ];
        rules.sort();
        let mut endpoint = provider(&[]);
        for rule in &rules {
            rule.apply(&mut endpoint);
        }
        assert_eq!(endpoint.weight.get(), 5.0);
    }
}

//! The name of a cluster as a name of DNS, and the host that clients in the mesh write.

use xxhash_rust::xxh3::xxh3_64;

use crate::policy::{HostTemplate, MAX_LABEL_BYTES, is_label};
use crate::snapshot::ClusterName;

/// What stands between a name and what tells it from others of the same look. No name that is taken as it is has it.
const SEPARATOR: &str = "--";
/// Hex digits of the hash of a name that can't be taken as it is.
const HASH_DIGITS: usize = 8;

/// The host of a cluster.
pub(super) fn of(cluster: &ClusterName, template: &HostTemplate) -> String {
    if template.names_the_service() {
        return template.fill(&labels(cluster, template.room()));
    }
    let (Some(scheme), host) = (parts(cluster).1, template.as_str()) else {
        return template.as_str().to_owned();
    };
    let (first, rest) = host.split_at(host.find('.').unwrap_or(host.len()));
    format!("{}{rest}", join(first, Some(scheme), cluster, MAX_LABEL_BYTES))
}

/// The name of a cluster as labels of DNS, of at most `room` bytes: as it is where it can be, and never that of another.
pub(super) fn labels(cluster: &ClusterName, room: usize) -> String {
    let (service, scheme) = parts(cluster);
    join(service, scheme, cluster, room)
}

/// The service, and the protocol whose cluster it is. In the name of a service, `@` is escaped.
fn parts(cluster: &ClusterName) -> (&str, Option<&str>) {
    match cluster.as_str().rsplit_once('@') {
        Some((service, scheme)) => (service, Some(scheme)),
        None => (cluster.as_str(), None),
    }
}

fn join(service: &str, scheme: Option<&str>, cluster: &ClusterName, room: usize) -> String {
    let own = !service.contains(SEPARATOR);
    let told_apart = scheme.is_none_or(|scheme| is_label(scheme) && !scheme.contains(SEPARATOR) && !is_hash(scheme));
    let joined = match scheme {
        Some(scheme) => format!("{service}{SEPARATOR}{scheme}"),
        None => service.to_owned(),
    };
    if own && told_apart && joined.len() <= room && joined.split('.').all(is_label) {
        return joined;
    }
    let hash = format!("{:08x}", xxh3_64(cluster.as_str().as_bytes()) >> 32);
    let most = room.saturating_sub(SEPARATOR.len() + HASH_DIGITS);
    format!("{}{SEPARATOR}{hash}", readable(&joined, most))
}

fn is_hash(text: &str) -> bool {
    text.len() == HASH_DIGITS && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// What is left of a name when everything that DNS does not allow is a hyphen.
fn readable(name: &str, room: usize) -> String {
    let most = MAX_LABEL_BYTES - SEPARATOR.len() - HASH_DIGITS;
    let mut text = String::with_capacity(room);
    for label in name.split('.') {
        let clean = clean(label, most);
        if clean.is_empty() {
            continue;
        }
        if text.len() + 1 + clean.len() > room {
            break;
        }
        if !text.is_empty() {
            text.push('.');
        }
        text.push_str(&clean);
    }
    if text.is_empty() { "service".to_owned() } else { text }
}

fn clean(label: &str, most: usize) -> String {
    let mut text = String::new();
    for letter in label.chars() {
        match letter.to_ascii_lowercase() {
            kept if kept.is_ascii_alphanumeric() => text.push(kept),
            _ if text.is_empty() || text.ends_with('-') => {}
            _ => text.push('-'),
        }
    }
    text.truncate(most);
    text.trim_end_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ServiceName;
    use proptest::prelude::*;

    fn cluster(service: &str, scheme: Option<&str>) -> ClusterName {
        ClusterName::derive(&ServiceName::new(service).unwrap(), scheme).unwrap()
    }

    fn host(service: &str, scheme: Option<&str>, template: &str) -> String {
        of(&cluster(service, scheme), &HostTemplate::new(template).unwrap())
    }

    #[test]
    fn a_host_has_the_name_of_its_service_and_a_name_that_dns_can_not_say_gets_a_hash() {
        let default = |service| host(service, None, "{service}.leadsman.internal");
        assert_eq!(default("orders"), "orders.leadsman.internal");
        assert_eq!(default("orders.v1"), "orders.v1.leadsman.internal");
        assert_eq!(
            default("providers:com.acme.Orders:1.0:g"),
            "providers-com.acme.orders-1.0-g--77b7a67d.leadsman.internal"
        );
        assert_eq!(default("Orders"), "orders--a45aeaab.leadsman.internal");
        assert_ne!(default("ORDERS"), default("Orders"));
        assert_eq!(default("%"), "25--8cd25cb8.leadsman.internal");
        assert_eq!(default("..."), "service--77e9e4a1.leadsman.internal");
    }

    #[test]
    fn the_host_of_one_protocol_stands_beside_the_services_own() {
        let scheme = Some("grpc");
        assert_eq!(host("orders", scheme, "{service}.x"), "orders--grpc.x");
        assert_eq!(host("orders", scheme, "orders.example.com"), "orders--grpc.example.com");
        assert_eq!(host("orders", None, "orders.example.com"), "orders.example.com");
        assert_ne!(
            host("orders--grpc", None, "{service}.x"),
            "orders--grpc.x",
            "nobody can take it"
        );
    }

    fn any_name() -> impl Strategy<Value = String> {
        prop_oneof![
            "[a-c.-]{1,6}",
            "[aA@%:/_.é-]{1,12}",
            "[a-z.-]{200,253}",
            "[a-z]{1,3}--[0-9a-f]{8}",
            "[^\\p{Cc}]{1,60}",
        ]
    }

    proptest! {
        #![proptest_config(leadsman_property::cases(2000))]
        #[test]
        fn every_host_is_a_name_of_dns_and_no_two_services_share_one(
            one in any_name(),
            two in any_name(),
            schemes in (proptest::option::of("[a-z0-9A-Z.]{1,9}"), proptest::option::of("[a-f0-9]{8}")),
        ) {
            let template = HostTemplate::new("{service}.leadsman.internal").unwrap();
            let derive = |name: &str, scheme: Option<&str>| ClusterName::derive(&ServiceName::new(name).ok()?, scheme);
            let (Some(one), Some(two)) = (derive(&one, schemes.0.as_deref()), derive(&two, schemes.1.as_deref())) else {
                return Ok(());
            };
            let hosts = [&one, &two].map(|cluster| of(cluster, &template));
            for host in &hosts {
                prop_assert!(host.len() <= 253 && host.split('.').all(is_label), "{host}");
            }
            prop_assert_eq!(one == two, hosts[0] == hosts[1], "{:?} {:?}", one, two);
        }
    }
}

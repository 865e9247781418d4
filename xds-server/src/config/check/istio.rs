//! What the hosts in Istio mean together: one host is one service's.

use std::collections::BTreeMap;

use super::super::services::EVERY_SERVICE;
use super::{Checks, Origin, path};

impl Checks<'_> {
    pub(super) fn istio(&mut self) {
        let mut owners: BTreeMap<&str, &str> = BTreeMap::new();
        for (key, service) in self.config.services.entries() {
            let Some(host) = service.istio.host.as_ref().filter(|host| !host.names_the_service()) else {
                continue;
            };
            let origin = Origin::Value(path(["services", key, "istio", "host"]));
            if key == EVERY_SERVICE {
                let message = "every service would have this host".to_owned();
                self.error(origin, message, "put `{service}` where its name belongs");
            } else if let Some(owner) = owners.insert(host.as_str(), key) {
                let message = format!("{host} is the host of {owner}");
                self.error(origin, message, "give each service a host of its own");
            }
        }
    }
}

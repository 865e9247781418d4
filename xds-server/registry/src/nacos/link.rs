//! The questions a session asks, whichever way they are asked. Clones share their connections.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use super::config::Config;
use super::continuity::Run;
use super::decode::{Content, Place, Truth, identities};
use super::fault::Fault;
use super::grpc::Grpc;
use super::rest::Rest;
use super::wire::{About, AboutService, Login, NamesPage, PageRequest, ServiceInfo, parse};
use crate::Error;

/// Names in one answer.
const PAGE: usize = 500;
/// Names of one group. More are no registry but a mistake, and would be kept in memory.
const MAX_NAMES: usize = 200_000;
/// How often a list is read that changes while it is read.
const MAX_READINGS: u32 = 3;

#[derive(Clone, Debug)]
pub(super) struct Link {
    config: Arc<Config>,
    rest: Arc<Rest>,
    /// `None` for those who poll.
    grpc: Option<Grpc>,
}

/// The names of a group.
#[derive(Debug, Default)]
pub(super) struct Names {
    pub(super) names: BTreeSet<String>,
    /// Whether the list stood still while its pages were read, so that these are all.
    pub(super) whole: bool,
}

impl Link {
    pub(super) fn new(config: Arc<Config>, rest: Arc<Rest>, grpc: Option<Grpc>) -> Self {
        Self { config, rest, grpc }
    }

    pub(super) async fn log_in(&self, username: &str, password_file: &Path) -> Result<Login, Fault> {
        self.rest.log_in(username, password_file).await
    }

    /// The run of this server.
    pub(super) async fn epoch(&self, token: Option<&str>) -> Result<Run, String> {
        self.rest.epoch(token).await
    }

    pub(super) async fn explain_emptiness(&self, token: Option<&str>) -> Option<String> {
        self.rest.explain_emptiness(&self.config, token).await
    }

    /// Whether the server is there.
    pub(super) async fn check(&self, token: Option<&str>) -> Result<(), Fault> {
        match &self.grpc {
            Some(grpc) => grpc.check(token).await,
            None => self.rest.check().await,
        }
    }

    /// The names of a group, on as many pages as it takes.
    pub(super) async fn names(&self, group: &str, token: Option<&str>) -> Result<Names, Fault> {
        let mut found = Names::default();
        for _ in 0..MAX_READINGS {
            found = self.read_names(group, token).await?;
            if found.whole {
                break;
            }
        }
        Ok(found)
    }

    async fn read_names(&self, group: &str, token: Option<&str>) -> Result<Names, Fault> {
        let mut names = BTreeSet::new();
        let mut counts = BTreeSet::new();
        for number in 1.. {
            let page = self.page(group, number, token).await?;
            let last = page.service_names.is_empty();
            counts.extend(page.count());
            names.extend(page.service_names);
            if names.len() > MAX_NAMES {
                return Err(Error::Misconfigured(format!("group {group:?} has more than {MAX_NAMES} services")).into());
            }
            let count = counts.last().and_then(|count| usize::try_from(*count).ok());
            if last || count.is_some_and(|count| names.len() >= count) {
                break;
            }
        }
        let count = u64::try_from(names.len()).unwrap_or(u64::MAX);
        let whole = counts.is_empty() || counts == BTreeSet::from([count]);
        Ok(Names { names, whole })
    }

    async fn page(&self, group: &str, number: usize, token: Option<&str>) -> Result<NamesPage, Fault> {
        let namespace = self.config.namespace();
        let Some(grpc) = &self.grpc else {
            return self.rest.names((namespace, group), (number, PAGE), token).await;
        };
        let request = PageRequest {
            namespace,
            group_name: group,
            page_no: number,
            page_size: PAGE,
        };
        let answer = grpc.ask("ServiceListRequest", &request, token).await?;
        parse("the list of services", &answer).map_err(Fault::unavailable)
    }

    /// A service with its instances; by gRPC, and from now on every change of it where `subscribe` says so.
    pub(super) async fn read(&self, place: &Place, subscribe: bool, token: Option<&str>) -> Result<Content, Fault> {
        let info = self.info(place, subscribe, false, token).await?;
        // Nothing else, not even `null`, says that there is no instance.
        let missing = || Fault::Refused(format!("{place}: the answer has no list of instances"));
        let written = info.last_ref_time.unwrap_or_default();
        let protected = info.is_protected();
        let hosts = info.hosts.ok_or_else(missing)?;
        let truth = if protected && !hosts.is_empty() {
            // Asked for the healthy ones only, most versions do not pretend.
            let really = self.info(place, false, true, token).await?;
            let still_protected = really.is_protected();
            let really = really.hosts.ok_or_else(missing)?;
            Some(if still_protected && really.len() >= hosts.len() {
                Truth::Untold
            } else {
                Truth::Told(identities(&really))
            })
        } else {
            None
        };
        Ok(Content { hosts, truth, written })
    }

    /// Ends a subscription. Its answer is of no interest: nobody follows the service any more.
    pub(super) async fn forget(&self, place: &Place, token: Option<&str>) -> Result<(), Fault> {
        if let Some(grpc) = &self.grpc {
            let about = self.about(place);
            grpc.ask("SubscribeServiceRequest", &about, token).await?;
        }
        Ok(())
    }

    async fn info(
        &self,
        place: &Place,
        subscribe: bool,
        healthy_only: bool,
        token: Option<&str>,
    ) -> Result<ServiceInfo, Fault> {
        let namespace = self.config.namespace();
        let Some(grpc) = &self.grpc else {
            let service = place.to_string();
            return self.rest.instances(namespace, &service, healthy_only, token).await;
        };
        let kind = if subscribe {
            "SubscribeServiceRequest"
        } else {
            "ServiceQueryRequest"
        };
        let about = About {
            healthy_only,
            subscribe,
            ..self.about(place)
        };
        let answer = grpc.ask(kind, &about, token).await?;
        let answer: AboutService = parse("the instances", &answer).map_err(Fault::Refused)?;
        Ok(answer.service_info)
    }

    fn about<'a>(&'a self, place: &'a Place) -> About<'a> {
        About {
            namespace: self.config.namespace(),
            group_name: &place.group,
            service_name: &place.name,
            clusters: "",
            cluster: "",
            healthy_only: false,
            subscribe: false,
        }
    }
}

//! Everything that is there, a page at a time, and whether it may be believed.

use std::collections::BTreeSet;
use std::sync::Arc;

use leadsman_core::model::Evidence;

use super::client::{Link, Question, Scope};
use super::config::Config;
use super::records::{Records, Versions};
use super::slice::{Identity, Rules, Slice, decode, identify, number};
use super::wire::{self, Fault};
use crate::{Error, EventSender};

/// Listings begun anew because the server forgot the version of their first page. More in a row means that pages are too
/// small for the server's compaction.
const MAX_LISTINGS: usize = 5;
/// More slices than the largest clusters have.
const MAX_SLICES: usize = 200_000;

/// How far a scope has been seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reached {
    pub(super) scope: Scope,
    pub(super) version: String,
}

#[derive(Debug)]
pub(super) struct Listing {
    pub(super) slices: Vec<Slice>,
    pub(super) reached: Vec<Reached>,
}

/// What survives a session.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) records: Records,
    /// Empty before the first listing.
    pub(super) reached: Vec<Reached>,
}

impl Known {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            records: Records::new(config),
            reached: Vec::new(),
        }
    }
}

/// What to ask for, by the configuration.
pub(super) fn scopes(config: &Config) -> Vec<Scope> {
    if config.namespaces.is_empty() {
        return vec![Scope { namespace: None }];
    }
    let named = config.namespaces.iter().map(|name| Scope {
        namespace: Some(name.clone()),
    });
    named.collect()
}

/// Reads every scope.
pub(super) async fn list(config: &Config, link: &Link, events: &EventSender) -> Result<Listing, Error> {
    let rules = Rules::of(config);
    let mut listing = Listing {
        slices: Vec::new(),
        reached: Vec::new(),
    };
    for scope in scopes(config) {
        let version = list_scope(&rules, link, &scope, events, &mut listing.slices).await?;
        listing.reached.push(Reached { scope, version });
    }
    Ok(listing)
}

async fn list_scope(
    rules: &Rules,
    link: &Link,
    scope: &Scope,
    events: &EventSender,
    slices: &mut Vec<Slice>,
) -> Result<String, Error> {
    let before = slices.len();
    let mut last = String::new();
    for _ in 0..MAX_LISTINGS {
        slices.truncate(before);
        match list_once(rules, link, scope, events, slices).await {
            Err(Fault::Expired(reason)) => {
                tracing::debug!(%reason, "the listing begins anew");
                last = reason;
            }
            outcome => return Ok(outcome?),
        }
    }
    Err(Error::Unavailable(format!(
        "the server forgot the version of each of {MAX_LISTINGS} listings, raise page_size: {last}"
    )))
}

async fn list_once(
    rules: &Rules,
    link: &Link,
    scope: &Scope,
    events: &EventSender,
    slices: &mut Vec<Slice>,
) -> Result<String, Fault> {
    let mut question = Question::default();
    loop {
        let body = link.page(scope, &question, &|| events.syncing()).await?;
        events.syncing();
        let page = wire::page(&body)?;
        for item in page.items {
            let slice = decode(rules, item).ok_or_else(nameless)?;
            slices.push(slice);
        }
        if slices.len() > MAX_SLICES {
            return Err(Fault::Ended(Error::Misconfigured(format!(
                "there are more than {MAX_SLICES} slices; narrow namespaces or label_selector"
            ))));
        }
        match page.next {
            Some(next) => question.next = Some(next),
            None => return Ok(page.version),
        }
    }
}

pub(super) fn nameless() -> Error {
    Error::Unavailable("the server lists an object without a name or a version".to_owned())
}

/// Whether a listing may be believed to be newer than everything seen before.
pub(super) async fn judge(
    link: &Link,
    known: &Known,
    listing: &Listing,
    events: &EventSender,
) -> Result<Evidence, Error> {
    for (was, is) in known.reached.iter().zip(&listing.reached) {
        if is_back(&was.version, &is.version) {
            return Ok(Evidence::NewEpoch {
                why: format!("the resourceVersion went back from {} to {}", was.version, is.version),
            });
        }
    }
    for was in &known.reached {
        let held = known.records.versions(was.scope.namespace.as_deref());
        if let evidence @ Evidence::NewEpoch { .. } = witnessed(link, was, &held, listing, events).await? {
            return Ok(evidence);
        }
    }
    Ok(Evidence::Complete)
}

/// Whether a version is older than one seen before. Versions that are no numbers can't be compared.
pub(super) fn is_back(was: &str, is: &str) -> bool {
    let (was, is) = (number(was), number(is));
    is > 0 && is < was
}

/// Asks the registry about a slice that is gone: a registry with the history we have seen still knows it in the version
/// up to which we have seen it. One that lost its data, and has since written as much as it had before, does not.
async fn witnessed(
    link: &Link,
    was: &Reached,
    held: &Versions,
    listing: &Listing,
    events: &EventSender,
) -> Result<Evidence, Error> {
    let known = |slice: &Slice| (Arc::clone(&slice.key), Arc::clone(&slice.identity.uid));
    let listed: BTreeSet<_> = listing.slices.iter().map(known).collect();
    let is_listed =
        |(key, identity): &(&Arc<str>, &Identity)| listed.contains(&(Arc::clone(key), Arc::clone(&identity.uid)));
    let Some((key, identity)) = held.iter().find(|entry| !is_listed(entry)) else {
        return Ok(Evidence::Complete);
    };
    let Some((namespace, name)) = key.split_once('/') else {
        return Ok(Evidence::Complete);
    };
    let question = Question {
        at: Some(was.version.clone()),
        object: Some((namespace.to_owned(), name.to_owned())),
        metadata_only: true,
        limit: Some(1),
        ..Question::default()
    };
    let body = match link.page(&was.scope, &question, &|| events.syncing()).await {
        Ok(body) => body,
        // The past is compacted away, which a registry that just lost its data does not get round to. But where nothing
        // at all is left of what was known, that is too little to go by.
        Err(Fault::Expired(_)) if held.iter().any(|entry| is_listed(&entry)) => return Ok(Evidence::Complete),
        Err(Fault::Expired(reason)) => {
            return Ok(Evidence::NewEpoch {
                why: format!(
                    "none of the {} slices known is listed, and the past is gone ({reason})",
                    held.len()
                ),
            });
        }
        Err(fault) => return Err(fault.into()),
    };
    let page = wire::page(&body)?;
    let then = page.items.iter().filter_map(|item| identify(item));
    let mut same = then.filter(|(found, then)| found == key && then.uid == identity.uid);
    if same.next().is_some() {
        return Ok(Evidence::Complete);
    }
    Ok(Evidence::NewEpoch {
        why: format!(
            "{key} was there at resourceVersion {}, and the registry has never heard of it",
            was.version
        ),
    })
}

/// What a comparison found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compared {
    Drift(u64),
    /// The server does not know the version any more: another time.
    TooLate,
}

/// Compares what was held at a version with what the server says there was. Pages are compared as they come.
pub(super) async fn compare(link: Link, reached: Reached, mut held: Versions) -> Result<Compared, Error> {
    let mut question = Question {
        at: Some(reached.version),
        metadata_only: true,
        ..Question::default()
    };
    let mut drift = 0_u64;
    loop {
        let body = match link.page(&reached.scope, &question, &|| {}).await {
            Ok(body) => body,
            Err(Fault::Expired(reason)) => {
                tracing::debug!(%reason, "a comparison came too late");
                return Ok(Compared::TooLate);
            }
            Err(fault) => return Err(fault.into()),
        };
        let page = wire::page(&body)?;
        for item in &page.items {
            let (key, identity) = identify(item).ok_or_else(nameless)?;
            drift += u64::from(held.remove(&key).as_ref() != Some(&identity));
        }
        match page.next {
            Some(next) => question.next = Some(next),
            None => break,
        }
    }
    Ok(Compared::Drift(drift + u64::try_from(held.len()).unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_smaller_number_is_older() {
        assert!(is_back("10", "9"));
        assert!(!is_back("9", "10") && !is_back("9", "9"));
        assert!(!is_back("abc", "1") && !is_back("9", "abc"));
    }
}

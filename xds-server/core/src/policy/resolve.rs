//! Which endpoints of which source Envoy gets, with which health and weight, and why.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::share;
use super::{Merge, ServiceSettings, WeightScale};
use crate::model::{Catalog, Endpoint, Health, Kept, Listed, Listing, Place, Presence, ServiceName, SourceName};

/// What was decided about one endpoint of one source.
#[derive(Clone, Debug)]
pub struct Decision {
    pub source: SourceName,
    pub endpoint: Endpoint,
    /// Whether Envoy gets it.
    pub published: bool,
    /// The health Envoy gets.
    pub health: Health,
    pub health_reason: String,
    /// The weight Envoy gets.
    pub weight: u32,
    pub weight_reason: String,
    /// Why it is published, or not.
    pub reason: String,
}

/// How a source stands to a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceView {
    pub source: SourceName,
    /// Nothing is known while the source has not answered.
    pub listed: Presence<bool>,
    pub used: bool,
}

/// Everything that was decided about a service.
#[derive(Clone, Debug)]
pub struct Resolution {
    pub service: ServiceName,
    /// `Unknown` until a source that is asked has answered; `Known(false)` when nobody lists the service.
    pub listed: Presence<bool>,
    pub sources: Vec<SourceView>,
    pub decisions: Vec<Decision>,
}

impl Resolution {
    /// What Envoy gets, by address.
    pub fn published(&self) -> impl Iterator<Item = &Decision> {
        self.decisions.iter().filter(|decision| decision.published)
    }

    /// The protocols that instances name when they register.
    pub fn schemes(&self) -> impl Iterator<Item = &Arc<str>> {
        self.published()
            .filter_map(|decision| decision.endpoint.scheme.as_ref())
    }
}

/// Decides about one service. A pure function: the same catalog and settings give the same answer on every replica.
pub fn resolve(catalog: &Catalog, service: &ServiceName, settings: &ServiceSettings) -> Resolution {
    let order = order(catalog, settings);
    let listings: Vec<(SourceName, Presence<Option<&Listing>>)> = order
        .into_iter()
        .map(|source| (source.clone(), catalog.listing(&source, service)))
        .collect();
    let used = used(&listings, &settings.merge);
    let sources: Vec<SourceView> = listings
        .iter()
        .map(|(source, listing)| SourceView {
            source: source.clone(),
            listed: match listing {
                Presence::Unknown => Presence::Unknown,
                Presence::Known(listing) => Presence::Known(listing.is_some()),
            },
            used: used.contains(source),
        })
        .collect();
    let listed = listed(&sources, &settings.merge);
    let mut decisions = Vec::new();
    for (source, listing) in &listings {
        if let Presence::Known(Some(listing)) = listing {
            let taken = used.contains(source);
            let passed_over = match &settings.merge {
                Merge::Percentage(_) => "its source has none of the traffic",
                Merge::Priority | Merge::Union | Merge::Fallback => "a source that comes first lists the service",
            };
            let decide = |listed| decide(source, listed, taken.then_some(()).ok_or(passed_over));
            decisions.extend(listing.endpoints.values().map(decide));
        }
    }
    if let Merge::Percentage(percentages) = &settings.merge {
        let parts = share::divide(&decisions, percentages);
        drop_duplicates(&mut decisions);
        share::weigh(&mut decisions, &parts);
    } else {
        drop_duplicates(&mut decisions);
        weigh(&mut decisions);
    }
    Resolution {
        service: service.clone(),
        listed,
        sources,
        decisions,
    }
}

/// The sources to ask, most trusted first. One that is given a part of the traffic is asked for it.
fn order(catalog: &Catalog, settings: &ServiceSettings) -> Vec<SourceName> {
    let mut order = settings.sources.clone();
    if order.is_empty() {
        order.extend(catalog.sources().cloned());
    }
    if let Merge::Percentage(percentages) = &settings.merge {
        for (source, part) in percentages.iter() {
            if part > 0 && !order.contains(source) {
                order.push(source.clone());
            }
        }
    }
    order
}

/// Whether the service is listed. While a source that is to serve it has not answered, it is not known, whoever lists it
/// without a part of the traffic: it would be published without an endpoint.
fn listed(sources: &[SourceView], merge: &Merge) -> Presence<bool> {
    let serves = |view: &&SourceView| match merge {
        Merge::Percentage(percentages) => percentages.of(&view.source) > 0,
        Merge::Priority | Merge::Union | Merge::Fallback => true,
    };
    let any = |views: Vec<&SourceView>| {
        let is = |listed: Presence<bool>| views.iter().any(|view| view.listed == listed);
        if is(Presence::Known(true)) {
            Presence::Known(true)
        } else if is(Presence::Unknown) {
            Presence::Unknown
        } else {
            Presence::Known(false)
        }
    };
    match any(sources.iter().filter(serves).collect()) {
        Presence::Known(false) => any(sources.iter().collect()),
        answer @ (Presence::Known(true) | Presence::Unknown) => answer,
    }
}

fn used(listings: &[(SourceName, Presence<Option<&Listing>>)], merge: &Merge) -> BTreeSet<SourceName> {
    let listing: Vec<(&SourceName, &Listing)> = listings
        .iter()
        .filter_map(|(source, listing)| match listing {
            Presence::Known(Some(listing)) => Some((source, *listing)),
            Presence::Known(None) | Presence::Unknown => None,
        })
        .collect();
    let live = |(_, listing): &&(&SourceName, &Listing)| listing.gone_since.is_none();
    let usable = |(_, listing): &&(&SourceName, &Listing)| {
        listing
            .endpoints
            .values()
            .any(|listed| health(&listed.endpoint).0.is_usable())
    };
    // A service that is gone from one source must not hide it in the next.
    let first = listing.iter().find(live).or_else(|| listing.first());
    let chosen = match merge {
        Merge::Union => return listing.iter().map(|(source, _)| (*source).clone()).collect(),
        Merge::Priority => first,
        Merge::Fallback => listing.iter().find(usable).or(first),
        Merge::Percentage(parts) => {
            let named = listing.iter().filter(|(source, _)| parts.of(source) > 0);
            return named.map(|(source, _)| (*source).clone()).collect();
        }
    };
    chosen.map(|(source, _)| (*source).clone()).into_iter().collect()
}

fn decide(source: &SourceName, listed: &Listed, used: Result<(), &str>) -> Decision {
    let (health, health_reason) = health(&listed.endpoint);
    let reason = match (&listed.kept, used) {
        (_, Err(passed_over)) => format!("not published: {passed_over}"),
        (None, Ok(())) => "listed by its source".to_owned(),
        (Some(Kept::Undecodable { reason }), Ok(())) => {
            format!("kept as last read: its record can't be read any more ({reason})")
        }
        (Some(Kept::NewEpoch { why }), Ok(())) => {
            format!("held: the registry does not list it any more, but is not the one it was ({why})")
        }
    };
    Decision {
        source: source.clone(),
        endpoint: listed.endpoint.clone(),
        published: used.is_ok(),
        health,
        health_reason,
        weight: 1,
        weight_reason: String::new(),
        reason,
    }
}

/// "Weight 0" is how registries say "drain"; Envoy refuses the number.
fn health(endpoint: &Endpoint) -> (Health, String) {
    if endpoint.weight.is_zero() && endpoint.health.is_usable() {
        return (Health::Draining, "weight 0 means drain".to_owned());
    }
    (endpoint.health, endpoint.health_reason.to_string())
}

/// One address known to several sources is taken from the healthiest, then from the first.
fn drop_duplicates(decisions: &mut [Decision]) {
    let mut best: BTreeMap<Place, usize> = BTreeMap::new();
    for index in 0..decisions.len() {
        let Some(decision) = decisions.get(index).filter(|decision| decision.published) else {
            continue;
        };
        let (address, scheme) = (decision.endpoint.address, decision.endpoint.scheme.clone());
        let place = (address, scheme);
        let healthier = match best.get(&place).and_then(|held| decisions.get(*held)) {
            Some(held) => decision.health.is_usable() && !held.health.is_usable(),
            None => true,
        };
        let loser = if healthier {
            best.insert(place.clone(), index)
        } else {
            Some(index)
        };
        let winner = best
            .get(&place)
            .and_then(|winner| decisions.get(*winner))
            .map(|winner| winner.source.clone());
        if let (Some(loser), Some(winner)) = (loser.and_then(|loser| decisions.get_mut(loser)), winner) {
            loser.published = false;
            loser.reason = format!("not published: {address} is taken from source {winner}");
        }
    }
}

fn weigh(decisions: &mut [Decision]) {
    let weights = decisions
        .iter()
        .filter(|decision| decision.published)
        .map(|decision| decision.endpoint.weight);
    let scale = WeightScale::of(weights);
    for decision in decisions {
        decision.weight = scale.apply(decision.endpoint.weight);
        decision.weight_reason = scale.reason(decision.endpoint.weight);
    }
}

#[cfg(test)]
mod tests;

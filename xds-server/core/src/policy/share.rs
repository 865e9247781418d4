//! Traffic divided among sources by percentages, for the time of a migration.
//!
//! A source's percentage is divided among its usable endpoints in proportion to their weights, so that the split holds
//! however many instances each registry knows. An instance that is registered in both gets both its parts. A source
//! without a usable endpoint leaves its part to the others: weights are relative.

use std::collections::BTreeMap;

use super::resolve::Decision;
use super::{Percentages, WeightScale};
use crate::model::{Place, SourceName, Weight};

/// What a percentage is divided among: the instances of one protocol in one source, because each protocol has a cluster of
/// its own.
type Share<'a> = (&'a SourceName, Option<&'a str>);

/// What each decision stands for, in percent of the traffic; in the order of the decisions.
pub(super) fn divide(decisions: &[Decision], percentages: &Percentages) -> Vec<f64> {
    let mut sums: BTreeMap<Share<'_>, [f64; 2]> = BTreeMap::new();
    for decision in decisions.iter().filter(|decision| decision.published) {
        let [usable, all] = sums.entry(share(decision)).or_default();
        let weight = raw(decision);
        *all += weight;
        if decision.health.is_usable() {
            *usable += weight;
        }
    }
    let part = |decision: &Decision| {
        let [usable, all] = sums.get(&share(decision)).copied().unwrap_or_default();
        let sum = if usable > 0.0 { usable } else { all };
        if decision.published && sum > 0.0 {
            f64::from(percentages.of(&decision.source)) * (raw(decision) / sum)
        } else {
            0.0
        }
    };
    decisions.iter().map(part).collect()
}

/// Gives each published endpoint the weight of its parts.
pub(super) fn weigh(decisions: &mut [Decision], parts: &[f64]) {
    // Where sources disagree about an instance, the part of one that takes it for unusable was divided among its others.
    let mut by_place: BTreeMap<Place, [f64; 2]> = BTreeMap::new();
    for (decision, part) in decisions.iter().zip(parts) {
        let [usable, all] = by_place.entry(place(decision)).or_default();
        *all += part;
        if decision.health.is_usable() {
            *usable += part;
        }
    }
    let weight = |decision: &Decision| {
        let [usable, all] = by_place.get(&place(decision)).copied().unwrap_or_default();
        let percent = if usable > 0.0 { usable } else { all };
        (percent, Weight::new(percent).unwrap_or(Weight::ONE))
    };
    // What gets no traffic must not cost the others precision; it is cut off at the largest weight.
    let usable = decisions
        .iter()
        .filter(|decision| decision.published && decision.health.is_usable());
    let scale = WeightScale::finest(usable.map(|decision| weight(decision).1));
    for decision in decisions {
        let (percent, weight) = weight(decision);
        decision.weight = scale.apply(weight);
        decision.weight_reason = format!("{percent:.2} % of the traffic, by the percentages of the sources");
    }
}

fn share(decision: &Decision) -> Share<'_> {
    (&decision.source, decision.endpoint.scheme.as_deref())
}

fn place(decision: &Decision) -> Place {
    (decision.endpoint.address, decision.endpoint.scheme.clone())
}

/// "Weight 0" drains, and an instance that drains weighs nothing.
fn raw(decision: &Decision) -> f64 {
    decision.endpoint.weight.get()
}

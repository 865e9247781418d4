//! `leadsman compare`: the difference of two registries, for whoever moves from one to the other.
//!
//! Registries count weights in different units, so weights are compared by their proportions: within a service they differ
//! only where an instance weighs more or less than its siblings say it should.

use std::collections::{BTreeMap, BTreeSet};

use leadsman_core::model::Health;
use serde::Serialize;

use super::Failure;
use super::admin::{Server, segment};
use super::output::{self, Output, Table};
use crate::api::{ListedEndpoint, SourceDetail};

#[derive(Debug, clap::Args)]
pub(super) struct Compare {
    #[command(flatten)]
    server: Server,
    #[command(flatten)]
    output: Output,
    /// A source, as the configuration names it.
    a: String,
    /// Another one.
    b: String,
    /// Only this service.
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
}

/// Everything that differs.
#[derive(Debug, Serialize)]
struct Comparison {
    a: String,
    b: String,
    /// Services that both list.
    common: usize,
    differences: Vec<Difference>,
}

/// What the sources say of one thing; `None` where a source does not have it.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Difference {
    service: String,
    /// Of an endpoint, with its protocol if it named one; `None` for the service as a whole.
    address: Option<String>,
    what: What,
    a: Option<String>,
    b: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum What {
    Service,
    Endpoint,
    Health,
    Weight,
}

type Services = BTreeMap<String, Vec<ListedEndpoint>>;

impl Compare {
    pub(super) async fn run(&self) -> Result<(), Failure> {
        let (a, b) = (self.listed(&self.a).await?, self.listed(&self.b).await?);
        let comparison = Comparison {
            a: self.a.clone(),
            b: self.b.clone(),
            common: a.keys().filter(|name| b.contains_key(*name)).count(),
            differences: compare(&a, &b),
        };
        output::show(&comparison, self.output.output, table)?;
        if comparison.differences.is_empty() {
            Ok(())
        } else {
            Err(Failure::Findings)
        }
    }

    async fn listed(&self, source: &str) -> Result<Services, Failure> {
        let path = format!("/api/v1/sources/{}", segment(source));
        let detail: SourceDetail = self.server.get(&path).await?;
        let mut services = detail.services.ok_or_else(|| {
            Failure::Other(format!(
                "the source {source} has not listed anything yet: see `leadsman status`"
            ))
        })?;
        if let Some(only) = &self.service {
            services.retain(|name, _| name == only);
        }
        Ok(services)
    }
}

fn compare(a: &Services, b: &Services) -> Vec<Difference> {
    let names: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    let of = |name: &String| match (a.get(name), b.get(name)) {
        (Some(a), Some(b)) => endpoints(name, a, b),
        (a, b) => {
            let count = |endpoints: &Vec<ListedEndpoint>| format!("{} endpoints", endpoints.len());
            vec![difference(name, None, What::Service, a.map(count), b.map(count))]
        }
    };
    names.into_iter().flat_map(of).collect()
}

fn endpoints(service: &str, a: &[ListedEndpoint], b: &[ListedEndpoint]) -> Vec<Difference> {
    let (a, b) = (by_place(a), by_place(b));
    let usual = usual_ratio(&a, &b);
    let mut differences = Vec::new();
    let places: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    for place in places {
        let mut note = |what, a, b| differences.push(difference(service, Some(place), what, a, b));
        match (a.get(place), b.get(place)) {
            (Some(a), Some(b)) => {
                if to_envoy(&a.health) != to_envoy(&b.health) {
                    note(What::Health, Some(a.health.clone()), Some(b.health.clone()));
                }
                let ratio = ratio(a, b);
                if ratio.zip(usual).is_some_and(|(ratio, usual)| !alike(ratio, usual)) {
                    note(What::Weight, Some(a.weight.to_string()), Some(b.weight.to_string()));
                }
            }
            (a, b) => {
                let health = |endpoint: &&ListedEndpoint| endpoint.health.clone();
                note(What::Endpoint, a.map(health), b.map(health));
            }
        }
    }
    differences
}

/// Many registries know no health, and to Envoy an endpoint of which nothing is known is a healthy one.
fn to_envoy(health: &str) -> &str {
    if health == Health::Unknown.as_str() {
        Health::Healthy.as_str()
    } else {
        health
    }
}

fn by_place(endpoints: &[ListedEndpoint]) -> BTreeMap<String, &ListedEndpoint> {
    let place = |endpoint: &ListedEndpoint| match &endpoint.scheme {
        Some(scheme) => format!("{scheme}://{}", endpoint.address),
        None => endpoint.address.clone(),
    };
    endpoints.iter().map(|endpoint| (place(endpoint), endpoint)).collect()
}

/// By what the weights of `b` are larger than those of `a`, for most of the instances that both know.
fn usual_ratio(a: &BTreeMap<String, &ListedEndpoint>, b: &BTreeMap<String, &ListedEndpoint>) -> Option<f64> {
    let common = a.iter().filter_map(|(place, a)| ratio(a, b.get(place)?));
    let mut ratios: Vec<f64> = common.collect();
    ratios.sort_by(f64::total_cmp);
    ratios.get(ratios.len() / 2).copied()
}

/// `None` for an instance that drains in both: nothing is nothing in any unit, and says nothing about the units.
fn ratio(a: &ListedEndpoint, b: &ListedEndpoint) -> Option<f64> {
    (a.weight != 0.0 || b.weight != 0.0).then(|| b.weight / a.weight)
}

fn alike(a: f64, b: f64) -> bool {
    a == b || (a - b).abs() <= 1e-6 * a.abs().max(b.abs())
}

fn difference(service: &str, address: Option<&String>, what: What, a: Option<String>, b: Option<String>) -> Difference {
    Difference {
        service: service.to_owned(),
        address: address.cloned(),
        what,
        a,
        b,
    }
}

fn table(comparison: &Comparison) -> String {
    let Comparison {
        a,
        b,
        common,
        differences,
    } = comparison;
    if differences.is_empty() {
        return format!(
            "{} and {} list the same {common} services\n",
            output::visible(a),
            output::visible(b)
        );
    }
    let mut table = Table::new([
        "SERVICE",
        "ADDRESS",
        "DIFFERS-IN",
        &output::visible(a),
        &output::visible(b),
    ]);
    for difference in differences {
        let what = match difference.what {
            What::Service => "service",
            What::Endpoint => "endpoint",
            What::Health => "health",
            What::Weight => "weight",
        };
        let said = |side: &Option<String>| side.clone().unwrap_or_else(|| "missing".to_owned());
        table.row([
            difference.service.clone(),
            difference.address.clone().unwrap_or_default(),
            what.to_owned(),
            said(&difference.a),
            said(&difference.b),
        ]);
    }
    table.render()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(address: &str, health: &str, weight: f64) -> ListedEndpoint {
        ListedEndpoint {
            address: address.to_owned(),
            scheme: None,
            health: health.to_owned(),
            weight,
            locality: Default::default(),
            metadata: BTreeMap::new(),
        }
    }

    /// Address, health and weight.
    type Row<'a> = (&'a str, &'a str, f64);

    fn services(all: &[(&str, &[Row<'_>])]) -> Services {
        let endpoints = |of: &[Row<'_>]| of.iter().map(|(a, h, w)| listed(a, h, *w)).collect();
        all.iter()
            .map(|(name, of)| ((*name).to_owned(), endpoints(of)))
            .collect()
    }

    fn shown(a: &Services, b: &Services) -> String {
        table(&Comparison {
            a: "old".to_owned(),
            b: "new".to_owned(),
            common: a.keys().filter(|name| b.contains_key(*name)).count(),
            differences: compare(a, b),
        })
    }

    #[test]
    fn who_misses_which_instance_weight_and_status_is_said() {
        let old = services(&[
            ("gone", &[("10.0.0.1:1", "healthy", 1.0)]),
            (
                "orders",
                &[
                    ("10.0.0.1:1", "healthy", 1.0),
                    ("10.0.0.2:1", "healthy", 1.0),
                    ("10.0.0.3:1", "healthy", 2.0),
                    ("10.0.0.4:1", "healthy", 1.0),
                ],
            ),
        ]);
        let new = services(&[
            ("new", &[]),
            (
                "orders",
                &[
                    ("10.0.0.1:1", "healthy", 100.0),
                    ("10.0.0.2:1", "unhealthy", 100.0),
                    ("10.0.0.3:1", "healthy", 100.0),
                    ("10.0.0.5:1", "draining", 100.0),
                ],
            ),
        ]);
        assert_eq!(
            shown(&old, &new),
            "SERVICE  ADDRESS     DIFFERS-IN  old          new\n\
             gone     -           service     1 endpoints  missing\n\
             new      -           service     missing      0 endpoints\n\
             orders   10.0.0.2:1  health      healthy      unhealthy\n\
             orders   10.0.0.3:1  weight      2            100\n\
             orders   10.0.0.4:1  endpoint    healthy      missing\n\
             orders   10.0.0.5:1  endpoint    missing      draining\n"
        );
    }

    #[test]
    fn a_registry_that_knows_no_health_does_not_differ_by_it() {
        let of = |health| services(&[("orders", &[("a:1", health, 1.0)])]);
        assert_eq!(
            shown(&of("unknown"), &of("healthy")),
            "old and new list the same 1 services\n"
        );
        assert!(shown(&of("unknown"), &of("degraded")).contains("health      unknown  degraded\n"));
    }

    #[test]
    fn the_unit_of_the_weights_is_no_difference() {
        let nacos = services(&[("orders", &[("a:1", "healthy", 1.0), ("b:1", "healthy", 0.5)])]);
        let dubbo = services(&[("orders", &[("a:1", "healthy", 100.0), ("b:1", "healthy", 50.0)])]);
        assert_eq!(shown(&nacos, &dubbo), "old and new list the same 1 services\n");
        let rest = ("c:1", "healthy", 0.0);
        let (one, hundred) = ([1.0, 0.5], [100.0, 50.0]);
        let with = |[a, b]: [f64; 2]| services(&[("orders", &[("a:1", "healthy", a), ("b:1", "healthy", b), rest])]);
        assert_eq!(
            shown(&with(one), &with(hundred)),
            "old and new list the same 1 services\n"
        );
        let drained = services(&[("orders", &[("a:1", "healthy", 100.0), ("b:1", "healthy", 0.0)])]);
        assert!(
            shown(&nacos, &drained).contains("weight      0.5  0\n"),
            "{}",
            shown(&nacos, &drained)
        );
    }
}

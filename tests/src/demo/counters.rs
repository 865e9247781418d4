//! The filter's counters, as Envoy's Prometheus page shows them.

use std::collections::BTreeMap;

/// Every `leadsman_…` sample of a page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    samples: Vec<Sample>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: u64,
}

impl Counters {
    /// Reads a page; lines that are not ours are passed over.
    pub(crate) fn read(page: &str) -> Self {
        Self {
            samples: page.lines().filter_map(sample).collect(),
        }
    }

    /// The sum of the samples of a name whose labels include these.
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        let matching = self.samples.iter().filter(|sample| sample.is(name, labels));
        matching.map(|sample| sample.value).sum()
    }

    /// The same by the values of one label, without those that are zero.
    pub(crate) fn by(&self, label: &str, name: &str, labels: &[(&str, &str)]) -> BTreeMap<String, u64> {
        let mut sums = BTreeMap::new();
        for sample in self.samples.iter().filter(|sample| sample.is(name, labels)) {
            if let Some(value) = sample.labels.get(label).filter(|_| sample.value > 0) {
                *sums.entry(value.clone()).or_default() += sample.value;
            }
        }
        sums
    }
}

impl Sample {
    fn is(&self, name: &str, labels: &[(&str, &str)]) -> bool {
        let has = |(label, value): &(&str, &str)| self.labels.get(*label).is_some_and(|own| own == value);
        self.name == name && labels.iter().all(has)
    }
}

/// `name{label="value",…} number`. The filter's label values hold no quotes: they are names of clusters and sources.
fn sample(line: &str) -> Option<Sample> {
    let (series, value) = line.strip_prefix("leadsman_")?.rsplit_once(' ')?;
    let (name, labels) = match series.split_once('{') {
        Some((name, labels)) => (name, labels.strip_suffix('}')?),
        None => (series, ""),
    };
    let pairs = labels.split("\",").filter_map(|pair| pair.split_once("=\""));
    let labels = pairs.map(|(label, value)| (label.to_owned(), value.trim_end_matches('"').to_owned()));
    Some(Sample {
        name: name.to_owned(),
        labels: labels.collect(),
        value: value.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_summed_by_name_and_labels() {
        let page = "\
# TYPE leadsman_requests_total counter
leadsman_requests_total{cluster=\"orders\",class=\"2xx\"} 7
leadsman_requests_total{cluster=\"orders\",class=\"5xx\"} 1
leadsman_requests_total{cluster=\"outbound|80||a.b\",class=\"2xx\"} 3
leadsman_requests_total{cluster=\"idle\",class=\"2xx\"} 0
leadsman_heartbeat_total{} 4
envoy_server_live 1
";
        let counters = Counters::read(page);
        assert_eq!(counters.sum("requests_total", &[]), 11);
        assert_eq!(counters.sum("requests_total", &[("cluster", "orders")]), 8);
        assert_eq!(counters.sum("heartbeat_total", &[]), 4);
        assert_eq!(counters.sum("retries_total", &[]), 0);
        assert_eq!(
            counters.by("cluster", "requests_total", &[("class", "2xx")]),
            BTreeMap::from([("orders".to_owned(), 7), ("outbound|80||a.b".to_owned(), 3)])
        );
    }
}

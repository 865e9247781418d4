//! Samples to tables: the median of the repeats with the least and the most, and a claim only where the worst of ours beats
//! the best of theirs.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::subject::Kind;

/// What a number means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sense {
    /// Less is better: it is compared, and the first of them is plotted.
    Cost,
    /// Says what happened, and is not compared.
    Fact,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Metric {
    pub(crate) name: &'static str,
    pub(crate) sense: Sense,
    pub(crate) value: f64,
}

pub(crate) fn cost(name: &'static str, value: f64) -> Metric {
    Metric {
        name,
        sense: Sense::Cost,
        value,
    }
}

pub(crate) fn fact(name: &'static str, value: f64) -> Metric {
    Metric {
        name,
        sense: Sense::Fact,
        value,
    }
}

/// What one run of one server gave.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) cell: String,
    /// Where the cells of a workload are points of a line: what grows, and how far it is.
    pub(crate) axis: Option<(&'static str, f64)>,
    pub(crate) kind: Kind,
    pub(crate) metrics: Vec<Metric>,
}

/// One workload's samples.
#[derive(Clone, Debug)]
pub(crate) struct Section {
    pub(crate) id: &'static str,
    pub(crate) title: &'static str,
    pub(crate) samples: Vec<Sample>,
    /// Runs that failed, and why.
    pub(crate) failures: Vec<String>,
}

/// The median, the least and the most.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
    pub(crate) runs: usize,
}

/// Fewer runs show nothing.
const RUNS_OF_A_CLAIM: usize = 3;

impl Spread {
    pub(crate) fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let upper = *values.get(middle)?;
        let lower = *values.get(middle - usize::from(values.len().is_multiple_of(2)))?;
        Some(Self {
            median: f64::midpoint(lower, upper),
            min: *values.first()?,
            max: *values.last()?,
            runs: values.len(),
        })
    }
}

type Column = (&'static str, Sense);

impl Section {
    /// Cells in the order they came.
    pub(crate) fn cells(&self) -> Vec<&str> {
        let mut cells: Vec<&str> = Vec::new();
        for sample in &self.samples {
            if !cells.contains(&sample.cell.as_str()) {
                cells.push(&sample.cell);
            }
        }
        cells
    }

    pub(crate) fn kinds(&self) -> Vec<Kind> {
        let mut kinds: Vec<Kind> = self.samples.iter().map(|sample| sample.kind).collect();
        kinds.sort();
        kinds.dedup();
        kinds
    }

    pub(crate) fn columns(&self) -> Vec<Column> {
        let mut columns: Vec<Column> = Vec::new();
        for metric in self.samples.iter().flat_map(|sample| &sample.metrics) {
            if !columns.iter().any(|(name, _)| *name == metric.name) {
                columns.push((metric.name, metric.sense));
            }
        }
        columns
    }

    pub(crate) fn spread(&self, cell: &str, kind: Kind, column: &str) -> Option<Spread> {
        let samples = self
            .samples
            .iter()
            .filter(|sample| sample.cell == cell && sample.kind == kind);
        let values = samples
            .flat_map(|sample| &sample.metrics)
            .filter(|metric| metric.name == column);
        Spread::of(values.map(|metric| metric.value).collect())
    }

    pub(crate) fn markdown(&self) -> String {
        let mut out = format!("## {} {}\n\n", self.id, self.title);
        let columns = self.columns();
        let heads: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
        // Writing to a string can't fail.
        let _ = writeln!(out, "| case | server | {} |", heads.join(" | "));
        let _ = writeln!(out, "|---|---|{}", "---|".repeat(columns.len()));
        for cell in self.cells() {
            for kind in self.kinds() {
                let spreads: Vec<Option<Spread>> =
                    columns.iter().map(|(name, _)| self.spread(cell, kind, name)).collect();
                if spreads.iter().any(Option::is_some) {
                    let texts: Vec<String> = spreads.into_iter().map(show).collect();
                    let _ = writeln!(out, "| {cell} | {} | {} |", kind.name(), texts.join(" | "));
                }
            }
        }
        out.push('\n');
        // Points of a line are there for its slope.
        if self.samples.iter().all(|sample| sample.axis.is_none()) {
            out.push_str(&self.claims());
        }
        out.push_str(&self.growth());
        for failure in &self.failures {
            let _ = writeln!(out, "- **failed**: {failure}");
        }
        out
    }

    /// Ours against the better of theirs, cost by cost.
    fn claims(&self) -> String {
        let mut out = String::new();
        for cell in self.cells() {
            let mut texts = Vec::new();
            for (name, _) in self.columns().into_iter().filter(|(_, sense)| *sense == Sense::Cost) {
                let Some(ours) = self.spread(cell, Kind::Leadsman, name) else {
                    continue;
                };
                let theirs = [Kind::Linear, Kind::Snapshot].map(|kind| self.spread(cell, kind, name));
                let best = theirs
                    .into_iter()
                    .flatten()
                    .min_by(|a, b| a.median.total_cmp(&b.median));
                texts.extend(best.map(|best| claim(name, ours, best)));
            }
            if !texts.is_empty() {
                let _ = writeln!(
                    out,
                    "- {cell}, against the better go-control-plane cache: {}.",
                    texts.join("; ")
                );
            }
        }
        out
    }

    /// The exponent with which the first cost grows along an axis.
    fn growth(&self) -> String {
        let mut points: BTreeMap<(&str, Kind), Vec<(f64, f64)>> = BTreeMap::new();
        let Some((column, _)) = self.columns().into_iter().find(|(_, sense)| *sense == Sense::Cost) else {
            return String::new();
        };
        for sample in &self.samples {
            if let (Some((axis, x)), Some(spread)) = (sample.axis, self.spread(&sample.cell, sample.kind, column)) {
                points
                    .entry((axis, sample.kind))
                    .or_default()
                    .push((x.ln(), spread.median.ln()));
            }
        }
        let mut out = String::new();
        for ((axis, kind), points) in points {
            if let Some(slope) = slope(&points) {
                let _ = writeln!(
                    out,
                    "- {column} of {} grows with {axis} to the power of {slope:.2}.",
                    kind.name()
                );
            }
        }
        out
    }
}

fn claim(name: &str, ours: Spread, theirs: Spread) -> String {
    if ours.runs.min(theirs.runs) < RUNS_OF_A_CLAIM {
        format!(
            "{name} {} to {}, too few runs for a claim",
            number(ours.median),
            number(theirs.median)
        )
    } else if ours.max <= 0.0 || theirs.max <= 0.0 {
        format!("{name} {} to {}", number(ours.median), number(theirs.median))
    } else if ours.max < theirs.min {
        let (factor, least) = (theirs.median / ours.median, theirs.min / ours.max);
        format!("{name} {factor:.1}× less (at least {least:.1}×)")
    } else if ours.min > theirs.max {
        format!("{name} **{:.1}× more**", ours.median / theirs.median)
    } else {
        format!("{name} no clear difference")
    }
}

/// Least squares.
pub(crate) fn slope(points: &[(f64, f64)]) -> Option<f64> {
    let count = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let spread: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    let common: f64 = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
    (spread > f64::EPSILON && common.is_finite()).then(|| common / spread)
}

fn show(spread: Option<Spread>) -> String {
    spread.map_or_else(String::new, |Spread { median, min, max, .. }| {
        if min == max {
            number(median)
        } else {
            format!("{} ({}–{})", number(median), number(min), number(max))
        }
    })
}

/// Three digits that count.
pub(crate) fn number(value: f64) -> String {
    match value.abs() {
        zero if zero < 0.0005 => "0".to_owned(),
        small if small < 1.0 => format!("{value:.3}"),
        small if small < 10.0 => format!("{value:.2}"),
        middle if middle < 100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(kind: Kind, x: f64, value: f64) -> Sample {
        Sample {
            cell: format!("R={x}"),
            axis: None,
            kind,
            metrics: vec![cost("CPU µs", value), fact("messages", 7.0)],
        }
    }

    #[test]
    fn a_claim_needs_the_worst_of_ours_to_beat_the_best_of_theirs_and_losses_are_said() {
        let repeated = |kind, values: [f64; 3]| values.map(|value| sample(kind, 10.0, value));
        let section = |ours: [f64; 3]| Section {
            id: "A",
            title: "churn",
            samples: [
                repeated(Kind::Leadsman, ours),
                repeated(Kind::Linear, [20.0, 20.0, 20.0]),
                repeated(Kind::Snapshot, [30.0, 30.0, 30.0]),
            ]
            .concat(),
            failures: Vec::new(),
        };
        let text = section([4.0, 4.5, 5.0]).markdown();
        let expected = "## A churn\n\n| case | server | CPU µs | messages |\n|---|---|---|---|\n\
            | R=10 | leadsman | 4.50 (4.00–5.00) | 7.00 |\n| R=10 | go linear | 20.0 | 7.00 |\n\
            | R=10 | go snapshot | 30.0 | 7.00 |\n\n\
            - R=10, against the better go-control-plane cache: CPU µs 4.4× less (at least 4.0×).\n";
        assert_eq!(text, expected);
        assert!(
            section([4.0, 4.0, 21.0])
                .markdown()
                .contains("CPU µs no clear difference")
        );
        assert!(section([0.0, 0.0, 0.0]).markdown().contains("CPU µs 0 to 20.0."));
        let mut few = section([4.0, 4.5, 5.0]);
        few.samples.pop();
        few.samples.remove(0);
        assert!(few.markdown().contains("CPU µs 4.75 to 20.0, too few runs for a claim"));
        assert!(section([40.0, 40.0, 41.0]).markdown().contains("CPU µs **2.0× more**"));
    }

    #[test]
    fn growth_is_the_exponent_of_the_first_cost() {
        let point = |x: f64| Sample {
            axis: Some(("R", x)),
            ..sample(Kind::Linear, x, 3.0 * x * x)
        };
        let section = Section {
            id: "C",
            title: "growth",
            samples: [1.0, 10.0, 100.0].map(point).to_vec(),
            failures: Vec::new(),
        };
        assert!(
            section
                .markdown()
                .ends_with("- CPU µs of go linear grows with R to the power of 2.00.\n")
        );
    }
}

//! A workload's first cost as a drawing: bars of the medians on a logarithmic scale, with the least and the most.

use std::fmt::Write;

use crate::report::{Section, Sense, Spread, number};
use crate::subject::Kind;

const WIDTH: f64 = 920.0;
const HEIGHT: f64 = 380.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 60.0;
const BOTTOM: f64 = 50.0;

fn colour(kind: Kind) -> &'static str {
    match kind {
        Kind::Leadsman => "#0b6e4f",
        Kind::Linear => "#4a7fb5",
        Kind::Snapshot => "#9bbbd9",
        Kind::Echo => "#b8a15a",
        Kind::Floor => "#8a8a8a",
    }
}

/// `None` when nothing was measured.
pub(crate) fn svg(section: &Section) -> Option<String> {
    let (column, _) = section.columns().into_iter().find(|(_, sense)| *sense == Sense::Cost)?;
    let (cells, kinds) = (section.cells(), section.kinds());
    let spreads = || {
        cells
            .iter()
            .flat_map(|cell| kinds.iter().filter_map(|kind| section.spread(cell, *kind, column)))
    };
    let positive = || {
        spreads()
            .flat_map(|spread| [spread.min, spread.max])
            .filter(|value| *value > 0.0)
    };
    let low = positive().fold(f64::INFINITY, f64::min).log10().floor();
    let high = positive().fold(0.0, f64::max).log10().ceil().max(low + 1.0);
    if !low.is_finite() || !high.is_finite() {
        return None;
    }
    let y = |value: f64| {
        let share = (value.max(f64::MIN_POSITIVE).log10() - low) / (high - low);
        HEIGHT - BOTTOM - share.clamp(0.0, 1.0) * (HEIGHT - TOP - BOTTOM)
    };
    let mut out = frame(section, column, &kinds);
    let mut decade = low;
    while decade <= high {
        let (value, at) = (10_f64.powf(decade), y(10_f64.powf(decade)));
        // Writing to a string can't fail.
        let _ = write!(
            out,
            "<path d=\"M{LEFT} {at:.1}H{:.0}\" stroke=\"#ddd\"/><text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            WIDTH - RIGHT,
            LEFT - 8.0,
            at + 4.0,
            number(value)
        );
        decade += 1.0;
    }
    let group = (WIDTH - LEFT - RIGHT) / cells.len() as f64;
    for (index, cell) in cells.iter().enumerate() {
        let start = LEFT + group * index as f64;
        let _ = write!(
            out,
            "<text x=\"{:.1}\" y=\"{:.0}\" text-anchor=\"middle\">{cell}</text>",
            start + group / 2.0,
            HEIGHT - BOTTOM + 18.0
        );
        let here: Vec<(Kind, Spread)> = kinds
            .iter()
            .filter_map(|kind| Some((*kind, section.spread(cell, *kind, column)?)))
            .collect();
        let width = (group * 0.8 / here.len() as f64).min(60.0);
        let first = start + (group - width * here.len() as f64) / 2.0;
        for (place, (kind, spread)) in here.into_iter().enumerate() {
            out.push_str(&bar(first + width * place as f64, width, kind, spread, &y));
        }
    }
    out.push_str("</svg>\n");
    Some(out)
}

fn frame(section: &Section, column: &str, kinds: &[Kind]) -> String {
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"11\">\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\
         <text x=\"{LEFT}\" y=\"22\" font-size=\"15\">{} {}: {column}</text>",
        section.id, section.title
    );
    for (index, kind) in kinds.iter().enumerate() {
        let x = LEFT + 110.0 * index as f64;
        let _ = write!(
            out,
            "<rect x=\"{x:.0}\" y=\"34\" width=\"10\" height=\"10\" fill=\"{}\"/><text x=\"{:.0}\" y=\"43\">{}</text>",
            colour(*kind),
            x + 15.0,
            kind.name()
        );
    }
    out
}

fn bar(x: f64, width: f64, kind: Kind, spread: Spread, y: &impl Fn(f64) -> f64) -> String {
    let (top, base) = (y(spread.median), HEIGHT - BOTTOM);
    let middle = x + width / 2.0;
    format!(
        "<rect x=\"{:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{}\"/>\
         <path d=\"M{middle:.1} {:.1}V{:.1}\" stroke=\"#222\"/>\
         <text x=\"{middle:.1}\" y=\"{:.1}\" text-anchor=\"middle\" font-size=\"9\">{}</text>",
        x + 1.0,
        width - 2.0,
        (base - top).max(0.5),
        colour(kind),
        y(spread.min),
        y(spread.max),
        y(spread.max) - 4.0,
        number(spread.median)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Sample, cost};

    #[test]
    fn a_drawing_has_a_bar_for_every_server_of_every_case_and_nothing_gives_none() {
        let sample = |cell: &str, kind, value| Sample {
            cell: cell.to_owned(),
            axis: None,
            kind,
            metrics: vec![cost("ms", value)],
        };
        let mut section = Section {
            id: "A",
            title: "churn",
            samples: vec![
                sample("N=1", Kind::Leadsman, 0.5),
                sample("N=1", Kind::Floor, 0.0),
                sample("N=2", Kind::Leadsman, 700.0),
            ],
            failures: Vec::new(),
        };
        let drawing = svg(&section).unwrap();
        assert_eq!(drawing.matches("stroke=\"#222\"").count(), 3);
        assert!(!drawing.contains("NaN") && !drawing.contains("inf"));
        section.samples.clear();
        assert_eq!(svg(&section), None);
    }
}

//! Tables, JSON and YAML on standard output.

use std::io::{self, Write};
use std::time::Duration;

use clap::ValueEnum;
use serde::Serialize;

use super::Failure;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    Table,
    Json,
    Yaml,
}

/// The flag every reading verb has.
#[derive(Debug, clap::Args)]
pub(super) struct Output {
    /// How to print the answer.
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(super) output: Format,
}

/// Rows under a header, each column as wide as its widest cell.
#[derive(Debug)]
pub(super) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new<const N: usize>(header: [&str; N]) -> Self {
        Self {
            rows: vec![header.map(str::to_owned).to_vec()],
        }
    }

    /// Adds a row. Cells come from servers and registries: what could steer a terminal is replaced, and an empty cell
    /// becomes a dash, so that columns can be counted.
    pub(super) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.map(|cell| visible(&cell)).to_vec());
    }

    /// Takes a column out that nobody would look at.
    pub(super) fn drop_column(&mut self, name: &str) {
        let names = self.rows.first().into_iter().flatten();
        if let Some(column) = names.into_iter().position(|cell| cell == name) {
            for row in &mut self.rows {
                row.remove(column);
            }
        }
    }

    pub(super) fn render(&self) -> String {
        let columns = self.rows.first().map_or(0, Vec::len);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                line.push_str(&format!("{cell:width$}  "));
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// Text from elsewhere, safe for a terminal and on one line.
pub(super) fn visible(text: &str) -> String {
    if text.is_empty() {
        return "-".to_owned();
    }
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

/// The innermost reason of an error: the outer ones only say that something failed.
pub(super) fn innermost(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(cause) = innermost.source() {
        innermost = cause;
    }
    innermost.to_string()
}

/// The two largest units are all a person reads: `2d 4h`, `5m 3s`, `12s`.
pub(super) fn age(age: Duration) -> String {
    let seconds = age.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, minutes) => format!("{minutes}m{}s", seconds % 60),
        (0, hours, minutes) => format!("{hours}h{minutes}m"),
        (days, hours, _) => format!("{days}d{hours}h"),
    }
}

pub(super) fn json<T: Serialize>(value: &T) -> Result<String, Failure> {
    let mut text = serde_json::to_string_pretty(value).map_err(Failure::from_error)?;
    text.push('\n');
    Ok(text)
}

pub(super) fn yaml<T: Serialize>(value: &T) -> Result<String, Failure> {
    serde_saphyr::to_string(value).map_err(Failure::from_error)
}

/// Prints `value` as JSON or YAML, or what `table` makes of it.
pub(super) fn show<T: Serialize>(value: &T, format: Format, table: impl FnOnce(&T) -> String) -> Result<(), Failure> {
    print(&match format {
        Format::Table => table(value),
        Format::Json => json(value)?,
        Format::Yaml => yaml(value)?,
    })
}

pub(super) fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    written.map_err(|error| {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Failure::NobodyReads
        } else {
            Failure::Other(format!("standard output: {error}"))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_hostile_cells_stay_on_their_line() {
        let mut table = Table::new(["NAME", "STATE", "WHY"]);
        table.row(["a".to_owned(), "live".to_owned(), String::new()]);
        table.row(["longer".to_owned(), "x\u{1b}[31m\n".to_owned(), "é".to_owned()]);
        assert_eq!(
            table.render(),
            "NAME    STATE    WHY\na       live     -\nlonger  x\u{fffd}[31m\u{fffd}  é\n"
        );
    }

    #[test]
    fn an_age_has_at_most_two_units() {
        let shown: Vec<_> = [0, 59, 61, 3600, 90_000].map(|s| age(Duration::from_secs(s))).to_vec();
        assert_eq!(shown, ["0s", "59s", "1m1s", "1h0m", "1d1h"]);
    }
}

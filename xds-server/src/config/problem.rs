//! What is wrong with a configuration, where, and how to mend it.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

/// A longer line is no configuration a person wrote, and a caret under it helps nobody.
const LONGEST_SNIPPET: usize = 160;

/// Whether a file with the problem can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Error,
    /// The file works, and somebody should look at it.
    Warning,
}

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    pub severity: Severity,
    /// Counted from one; `None` when the value comes from a flag, or from nowhere.
    pub line: Option<u64>,
    /// Counted from one, in characters.
    pub column: Option<u64>,
    /// The key in dots, such as `sources.shop.etcd.endpoints[0]`, or the flag; empty for the file as a whole.
    pub key: String,
    pub message: String,
    /// How to mend it.
    pub hint: Option<String>,
    /// The line as it stands in the file.
    #[serde(skip)]
    pub source_line: Option<String>,
}

/// Everything that is wrong with one file, in the order of its lines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problems {
    pub file: PathBuf,
    pub problems: Vec<Problem>,
}

impl Problem {
    /// A problem of the file as a whole.
    pub(super) fn of_file(message: String, hint: &str) -> Self {
        Self {
            severity: Severity::Error,
            line: None,
            column: None,
            key: String::new(),
            message,
            hint: Some(hint.to_owned()),
            source_line: None,
        }
    }

    fn write(&self, file: &Path, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", file.display())?;
        if let (Some(line), Some(column)) = (self.line, self.column) {
            write!(f, "{line}:{column}:")?;
        }
        match self.severity {
            Severity::Error => {}
            Severity::Warning => f.write_str(" warning:")?,
        }
        if !self.key.is_empty() {
            write!(f, " {}:", self.key)?;
        }
        writeln!(f, " {}", self.message)?;
        if let (Some(text), Some(line), Some(column)) = (&self.source_line, self.line, self.column) {
            let gutter = line.to_string();
            let before = usize::try_from(column.saturating_sub(1)).unwrap_or(0);
            writeln!(f, "  {gutter} | {text}")?;
            writeln!(f, "  {:1$} | {2:3$}^", "", gutter.len(), "", before)?;
        }
        if let Some(hint) = &self.hint {
            writeln!(f, "  hint: {hint}")?;
        }
        Ok(())
    }
}

impl Problems {
    pub(super) fn new(file: &Path, mut problems: Vec<Problem>) -> Self {
        problems.sort_by(|a, b| (a.line, a.column, &a.key).cmp(&(b.line, b.column, &b.key)));
        Self {
            file: file.to_owned(),
            problems,
        }
    }

    pub fn has_errors(&self) -> bool {
        self.problems.iter().any(|problem| problem.severity == Severity::Error)
    }

    pub fn is_empty(&self) -> bool {
        self.problems.is_empty()
    }
}

impl fmt::Display for Problems {
    /// Every problem with its place, the line it is on and a hint; each ends its own line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.problems
            .iter()
            .try_for_each(|problem| problem.write(&self.file, f))
    }
}

impl std::error::Error for Problems {}

/// The line to show under a message; none when it would be unreadable or could steer a terminal.
pub(super) fn source_line(text: &str, line: u64) -> Option<String> {
    let index = usize::try_from(line.checked_sub(1)?).ok()?;
    let line = text.lines().nth(index)?;
    if line.chars().count() > LONGEST_SNIPPET {
        return None;
    }
    // One character for one: the caret stays under its column.
    Some(line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect())
}

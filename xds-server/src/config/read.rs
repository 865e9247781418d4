//! From a file to a [`Config`], or to everything that is wrong with it.

use std::path::Path;

use super::check::{self, Finding, Origin};
use super::decode;
use super::mistake::{Kind, Mistake};
use super::problem::{self, Problem, Problems, Severity};
use super::tree::{Node, Step};
use super::{Config, Overrides};

/// Enough for a hundred thousand services with settings of their own; more is not a configuration.
const MAX_FILE_BYTES: u64 = 16 << 20;

/// A file as it was understood.
#[derive(Clone, Debug)]
pub struct Reading {
    /// The configuration, unless a problem is an error.
    pub config: Option<Config>,
    /// Errors and warnings.
    pub problems: Problems,
}

impl Reading {
    /// The configuration without its warnings.
    ///
    /// # Errors
    /// Every problem, when one of them is an error.
    pub fn into_result(self) -> Result<Config, Problems> {
        self.config.ok_or(self.problems)
    }
}

/// Reads a file and lays the overrides over it.
///
/// # Errors
/// Every problem of the file at once.
pub fn load(path: &Path, overrides: &Overrides) -> Result<Config, Problems> {
    read(path, overrides).into_result()
}

/// As [`load`], for a text that is at hand; `path` names it in messages, and relative paths are resolved against its
/// folder.
///
/// # Errors
/// Every problem of the text at once.
pub fn parse(text: &str, path: &Path, overrides: &Overrides) -> Result<Config, Problems> {
    understand(text, path, overrides).into_result()
}

/// As [`load`], with the warnings.
pub fn read(path: &Path, overrides: &Overrides) -> Reading {
    match contents(path) {
        Ok(text) => understand(&text, path, overrides),
        Err(problem) => Reading {
            config: None,
            problems: Problems::new(path, vec![*problem]),
        },
    }
}

/// The text of the file.
pub(super) fn contents(path: &Path) -> Result<String, Box<Problem>> {
    let unreadable = |error: std::io::Error| {
        Box::new(Problem::of_file(
            format!("the file can't be read: {error}"),
            "name the file with --config; `leadsman config defaults` prints one to start from",
        ))
    };
    let size = std::fs::metadata(path).map_err(unreadable)?.len();
    if size > MAX_FILE_BYTES {
        return Err(Box::new(Problem::of_file(
            format!("the file is {size} bytes long, the limit is {MAX_FILE_BYTES}"),
            "name a configuration file with --config",
        )));
    }
    let bytes = std::fs::read(path).map_err(unreadable)?;
    String::from_utf8(bytes).map_err(|_| {
        Box::new(Problem::of_file(
            "the file is not UTF-8".to_owned(),
            "save the file as UTF-8",
        ))
    })
}

pub(super) fn understand(text: &str, path: &Path, overrides: &Overrides) -> Reading {
    let mut tree = match Node::parse(text) {
        Ok(tree) => tree,
        Err(error) => {
            let problem = Problem {
                severity: Severity::Error,
                line: error.mark.map(|mark| mark.line),
                column: error.mark.map(|mark| mark.column),
                key: String::new(),
                message: error.message,
                hint: Some("the file is not YAML here; nothing after this place was checked".to_owned()),
                source_line: error.mark.and_then(|mark| problem::source_line(text, mark.line)),
            };
            return Reading {
                config: None,
                problems: Problems::new(path, vec![problem]),
            };
        }
    };
    let mut findings = check::check_written(&mut tree);
    let (config, mistakes) = decode::decode::<Config>(&mut tree);
    let config = config.map(|mut config| {
        overrides.apply(&mut config);
        config.resolve_paths(path.parent().unwrap_or(Path::new("")));
        findings.extend(check::check(&config, &tree, overrides));
        config
    });
    let mistakes = mistakes.iter().map(|mistake| of_mistake(mistake, &tree, text));
    let findings = findings.into_iter().map(|finding| of_finding(finding, &tree, text));
    let problems = Problems::new(path, mistakes.chain(findings).collect());
    Reading {
        config: config.filter(|_| !problems.has_errors()),
        problems,
    }
}

impl Overrides {
    fn apply(&self, config: &mut Config) {
        if let Some(id) = &self.node_id {
            config.node.id.clone_from(id);
        }
        if let Some(listen) = self.xds_listen {
            config.xds.listen = listen;
        }
        if let Some(listen) = self.admin_listen {
            config.admin.listen = listen;
        }
    }
}

fn of_mistake(mistake: &Mistake, tree: &Node, text: &str) -> Problem {
    let (on_key, message, hint) = match &mistake.kind {
        Kind::UnknownKey { known } => (true, "unknown key".to_owned(), suggest(last_key(&mistake.path), known)),
        Kind::UnknownSource { given, known } => (true, "unknown kind of source".to_owned(), suggest(given, known)),
        Kind::UnknownWord { given, known } => (
            false,
            format!("{given:?} is not one of {}", known.join(", ")),
            suggest(given, known),
        ),
        Kind::NotOneSource { given: 0, known } => (
            true,
            "the kind of the source is missing".to_owned(),
            Some(format!("put one of these under it: {}", known.join(", "))),
        ),
        Kind::NotOneSource { given, .. } => (
            true,
            format!("{given} kinds under one source"),
            Some("a source has exactly one kind: give each its own name under `sources:`".to_owned()),
        ),
        Kind::Missing { key } => (
            true,
            format!("the key `{key}` is missing"),
            Some(format!("add `{key}:` here")),
        ),
        Kind::Invalid(message) => (false, message.clone(), None),
    };
    let mark = if on_key {
        tree.key_mark(&mistake.path)
    } else {
        tree.value_mark(&mistake.path)
    };
    let mark = mark.unwrap_or(tree.mark);
    Problem {
        severity: Severity::Error,
        line: Some(mark.line),
        column: Some(mark.column),
        key: dotted(&mistake.path),
        message,
        hint,
        source_line: problem::source_line(text, mark.line),
    }
}

fn of_finding(finding: Finding, tree: &Node, text: &str) -> Problem {
    let (key, mark) = match &finding.origin {
        Origin::Value(path) => (dotted(path), tree.value_mark(path)),
        Origin::Key(path) => (dotted(path), tree.key_mark(path)),
        Origin::Flag(flag) => ((*flag).to_owned(), None),
    };
    Problem {
        severity: finding.severity,
        line: mark.map(|mark| mark.line),
        column: mark.map(|mark| mark.column),
        key,
        message: finding.message,
        hint: Some(finding.hint),
        source_line: mark.and_then(|mark| problem::source_line(text, mark.line)),
    }
}

fn last_key(path: &[Step]) -> &str {
    match path.last() {
        Some(Step::Key(key)) => key,
        Some(Step::Index(_)) | None => "",
    }
}

fn dotted(path: &[Step]) -> String {
    let mut text = String::new();
    for step in path {
        match step {
            Step::Index(index) => text.push_str(&format!("[{index}]")),
            Step::Key(key) => {
                if !text.is_empty() {
                    text.push('.');
                }
                let plain = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
                if plain {
                    text.push_str(key);
                } else {
                    text.push_str(&format!("{key:?}"));
                }
            }
        }
    }
    text
}

/// The nearest known word, or all of them.
fn suggest(given: &str, known: &[&str]) -> Option<String> {
    let mut ranked: Vec<_> = known.iter().map(|word| (distance(given, word), word)).collect();
    ranked.sort_unstable();
    match ranked.as_slice() {
        [] => None,
        // Of two words that are equally near, neither is what was meant.
        [(first, word), rest @ ..] if *first <= 2 && *first < word.len() && rest.iter().all(|(d, _)| d > first) => {
            Some(format!("did you mean `{word}`?"))
        }
        _ => Some(format!("known here: {}", known.join(", "))),
    }
}

/// Letters to add, drop or replace to get from one word to the other. Hostile keys are long: a word that can't be
/// near is not compared.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().collect());
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut above_left = i;
        let mut left = i + 1;
        let mut next = Vec::with_capacity(row.len());
        next.push(left);
        for (y, above) in b.iter().zip(row.iter().skip(1)) {
            let replaced = above_left + usize::from(x != y);
            left = replaced.min(above + 1).min(left + 1);
            above_left = *above;
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or(a.len())
}

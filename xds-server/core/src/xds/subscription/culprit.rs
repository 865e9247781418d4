//! Which resource a refusal is about, in the client's own words.
//!
//! The protocol refuses whole responses; only the text says which resource was wrong. Envoy writes
//! `Error adding/updating cluster(s) NAME: why, NAME: why` for clusters, and quotes the message with its `name:` or
//! `cluster_name:` where a value breaks a rule of the API; gRPC quotes the name. A text may mention innocents too, so how
//! it does so tells a statement from a hint.

use std::collections::BTreeSet;

/// What a text says about who is to blame.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Blame<'a> {
    /// The text has the form in which clients name culprits.
    Stated(BTreeSet<&'a str>),
    /// Some of the suspects, and not all, are mentioned in some way.
    Hinted(BTreeSet<&'a str>),
    Nobody,
}

/// More of a text is not read: it is quoted resources, and a client may write what it likes.
const MAX_READ_BYTES: usize = 64 << 10;

/// Reads a refusal for the names of `suspects`.
pub(super) fn read<'a>(text: &str, suspects: &BTreeSet<&'a str>) -> Blame<'a> {
    let end = (0..=MAX_READ_BYTES.min(text.len()))
        .rev()
        .find(|end| text.is_char_boundary(*end))
        .unwrap_or(0);
    let words = words(text.get(..end).unwrap_or_default());
    let mut stated = BTreeSet::new();
    let mut mentioned = BTreeSet::new();
    let mut before = Word::default();
    let mut in_list = false;
    for word in words {
        in_list |= before.text == "s";
        if let Some(name) = suspects
            .get(word.text)
            .or_else(|| suspects.get(word.text.trim_end_matches(['.', ':'])))
        {
            mentioned.insert(*name);
            let listed = word.text.len() > name.len() && in_list && (before.text == "s" || before.ends == Some(','));
            if listed || ["name:", "cluster_name:"].contains(&before.text) {
                stated.insert(*name);
            }
        }
        before = word;
    }
    if !stated.is_empty() {
        Blame::Stated(stated)
    } else if !mentioned.is_empty() && (mentioned.len() < suspects.len() || suspects.len() == 1) {
        Blame::Hinted(mentioned)
    } else {
        Blame::Nobody
    }
}

/// A run of characters that names are made of, and the other character that ends it.
#[derive(Clone, Copy, Debug, Default)]
struct Word<'t> {
    text: &'t str,
    ends: Option<char>,
}

fn words(text: &str) -> impl Iterator<Item = Word<'_>> {
    let is_end = |c: char| !(c.is_ascii_alphanumeric() || "._:/|-%@".contains(c));
    let pieces = text.split_inclusive(is_end).map(move |piece| {
        let ends = piece.chars().next_back().filter(|c| is_end(*c));
        let text = ends.map_or(piece, |end| piece.strip_suffix(end).unwrap_or(piece));
        Word { text, ends }
    });
    pieces.filter(|word| !word.text.is_empty())
}

//! Which clients a request is about.

use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use envoy_types::pb::envoy::r#type::matcher::v3::{NodeMatcher, RegexMatcher, StringMatcher};
use regex::{Regex, RegexBuilder};
use tonic::Status;

/// Memory that one compiled expression may take.
const MAX_REGEX_BYTES: usize = 1 << 20;
/// Every client is held against every matcher, and every expression takes memory.
const MAX_MATCHERS: usize = 64;

/// Any of these; none of them is everybody.
#[derive(Debug)]
pub(super) struct Matchers(Vec<Option<Pattern>>);

#[derive(Debug)]
struct Pattern {
    what: What,
    ignore_case: bool,
}

#[derive(Debug)]
enum What {
    Exact(String),
    Prefix(String),
    Suffix(String),
    Contains(String),
    Regex(Regex),
}

impl Matchers {
    /// # Errors
    /// For a matcher that means nothing, or asks for what is not known here.
    pub(super) fn new(matchers: Vec<NodeMatcher>) -> Result<Self, Status> {
        if matchers.len() > MAX_MATCHERS {
            let message = format!("node_matchers: more than {MAX_MATCHERS}");
            return Err(Status::invalid_argument(message));
        }
        matchers.into_iter().map(node).collect::<Result<_, _>>().map(Self)
    }

    pub(super) fn accept(&self, node_id: &str) -> bool {
        let Self(any) = self;
        let accepts = |pattern: &Option<Pattern>| pattern.as_ref().is_none_or(|pattern| pattern.accepts(node_id));
        any.is_empty() || any.iter().any(accepts)
    }
}

/// `None` matches every node.
fn node(matcher: NodeMatcher) -> Result<Option<Pattern>, Status> {
    let NodeMatcher {
        node_id,
        node_metadatas,
    } = matcher;
    if !node_metadatas.is_empty() {
        let message = "node_matchers: the metadata of nodes is not kept here; match by node_id";
        return Err(Status::unimplemented(message));
    }
    node_id.map(pattern).transpose()
}

fn pattern(matcher: StringMatcher) -> Result<Pattern, Status> {
    let StringMatcher {
        ignore_case,
        match_pattern,
    } = matcher;
    let lower = |text: String| {
        if ignore_case { text.to_ascii_lowercase() } else { text }
    };
    let some = |text: String| {
        if text.is_empty() {
            Err(Status::invalid_argument("node_matchers: an empty pattern"))
        } else {
            Ok(lower(text))
        }
    };
    let what = match match_pattern {
        Some(MatchPattern::Exact(text)) => What::Exact(lower(text)),
        Some(MatchPattern::Prefix(text)) => What::Prefix(some(text)?),
        Some(MatchPattern::Suffix(text)) => What::Suffix(some(text)?),
        Some(MatchPattern::Contains(text)) => What::Contains(some(text)?),
        Some(MatchPattern::SafeRegex(expression)) => What::Regex(regex(&expression)?),
        Some(MatchPattern::Custom(_)) => {
            return Err(Status::unimplemented(
                "node_matchers: custom matchers are not known here",
            ));
        }
        None => return Err(Status::invalid_argument("node_matchers: a node_id without a pattern")),
    };
    Ok(Pattern { what, ignore_case })
}

/// The whole id has to match, and letters are told apart whatever `ignore_case` says: so the API wants it.
fn regex(matcher: &RegexMatcher) -> Result<Regex, Status> {
    if matcher.regex.is_empty() {
        return Err(Status::invalid_argument("node_matchers: an empty expression"));
    }
    RegexBuilder::new(&format!("^(?:{})$", matcher.regex))
        .size_limit(MAX_REGEX_BYTES)
        .dfa_size_limit(MAX_REGEX_BYTES)
        .build()
        .map_err(|error| Status::invalid_argument(format!("node_matchers: {error}")))
}

impl Pattern {
    fn accepts(&self, node_id: &str) -> bool {
        let folded = self.ignore_case.then(|| node_id.to_ascii_lowercase());
        let id = folded.as_deref().unwrap_or(node_id);
        match &self.what {
            What::Exact(text) => id == text,
            What::Prefix(text) => id.starts_with(text),
            What::Suffix(text) => id.ends_with(text),
            What::Contains(text) => id.contains(text),
            What::Regex(regex) => regex.is_match(node_id),
        }
    }
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::envoy::r#type::matcher::v3::StructMatcher;
    use tonic::Code;

    use super::*;

    const NODES: [&str; 4] = ["edge-1", "edge-2", "Edge-3", "inner-1"];

    fn by(match_pattern: MatchPattern, ignore_case: bool) -> NodeMatcher {
        NodeMatcher {
            node_id: Some(StringMatcher {
                ignore_case,
                match_pattern: Some(match_pattern),
            }),
            node_metadatas: Vec::new(),
        }
    }

    fn expression(regex: &str) -> MatchPattern {
        MatchPattern::SafeRegex(RegexMatcher {
            regex: regex.to_owned(),
            ..RegexMatcher::default()
        })
    }

    #[track_caller]
    fn check(matchers: Vec<NodeMatcher>, expected: &[&str]) {
        let matchers = Matchers::new(matchers).unwrap();
        let accepted: Vec<&str> = NODES.into_iter().filter(|node| matchers.accept(node)).collect();
        assert_eq!(accepted, expected);
    }

    #[test]
    fn a_node_is_matched_by_its_id_in_every_way_the_api_has() {
        check(vec![], &NODES);
        check(vec![NodeMatcher::default()], &NODES);
        check(vec![by(MatchPattern::Exact("edge-1".into()), false)], &["edge-1"]);
        check(vec![by(MatchPattern::Exact("EDGE-1".into()), false)], &[]);
        check(vec![by(MatchPattern::Exact("EDGE-1".into()), true)], &["edge-1"]);
        let prefix = |ignore_case| vec![by(MatchPattern::Prefix("edge-".into()), ignore_case)];
        check(prefix(false), &["edge-1", "edge-2"]);
        check(prefix(true), &["edge-1", "edge-2", "Edge-3"]);
        check(
            vec![by(MatchPattern::Suffix("-1".into()), false)],
            &["edge-1", "inner-1"],
        );
        check(vec![by(MatchPattern::Contains("nn".into()), false)], &["inner-1"]);
        check(vec![by(expression("edge-[12]"), false)], &["edge-1", "edge-2"]);
        check(vec![by(expression("edge"), true)], &[]);
    }

    #[test]
    fn several_matchers_are_alternatives() {
        let exact = |id: &str| by(MatchPattern::Exact(id.to_owned()), false);
        check(
            vec![exact("edge-2"), exact("inner-1"), exact("x")],
            &["edge-2", "inner-1"],
        );
    }

    #[test]
    fn what_can_not_be_matched_is_said_and_matches_nobody_in_silence() {
        let code = |matcher: NodeMatcher| Matchers::new(vec![matcher]).unwrap_err().code();
        let metadata = NodeMatcher {
            node_metadatas: vec![StructMatcher::default()],
            ..NodeMatcher::default()
        };
        assert_eq!(code(metadata), Code::Unimplemented);
        assert_eq!(
            code(by(MatchPattern::Custom(Default::default()), false)),
            Code::Unimplemented
        );
        assert_eq!(
            code(by(MatchPattern::Prefix(String::new()), false)),
            Code::InvalidArgument
        );
        assert_eq!(code(by(expression("("), false)), Code::InvalidArgument);
        assert_eq!(code(by(expression("(a{1000}){1000}"), false)), Code::InvalidArgument);
        let bare = NodeMatcher {
            node_id: Some(StringMatcher::default()),
            ..NodeMatcher::default()
        };
        assert_eq!(code(bare), Code::InvalidArgument);
        let many = vec![NodeMatcher::default(); MAX_MATCHERS + 1];
        assert_eq!(Matchers::new(many).unwrap_err().code(), Code::InvalidArgument);
    }
}

//! The JSON of the API server: pages of a list, lines of a watch, and the status that says why there are none.
//!
//! Pure. Only a list with its version is a list; whatever else answers with success is an error and never an empty one.

use std::borrow::Cow;
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::Error;
use crate::layout::entry::brief;
use crate::text::shorten;

/// Of what a server says about a refusal.
const MAX_REASON_BYTES: usize = 200;

/// A page of a list; the items are read one by one, so that one bad item is its own affair.
#[derive(Debug)]
pub(super) struct Page<'a> {
    pub(super) version: String,
    /// What to ask for the next page with; `None` after the last.
    pub(super) next: Option<String>,
    pub(super) items: Vec<&'a RawValue>,
}

/// A line of a watch.
#[derive(Debug)]
pub(super) enum Line<'a> {
    /// Added or modified: an object as it is now.
    Is(&'a RawValue),
    /// An object as it was last.
    Was(&'a RawValue),
    /// Everything up to this version has been told.
    Bookmark(String),
    /// The end.
    Failed(Fault),
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Fault {
    /// The server does not know the asked version any more.
    Expired(String),
    /// The server asks to come again later.
    Busy {
        after: Option<Duration>,
        reason: String,
    },
    Ended(Error),
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Expired(reason) => Self::Resync(reason),
            Fault::Busy { reason, .. } => Self::Unavailable(reason),
            Fault::Ended(error) => error,
        }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Ended(error)
    }
}

#[derive(Deserialize)]
struct RawList<'a> {
    #[serde(borrow)]
    kind: Cow<'a, str>,
    metadata: ListMeta,
    #[serde(borrow)]
    items: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListMeta {
    resource_version: String,
    r#continue: Option<String>,
}

#[derive(Deserialize)]
struct RawLine<'a> {
    #[serde(borrow)]
    r#type: Cow<'a, str>,
    #[serde(borrow)]
    object: &'a RawValue,
}

#[derive(Deserialize)]
struct Marked {
    metadata: Mark,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Mark {
    resource_version: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Status {
    code: u16,
    message: String,
}

/// A page of EndpointSlices, or of nothing but their metadata.
pub(super) fn page(body: &[u8]) -> Result<Page<'_>, Error> {
    let unreadable = |reason: &str| Error::Unavailable(brief(&format!("the listing can't be read: {reason}")));
    let list: RawList<'_> = serde_json::from_slice(body).map_err(|error| unreadable(&error.to_string()))?;
    let items = match (list.kind.as_ref(), list.items) {
        ("EndpointSliceList" | "PartialObjectMetadataList", Some(items)) => items,
        // Of lists of metadata, and of no others, a real server writes the empty one so.
        ("PartialObjectMetadataList", None) => Vec::new(),
        ("EndpointSliceList", None) => return Err(unreadable("it has no items")),
        (other, _) => return Err(unreadable(&format!("it is a {other:?}"))),
    };
    if list.metadata.resource_version.is_empty() {
        return Err(unreadable("it has no resourceVersion"));
    }
    Ok(Page {
        version: list.metadata.resource_version,
        next: list.metadata.r#continue.filter(|next| !next.is_empty()),
        items,
    })
}

/// A line of a watch.
pub(super) fn line(text: &[u8]) -> Result<Line<'_>, Error> {
    let unreadable = |reason: &str| Error::Unavailable(brief(&format!("the watch said something unknown: {reason}")));
    let raw: RawLine<'_> = serde_json::from_slice(text).map_err(|error| unreadable(&error.to_string()))?;
    match raw.r#type.as_ref() {
        "ADDED" | "MODIFIED" => Ok(Line::Is(raw.object)),
        "DELETED" => Ok(Line::Was(raw.object)),
        "BOOKMARK" => {
            let marked: Marked =
                serde_json::from_str(raw.object.get()).map_err(|error| unreadable(&error.to_string()))?;
            Ok(Line::Bookmark(marked.metadata.resource_version))
        }
        "ERROR" => {
            let status: Status = serde_json::from_str(raw.object.get()).unwrap_or_default();
            Ok(Line::Failed(fault(status.code, &status.message, None)))
        }
        other => Err(unreadable(&format!("an event of type {other:?}"))),
    }
}

/// What a status of HTTP and its body mean.
pub(super) fn refusal(code: u16, body: &[u8], after: Option<Duration>) -> Fault {
    let status: Status = serde_json::from_slice(body).unwrap_or_default();
    if status.message.is_empty() {
        fault(code, String::from_utf8_lossy(body).trim(), after)
    } else {
        fault(code, &status.message, after)
    }
}

fn fault(code: u16, message: &str, after: Option<Duration>) -> Fault {
    let reason = format!("{code}: {}", shorten(message, MAX_REASON_BYTES));
    Fault::Ended(match code {
        401 | 403 => Error::Denied(reason),
        410 => return Fault::Expired(reason),
        429 => return Fault::Busy { after, reason },
        404 => Error::Misconfigured(format!(
            "{reason} (discovery.k8s.io/v1 is served by Kubernetes 1.21 and newer)"
        )),
        400 | 405 | 406 | 422 => Error::Misconfigured(reason),
        300..=399 => Error::Misconfigured(format!("{reason} (redirects are not followed)")),
        _ => Error::Unavailable(reason),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn say(fault: Fault) -> String {
        match fault {
            Fault::Expired(reason) => format!("expired {reason}"),
            Fault::Busy { after, reason } => format!("busy {after:?} {reason}"),
            Fault::Ended(error) => format!("{error:?}"),
        }
    }

    fn shown(text: &str) -> String {
        match line(text.as_bytes()) {
            Ok(Line::Is(object)) => format!("is {object}"),
            Ok(Line::Was(object)) => format!("was {object}"),
            Ok(Line::Bookmark(version)) => format!("bookmark {version}"),
            Ok(Line::Failed(fault)) => say(fault),
            Err(error) => format!("error {error}"),
        }
    }

    #[test]
    fn the_lines_of_a_watch_are_told_apart() {
        assert_eq!(shown(r#"{"type":"ADDED","object":{"a":1}}"#), r#"is {"a":1}"#);
        assert_eq!(shown(r#"{"type":"MODIFIED","object":{}}"#), "is {}");
        assert_eq!(shown(r#"{"type":"DELETED","object":{}}"#), "was {}");
        // As kube-apiserver 1.36 writes them.
        let bookmark = r#"{"type":"BOOKMARK","object":{"kind":"EndpointSlice","apiVersion":"discovery.k8s.io/v1","metadata":{"resourceVersion":"224"},"addressType":"","endpoints":null,"ports":null}}"#;
        assert_eq!(shown(bookmark), "bookmark 224");
        let gone = r#"{"type":"ERROR","object":{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"too old resource version: 218 (224)","reason":"Expired","code":410}}"#;
        assert_eq!(shown(gone), "expired 410: too old resource version: 218 (224)");
        let odd = r#"{"type":"ERROR","object":7}"#;
        assert_eq!(shown(odd), r#"Unavailable("0: ")"#);
        for unknown in [
            "",
            "{}",
            "null",
            r#"{"type":"SYNC","object":{}}"#,
            r#"{"type":"BOOKMARK","object":{}}"#,
        ] {
            assert!(
                shown(unknown).starts_with("error the watch said something unknown"),
                "{unknown}"
            );
        }
    }

    #[test]
    fn only_a_list_with_its_version_is_a_list() {
        let list = |kind: &str, meta: &str, items: &str| {
            page(format!(r#"{{"kind":"{kind}","metadata":{meta},"items":{items}}}"#).as_bytes())
                .map(|page| (page.version, page.next, page.items.len()))
        };
        let meta = r#"{"resourceVersion":"5"}"#;
        assert_eq!(
            list("EndpointSliceList", meta, "[]").unwrap(),
            ("5".to_owned(), None, 0)
        );
        let more = r#"{"resourceVersion":"5","continue":"abc","remainingItemCount":7}"#;
        let next = Some("abc".to_owned());
        assert_eq!(
            list("EndpointSliceList", more, "[{},7]").unwrap(),
            ("5".to_owned(), next, 2)
        );
        assert!(list("EndpointSliceList", meta, "null").is_err());
        assert_eq!(list("PartialObjectMetadataList", meta, "null").unwrap().2, 0);
        assert!(list("PodList", meta, "[]").is_err());
        assert!(list("EndpointSliceList", "{}", "[]").is_err());
        assert!(list("EndpointSliceList", r#"{"resourceVersion":""}"#, "[]").is_err());
        for body in ["", "null", "[]", "{}", "<html>", "{\"kind\":"] {
            assert!(page(body.as_bytes()).is_err(), "{body:?}");
        }
    }

    #[test]
    fn a_status_decides_how_the_session_ends() {
        let of = |code: u16, body: &str| say(refusal(code, body.as_bytes(), Some(Duration::from_secs(1))));
        let status = r#"{"kind":"Status","message":"endpointslices is forbidden","code":403}"#;
        assert_eq!(of(403, status), r#"Denied("403: endpointslices is forbidden")"#);
        assert_eq!(of(401, "Unauthorized\n"), r#"Denied("401: Unauthorized")"#);
        assert_eq!(of(410, ""), "expired 410: ");
        assert_eq!(of(429, "slow"), "busy Some(1s) 429: slow");
        assert!(of(404, "").starts_with("Misconfigured"));
        assert!(of(400, "").starts_with("Misconfigured"));
        assert!(of(302, "").starts_with("Misconfigured"));
        assert!(of(504, "Too large resource version").starts_with("Unavailable"));
        assert!(of(500, &"x".repeat(9999)).len() < 300);
    }

    proptest! {
        #![proptest_config(leadsman_property::cases(256))]
        #[test]
        fn nothing_a_server_writes_can_panic(text in ".*", code in any::<u16>()) {
            let _ = (page(text.as_bytes()).is_ok(), line(text.as_bytes()).is_ok(), refusal(code, text.as_bytes(), None));
            let event = serde_json::json!({ "type": text, "object": text }).to_string();
            let _ = line(event.as_bytes()).is_ok();
        }
    }
}

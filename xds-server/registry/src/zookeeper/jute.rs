//! ZooKeeper's words on the wire, as far as a reader needs them.
//!
//! Pure. Every reading says whether the bytes were enough: no length that a server sends is believed before the bytes
//! are there, and nothing is allocated by it.

use super::client::{Birth, Node};

/// Operations.
pub(super) const EXISTS: i32 = 3;
pub(super) const GET_DATA: i32 = 4;
pub(super) const GET_CHILDREN: i32 = 8;
pub(super) const SYNC: i32 = 9;
pub(super) const PING: i32 = 11;
pub(super) const AUTH: i32 = 100;
pub(super) const ADD_WATCH: i32 = 106;

/// Numbers of requests that a client does not choose.
pub(super) const XID_EVENT: i32 = -1;
pub(super) const XID_PING: i32 = -2;
pub(super) const XID_AUTH: i32 = -4;

/// Answers other than success.
pub(super) const UNIMPLEMENTED: i32 = -6;
pub(super) const BAD_ARGUMENTS: i32 = -8;
pub(super) const NO_NODE: i32 = -101;
pub(super) const NO_AUTH: i32 = -102;
pub(super) const SESSION_EXPIRED: i32 = -112;
pub(super) const AUTH_FAILED: i32 = -115;
pub(super) const SESSION_MOVED: i32 = -118;
pub(super) const NEEDS_AUTH: i32 = -124;

/// The mode of a watch on a node and everything below it, which stays.
const PERSISTENT_RECURSIVE: i32 = 1;
const PASSWORD_BYTES: usize = 16;

/// The bytes ended too early, or say what can't be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an answer that is no answer of a ZooKeeper")]
pub(super) struct Garbled;

/// A message under construction.
#[derive(Debug, Default)]
pub(super) struct Output(Vec<u8>);

impl Output {
    /// A request about a path.
    pub(super) fn request(xid: i32, operation: i32) -> Self {
        Self::default().int(xid).int(operation)
    }

    pub(super) fn int(mut self, value: i32) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub(super) fn long(mut self, value: i64) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub(super) fn flag(mut self, value: bool) -> Self {
        self.0.push(u8::from(value));
        self
    }

    pub(super) fn bytes(self, value: &[u8]) -> Self {
        // What is written here is a path of the configuration, or one that a server sent within a frame.
        let mut output = self.int(i32::try_from(value.len()).unwrap_or(i32::MAX));
        output.0.extend(value);
        output
    }

    /// The message with its length.
    pub(super) fn framed(self) -> Vec<u8> {
        Self::default().bytes(&self.0).0
    }
}

/// The first message of a connection: a session of its own, and no answers from a server without a quorum.
pub(super) fn connect(timeout_ms: i32) -> Vec<u8> {
    let (protocol, seen, session) = (0, 0, 0);
    let begin = Output::default().int(protocol).long(seen).int(timeout_ms).long(session);
    begin.bytes(&[0; PASSWORD_BYTES]).flag(false).framed()
}

/// What the body of a request about a path looks like.
pub(super) fn about(path: &str, operation: i32) -> impl Fn(i32) -> Vec<u8> {
    move |xid| {
        let request = Output::request(xid, operation).bytes(path.as_bytes());
        match operation {
            ADD_WATCH => request.int(PERSISTENT_RECURSIVE).framed(),
            EXISTS | GET_DATA | GET_CHILDREN => request.flag(false).framed(),
            _ => request.framed(),
        }
    }
}

pub(super) fn auth(scheme: &str, credentials: &[u8]) -> Vec<u8> {
    let request = Output::request(XID_AUTH, AUTH).int(0);
    request.bytes(scheme.as_bytes()).bytes(credentials).framed()
}

pub(super) fn ping() -> Vec<u8> {
    Output::request(XID_PING, PING).framed()
}

/// Bytes that a server sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Input<'a>(pub(super) &'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Garbled> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Garbled)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn int(&mut self) -> Result<i32, Garbled> {
        let bytes = self.take(4)?.try_into().map_err(|_| Garbled)?;
        Ok(i32::from_be_bytes(bytes))
    }

    pub(super) fn long(&mut self) -> Result<i64, Garbled> {
        let bytes = self.take(8)?.try_into().map_err(|_| Garbled)?;
        Ok(i64::from_be_bytes(bytes))
    }

    /// Bytes with their length before them; a length of -1 means that there are none.
    pub(super) fn bytes(&mut self) -> Result<&'a [u8], Garbled> {
        match self.int()? {
            -1 => Ok(&[]),
            length => self.take(usize::try_from(length).map_err(|_| Garbled)?),
        }
    }

    pub(super) fn text(&mut self) -> Result<&'a str, Garbled> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Garbled)
    }

    /// The names below a node; `None` when they are more than `most`. In memory a short name is far larger than here.
    pub(super) fn texts(&mut self, most: usize) -> Result<Option<Vec<String>>, Garbled> {
        let count = usize::try_from(self.int()?).unwrap_or_default();
        if count > most {
            return Ok(None);
        }
        let mut texts = Vec::new();
        for _ in 0..count {
            texts.push(self.text()?.to_owned());
        }
        Ok(Some(texts))
    }

    /// The state of a node, without data.
    pub(super) fn stat(&mut self) -> Result<Node, Garbled> {
        let (czxid, mzxid) = (self.long()?, self.long()?);
        let (ctime, _mtime) = (self.long()?, self.long()?);
        let _versions = self.take(12)?;
        let owner = self.long()?;
        let _length = self.int()?;
        let children = self.int()?;
        let pzxid = self.long()?;
        Ok(Node {
            data: Vec::new(),
            birth: Birth { czxid, ctime },
            mzxid,
            newest: czxid.max(mzxid).max(pzxid),
            ephemeral: is_session(owner),
            has_children: children > 0,
        })
    }
}

/// Whether the owner of a node is a session. Containers and nodes with a time to live say so in the same place.
fn is_session(owner: i64) -> bool {
    const CONTAINER: i64 = i64::MIN;
    const TIME_TO_LIVE: u8 = 0xff;
    let [first, ..] = owner.to_be_bytes();
    owner != 0 && owner != CONTAINER && first != TIME_TO_LIVE
}

/// What a watch tells. It carries no data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Happening {
    Created,
    Deleted,
    Changed,
    /// A kind that a recursive watch does not need.
    Other,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) happening: Happening,
    pub(super) path: String,
    /// The transaction, from servers that say it.
    pub(super) zxid: Option<i64>,
}

/// Reads a notification; `None` when it says that the watch is no more.
pub(super) fn event(zxid: i64, mut body: Input<'_>) -> Result<Option<Event>, Garbled> {
    const REMOVED: std::ops::RangeInclusive<i32> = 5..=7;
    let (kind, _state) = (body.int()?, body.int()?);
    if REMOVED.contains(&kind) {
        return Ok(None);
    }
    let happening = match kind {
        1 => Happening::Created,
        2 => Happening::Deleted,
        3 => Happening::Changed,
        _ => Happening::Other,
    };
    Ok(Some(Event {
        happening,
        path: body.text()?.to_owned(),
        zxid: (zxid > 0).then_some(zxid),
    }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn requests_are_what_a_zookeeper_reads() {
        assert_eq!(ping(), [0, 0, 0, 8, 255, 255, 255, 254, 0, 0, 0, 11]);
        assert_eq!(
            about("/a", GET_DATA)(1),
            [0, 0, 0, 15, 0, 0, 0, 1, 0, 0, 0, 4, 0, 0, 0, 2, b'/', b'a', 0]
        );
        assert_eq!(
            about("/a", ADD_WATCH)(2),
            [
                0, 0, 0, 18, 0, 0, 0, 2, 0, 0, 0, 106, 0, 0, 0, 2, b'/', b'a', 0, 0, 0, 1
            ]
        );
        assert_eq!(connect(4000).len(), 4 + 45);
    }

    #[test]
    fn a_length_is_not_believed_before_the_bytes_are_there() {
        for hostile in [i32::MAX, i32::MIN, -2, 5] {
            let bytes = Output::default().int(hostile).int(0).0;
            assert_eq!(Input(&bytes).bytes(), Err(Garbled), "{hostile}");
        }
        let many = Output::default().int(i32::MAX).bytes(b"a").0;
        assert_eq!(Input(&many).texts(usize::MAX), Err(Garbled));
        assert_eq!(Input(&many).texts(1_000_000), Ok(None));
        assert_eq!(Input(&Output::default().int(-1).0).bytes(), Ok(&[][..]));
        assert_eq!(Input(&Output::default().int(-7).0).texts(1), Ok(Some(vec![])));
        assert_eq!(Input(&Output::default().bytes(b"\xff").0).text(), Err(Garbled));
    }

    #[test]
    fn only_a_session_makes_a_node_ephemeral() {
        let ephemeral = |owner: i64| {
            let begin = Output::default().long(1).long(1).long(1).long(1).int(0).int(0).int(0);
            let bytes = begin.long(owner).int(0).int(0).long(1).0;
            Input(&bytes).stat().unwrap().ephemeral
        };
        assert!(ephemeral(0x0100_7b3a_0000_0001) && ephemeral(7));
        // No owner, a container, a node with a time to live of a second.
        for lasting in [0, i64::MIN, i64::from_be_bytes([0xff, 0, 0, 0, 0, 0, 3, 0xe8])] {
            assert!(!ephemeral(lasting), "{lasting:#x}");
        }
    }

    #[test]
    fn an_event_says_what_happened_where_and_perhaps_when() {
        let told = |kind, zxid| {
            let body = Output::default().int(kind).int(3).bytes(b"/a").0;
            event(zxid, Input(&body)).unwrap()
        };
        let is = |happening, zxid| {
            Some(Event {
                happening,
                path: "/a".to_owned(),
                zxid,
            })
        };
        assert_eq!(told(1, -1), is(Happening::Created, None));
        assert_eq!(told(2, 7), is(Happening::Deleted, Some(7)));
        assert_eq!(told(3, 0), is(Happening::Changed, None));
        assert_eq!(told(4, 8), is(Happening::Other, Some(8)));
        assert_eq!(told(7, 9), None);
    }

    proptest! {
        #![proptest_config(leadsman_property::cases(256))]
        #[test]
        fn no_bytes_can_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let input = Input(&bytes);
            let _ = ({ input }.text(), { input }.texts(9), { input }.stat(), event(1, input), { input }.bytes());
        }
    }
}

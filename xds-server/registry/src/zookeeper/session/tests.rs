//! What a session makes of a server that says what a real one can't be made to say in time.

use std::sync::{Arc, Mutex};

use leadsman_core::model::SourceName;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf, duplex, split};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::super::client::Suspect;
use super::super::connection::Connection;
use super::super::jute::{self, Input, Output};
use super::*;
use crate::{SourceEvent, SourceStatus};

const CREATED: i32 = 1;
const DELETED: i32 = 2;
const QUIET: Duration = Duration::from_secs(1);

/// What a server holds, and what it was asked for.
#[derive(Default)]
struct Content {
    nodes: BTreeMap<String, String>,
    asked: Vec<String>,
    /// What it says of the number of names, whatever it sends.
    claimed: Option<i32>,
}

/// A session that has begun, and the server's end of its connection.
struct Begun {
    content: Arc<Mutex<Content>>,
    writer: Arc<tokio::sync::Mutex<WriteHalf<DuplexStream>>>,
    inbox: mpsc::Receiver<SourceEvent>,
    session: JoinHandle<Result<Infallible, Error>>,
}

impl Begun {
    async fn new(content: Content) -> Self {
        let (ours, theirs) = duplex(1024 * 1024);
        let (reader, writer) = split(theirs);
        let writer = Arc::new(tokio::sync::Mutex::new(writer));
        let content = Arc::new(Mutex::new(content));
        tokio::spawn(serve(reader, Arc::clone(&writer), Arc::clone(&content)));
        let ten = Duration::from_secs(10);
        let (connection, _) = Connection::open(ours, ten, ten).await.unwrap();
        let (events, inbox) = mpsc::channel(64);
        let name = SourceName::new("tested").unwrap();
        let status = watch::Sender::new(SourceStatus::new(name.clone(), "zookeeper"));
        let events = EventSender::new(name, events, Arc::new(status));
        let session = tokio::spawn(async move {
            let config = Config::new(vec!["a:1".into()], "/s");
            let link = Link::over(connection, Suspect::default());
            run(&config, link, &events, &mut Known::default()).await
        });
        Self {
            content,
            writer,
            inbox,
            session,
        }
    }

    fn put(&self, path: &str, data: &str) {
        let mut content = self.content.lock().unwrap();
        content.nodes.insert(path.to_owned(), data.to_owned());
    }

    fn remove(&self, path: &str) {
        self.content.lock().unwrap().nodes.remove(path);
    }

    async fn tell(&self, kind: i32, path: &str) {
        let event = answer(jute::XID_EVENT, 0).int(kind).int(3).bytes(path.as_bytes());
        self.writer.lock().await.write_all(&event.framed()).await.unwrap();
    }

    /// The next event, a word or two; nothing when none comes.
    async fn hears(&mut self) -> String {
        match timeout(QUIET, self.inbox.recv()).await {
            Ok(Some(SourceEvent { event, .. })) => match event {
                Event::Resync { services, .. } => format!("resync {}", services.len()),
                Event::Apply { service, .. } => format!("apply {} {}", service.name, service.endpoints.len()),
                Event::Delete { name, .. } => format!("delete {name}"),
                Event::Unattributed { .. }
                | Event::Progress { .. }
                | Event::Reconciled { .. }
                | Event::Impaired { .. } => format!("{event:?}"),
            },
            Ok(None) => "the end".to_owned(),
            Err(_) => String::new(),
        }
    }
}

fn answer(xid: i32, code: i32) -> Output {
    Output::default().int(xid).long(9).int(code)
}

async fn serve(
    mut reader: ReadHalf<DuplexStream>,
    writer: Arc<tokio::sync::Mutex<WriteHalf<DuplexStream>>>,
    content: Arc<Mutex<Content>>,
) {
    let mut connected = false;
    while let Ok(length) = reader.read_i32().await {
        let mut request = vec![0; usize::try_from(length).unwrap()];
        reader.read_exact(&mut request).await.unwrap();
        let said = match std::mem::replace(&mut connected, true) {
            false => Output::default().int(0).int(10_000).long(7).bytes(&[0; 16]),
            true => content.lock().unwrap().answer(Input(&request)),
        };
        if writer.lock().await.write_all(&said.framed()).await.is_err() {
            return;
        }
    }
}

impl Content {
    fn answer(&mut self, mut request: Input<'_>) -> Output {
        let (xid, operation) = (request.int().unwrap(), request.int().unwrap());
        let path = match operation {
            jute::PING | jute::ADD_WATCH | jute::SYNC => return answer(xid, 0),
            _ => request.text().unwrap().to_owned(),
        };
        self.asked.push(path.clone());
        let below = format!("{path}/");
        let under = |node: &String| Some(node.strip_prefix(&below)?.to_owned()).filter(|name| !name.contains('/'));
        let names: Vec<String> = self.nodes.keys().filter_map(under).collect();
        let Some(data) = self.nodes.get(&path) else {
            return answer(xid, jute::NO_NODE);
        };
        let count = i32::try_from(names.len()).unwrap();
        match operation {
            jute::GET_CHILDREN => {
                let said = answer(xid, 0).int(self.claimed.unwrap_or(count));
                names.iter().fold(said, |said, name| said.bytes(name.as_bytes()))
            }
            jute::GET_DATA => stat(answer(xid, 0).bytes(data.as_bytes()), count),
            _ => stat(answer(xid, 0), count),
        }
    }
}

fn stat(said: Output, children: i32) -> Output {
    let times = said.long(1).long(1).long(1).long(1).int(0).int(0).int(0);
    times.long(0).int(0).int(children).long(1)
}

fn one_instance() -> Content {
    let nodes = [("/s", ""), ("/s/a", ""), ("/s/a/1", RECORD)];
    Content {
        nodes: nodes.map(|(path, data)| (path.to_owned(), data.to_owned())).into(),
        ..Content::default()
    }
}

const RECORD: &str = r#"{"address":"10.0.0.1:80"}"#;

#[tokio::test(start_paused = true)]
async fn a_deleted_node_that_is_back_when_its_grace_ends_was_never_away() {
    let mut session = Begun::new(one_instance()).await;
    assert_eq!(session.hears().await, "resync 1");
    // The event of its return is not here yet.
    session.tell(DELETED, "/s/a/1").await;
    assert_eq!(session.hears().await, "");
    session.tell(CREATED, "/s/a/1").await;
    assert_eq!(session.hears().await, "");
    session.remove("/s/a/1");
    session.tell(DELETED, "/s/a/1").await;
    assert_eq!(session.hears().await, "delete a");
    assert!(!session.session.is_finished());
}

#[tokio::test(start_paused = true)]
async fn events_about_nodes_of_others_are_passed_over() {
    let mut session = Begun::new(one_instance()).await;
    assert_eq!(session.hears().await, "resync 1");
    session.put("/s/a/2", &RECORD.replace("80", "81"));
    for path in ["/", "/else/where/1", "/services/a/1", "", "/s/a/2"] {
        session.tell(CREATED, path).await;
    }
    assert_eq!(session.hears().await, "apply a 2");
    let asked = session.content.lock().unwrap().asked.clone();
    let others: Vec<_> = asked.iter().filter(|path| !path.starts_with("/s/")).collect();
    assert_eq!(others, ["/", "/s", "/s"], "the ancestor, and the prefix itself");
}

#[tokio::test(start_paused = true)]
async fn more_names_than_a_tree_may_have_end_the_session() {
    let mut content = one_instance();
    content.claimed = Some(1_000_001);
    let mut session = Begun::new(content).await;
    assert_eq!(session.hears().await, "the end");
    let ended = session.session.await.unwrap();
    assert!(matches!(ended, Err(Error::Misconfigured(why)) if why.contains("1000000 nodes")));
}

#[test]
fn an_ensemble_is_known_again_by_its_transactions_and_its_prefix() {
    let nothing = BTreeSet::new();
    let locked: BTreeSet<String> = ["/a".to_owned(), "/b".to_owned()].into();
    let born = |czxid| Birth { czxid, ctime: 1 };
    let is = |newest, prefix: Option<i64>| Seen {
        newest,
        prefix: prefix.map(born),
    };
    let judge = |seen: Option<Seen>, now, unreadable| evidence(seen, now, unreadable);
    let new = |why: &str| Evidence::NewEpoch { why: why.to_owned() };
    assert_eq!(judge(None, is(5, None), &nothing), Evidence::Complete);
    assert_eq!(judge(Some(is(5, None)), is(5, Some(3)), &nothing), Evidence::Complete);
    assert_eq!(
        judge(Some(is(5, Some(3))), is(9, Some(3)), &nothing),
        Evidence::Complete
    );
    assert_eq!(
        judge(Some(is(31, Some(3))), is(5, Some(3)), &locked),
        new("the newest transaction was 0x1f and is 0x5")
    );
    for created in [None, Some(8)] {
        assert_eq!(
            judge(Some(is(5, Some(3))), is(9, created), &nothing),
            new("the prefix was deleted, or is another one than before")
        );
    }
    let why = "/a and 1 other nodes may not be read; what was known of them is kept".to_owned();
    assert_eq!(
        judge(Some(is(5, None)), is(6, None), &locked),
        Evidence::Partial { why }
    );
}

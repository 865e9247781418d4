//! What a real API server can't be made to do on demand, by a server whose answers have the shapes of the real one's.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use leadsman_core::model::Evidence;
use leadsman_registry::SourceState;
use leadsman_registry::kubernetes::{Config, Kubernetes as Adapter};
use leadsman_tests::observed::{Note, Observed};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// What the server says next to each kind of question; the last answer is given for ever.
#[derive(Debug)]
struct Script {
    lists: Vec<Answer>,
    watches: Vec<Answer>,
    /// To questions about an exact version.
    past: Vec<Answer>,
    asked: Vec<(Instant, String)>,
}

#[derive(Clone, Debug)]
enum Answer {
    Refusal(u16, &'static str),
    /// As a busy server refuses.
    Busy(&'static str),
    List(Value),
    /// Lines, and a clean end after this long.
    Watch(Vec<Value>, Duration),
}

/// Longer than any test.
const FOR_EVER: Duration = Duration::from_secs(600);

struct Fake {
    script: Arc<Mutex<Script>>,
    config: Config,
}

impl Fake {
    async fn start(lists: Vec<Answer>, watches: Vec<Answer>, past: Vec<Answer>) -> Self {
        let asked = Vec::new();
        let script = Arc::new(Mutex::new(Script {
            lists,
            watches,
            past,
            asked,
        }));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let config = Config {
            server: Some(format!("http://{}", listener.local_addr().unwrap())),
            watch_timeout: Duration::from_secs(4),
            ..Config::default()
        };
        let shared = Arc::clone(&script);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, Arc::clone(&shared)));
            }
        });
        Self { script, config }
    }

    fn observe(&self) -> Observed {
        Observed::start(Adapter::new(self.config.clone()))
    }

    /// How long after each question that holds `text` the next one of its kind came.
    fn gaps(&self, text: &str) -> Vec<Duration> {
        let script = self.script.lock().unwrap();
        let times: Vec<Instant> = script
            .asked
            .iter()
            .filter(|(_, asked)| asked.contains(text))
            .map(|(at, _)| *at)
            .collect();
        times.windows(2).map(|pair| pair[1] - pair[0]).collect()
    }
}

/// Answers one request, and ends the connection.
async fn answer(stream: TcpStream, script: Arc<Mutex<Script>>) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut asked = String::new();
    stream.read_line(&mut asked).await?;
    let mut header = String::from("-");
    while header.trim() != "" {
        header.clear();
        stream.read_line(&mut header).await?;
    }
    let next = script.lock().unwrap().next(asked);
    match next {
        Answer::Refusal(code, message) => stream.write_all(&refusal(code, "", message)).await,
        Answer::Busy(after) => {
            let after = format!("Retry-After: {after}\r\n");
            let message = "too many requests, please try again later";
            stream.write_all(&refusal(429, &after, message)).await
        }
        Answer::List(list) => stream.write_all(&whole("200 OK", "", &list.to_string())).await,
        Answer::Watch(lines, lasts) => {
            let head = "HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
            stream.write_all(head.as_bytes()).await?;
            for line in lines {
                let line = format!("{line}\n");
                stream
                    .write_all(format!("{:x}\r\n{line}\r\n", line.len()).as_bytes())
                    .await?;
            }
            stream.flush().await?;
            tokio::time::sleep(lasts).await;
            stream.write_all(b"0\r\n\r\n").await
        }
    }
}

impl Script {
    fn next(&mut self, asked: String) -> Answer {
        let answers = if asked.contains("watch=true") {
            &mut self.watches
        } else if asked.contains("resourceVersionMatch=Exact") {
            &mut self.past
        } else {
            &mut self.lists
        };
        let next = if answers.len() > 1 {
            answers.remove(0)
        } else {
            answers[0].clone()
        };
        self.asked.push((Instant::now(), asked));
        next
    }
}

fn whole(status: &str, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\n{headers}Connection: close\r\nContent-Length: {length}\r\n\r\n{body}").into_bytes()
}

fn refusal(code: u16, headers: &str, message: &str) -> Vec<u8> {
    let status = json!({ "kind": "Status", "status": "Failure", "message": message, "code": code });
    whole(&format!("{code} Refused"), headers, &status.to_string())
}

/// A slice of the service `name`, as a list holds it.
fn slice(name: &str, version: u64) -> Value {
    json!({ "metadata": { "name": name, "namespace": "shop", "uid": format!("uid-{name}"),
            "resourceVersion": version.to_string(), "labels": { "kubernetes.io/service-name": name } },
        "addressType": "IPv4", "endpoints": [{ "addresses": ["10.0.0.1"], "conditions": {} }],
        "ports": [{ "name": "", "protocol": "TCP", "port": 80 }] })
}

fn list(version: u64, items: &[Value]) -> Answer {
    Answer::List(
        json!({ "kind": "EndpointSliceList", "apiVersion": "discovery.k8s.io/v1",
        "metadata": { "resourceVersion": version.to_string() }, "items": items }),
    )
}

fn bookmark(version: u64) -> Value {
    json!({ "type": "BOOKMARK", "object": { "kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1",
        "metadata": { "resourceVersion": version.to_string() }, "addressType": "", "endpoints": null, "ports": null } })
}

fn quiet() -> Answer {
    Answer::Watch(Vec::new(), FOR_EVER)
}

fn complete(services: usize, revision: u64) -> Note {
    Note::Resync {
        services,
        evidence: Evidence::Complete,
        revision,
    }
}

#[tokio::test]
async fn a_watch_that_is_refused_because_it_comes_too_late_is_listed_anew() {
    let refusal = Answer::Refusal(410, "too old resource version: 10 (20)");
    let lists = vec![list(10, &[slice("a", 5)]), list(20, &[slice("a", 5), slice("b", 15)])];
    let fake = Fake::start(lists, vec![refusal, quiet()], vec![Answer::Refusal(410, "gone")]).await;
    let observed = fake.observe();
    observed
        .status_becomes("a second listing", |status| status.counters.resyncs == 2)
        .await;
    assert_eq!(observed.heard().notes, [complete(1, 10), complete(2, 20)]);
    // The registry is well: there is nothing to wait for, and nobody to warn.
    let status = observed.status();
    assert_eq!((status.counters.sessions, status.state), (2, SourceState::Live));
}

#[tokio::test]
async fn a_busy_server_is_asked_again_when_it_says_so() {
    let lists = vec![Answer::Busy("2"), Answer::Busy("1"), list(10, &[slice("a", 5)])];
    let watches = vec![Answer::Busy("1"), quiet()];
    let fake = Fake::start(lists, watches, vec![Answer::Refusal(410, "gone")]).await;
    let observed = fake.observe();
    observed
        .status_becomes("a watch that was let in", |status| {
            status.state == SourceState::Live && observed.heard().notes.len() == 3
        })
        .await;
    let notes = observed.heard().notes;
    let [first, Note::Impaired(Some(reason)), Note::Impaired(None)] = &notes[..] else {
        panic!("{notes:?}");
    };
    assert_eq!(*first, complete(1, 10));
    assert!(reason.contains("429"), "{reason}");
    assert_eq!(observed.status().counters.sessions, 1);
    let gaps = fake.gaps("limit=");
    assert!(
        gaps[0] >= Duration::from_secs(2) && gaps[1] >= Duration::from_secs(1),
        "{gaps:?}"
    );
    let gaps = fake.gaps("watch=true");
    assert!(gaps[0] >= Duration::from_secs(1), "{gaps:?}");
}

#[tokio::test]
async fn an_event_that_was_lost_is_found_and_counted() {
    let before = list(10, &[slice("a", 5), slice("b", 6)]);
    let now = vec![slice("a", 15), slice("c", 16)];
    let watches = vec![Answer::Watch(vec![bookmark(20)], Duration::from_secs(4)), quiet()];
    // Another version of `a`, no `b`, and a `c` that no event told of.
    let past = vec![list(20, &now)];
    let mut fake = Fake::start(vec![before, list(30, &now)], watches, past).await;
    fake.config.reconcile = Duration::from_millis(100);
    let observed = fake.observe();
    observed
        .status_becomes("a second listing", |status| status.counters.resyncs == 2)
        .await;
    let notes = observed.heard().notes;
    assert_eq!(notes[..2], [complete(2, 10), Note::Reconciled { drift: 3 }]);
    assert_eq!(observed.status().counters.reconcile_drift, 3);
}

/// A watch from a version that the server has not reached says nothing to its end.
#[tokio::test]
async fn a_silent_watch_is_not_taken_for_a_quiet_one() {
    let lists = vec![list(10, &[slice("a", 5)]), list(7, &[])];
    let watches = vec![Answer::Watch(Vec::new(), Duration::from_secs(4)), quiet()];
    let fake = Fake::start(lists, watches, vec![Answer::Refusal(504, "Too large resource version")]).await;
    let observed = fake.observe();
    observed
        .status_becomes("a second listing", |status| status.counters.resyncs == 2)
        .await;
    let notes = observed.heard().notes;
    let [
        first,
        Note::Resync {
            services: 0,
            evidence: Evidence::NewEpoch { why },
            ..
        },
    ] = &notes[..]
    else {
        panic!("{notes:?}");
    };
    assert_eq!(*first, complete(1, 10));
    assert_eq!(why, "the resourceVersion went back from 10 to 7");
}

#[tokio::test]
async fn what_is_no_list_is_not_an_empty_one() {
    let odd = [
        json!({}),
        json!({ "kind": "EndpointSliceList", "metadata": { "resourceVersion": "11" }, "items": null }),
        json!({ "kind": "EndpointSliceList", "metadata": {}, "items": [] }),
        json!({ "kind": "Status", "metadata": { "resourceVersion": "11" }, "items": [] }),
        json!({ "kind": "EndpointSliceList", "metadata": { "resourceVersion": "11" }, "items": [{}] }),
    ];
    let mut lists = vec![list(10, &[slice("a", 5)])];
    lists.extend(odd.map(Answer::List));
    lists.push(list(12, &[slice("a", 5)]));
    let watches = vec![
        Answer::Watch(vec![json!({ "type": "ADDED", "object": {} })], FOR_EVER),
        quiet(),
    ];
    let fake = Fake::start(lists, watches, vec![list(10, &[slice("a", 5)])]).await;
    let observed = fake.observe();
    observed
        .status_becomes("a second listing", |status| status.counters.resyncs == 2)
        .await;
    assert_eq!(observed.heard().notes, [complete(1, 10), complete(1, 12)]);
}

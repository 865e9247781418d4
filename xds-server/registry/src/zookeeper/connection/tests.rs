//! What a connection makes of answers that are in order, out of order, cut short, endless or none.

use tokio::io::{DuplexStream, duplex};

use super::super::jute::{Happening, Output};
use super::*;

const PATIENCE: Duration = Duration::from_secs(4);
const SESSION: Duration = Duration::from_secs(10);

/// The server's end of a connection that has a session.
struct Server(DuplexStream);

impl Server {
    async fn start() -> (Connection, Self) {
        let (ours, theirs) = duplex(1024 * 1024);
        let mut server = Self(theirs);
        let open = Connection::open(ours, SESSION, PATIENCE);
        let serve = async {
            assert_eq!(server.request().await.len(), 45);
            server.say(granted(10_000)).await;
        };
        let (opened, ()) = tokio::join!(open, serve);
        let (connection, timeout) = opened.unwrap();
        assert_eq!(timeout, SESSION);
        (connection, server)
    }

    async fn request(&mut self) -> Vec<u8> {
        let length = self.0.read_i32().await.unwrap();
        let mut request = vec![0; usize::try_from(length).unwrap()];
        self.0.read_exact(&mut request).await.unwrap();
        request
    }

    async fn say(&mut self, message: Output) {
        self.0.write_all(&message.framed()).await.unwrap();
    }
}

fn granted(timeout: i32) -> Output {
    Output::default().int(0).int(timeout).int(0).int(7).bytes(&[0; 16])
}

fn answer(xid: i32, code: i32) -> Output {
    // The transaction is a long.
    Output::default().int(xid).int(0).int(9).int(code)
}

fn told(kind: i32, path: &str) -> Output {
    answer(jute::XID_EVENT, 0).int(kind).int(3).bytes(path.as_bytes())
}

async fn ask(connection: &mut Connection, paths: &[&str]) -> (Vec<i32>, Result<(), String>) {
    let requests: Vec<_> = paths.iter().map(|path| jute::about(path, jute::GET_DATA)).collect();
    let mut answers = Vec::new();
    let outcome = connection.call(&requests, &mut answers).await;
    let codes = answers.iter().map(|answer| answer.code).collect();
    (codes, outcome.map_err(|error| error.to_string()))
}

#[tokio::test]
async fn answers_come_in_order_and_events_in_between_are_kept() {
    let (mut connection, mut server) = Server::start().await;
    server.say(told(1, "/before")).await;
    server.say(answer(1, 0)).await;
    server.say(told(2, "/between")).await;
    server.say(answer(jute::XID_PING, 0)).await;
    server.say(answer(2, jute::NO_NODE)).await;
    server.say(told(3, "/after")).await;
    assert_eq!(
        ask(&mut connection, &["/a", "/b"]).await,
        (vec![0, jute::NO_NODE], Ok(()))
    );
    let mut seen = Vec::new();
    for _ in 0..3 {
        let Event { happening, path, zxid } = connection.event().await.unwrap();
        assert_eq!(zxid, Some(9));
        seen.push((happening, path));
    }
    let expected = [
        (Happening::Created, "/before"),
        (Happening::Deleted, "/between"),
        (Happening::Changed, "/after"),
    ];
    assert_eq!(seen, expected.map(|(happening, path)| (happening, path.to_owned())));
    assert_eq!(connection.next_event().unwrap(), None);
}

#[tokio::test]
async fn an_answer_to_another_question_is_the_end() {
    let (mut connection, mut server) = Server::start().await;
    server.say(answer(2, 0)).await;
    let (codes, outcome) = ask(&mut connection, &["/a", "/b"]).await;
    assert_eq!(codes, [0; 0]);
    assert!(outcome.unwrap_err().contains("no answer of a ZooKeeper"));
    let (mut connection, mut server) = Server::start().await;
    server.say(answer(1, 0)).await;
    assert!(connection.event().await.is_err());
}

#[tokio::test]
async fn what_is_no_message_is_an_error_and_never_a_panic() {
    for (bytes, why) in [
        (&[0xff, 0xff, 0xff, 0xff][..], "no answer of a ZooKeeper"),
        (&[0x7f, 0xff, 0xff, 0xff], "longer than"),
        (&[0, 0, 0, 3, 1, 2, 3], "no answer of a ZooKeeper"),
        (&[0, 0, 0, 0], "no answer of a ZooKeeper"),
        (&[0, 0, 0, 9, 1, 2], "ended the connection"),
        (&[], "ended the connection"),
    ] {
        let (mut connection, mut server) = Server::start().await;
        server.0.write_all(bytes).await.unwrap();
        drop(server);
        let said = connection.event().await.unwrap_err().to_string();
        assert!(said.contains(why), "{bytes:?}: {said}");
    }
    // Its path is cut short.
    let (mut connection, mut server) = Server::start().await;
    server.say(answer(jute::XID_EVENT, 0).int(1).int(3).int(99)).await;
    assert!(connection.event().await.is_err());
}

#[tokio::test]
async fn refusals_and_a_lost_watch_are_told_apart() {
    for (message, is) in [
        (answer(1, jute::AUTH_FAILED), "Denied"),
        (answer(1, jute::SESSION_EXPIRED), "Unavailable"),
        (told(7, "/a"), "Resync"),
    ] {
        let (mut connection, mut server) = Server::start().await;
        server.say(message).await;
        let said = format!("{:?}", connection.event().await.unwrap_err());
        assert!(said.starts_with(is), "{said}");
    }
    let (ours, theirs) = duplex(1024);
    let mut server = Server(theirs);
    server.say(granted(0)).await;
    let refused = Connection::open(ours, SESSION, PATIENCE).await;
    assert!(matches!(refused, Err(Error::Unavailable(_))));
}

#[tokio::test(start_paused = true)]
async fn a_quiet_server_is_asked_for_a_sign_of_life_and_a_silent_one_is_left() {
    let (mut connection, mut server) = Server::start().await;
    let began = Instant::now();
    let serve = async {
        for _ in 0..5 {
            assert_eq!(server.request().await, jute::ping().get(4..).unwrap_or_default());
            server.say(answer(jute::XID_PING, 0)).await;
        }
        let answered = began.elapsed();
        // From here on, nothing.
        server.request().await;
        server.request().await;
        std::future::pending::<()>().await;
        answered
    };
    let said = tokio::select! {
        event = connection.event() => event.unwrap_err().to_string(),
        _ = serve => String::new(),
    };
    assert_eq!(said, "the server was silent for 4s");
    let silent = began.elapsed().checked_sub(PATIENCE).unwrap();
    assert!(
        silent > Duration::from_secs(6) && silent < Duration::from_secs(7),
        "{silent:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_server_that_talks_all_the_time_hears_of_us_too() {
    let (mut connection, mut server) = Server::start().await;
    let talk = async {
        loop {
            tokio::select! {
                request = server.request() => return request,
                () = tokio::time::sleep(PATIENCE / 10) => server.say(told(1, "/a")).await,
            }
        }
    };
    let listen = async {
        loop {
            connection.event().await.unwrap();
        }
    };
    let heard = tokio::time::timeout(SESSION, async {
        tokio::select! {
            request = talk => request,
            () = listen => Vec::new(),
        }
    });
    assert_eq!(heard.await.unwrap(), jute::ping().get(4..).unwrap_or_default());
}

#[tokio::test(start_paused = true)]
async fn whoever_was_busy_elsewhere_does_not_take_that_for_the_servers_silence() {
    let (mut connection, mut server) = Server::start().await;
    tokio::time::advance(PATIENCE * 2).await;
    let serve = async {
        server.request().await;
        server.say(answer(jute::XID_PING, 0)).await;
        server.say(told(1, "/a")).await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        event = connection.event() => assert_eq!(event.unwrap().path, "/a"),
        () = serve => {}
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_lives_and_does_not_answer_is_left() {
    let (mut connection, mut server) = Server::start().await;
    let serve = async {
        server.request().await;
        loop {
            server.request().await;
            server.say(answer(jute::XID_PING, 0)).await;
        }
    };
    let (_, outcome) = tokio::select! {
        outcome = ask(&mut connection, &["/a"]) => outcome,
        () = serve => (vec![], Ok(())),
    };
    assert_eq!(outcome.unwrap_err(), "no answer within 30s");
}

#[tokio::test]
async fn an_event_that_nobody_waits_for_any_more_is_not_lost() {
    let (mut connection, mut server) = Server::start().await;
    let half = told(1, "/a").framed();
    let (first, second) = half.split_at(9);
    server.0.write_all(first).await.unwrap();
    for _ in 0..3 {
        let waited = tokio::time::timeout(Duration::from_millis(10), connection.event()).await;
        assert!(waited.is_err());
    }
    server.0.write_all(second).await.unwrap();
    assert_eq!(connection.event().await.unwrap().path, "/a");
}

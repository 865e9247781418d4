//! One server of an ensemble, and what its answers mean.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::config::Config;
use super::connection::{Answer, Connection};
use super::jute::{self, Event, Input};
use crate::session::random;
use crate::{Error, http};

/// TCP and TLS together, and the first answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Requests on their way at once: enough to hide the round trip, few enough that an answer that can't be sent is found.
pub(super) const PIPELINE: usize = 100;
/// Nodes of one tree. Whoever reads more reads somebody else's.
pub(super) const MAX_NODES: usize = 1_000_000;

/// The requests after which connections were lost. A connection that is lost twice at the same place is no accident.
#[derive(Clone, Debug, Default)]
pub(super) struct Suspect(Arc<Mutex<Option<String>>>);

pub(super) struct Link {
    connection: Connection,
    suspect: Suspect,
}

/// A node with its data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) data: Vec<u8>,
    pub(super) birth: Birth,
    /// The transaction that wrote the data.
    pub(super) mzxid: i64,
    /// The newest transaction the node knows of, those on its children included.
    pub(super) newest: i64,
    pub(super) ephemeral: bool,
    pub(super) has_children: bool,
}

/// How a node came to be. Of two ensembles with the same history one may have the same transaction, but not the same
/// moment too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Birth {
    pub(super) czxid: i64,
    /// Milliseconds, by the leader's clock.
    pub(super) ctime: i64,
}

/// Why one node could not be read.
#[derive(Debug)]
pub(super) enum Fault {
    /// It does not exist.
    Gone,
    /// Our rights are not enough.
    NoAuth,
    /// The session is in doubt.
    Session(Error),
}

impl Link {
    /// Connects to one of the servers: the first that answers, from a random one on.
    pub(super) async fn connect(config: &Config, suspect: Suspect) -> Result<Self, Error> {
        let credentials = credentials(config).await?;
        let tls = match &config.tls {
            Some(files) => {
                let certificates = http::Certificates::read(Some(files)).await?;
                Some(TlsConnector::from(Arc::new(http::tls(certificates, true).await?)))
            }
            None => None,
        };
        let count = config.servers.len();
        let first = usize::try_from(random() % 1024).unwrap_or_default();
        let mut last = Error::Misconfigured("servers is empty".to_owned());
        for step in 0..count {
            let place = (first + step).checked_rem(count).unwrap_or_default();
            let Some(server) = config.servers.get(place) else {
                continue;
            };
            let opened = timeout(CONNECT_TIMEOUT, open(config, server, tls.as_ref())).await;
            let late = |_| Error::Unavailable(format!("no session within {CONNECT_TIMEOUT:?}"));
            match opened.map_err(late).and_then(|opened| opened) {
                Ok(connection) => {
                    let mut link = Self { connection, suspect };
                    link.authenticate(credentials.as_deref()).await?;
                    return Ok(link);
                }
                Err(error) => last = at(server, error),
            }
        }
        Err(last)
    }

    /// A connection that has a session already.
    #[cfg(test)]
    pub(super) fn over(connection: Connection, suspect: Suspect) -> Self {
        Self { connection, suspect }
    }

    async fn authenticate(&mut self, credentials: Option<&[u8]>) -> Result<(), Error> {
        let Some(credentials) = credentials else { return Ok(()) };
        match self.connection.authenticate("digest", credentials).await?.code {
            0 => Ok(()),
            _ => Err(Error::Denied("the ensemble refused the credentials".to_owned())),
        }
    }

    /// Watches a node and everything below, whether or not it exists.
    pub(super) async fn watch(&mut self, path: &str) -> Result<(), Error> {
        match self.ask("the watch on", path, jute::ADD_WATCH).await?.code {
            0 => Ok(()),
            jute::UNIMPLEMENTED => Err(Error::Misconfigured(
                "the server is older than ZooKeeper 3.6, which is the first with recursive watches".to_owned(),
            )),
            code => Err(refused(path, code)),
        }
    }

    /// Waits until the server has everything that its leader had before.
    pub(super) async fn sync(&mut self, path: &str) -> Result<(), Error> {
        match self.ask("a sync of", path, jute::SYNC).await?.code {
            // Rights are for reading; `sync` is only about being up to date.
            0 | jute::NO_NODE | jute::NO_AUTH => Ok(()),
            code => Err(refused(path, code)),
        }
    }

    /// The state of a node, which any client may ask for; `None` when there is no such node.
    pub(super) async fn stat(&mut self, path: &str) -> Result<Option<Node>, Error> {
        let answer = self.ask("the state of", path, jute::EXISTS).await?;
        match answer.code {
            0 => Ok(Some(Input(&answer.body).stat().map_err(garbled)?)),
            jute::NO_NODE | jute::NO_AUTH => Ok(None),
            code => Err(refused(path, code)),
        }
    }

    /// Reads nodes, all of the requests on their way at once. Call it with no more than [`PIPELINE`] paths.
    pub(super) async fn nodes(&mut self, paths: &[String]) -> Result<Vec<Result<Node, Fault>>, Error> {
        let answers = self.ask_all("the data of", paths, jute::GET_DATA).await?;
        let read = |(path, answer): (&String, Answer)| {
            let body = checked(path, &answer)?;
            node(body).map_err(|error| Fault::Session(garbled(error)))
        };
        Ok(paths.iter().zip(answers).map(read).collect())
    }

    /// The names below nodes, `most` of them in all, as [`Link::nodes`] reads their data.
    pub(super) async fn children(
        &mut self,
        paths: &[String],
        most: usize,
    ) -> Result<Vec<Result<Vec<String>, Fault>>, Error> {
        let answers = self.ask_all("the children of", paths, jute::GET_CHILDREN).await?;
        let mut left = most;
        let read = |(path, answer): (&String, Answer)| {
            let mut body = checked(path, &answer)?;
            let names = body.texts(left).map_err(|error| Fault::Session(garbled(error)))?;
            let names = names.ok_or_else(|| Fault::Session(too_many()))?;
            left = left.saturating_sub(names.len());
            Ok(names)
        };
        Ok(paths.iter().zip(answers).map(read).collect())
    }

    /// The next change below the watched node. It may be dropped and called again without a loss.
    pub(super) async fn event(&mut self) -> Result<Event, Error> {
        self.connection.event().await
    }

    /// The next change that has been told already.
    pub(super) fn next_event(&mut self) -> Result<Option<Event>, Error> {
        self.connection.next_event()
    }

    async fn ask(&mut self, what: &str, path: &str, operation: i32) -> Result<Answer, Error> {
        let mut answers = self.ask_all(what, &[path.to_owned()], operation).await?;
        answers.pop().ok_or_else(|| garbled(jute::Garbled))
    }

    /// One after the other is what a server answers, so the first unanswered request is what a connection was lost at.
    async fn ask_all(&mut self, what: &str, paths: &[String], operation: i32) -> Result<Vec<Answer>, Error> {
        let requests: Vec<_> = paths.iter().map(|path| jute::about(path, operation)).collect();
        let mut answers = Vec::with_capacity(paths.len());
        match self.connection.call(&requests, &mut answers).await {
            Ok(()) => {
                for path in paths {
                    self.suspect.answered(what, path);
                }
                Ok(answers)
            }
            Err(Error::Unavailable(why)) => {
                let path = paths.get(answers.len()).map_or("", String::as_str);
                Err(Error::Unavailable(self.suspect.lost(what, path, &why)))
            }
            Err(error) => Err(error),
        }
    }
}

/// A session with one server.
async fn open(config: &Config, server: &str, tls: Option<&TlsConnector>) -> Result<Connection, Error> {
    let unreachable = |error: std::io::Error| Error::Unavailable(error.to_string());
    let stream = TcpStream::connect(server).await.map_err(unreachable)?;
    stream.set_nodelay(true).map_err(unreachable)?;
    let timeout = config.session_timeout;
    let (mut connection, granted) = match tls {
        None => Connection::open(stream, timeout, CONNECT_TIMEOUT).await?,
        Some(tls) => {
            let host = server.rsplit_once(':').map_or(server, |(host, _)| host);
            let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned())
                .map_err(|_| Error::Misconfigured(format!("{host:?} is no name of a server")))?;
            let stream = tls.connect(name, stream).await;
            let refused = |error: std::io::Error| Error::Unavailable(format!("tls: {error}"));
            Connection::open(stream.map_err(refused)?, timeout, CONNECT_TIMEOUT).await?
        }
    };
    // Soon enough that another server can be asked within the same session timeout.
    connection.be_patient_for(granted.min(timeout) * 2 / 5);
    Ok(connection)
}

/// What a successful answer holds.
fn checked<'a>(path: &str, answer: &'a Answer) -> Result<Input<'a>, Fault> {
    match answer.code {
        0 => Ok(Input(&answer.body)),
        // A name that no node can have is the server's own fault, and no reason to stop reading the others.
        jute::NO_NODE | jute::BAD_ARGUMENTS => Err(Fault::Gone),
        jute::NO_AUTH => Err(Fault::NoAuth),
        code => Err(Fault::Session(refused(path, code))),
    }
}

fn node(mut body: Input<'_>) -> Result<Node, jute::Garbled> {
    let data = body.bytes()?.to_owned();
    Ok(Node { data, ..body.stat()? })
}

fn refused(path: &str, code: i32) -> Error {
    match code {
        jute::NO_AUTH => Error::Denied(format!("{path} may not be read")),
        code => Error::Unavailable(format!("{path}: the server answers with error {code}")),
    }
}

fn garbled(error: jute::Garbled) -> Error {
    Error::Unavailable(error.to_string())
}

pub(super) fn too_many() -> Error {
    Error::Misconfigured(format!(
        "more than {MAX_NODES} nodes are below the prefix: choose a longer one"
    ))
}

/// Says which server an error is about.
fn at(server: &str, error: Error) -> Error {
    match error {
        Error::Unavailable(text) => Error::Unavailable(format!("{server}: {text}")),
        Error::Denied(text) => Error::Denied(format!("{server}: {text}")),
        Error::Resync(text) => Error::Resync(format!("{server}: {text}")),
        Error::Misconfigured(text) => Error::Misconfigured(format!("{server}: {text}")),
        Error::Closed => Error::Closed,
    }
}

impl Suspect {
    /// Says what a connection was lost at, and what that may mean when it is the same as the time before.
    fn lost(&self, what: &str, path: &str, why: &str) -> String {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = format!("{what} {path}");
        let again = last.as_deref() == Some(now.as_str());
        let text = format!("waiting for {now}: {why}");
        *last = Some(now);
        if again {
            return format!(
                "{text}, for the second time: the answer may be larger than jute.maxbuffer of the server or of a proxy \
                 before it; raise it, or spread the nodes over several parents"
            );
        }
        text
    }

    fn answered(&self, what: &str, path: &str) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_last = |last: &String| last.strip_prefix(what).and_then(|rest| rest.strip_prefix(' ')) == Some(path);
        if last.as_ref().is_some_and(is_last) {
            *last = None;
        }
    }
}

/// What the `digest` scheme takes, `user:password`, read anew by each session.
async fn credentials(config: &Config) -> Result<Option<Vec<u8>>, Error> {
    let (Some(name), Some(file)) = (&config.username, &config.password_file) else {
        return Ok(None);
    };
    let password = tokio::fs::read(file)
        .await
        .map_err(|error| Error::Misconfigured(format!("{} can't be read: {error}", file.display())))?;
    let password = password.strip_suffix(b"\n").unwrap_or(&password);
    let password = password.strip_suffix(b"\r").unwrap_or(password);
    Ok(Some([name.as_bytes(), b":", password].concat()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_lost_twice_at_one_request_names_the_limit() {
        let suspect = Suspect::default();
        let (children, data) = ("the children of", "the data of");
        let lost = |what, path| suspect.lost(what, path, "the end").contains("jute.maxbuffer");
        assert!(!lost(children, "/dubbo/a/providers"));
        assert!(!lost(data, "/dubbo"));
        assert!(!lost(children, "/dubbo/a/providers"));
        suspect.answered(data, "/dubbo/a/providers");
        suspect.answered(children, "/dubbo/a");
        assert!(lost(children, "/dubbo/a/providers"));
        suspect.answered(children, "/dubbo/a/providers");
        assert!(!lost(children, "/dubbo/a/providers"));
    }

    #[tokio::test]
    async fn the_password_is_read_without_its_line_break() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("password");
        std::fs::write(&file, "se:cret \r\n").unwrap();
        let mut config = Config::new(vec!["a:1".into()], "/");
        assert_eq!(credentials(&config).await.unwrap(), None);
        config.username = Some("reader".into());
        config.password_file = Some(file.clone());
        assert_eq!(credentials(&config).await.unwrap().unwrap(), b"reader:se:cret ");
        std::fs::remove_file(file).unwrap();
        assert!(matches!(credentials(&config).await, Err(Error::Misconfigured(_))));
    }
}

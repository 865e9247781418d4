//! Asking: one question, the servers in their order, UDP and TCP.
//!
//! Over UDP every question has a socket of its own, so that its port is as random as its id. Nothing here outlives the
//! session.

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use super::config::{Config, Transport};
use super::question::{Answer, Failure, Outcome, Question};
use super::wire::{Reply, decode, encode};

/// Questions on their way at once: enough for thousands of names a second, few enough for the descriptors of a process.
const MAX_IN_FLIGHT: usize = 256;
/// Of these, questions that failed the last time: they may be slow to fail again, and nobody should wait behind them.
const MAX_SUSPECTS: usize = 32;
/// How often all servers are gone through: a lost datagram is no lost server.
const ROUNDS: usize = 2;
/// Aliases that are followed from one server's answer to another question.
const MAX_ALIASES: usize = 8;
/// How long a server that did not answer is asked last.
const SHUNNED: Duration = Duration::from_secs(10);
/// Connections that may wait for a next question, and how long: servers close theirs after some ten seconds.
const MAX_IDLE: usize = 8;
const KEPT: Duration = Duration::from_secs(5);
/// The largest datagram that is read; what is larger can't be what was asked for.
const MAX_DATAGRAM: usize = 4096;

/// The servers of one session.
#[derive(Debug)]
pub(super) struct Client {
    servers: Vec<SocketAddr>,
    transport: Transport,
    timeout: Duration,
    budget: Semaphore,
    suspects: Semaphore,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Until when each server is asked last.
    shunned: Vec<Option<Instant>>,
    /// When each server last said anything.
    heard: Vec<Option<Instant>>,
    /// Connections that wait for the next question, the freshest last.
    idle: VecDeque<Idle>,
}

#[derive(Debug)]
struct Idle {
    server: SocketAddr,
    stream: TcpStream,
    since: Instant,
}

/// Why one server gave no answer.
enum Fault {
    /// It did not answer.
    Silent(String),
    /// It did, uselessly.
    Useless(String),
}

impl Client {
    pub(super) fn new(config: &Config, servers: Vec<SocketAddr>) -> Self {
        let state = State {
            shunned: vec![None; servers.len()],
            heard: vec![None; servers.len()],
            idle: VecDeque::new(),
        };
        Self {
            servers,
            transport: config.transport,
            timeout: config.timeout,
            budget: Semaphore::new(MAX_IN_FLIGHT),
            suspects: Semaphore::new(MAX_SUSPECTS),
            state: Mutex::new(state),
        }
    }

    pub(super) fn servers(&self) -> &[SocketAddr] {
        &self.servers
    }

    /// The longest that a question may take, but for aliases.
    pub(super) fn patience(&self) -> Duration {
        // UDP, and TCP after it.
        let tries = self.servers.len().saturating_mul(2 * ROUNDS);
        self.timeout.saturating_mul(u32::try_from(tries).unwrap_or(u32::MAX))
    }

    /// When any server last said anything.
    pub(super) fn last_heard(&self) -> Option<Instant> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.heard.iter().copied().max().flatten()
    }

    /// Asks until there is a definite answer, or nobody left to ask. A `suspect` is a question that failed the last time.
    pub(super) async fn ask(&self, question: &Question, suspect: bool) -> Outcome {
        let budget = if suspect { &self.suspects } else { &self.budget };
        let Ok(_permit) = budget.acquire().await else {
            return Err(silence("shutting down".to_owned()));
        };
        let mut asked = question.clone();
        let mut lived = Duration::MAX;
        for _ in 0..=MAX_ALIASES {
            match self.ask_servers(&asked).await? {
                Reply::Alias { name, ttl } => {
                    asked.name = name;
                    lived = lived.min(ttl);
                }
                Reply::Definite(answer) => {
                    let ttl = answer.ttl.map(|ttl| ttl.min(lived));
                    return Ok(Answer { ttl, ..*answer });
                }
                Reply::Truncated | Reply::Useless(_) | Reply::Foreign => break,
            }
        }
        Err(Failure {
            reason: format!("more than {MAX_ALIASES} aliases in a row"),
            spoke: true,
        })
    }

    /// A definite answer or an alias.
    async fn ask_servers(&self, question: &Question) -> Result<Reply, Failure> {
        let began = Instant::now();
        let mut failure: Option<Failure> = None;
        for _ in 0..ROUNDS {
            for index in self.order() {
                let Some(server) = self.servers.get(index).copied() else {
                    continue;
                };
                let fault = match self.ask_server(server, question).await {
                    Ok(reply) => {
                        self.hear(index);
                        return Ok(reply);
                    }
                    Err(fault) => fault,
                };
                match fault {
                    Fault::Useless(_) => self.hear(index),
                    Fault::Silent(_) => self.shun(index, began),
                }
                let heard = matches!(&failure, Some(Failure { spoke: true, .. }));
                match fault {
                    Fault::Useless(reason) if !heard => {
                        let reason = format!("{reason} from {server}");
                        failure = Some(Failure { reason, spoke: true });
                    }
                    Fault::Silent(reason) if failure.is_none() => {
                        failure = Some(silence(format!("{server}: {reason}")))
                    }
                    Fault::Useless(_) | Fault::Silent(_) => {}
                }
            }
            // Whoever spoke would say the same again.
            if matches!(&failure, Some(Failure { spoke: true, .. })) {
                break;
            }
        }
        Err(failure.unwrap_or_else(|| silence("there is no server to ask".to_owned())))
    }

    /// The servers as they are configured, those that did not answer lately at the end.
    fn order(&self) -> Vec<usize> {
        let now = Instant::now();
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let shunned = |index: &usize| {
            state
                .shunned
                .get(*index)
                .copied()
                .flatten()
                .is_some_and(|until| until > now)
        };
        let (last, mut first): (Vec<usize>, Vec<usize>) = (0..self.servers.len()).partition(shunned);
        first.extend(last);
        first
    }

    fn hear(&self, index: usize) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shunned) = state.shunned.get_mut(index) {
            *shunned = None;
        }
        if let Some(heard) = state.heard.get_mut(index) {
            *heard = Some(Instant::now());
        }
    }

    /// A server did not answer a question that was begun at `began`; if it answered others since, the question is to blame.
    fn shun(&self, index: usize, began: Instant) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state
            .heard
            .get(index)
            .copied()
            .flatten()
            .is_some_and(|heard| heard >= began)
        {
            return;
        }
        if let Some(shunned) = state.shunned.get_mut(index) {
            *shunned = Some(Instant::now() + SHUNNED);
        }
        if let Some(server) = self.servers.get(index) {
            // A path that is silent is so for all of its connections.
            state.idle.retain(|idle| idle.server != *server);
        }
    }

    async fn ask_server(&self, server: SocketAddr, question: &Question) -> Result<Reply, Fault> {
        let reply = match self.transport {
            Transport::Auto => match self.limited(by_udp(server, question)).await? {
                Reply::Truncated => self.limited(self.by_tcp(server, question)).await?,
                reply @ (Reply::Definite(_) | Reply::Alias { .. } | Reply::Useless(_) | Reply::Foreign) => reply,
            },
            Transport::Tcp => self.limited(self.by_tcp(server, question)).await?,
        };
        match reply {
            Reply::Definite(_) | Reply::Alias { .. } => Ok(reply),
            Reply::Useless(reason) => Err(Fault::Useless(reason)),
            Reply::Truncated => Err(Fault::Useless("an answer that is cut short".to_owned())),
            Reply::Foreign => Err(Fault::Useless("an answer to another question".to_owned())),
        }
    }

    async fn limited(&self, exchange: impl Future<Output = io::Result<Reply>>) -> Result<Reply, Fault> {
        match timeout(self.timeout, exchange).await {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(error)) => Err(Fault::Silent(error.to_string())),
            Err(_) => Err(Fault::Silent(format!("no answer within {:?}", self.timeout))),
        }
    }

    /// One question a connection at a time. A connection that waited may have been closed meanwhile; a new one tells.
    async fn by_tcp(&self, server: SocketAddr, question: &Question) -> io::Result<Reply> {
        if let Some(mut stream) = self.idle(server)
            && let Ok(reply) = over(&mut stream, question).await
            && reply != Reply::Foreign
        {
            self.keep(server, stream);
            return Ok(reply);
        }
        let mut stream = TcpStream::connect(server).await?;
        stream.set_nodelay(true)?;
        let reply = over(&mut stream, question).await?;
        if reply != Reply::Foreign {
            self.keep(server, stream);
        }
        Ok(reply)
    }

    fn idle(&self, server: SocketAddr) -> Option<TcpStream> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        while state.idle.front().is_some_and(|idle| idle.since.elapsed() > KEPT) {
            state.idle.pop_front();
        }
        let place = state.idle.iter().rposition(|idle| idle.server == server)?;
        state.idle.remove(place).map(|idle| idle.stream)
    }

    fn keep(&self, server: SocketAddr, stream: TcpStream) {
        let since = Instant::now();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.idle.push_back(Idle { server, stream, since });
        if state.idle.len() > MAX_IDLE {
            state.idle.pop_front();
        }
    }
}

fn silence(reason: String) -> Failure {
    Failure { reason, spoke: false }
}

fn question_bytes(question: &Question) -> io::Result<(u16, Vec<u8>)> {
    encode(question).ok_or_else(|| io::Error::other("the name can't be asked for"))
}

async fn by_udp(server: SocketAddr, question: &Question) -> io::Result<Reply> {
    let (id, bytes) = question_bytes(question)?;
    let local: SocketAddr = if server.is_ipv4() {
        (Ipv4Addr::UNSPECIFIED, 0).into()
    } else {
        (Ipv6Addr::UNSPECIFIED, 0).into()
    };
    let socket = UdpSocket::bind(local).await?;
    // A connected socket hears nobody else, and hears of a port that is closed.
    socket.connect(server).await?;
    socket.send(&bytes).await?;
    let mut datagram = vec![0; MAX_DATAGRAM];
    loop {
        let length = socket.recv(&mut datagram).await?;
        match decode(question, id, datagram.get(..length).unwrap_or_default()) {
            Reply::Foreign => {}
            reply @ (Reply::Definite(_) | Reply::Truncated | Reply::Alias { .. } | Reply::Useless(_)) => {
                return Ok(reply);
            }
        }
    }
}

async fn over(stream: &mut TcpStream, question: &Question) -> io::Result<Reply> {
    let (id, bytes) = question_bytes(question)?;
    let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
    let framed = [&length.to_be_bytes(), bytes.as_slice()].concat();
    stream.write_all(&framed).await?;
    // Two bytes of length bound the answer.
    let length = stream.read_u16().await?;
    let mut answer = vec![0; usize::from(length)];
    stream.read_exact(&mut answer).await?;
    Ok(decode(question, id, &answer))
}

//! One connection to one server: requests in order, answers in the same order, and events in between.
//!
//! It is driven by whoever holds it, so nothing outlives a session, and what waits is bounded: the length of a message,
//! the bytes of the answers to one call, and the events that nobody has taken yet. The end of the connection, silence
//! included, is an error; there is no second one.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::jute::{self, Event, Input};
use crate::Error;

/// A message: the names of half a million nodes. Servers send no data above a mebibyte unless told to.
const MAX_MESSAGE_BYTES: usize = 64 * 1024 * 1024;
/// The answers to the requests of one call together.
const MAX_CALL_BYTES: usize = 256 * 1024 * 1024;
/// Events that wait: as many as the nodes of a large tree. Whoever is that far behind should list anew.
const MAX_EVENTS: usize = 200_000;
/// One step of reading.
const CHUNK: usize = 64 * 1024;
/// The longest wait for the next answer of a call, while something arrives.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// A plain connection, or TLS.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// An answer to one request.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    /// Zero, or why not.
    pub(super) code: i32,
    pub(super) body: Bytes,
}

pub(super) struct Connection {
    stream: Box<dyn Stream>,
    incoming: BytesMut,
    outgoing: BytesMut,
    unflushed: bool,
    events: VecDeque<Event>,
    /// The number of the last request.
    xid: i32,
    /// How long the server may be silent; it is asked for a sign of life well before.
    patience: Duration,
    heard: Instant,
    /// When something was sent. A server ends the session of a client that is silent, however much it tells it itself.
    sent: Instant,
    /// When somebody last cared.
    driven: Instant,
}

/// What one message is.
enum Message {
    Event,
    Pong,
    Answer(i32, Answer),
}

impl Connection {
    /// A connection that may be silent for `patience`, and the session timeout that the server grants.
    pub(super) async fn open(
        stream: impl Stream + 'static,
        asked: Duration,
        patience: Duration,
    ) -> Result<(Self, Duration), Error> {
        let now = Instant::now();
        let mut connection = Self {
            stream: Box::new(stream),
            incoming: BytesMut::new(),
            outgoing: BytesMut::new(),
            unflushed: false,
            events: VecDeque::new(),
            xid: 0,
            patience,
            heard: now,
            sent: now,
            driven: now,
        };
        let asked = i32::try_from(asked.as_millis()).unwrap_or(i32::MAX);
        connection.outgoing.extend_from_slice(&jute::connect(asked));
        let answer = loop {
            if let Some(message) = connection.message()? {
                break message;
            }
            connection.step().await?;
        };
        let mut answer = Input(&answer);
        let _protocol = answer.int().map_err(garbled)?;
        let granted = answer.int().map_err(garbled)?;
        match u64::try_from(granted) {
            Ok(granted) if granted > 0 => Ok((connection, Duration::from_millis(granted))),
            Ok(_) | Err(_) => Err(Error::Unavailable("the server grants no session".to_owned())),
        }
    }

    /// From here on the server may be silent for this long.
    pub(super) fn be_patient_for(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// Says who we are. ZooKeeper accepts any user with any password: what they are worth, nodes say.
    pub(super) async fn authenticate(&mut self, scheme: &str, credentials: &[u8]) -> Result<Answer, Error> {
        self.outgoing.extend_from_slice(&jute::auth(scheme, credentials));
        let mut answers = Vec::new();
        self.answers(&[jute::XID_AUTH], &mut answers).await?;
        answers.pop().ok_or_else(|| garbled(jute::Garbled))
    }

    /// Sends requests all at once, and takes their answers as they come. Each request is given its number.
    pub(super) async fn call(
        &mut self,
        requests: &[impl Fn(i32) -> Vec<u8>],
        answers: &mut Vec<Answer>,
    ) -> Result<(), Error> {
        let mut numbers = Vec::with_capacity(requests.len());
        for request in requests {
            self.xid = self.xid.checked_add(1).unwrap_or(1);
            self.outgoing.extend_from_slice(&request(self.xid));
            numbers.push(self.xid);
        }
        self.answers(&numbers, answers).await
    }

    async fn answers(&mut self, numbers: &[i32], answers: &mut Vec<Answer>) -> Result<(), Error> {
        let mut bytes = 0;
        let mut numbers = numbers.iter();
        let Some(mut expected) = numbers.next() else {
            return Ok(());
        };
        let mut deadline = Instant::now() + ANSWER_TIMEOUT;
        loop {
            match self.next_message()? {
                Some(Message::Event | Message::Pong) => continue,
                Some(Message::Answer(number, answer)) if number == *expected => {
                    bytes += answer.body.len();
                    if bytes > MAX_CALL_BYTES {
                        return Err(too_long("the answers", MAX_CALL_BYTES));
                    }
                    answers.push(answer);
                    deadline = Instant::now() + ANSWER_TIMEOUT;
                    match numbers.next() {
                        Some(next) => expected = next,
                        None => return Ok(()),
                    }
                    continue;
                }
                Some(Message::Answer(..)) => return Err(garbled(jute::Garbled)),
                None => {}
            }
            let step = timeout_at(deadline, self.step()).await;
            step.map_err(|_| Error::Unavailable(format!("no answer within {ANSWER_TIMEOUT:?}")))??;
        }
    }

    /// The next event. It may be dropped and called again without a loss.
    pub(super) async fn event(&mut self) -> Result<Event, Error> {
        loop {
            if let Some(event) = self.next_event()? {
                return Ok(event);
            }
            self.step().await?;
        }
    }

    /// The next event that has arrived already.
    pub(super) fn next_event(&mut self) -> Result<Option<Event>, Error> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(Some(event));
            }
            match self.next_message()? {
                Some(Message::Event | Message::Pong) => {}
                Some(Message::Answer(..)) => return Err(garbled(jute::Garbled)),
                None => return Ok(None),
            }
        }
    }

    /// Sends or receives something, or finds that nothing is received any more. It may be dropped without a loss.
    async fn step(&mut self) -> Result<(), Error> {
        let now = Instant::now();
        if now > self.driven + self.patience / 2 {
            // Nobody listened and nobody asked, so the silence is not the server's.
            self.heard = now;
        }
        self.driven = now;
        let dead_at = self.heard + self.patience;
        let ping_at = self.sent + self.patience / 3;
        let writes = self.unflushed || !self.outgoing.is_empty();
        self.incoming.reserve(CHUNK);
        let (mut reader, writer) = tokio::io::split(&mut self.stream);
        tokio::select! {
            // What is to be written has an end, a sign of life is due whatever arrives, and what has arrived counts more
            // than the clock.
            biased;
            written = write(writer, &mut self.outgoing, &mut self.unflushed), if writes => {
                written.map_err(lost)?;
                self.sent = Instant::now();
            }
            () = sleep_until(ping_at), if !writes => {
                self.outgoing.extend_from_slice(&jute::ping());
            }
            read = reader.read_buf(&mut self.incoming) => {
                if read.map_err(lost)? == 0 {
                    return Err(Error::Unavailable("the server ended the connection".to_owned()));
                }
                self.heard = Instant::now();
            }
            () = sleep_until(dead_at) => {
                return Err(Error::Unavailable(format!("the server was silent for {:?}", self.patience)));
            }
        }
        Ok(())
    }

    /// The next whole message that has arrived.
    fn message(&mut self) -> Result<Option<Bytes>, Error> {
        let Ok(length) = Input(&self.incoming).int() else {
            return Ok(None);
        };
        let length = usize::try_from(length).map_err(|_| garbled(jute::Garbled))?;
        if length > MAX_MESSAGE_BYTES {
            return Err(too_long("an answer", MAX_MESSAGE_BYTES));
        }
        let end = size_of::<i32>() + length;
        if self.incoming.len() < end {
            return Ok(None);
        }
        let message = self.incoming.split_to(end).freeze();
        Ok(Some(message.slice(size_of::<i32>()..)))
    }

    fn next_message(&mut self) -> Result<Option<Message>, Error> {
        let Some(message) = self.message()? else {
            return Ok(None);
        };
        let mut input = Input(&message);
        let xid = input.int().map_err(garbled)?;
        let zxid = input.long().map_err(garbled)?;
        let code = input.int().map_err(garbled)?;
        match (xid, code) {
            (_, jute::SESSION_EXPIRED | jute::SESSION_MOVED) => {
                Err(Error::Unavailable("the ZooKeeper session is over".to_owned()))
            }
            (_, jute::AUTH_FAILED | jute::NEEDS_AUTH) => {
                Err(Error::Denied("the ensemble refused the credentials".to_owned()))
            }
            (jute::XID_PING, _) => Ok(Some(Message::Pong)),
            (jute::XID_EVENT, _) => {
                let event = jute::event(zxid, input).map_err(garbled)?;
                let event = event.ok_or_else(|| Error::Resync("the server took the watch away".to_owned()))?;
                if self.events.len() >= MAX_EVENTS {
                    return Err(Error::Resync(format!("more than {MAX_EVENTS} changes wait")));
                }
                self.events.push_back(event);
                Ok(Some(Message::Event))
            }
            (xid, code) => Ok(Some(Message::Answer(
                xid,
                Answer {
                    code,
                    body: message.slice_ref(input.0),
                },
            ))),
        }
    }
}

async fn write(mut writer: impl AsyncWrite + Unpin, outgoing: &mut BytesMut, unflushed: &mut bool) -> io::Result<()> {
    if outgoing.is_empty() {
        writer.flush().await?;
        *unflushed = false;
        return Ok(());
    }
    if writer.write_buf(outgoing).await? == 0 {
        return Err(io::ErrorKind::WriteZero.into());
    }
    *unflushed = true;
    Ok(())
}

fn lost(error: io::Error) -> Error {
    Error::Unavailable(format!("the connection was lost: {error}"))
}

fn garbled(error: jute::Garbled) -> Error {
    Error::Unavailable(error.to_string())
}

fn too_long(what: &str, most: usize) -> Error {
    Error::Unavailable(format!("{what} of the server would be longer than {most} bytes"))
}

#[cfg(test)]
mod tests;

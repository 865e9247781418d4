//! One task a stream: it selects between what the client says, what changed, and what somebody asks.
//!
//! A response is made only when the transport has room for it, so a slow client costs what it subscribed to and no
//! more, and hears the latest when it reads again.

use std::net::SocketAddr;
use std::pin::pin;
use std::time::SystemTime;

use bytes::Bytes;
use leadsman_core::snapshot::{ResourceType, Snapshot};
use leadsman_core::xds::{DiscoveryStream, Limits, Node};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::body::Body;
use tonic::{Request, Status, Streaming};

use super::Shared;
use super::codec::{body, frame};
use super::convert::Ask;
use crate::holdings::{self, Holdings};
use crate::metrics::Metrics;
use crate::proxies::{Delivery, Presence, Proxy, Question, Refusal, Standing};
use crate::publication::Seat;

/// Responses that are made and not taken by the transport yet: one, so that nothing goes stale on the way.
const READY: usize = 1;
/// Questions of the admin API that may wait for a stream.
const QUESTIONS: usize = 8;

struct Stream {
    seat: Seat,
    protocol: DiscoveryStream,
    /// The one type of the stream, unless it is aggregated.
    only: Option<ResourceType>,
    started: Instant,
    peer: Option<SocketAddr>,
    shared: Shared,
    questions: mpsc::Sender<Question>,
    presence: Option<Presence>,
    /// That the client has to wait for its first list is said once.
    told_to_wait: bool,
    refusals: [Option<Refusal>; ResourceType::ALL.len()],
}

/// Starts the task of a stream and returns what it will send.
pub(super) fn open<R: Ask>(shared: &Shared, only: Option<ResourceType>, request: Request<Streaming<R>>) -> Body {
    let (responses, sent) = mpsc::channel(READY);
    let (questions, asked) = mpsc::channel(QUESTIONS);
    let stream = Stream {
        seat: shared.publication.enter(),
        protocol: DiscoveryStream::new(R::VARIANT, Limits::default()),
        only,
        started: Instant::now(),
        peer: request.remote_addr(),
        shared: shared.clone(),
        questions,
        presence: None,
        told_to_wait: false,
        refusals: [const { None }; ResourceType::ALL.len()],
    };
    shared.metrics.stream_opened();
    // The task ends with its client: when the transport drops the receiver, and at shutdown.
    tokio::spawn(async move {
        let metrics = stream.shared.metrics.clone();
        let end = stream.run(request.into_inner(), &responses, asked).await;
        metrics.stream_closed();
        // A client that is gone needs no goodbye.
        let _ = responses.send(Err(end.err().unwrap_or_else(|| Status::ok("")))).await;
    });
    body(sent)
}

impl Stream {
    async fn run<R: Ask>(
        mut self,
        mut requests: Streaming<R>,
        responses: &mpsc::Sender<Result<Bytes, Status>>,
        mut asked: mpsc::Receiver<Question>,
    ) -> Result<(), Status> {
        let shutdown = self.shared.shutdown.clone();
        // Both are entered in a list when they are first asked, so they are asked for once.
        let mut shutdown = pin!(shutdown.cancelled());
        let mut closed = pin!(responses.closed());
        let (mut news, mut asked_all) = (false, false);
        loop {
            tokio::select! {
                biased;
                () = &mut shutdown => return Err(Status::unavailable("the server is shutting down")),
                () = &mut closed => return Ok(()),
                Some(question) = asked.recv() => self.answer(question),
                request = requests.message(), if !asked_all => match request {
                    Ok(Some(request)) => {
                        self.handle(request)?;
                        news = true;
                    }
                    // Whoever has nothing more to say may still want the answer.
                    Ok(None) => (asked_all, news) = (true, true),
                    Err(status) => {
                        tracing::debug!(peer = ?self.peer, %status, "a stream ends: its client left, or said what can't be read");
                        return Err(status);
                    }
                },
                () = self.seat.arrived() => {
                    self.take_letters();
                    news = true;
                }
                room = responses.reserve(), if news => {
                    let Ok(room) = room else { return Ok(()) };
                    match self.next() {
                        Some(response) => room.send(Ok(response)),
                        None if asked_all => return Ok(()),
                        None => news = false,
                    }
                }
            }
        }
    }

    fn handle(&mut self, mut request: impl Ask) -> Result<(), Status> {
        if let Some(only) = self.only {
            let type_url = request.type_url();
            if type_url.is_empty() {
                only.type_url().clone_into(type_url);
            } else if type_url != only.type_url() {
                return Err(Status::invalid_argument(format!(
                    "this service is for {} alone",
                    only.type_url()
                )));
            }
        }
        let refused = self.note_answer(&mut request);
        let before = refused.map(|kind| self.protocol.quarantines(kind));
        let interests = request
            .hand_to(&mut self.protocol, &self.seat.snapshot())
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        if let (Some(kind), Some(before)) = (refused, before) {
            self.shared
                .metrics
                .quarantined(kind, self.protocol.quarantines(kind) - before);
        }
        self.seat.update(&interests);
        if let (None, Some(node)) = (&self.presence, self.protocol.node().cloned()) {
            self.presence = Some(self.announce(node));
        }
        Ok(())
    }

    fn announce(&self, node: Node) -> Presence {
        tracing::info!(node = %node.id, peer = self.peer.map(tracing::field::display), user_agent = %node.user_agent, "proxy connected");
        self.shared.proxies.enter(Proxy {
            stream: self.seat.id(),
            node,
            peer: self.peer,
            connected_since: SystemTime::now(),
            questions: self.questions.clone(),
        })
    }

    /// Counts and logs an answer, and says of which type a refusal is.
    fn note_answer(&mut self, request: &mut impl Ask) -> Option<ResourceType> {
        let kind = ResourceType::from_type_url(request.type_url())?;
        let (nonce, error) = request.answer();
        if nonce.is_empty() {
            return None;
        }
        let Some(message) = error else {
            self.shared.metrics.acked(kind);
            return None;
        };
        self.shared.metrics.nacked(kind);
        let message: String = message.chars().take(Metrics::MAX_LOGGED_CHARS).collect();
        let node = self.protocol.node().map(|node| node.id.as_str()).unwrap_or_default();
        tracing::warn!(%node, kind = ?kind, %message, "a proxy refused a response");
        let refusal = Refusal {
            at: SystemTime::now(),
            message,
        };
        if let Some(slot) = self.refusals.get_mut(slot(kind)) {
            *slot = Some(refusal);
        }
        Some(kind)
    }

    fn take_letters(&mut self) {
        let letters = self.seat.take();
        for (kind, name) in &letters.changed {
            self.protocol.handle_change(*kind, name);
        }
        if letters.certainty {
            self.protocol.handle_certainty();
        }
    }

    fn next(&mut self) -> Option<Bytes> {
        let snapshot = self.seat.snapshot();
        let Some(response) = self.protocol.next_response(&snapshot, self.started.elapsed()) else {
            self.note_wait(&snapshot);
            return None;
        };
        let bytes = frame(&response, &self.shared.identifier);
        self.shared.metrics.sent(&response, bytes.len());
        Some(bytes)
    }

    /// istiod is not ready before its first list, and says no reason.
    fn note_wait(&mut self, snapshot: &Snapshot) {
        if !self.told_to_wait && snapshot.is_answering() && self.protocol.is_withholding(snapshot) {
            self.told_to_wait = true;
            let node = self.protocol.node().map(|node| node.id.as_str()).unwrap_or_default();
            tracing::warn!(%node, "a proxy that takes a list for all there is gets none before every source has been read in full: one is silent, partly unreadable, or was empty when it was first read");
        }
    }

    fn holdings(&self) -> Vec<Holdings> {
        let mut holdings = holdings::of(&self.protocol, &self.seat.snapshot(), self.started.elapsed());
        for of in &mut holdings {
            of.refusal = self.refusals.get(slot(of.kind)).cloned().flatten();
        }
        holdings
    }

    /// Whoever asked may have gone away; then the answer is for nobody.
    fn answer(&self, question: Question) {
        match question {
            Question::Standing(reply) => {
                drop(reply.send(self.holdings().into_iter().map(Standing::from).collect()));
            }
            Question::Holdings(reply) => drop(reply.send(self.holdings())),
            Question::Delivery(cluster, reply) => drop(reply.send(Delivery {
                cluster: self.protocol.state(ResourceType::Cluster, cluster.as_str()),
                assignment: self.protocol.state(ResourceType::Endpoint, cluster.as_str()),
                refusal: self.refusals.iter().flatten().max_by_key(|refusal| refusal.at).cloned(),
            })),
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.seat.update(&self.protocol.farewell());
        if let Some(node) = self.protocol.node() {
            tracing::info!(node = %node.id, peer = self.peer.map(tracing::field::display), "proxy gone");
        }
    }
}

/// Reports come in the order of the types.
fn slot(kind: ResourceType) -> usize {
    match kind {
        ResourceType::Cluster => 0,
        ResourceType::Endpoint => 1,
        ResourceType::Listener => 2,
        ResourceType::Route => 3,
        ResourceType::ServiceEntry => 4,
    }
}

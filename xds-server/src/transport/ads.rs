//! One discovery stream: it selects between what the client says, what changed, and what somebody asks.
//!
//! A response is made only when the transport has room for it, so a slow client costs what it subscribed to and no
//! more, and hears the latest when it reads again.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::SystemTime;

use bytes::Bytes;
use h2::RecvStream;
use leadsman_core::snapshot::{PerType, ResourceType, Snapshot};
use leadsman_core::xds::{DiscoveryStream, Limits, Node};
use tokio::time::Instant;
use tonic::Status;

use super::Shared;
use super::convert::Ask;
use super::grpc::{Gone, Requests, Responses, frame};
use crate::holdings::{self, Holdings};
use crate::metrics::Metrics;
use crate::proxies::{Delivery, Presence, Proxy, Question, Questions, Refusal, Standing};
use crate::publication::Seat;

struct Stream<R> {
    requests: Requests<R>,
    responses: Responses,
    seat: Seat,
    protocol: DiscoveryStream,
    /// The one type of the stream, unless it is aggregated.
    only: Option<ResourceType>,
    started: Instant,
    peer: Option<SocketAddr>,
    shared: Shared,
    questions: Arc<Questions>,
    presence: Option<Presence>,
    /// That the client has to wait for its first list is said once.
    told_to_wait: bool,
    /// The client has nothing more to say.
    asked_all: bool,
    /// There may be something to tell.
    news: bool,
    refusals: PerType<Option<Refusal>>,
}

/// Serves a stream to its end.
pub(super) async fn serve<R: Ask>(
    shared: Shared,
    only: Option<ResourceType>,
    peer: Option<SocketAddr>,
    body: RecvStream,
    responses: Responses,
) {
    let seat = shared.publication.enter();
    shared.metrics.stream_opened();
    let mut stream = Stream {
        requests: Requests::<R>::new(body),
        responses,
        protocol: DiscoveryStream::new(R::VARIANT, Limits::default()),
        only,
        started: Instant::now(),
        peer,
        shared,
        questions: Arc::new(Questions::new(seat.bell())),
        seat,
        presence: None,
        told_to_wait: false,
        asked_all: false,
        news: false,
        refusals: PerType::default(),
    };
    match poll_fn(|cx| stream.poll(cx)).await {
        Ok(()) => stream.responses.end(&Status::ok("")),
        Err(End::Status(status)) => stream.responses.end(&status),
        Err(End::Gone) => {}
    }
}

/// Why a stream ended other than well.
enum End {
    Status(Status),
    Gone,
}

impl From<Status> for End {
    fn from(status: Status) -> Self {
        Self::Status(status)
    }
}

impl From<Gone> for End {
    fn from(Gone: Gone) -> Self {
        Self::Gone
    }
}

impl<R: Ask> Stream<R> {
    /// Everything there is to do now. It is polled for all of its reasons at once, since each costs little.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        self.listen(cx)?;
        // Until it waits: what was heard once wakes nobody before it is listened for again.
        while self.seat.poll_arrived(cx).is_ready() {
            self.take_letters();
            while let Some(question) = self.questions.take() {
                self.answer(question);
            }
        }
        if self.seat.is_closed() {
            return Poll::Ready(Err(Status::unavailable("the server is shutting down").into()));
        }
        self.speak(cx)
    }

    fn listen(&mut self, cx: &mut Context<'_>) -> Result<(), End> {
        while !self.asked_all {
            match self.requests.poll_next(cx) {
                Poll::Pending => break,
                Poll::Ready(Ok(Some(request))) => self.handle(request)?,
                // Whoever has nothing more to say may still want the answer.
                Poll::Ready(Ok(None)) => self.asked_all = true,
                Poll::Ready(Err(status)) => {
                    tracing::debug!(peer = ?self.peer, %status, "a stream ends: its client left, or said what can't be read");
                    return Err(status.into());
                }
            }
            self.news = true;
        }
        Ok(())
    }

    fn speak(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        while let Poll::Ready(room) = self.responses.poll_room(self.news, cx) {
            room?;
            match self.next() {
                Some(response) => self.responses.send(response)?,
                None if self.asked_all => return Poll::Ready(Ok(())),
                None => self.news = false,
            }
        }
        Poll::Pending
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
        *self.refusals.of_mut(kind) = Some(refusal);
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
        self.news = true;
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
            of.refusal.clone_from(self.refusals.of(of.kind));
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

impl<R> Drop for Stream<R> {
    /// Also when the connection goes away under it.
    fn drop(&mut self) {
        self.questions.close();
        self.shared.metrics.stream_closed();
        self.seat.update(&self.protocol.farewell());
        if let Some(node) = self.protocol.node() {
            tracing::info!(node = %node.id, peer = self.peer.map(tracing::field::display), "proxy gone");
        }
    }
}

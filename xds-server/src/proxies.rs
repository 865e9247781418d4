//! The proxies that are connected now, for the admin API.
//!
//! A stream's state belongs to the stream's task alone; who wants to know asks it by message, so that nothing is paid for
//! the answer while nobody asks.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use dashmap::DashMap;
use leadsman_core::snapshot::ClusterName;
use leadsman_core::xds::{Node, ResourceState, StreamId, TypeReport};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::bell::Bell;
use crate::holdings::{Holdings, Tally};

/// How long a busy stream may take to answer before it is left out: an admin page must not wait for a stuck proxy.
const PATIENCE: Duration = Duration::from_secs(1);

/// A refusal and when it came.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    pub(crate) at: SystemTime,
    pub(crate) message: String,
}

/// One type of one stream.
#[derive(Clone, Debug)]
pub(crate) struct Standing {
    pub(crate) report: TypeReport,
    pub(crate) refusal: Option<Refusal>,
    pub(crate) tally: Tally,
}

/// How far a stream is with one service.
#[derive(Clone, Debug)]
pub(crate) struct Delivery {
    pub(crate) cluster: ResourceState,
    pub(crate) assignment: ResourceState,
    pub(crate) refusal: Option<Refusal>,
}

/// What can be asked of a stream.
#[derive(Debug)]
pub(crate) enum Question {
    Standing(oneshot::Sender<Vec<Standing>>),
    Delivery(ClusterName, oneshot::Sender<Delivery>),
    Holdings(oneshot::Sender<Vec<Holdings>>),
}

/// Questions that may wait for a stream; who comes later gets no answer.
const MAX_QUESTIONS: usize = 8;

/// Between those who ask and the one stream that answers.
#[derive(Debug)]
pub(crate) struct Questions {
    /// `None` when the stream is gone.
    waiting: Mutex<Option<VecDeque<Question>>>,
    bell: Arc<Bell>,
}

impl Questions {
    /// The stream listens to `bell`.
    pub(crate) fn new(bell: Arc<Bell>) -> Self {
        Self {
            waiting: Mutex::new(Some(VecDeque::new())),
            bell,
        }
    }

    /// The next one.
    pub(crate) fn take(&self) -> Option<Question> {
        self.with(|waiting| waiting.as_mut()?.pop_front())
    }

    /// Nobody is there to answer any more.
    pub(crate) fn close(&self) {
        self.with(|waiting| *waiting = None);
    }

    fn put(&self, question: Question) {
        self.with(|waiting| {
            if let Some(waiting) = waiting.as_mut().filter(|waiting| waiting.len() < MAX_QUESTIONS) {
                waiting.push_back(question);
            }
        });
        self.bell.ring();
    }

    fn with<T>(&self, work: impl FnOnce(&mut Option<VecDeque<Question>>) -> T) -> T {
        work(&mut self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A connected proxy.
#[derive(Clone, Debug)]
pub(crate) struct Proxy {
    pub(crate) stream: StreamId,
    pub(crate) node: Node,
    pub(crate) peer: Option<SocketAddr>,
    pub(crate) connected_since: SystemTime,
    pub(crate) questions: Arc<Questions>,
}

/// All connected proxies.
#[derive(Debug, Default)]
pub(crate) struct Proxies {
    by_stream: DashMap<StreamId, Proxy>,
}

impl Proxies {
    /// Enters a proxy; it leaves when the guard is dropped.
    pub(crate) fn enter(self: &Arc<Self>, proxy: Proxy) -> Presence {
        let stream = proxy.stream;
        self.by_stream.insert(stream, proxy);
        Presence {
            proxies: self.clone(),
            stream,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.by_stream.len()
    }

    /// The proxy of an id, or else the newest of a node: the one before it may be dead, and not known to be yet.
    pub(crate) fn find(&self, id: &str) -> Option<Proxy> {
        let all = self.all();
        let exact = all.iter().find(|proxy| proxy.id() == id);
        let newest = || all.iter().rfind(|proxy| proxy.node.id == id);
        exact.or_else(newest).cloned()
    }

    /// Every proxy, in the order of node ids, then of arrival.
    pub(crate) fn all(&self) -> Vec<Proxy> {
        let mut all: Vec<Proxy> = self.by_stream.iter().map(|entry| entry.value().clone()).collect();
        all.sort_by(|a, b| (&a.node.id, a.stream).cmp(&(&b.node.id, b.stream)));
        all
    }
}

/// Keeps a proxy in the table.
#[derive(Debug)]
pub(crate) struct Presence {
    proxies: Arc<Proxies>,
    stream: StreamId,
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.proxies.by_stream.remove(&self.stream);
    }
}

impl From<Holdings> for Standing {
    fn from(holdings: Holdings) -> Self {
        Self {
            tally: holdings.tally(),
            report: holdings.report,
            refusal: holdings.refusal,
        }
    }
}

impl Proxy {
    /// Two streams of one node are two proxies to us.
    pub(crate) fn id(&self) -> String {
        format!("{}#{}", self.node.id, self.stream)
    }

    /// How the stream stands, type by type; `None` when it is gone or too busy to say.
    pub(crate) async fn standing(&self) -> Option<Vec<Standing>> {
        self.ask(Question::Standing).await
    }

    /// How far the stream is with a service.
    pub(crate) async fn delivery(&self, cluster: ClusterName) -> Option<Delivery> {
        self.ask(|reply| Question::Delivery(cluster, reply)).await
    }

    /// Every resource the stream wants, type by type.
    pub(crate) async fn holdings(&self) -> Option<Vec<Holdings>> {
        self.ask(Question::Holdings).await
    }

    async fn ask<T>(&self, question: impl FnOnce(oneshot::Sender<T>) -> Question) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.questions.put(question(reply));
        timeout(PATIENCE, answer).await.ok()?.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e03_two_streams_with_one_node_id_are_two_proxies_and_one_leaves_alone() {
        let proxies = Arc::<Proxies>::default();
        let enter = |stream| {
            let node = Node {
                id: "edge-1".to_owned(),
                ..Node::default()
            };
            proxies.enter(Proxy {
                stream,
                node,
                peer: None,
                connected_since: SystemTime::UNIX_EPOCH,
                questions: Arc::new(Questions::new(Arc::default())),
            })
        };
        let ids = || -> Vec<String> { proxies.all().iter().map(Proxy::id).collect() };
        let (before, after) = (enter(1), enter(2));
        assert_eq!(ids(), ["edge-1#1", "edge-1#2"]);
        assert_eq!(proxies.find("edge-1").map(|proxy| proxy.stream), Some(2));
        drop(before);
        assert_eq!(ids(), ["edge-1#2"]);
        drop(after);
        assert_eq!(proxies.len(), 0);
    }
}

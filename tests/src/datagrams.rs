//! A UDP proxy that breaks on request: the fault proxy's other half, for servers that listen on both.
//!
//! It reads the questions of DNS that pass, so that a test can tell how often a name was asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hickory_proto::op::Message;
use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::wait::{PATIENT, until_ok};

/// The largest datagram there is.
const MOST: usize = 65_535;
/// How long an answer may take before its question is forgotten.
const FORGOTTEN: Duration = Duration::from_secs(10);

/// What is wrong with the network at this moment; the default is a perfect one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Fault {
    #[default]
    None,
    /// The port is closed.
    Refuse,
    /// Nothing arrives.
    Lose,
    /// Each answer comes behind some that are none.
    Forge,
}

/// What was asked, and what is not answered.
#[derive(Debug, Default)]
struct Seen {
    questions: BTreeMap<String, usize>,
    unheard: BTreeSet<String>,
}

type Questions = Arc<Mutex<Seen>>;

/// A proxy in front of one address; dropping it ends it.
#[derive(Debug)]
pub struct Datagrams {
    fault: watch::Sender<Fault>,
    questions: Questions,
    task: JoinHandle<()>,
}

impl Datagrams {
    /// Starts a healthy proxy from `local`, which is that of a TCP proxy, to `upstream`.
    pub async fn start(local: SocketAddr, upstream: SocketAddr) -> Self {
        let socket = until_ok(PATIENT, "a UDP port for the proxy", async || {
            UdpSocket::bind(local).await
        })
        .await;
        let (fault, seen) = watch::channel(Fault::default());
        let questions = Questions::default();
        let carrying = Carrying {
            local,
            upstream,
            fault: seen,
            questions: Arc::clone(&questions),
        };
        let task = tokio::spawn(carrying.run(socket));
        Self { fault, questions, task }
    }

    /// Closes the port: who asks is told so.
    pub fn sever(&self) {
        self.fault.send_replace(Fault::Refuse);
    }

    /// Loses everything in either direction.
    pub fn stall(&self) {
        self.fault.send_replace(Fault::Lose);
    }

    /// Sends forged answers before each true one: another id, another question, no answer, no message.
    pub fn forge(&self) {
        self.fault.send_replace(Fault::Forge);
    }

    /// Loses one question, such as `a.example. SRV`, and lets every other one pass: somebody behind the server is dead.
    pub fn lose(&self, question: &str) {
        self.seen().unheard.insert(question.to_owned());
    }

    /// Ends every fault.
    pub fn heal(&self) {
        self.seen().unheard.clear();
        self.fault.send_replace(Fault::None);
    }

    /// How often `question`, such as `a.example. SRV`, was asked.
    pub fn asked(&self, question: &str) -> usize {
        self.seen().questions.get(question).copied().unwrap_or_default()
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.questions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Datagrams {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Carrying {
    local: SocketAddr,
    upstream: SocketAddr,
    fault: watch::Receiver<Fault>,
    questions: Questions,
}

impl Carrying {
    async fn run(mut self, socket: UdpSocket) {
        let mut socket = Some(Arc::new(socket));
        let mut exchanges = JoinSet::new();
        let mut datagram = vec![0; MOST];
        loop {
            let fault = *self.fault.borrow_and_update();
            if fault == Fault::Refuse {
                exchanges.abort_all();
                while exchanges.join_next().await.is_some() {}
                socket = None;
                if self.fault.wait_for(|fault| *fault != Fault::Refuse).await.is_err() {
                    return;
                }
                continue;
            }
            let open = match &socket {
                Some(open) => Arc::clone(open),
                None => match UdpSocket::bind(self.local).await {
                    Ok(open) => Arc::clone(socket.insert(Arc::new(open))),
                    Err(_) => return,
                },
            };
            tokio::select! {
                changed = self.fault.changed() => if changed.is_err() { return },
                received = open.recv_from(&mut datagram) => if let Ok((length, client)) = received {
                    let question = datagram.get(..length).unwrap_or_default().to_vec();
                    if !self.passes(&question) {
                        continue;
                    }
                    let exchange = Exchange { client, upstream: self.upstream, fault: self.fault.clone() };
                    exchanges.spawn(exchange.carry(open, question));
                },
                Some(_) = exchanges.join_next() => {}
            }
        }
    }

    /// Counts a question, and says whether it is heard.
    fn passes(&self, datagram: &[u8]) -> bool {
        let Ok(message) = Message::from_vec(datagram) else {
            return true;
        };
        let mut seen = self.questions.lock().unwrap_or_else(PoisonError::into_inner);
        let mut heard = true;
        for query in &message.queries {
            let text = format!("{} {}", query.name().to_ascii(), query.query_type());
            heard &= !seen.unheard.contains(&text);
            *seen.questions.entry(text).or_default() += 1;
        }
        heard
    }
}

struct Exchange {
    client: SocketAddr,
    upstream: SocketAddr,
    fault: watch::Receiver<Fault>,
}

impl Exchange {
    async fn carry(self, back: Arc<UdpSocket>, question: Vec<u8>) -> io::Result<()> {
        if *self.fault.borrow() == Fault::Lose {
            return Ok(());
        }
        let socket = UdpSocket::bind("127.0.0.1:0").await?;
        socket.connect(self.upstream).await?;
        socket.send(&question).await?;
        let mut answer = vec![0; MOST];
        let length = tokio::time::timeout(FORGOTTEN, socket.recv(&mut answer)).await??;
        let answer = answer.get(..length).unwrap_or_default();
        let fault = *self.fault.borrow();
        match fault {
            Fault::Lose | Fault::Refuse => return Ok(()),
            Fault::Forge => {
                for forged in forgeries(&question, answer) {
                    back.send_to(&forged, self.client).await?;
                }
            }
            Fault::None => {}
        }
        back.send_to(answer, self.client).await?;
        Ok(())
    }
}

/// What somebody might send who can't see the question.
fn forgeries(question: &[u8], answer: &[u8]) -> Vec<Vec<u8>> {
    let changed = |place: usize, bits: u8| {
        let mut bytes = answer.to_vec();
        if let Some(byte) = bytes.get_mut(place) {
            *byte ^= bits;
        }
        bytes
    };
    // The id; a letter of the name; the type of the question would need its length.
    vec![Vec::new(), vec![0], changed(1, 1), changed(14, 1), question.to_vec()]
}

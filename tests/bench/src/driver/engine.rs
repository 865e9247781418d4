//! The loop of the driver's thread, and what it can be asked.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};

use super::Ledger;
use super::client::{Held, Holdings, Latest, Receiver, Shared, Stats};
use super::connection::Connection;
use crate::machine::{now, thread_cpu};
use crate::wire::ads;

const SCRATCH: usize = 256 << 10;
/// Of one turn.
pub(super) const EVENTS: usize = 1024;
/// How long a question may have to wait.
const IDLE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 5_000_000,
};

/// What clients say when they connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Knowledge {
    /// Nothing, as after a start.
    Nothing,
    /// The version of every name they hold, as after a lost connection.
    Held,
    /// The same, but every so manieth name is of a version that nobody knows.
    Stale(usize),
}

#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) server: SocketAddr,
    pub(crate) clients: usize,
    /// Names of each client.
    pub(crate) names: usize,
    /// All clients ask for the same names, or each for the ones behind those of the client before.
    pub(crate) shared: bool,
    pub(crate) knowledge: Knowledge,
    /// Every so manieth client is one that can be stalled.
    pub(crate) slow: Option<usize>,
    /// The slow ones are not slow: they refuse every response.
    pub(crate) refusing: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Progress {
    /// Clients that hold every name.
    pub(crate) complete: usize,
    /// Client and service pairs that miss the last write.
    pub(crate) behind: usize,
    pub(crate) loss: Option<String>,
}

#[derive(Clone, Debug)]
pub(crate) struct Report {
    pub(crate) stats: Stats,
    /// The driver's own, since the last reset.
    pub(crate) cpu: Duration,
    pub(crate) wall: Duration,
}

/// What the clients hold.
#[derive(Clone, Debug)]
pub(crate) struct Truth {
    /// Names of clients that do not hold the newest of the service.
    pub(crate) differing: usize,
    pub(crate) missing: usize,
    pub(crate) contents: Vec<Vec<u8>>,
}

#[derive(Debug)]
struct Client {
    connection: Option<Connection>,
    holdings: Holdings,
    slow: bool,
    refusing: bool,
    writing: bool,
}

#[derive(Debug)]
pub(crate) struct Engine {
    epoll: OwnedFd,
    names: Vec<String>,
    clients: Vec<Client>,
    shared: Shared,
    /// Clients that ask for each service.
    subscribers: Vec<usize>,
    scratch: Vec<u8>,
    reset: (Instant, Duration),
}

impl Engine {
    pub(crate) fn new(names: Vec<String>, ledger: Arc<Ledger>) -> anyhow::Result<Self> {
        Ok(Self {
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            shared: Shared {
                ledger,
                latest: vec![Latest::default(); names.len()],
                stats: Stats::default(),
                since: 0,
                watched: None,
            },
            subscribers: vec![0; names.len()],
            names,
            clients: Vec::new(),
            scratch: vec![0; SCRATCH],
            reset: (Instant::now(), Duration::ZERO),
        })
    }

    pub(crate) fn connect(&mut self, plan: Plan) -> anyhow::Result<()> {
        self.shared.stats.loss = None;
        self.subscribers.fill(0);
        self.clients.truncate(plan.clients);
        for number in 0..plan.clients {
            let offset = if plan.shared {
                0
            } else {
                number * plan.names % self.names.len().max(1)
            };
            let special = plan.slow.is_some_and(|every| number.is_multiple_of(every));
            if self.clients.len() == number {
                self.clients.push(Client {
                    connection: None,
                    holdings: Holdings {
                        offset,
                        held: vec![Held::default(); plan.names],
                        complete: 0,
                    },
                    slow: special && !plan.refusing,
                    refusing: special && plan.refusing,
                    writing: true,
                });
            }
            self.open(number, &plan)?;
        }
        Ok(())
    }

    fn open(&mut self, number: usize, plan: &Plan) -> anyhow::Result<()> {
        let Self {
            clients,
            names,
            shared,
            subscribers,
            ..
        } = self;
        let Some(client) = clients.get_mut(number) else {
            return Ok(());
        };
        let services = || {
            names
                .iter()
                .enumerate()
                .cycle()
                .skip(client.holdings.offset)
                .take(plan.names)
        };
        services().for_each(|(service, _)| {
            if let Some(count) = subscribers.get_mut(service) {
                *count += 1;
            }
        });
        if let Knowledge::Stale(every) = plan.knowledge {
            for (place, (service, _)) in services()
                .enumerate()
                .filter(|(place, _)| (place + number).is_multiple_of(every))
            {
                let (held, latest) = (client.holdings.held.get_mut(place), shared.latest.get_mut(service));
                if let (Some(held), Some(latest)) = (held, latest) {
                    latest.holders -= usize::from(*held == latest.held);
                    client.holdings.complete -= usize::from(held.hash != 0);
                    *held = Held::default();
                }
            }
        }
        let version = |place: usize, service: usize| match (plan.knowledge, client.holdings.held.get(place)) {
            (Knowledge::Nothing, _) | (_, None) => None,
            (_, Some(Held { hash: 0, .. })) => Some("stale"),
            (_, Some(_)) => shared.latest.get(service).map(|latest| latest.version.as_str()),
        };
        let known = services()
            .enumerate()
            .filter_map(|(place, (service, name))| Some((name.as_str(), version(place, service)?)));
        let mut first = Vec::new();
        let node = format!("client-{number}");
        ads::put_subscription(&mut first, &node, services().map(|(_, name)| name.as_str()), known);
        let mut connection = Connection::open(plan.server, client.slow)?;
        connection.send(&first);
        let data = EventData::new_u64(number as u64);
        epoll::add(&self.epoll, connection.socket(), data, EventFlags::IN | EventFlags::OUT)?;
        client.connection = Some(connection);
        client.writing = true;
        Ok(())
    }

    pub(crate) fn disconnect(&mut self, forget: bool) {
        for client in &mut self.clients {
            client.connection = None;
        }
        if forget {
            self.clients.clear();
            self.shared.latest.fill(Latest::default());
            self.shared.ledger.clear();
        }
    }

    pub(crate) fn stall(&mut self, stalled: bool) -> anyhow::Result<()> {
        let flags = if stalled {
            EventFlags::empty()
        } else {
            EventFlags::IN | EventFlags::OUT
        };
        for (number, client) in self.clients.iter_mut().enumerate().filter(|(_, client)| client.slow) {
            if let Some(connection) = &client.connection {
                client.writing = !stalled;
                epoll::modify(
                    &self.epoll,
                    connection.socket(),
                    EventData::new_u64(number as u64),
                    flags,
                )?;
            }
        }
        Ok(())
    }

    pub(crate) fn reset(&mut self, watched: Option<usize>) {
        self.shared.stats = Stats::default();
        self.shared.since = now();
        self.shared.watched = watched;
        self.reset = (Instant::now(), thread_cpu());
    }

    pub(crate) fn report(&self) -> Report {
        let (began, cpu) = self.reset;
        Report {
            stats: self.shared.stats.clone(),
            cpu: thread_cpu().saturating_sub(cpu),
            wall: began.elapsed(),
        }
    }

    pub(crate) fn progress(&self) -> Progress {
        let whole = |client: &&Client| client.holdings.complete == client.holdings.held.len();
        let written = self.shared.ledger.last();
        let missing = written.iter().map(|(service, stamp)| {
            let subscribers = self.subscribers.get(*service).copied().unwrap_or_default();
            let latest = self.shared.latest.get(*service);
            let holders = latest
                .filter(|latest| latest.held.stamp == *stamp)
                .map_or(0, |latest| latest.holders);
            subscribers.saturating_sub(holders)
        });
        Progress {
            complete: self.clients.iter().filter(whole).count(),
            behind: missing.sum(),
            loss: self.shared.stats.loss.clone(),
        }
    }

    pub(crate) fn truth(&self) -> Truth {
        let (mut differing, mut missing) = (0, 0);
        for Client { holdings, .. } in &self.clients {
            let services = self.shared.latest.iter().cycle().skip(holdings.offset);
            for (held, latest) in holdings.held.iter().zip(services) {
                missing += usize::from(held.hash == 0);
                differing += usize::from(held.hash != 0 && held.hash != latest.held.hash);
            }
        }
        Truth {
            differing,
            missing,
            contents: self.shared.latest.iter().map(|latest| latest.content.clone()).collect(),
        }
    }

    /// Waits a little and serves whoever is ready.
    pub(crate) fn turn(&mut self, events: &mut Vec<Event>) {
        events.clear();
        // An interrupted wait is a short one.
        let _ = epoll::wait(&self.epoll, spare_capacity(events), Some(&IDLE));
        for event in events {
            self.serve(event.data.u64(), event.flags);
        }
    }

    fn serve(&mut self, number: u64, flags: EventFlags) {
        let Some(client) = usize::try_from(number)
            .ok()
            .and_then(|number| self.clients.get_mut(number))
        else {
            return;
        };
        let Some(connection) = &mut client.connection else {
            return;
        };
        let mut receiver = Receiver {
            refuses: client.refusing,
            shared: &mut self.shared,
            holdings: &mut client.holdings,
        };
        let read = if flags.contains(EventFlags::IN) {
            connection.receive(&mut self.scratch, &mut receiver)
        } else if flags.intersects(EventFlags::ERR | EventFlags::HUP) {
            Err(std::io::Error::other("the connection was refused or reset"))
        } else {
            Ok(0)
        };
        let done = read.and_then(|count| {
            self.shared.stats.bytes += count as u64;
            connection.flush()
        });
        let done = done.and_then(|idle| {
            if client.writing == idle {
                client.writing = !idle;
                let flags = if idle {
                    EventFlags::IN
                } else {
                    EventFlags::IN | EventFlags::OUT
                };
                epoll::modify(&self.epoll, connection.socket(), EventData::new_u64(number), flags)?;
            }
            Ok(())
        });
        if let Err(error) = done {
            client.connection = None;
            self.shared
                .stats
                .loss
                .get_or_insert_with(|| format!("client {number}: {error}"));
        }
    }
}

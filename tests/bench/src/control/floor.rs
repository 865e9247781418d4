//! The least a delivery can cost: one thread, one write of a shared image per client, one read per acknowledgement.
//!
//! It keeps no windows and checks no versions, which only a client that grants as much as our driver does can live with.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;

use anyhow::Context;
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, ipproto, listen, socket_with, sockopt};

use super::{parse, resource};
use crate::population::Population;
use crate::wire::ads::{ENDPOINT_TYPE, subscribed};
use crate::wire::h2;
use crate::wire::pb::put_bytes;

const LISTENER: u64 = u64::MAX;
const FEED_LISTENER: u64 = u64::MAX - 1;
const FEED: u64 = u64::MAX - 2;
const BACKLOG: i32 = 4096;
const SCRATCH: usize = 64 << 10;
/// First responses are cut into pieces of about this size.
const CHUNK: usize = 32 << 10;

#[derive(Debug)]
struct Client {
    socket: TcpStream,
    input: Vec<u8>,
    message: Vec<u8>,
    output: Vec<u8>,
    greeted: bool,
    subscribed: bool,
}

#[derive(Debug)]
struct Floor {
    epoll: OwnedFd,
    population: Population,
    clients: Vec<Option<Client>>,
    subscribers: Vec<Vec<usize>>,
    stamps: Vec<u64>,
    nonce: u64,
    feed: Option<TcpStream>,
    line: Vec<u8>,
    scratch: Vec<u8>,
}

/// Serves until it is killed.
pub(crate) fn serve(address: SocketAddr, feed: SocketAddr, population: Population) -> anyhow::Result<()> {
    let (listener, feeds) = (listener(address)?, listener(feed)?);
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    epoll::add(&epoll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
    epoll::add(&epoll, &feeds, EventData::new_u64(FEED_LISTENER), EventFlags::IN)?;
    let mut floor = Floor {
        epoll,
        population,
        clients: Vec::new(),
        subscribers: vec![Vec::new(); population.services],
        stamps: vec![1; population.services],
        nonce: 0,
        feed: None,
        line: Vec::new(),
        scratch: vec![0; SCRATCH],
    };
    let mut events: Vec<Event> = Vec::with_capacity(1024);
    loop {
        events.clear();
        // An interrupted wait is a short one.
        let _ = epoll::wait(&floor.epoll, spare_capacity(&mut events), None);
        for event in &events {
            match event.data.u64() {
                LISTENER => floor.accept(&listener)?,
                FEED_LISTENER => floor.accept_feed(&feeds)?,
                FEED => floor.read_feed(),
                number => floor.serve(usize::try_from(number)?, event.flags),
            }
        }
    }
}

fn listener(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, Some(ipproto::TCP))?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    bind(&socket, &address).with_context(|| format!("can't listen on {address}"))?;
    listen(&socket, BACKLOG)?;
    Ok(TcpListener::from(socket))
}

impl Floor {
    fn accept(&mut self, listener: &TcpListener) -> anyhow::Result<()> {
        while let Ok((socket, _)) = listener.accept() {
            socket.set_nonblocking(true)?;
            socket.set_nodelay(true)?;
            let data = EventData::new_u64(self.clients.len() as u64);
            epoll::add(&self.epoll, &socket, data, EventFlags::IN)?;
            self.clients.push(Some(Client {
                socket,
                input: Vec::new(),
                message: Vec::new(),
                output: Vec::new(),
                greeted: false,
                subscribed: false,
            }));
        }
        Ok(())
    }

    fn accept_feed(&mut self, listener: &TcpListener) -> anyhow::Result<()> {
        if let Ok((socket, _)) = listener.accept() {
            socket.set_nonblocking(true)?;
            epoll::add(&self.epoll, &socket, EventData::new_u64(FEED), EventFlags::IN)?;
            self.feed = Some(socket);
        }
        Ok(())
    }

    fn read_feed(&mut self) {
        let Some(feed) = &mut self.feed else { return };
        match feed.read(&mut self.scratch) {
            Ok(0) => self.feed = None,
            Ok(count) => self
                .line
                .extend_from_slice(self.scratch.get(..count).unwrap_or_default()),
            Err(_) => {}
        }
        while let Some(end) = self.line.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.line.drain(..=end).collect();
            if let Some((service, stamp)) = std::str::from_utf8(&line).ok().and_then(parse) {
                self.change(service, stamp);
            }
        }
    }

    fn change(&mut self, service: usize, stamp: u64) {
        let Some(last) = self.stamps.get_mut(service) else {
            return;
        };
        *last = stamp;
        let image = self.response(&[service]);
        let subscribers = self.subscribers.get(service).cloned().unwrap_or_default();
        for number in subscribers {
            self.send(number, &image);
        }
    }

    /// The frames of a response, the same for every client.
    fn response(&mut self, services: &[usize]) -> Vec<u8> {
        self.nonce += 1;
        let (mut response, mut message, mut frames) = (Vec::new(), Vec::new(), Vec::new());
        for service in services {
            let stamp = self.stamps.get(*service).copied().unwrap_or_default();
            put_bytes(&mut response, 2, &resource(self.population, *service, stamp));
        }
        put_bytes(&mut response, 4, ENDPOINT_TYPE.as_bytes());
        put_bytes(&mut response, 5, self.nonce.to_string().as_bytes());
        h2::put_message(&mut message, &response);
        h2::put_data(&mut frames, &message);
        frames
    }

    fn send(&mut self, number: usize, bytes: &[u8]) {
        let Some(Some(client)) = self.clients.get_mut(number) else {
            return;
        };
        if !client.output.is_empty() {
            client.output.extend_from_slice(bytes);
            return;
        }
        let written = client.socket.write(bytes).unwrap_or_default();
        if let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
            client.output.extend_from_slice(rest);
            let flags = EventFlags::IN | EventFlags::OUT;
            // A socket that is gone is noticed when it is read.
            let _ = epoll::modify(&self.epoll, &client.socket, EventData::new_u64(number as u64), flags);
        }
    }

    fn serve(&mut self, number: usize, flags: EventFlags) {
        let Some(Some(client)) = self.clients.get_mut(number) else {
            return;
        };
        if flags.contains(EventFlags::OUT) {
            let written = client.socket.write(&client.output).unwrap_or_default();
            client.output.drain(..written);
            if client.output.is_empty() {
                let data = EventData::new_u64(number as u64);
                let _ = epoll::modify(&self.epoll, &client.socket, data, EventFlags::IN);
            }
        }
        if !flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
            return;
        }
        match client.socket.read(&mut self.scratch) {
            Ok(count) if count > 0 => {
                client
                    .input
                    .extend_from_slice(self.scratch.get(..count).unwrap_or_default());
                self.take(number);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Ok(_) | Err(_) => {
                if let Some(client) = self.clients.get_mut(number) {
                    *client = None;
                }
                self.subscribers
                    .iter_mut()
                    .for_each(|numbers| numbers.retain(|other| *other != number));
            }
        }
    }

    /// Takes what came: the greeting and the subscription are answered, acknowledgements are passed over.
    fn take(&mut self, number: usize) {
        let Some(Some(client)) = self.clients.get_mut(number) else {
            return;
        };
        let mut reply = Vec::new();
        let mut input = std::mem::take(&mut client.input);
        if !client.greeted && input.starts_with(h2::PREFACE) {
            client.greeted = true;
            input.drain(..h2::PREFACE.len());
            h2::put_greeting(&mut reply);
            h2::put_server_headers(&mut reply);
        }
        let mut rest = input.as_slice();
        while let Some((frame, behind)) = client.greeted.then(|| h2::split_frame(rest)).flatten() {
            rest = behind;
            match frame.kind {
                h2::SETTINGS if frame.flags & h2::ACK == 0 => h2::put_frame(&mut reply, h2::SETTINGS, h2::ACK, 0, &[]),
                h2::DATA if !client.subscribed => client.message.extend_from_slice(frame.payload),
                _ => {}
            }
        }
        client.input = rest.to_vec();
        let message = std::mem::take(&mut client.message);
        let first =
            h2::split_message(&message).map(|(request, _)| subscribed(request).map(ToOwned::to_owned).collect());
        if let Some(names) = first {
            client.subscribed = true;
            self.send(number, &reply);
            self.subscribe(number, names);
            return;
        }
        client.message = message;
        self.send(number, &reply);
    }

    fn subscribe(&mut self, number: usize, names: Vec<String>) {
        let services: Vec<usize> = names
            .iter()
            .filter_map(|name| name.rsplit('-').next()?.parse().ok())
            .collect();
        for service in &services {
            if let Some(subscribers) = self.subscribers.get_mut(*service) {
                subscribers.push(number);
            }
        }
        let one = self.population.assignment(0, 1).len() + 100;
        for chunk in services.chunks((CHUNK / one).max(1)) {
            let image = self.response(chunk);
            self.send(number, &image);
        }
    }
}

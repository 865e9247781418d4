//! One HTTP/2 connection with one stream, as Envoy has it.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, ipproto, socket_with, sockopt};

use crate::wire::h2;

/// What a slow reader's kernel holds for it: little, so that it is the server that has to wait.
const SLOW_BUFFER: usize = 64 << 10;
/// Bytes taken between two grants of a new window.
const GRANT: u32 = h2::RECEIVE_WINDOW / 4;

#[derive(Debug)]
pub(crate) struct Connection {
    socket: TcpStream,
    /// The beginning of a frame whose end has not come.
    frame: Vec<u8>,
    /// The beginning of a message whose end has not come.
    message: Vec<u8>,
    /// Bytes of the stream that wait for the peer's window.
    waiting: Vec<u8>,
    /// Frames that wait for the socket.
    output: Vec<u8>,
    window: h2::SendWindow,
    taken: u32,
}

/// Who takes the messages of a connection; what is put into the buffer is answered.
pub(crate) trait Handler {
    fn handle(&mut self, message: &[u8], answer: &mut Vec<u8>);
}

impl Connection {
    /// Begins to connect; the socket is writable when that is done.
    pub(crate) fn open(server: SocketAddr, slow: bool) -> io::Result<Self> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, Some(ipproto::TCP))?;
        sockopt::set_tcp_nodelay(&socket, true)?;
        if slow {
            sockopt::set_socket_recv_buffer_size(&socket, SLOW_BUFFER)?;
        }
        match connect(&socket, &server) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(error) => return Err(error.into()),
        }
        let mut output = Vec::new();
        h2::put_client_opening(&mut output, server);
        Ok(Self {
            socket: TcpStream::from(socket),
            frame: Vec::new(),
            message: Vec::new(),
            waiting: Vec::new(),
            output,
            window: h2::SendWindow::default(),
            taken: 0,
        })
    }

    pub(crate) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    pub(crate) fn send(&mut self, message: &[u8]) {
        h2::put_message(&mut self.waiting, message);
        self.frame_what_fits();
    }

    /// Writes what the socket takes; whether nothing is left.
    pub(crate) fn flush(&mut self) -> io::Result<bool> {
        while !self.output.is_empty() {
            match self.socket.write(&self.output) {
                Ok(written) => drop(self.output.drain(..written)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        // A first request with thousands of names is not needed again.
        if self.output.capacity() > 4096 {
            self.output = Vec::new();
        }
        Ok(true)
    }

    /// Reads what is there and hands on every whole message; returns the bytes that came.
    pub(crate) fn receive(&mut self, scratch: &mut [u8], handler: &mut impl Handler) -> io::Result<usize> {
        let mut total = 0;
        loop {
            let count = match self.socket.read(scratch) {
                Ok(0) => {
                    return Err(io::Error::new(
                        ErrorKind::UnexpectedEof,
                        "the server closed the connection",
                    ));
                }
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(total),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            total += count;
            self.take(scratch.get(..count).unwrap_or_default(), handler)?;
            // A buffer that was not filled was the last: asking again would cost a call.
            if count < scratch.len() {
                return Ok(total);
            }
        }
    }

    fn take(&mut self, bytes: &[u8], handler: &mut impl Handler) -> io::Result<()> {
        if self.frame.is_empty() {
            let rest = self.take_frames(bytes, handler)?;
            self.frame.extend_from_slice(rest);
            return Ok(());
        }
        let mut held = std::mem::take(&mut self.frame);
        held.extend_from_slice(bytes);
        let rest = self.take_frames(&held, handler)?.len();
        let done = held.len() - rest;
        held.drain(..done);
        self.frame = held;
        Ok(())
    }

    fn take_frames<'a>(&mut self, mut bytes: &'a [u8], handler: &mut impl Handler) -> io::Result<&'a [u8]> {
        while let Some((frame, rest)) = h2::split_frame(bytes) {
            bytes = rest;
            self.take_frame(frame, handler)?;
        }
        Ok(bytes)
    }

    fn take_frame(&mut self, frame: h2::Frame<'_>, handler: &mut impl Handler) -> io::Result<()> {
        let ended = frame.flags & h2::END_STREAM != 0;
        match frame.kind {
            h2::DATA if frame.flags & h2::PADDED != 0 => return Err(io::Error::other("the server pads its data")),
            h2::DATA => self.take_data(frame.payload, handler),
            h2::SETTINGS if frame.flags & h2::ACK == 0 => {
                self.window.settings(frame.payload);
                h2::put_frame(&mut self.output, h2::SETTINGS, h2::ACK, 0, &[]);
                self.frame_what_fits();
            }
            h2::PING if frame.flags & h2::ACK == 0 => {
                h2::put_frame(&mut self.output, h2::PING, h2::ACK, 0, frame.payload);
            }
            h2::WINDOW_UPDATE => {
                self.window.update(frame.stream, frame.payload);
                self.frame_what_fits();
            }
            h2::GOAWAY => return Err(io::Error::other("the server said good-bye")),
            h2::RST_STREAM => return Err(io::Error::other("the server reset the stream")),
            h2::HEADERS if ended => return Err(io::Error::other("the server ended the stream")),
            _ => {}
        }
        Ok(())
    }

    fn take_data(&mut self, payload: &[u8], handler: &mut impl Handler) {
        self.taken += payload.len() as u32;
        if self.taken >= GRANT {
            h2::put_window_update(&mut self.output, 0, self.taken);
            h2::put_window_update(&mut self.output, h2::STREAM, self.taken);
            self.taken = 0;
        }
        if self.message.is_empty() {
            let rest = self.take_messages(payload, handler);
            self.message.extend_from_slice(rest);
            return;
        }
        let mut held = std::mem::take(&mut self.message);
        held.extend_from_slice(payload);
        let rest = self.take_messages(&held, handler).len();
        let done = held.len() - rest;
        held.drain(..done);
        if held.is_empty() {
            held = Vec::new();
        }
        self.message = held;
    }

    fn take_messages<'a>(&mut self, mut bytes: &'a [u8], handler: &mut impl Handler) -> &'a [u8] {
        let mut answer = Vec::new();
        while let Some((message, rest)) = h2::split_message(bytes) {
            bytes = rest;
            answer.clear();
            handler.handle(message, &mut answer);
            self.send(&answer);
        }
        bytes
    }

    fn frame_what_fits(&mut self) {
        let most = self.window.take(self.waiting.len());
        h2::put_data(&mut self.output, self.waiting.get(..most).unwrap_or_default());
        self.waiting.drain(..most);
    }
}

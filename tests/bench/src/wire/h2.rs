//! HTTP/2 frames, and the one header block each side sends.
//! <https://www.rfc-editor.org/rfc/rfc9113>, <https://www.rfc-editor.org/rfc/rfc7541>

use std::net::SocketAddr;

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;

/// `ACK` of settings and pings, `END_STREAM` of data and headers.
pub(crate) const ACK: u8 = 1;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;
pub(crate) const PADDED: u8 = 8;

/// The only stream of a connection, as with Envoy.
pub(crate) const STREAM: u32 = 1;
/// What a peer takes in one frame unless it says otherwise.
pub(crate) const FRAME_BYTES: usize = 16 << 10;
/// What either side may send before the other says otherwise.
const DEFAULT_WINDOW: i64 = 65_535;
/// What Envoy grants.
pub(crate) const RECEIVE_WINDOW: u32 = 256 << 20;
const INITIAL_WINDOW_SIZE: u16 = 4;
const HEADER_BYTES: usize = 9;
const PATH: &[u8] = b"/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: &'a [u8],
}

/// The first frame, when all of it is there, and what follows.
pub(crate) fn split_frame(bytes: &[u8]) -> Option<(Frame<'_>, &[u8])> {
    let (&[a, b, c, kind, flags, d, e, f, g], rest) = bytes.split_first_chunk::<HEADER_BYTES>()?;
    let length = u32::from_be_bytes([0, a, b, c]) as usize;
    let (payload, rest) = rest.split_at_checked(length)?;
    let stream = u32::from_be_bytes([d, e, f, g]) & 0x7fff_ffff;
    let frame = Frame {
        kind,
        flags,
        stream,
        payload,
    };
    Some((frame, rest))
}

pub(crate) fn put_frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let [_, a, b, c] = (payload.len() as u32).to_be_bytes();
    out.extend_from_slice(&[a, b, c, kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

/// Bytes of the stream in frames that every peer takes.
pub(crate) fn put_data(out: &mut Vec<u8>, bytes: &[u8]) {
    for chunk in bytes.chunks(FRAME_BYTES) {
        put_frame(out, DATA, 0, STREAM, chunk);
    }
}

/// Our settings, and the window of the connection that goes with them.
pub(crate) fn put_greeting(out: &mut Vec<u8>) {
    let mut settings = INITIAL_WINDOW_SIZE.to_be_bytes().to_vec();
    settings.extend_from_slice(&RECEIVE_WINDOW.to_be_bytes());
    put_frame(out, SETTINGS, 0, 0, &settings);
    put_window_update(out, 0, RECEIVE_WINDOW);
}

pub(crate) fn put_window_update(out: &mut Vec<u8>, stream: u32, more: u32) {
    put_frame(out, WINDOW_UPDATE, 0, stream, &more.to_be_bytes());
}

/// Everything a client says before its first message.
pub(crate) fn put_client_opening(out: &mut Vec<u8>, server: SocketAddr) {
    out.extend_from_slice(PREFACE);
    put_greeting(out);
    // POST and http from the static table, the rest as literals that are not indexed.
    let mut block = vec![0x83, 0x86];
    put_literal(&mut block, &[0x04], PATH);
    put_literal(&mut block, &[0x01], server.to_string().as_bytes());
    put_literal(&mut block, &[0x0f, 0x10], b"application/grpc");
    put_literal(&mut block, b"\x00\x02te", b"trailers");
    put_frame(out, HEADERS, END_HEADERS, STREAM, &block);
}

/// A server's `200`.
pub(crate) fn put_server_headers(out: &mut Vec<u8>) {
    let mut block = vec![0x88];
    put_literal(&mut block, &[0x0f, 0x10], b"application/grpc");
    put_frame(out, HEADERS, END_HEADERS, STREAM, &block);
}

/// Values here are shorter than the 127 bytes that fit the length's first byte.
fn put_literal(block: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    block.extend_from_slice(name);
    block.push(value.len() as u8);
    block.extend_from_slice(value);
}

/// A message with gRPC's length before it.
pub(crate) fn put_message(out: &mut Vec<u8>, message: &[u8]) {
    out.push(0);
    out.extend_from_slice(&(message.len() as u32).to_be_bytes());
    out.extend_from_slice(message);
}

/// The first gRPC message, when all of it is there, and what follows.
pub(crate) fn split_message(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&[_, a, b, c, d], rest) = bytes.split_first_chunk::<5>()?;
    rest.split_at_checked(u32::from_be_bytes([a, b, c, d]) as usize)
}

/// What we may still send.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SendWindow {
    connection: i64,
    stream: i64,
    initial: i64,
}

impl Default for SendWindow {
    fn default() -> Self {
        Self {
            connection: DEFAULT_WINDOW,
            stream: DEFAULT_WINDOW,
            initial: DEFAULT_WINDOW,
        }
    }
}

impl SendWindow {
    pub(crate) fn take(&mut self, wanted: usize) -> usize {
        let most = self.connection.min(self.stream).clamp(0, wanted as i64);
        self.connection -= most;
        self.stream -= most;
        most as usize
    }

    pub(crate) fn update(&mut self, stream: u32, payload: &[u8]) {
        let more = payload.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes));
        if stream == 0 {
            self.connection += i64::from(more);
        } else {
            self.stream += i64::from(more);
        }
    }

    pub(crate) fn settings(&mut self, payload: &[u8]) {
        for setting in payload.chunks_exact(6) {
            if let &[a, b, c, d, e, f] = setting
                && u16::from_be_bytes([a, b]) == INITIAL_WINDOW_SIZE
            {
                let initial = i64::from(u32::from_be_bytes([c, d, e, f]));
                self.stream += initial - self.initial;
                self.initial = initial;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_and_messages_are_split_as_they_were_put_and_never_early() {
        let (mut message, mut bytes) = (Vec::new(), Vec::new());
        put_message(&mut message, &[7; 20_000]);
        put_data(&mut bytes, &message);
        for cut in [0, 8, 9, 16_392] {
            assert_eq!(split_frame(bytes.get(..cut).unwrap()), None);
        }
        let (first, rest) = split_frame(&bytes).unwrap();
        let (second, rest) = split_frame(rest).unwrap();
        assert_eq!(
            (first.payload.len(), second.payload.len(), rest.len()),
            (16_384, 3_621, 0)
        );
        assert_eq!(split_message(first.payload), None);
        let whole = [first.payload, second.payload].concat();
        assert_eq!(split_message(&whole), Some(([7; 20_000].as_slice(), [].as_slice())));
    }

    #[test]
    fn the_smaller_window_rules_and_settings_move_the_window_of_the_stream() {
        let mut window = SendWindow::default();
        assert_eq!(window.take(100_000), 65_535);
        window.update(0, &1000_u32.to_be_bytes());
        assert_eq!(window.take(1), 0);
        window.settings(&[0, 4, 0, 1, 0, 10]);
        assert_eq!((window.take(100), window.take(1)), (11, 0));
        window.update(STREAM, &5000_u32.to_be_bytes());
        assert_eq!(window.take(5000), 989);
    }
}

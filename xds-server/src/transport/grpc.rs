//! gRPC on one HTTP/2 stream: requests are cut out of what is read and decoded here, responses arrive encoded and are
//! framed; see <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>.

use std::marker::PhantomData;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, HeaderValue, header};
use leadsman_core::xds::Response;
use tonic::Status;

use super::MAX_REQUEST_BYTES;
use super::convert::Ask;

/// A flag that says "not compressed", and four bytes of length.
const HEADER: usize = 5;

/// The requests of one stream.
pub(super) struct Requests<R> {
    body: RecvStream,
    messages: Messages,
    kind: PhantomData<fn() -> R>,
}

impl<R: Ask> Requests<R> {
    pub(super) fn new(body: RecvStream) -> Self {
        Self {
            body,
            messages: Messages::default(),
            kind: PhantomData,
        }
    }

    /// The next request, or `None` when the client has nothing more to say.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<R>, Status>> {
        loop {
            if let Some(message) = self.messages.take()? {
                let request = R::decode(message).map(Some);
                let explain = |error| Status::invalid_argument(format!("not a {}: {error}", R::NAME));
                return Poll::Ready(request.map_err(explain));
            }
            match ready!(self.body.poll_data(cx)) {
                Some(Ok(chunk)) => {
                    self.body.flow_control().release_capacity(chunk.len()).map_err(lost)?;
                    self.messages.read = chunk;
                }
                Some(Err(error)) => return Poll::Ready(Err(lost(error))),
                None if self.messages.partial.is_empty() => return Poll::Ready(Ok(None)),
                None => return Poll::Ready(Err(Status::invalid_argument("the last request is cut short"))),
            }
        }
    }
}

fn lost(error: h2::Error) -> Status {
    Status::cancelled(error.to_string())
}

/// Cuts messages out of pieces.
#[derive(Debug, Default)]
struct Messages {
    /// What was read last and is not taken yet.
    read: Bytes,
    /// The beginning of one message whose end is still to be read.
    partial: BytesMut,
}

impl Messages {
    /// The next whole message. `None` takes everything there is: the connection reads into the same memory again.
    fn take(&mut self) -> Result<Option<Bytes>, Status> {
        if self.partial.is_empty()
            && let Some(length) = length_of(&self.read)?
            && self.read.len() >= HEADER + length
        {
            self.read.advance(HEADER);
            return Ok(Some(self.read.split_to(length)));
        }
        loop {
            let wanted = HEADER + length_of(&self.partial)?.unwrap_or_default();
            let missing = wanted - self.partial.len();
            if missing == 0 && length_of(&self.partial)?.is_some() {
                let mut message = std::mem::take(&mut self.partial).freeze();
                message.advance(HEADER);
                return Ok(Some(message));
            }
            if self.read.is_empty() {
                self.read = Bytes::new();
                return Ok(None);
            }
            self.partial.put(self.read.split_to(missing.min(self.read.len())));
        }
    }
}

/// The length of the message that begins here, once that much of it is there.
fn length_of(read: &[u8]) -> Result<Option<usize>, Status> {
    let Some([compressed, length @ ..]) = read.first_chunk::<HEADER>() else {
        return Ok(None);
    };
    if *compressed != 0 {
        return Err(Status::unimplemented("compressed requests are not read here"));
    }
    let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
    if length > MAX_REQUEST_BYTES {
        let text = format!("a request of {length} bytes is too large: {MAX_REQUEST_BYTES} are read");
        return Err(Status::out_of_range(text));
    }
    Ok(Some(length))
}

/// The client has reset the stream, or its connection is gone: there is nobody to answer.
#[derive(Debug)]
pub(super) struct Gone;

/// What one stream sends.
pub(super) struct Responses {
    stream: SendStream<Bytes>,
}

impl Responses {
    /// Begins to answer.
    pub(super) fn begin(mut respond: SendResponse<Bytes>, head: http::Response<()>) -> Result<Self, Gone> {
        let stream = respond.send_response(head, false).map_err(|_| Gone)?;
        Ok(Self { stream })
    }

    /// Ends with [`Gone`] when the client gives the stream up, and, if something `waits`, well when there is room for it.
    pub(super) fn poll_room(&mut self, waits: bool, cx: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        if self.stream.poll_reset(cx).is_ready() {
            return Poll::Ready(Err(Gone));
        }
        if !waits {
            return Poll::Pending;
        }
        self.stream.reserve_capacity(1);
        while self.stream.capacity() == 0 {
            match ready!(self.stream.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Poll::Ready(Err(Gone)),
            }
        }
        Poll::Ready(Ok(()))
    }

    pub(super) fn send(&mut self, framed: Bytes) -> Result<(), Gone> {
        self.stream.send_data(framed, false).map_err(|_| Gone)
    }

    /// Says how it ended.
    pub(super) fn end(&mut self, status: &Status) {
        let mut trailers = HeaderMap::new();
        if status.add_header(&mut trailers).is_ok() {
            self.finish(trailers);
        }
    }

    /// A client that is gone needs no goodbye.
    pub(super) fn finish(&mut self, trailers: HeaderMap) {
        let _ = self.stream.send_trailers(trailers);
    }
}

/// What every good answer begins with.
pub(super) fn head() -> http::Response<()> {
    let mut head = http::Response::new(());
    let grpc = HeaderValue::from_static("application/grpc");
    head.headers_mut().insert(header::CONTENT_TYPE, grpc);
    head
}

/// A response with its header, as one piece.
pub(super) fn frame(response: &Response, control_plane: &str) -> Bytes {
    let mut bytes = BytesMut::with_capacity(HEADER + response.len_hint());
    bytes.put_bytes(0, HEADER);
    response.write(control_plane, &mut bytes);
    let length = u32::try_from(bytes.len() - HEADER).unwrap_or(u32::MAX);
    if let Some(header) = bytes.get_mut(1..HEADER) {
        header.copy_from_slice(&length.to_be_bytes());
    }
    bytes.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str) -> Vec<u8> {
        let length = u32::try_from(text.len()).unwrap().to_be_bytes();
        [&[0], &length[..], text.as_bytes()].concat()
    }

    /// What comes out when the bytes come in such pieces.
    fn cut(bytes: &[u8], size: usize) -> Vec<String> {
        let mut messages = Messages::default();
        let mut taken = Vec::new();
        for piece in bytes.chunks(size) {
            messages.read = Bytes::copy_from_slice(piece);
            while let Some(message) = messages.take().unwrap() {
                taken.push(String::from_utf8(message.to_vec()).unwrap());
            }
        }
        assert!(messages.partial.is_empty(), "nothing is left over");
        taken
    }

    #[test]
    fn messages_are_the_same_however_they_are_cut() {
        let texts = ["one", "", "a longer one", "2"];
        let bytes = texts.map(message).concat();
        for size in 1..=bytes.len() {
            assert_eq!(cut(&bytes, size), texts, "pieces of {size} bytes");
        }
    }

    #[test]
    fn a_compressed_message_and_one_that_is_too_large_are_refused_by_their_header() {
        let refusal = |header: [u8; HEADER]| length_of(&header).unwrap_err().code();
        assert_eq!(refusal([1, 0, 0, 0, 3]), tonic::Code::Unimplemented);
        assert_eq!(refusal([0, 255, 255, 255, 255]), tonic::Code::OutOfRange);
    }
}

//! Messages to bytes and back: requests are decoded here, responses arrive encoded and are framed.

use std::marker::PhantomData;

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::StreamExt;
use http::HeaderMap;
use http_body_util::StreamBody;
use hyper::body::Frame;
use leadsman_core::xds::Response;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tonic::body::Body;
use tonic::codec::{BufferSettings, DecodeBuf, Decoder};

use super::convert::Ask;

/// Small, because every idle stream keeps one; it grows for a request that is larger.
const REQUEST_BUFFER: usize = 1 << 10;

/// A flag that says "not compressed", and four bytes of length; see
/// <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>.
const HEADER: usize = 5;

/// Decodes the requests of one variant.
#[derive(Clone, Copy, Debug)]
pub(super) struct Requests<R>(PhantomData<fn() -> R>);

impl<R> Default for Requests<R> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<R: Ask> Decoder for Requests<R> {
    type Item = R;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<R>, Status> {
        R::decode(from)
            .map(Some)
            .map_err(|error| Status::invalid_argument(format!("not a {}: {error}", R::NAME)))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(REQUEST_BUFFER, REQUEST_BUFFER)
    }
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

/// What a stream sends: pieces, and at the end how it ended.
pub(super) fn body(sent: mpsc::Receiver<Result<Bytes, Status>>) -> Body {
    let frames = ReceiverStream::new(sent).map(|sent| match sent {
        Ok(bytes) => Ok(Frame::data(bytes)),
        Err(status) => {
            let mut trailers = HeaderMap::new();
            status.add_header(&mut trailers).map(|()| Frame::trailers(trailers))
        }
    });
    Body::new(StreamBody::new(frames))
}

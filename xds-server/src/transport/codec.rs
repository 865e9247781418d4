//! Messages to bytes: requests are decoded here, responses arrive encoded.

use std::marker::PhantomData;

use bytes::{BufMut, Bytes};
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

use super::convert::Ask;

/// Small, because every idle stream keeps them; messages that are ready together are still merged.
const BUFFERS: (usize, usize) = (1 << 10, 32 << 10);

/// The codec of a method that takes requests of one variant.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RawCodec<R>(PhantomData<fn() -> R>);

impl<R: Ask> Codec for RawCodec<R> {
    type Encode = Bytes;
    type Decode = R;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self(PhantomData)
    }

    fn decoder(&mut self) -> Self {
        Self(PhantomData)
    }
}

impl<R: Ask> Encoder for RawCodec<R> {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put(item);
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(BUFFERS.0, BUFFERS.1)
    }
}

impl<R: Ask> Decoder for RawCodec<R> {
    type Item = R;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<R>, Status> {
        R::decode(from)
            .map(Some)
            .map_err(|error| Status::invalid_argument(format!("not a {}: {error}", R::NAME)))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(BUFFERS.0, BUFFERS.1)
    }
}

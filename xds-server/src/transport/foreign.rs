//! Services that tonic makes, on our connections: for those that are rarely asked.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http_body_util::BodyExt;
use hyper::body::{Body as _, Frame};
use tonic::body::Body;
use tower::{Service, ServiceExt};

use super::grpc::{Gone, Responses};
use super::service::Peer;

/// Answers one request.
pub(super) async fn answer<S>(
    service: S,
    request: http::Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    peer: Peer,
) -> Result<(), Gone>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = std::convert::Infallible>,
{
    let mut request = request.map(|body| Body::new(Incoming { body }));
    peer.introduce(request.extensions_mut());
    let Ok(response) = service.oneshot(request).await;
    let (head, mut body) = response.into_parts();
    let head = http::Response::from_parts(head, ());
    if body.is_end_stream() {
        respond.send_response(head, true).map_err(|_| Gone)?;
        return Ok(());
    }
    let mut responses = Responses::begin(respond, head)?;
    loop {
        let frame = tokio::select! {
            frame = body.frame() => frame,
            gone = poll_fn(|cx| responses.poll_room(false, cx)) => return gone,
        };
        match frame {
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => {
                    poll_fn(|cx| responses.poll_room(true, cx)).await?;
                    responses.send(data)?;
                }
                Err(frame) => {
                    responses.finish(frame.into_trailers().unwrap_or_default());
                    return Ok(());
                }
            },
            Some(Err(status)) => {
                responses.end(&status);
                return Ok(());
            }
            None => return Ok(()),
        }
    }
}

/// What the client sends, as tonic takes it.
struct Incoming {
    body: RecvStream,
}

impl hyper::body::Body for Incoming {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        let Some(chunk) = ready!(self.body.poll_data(cx)) else {
            return Poll::Ready(None);
        };
        let chunk = chunk.and_then(|chunk| {
            self.body.flow_control().release_capacity(chunk.len())?;
            Ok(Frame::data(chunk))
        });
        Poll::Ready(Some(chunk))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}

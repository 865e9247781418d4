//! One gRPC connection to one member.
//!
//! To Nacos the connection is the client: it is set up once, everything is asked on it, and its end is the end of every
//! subscription. So a session has one of its own and never makes another. What the server asks of a client is answered
//! here, at once; what it tells is passed on.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic_prost::ProstCodec;

use super::config::Config;
use super::fault::Fault;
use super::wire::{AboutService, Acknowledgement, Numbered, Payload, ServiceInfo, Setup, Verdict, parse};
use crate::text::shorten;
use crate::{Error, Tls, http};

/// TCP, TLS and HTTP/2 together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// One answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// A sign of life. Long pauses of Nacos's own are shorter, and a session that is ended by one is soon made up for.
const CHECK_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a server may take to know a connection that it was told of.
const SETUP_TIMEOUT: Duration = Duration::from_secs(5);
/// Between two looks at whether it knows it.
const SETUP_PAUSE: Duration = Duration::from_millis(10);
/// A service of two hundred thousand instances.
const MAX_MESSAGE_BYTES: usize = 64 * 1024 * 1024;
/// A round trip each 64 KiB, the default, is slow where members are in another region.
const WINDOW_BYTES: u32 = 1024 * 1024;
/// What waits for the session. A session that is behind lets the server wait.
const PUSHES: usize = 64;
/// Answers to the server that wait for the network.
const ACKNOWLEDGEMENTS: usize = 16;
/// Of what the other side says about an error.
const MAX_REASON_BYTES: usize = 200;

const OK: i64 = 200;

/// The place that a connection has to ask; clones share it.
#[derive(Clone, Debug)]
pub(super) struct Grpc {
    client: tonic::client::Grpc<Channel>,
}

/// What comes without being asked for.
#[derive(Debug)]
pub(super) enum Heard {
    Push(Instant, ServiceInfo),
    /// The connection is over. `leave`: the server wants its clients elsewhere.
    Ended {
        error: Error,
        leave: bool,
    },
}

impl Grpc {
    /// Connects, and waits until the server knows the connection: nothing may be asked before.
    pub(super) async fn open(
        config: &Config,
        endpoint: &str,
        token: Option<&str>,
        tasks: &mut JoinSet<()>,
    ) -> Result<(Self, mpsc::Receiver<Heard>), Error> {
        let endpoint = transport(config, endpoint).await?;
        let channel = match timeout(CONNECT_TIMEOUT, endpoint.connect()).await {
            Ok(connected) => connected.map_err(|error| Error::Unavailable(http::chain(&error)))?,
            Err(_) => {
                return Err(Error::Unavailable(format!(
                    "no gRPC connection after {CONNECT_TIMEOUT:?}"
                )));
            }
        };
        let client = tonic::client::Grpc::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES);
        let grpc = Self { client };
        grpc.ask("ServerCheckRequest", &BTreeMap::<&str, &str>::new(), token)
            .await
            .map_err(Fault::into_error)?;
        let (answers, outbound) = mpsc::channel(ACKNOWLEDGEMENTS);
        let (heard, mut inbox) = mpsc::channel(PUSHES);
        let setup = Setup {
            client_version: concat!("Leadsman:v", env!("CARGO_PKG_VERSION")),
            tenant: config.namespace(),
            labels: BTreeMap::from([("source", "sdk"), ("module", "naming"), ("AppName", "leadsman")]),
            ability_table: BTreeMap::new(),
        };
        let setup = Payload::new("ConnectionSetupRequest", &setup, token);
        // Nobody has closed the channel: its other end is on the next line.
        let _ = answers.send(setup).await;
        tasks.spawn(listen(grpc.clone(), outbound, answers, heard));
        let deadline = Instant::now() + SETUP_TIMEOUT;
        loop {
            match grpc.check(token).await {
                Ok(_) => return Ok((grpc, inbox)),
                Err(Fault::Session(Error::Resync(_))) if Instant::now() < deadline => {}
                Err(fault) => return Err(fault.into_error()),
            }
            tokio::select! {
                () = sleep(SETUP_PAUSE) => {}
                Some(Heard::Ended { error, .. }) = inbox.recv() => return Err(error),
            }
        }
    }

    /// Asks, and gives the JSON of an answer that is no refusal.
    pub(super) async fn ask(&self, kind: &str, body: &impl Serialize, token: Option<&str>) -> Result<Vec<u8>, Fault> {
        self.ask_within(REQUEST_TIMEOUT, kind, body, token).await
    }

    /// Whether the server is there.
    pub(super) async fn check(&self, token: Option<&str>) -> Result<(), Fault> {
        let nothing = BTreeMap::<&str, &str>::new();
        let answer = self.ask_within(CHECK_TIMEOUT, "HealthCheckRequest", &nothing, token);
        answer.await.map(drop)
    }

    async fn ask_within(
        &self,
        most: Duration,
        kind: &str,
        body: &impl Serialize,
        token: Option<&str>,
    ) -> Result<Vec<u8>, Fault> {
        let mut client = self.client.clone();
        let request = tonic::Request::new(Payload::new(kind, body, token));
        let call = async {
            let ready = client.ready().await;
            ready.map_err(|error| tonic::Status::unavailable(error.to_string()))?;
            let path = PathAndQuery::from_static("/Request/request");
            client
                .unary(request, path, ProstCodec::<Payload, Payload>::default())
                .await
        };
        let answer = match timeout(most, call).await {
            Ok(answer) => answer.map_err(|status| of(&status))?.into_inner(),
            Err(_) => {
                return Err(Fault::unavailable(format!("{kind}: no answer after {most:?}")));
            }
        };
        judge(kind, &answer)?;
        Ok(answer.body.map(|body| body.value).unwrap_or_default())
    }
}

/// Whether an answer is one.
fn judge(kind: &str, answer: &Payload) -> Result<(), Fault> {
    let verdict: Verdict = parse("an answer", answer.json()).map_err(Fault::unavailable)?;
    if verdict.result_code == OK {
        return Ok(());
    }
    let message = verdict.message.unwrap_or_default();
    let code = verdict.error_code;
    let text = format!("{kind}: {code} {}", shorten(message.trim(), MAX_REASON_BYTES));
    Err(match code {
        // The server is starting, or has too much to do.
        300 | 503 => Fault::unavailable(text),
        // The connection is not or no longer known: another one is needed, with all its subscriptions.
        301 => Error::Resync(text).into(),
        302 => Error::Misconfigured(text).into(),
        401 | 403 => Fault::Denied(text),
        _ => Fault::Refused(text),
    })
}

fn of(status: &tonic::Status) -> Fault {
    let text = format!("{:?}: {}", status.code(), shorten(status.message(), MAX_REASON_BYTES));
    match status.code() {
        Code::Unauthenticated | Code::PermissionDenied => Fault::Denied(text),
        Code::Unimplemented => {
            Error::Misconfigured(format!("{text} (is this the gRPC port of a Nacos 2 or newer?)")).into()
        }
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::InvalidArgument
        | Code::DeadlineExceeded
        | Code::NotFound
        | Code::AlreadyExists
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss => Fault::unavailable(text),
    }
}

/// Reads what the server says on its own, to the end of the connection.
async fn listen(
    grpc: Grpc,
    outbound: mpsc::Receiver<Payload>,
    answers: mpsc::Sender<Payload>,
    heard: mpsc::Sender<Heard>,
) {
    let (error, leave) = follow(grpc, outbound, answers, &heard).await;
    // Whoever does not listen any more has ended the session.
    let _ = heard.send(Heard::Ended { error, leave }).await;
}

async fn follow(
    grpc: Grpc,
    outbound: mpsc::Receiver<Payload>,
    answers: mpsc::Sender<Payload>,
    heard: &mpsc::Sender<Heard>,
) -> (Error, bool) {
    let mut client = grpc.client;
    if let Err(error) = client.ready().await {
        return (Error::Unavailable(error.to_string()), false);
    }
    let path = PathAndQuery::from_static("/BiRequestStream/requestBiStream");
    let request = tonic::Request::new(ReceiverStream::new(outbound));
    let opened = client
        .streaming(request, path, ProstCodec::<Payload, Payload>::default())
        .await;
    let mut stream = match opened {
        Ok(response) => response.into_inner(),
        Err(status) => return (of(&status).into_error(), false),
    };
    loop {
        let payload = match stream.message().await {
            Ok(Some(payload)) => payload,
            Ok(None) => return (Error::Unavailable("the server closed the connection".to_owned()), false),
            Err(status) => return (of(&status).into_error(), false),
        };
        if let Some(answer) = acknowledgement(&payload)
            && answers.send(answer).await.is_err()
        {
            return (
                Error::Unavailable("the connection takes no more answers".to_owned()),
                false,
            );
        }
        match payload.kind() {
            "NotifySubscriberRequest" => match parse::<AboutService>("a push", payload.json()) {
                Ok(push) => {
                    if heard
                        .send(Heard::Push(Instant::now(), push.service_info))
                        .await
                        .is_err()
                    {
                        return (Error::Closed, false);
                    }
                }
                // Which service it is about is not known; the next comparison finds what it said.
                Err(reason) => tracing::warn!(reason, "a push of Nacos is left out"),
            },
            "ConnectResetRequest" => {
                return (
                    Error::Unavailable("the server wants the connection elsewhere".to_owned()),
                    true,
                );
            }
            kind => tracing::debug!(kind, "heard"),
        }
    }
}

/// What a server that asks something wants to read; it closes connections that do not answer.
fn acknowledgement(payload: &Payload) -> Option<Payload> {
    let kind = match payload.kind() {
        "NotifySubscriberRequest" => "NotifySubscriberResponse",
        "ClientDetectionRequest" => "ClientDetectionResponse",
        "ConnectResetRequest" => "ConnectResetResponse",
        _ => return None,
    };
    let Numbered { request_id } = parse("a question", payload.json()).unwrap_or_default();
    let answer = Acknowledgement {
        request_id,
        result_code: OK,
        success: true,
    };
    Some(Payload::new(kind, &answer, None))
}

async fn transport(config: &Config, endpoint: &str) -> Result<Endpoint, Error> {
    let url = config.grpc_url(endpoint).map_err(Error::Misconfigured)?;
    let misconfigured =
        |error: tonic::transport::Error| Error::Misconfigured(format!("{url}: {}", http::chain(&error)));
    // No pings: Nacos takes those of HTTP/2 for abuse, and has a question of its own for it.
    let endpoint = Endpoint::from_shared(url.to_string())
        .map_err(misconfigured)?
        .connect_timeout(CONNECT_TIMEOUT)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES);
    if url.scheme() != "https" {
        return Ok(endpoint);
    }
    let tls = tls(config.tls.as_ref().unwrap_or(&Tls::default())).await?;
    endpoint.tls_config(tls).map_err(misconfigured)
}

async fn tls(files: &Tls) -> Result<ClientTlsConfig, Error> {
    let mut tls = ClientTlsConfig::new();
    tls = match &files.ca {
        Some(ca) => tls.ca_certificate(Certificate::from_pem(http::read(ca).await?)),
        None => tls.with_native_roots(),
    };
    if let Some((cert, key)) = files.identity() {
        tls = tls.identity(Identity::from_pem(http::read(cert).await?, http::read(key).await?));
    }
    Ok(tls)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(json: &str) -> Result<(), Fault> {
        let mut answer = Payload::new("ErrorResponse", &(), None);
        answer.body.as_mut().unwrap().value = json.into();
        judge("ServiceQueryRequest", &answer)
    }

    #[test]
    fn a_code_decides_how_it_goes_on() {
        assert!(verdict(r#"{"resultCode":200,"errorCode":0,"success":true}"#).is_ok());
        // As Nacos 2.5.0 and 3.1.0 say it.
        let unknown =
            verdict(r#"{"resultCode":500,"errorCode":301,"message":"Connection is unregistered.","success":false}"#);
        assert!(matches!(unknown, Err(Fault::Session(Error::Resync(_)))));
        let denied = verdict(r#"{"resultCode":500,"errorCode":403,"message":"user not found!","success":false}"#);
        assert!(matches!(denied, Err(Fault::Denied(text)) if text == "ServiceQueryRequest: 403 user not found!"));
        let starting = verdict(r#"{"resultCode":500,"errorCode":300,"message":null}"#);
        assert!(matches!(starting, Err(Fault::Session(Error::Unavailable(_)))));
        let no_handler = verdict(r#"{"resultCode":500,"errorCode":302,"message":"RequestHandler Not Found"}"#);
        assert!(matches!(no_handler, Err(Fault::Session(Error::Misconfigured(_)))));
        assert!(matches!(
            verdict(r#"{"resultCode":500,"errorCode":400}"#),
            Err(Fault::Refused(_))
        ));
        for broken in ["", "null", "[]", "{}", r#"{"resultCode":"200"}"#] {
            assert!(verdict(broken).is_err(), "{broken}");
        }
    }

    #[test]
    fn what_the_server_asks_is_answered_under_its_number() {
        let ask = |kind: &str, json: &str| {
            let mut payload = Payload::new(kind, &(), None);
            payload.body.as_mut().unwrap().value = json.into();
            acknowledgement(&payload).map(|answer| {
                let json = String::from_utf8(answer.json().to_vec()).unwrap();
                format!("{} {json}", answer.kind())
            })
        };
        assert_eq!(
            ask("ClientDetectionRequest", r#"{"requestId":"7","module":"internal"}"#).unwrap(),
            r#"ClientDetectionResponse {"requestId":"7","resultCode":200,"success":true}"#
        );
        assert_eq!(
            ask("NotifySubscriberRequest", "garbage").unwrap(),
            r#"NotifySubscriberResponse {"requestId":null,"resultCode":200,"success":true}"#
        );
        assert_eq!(ask("SetupAckRequest", "{}"), None);
        assert_eq!(ask("", "{}"), None);
    }
}

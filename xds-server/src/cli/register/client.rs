//! The registry's API, as a client that sees no tonic.

use std::cell::Cell;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use leadsman_proto::registry as pb;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Request, Response, Status};

use super::super::{Failure, output};
use super::Server;

type Stub = pb::registry_client::RegistryClient<Channel>;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// As long as the server takes at most.
const TIMEOUT: Duration = Duration::from_secs(10);
/// A server that died in silence is noticed after the two together.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// A call that did not do what it was meant to, by what follows from it.
#[derive(Debug)]
pub(super) enum Trouble {
    /// Not there, or not now: try again.
    Away(String),
    /// Not registered any more: register.
    Unknown(String),
    /// Somebody else has registered under this id.
    Replaced(String),
    Denied(String),
    Refused(String),
}

#[derive(Debug)]
pub(super) struct Client {
    servers: Vec<(String, Stub)>,
    /// Which of them is asked: the next one, when one was away.
    current: Cell<usize>,
    token_file: Option<PathBuf>,
}

impl Client {
    /// Connects when it is first needed, and again whenever it has to.
    pub(super) async fn new(server: &Server) -> Result<Self, Failure> {
        let mut servers = Vec::new();
        for url in &server.server {
            let endpoint = endpoint(url, server).await?;
            servers.push((url.clone(), Stub::new(endpoint.connect_lazy())));
        }
        let client = Self {
            servers,
            current: Cell::new(0),
            token_file: server.token_file.clone(),
        };
        // A file that is not there is a mistake on the command line now, and bad luck later.
        client.token().await.map_err(|trouble| trouble.into_failure(&client))?;
        Ok(client)
    }

    /// The server that is asked at the moment.
    pub(super) fn url(&self) -> &str {
        self.servers.get(self.current.get()).map_or("", |(url, _)| url)
    }

    pub(super) async fn register(&self, wish: &pb::RegisterRequest) -> Result<pb::Receipt, Trouble> {
        self.call(wish.clone(), async |mut stub, request| stub.register(request).await)
            .await
    }

    pub(super) async fn renew(&self, wish: &pb::RegisterRequest, lease: &str) -> Result<pb::Receipt, Trouble> {
        let message = pb::RenewRequest {
            service: wish.service.clone(),
            id: wish.id.clone(),
            lease: lease.to_owned(),
        };
        self.call(message, async |mut stub, request| stub.renew(request).await)
            .await
    }

    pub(super) async fn drain(&self, wish: &pb::RegisterRequest, lease: &str) -> Result<pb::Receipt, Trouble> {
        let message = pb::DrainRequest {
            service: wish.service.clone(),
            id: wish.id.clone(),
            lease: lease.to_owned(),
            ..pb::DrainRequest::default()
        };
        self.call(message, async |mut stub, request| stub.drain(request).await)
            .await
    }

    pub(super) async fn deregister(&self, wish: &pb::RegisterRequest, lease: &str) -> Result<(), Trouble> {
        let message = pb::DeregisterRequest {
            service: wish.service.clone(),
            id: wish.id.clone(),
            lease: lease.to_owned(),
            ..pb::DeregisterRequest::default()
        };
        self.call(message, async |mut stub, request| stub.deregister(request).await)
            .await?;
        Ok(())
    }

    /// Asks the server of the moment, and those after it while nobody is there.
    async fn call<M: Clone, T>(
        &self,
        message: M,
        rpc: impl AsyncFn(Stub, Request<M>) -> Result<Response<T>, Status>,
    ) -> Result<T, Trouble> {
        let mut away = Trouble::Away("no server is named".to_owned());
        for _ in &self.servers {
            let Some((_, stub)) = self.servers.get(self.current.get()) else {
                break;
            };
            let request = self.request(message.clone()).await?;
            match rpc(stub.clone(), request).await.map_err(Trouble::from) {
                Ok(response) => return Ok(response.into_inner()),
                Err(trouble @ Trouble::Away(_)) => away = trouble,
                Err(trouble) => return Err(trouble),
            }
            let next = (self.current.get() + 1).checked_rem(self.servers.len());
            self.current.set(next.unwrap_or_default());
        }
        Err(away)
    }

    async fn request<T>(&self, message: T) -> Result<Request<T>, Trouble> {
        let mut request = Request::new(message);
        if let Some(token) = self.token().await? {
            let value = format!("Bearer {token}").parse();
            let value = value.map_err(|_| Trouble::Denied("the token holds what no header may hold".to_owned()))?;
            request.metadata_mut().insert("authorization", value);
        }
        Ok(request)
    }

    async fn token(&self) -> Result<Option<String>, Trouble> {
        let Some(file) = &self.token_file else {
            return Ok(None);
        };
        match tokio::fs::read_to_string(file).await {
            Ok(token) => Ok(Some(token.trim().to_owned())),
            Err(error) => Err(Trouble::Denied(format!("{}: {error}", file.display()))),
        }
    }
}

async fn endpoint(url: &str, server: &Server) -> Result<Endpoint, Failure> {
    let usage = |why: &str| Failure::Usage(format!("--server {url:?}: {why}"));
    let endpoint = Endpoint::from_shared(url.to_owned()).map_err(|_| usage("not a url"))?;
    let scheme = endpoint.uri().scheme_str();
    if !matches!(scheme, Some("http" | "https")) || endpoint.uri().host().is_none_or(str::is_empty) {
        return Err(usage("a url such as http://127.0.0.1:18002 is needed"));
    }
    let secure = scheme == Some("https");
    let endpoint = endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(TIMEOUT)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT);
    if secure {
        let tls = tls(server).await?;
        return endpoint.tls_config(tls).map_err(Failure::from_error);
    }
    if server.tls_ca.is_some() || server.tls_cert.is_some() {
        return Err(usage("the TLS files are for https:// only"));
    }
    Ok(endpoint)
}

async fn tls(server: &Server) -> Result<ClientTlsConfig, Failure> {
    let tls = match &server.tls_ca {
        Some(file) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(file).await?)),
        None => ClientTlsConfig::new().with_native_roots(),
    };
    Ok(match (&server.tls_cert, &server.tls_key) {
        (Some(cert), Some(key)) => tls.identity(Identity::from_pem(read(cert).await?, read(key).await?)),
        (Some(_) | None, Some(_) | None) => tls,
    })
}

async fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    let read = tokio::fs::read(file).await;
    read.map_err(|error| Failure::BadInput(format!("{}: {error}", file.display())))
}

impl From<Status> for Trouble {
    fn from(status: Status) -> Self {
        let said = match std::error::Error::source(&status) {
            // Without an answer, the reason is below.
            Some(cause) => output::innermost(cause),
            None => status.message().to_owned(),
        };
        match status.code() {
            Code::NotFound => Self::Unknown(said),
            Code::Aborted => Self::Replaced(said),
            Code::Unauthenticated | Code::PermissionDenied => Self::Denied(said),
            Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange | Code::ResourceExhausted => {
                Self::Refused(said)
            }
            Code::Unimplemented => Self::Refused("this is no registry of a Leadsman".to_owned()),
            Code::Ok
            | Code::Cancelled
            | Code::Unknown
            | Code::DeadlineExceeded
            | Code::AlreadyExists
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss => Self::Away(said),
        }
    }
}

impl Trouble {
    pub(super) fn into_failure(self, client: &Client) -> Failure {
        let said = format!("{}: {}", client.url(), output::visible(&self.to_string()));
        match self {
            Self::Away(_) => Failure::Unreachable(said),
            Self::Denied(_) => Failure::Permission(said),
            Self::Refused(_) => Failure::BadInput(said),
            Self::Unknown(_) | Self::Replaced(_) => Failure::Other(said),
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Away(said) | Self::Unknown(said) | Self::Replaced(said) | Self::Denied(said) | Self::Refused(said)) =
            self;
        f.write_str(said)
    }
}

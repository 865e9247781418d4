//! What every registry that speaks HTTP needs: one kind of client, and answers of bounded length.
//!
//! Nothing is retried, and redirects are not followed: credentials must not travel to another host.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use reqwest::Url;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use crate::{Error, Tls};

/// TCP and TLS together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// PEM text, and where it was found.
#[derive(Clone)]
pub(crate) struct Pem {
    pub(crate) place: String,
    pub(crate) bytes: Vec<u8>,
}

/// What a client believes, and what it shows of itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct Certificates {
    /// The authorities of the servers; the system's without it.
    pub(crate) ca: Option<Pem>,
    /// Our certificate and its key.
    pub(crate) identity: Option<(Pem, Pem)>,
}

impl std::fmt::Debug for Pem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The text may be a key.
        f.debug_tuple("Pem").field(&self.place).finish()
    }
}

impl Pem {
    pub(crate) async fn read(file: &Path) -> Result<Self, Error> {
        Ok(Self {
            place: file.display().to_string(),
            bytes: read(file).await?,
        })
    }
}

impl Certificates {
    pub(crate) async fn read(files: Option<&Tls>) -> Result<Self, Error> {
        let ca = match files.and_then(|files| files.ca.as_deref()) {
            Some(file) => Some(Pem::read(file).await?),
            None => None,
        };
        let identity = match files.and_then(Tls::identity) {
            Some((cert, key)) => Some((Pem::read(cert).await?, Pem::read(key).await?)),
            None => None,
        };
        Ok(Self { ca, identity })
    }
}

/// A client for one server. Reads the files; the first request connects.
pub(crate) async fn client(base: &Url, files: Option<&Tls>) -> Result<reqwest::Client, Error> {
    client_with(base, Certificates::read(files).await?).await
}

/// As [`client`], with certificates that need not be files.
pub(crate) async fn client_with(base: &Url, certificates: Certificates) -> Result<reqwest::Client, Error> {
    let secure = base.scheme() == "https";
    let builder = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .https_only(secure)
        .tls_backend_preconfigured(tls(certificates, secure).await?);
    builder.build().map_err(|error| Error::Misconfigured(chain(&error)))
}

/// The whole body, unless it is longer than `most` bytes.
pub(crate) async fn body(mut response: reqwest::Response, most: usize) -> Result<Vec<u8>, Error> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(unavailable)? {
        if body.len() + chunk.len() > most {
            return Err(Error::Unavailable(format!("an answer is longer than {most} bytes")));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

pub(crate) fn unavailable(error: reqwest::Error) -> Error {
    Error::Unavailable(chain(&error.without_url()))
}

/// A file that the configuration names.
pub(crate) async fn read(file: &Path) -> Result<Vec<u8>, Error> {
    tokio::fs::read(file)
        .await
        .map_err(|error| Error::Misconfigured(format!("{} can't be read: {error}", file.display())))
}

/// An error with its causes: the outermost alone rarely says what happened.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        // Wrappers often repeat what they wrap.
        let inner = error.to_string();
        if !text.contains(&inner) {
            text = format!("{text}: {inner}");
        }
        cause = error.source();
    }
    text
}

/// A provider is named, because a process may have two of them and rustls would not choose.
pub(crate) async fn tls(certificates: Certificates, secure: bool) -> Result<ClientConfig, Error> {
    let misconfigured = |error: rustls::Error| Error::Misconfigured(format!("tls: {error}"));
    let roots = if secure {
        roots(certificates.ca).await?
    } else {
        RootCertStore::empty()
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(misconfigured)?
        .with_root_certificates(roots);
    let Some((cert, key)) = certificates.identity else {
        return Ok(builder.with_no_client_auth());
    };
    let secret = PrivateKeyDer::from_pem_slice(&key.bytes)
        .map_err(|error| Error::Misconfigured(format!("{}: {error}", key.place)))?;
    builder
        .with_client_auth_cert(parse(&cert)?, secret)
        .map_err(misconfigured)
}

async fn roots(ca: Option<Pem>) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    let trusted = match ca {
        Some(ca) => parse(&ca)?,
        None => {
            // It reads hundreds of files.
            let native = tokio::task::spawn_blocking(rustls_native_certs::load_native_certs).await;
            native.map(|found| found.certs).unwrap_or_default()
        }
    };
    roots.add_parsable_certificates(trusted);
    Ok(roots)
}

fn parse(pem: &Pem) -> Result<Vec<CertificateDer<'static>>, Error> {
    let unusable = |error: &str| Error::Misconfigured(format!("{}: {error}", pem.place));
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem.bytes).collect();
    let found = found.map_err(|error| unusable(&error.to_string()))?;
    if found.is_empty() {
        return Err(unusable("there is no certificate in it"));
    }
    Ok(found)
}

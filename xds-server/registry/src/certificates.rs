//! The certificates of a port: read at the start, and again when the files change.
//!
//! A pair that can't be used changes nothing: certificate and key are two writes, and in between they don't match.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use serde::Deserialize;

use crate::Error;
use crate::http::read;

/// PEM files of a server, read again when they change.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerTls {
    /// The certificate chain of this server, its own certificate first. Required.
    pub cert: PathBuf,
    /// The private key of the certificate. Required.
    pub key: PathBuf,
    /// The authorities that client certificates must come from; with it, a client without a certificate is refused.
    /// Default none.
    #[serde(default)]
    pub client_ca: Option<PathBuf>,
}

/// A working set of files.
#[derive(Debug)]
pub struct Certificates {
    files: ServerTls,
    protocols: &'static [&'static str],
    contents: Contents,
    config: Arc<ServerConfig>,
}

/// The files, byte by byte.
#[derive(Debug, PartialEq, Eq)]
struct Contents {
    cert: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

impl Certificates {
    /// How often the files are to be looked at.
    pub const REFRESH: Duration = Duration::from_secs(5);

    /// Reads the files for a port whose clients speak one of `protocols`, in the words of ALPN.
    ///
    /// # Errors
    /// [`Error::Misconfigured`] with the file that can't be read or used.
    pub async fn load(files: &ServerTls, protocols: &'static [&'static str]) -> Result<Self, Error> {
        let contents = Contents::read(files).await?;
        Ok(Self {
            config: Arc::new(contents.config(files, protocols)?),
            files: files.clone(),
            protocols,
            contents,
        })
    }

    /// Takes new files over for the connections that follow, and says whether there are any.
    pub async fn refresh(&mut self) -> bool {
        let next = match Contents::read(&self.files).await {
            Ok(contents) if contents == self.contents => return false,
            Ok(contents) => contents
                .config(&self.files, self.protocols)
                .map(|config| (contents, config)),
            Err(error) => Err(error),
        };
        match next {
            Ok((contents, config)) => {
                tracing::info!(cert = %self.files.cert.display(), "new certificates");
                self.config = Arc::new(config);
                self.contents = contents;
                true
            }
            Err(error) => {
                tracing::warn!(%error, "the new certificates can't be used; the old ones stay");
                false
            }
        }
    }

    /// What the connections that follow are to be received with.
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }
}

impl Contents {
    async fn read(files: &ServerTls) -> Result<Self, Error> {
        Ok(Self {
            cert: read(&files.cert).await?,
            key: read(&files.key).await?,
            client_ca: match &files.client_ca {
                Some(file) => Some(read(file).await?),
                None => None,
            },
        })
    }

    fn config(&self, files: &ServerTls, protocols: &[&str]) -> Result<ServerConfig, Error> {
        let unusable =
            |error: &dyn std::fmt::Display| Error::Misconfigured(format!("{}: {error}", files.cert.display()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable(&error))?;
        let builder = match &self.client_ca {
            Some(authorities) => {
                let mut roots = RootCertStore::empty();
                roots.add_parsable_certificates(certificates(authorities).map_err(|error| unusable(&error))?);
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
                builder.with_client_cert_verifier(verifier.map_err(|error| unusable(&error))?)
            }
            None => builder.with_no_client_auth(),
        };
        let key = PrivateKeyDer::from_pem_slice(&self.key)
            .map_err(|error| Error::Misconfigured(format!("{}: {error}", files.key.display())))?;
        let chain = certificates(&self.cert).map_err(|error| unusable(&error))?;
        let mut config = builder.with_single_cert(chain, key).map_err(|error| unusable(&error))?;
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        Ok(config)
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, rustls::pki_types::pem::Error> {
    CertificateDer::pem_slice_iter(pem).collect()
}

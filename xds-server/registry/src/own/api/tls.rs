//! The certificates of the registry's port: read at the start, and again when the files change.
//!
//! A pair that can't be used changes nothing: certificate and key are two writes, and in between they don't match.

use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

use super::super::config::ServerTls;
use crate::Error;
use crate::http::read;

/// A working set of files.
pub(super) struct Certificates {
    files: ServerTls,
    contents: Contents,
    config: Arc<ServerConfig>,
}

/// The files, byte by byte.
#[derive(PartialEq, Eq)]
struct Contents {
    cert: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

impl Certificates {
    pub(super) async fn load(files: &ServerTls) -> Result<Self, Error> {
        let contents = Contents::read(files).await?;
        Ok(Self {
            config: Arc::new(contents.config(files)?),
            files: files.clone(),
            contents,
        })
    }

    /// Takes new files over for the connections that follow.
    pub(super) async fn refresh(&mut self) {
        let next = match Contents::read(&self.files).await {
            Ok(contents) if contents == self.contents => return,
            Ok(contents) => contents.config(&self.files).map(|config| (contents, config)),
            Err(error) => Err(error),
        };
        match next {
            Ok((contents, config)) => {
                tracing::info!(cert = %self.files.cert.display(), "new certificates");
                self.config = Arc::new(config);
                self.contents = contents;
            }
            Err(error) => tracing::warn!(%error, "the new certificates can't be used; the old ones stay"),
        }
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.config))
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

    fn config(&self, files: &ServerTls) -> Result<ServerConfig, Error> {
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
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, rustls::pki_types::pem::Error> {
    CertificateDer::pem_slice_iter(pem).collect()
}

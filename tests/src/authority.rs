//! Certificates made for one test: an authority, and what it signs.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair};

/// An authority that signs for both ends, and a place for its files.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    directory: PathBuf,
}

/// A certificate and its key, as PEM files.
#[derive(Clone, Debug)]
pub struct Identity {
    pub cert: PathBuf,
    pub key: PathBuf,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority")
            .field("directory", &self.directory)
            .finish_non_exhaustive()
    }
}

impl Authority {
    /// Writes `NAME.pem` into `directory`.
    ///
    /// # Panics
    /// When it can't.
    pub fn new(directory: &Path, name: &str) -> Self {
        let made = || -> anyhow::Result<_> {
            let mut params = CertificateParams::new(Vec::new())?;
            params.distinguished_name.push(DnType::CommonName, name);
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
            fs::write(directory.join(format!("{name}.pem")), issuer.pem())?;
            Ok(issuer)
        };
        let issuer = made().unwrap_or_else(|error| panic!("no authority: {error}"));
        Self {
            issuer,
            directory: directory.to_owned(),
        }
    }

    /// Signs for 127.0.0.1, and writes `NAME.pem` and `NAME.key`.
    ///
    /// # Panics
    /// When it can't.
    pub fn sign(&self, name: &str) -> Identity {
        let made = || -> anyhow::Result<_> {
            let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()])?;
            // A subject that is also its issuer is taken for self-signed.
            params.distinguished_name.push(DnType::CommonName, name);
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
            let key = KeyPair::generate()?;
            let certificate = params.signed_by(&key, &self.issuer)?;
            let identity = Identity {
                cert: self.directory.join(format!("{name}.pem")),
                key: self.directory.join(format!("{name}.key")),
            };
            fs::write(&identity.cert, certificate.pem())?;
            fs::write(&identity.key, key.serialize_pem())?;
            Ok(identity)
        };
        made().unwrap_or_else(|error| panic!("no certificate for {name}: {error}"))
    }
}

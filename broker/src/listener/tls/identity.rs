//! What the server shows in a TLS handshake and asks for, from files that may change while it runs.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::sync::watch;
use tokio_rustls::rustls::{
    self, RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};
use tokio_util::sync::CancellationToken;

/// How often the files are looked at. Their contents, not their times: they are short, and a time may be the same.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// PEM files.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The server's certificate, then those between it and a root.
    pub certificate: PathBuf,
    /// Its private key: PKCS #8, PKCS #1 or SEC 1, not encrypted.
    pub key: PathBuf,
    /// Certificates of those who issue client certificates. If there is such a file, every client must show one.
    pub client_ca: Option<PathBuf>,
}

/// Why there can be no TLS with these files; one line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("the TLS file {} cannot be read: {problem}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        problem: String,
    },
    /// A file does not hold what it should.
    #[error("the TLS file {}: {problem}", .path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
}

impl TlsError {
    fn invalid(path: &Path, problem: impl fmt::Display) -> Self {
        Self::Invalid { path: path.to_owned(), problem: problem.to_string() }
    }
}

/// What the files hold.
#[derive(Clone, PartialEq, Eq)]
struct Contents {
    certificate: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

impl TlsFiles {
    async fn read(&self) -> Result<Contents, TlsError> {
        let client_ca = match &self.client_ca {
            Some(path) => Some(read(path).await?),
            None => None,
        };
        Ok(Contents { certificate: read(&self.certificate).await?, key: read(&self.key).await?, client_ca })
    }

    /// Checks the contents, and that the key belongs to the certificate.
    fn configure(&self, contents: &Contents) -> Result<Arc<ServerConfig>, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsError::invalid(&self.certificate, error))?;
        let builder = match (&self.client_ca, &contents.client_ca) {
            (Some(path), Some(pem)) => {
                builder.with_client_cert_verifier(client_verifier(path, pem, provider)?)
            }
            _ => builder.with_no_client_auth(),
        };
        let key = PrivateKeyDer::from_pem_slice(&contents.key).map_err(|error| {
            TlsError::invalid(&self.key, format!("holds no private key that is not encrypted ({error})"))
        })?;
        let config = builder.with_single_cert(certificates(&self.certificate, &contents.certificate)?, key);
        let config = config.map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => {
                let certificate = self.certificate.display();
                TlsError::invalid(
                    &self.key,
                    format!("the key does not match the certificate in {certificate}"),
                )
            }
            rustls::Error::InvalidCertificate(_) => TlsError::invalid(&self.certificate, error),
            _ => TlsError::invalid(&self.key, error),
        })?;
        Ok(Arc::new(config))
    }
}

async fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let unreadable =
        |error: io::Error| TlsError::Unreadable { path: path.to_owned(), problem: error.to_string() };
    tokio::fs::read(path).await.map_err(unreadable)
}

fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| TlsError::invalid(path, error))?;
    if found.is_empty() {
        return Err(TlsError::invalid(path, "holds no certificate in PEM"));
    }
    Ok(found)
}

fn client_verifier(
    path: &Path,
    pem: &[u8],
    provider: Arc<rustls::crypto::CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path, pem)? {
        roots.add(certificate).map_err(|error| TlsError::invalid(path, error))?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|error| TlsError::invalid(path, error))
}

/// The server's side of TLS as its files have it.
pub struct Tls {
    files: TlsFiles,
    config: watch::Sender<Arc<ServerConfig>>,
    /// What was last taken or refused.
    judged: Result<Contents, TlsError>,
    /// What the last look found, if it was something else.
    changed: Option<Result<Contents, TlsError>>,
}

impl Tls {
    /// From files that must be there and right.
    ///
    /// # Errors
    /// The first thing that is wrong with them.
    pub async fn load(files: TlsFiles) -> Result<Self, TlsError> {
        let contents = files.read().await?;
        let (config, _) = watch::channel(files.configure(&contents)?);
        Ok(Self { files, config, judged: Ok(contents), changed: None })
    }

    /// The configuration for new handshakes, and the work that keeps it up to date until `stop`.
    pub(super) fn follow(
        mut self,
        stop: CancellationToken,
    ) -> (watch::Receiver<Arc<ServerConfig>>, impl Future<Output = ()>) {
        let current = self.config.subscribe();
        let work = async move {
            while stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_some() {
                self.look().await;
            }
        };
        (current, work)
    }

    /// Takes what the files hold now when it differs from what was judged last and two looks have found the same: several
    /// files are not replaced in one step. Wrong files change nothing but the log, which tells of them once.
    async fn look(&mut self) {
        let found = self.files.read().await;
        if found == self.judged {
            self.changed = None;
            return;
        }
        if self.changed.as_ref() != Some(&found) {
            self.changed = Some(found);
            return;
        }
        self.changed = None;
        match found.as_ref().map_err(Clone::clone).and_then(|contents| self.files.configure(contents)) {
            Ok(config) => {
                self.config.send_replace(config);
                tracing::info!(certificate = %self.files.certificate.display(), "new TLS files are in use");
            }
            Err(error) => tracing::error!("{error}; the certificate that was in use stays so"),
        }
        self.judged = found;
    }
}

#[cfg(test)]
mod tests;

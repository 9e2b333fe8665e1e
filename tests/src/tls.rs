//! Certificates made for a test, and the client's side of TLS.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use std::{fs, io, path::Path, sync::Arc};
use tokio::net::TcpStream;
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    },
};

/// The name that servers are called by.
const SERVER: &str = "localhost";

/// One who issues certificates.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key.
pub struct Issued {
    /// PEM.
    pub certificate: String,
    /// PEM.
    pub key: String,
}

impl Issued {
    /// Writes `certificate.pem` and `key.pem`.
    pub fn write_to(&self, dir: &Path) {
        fs::write(dir.join("certificate.pem"), &self.certificate).expect("a file can be written");
        fs::write(dir.join("key.pem"), &self.key).expect("a file can be written");
    }

    /// The certificate as it is shown in a handshake.
    pub fn der(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.certificate.as_bytes()).expect("rcgen writes PEM")
    }
}

impl Authority {
    /// With a key of its own.
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key can be made");
        Self(CertifiedIssuer::self_signed(params, key).expect("a certificate can be signed"))
    }

    /// Its own certificate, as PEM.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for a server or a client, with a new key.
    pub fn issue(&self) -> Issued {
        let key = KeyPair::generate().expect("a key can be made");
        let params = CertificateParams::new([SERVER.to_owned()]).expect("a name");
        let certificate = params.signed_by(&key, &self.0).expect("a certificate can be signed");
        Issued { certificate: certificate.pem(), key: key.serialize_pem() }
    }

    /// Shakes hands over `socket`, trusting this authority only, and showing a certificate if there is one.
    ///
    /// # Errors
    /// Those of the handshake. That a server misses a client certificate is noticed only when reading.
    pub async fn shake_hands(
        &self,
        socket: TcpStream,
        shown: Option<&Issued>,
    ) -> io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).expect("a certificate of our own");
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring has them")
            .with_root_certificates(roots);
        let config = match shown {
            None => builder.with_no_client_auth(),
            Some(issued) => {
                let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).expect("rcgen writes PEM");
                builder.with_client_auth_cert(vec![issued.der()], key).expect("they belong together")
            }
        };
        let name = ServerName::try_from(SERVER).expect("a name");
        TlsConnector::from(Arc::new(config)).connect(name, socket).await
    }
}

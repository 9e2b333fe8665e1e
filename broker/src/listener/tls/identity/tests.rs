//! Files that are right, wrong, and replaced.

use super::*;
use rcgen::{CertificateParams, KeyPair};
use std::fs;
use tempfile::TempDir;

/// Files in a directory of their own.
struct Given {
    dir: TempDir,
    files: TlsFiles,
}

impl Given {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (certificate, key) = (dir.path().join("certificate.pem"), dir.path().join("key.pem"));
        let given = Self { dir, files: TlsFiles { certificate, key, client_ca: None } };
        given.write(&issue());
        given
    }

    fn write(&self, (certificate, key): &(String, String)) {
        fs::write(&self.files.certificate, certificate).unwrap();
        fs::write(&self.files.key, key).unwrap();
    }

    fn with_client_ca(mut self, pem: &str) -> Self {
        let path = self.dir.path().join("ca.pem");
        fs::write(&path, pem).unwrap();
        self.files.client_ca = Some(path);
        self
    }

    async fn problem(&self) -> String {
        Tls::load(self.files.clone()).await.err().expect("the files are wrong").to_string()
    }
}

/// A certificate and its key, as PEM.
fn issue() -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
    (certificate.pem(), key.serialize_pem())
}

/// Whether the configuration was replaced since the last call.
fn is_new(current: &mut watch::Receiver<Arc<ServerConfig>>) -> bool {
    let new = current.has_changed().unwrap();
    current.mark_unchanged();
    new
}

#[tokio::test]
async fn each_mistake_is_one_line_that_names_the_file() {
    let given = Given::new();
    let (certificate, key) = issue();
    assert!(Tls::load(given.files.clone()).await.is_ok());

    fs::write(&given.files.key, &key).unwrap();
    let problem = given.problem().await;
    assert!(problem.contains("key.pem: the key does not match the certificate in "), "{problem}");
    for (text, expected) in [("", "holds no private key"), (certificate.as_str(), "holds no private key")] {
        fs::write(&given.files.key, text).unwrap();
        let problem = given.problem().await;
        assert!(problem.contains("key.pem") && problem.contains(expected), "{problem}");
    }
    let torn = &certificate[..certificate.len() / 2];
    let nonsense = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    fs::write(&given.files.key, &key).unwrap();
    for text in ["", key.as_str(), torn, nonsense] {
        fs::write(&given.files.certificate, text).unwrap();
        let problem = given.problem().await;
        assert!(problem.contains("certificate.pem: "), "{problem}");
        assert_eq!(problem.lines().count(), 1, "{problem}");
    }
    fs::remove_file(&given.files.certificate).unwrap();
    assert!(given.problem().await.contains("certificate.pem cannot be read: No such file"));

    for text in ["", nonsense] {
        let problem = Given::new().with_client_ca(text).problem().await;
        assert!(problem.contains("ca.pem: "), "{problem}");
    }
    let (ca, _) = issue();
    let given = Given::new().with_client_ca(&ca);
    assert!(Tls::load(given.files.clone()).await.is_ok());
}

#[tokio::test]
async fn files_that_changed_are_taken_once_they_rest() {
    let given = Given::new();
    let mut tls = Tls::load(given.files.clone()).await.unwrap();
    let mut current = tls.config.subscribe();
    for _ in 0..3 {
        tls.look().await;
    }
    assert!(!is_new(&mut current), "nothing has changed");

    let (certificate, key) = issue();
    fs::write(&given.files.certificate, certificate).unwrap();
    tls.look().await;
    fs::write(&given.files.key, key).unwrap();
    tls.look().await;
    assert!(!is_new(&mut current), "they have not rested");
    tls.look().await;
    assert!(is_new(&mut current));
    tls.look().await;
    assert!(!is_new(&mut current));
}

#[tokio::test]
async fn broken_files_change_nothing_and_are_told_once() {
    let given = Given::new();
    let mut tls = Tls::load(given.files.clone()).await.unwrap();
    let mut current = tls.config.subscribe();
    let good = issue();

    for (certificate, key) in [("nonsense", good.1.as_str()), (good.0.as_str(), &issue().1)] {
        fs::write(&given.files.certificate, certificate).unwrap();
        fs::write(&given.files.key, key).unwrap();
        tls.look().await;
        assert!(tls.changed.is_some(), "not judged yet");
        tls.look().await;
        // What was judged is not judged again, and so told once.
        assert!(tls.changed.is_none() && tls.judged.is_ok());
        tls.look().await;
        assert!(tls.changed.is_none());
    }
    fs::remove_file(&given.files.key).unwrap();
    tls.look().await;
    tls.look().await;
    assert!(matches!(&tls.judged, Err(TlsError::Unreadable { path, .. }) if *path == given.files.key));
    assert!(!is_new(&mut current), "none of this was taken");

    given.write(&good);
    tls.look().await;
    tls.look().await;
    assert!(is_new(&mut current));
}

//! MQTT over TLS, the PROXY protocol, and how many connections one address may have.

use crate::{send_topic, text};
use curlew_tests::{
    Actor, Engine, Protocol, RawClient, TestServer, Value, json,
    mqtt::raw::{Connect, Packet, encode_connect},
    server::{Setup, curlew},
    tls::{Authority, Issued},
    wait::{eventually, within},
};
use std::net::SocketAddr;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// An authority, and a directory with the files of a server it issued a certificate for.
struct Files {
    dir: TempDir,
    authority: Authority,
    issued: Issued,
}

impl Files {
    fn new() -> Self {
        let (dir, authority) = (
            tempfile::tempdir().expect("a temporary directory can be made"),
            Authority::new("the right one"),
        );
        let issued = authority.issue();
        issued.write_to(dir.path());
        Self { dir, authority, issued }
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().expect("UTF-8").to_owned()
    }

    fn setup(&self) -> Setup {
        TestServer::setup(Engine::Sqlite)
            .env("CURLEW_TLS_LISTEN", "127.0.0.1:0")
            .env("CURLEW_TLS_CERTIFICATE", &self.path("certificate.pem"))
            .env("CURLEW_TLS_KEY", &self.path("key.pem"))
    }

    async fn start(&self) -> TestServer {
        self.setup().start().await
    }

    /// A connection over TLS, perhaps with a client certificate.
    async fn open(&self, server: &TestServer, shown: Option<&Issued>) -> RawClient {
        let stream = self.authority.shake_hands(tcp(mqtts(server)).await, shown).await.expect("a handshake");
        RawClient::over(stream, Protocol::V5)
    }

    /// What the server shows to a new connection.
    async fn is_shown(&self, server: &TestServer, issued: &Issued) -> bool {
        let stream = self.authority.shake_hands(tcp(mqtts(server)).await, None).await.expect("a handshake");
        stream.get_ref().1.peer_certificates().is_some_and(|shown| shown[0] == issued.der())
    }
}

async fn tcp(address: SocketAddr) -> TcpStream {
    within("a TCP connection", TcpStream::connect(address)).await.expect("the server listens")
}

fn mqtts(server: &TestServer) -> SocketAddr {
    server.endpoints().mqtts().expect("TLS is on")
}

fn connect(actor: &Actor) -> Connect {
    let password = Some(actor.mqtt_password.clone().into_bytes());
    Connect { client_id: format!("raw-{}", actor.username), password, ..Connect::default() }
}

/// What a login answer says about MQTT.
async fn mqtt_access(server: &TestServer) -> Value {
    let body = json!({ "username": "carol", "password": "correct horse battery", "displayName": "Carol" });
    server.anonymous().post("/auth/register", body).await.expect(201)["mqtt"].clone()
}

/// Sends into the chat of two new contacts, and sees it arrive, over `alices` connection.
async fn converse(server: &TestServer, mut alices: RawClient) {
    let [alice, bob] = server.contacts(["alice", "bob"]).await;
    let chat = alice.private_chat(&bob).await;
    assert_eq!(alices.connect(&connect(&alice)).await.1, 0);
    assert_eq!(alices.subscribe(&[("chats/+/messages", 1)]).await, [1]);
    // Longer than a record of TLS.
    let long = "x".repeat(16_000);
    alices.publish(&send_topic(&chat), &text(&long, "1"), 1, 1).await;
    let (mut acknowledged, mut arrived) = (false, false);
    while !(acknowledged && arrived) {
        match alices.read().await {
            Some(Packet::PubAck { id: 1, reason: 0, .. }) => acknowledged = true,
            Some(Packet::Publish(publication)) => {
                assert_eq!(publication.json()["message"]["text"], long.as_str());
                alices.acknowledge(publication.id).await;
                arrived = true;
            }
            other => panic!("{other:?}"),
        }
    }
    alices.ping().await;
    assert_eq!(alices.read().await, Some(Packet::PingResp));
    alices.disconnect().await;
}

#[tokio::test]
async fn a_conversation_over_tls() {
    let files = Files::new();
    let server = files.start().await;
    converse(&server, files.open(&server, None).await).await;

    assert_eq!(mqtt_access(&server).await["tls"], format!("mqtts://{}", mqtts(&server)));
    let banner = server.printed();
    for url in [
        format!("  mqtt://{}\n", server.endpoints().mqtt()),
        format!("  mqtts://{}\n", mqtts(&server)),
        format!("  ws://{}/mqtt\n", server.endpoints().http()),
    ] {
        assert!(banner.contains(&url), "{url} is missing in:\n{banner}");
    }
    assert!(server.terminate().await.success());
}

/// The reason is written before TLS is closed.
#[tokio::test]
async fn a_broken_packet_over_tls_gets_its_reason() {
    let files = Files::new();
    let server = files.start().await;
    let alice = server.user("alice").await;
    let mut raw = files.open(&server, None).await;
    assert_eq!(raw.connect(&connect(&alice)).await.1, 0);
    // PUBLISH at QoS 3 [MQTT-3.3.1-4].
    raw.write(&[0x36, 6, 0, 1, b't', 0, 1, 0]).await;
    assert_eq!(raw.closed().await, Some(0x81));
}

#[tokio::test]
async fn without_tls_nobody_is_told_of_it() {
    let server = TestServer::start(Engine::Sqlite).await;
    assert_eq!(server.endpoints().mqtts(), None);
    assert!(mqtt_access(&server).await.get("tls").is_none());
    assert!(!server.printed().contains("mqtts://"));
}

#[tokio::test]
async fn a_server_of_another_authority_is_not_talked_to() {
    let files = Files::new();
    let server = files.start().await;
    let other = Authority::new("another one");
    let error = other.shake_hands(tcp(mqtts(&server)).await, None).await.unwrap_err();
    assert!(error.to_string().contains("certificate"), "{error}");
    // And one that does not speak TLS at all gets an alert of it, and is let go.
    let mut plain = tcp(mqtts(&server)).await;
    plain.write_all(&encode_connect(Protocol::V5, &Connect::default())).await.unwrap();
    let mut answer = Vec::new();
    let _ = within("the end of the connection", plain.read_to_end(&mut answer)).await;
    assert!(answer.len() == 7 && answer.starts_with(&[21, 3]), "{answer:?}");
    eventually("both to be counted", async || {
        let page = server.anonymous().get("/metrics").await.text;
        page.contains(r#"curlew_mqtt_connections_refused_total{reason="tls"} 2"#).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_replaced_certificate_is_shown_to_new_connections() {
    let files = Files::new();
    let server = files.start().await;
    let alice = server.user("alice").await;
    let mut old = files.open(&server, None).await;
    assert_eq!(old.connect(&connect(&alice)).await.1, 0);
    assert!(files.is_shown(&server, &files.issued).await);

    std::fs::write(files.path("certificate.pem"), "nonsense").unwrap();
    eventually("the log to tell", async || {
        server.log().contains("the certificate that was in use stays so").then_some(())
    })
    .await;
    assert!(files.is_shown(&server, &files.issued).await);

    let next = files.authority.issue();
    next.write_to(files.dir.path());
    eventually("the new certificate", async || files.is_shown(&server, &next).await.then_some(())).await;
    assert_eq!(server.log().matches("stays so").count(), 1, "it is told once");
    old.ping().await;
    assert_eq!(old.read().await, Some(Packet::PingResp), "a connection outlives its certificate");
}

#[tokio::test]
async fn client_certificates_are_required_when_their_issuer_is_named() {
    let (files, clients) = (Files::new(), Authority::new("of clients"));
    std::fs::write(files.path("clients.pem"), clients.pem()).unwrap();
    let server = files.setup().env("CURLEW_TLS_CLIENT_CA", &files.path("clients.pem")).start().await;
    let stranger = Authority::new("of others").issue();
    for shown in [None, Some(&stranger)] {
        let mut raw = files.open(&server, shown).await;
        assert!(raw.try_connect(&Connect::default()).await.is_none());
    }
    converse(&server, files.open(&server, Some(&clients.issue())).await).await;
}

#[test]
fn mistakes_are_told_in_one_line_before_anything_is_served() {
    let files = Files::new();
    let run = |certificate: &str, key: &str| {
        let ready = files.dir.path().join("ready.json");
        let output = curlew()
            .args(["serve", "--http", "127.0.0.1:0", "--mqtt", "127.0.0.1:0", "--ready-file"])
            .arg(&ready)
            .arg("--data-dir")
            .arg(files.dir.path().join("data"))
            .current_dir(files.dir.path())
            .env("CURLEW_TLS_LISTEN", "127.0.0.1:0")
            .env("CURLEW_TLS_CERTIFICATE", certificate)
            .env("CURLEW_TLS_KEY", key)
            .output()
            .unwrap();
        assert!(!ready.exists() && output.stdout.is_empty(), "{output:?}");
        let text = String::from_utf8(output.stderr).unwrap();
        let errors: Vec<_> =
            text.lines().filter(|line| line.starts_with("error: ")).map(str::to_owned).collect();
        assert_eq!(errors.len(), 1, "{text}");
        (output.status.code(), errors[0].clone())
    };
    let (code, line) = run("certificate.pem", "nowhere.pem");
    assert_eq!(code, Some(69), "{line}");
    assert!(line.contains("nowhere.pem cannot be read: No such file"), "{line}");
    std::fs::write(files.path("other.pem"), files.authority.issue().key).unwrap();
    let (code, line) = run("certificate.pem", "other.pem");
    assert_eq!(code, Some(64), "{line}");
    assert!(line.contains("the key does not match the certificate"), "{line}");
    let (code, line) = run("certificate.pem", "");
    assert_eq!(code, Some(64), "{line}");
    assert!(line.contains("tls.key is required with tls.listen"), "{line}");
}

/// A PROXY header of version 2 that names this source.
fn header(source: [u8; 4], port: u16) -> Vec<u8> {
    let fixed = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c";
    [&fixed[..], &source, &[127, 0, 0, 1], &port.to_be_bytes(), &1883u16.to_be_bytes()].concat()
}

#[tokio::test]
async fn a_listed_proxy_tells_where_a_connection_comes_from() {
    let files = Files::new();
    let server = files.setup().env("CURLEW_PROXY_TRUSTED", "127.0.0.0/8").start().await;
    let alice = server.user("alice").await;

    let mut raw = RawClient::open(server.endpoints().mqtt(), Protocol::V5).await;
    raw.write(&header([192, 0, 2, 7], 50_007)).await;
    assert_eq!(raw.connect(&connect(&alice)).await.1, 0);
    assert!(server.log().contains("peer=192.0.2.7:50007"), "{}", server.log());

    let mut socket = tcp(mqtts(&server)).await;
    // In two parts, as the network may bring it.
    let header = header([192, 0, 2, 8], 50_008);
    socket.write_all(&header[..20]).await.unwrap();
    socket.write_all(&header[20..]).await.unwrap();
    let stream = files.authority.shake_hands(socket, None).await.unwrap();
    let mut over_tls = RawClient::over(stream, Protocol::V5);
    assert_eq!(over_tls.connect(&connect(&alice)).await.1, 0);
    assert!(server.log().contains("peer=192.0.2.8:50008"), "{}", server.log());

    // None, or one of version 1: closed, and not taken for MQTT.
    let mut none = RawClient::open(server.endpoints().mqtt(), Protocol::V5).await;
    assert!(none.try_connect(&connect(&alice)).await.is_none());
    let mut version_1 = RawClient::open(server.endpoints().mqtt(), Protocol::V5).await;
    version_1.write(b"PROXY TCP4 192.0.2.7 127.0.0.1 50007 1883\r\n").await;
    assert!(version_1.try_connect(&connect(&alice)).await.is_none());
    let page = server.anonymous().get("/metrics").await.text;
    assert!(page.contains(r#"curlew_mqtt_connections_refused_total{reason="proxy"} 2"#), "{page}");
}

#[tokio::test]
async fn a_header_of_somebody_else_is_no_header() {
    let server = TestServer::setup(Engine::Sqlite).env("CURLEW_PROXY_TRUSTED", "192.0.2.1").start().await;
    let alice = server.user("alice").await;
    let mut raw = RawClient::open(server.endpoints().mqtt(), Protocol::V5).await;
    raw.write(&header([192, 0, 2, 7], 50_007)).await;
    assert!(raw.try_connect(&connect(&alice)).await.is_none());
    assert!(!server.log().contains("192.0.2.7"), "{}", server.log());
    let mut raw = RawClient::open(server.endpoints().mqtt(), Protocol::V5).await;
    assert_eq!(raw.connect(&connect(&alice)).await.1, 0);
}

#[tokio::test]
async fn one_address_has_so_many_connections() {
    let server = TestServer::setup(Engine::Sqlite)
        .env("CURLEW_PROXY_TRUSTED", "127.0.0.1")
        .env("CURLEW_LIMITS_CONNECTIONS_PER_ADDRESS", "2")
        .start()
        .await;
    let alice = server.user("alice").await;
    let open = async |last: u8, client_id: &str| {
        let mut raw = RawClient::open(server.endpoints().mqtt(), Protocol::V5).await;
        raw.write(&header([192, 0, 2, last], 50_000)).await;
        let connect = Connect { client_id: client_id.to_owned(), ..connect(&alice) };
        raw.try_connect(&connect).await.map(|answer| (raw, answer.1))
    };
    let (first, code) = open(7, "a").await.expect("a place");
    assert_eq!(code, 0);
    let _second = open(7, "b").await.expect("a place");
    assert!(open(7, "c").await.is_none(), "the third of one address");
    let page = server.anonymous().get("/metrics").await.text;
    assert!(page.contains(r#"curlew_mqtt_connections_refused_total{reason="address"} 1"#), "{page}");
    let _other = open(8, "d").await.expect("another address has its own");
    first.disconnect().await;
    eventually("the place to be free again", async || open(7, "e").await).await;
}

#[tokio::test]
async fn the_http_port_reads_the_header_only_when_told_to() {
    let ask = async |server: &TestServer, opening: &[u8]| {
        let mut socket = tcp(server.endpoints().http()).await;
        socket.write_all(opening).await.unwrap();
        socket.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        // A server that closes without reading everything resets.
        let _ = within("an answer", socket.read_to_end(&mut answer)).await;
        String::from_utf8(answer).unwrap().starts_with("HTTP/1.1 200")
    };
    let header = header([192, 0, 2, 7], 50_000);
    let trusting = || TestServer::setup(Engine::Sqlite).env("CURLEW_PROXY_TRUSTED", "127.0.0.1");
    let server = trusting().start().await;
    assert!(ask(&server, b"").await && !ask(&server, &header).await);
    let server = trusting().env("CURLEW_PROXY_HTTP", "true").start().await;
    assert!(!ask(&server, b"").await && ask(&server, &header).await);
}

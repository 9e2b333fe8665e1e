use super::*;
use crate::failure::Exit;
use curlew_domain::{ErrorCode, secret::Secret};
use std::{os::unix::fs::PermissionsExt, sync::Arc};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    sync::Notify,
};
use tokio_util::sync::CancellationToken;

/// Creates every user but `taken`; one named `slow` when told to.
#[derive(Default)]
struct Handler {
    started: Notify,
    go_on: Notify,
}

impl AdminHandler for Handler {
    async fn handle(&self, request: AdminRequest) -> Result<AdminReply, AdminError> {
        let AdminRequest::UsersCreate { username, password, display_name } = request else {
            return Err(AdminError { code: ErrorCode::Internal, message: "not in this test".into() });
        };
        match username.as_str() {
            "taken" => {
                return Err(AdminError { code: ErrorCode::UsernameTaken, message: "taken is in use".into() });
            }
            "slow" => {
                self.started.notify_one();
                self.go_on.notified().await;
            }
            _ => {}
        }
        assert_eq!(password.expose(), "correct horse");
        let display_name = display_name.unwrap_or_else(|| username.clone());
        Ok(AdminReply::UserCreated(UserCreated { user_id: "1".into(), username, display_name }))
    }
}

fn create(username: &str) -> AdminRequest {
    let password = Secret::new("correct horse".to_owned());
    AdminRequest::UsersCreate { username: username.into(), password, display_name: None }
}

fn created(reply: Result<AdminReply, Failure>) -> String {
    match reply.unwrap() {
        AdminReply::UserCreated(user) => user.username,
        other => panic!("{other:?}"),
    }
}

async fn never(_: LockedDataDir, _: AdminRequest) -> Result<AdminReply, Failure> {
    panic!("the lock is the server's")
}

/// A server on a data directory of its own.
struct Server {
    dir: tempfile::TempDir,
    lock: LockedDataDir,
    handler: Arc<Handler>,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let lock = lock(dir.path());
        let (handler, shutdown) = (Arc::new(Handler::default()), CancellationToken::new());
        let listener = AdminListener::bind(&lock).unwrap();
        let task = tokio::spawn(serve_admin(listener, Arc::clone(&handler), shutdown.clone()));
        Self { dir, lock, handler, shutdown, task }
    }

    async fn raw(&self, request: &[u8]) -> String {
        let mut stream = UnixStream::connect(self.dir.path().join("admin.sock")).await.unwrap();
        stream.write_all(request).await.unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).await.unwrap();
        reply
    }
}

fn lock(path: &Path) -> LockedDataDir {
    match DataDir::prepare(path).unwrap().try_lock(Role::Server).unwrap() {
        Locking::Acquired(lock) => lock,
        Locking::Held(holder) => panic!("held by {holder}"),
    }
}

#[tokio::test]
async fn a_request_is_answered_by_the_server_that_holds_the_lock() {
    let server = Server::start();
    assert_eq!(created(with_admin(server.dir.path(), create("alice"), never).await), "alice");
    let refused = with_admin(server.dir.path(), create("taken"), never).await.unwrap_err();
    assert_eq!((refused.to_string().as_str(), refused.exit()), ("taken is in use", Exit::Usage));
}

#[tokio::test]
async fn without_a_server_the_command_works_under_the_lock() {
    let dir = tempfile::tempdir().unwrap();
    let directly = async |locked: LockedDataDir, request| {
        let again = DataDir::prepare(locked.path()).unwrap().try_lock(Role::Server).unwrap();
        assert!(matches!(again, Locking::Held(_)), "the lock is not held");
        Ok(Handler::default().handle(request).await?)
    };
    assert_eq!(created(with_admin(dir.path(), create("alice"), directly).await), "alice");
    drop(lock(dir.path()));
}

#[tokio::test]
async fn a_command_waits_for_a_server_that_is_starting() {
    let dir = tempfile::tempdir().unwrap();
    let lock = lock(dir.path());
    let path = dir.path().to_owned();
    let command = tokio::spawn(async move { with_admin(&path, create("alice"), never).await });
    // The command is looking: it has found the lock taken and no socket.
    tokio::task::yield_now().await;
    let listener = AdminListener::bind(&lock).unwrap();
    tokio::spawn(serve_admin(listener, Arc::new(Handler::default()), CancellationToken::new()));
    assert_eq!(created(command.await.unwrap()), "alice");
}

#[tokio::test]
async fn a_holder_that_never_listens_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let _lock = lock(dir.path());
    let patience = LOOK_AGAIN_EVERY * 2;
    let failure = with_admin_within(patience, dir.path(), create("alice"), never).await.unwrap_err();
    assert!(
        failure.to_string().ends_with(&format!("another server (pid {})", std::process::id())),
        "{failure}"
    );
    assert_eq!(failure.exit(), Exit::Unavailable);
}

#[tokio::test]
async fn the_socket_is_its_owners_and_a_stale_one_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("admin.sock");
    let lock = lock(dir.path());
    // As after kill -9: a file that nobody listens on.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(matches!(connect(dir.path()).await, Err(ConnectError::NobodyListens)));
    let listener = AdminListener::bind(&lock).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    connect(dir.path()).await.unwrap();
    drop(listener);
    assert!(!path.exists());
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_deep_data_directory_has_a_socket_too() {
    let dir = tempfile::tempdir().unwrap();
    let deep = dir.path().join("deep".repeat(50));
    let _listener = AdminListener::bind(&lock(&deep)).unwrap();
    connect(&deep).await.unwrap();
}

#[tokio::test]
async fn garbage_is_refused_and_harms_nobody() {
    let server = Server::start();
    let reply = server.raw(b"{\"request\":\"users-erase\"}\n").await;
    assert!(
        reply.contains("invalid-request") && reply.contains("not what this version understands"),
        "{reply}"
    );
    let unknown = br#"{"request":"users-list","limit":1,"extra":1}"#;
    let reply = server.raw(&[unknown, &b"\n"[..]].concat()).await;
    assert!(reply.contains("invalid-request"), "{reply}");
    assert!(server.raw(b"\xff\xff\n").await.contains("not valid JSON"));
    assert_eq!(created(with_admin(server.dir.path(), create("alice"), never).await), "alice");
}

#[tokio::test]
async fn a_shutdown_finishes_the_request_at_work_and_waits_for_no_other() {
    let server = Server::start();
    let path = server.dir.path().to_owned();
    let mut silent = UnixStream::connect(path.join("admin.sock")).await.unwrap();
    let command = tokio::spawn(async move { with_admin(&path, create("slow"), never).await });
    server.handler.started.notified().await;
    server.shutdown.cancel();
    // Well before the server would give up waiting for its request.
    let closed = tokio::time::timeout(Duration::from_secs(5), silent.read(&mut [0])).await;
    assert_eq!(closed.expect("the silent connection is still open").unwrap(), 0);
    assert!(!server.task.is_finished(), "the request at work was left alone");
    server.handler.go_on.notify_one();
    assert_eq!(created(command.await.unwrap()), "slow");
    server.task.await.unwrap();
    assert!(!server.dir.path().join("admin.sock").exists());
    drop(server.lock);
}

#[test]
fn debug_output_shows_no_password() {
    assert!(!format!("{:?}", create("alice")).contains("horse"));
}

use super::*;
use std::os::unix::fs::PermissionsExt;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn locked(dir: &DataDir, role: Role) -> LockedDataDir {
    match dir.try_lock(role).unwrap() {
        Locking::Acquired(locked) => locked,
        Locking::Held(holder) => panic!("held by {holder}"),
    }
}

#[test]
fn a_missing_directory_is_made_for_its_owner_only() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("a/b");
    DataDir::prepare(&path).unwrap();
    assert_eq!(mode(&path), 0o700);
    assert_eq!(fs::read_dir(&path).unwrap().count(), 0, "the probe is gone");
    DataDir::prepare(&path).unwrap();
}

#[test]
fn what_is_no_directory_is_said_in_one_line() {
    let file = tempfile::NamedTempFile::new().unwrap();
    for path in [file.path().to_owned(), file.path().join("below")] {
        let error = DataDir::prepare(&path).unwrap_err().to_string();
        assert_eq!(error, format!("cannot use the data directory {}: it is not a directory", path.display()));
    }
    // Nothing can be made there, not even by root.
    let error = DataDir::prepare(Path::new("/proc/curlew")).unwrap_err().to_string();
    assert!(error.starts_with("cannot use the data directory /proc/curlew: ") && error.lines().count() == 1);
}

#[test]
fn the_second_to_lock_learns_who_was_first() {
    let parent = tempfile::tempdir().unwrap();
    let dir = DataDir::prepare(parent.path()).unwrap();
    let first = locked(&dir, Role::Server);
    assert_eq!(mode(&parent.path().join("lock")), 0o600);
    let Locking::Held(holder) = dir.try_lock(Role::Command).unwrap() else { panic!("locked twice") };
    assert_eq!(holder, Holder { pid: Some(process::id()), role: Some(Role::Server) });
    let error = dir.in_use(holder).to_string();
    assert!(error.ends_with(&format!("is in use by another server (pid {})", process::id())), "{error}");
    drop(first);
    drop(locked(&dir, Role::Command));
}

#[test]
fn a_lock_file_without_a_holder_does_not_lock() {
    let parent = tempfile::tempdir().unwrap();
    fs::write(parent.path().join("lock"), "4194304123\nserve\nand a much longer text than ours").unwrap();
    let dir = DataDir::prepare(parent.path()).unwrap();
    let _locked = locked(&dir, Role::Command);
    let text = fs::read_to_string(parent.path().join("lock")).unwrap();
    assert_eq!(text, format!("{}\ncommand\n", process::id()));
}

#[test]
fn the_secret_is_made_once_and_for_its_owner_only() {
    let parent = tempfile::tempdir().unwrap();
    let dir = DataDir::prepare(parent.path()).unwrap();
    let first = locked(&dir, Role::Server).jwt_secret().unwrap();
    assert_eq!(first.expose().len(), 64);
    assert_eq!(mode(&parent.path().join("jwt-secret")), 0o600);
    let again = locked(&dir, Role::Server).jwt_secret().unwrap();
    assert_eq!(first.expose(), again.expose());

    let other = tempfile::tempdir().unwrap();
    let other = locked(&DataDir::prepare(other.path()).unwrap(), Role::Server).jwt_secret().unwrap();
    assert_ne!(first.expose(), other.expose());
}

#[test]
fn a_damaged_secret_is_not_used() {
    let parent = tempfile::tempdir().unwrap();
    let dir = DataDir::prepare(parent.path()).unwrap();
    fs::write(parent.path().join("jwt-secret"), "short\n").unwrap();
    let error = locked(&dir, Role::Server).jwt_secret().unwrap_err().to_string();
    assert!(error.contains("jwt-secret: it is shorter than 32 bytes"), "{error}");
}

#[test]
fn an_atomic_file_replaces_and_leaves_nothing_beside() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("ready");
    fs::write(&path, "old").unwrap();
    write_atomically(&path, b"new", 0o644).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "new");
    assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 1);
    assert!(write_atomically(&parent.path().join("no/such"), b"x", 0o600).is_err());
}

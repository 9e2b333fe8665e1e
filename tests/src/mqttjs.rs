//! MQTT.js, the stock client of Node and of browsers, in a process of its own: `mqttjs/play.js` plays a scenario and
//! prints what happened.
//!
//! Without Node or the installed package the tests that need it say so and are skipped; with `mqttjs` in
//! `CURLEW_TEST_REQUIRE` they fail. `npm ci --ignore-scripts` in `tests/mqttjs` installs it.

use crate::{
    required,
    wait::{DEADLINE, LOOK_AGAIN},
};
use serde_json::Value;
use std::{
    fs::{self, File},
    io::Write,
    path::Path,
    process::{Child, Command, Stdio},
    time::Instant,
};

/// Where the script and its package are.
const HOME: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/mqttjs");

/// Whether it can be used here. If not, `test` is reported as skipped.
pub fn is_there(test: &str) -> bool {
    let node = Command::new("node").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    let there =
        node.is_ok_and(|status| status.success()) && Path::new(HOME).join("node_modules/mqtt").exists();
    assert!(
        there || !required("mqttjs"),
        "CURLEW_TEST_REQUIRE names mqttjs, but there is no node, or `npm ci` was not run in {HOME}"
    );
    if !there {
        // Past the capture of the test harness: a skipped test must not look like a passed one.
        writeln!(std::io::stderr(), "skipped: {test} (node with MQTT.js was not found)").ok();
    }
    there
}

/// Lets MQTT.js play what `job` says, which must come to an end by itself; answers what it printed.
pub async fn play(job: &Value) -> Vec<Value> {
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let (printed, complaints) = (dir.path().join("printed"), dir.path().join("complaints"));
    let create = |path| File::create(path).expect("a file can be made");
    let read = |path| fs::read_to_string(path).expect("a file of ours can be read");
    let child = Command::new("node")
        .args(["play.js", &job.to_string()])
        .current_dir(HOME)
        .stdin(Stdio::null())
        .stdout(create(&printed))
        .stderr(create(&complaints))
        .spawn()
        .expect("node can be run");
    let mut player = Player(child);
    let give_up = Instant::now() + DEADLINE;
    let status = loop {
        if let Some(status) = player.0.try_wait().expect("a process of ours can be waited for") {
            break Some(status);
        }
        if Instant::now() > give_up {
            break None;
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    };
    let printed = read(&printed);
    assert!(
        status.is_some_and(|status| status.success()),
        "MQTT.js did not finish ({status:?}); it printed\n{printed}{}",
        read(&complaints)
    );
    printed.lines().map(|line| serde_json::from_str(line).expect("a JSON object a line")).collect()
}

/// Killed when dropped.
struct Player(Child);

impl Drop for Player {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

//! What a message costs the database in chats of 2, 20 and 1,024. Run by hand, on PostgreSQL, which counts rows:
//! `cargo test -p curlew-cli --test e2e -- --ignored --nocapture scale`.

use curlew_tests::{
    Actor, Chat, Engine, Protocol, RawClient, TestServer, json,
    mqtt::raw::{Connect, Packet},
};
use std::{process::Command, time::Duration};

const MESSAGES: u64 = 10;

/// Rows inserted, updated, deleted in all tables so far.
fn rows(server: &TestServer) -> [i64; 3] {
    // What a backend counts is there a second later.
    std::thread::sleep(Duration::from_secs(3));
    let sql = "SELECT SUM(n_tup_ins), SUM(n_tup_upd), SUM(n_tup_del) FROM pg_stat_user_tables";
    let answer = Command::new("psql").args([server.database_url().unwrap(), "-Atc", sql]).output().unwrap();
    let text = String::from_utf8(answer.stdout).unwrap();
    let counts: Vec<i64> = text.trim().split('|').map(|count| count.parse().unwrap()).collect();
    counts.try_into().unwrap()
}

async fn acknowledge_forever(mut client: RawClient) {
    while let Some(packet) = client.read_for(Duration::from_mins(10)).await.ok().flatten() {
        if let Packet::Publish(publication) = packet {
            client.acknowledge(publication.id).await;
        }
    }
}

async fn listen(member: &Actor, chat: &Chat) -> tokio::task::JoinHandle<()> {
    let mut client = member.raw(Protocol::V5, Connect::default()).await;
    client.subscribe(&[(&format!("chats/{chat}/messages"), 1)]).await;
    tokio::spawn(acknowledge_forever(client))
}

#[tokio::test]
#[ignore = "measures"]
async fn rows_per_message() {
    if !Engine::Postgres.is_there(module_path!()) {
        return;
    }
    let setup = TestServer::setup(Engine::Postgres).env("CURLEW_CHATS_REQUIRE_CONTACT", "false");
    let server = setup.start().await;
    let mut people = Vec::new();
    for n in 0..1024 {
        people.push(server.user(&format!("user{n}")).await);
    }
    for size in [2usize, 20, 1024] {
        let (sender, others) = people[..size].split_first().unwrap();
        let ids: Vec<_> = others.iter().map(|other| &other.id).collect();
        let body = json!({ "type": "group", "name": "many", "memberIds": ids });
        let chat =
            Chat(sender.http.post("/chats", body).await.expect(201)["id"].as_str().unwrap().to_owned());
        let mut listening = Vec::new();
        for member in others {
            listening.push(listen(member, &chat).await);
        }
        let mut watching = sender.raw(Protocol::V5, Connect::default()).await;
        watching.subscribe(&[(&format!("chats/{chat}/receipts"), 0)]).await;
        let before = rows(&server);
        let mut events = 0;
        for _ in 0..MESSAGES {
            let sent = sender.post(&chat, "hello").await;
            loop {
                let event = watching.publication().await.json();
                events += 1;
                if event["messageSeq"].as_u64() == Some(sent.seq)
                    && event["delivered"].as_u64() == Some(others.len() as u64)
                {
                    break;
                }
            }
        }
        let after = rows(&server);
        let each: Vec<f64> = before
            .iter()
            .zip(after)
            .map(|(before, after)| (after - before) as f64 / MESSAGES as f64)
            .collect();
        eprintln!(
            "{size} members: {:.1} inserted, {:.1} updated, {:.1} deleted, {:.1} receipt events to the sender, per message",
            each[0],
            each[1],
            each[2],
            f64::from(events) / MESSAGES as f64
        );
        listening.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

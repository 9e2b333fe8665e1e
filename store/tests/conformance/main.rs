//! Every store method on both engines, the races between them, and the writer's behaviour when commits fail.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

mod accounts;
mod acknowledgements;
mod changes;
mod chats;
mod contacts;
mod deletion;
mod devices;
mod harness;
mod messages;
mod notifications;
mod plain;
mod presence;
mod profiles;
mod races;
mod receipt_states;
mod receipts;
mod sessions;
mod statements;
mod writer;

use harness::Fixture;

/// Runs each test on a fresh SQLite file and on a fresh PostgreSQL database.
macro_rules! on_both_engines {
    ($($test:ident),+ $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::$test($crate::harness::Fixture::sqlite().await).await;
            })+
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                let name = concat!(module_path!(), "::", stringify!($test));
                if let Some(fixture) = $crate::harness::Fixture::postgres(name).await {
                    super::$test(fixture).await;
                }
            })+
        }
    };
}
pub(crate) use on_both_engines;

on_both_engines!(opening_again_keeps_the_content_key);

async fn opening_again_keeps_the_content_key(fixture: Fixture) {
    use curlew_domain::ports::store::Log;
    let key = fixture.store.content_key().await.unwrap();
    assert_ne!(key, [0; 32]);
    let fixture = fixture.restart().await;
    assert_eq!(fixture.store.content_key().await.unwrap(), key);
    fixture.store.ping().await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_opened_is_told_in_one_line_without_the_password() {
    use curlew_store::{Engine, SqlStore, StoreConfig};
    let dir = tempfile::tempdir().unwrap();
    let nowhere = dir.path().join("absent").join("curlew.db");
    let garbage = dir.path().join("garbage.db");
    std::fs::write(&garbage, "this is no database, and long enough to be read as a header".repeat(40))
        .unwrap();
    let engines = [
        Engine::Sqlite(nowhere),
        Engine::Sqlite(garbage),
        Engine::Postgres("postgres://curlew:hush@127.0.0.1:1/curlew".into()),
        Engine::Postgres("postgres://curlew:hush@127.0.0.1:notaport/curlew".into()),
    ];
    for engine in engines {
        let opened = SqlStore::open(StoreConfig::new(engine.clone()), harness::Recorder::new()).await;
        let text = opened.err().expect("it cannot be opened").to_string();
        assert!(text.starts_with("cannot open the database") && !text.contains('\n'), "{text}");
        assert!(!text.contains("hush") && !format!("{engine:?}").contains("hush"), "{text}");
    }
}

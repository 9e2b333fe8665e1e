//! What is made once and kept in the database: its format, and the key of the content hashes.

use super::{
    engine::{Db, one_line},
    statement::statements,
    value::args,
};
use curlew_domain::clock::Entropy;

/// Meaning of what is stored, beyond the tables' columns.
const FORMAT: u8 = 1;

statements! {
    FIND_SETTING = ["SELECT value FROM settings WHERE key = $1"];
    MAKE_SETTING = ["INSERT INTO settings (key, value) VALUES ($1, $2) ON CONFLICT (key) DO NOTHING"];
}

/// Checks the format and answers the content key, making both in a new database.
pub(super) async fn prepare(db: &Db, entropy: &dyn Entropy) -> Result<[u8; 32], String> {
    let mut key = [0; 32];
    entropy.fill(&mut key);
    let format = find_or_make(db, "format", vec![FORMAT]).await?;
    if format != [FORMAT] {
        return Err(format!("its format is {format:?}, this curlew knows {FORMAT} only"));
    }
    let stored = find_or_make(db, "content-key", key.to_vec()).await?;
    stored.try_into().map_err(|_| "its content key is damaged".into())
}

async fn find_or_make(db: &Db, key: &str, value: Vec<u8>) -> Result<Vec<u8>, String> {
    let make = async {
        let mut tx = db.begin_write().await?;
        // Of two that make it at once one is first, and both read that one.
        tx.execute(&MAKE_SETTING, args![key, value]).await?;
        let row = tx.find(&FIND_SETTING, args![key]).await?.ok_or(sqlx::Error::RowNotFound)?;
        let stored = row.bytes(0)?;
        tx.commit().await?;
        Ok(stored)
    };
    make.await.map_err(|error: sqlx::Error| one_line(&error))
}

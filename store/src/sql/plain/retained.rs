//! Retained messages.

use super::{body_args, read_message, read_qos};
use crate::{
    sql::{statement::statements, transaction::Tx, value::args},
    trouble::Failed,
};
use curlew_domain::{
    ErrorCode, Refusal,
    clock::Timestamp,
    ids::UserId,
    plain::{MAX_RETAINED, MAX_RETAINED_BYTES, PlainMessage, Retained},
};

/// The columns of a retained message `m`.
macro_rules! retained_columns {
    () => {
        "m.qos, m.expires_at, m.topic, m.properties, m.payload"
    };
}

statements! {
    RETAINED_BESIDE = ["SELECT COUNT(*), CAST(COALESCE(SUM(m.size), 0) AS BIGINT),
            (SELECT u.deleted_at FROM users u WHERE u.id = $1) FROM plain_retained m
        WHERE m.user_id = $1 AND m.topic <> $2 AND (m.expires_at IS NULL OR m.expires_at > $3)"];
    SET_RETAINED = ["INSERT INTO plain_retained (user_id, size, expires_at, qos, topic, properties, payload)
        VALUES ($1, $2, $3, $4, $5, $6, $7)
        ON CONFLICT (user_id, topic) DO UPDATE SET size = excluded.size, expires_at = excluded.expires_at,
            qos = excluded.qos, properties = excluded.properties, payload = excluded.payload"];
    CLEAR_RETAINED = ["DELETE FROM plain_retained WHERE user_id = $1 AND topic = $2"];
    RETAINED_OF = ["SELECT " (retained_columns!()) " FROM plain_retained m
        WHERE m.user_id = $1 AND m.topic = $2 AND (m.expires_at IS NULL OR m.expires_at > $3)"];
    RETAINED_BELOW = ["SELECT " (retained_columns!()) " FROM plain_retained m
        WHERE m.user_id = $1 AND m.topic >= $2 AND m.topic < $3 AND (m.expires_at IS NULL OR m.expires_at > $4)
        ORDER BY m.topic"];
    PRUNE_RETAINED = ["DELETE FROM plain_retained WHERE expires_at <= $1"];
}

/// Makes the message the retained one of its topic; with an empty payload the topic has none any more
/// `[MQTT-3.3.1-6]`, `[MQTT-3.3.1-7]`.
pub(super) async fn retain(
    tx: &mut Tx,
    user: UserId,
    message: &PlainMessage,
    at: Timestamp,
) -> Result<(), Failed> {
    let topic = message.topic.as_str();
    if message.payload.is_empty() {
        tx.execute(&CLEAR_RETAINED, args![user, topic]).await?;
        return Ok(());
    }
    let size = message.size() as i64;
    if let Some(beside) = tx.find(&RETAINED_BESIDE, args![user, topic, at]).await? {
        // A deleted account keeps nothing.
        if beside.int_or_null(2)?.is_some() {
            return Ok(());
        }
        let (messages, bytes) = (beside.int(0)?, beside.int(1)?);
        if messages >= MAX_RETAINED.into() || bytes + size > MAX_RETAINED_BYTES as i64 {
            let detail = format!(
                "there are {messages} retained messages of {bytes} bytes; at most {MAX_RETAINED} of {MAX_RETAINED_BYTES} bytes"
            );
            return Err(Refusal::new(ErrorCode::RetainedFull, detail).into());
        }
    }
    let mut args = args![user, size, message.expires_at, message.qos as i64];
    args.extend(body_args(message));
    tx.execute(&SET_RETAINED, args).await?;
    Ok(())
}

pub(super) async fn list_retained(
    tx: &mut Tx,
    user: UserId,
    which: &Retained,
    at: Timestamp,
) -> Result<Vec<PlainMessage>, sqlx::Error> {
    let rows = match which {
        Retained::Of(topic) => tx.fetch(&RETAINED_OF, args![user, topic.as_str(), at]).await?,
        Retained::Below(prefix) => {
            // Topics are compared byte by byte, and `0` is the byte after `/`.
            let end = format!("{}0", prefix.strip_suffix('/').unwrap_or(prefix));
            tx.fetch(&RETAINED_BELOW, args![user, prefix.as_str(), end, at]).await?
        }
    };
    rows.iter().map(|row| read_message(row, 2, (read_qos(row, 0)?, true), row.at_or_null(1)?)).collect()
}

/// Forgets retained messages that have expired.
pub(in crate::sql) async fn prune_retained(tx: &mut Tx, at: Timestamp) -> Result<(), sqlx::Error> {
    tx.execute(&PRUNE_RETAINED, args![at]).await.map(drop)
}

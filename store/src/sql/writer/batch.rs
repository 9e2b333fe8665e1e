//! The commands of one transaction, in their order.

use super::{Process, Queued, Scope, Work};
use crate::sql::{
    messages::append::{Append, append_messages},
    receipts::raise_watermarks,
    transaction::Tx,
};
use curlew_domain::ports::relay::Committed;

/// Runs the commands. An error leaves the transaction to be rolled back; it says nothing about which command was at fault.
pub(super) async fn apply(
    tx: &mut Tx,
    commands: &mut [Queued],
    committed: &mut Vec<Committed>,
    process: &Process,
) -> Result<(), sqlx::Error> {
    let mut scope = Scope { tx, committed, process };
    let mut run: Vec<&mut Append> = Vec::with_capacity(commands.len());
    let mut raises = Vec::new();
    let mut behind = Vec::new();
    for command in commands {
        match &mut command.work {
            Work::Append(append) => run.push(append),
            Work::Raise(raise) => raises.push(&mut **raise),
            Work::Other(job) => {
                if !job.place().is_in_turn() {
                    behind.push(job);
                    continue;
                }
                append_messages(&mut scope, &mut run).await?;
                run.clear();
                job.run(&mut scope).await?;
            }
        }
    }
    append_messages(&mut scope, &mut run).await?;
    raise_watermarks(&mut scope, &mut raises).await?;
    // Stable: what has the same place stays in the order of the queue.
    behind.sort_by_key(|job| job.place());
    for job in behind {
        job.run(&mut scope).await?;
    }
    Ok(())
}

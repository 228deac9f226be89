//! The trait that every status manager implements.

use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use thv_core::WorkloadName;

use crate::{ClaimId, Companion, Draft, OpGuard, Operation, OwnerGuard, Result, Snapshot};

/// What changes a record and its status file; it runs under the guard and must not block.
pub type Change = Box<dyn FnOnce(&mut Draft) + Send>;

/// The names of workloads whose files changed, whoever changed them. Several changes may be told as one. It ends when
/// some could not be told: whoever listens looks at everything, and listens again.
pub type Changes = BoxStream<'static, WorkloadName>;

/// In whose name a change is made.
#[derive(Debug, Clone, Copy)]
pub enum Authority<'a> {
    /// A verb that holds `.op`. It alone creates a record, or adopts what ToolHive made.
    Verb(&'a OpGuard),
    /// A supervisor, only while the record names its claim.
    Supervisor(&'a ClaimId),
    /// `stop` and `rm`, which may say at once that the workload should not run, and how long it may take to end. Anything
    /// else of the change is dropped.
    StopRequest,
}

/// Status files, companion records, and the locks under which they change.
///
/// # Contract
///
/// - Reads write nothing, also of damaged files: what they repair, they repair in memory.
/// - One change at a time: read status file, write record, write status file. A crash between the last two leaves a state
///   in which the record counts.
/// - A supervisor whose claim is not the recorded one gets [`ClaimLost`](crate::Error::ClaimLost), and nothing was written.
/// - A guard that is dropped releases its lock, as the death of its process does.
/// - Every method is cancel-safe: a dropped `update` happened or did not; a dropped `lock_op` or `acquire_owner` holds nothing.
///
/// It is implemented under [`async_trait`](crate::async_trait). A wrapper passes every method on, those with a default too: `#[deny(clippy::missing_trait_methods)]` finds what is
/// forgotten.
#[async_trait]
pub trait StatusManager: Debug + Send + Sync + 'static {
    /// What is known of one workload.
    async fn read(&self, name: &WorkloadName) -> Result<Snapshot>;

    /// What is known of all workloads, in the order of their names.
    async fn list(&self) -> Result<Vec<Snapshot>>;

    /// Waits at most `timeout` for the lock of changing verbs.
    ///
    /// # Errors
    /// `Conflict` naming operation, pid and since when, where the journal knows.
    async fn lock_op(&self, name: &WorkloadName, operation: Operation, timeout: Duration) -> Result<OpGuard>;

    /// Takes the lock of the workload's supervisor.
    ///
    /// # Errors
    /// `Conflict` when another supervisor holds it.
    async fn acquire_owner(&self, name: &WorkloadName) -> Result<OwnerGuard>;

    /// Waits until nobody holds the lock of the supervisor; `false` when somebody still does after `timeout`.
    async fn owner_free(&self, name: &WorkloadName, timeout: Duration) -> Result<bool>;

    /// Changes record and status file. Returns the record as it was written.
    async fn update(
        &self,
        name: &WorkloadName,
        authority: Authority<'_>,
        change: Change,
    ) -> Result<Companion>;

    /// Creates the record of a new workload. There is no status file yet.
    ///
    /// # Errors
    /// `Exists` when there is a record.
    async fn create(&self, name: &WorkloadName, op: &OpGuard, companion: Companion) -> Result<()>;

    /// Removes status file, PID files and, last, the record; then the locks, while they are held.
    async fn remove(&self, name: &WorkloadName, op: OpGuard) -> Result<()>;

    /// Removes the status file and the PID files of a name that no workload can have today; it has no record and no
    /// locks. Where only valid names can be, there is nothing to do.
    async fn remove_misnamed(&self, _raw_name: &str) -> Result<()> {
        Ok(())
    }

    /// Whether the record names this claim.
    async fn claim_is_current(&self, name: &WorkloadName, claim: &ClaimId) -> Result<bool>;

    /// The random id of this installation, made at the first call.
    async fn owner_id(&self) -> Result<String>;

    /// Writes ToolHive's PID file, `toolhive-<name>.pid`.
    async fn write_pid_file(&self, name: &WorkloadName, pid: u32) -> Result<()>;

    /// Removes ToolHive's PID files, the old place included.
    async fn remove_pid_files(&self, name: &WorkloadName) -> Result<()>;

    /// Tells changes from now on, by this process and by others, without polling.
    async fn watch(&self) -> Result<Changes>;
}

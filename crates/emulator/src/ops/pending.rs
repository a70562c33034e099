//! Asynchronous work that is under way: copies between shared and global memory.

use crate::machine::context::{ClusterState, Env};

/// Work in the order in which it was started.
#[derive(Debug, Default)]
pub(crate) struct Pending {}

/// Completes one piece of work: the oldest, or with a random schedule any. False if there is none.
pub(crate) fn complete_one(_state: &mut ClusterState, _env: &Env<'_>) -> bool {
    false
}

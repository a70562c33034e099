//! Races in global memory.

use crate::check::{Kind, WarpAccess};
use crate::machine::context::Cx;
use crate::machine::warp::Warp;

/// Who touched which bytes of global memory in this launch.
#[derive(Debug, Default)]
pub(crate) struct GlobalShadow {}

/// Checks and records an access.
pub(crate) fn access(_cx: &mut Cx<'_>, _warp: &Warp, _access: &WarpAccess<'_>) {}

/// A range of global memory used by asynchronous work: a copy.
#[allow(dead_code, reason = "read by the detector of races in global memory")]
pub(crate) struct GlobalRange {
    pub(crate) kind: Kind,
    pub(crate) address: u64,
    pub(crate) len: u64,
    /// The stream of asynchronous work, and its count when this access is complete.
    pub(crate) actor: u32,
    pub(crate) count: u32,
}

/// Checks and records an access through the async proxy by work that lanes of `warp` start now.
pub(crate) fn range_access(_cx: &mut Cx<'_>, _warp: &Warp, _lanes: u32, _access: &GlobalRange) {}

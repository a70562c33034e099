//! Races in global memory.

use crate::check::WarpAccess;
use crate::machine::context::Cx;
use crate::machine::warp::Warp;

/// Who touched which bytes of global memory in this launch.
#[derive(Debug, Default)]
pub(crate) struct GlobalShadow {}

/// Checks and records an access.
pub(crate) fn access(_cx: &mut Cx<'_>, _warp: &Warp, _access: &WarpAccess<'_>) {}

//! Access that works but is slow: bank conflicts and uncoalesced access.

use crate::check::WarpAccess;
use crate::machine::context::Cx;
use crate::machine::warp::Warp;

/// Counts words of one bank.
pub(crate) fn shared_access(_cx: &mut Cx<'_>, _warp: &Warp, _access: &WarpAccess<'_>) {}

/// Counts sectors.
pub(crate) fn global_access(_cx: &mut Cx<'_>, _warp: &Warp, _access: &WarpAccess<'_>) {}

//! What atomics, strong accesses and fences order.

use crate::machine::context::Cx;
use crate::machine::warp::Warp;

/// `fence`, and the fence that acquire and release operations imply.
pub(crate) fn fence(_warp: &mut Warp, _cx: &mut Cx<'_>) {}

//! Registers that are read before they are written.

use crate::machine::context::Cx;
use crate::machine::warp::Warp;
use crate::program::inst::Tracked;
use crate::report::FindingKind;

/// Checks the tracked registers that an instruction reads and marks those that it writes.
pub(crate) fn check(tracked: &Tracked, warp: &mut Warp, cx: &mut Cx<'_>) {
    for &r in &tracked.reads {
        let missing = warp.mask & !warp.tracked[r as usize];
        if missing != 0 && cx.env.options.checks.uninitialised {
            let name = &cx.env.kernel.files.tracked[r as usize];
            cx.find(warp, missing, FindingKind::UninitialisedRegister, None, || {
                format!("register {name} is read but nothing wrote it; set it on every path")
            });
        }
    }
    for &w in &tracked.writes {
        warp.tracked[w as usize] |= warp.mask;
    }
}

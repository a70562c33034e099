//! Registers that are read before they are written.

use crate::machine::context::Cx;
use crate::machine::warp::Warp;
use crate::program::inst::Tracked;
use crate::report::FindingKind;

/// Checks the tracked registers that an instruction reads and marks those that it writes.
pub(crate) fn check(tracked: &Tracked, warp: &mut Warp, cx: &mut Cx<'_>) {
    if cx.env.options.checks.uninitialised {
        // Lanes that a guard sends away have read it too.
        for (registers, lanes) in [(&tracked.guard, warp.active), (&tracked.reads, warp.mask)] {
            for &r in registers {
                let missing = lanes & !warp.tracked[r as usize];
                if missing != 0 {
                    report(r, missing, warp, cx);
                }
            }
        }
    }
    // A copy is as good as what it copies.
    let known = tracked.copied.iter().fold(u32::MAX, |known, &r| known & warp.tracked[r as usize]);
    for &w in &tracked.writes {
        let bits = &mut warp.tracked[w as usize];
        *bits = *bits & !warp.mask | known & warp.mask;
    }
}

#[cold]
fn report(register: u32, missing: u32, warp: &Warp, cx: &mut Cx<'_>) {
    let name = &cx.env.kernel.files.tracked[register as usize];
    cx.find(warp, missing, FindingKind::UninitialisedRegister, None, || {
        format!("register {name} is read but nothing wrote it; set it on every path")
    });
}

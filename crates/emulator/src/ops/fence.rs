//! Fences (PTX ISA 9.7.13.4).

use zeroforge_ptx::{Instruction, Modifier, Opcode};

use crate::machine::context::Cx;
use crate::machine::warp::Warp;
use crate::program::decode::{Decoder, Reason};
use crate::program::inst::{Inst, Step};

pub(crate) fn decode(_d: &mut Decoder<'_>, i: &Instruction) -> Result<Inst, Reason> {
    Ok(match i.opcode() {
        Opcode::FenceProxy if i.has(Modifier::Async) => {
            // Without a space it covers all (PTX ISA 9.7.13.4).
            let shared = i.has(Modifier::SharedCta) || i.has(Modifier::SharedCluster);
            let global = i.has(Modifier::Global);
            Inst::new(match (shared, global) {
                (true, false) => |_, warp, _| fence_proxy(warp, true, false),
                (false, true) => |_, warp, _| fence_proxy(warp, false, true),
                _ => |_, warp, _| fence_proxy(warp, true, true),
            })
        }
        Opcode::FenceProxy if i.has(Modifier::AsyncGeneric) => {
            // Orders generic accesses with async ones of the cluster's shared memory, with an acquire or
            // release besides.
            Inst::new(|_, warp, cx| {
                fence(warp, cx);
                fence_proxy(warp, true, false)
            })
        }
        // Aliases of one memory under several addresses: the emulator's memory has one.
        Opcode::FenceProxy => Inst::new(|_, _, _| Step::Next),
        Opcode::FenceMbarrierInit => Inst::new(|_, warp, cx| {
            crate::ops::mbarrier_state::fence_init(cx, warp);
            Step::Next
        }),
        // Tensor copies read their maps anew each time.
        Opcode::FenceProxyTensormap => Inst::new(|_, _, _| Step::Next),
        _ => Inst::new(|_, warp, cx| fence(warp, cx)),
    })
}

fn fence_proxy(warp: &mut Warp, shared: bool, global: bool) -> Step {
    warp.fence_proxy(shared, global);
    Step::Next
}

/// `fence` and `membar`: with relaxed accesses around it, it acquires and releases (PTX ISA 8.8).
fn fence(warp: &mut Warp, cx: &mut Cx<'_>) -> Step {
    crate::check::order::fence(warp, cx);
    Step::Next
}

/// After a load with acquire semantics.
pub(crate) fn acquire(warp: &mut Warp, cx: &mut Cx<'_>) {
    crate::check::order::fence(warp, cx);
}

/// Before a store with release semantics.
pub(crate) fn release(warp: &mut Warp, cx: &mut Cx<'_>) {
    crate::check::order::fence(warp, cx);
}

//! Fences (PTX ISA 9.7.13.4).

use zeroforge_ptx::{Instruction, Modifier, Opcode};

use crate::machine::context::Cx;
use crate::machine::warp::Warp;
use crate::program::decode::{Decoder, Reason};
use crate::program::inst::{Inst, Step};

pub(crate) fn decode(_d: &mut Decoder<'_>, i: &Instruction) -> Result<Inst, Reason> {
    match i.opcode() {
        Opcode::FenceProxy if i.has(Modifier::Async) => {
            let global = i.has(Modifier::Global);
            let shared = i.has(Modifier::SharedCta) || i.has(Modifier::SharedCluster);
            let mut inst = Inst::new(fence_proxy);
            // Without a space it is of all spaces.
            inst.imm = u64::from(!global) | u64::from(!shared) << 1;
            Ok(inst)
        }
        Opcode::Membar | Opcode::Fence => Ok(Inst::new(fence)),
        _ => Ok(Inst::new(|_, _, _| Step::Next)),
    }
}

fn fence_proxy(inst: &Inst, warp: &mut Warp, _: &mut Cx<'_>) -> Step {
    warp.clock.fence_proxy_of(inst.imm & 1 != 0, inst.imm & 2 != 0);
    Step::Next
}

fn fence(_: &Inst, warp: &mut Warp, cx: &mut Cx<'_>) -> Step {
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

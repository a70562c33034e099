//! Fences (PTX ISA 9.7.13.4).

use zeroforge_ptx::{Instruction, Modifier, Opcode};

use crate::machine::context::Cx;
use crate::machine::warp::Warp;
use crate::program::decode::{Decoder, Reason};
use crate::program::inst::{Inst, Step};

pub(crate) fn decode(_d: &mut Decoder<'_>, i: &Instruction) -> Result<Inst, Reason> {
    match i.opcode() {
        Opcode::FenceProxy if i.has(Modifier::Async) => Ok(Inst::new(fence_proxy)),
        Opcode::Membar | Opcode::Fence => Ok(Inst::new(fence)),
        _ => Ok(Inst::new(|_, _, _| Step::Next)),
    }
}

fn fence_proxy(_: &Inst, warp: &mut Warp, _: &mut Cx<'_>) -> Step {
    warp.clock.fence_proxy();
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

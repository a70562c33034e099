//! Control flow (PTX ISA 9.7.12) and what has no effect here.

use zeroforge_ptx::{Instruction, Modifier, Opcode, Operand};

use crate::machine::context::{Cx, Who};
use crate::machine::warp::Warp;
use crate::program::decode::{Decoder, Reason};
use crate::program::inst::{Detail, Inst, Step};
use crate::report::FindingKind;

pub(crate) fn decode(d: &mut Decoder<'_>, i: &Instruction) -> Result<Inst, Reason> {
    match i.opcode() {
        Opcode::Bra => {
            let target = d.label(d.operand(i, 0)?)?;
            let mut inst = jump(target);
            if i.has(Modifier::Uni) {
                inst.exec = branch_uniform;
            }
            Ok(inst)
        }
        Opcode::BrxIdx => {
            let index = d.s32(d.operand(i, 0)?)?;
            let Operand::List(list) = d.operand(i, 1)? else {
                return Err("brx.idx needs a list of targets".to_owned());
            };
            let targets: Result<Vec<u32>, Reason> = list.iter().map(|l| d.label(l)).collect();
            let mut inst = Inst::new(branch_indexed);
            inst.always = true;
            inst.a = index;
            inst.detail = Detail::Targets(targets?.into());
            Ok(inst)
        }
        Opcode::Ret | Opcode::Exit => Ok(Inst::new(exit)),
        Opcode::Trap | Opcode::Brkpt => Ok(Inst::new(trap)),
        // Hints and waits for what is done before a launch starts: grids run one after the other.
        _ => Ok(Inst::new(|_, _, _| Step::Next)),
    }
}

/// A jump to a position in the code.
pub(crate) fn jump(target: u32) -> Inst {
    let mut inst = Inst::new(branch);
    inst.always = true;
    inst.imm = u64::from(target);
    inst
}

fn branch(inst: &Inst, warp: &mut Warp, _: &mut Cx<'_>) -> Step {
    warp.branch(warp.mask, inst.imm as u32);
    Step::Moved
}

fn branch_uniform(inst: &Inst, warp: &mut Warp, cx: &mut Cx<'_>) -> Step {
    let taken = warp.mask;
    if taken != 0 && taken != warp.active {
        cx.find(warp, taken, FindingKind::Divergence, None, || {
            "bra.uni is taken by some lanes only (PTX ISA 9.7.12.3)".to_owned()
        });
    }
    branch(inst, warp, cx)
}

fn branch_indexed(inst: &Inst, warp: &mut Warp, cx: &mut Cx<'_>) -> Step {
    let Detail::Targets(targets) = &inst.detail else { return Step::Stop };
    let lanes = warp.mask;
    if lanes == 0 {
        warp.pc += 1;
        return Step::Moved;
    }
    // One target at a time: the lanes that share the first lane's go, the others stay here.
    let first = lanes.trailing_zeros() as usize;
    let index = warp.r32[inst.a as usize][first];
    let same = crate::check::lanes(lanes)
        .filter(|&l| warp.r32[inst.a as usize][l] == index)
        .fold(0, |m, l| m | 1 << l);
    let Some(&target) = targets.get(index as usize) else {
        cx.find(warp, same, FindingKind::Undefined, None, || {
            format!("index {index} into a list of {} targets", targets.len())
        });
        return Step::Stop;
    };
    let (here, rest) = (warp.pc, lanes & !same);
    warp.branch(lanes, target);
    if rest != 0 {
        // They run this instruction again.
        warp.send_back(rest, here);
    }
    Step::Moved
}

fn exit(_: &Inst, warp: &mut Warp, cx: &mut Cx<'_>) -> Step {
    exit_lanes(warp, cx, warp.mask);
    Step::Moved
}

/// Ends lanes; barriers no longer count them.
pub(crate) fn exit_lanes(warp: &mut Warp, cx: &mut Cx<'_>, lanes: u32) {
    let who = Who::of(warp, cx.cta().id, lanes);
    warp.exit(lanes);
    cx.cta().live_threads -= lanes.count_ones();
    cx.cluster.events += 1;
    crate::ops::barrier::thread_exited(cx);
    crate::ops::cluster::thread_exited(warp, cx, who);
}

fn trap(_: &Inst, warp: &mut Warp, cx: &mut Cx<'_>) -> Step {
    cx.find(warp, warp.mask, FindingKind::Trap, None, || "the kernel executed `trap`".to_owned());
    Step::Stop
}

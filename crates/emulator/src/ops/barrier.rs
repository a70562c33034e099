//! Named barriers of a block (PTX ISA 9.7.13.1).

use zeroforge_ptx::{Instruction, Modifier, Opcode};

use crate::machine::context::{Cx, Who};
use crate::machine::warp::{Wait, Warp};
use crate::program::decode::{Decoder, Reason};
use crate::program::inst::{Detail, Inst, NO_REGISTER, Step, Value};
use crate::report::FindingKind;

/// What a barrier instruction does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Sync,
    Arrive,
    /// `red.popc`, `red.and`, `red.or`.
    Reduce(Modifier),
}

/// Operands of a barrier instruction.
#[derive(Debug)]
pub(crate) struct BarrierOp {
    action: Action,
    aligned: bool,
    /// Register or constant with the barrier's number.
    barrier: u32,
    /// Register or constant with the thread count; [`NO_REGISTER`] for all threads of the block.
    count: u32,
    /// Of `red`: destination, predicate and whether it is negated.
    destination: Value,
    predicate: (u32, bool),
}

pub(crate) fn decode(d: &mut Decoder<'_>, i: &Instruction) -> Result<Inst, Reason> {
    let aligned = i.opcode() == Opcode::Bar || i.has(Modifier::Aligned);
    let action = if i.has(Modifier::Red) {
        let op = [Modifier::Popc, Modifier::And, Modifier::Or].into_iter().find(|&m| i.has(m));
        Action::Reduce(op.ok_or_else(|| "unknown reduction".to_owned())?)
    } else if i.has(Modifier::Arrive) {
        Action::Arrive
    } else {
        Action::Sync
    };
    let mut op = BarrierOp {
        action,
        aligned,
        barrier: 0,
        count: NO_REGISTER,
        destination: Value::Sink,
        predicate: (d.constant_predicate(false), false),
    };
    match action {
        Action::Reduce(_) => {
            op.destination = d.destination(d.operand(i, 0)?)?;
            op.barrier = d.s32(d.operand(i, 1)?)?;
            let last = i.operands.len() - 1;
            op.predicate = d.predicate(d.operand(i, last)?)?;
            if last == 3 {
                op.count = d.s32(d.operand(i, 2)?)?;
            }
        }
        _ => {
            op.barrier = d.s32(d.operand(i, 0)?)?;
            if let Some(count) = i.operands.get(1) {
                op.count = d.s32(count)?;
            }
        }
    }
    let mut inst = Inst::new(execute);
    inst.detail = Detail::Barrier(Box::new(op));
    Ok(inst)
}

fn execute(inst: &Inst, warp: &mut Warp, cx: &mut Cx<'_>) -> Step {
    let Detail::Barrier(op) = &inst.detail else { return Step::Stop };
    // The result of `red` is there when the wait is over and the instruction runs again.
    if let Some(step) = finish_reduction(op, warp, cx) {
        return step;
    }
    if op.aligned && warp.mask != warp.live {
        if warp.mask != warp.active {
            cx.find(warp, warp.mask, FindingKind::Divergence, None, || {
                "an aligned barrier is reached by some lanes of the warp only (PTX ISA 9.7.13.1)"
                    .to_owned()
            });
        }
        warp.wait_for_lanes();
        return Step::Wait;
    }
    let first = warp.mask.trailing_zeros() as usize;
    let number = warp.r32[op.barrier as usize][first];
    let expected = match op.count {
        NO_REGISTER => (cx.cta().live_threads).next_multiple_of(32),
        r => warp.r32[r as usize][first],
    };
    if number > 15 {
        cx.find(warp, warp.mask, FindingKind::BarrierMisuse, None, || {
            format!("barrier {number} does not exist; there are 16 per block")
        });
        return Step::Stop;
    }
    let threads = cx.env.config.block.iter().product::<u32>().next_multiple_of(32);
    if expected == 0 || !expected.is_multiple_of(32) || expected > threads {
        cx.find(warp, warp.mask, FindingKind::BarrierMisuse, None, || {
            format!("barrier {number} expects {expected} threads; it must be a multiple of 32 and at most the block's {threads}")
        });
        return Step::Stop;
    }
    let cta_id = cx.cta().id;
    let who = Who::of(warp, cta_id, warp.mask);
    let barrier = &mut cx.cluster.ctas[cx.rank as usize].named[number as usize];
    if barrier.arrived == 0 {
        barrier.expected = expected;
        barrier.first_pc = warp.pc;
        barrier.whole_block = op.count == NO_REGISTER;
        barrier.reduction = match op.action {
            Action::Reduce(Modifier::And) => 1,
            _ => 0,
        };
    } else if barrier.expected != expected {
        let other = Who {
            cta: cta_id,
            warp: barrier.warps.trailing_zeros(),
            lanes: u32::MAX,
            pc: barrier.first_pc,
        };
        let before = barrier.expected;
        cx.cluster.findings.add(FindingKind::BarrierMisuse, who, Some(other), None, || {
            format!("barrier {number} is used with {expected} threads here and with {before} by a warp that already came: two uses share one barrier")
        });
    }
    let barrier = &mut cx.cluster.ctas[cx.rank as usize].named[number as usize];
    let twice = barrier.warps >> warp.index & 1 != 0;
    if twice && op.aligned {
        cx.cluster.findings.add(FindingKind::BarrierMisuse, who, None, None, || {
            format!("the warp comes to barrier {number} twice before it is complete")
        });
    }
    let barrier = &mut cx.cluster.ctas[cx.rank as usize].named[number as usize];
    barrier.warps |= 1 << warp.index;
    // An arrival counts the warp's whole width (PTX ISA 9.7.13.1).
    barrier.arrived += if op.aligned { 32 } else { warp.mask.count_ones() };
    warp.release_to(&mut barrier.gathering);
    warp.order_lanes();
    if let Action::Reduce(how) = op.action {
        let (p, negated) = op.predicate;
        let bits = (if negated { !warp.p[p as usize] } else { warp.p[p as usize] }) & warp.mask;
        barrier.reduction = match how {
            Modifier::And => barrier.reduction & u32::from(bits == warp.mask),
            Modifier::Or => barrier.reduction | u32::from(bits != 0),
            _ => barrier.reduction + bits.count_ones(),
        };
    }
    let generation = barrier.generation;
    complete_if_full(cx, number);
    match op.action {
        Action::Arrive => Step::Next,
        _ => {
            warp.wait = Some(Wait::Named { barrier: number, generation });
            // `red` runs again to take its result.
            if !matches!(op.action, Action::Reduce(_)) {
                warp.pc += 1;
            } else {
                warp.reducing = Some(generation);
            }
            Step::Wait
        }
    }
}

fn complete_if_full(cx: &mut Cx<'_>, number: u32) {
    let barrier = &mut cx.cluster.ctas[cx.rank as usize].named[number as usize];
    if barrier.arrived < barrier.expected {
        return;
    }
    barrier.arrived = 0;
    barrier.warps = 0;
    barrier.generation += 1;
    barrier.result = barrier.reduction;
    std::mem::swap(&mut barrier.released, &mut barrier.gathering);
    barrier.gathering.clear();
    cx.cluster.events += 1;
}

/// Hands out the result of a reduction whose barrier is complete.
fn finish_reduction(op: &BarrierOp, warp: &mut Warp, cx: &mut Cx<'_>) -> Option<Step> {
    let Action::Reduce(_) = op.action else { return None };
    warp.reducing.take()?;
    let first = warp.mask.trailing_zeros() as usize;
    let number = warp.r32[op.barrier as usize][first];
    let result = cx.cta().named.get(number as usize)?.result;
    match op.destination {
        Value::Pred(d) => warp.set_predicate(d, if result != 0 { u32::MAX } else { 0 }),
        Value::R32(d) => {
            for lane in crate::check::lanes(warp.mask) {
                warp.r32[d as usize][lane] = result;
            }
        }
        _ => {}
    }
    Some(Step::Next)
}

/// Threads that exited are no longer waited for by barriers of the whole block.
pub(crate) fn thread_exited(cx: &mut Cx<'_>) {
    let live = cx.cta().live_threads.next_multiple_of(32);
    for number in 0..16 {
        let barrier = &mut cx.cta().named[number];
        if barrier.arrived > 0 && barrier.whole_block && barrier.expected > live {
            barrier.expected = live.max(32);
            complete_if_full(cx, number as u32);
        }
    }
}

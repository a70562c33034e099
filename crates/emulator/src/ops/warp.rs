//! Instructions of the lanes of a warp together: shuffles, votes, elections (PTX ISA 9.7.9.6, 9.7.13).
//!
//! Each names the lanes that take part, its member mask. Lanes come together when they are at the same
//! instruction with the same mask; those that come first are parked. Lanes that have exited are not waited
//! for.

use zeroforge_ptx::{Instruction, Modifier, Opcode, Operand, Type};

use crate::check::lanes;
use crate::machine::context::Cx;
use crate::machine::lanes::File;
use crate::machine::warp::{Lanes32, Warp};
use crate::program::decode::{Decoder, Reason};
use crate::program::inst::{Exec, Inst, NO_REGISTER, Step};
use crate::report::FindingKind;

/// The member mask is the register that `imm` names.
pub(crate) fn decode(d: &mut Decoder<'_>, i: &Instruction) -> Result<Inst, Reason> {
    let last = i.operands.len().saturating_sub(1);
    let mut inst = Inst::new(|_, _, _| Step::Stop);
    if i.opcode() != Opcode::Activemask {
        inst.imm = u64::from(d.s32(d.operand(i, last)?)?);
    }
    match i.opcode() {
        Opcode::BarWarpSync => inst.exec = synchronise,
        Opcode::Activemask => {
            inst.exec = active_mask;
            inst.d = d.d32(d.operand(i, 0)?)?;
        }
        Opcode::ElectSync => {
            inst.exec = elect;
            destination(d, d.operand(i, 0)?, &mut inst)?;
        }
        Opcode::ShflSync => {
            inst.exec = match () {
                () if i.has(Modifier::Up) => shuffle::<0>,
                () if i.has(Modifier::Down) => shuffle::<1>,
                () if i.has(Modifier::Bfly) => shuffle::<2>,
                () => shuffle::<3>,
            };
            destination(d, d.operand(i, 0)?, &mut inst)?;
            inst.a = d.s32(d.operand(i, 1)?)?;
            inst.b = d.s32(d.operand(i, 2)?)?;
            inst.c = d.s32(d.operand(i, 3)?)?;
        }
        Opcode::VoteSync => {
            let (a, negated) = d.predicate(d.operand(i, 1)?)?;
            (inst.a, inst.b) = (a, u32::from(negated));
            if i.has(Modifier::Ballot) {
                inst.exec = ballot;
                inst.d = d.d32(d.operand(i, 0)?)?;
            } else {
                inst.exec = match () {
                    () if i.has(Modifier::All) => vote::<0>,
                    () if i.has(Modifier::Any) => vote::<1>,
                    () => vote::<2>,
                };
                let p = d.destination_predicate(d.operand(i, 0)?)?;
                inst.d = p.unwrap_or(NO_REGISTER);
            }
        }
        Opcode::MatchSync => {
            let ty = i.ty().ok_or_else(|| "match without a type".to_owned())?;
            inst.exec = match (i.has(Modifier::All), ty.bits()) {
                (true, 64) => match_all::<u64>,
                (true, _) => match_all::<u32>,
                (false, 64) => match_any::<u64>,
                (false, _) => match_any::<u32>,
            };
            destination(d, d.operand(i, 0)?, &mut inst)?;
            inst.a = d.source_index(d.operand(i, 1)?, ty)?;
        }
        Opcode::ReduxSync => {
            inst.exec = reduction(i)?;
            inst.d = d.d32(d.operand(i, 0)?)?;
            inst.a = d.s32(d.operand(i, 1)?)?;
        }
        other => return Err(format!("`{}` is not a warp instruction", other.text())),
    }
    Ok(inst)
}

/// `d` or `d|p`.
fn destination(d: &Decoder<'_>, operand: &Operand, inst: &mut Inst) -> Result<(), Reason> {
    let value = match operand {
        Operand::Pair(value, p) => {
            inst.e = d.destination_predicate(p)?.unwrap_or(NO_REGISTER);
            value
        }
        one => one,
    };
    inst.d = d.d32(value)?;
    Ok(())
}

/// Calls a function with each group of lanes that are here together. Lanes whose partners are still
/// elsewhere are parked.
#[inline(always)]
fn together(
    inst: &Inst,
    warp: &mut Warp,
    cx: &mut Cx<'_>,
    mut f: impl FnMut(&mut Warp, &mut Cx<'_>, u32),
) -> Step {
    let masks = warp.r32[inst.imm as usize];
    let first = masks[warp.mask.trailing_zeros() as usize & 31];
    // Nearly always there is one group, and it is complete.
    let all_same = lanes(warp.mask).all(|l| masks[l] == first);
    if all_same && warp.mask & !first == 0 && first & warp.live & !warp.mask == 0 {
        f(warp, cx, warp.mask);
        return Step::Next;
    }
    if let Some(step) = sort_groups(&masks, warp, cx) {
        return step;
    }
    let mut rest = warp.mask;
    while rest != 0 {
        let group = same(&masks, rest);
        rest &= !group;
        f(warp, cx, group);
    }
    Step::Next
}

/// The lanes of a set whose mask is that of its first lane.
fn same(masks: &Lanes32, set: u32) -> u32 {
    let mask = masks[set.trailing_zeros() as usize & 31];
    lanes(set).filter(|&l| masks[l] == mask).fold(0, |g, l| g | 1 << l)
}

/// Parks the lanes whose partners are not here, and reports those that are not in their own mask. Gives a
/// step if nothing is left to run now.
#[cold]
fn sort_groups(masks: &Lanes32, warp: &mut Warp, cx: &mut Cx<'_>) -> Option<Step> {
    let (mut incomplete, mut outside) = (0, 0);
    let mut rest = warp.mask;
    while rest != 0 {
        let mask = masks[rest.trailing_zeros() as usize];
        let group = same(masks, rest);
        rest &= !group;
        outside |= group & !mask;
        if mask & warp.live & !group != 0 {
            incomplete |= group;
        }
    }
    if outside != 0 {
        let mask = masks[outside.trailing_zeros() as usize];
        cx.find(warp, outside, FindingKind::Undefined, None, || {
            format!("lanes execute this with member mask {mask:#010x}, which does not have them")
        });
    }
    if incomplete == warp.mask {
        warp.wait_for_lanes();
        return Some(Step::Wait);
    }
    if incomplete != 0 {
        warp.park(incomplete);
    }
    None
}

fn set(warp: &mut Warp, register: u32, group: u32, value: u32) {
    for lane in lanes(group) {
        warp.r32[register as usize][lane] = value;
    }
}

/// Sets a predicate for the lanes of a group, if there is a destination.
fn set_predicate(warp: &mut Warp, p: u32, group: u32, bits: u32) {
    if p != NO_REGISTER {
        let p = &mut warp.p[p as usize];
        *p = *p & !group | bits & group;
    }
}

fn synchronise(inst: &Inst, warp: &mut Warp, cx: &mut Cx<'_>) -> Step {
    together(inst, warp, cx, |warp, _, _| warp.order_lanes())
}

/// The lanes that execute this (PTX ISA 9.7.13.11).
fn active_mask(inst: &Inst, warp: &mut Warp, _: &mut Cx<'_>) -> Step {
    set(warp, inst.d, warp.mask, warp.mask);
    Step::Next
}

/// The lowest lane is the leader; the ISA says only that it is always the same (PTX ISA 9.7.13.14).
fn elect(inst: &Inst, warp: &mut Warp, cx: &mut Cx<'_>) -> Step {
    together(inst, warp, cx, |warp, _, group| {
        let leader = group.trailing_zeros();
        set(warp, inst.d, group, leader);
        set_predicate(warp, inst.e, group, 1 << leader);
    })
}

/// PTX ISA 9.7.9.6. Modes: 0 up, 1 down, 2 butterfly, 3 index.
fn shuffle<const MODE: u32>(inst: &Inst, warp: &mut Warp, cx: &mut Cx<'_>) -> Step {
    together(inst, warp, cx, |warp, cx, group| {
        let a = warp.r32[inst.a as usize];
        let (b, c) = (warp.r32[inst.b as usize], warp.r32[inst.c as usize]);
        let (mut valid, mut absent) = (0u32, 0u32);
        for lane in lanes(group) {
            let own = lane as i32;
            let by = (b[lane] & 31) as i32;
            let clamp = (c[lane] & 31) as i32;
            let segment = (c[lane] >> 8 & 31) as i32;
            let max = own & segment | clamp & !segment;
            let (from, inside) = match MODE {
                0 => (own - by, own - by >= max),
                1 => (own + by, own + by <= max),
                2 => (own ^ by, own ^ by <= max),
                _ => {
                    let from = own & segment | by & !segment;
                    (from, from <= max)
                }
            };
            // Out of the segment, a lane keeps its own value.
            let from = if inside { from as usize & 31 } else { lane };
            valid |= u32::from(inside) << lane;
            if group >> from & 1 == 0 {
                absent |= 1 << lane;
                continue;
            }
            warp.r32[inst.d as usize][lane] = a[from];
        }
        set_predicate(warp, inst.e, group, valid);
        if absent != 0 {
            cx.find(warp, absent, FindingKind::Undefined, None, || {
                format!(
                    "lanes take a value from a lane that does not take part in the shuffle (those that do are {group:#010x}); the value is undefined (PTX ISA 9.7.9.6)"
                )
            });
        }
    })
}

/// Modes: 0 all, 1 any, 2 the same in all.
fn vote<const MODE: u32>(inst: &Inst, warp: &mut Warp, cx: &mut Cx<'_>) -> Step {
    together(inst, warp, cx, |warp, _, group| {
        let bits = warp.predicate((inst.a, inst.b != 0)) & group;
        let holds = match MODE {
            0 => bits == group,
            1 => bits != 0,
            _ => bits == group || bits == 0,
        };
        set_predicate(warp, inst.d, group, if holds { u32::MAX } else { 0 });
    })
}

fn ballot(inst: &Inst, warp: &mut Warp, cx: &mut Cx<'_>) -> Step {
    together(inst, warp, cx, |warp, _, group| {
        let bits = warp.predicate((inst.a, inst.b != 0)) & group;
        set(warp, inst.d, group, bits);
    })
}

fn match_any<T: File + PartialEq>(inst: &Inst, warp: &mut Warp, cx: &mut Cx<'_>) -> Step {
    together(inst, warp, cx, |warp, _, group| {
        let a = T::all(warp)[inst.a as usize];
        for lane in lanes(group) {
            let equal = lanes(group).filter(|&l| a[l] == a[lane]).fold(0, |m, l| m | 1 << l);
            warp.r32[inst.d as usize][lane] = equal;
        }
    })
}

fn match_all<T: File + PartialEq>(inst: &Inst, warp: &mut Warp, cx: &mut Cx<'_>) -> Step {
    together(inst, warp, cx, |warp, _, group| {
        let a = &T::all(warp)[inst.a as usize];
        let first = a[group.trailing_zeros() as usize & 31];
        let equal = lanes(group).all(|l| a[l] == first);
        set(warp, inst.d, group, if equal { group } else { 0 });
        set_predicate(warp, inst.e, group, if equal { u32::MAX } else { 0 });
    })
}

fn redux<F: Fn(u32, u32) -> u32>(inst: &Inst, warp: &mut Warp, cx: &mut Cx<'_>, f: F) -> Step {
    together(inst, warp, cx, |warp, _, group| {
        let a = &warp.r32[inst.a as usize];
        let result = lanes(group).map(|l| a[l]).reduce(&f).unwrap_or(0);
        set(warp, inst.d, group, result);
    })
}

fn reduction(i: &Instruction) -> Result<Exec, Reason> {
    let signed = i.ty().is_some_and(Type::is_signed);
    let op = i.modifiers.iter().find(|m| m.as_type().is_none() && **m != Modifier::Sync);
    let exec: Exec = match (op, signed) {
        (Some(Modifier::Add), _) => |i, w, cx| redux(i, w, cx, u32::wrapping_add),
        (Some(Modifier::And), _) => |i, w, cx| redux(i, w, cx, |a, b| a & b),
        (Some(Modifier::Or), _) => |i, w, cx| redux(i, w, cx, |a, b| a | b),
        (Some(Modifier::Xor), _) => |i, w, cx| redux(i, w, cx, |a, b| a ^ b),
        (Some(Modifier::Min), false) => |i, w, cx| redux(i, w, cx, u32::min),
        (Some(Modifier::Max), false) => |i, w, cx| redux(i, w, cx, u32::max),
        (Some(Modifier::Min), true) => {
            |i, w, cx| redux(i, w, cx, |a, b| (a as i32).min(b as i32) as u32)
        }
        (Some(Modifier::Max), true) => {
            |i, w, cx| redux(i, w, cx, |a, b| (a as i32).max(b as i32) as u32)
        }
        _ => return Err("this reduction is not known".to_owned()),
    };
    Ok(exec)
}

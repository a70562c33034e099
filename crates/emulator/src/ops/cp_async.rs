//! Non-bulk asynchronous copies (PTX ISA 9.7.9.25.3).
//!
//! A copy of a warp's lanes is kept until the lanes wait for its group, or go to an mbarrier with it: only
//! then its bytes move. It is of the generic proxy, unlike bulk copies.

use std::collections::VecDeque;

use zeroforge_ptx::{Instruction, Modifier, Opcode, Operand, StateSpace};

use crate::check::race::RangeAccess;
use crate::check::{Kind, Proxy, lanes};
use crate::machine::context::{ClusterState, Cx, Env, Who};
use crate::machine::warp::{LANES, Lanes32, Lanes64, Warp};
use crate::memory::window;
use crate::ops::mbarrier::locate;
use crate::ops::mbarrier_state::{self, Use};
use crate::ops::memory::{drop_misaligned, drop_outside_shared, report_outside_global, resolve};
use crate::ops::pending::{self, Signal, Transfer, Work};
use crate::program::decode::{Decoder, Reason, space_of};
use crate::program::inst::{Addr, AddrBase, Detail, Inst, Step, Value};
use crate::report::FindingKind;

/// Operands.
#[derive(Debug)]
pub(crate) struct CpAsyncOp {
    to: Addr,
    from: Addr,
    /// Space of the mbarrier of an arrival.
    space: StateSpace,
    /// Bytes written: 4, 8 or 16.
    size: u32,
    /// Bytes read (a 32-bit register), or whether to read none (a predicate).
    source: Option<(Value, bool)>,
    noinc: bool,
}

/// Copies of lanes of a warp by one instruction.
#[derive(Clone, Debug)]
pub(crate) struct LaneCopies {
    mask: u32,
    /// The group, from 0 on.
    group: u32,
    rank: u32,
    /// Bytes written.
    size: u32,
    /// Offsets in shared memory, global addresses, bytes read.
    to: Lanes32,
    from: Lanes64,
    read: [u8; LANES],
}

/// Groups of a warp's threads.
#[derive(Debug, Default)]
pub(crate) struct CpAsyncState {
    /// Groups that each lane has committed.
    committed: [u32; LANES],
    /// Copies that nobody waited for, oldest first.
    queue: VecDeque<LaneCopies>,
    /// Whether copies of this warp may wait in the cluster's queue to arrive at an mbarrier.
    arriving: bool,
}

pub(crate) fn decode(d: &mut Decoder<'_>, i: &Instruction) -> Result<Inst, Reason> {
    match i.opcode() {
        Opcode::CpAsyncCommitGroup => return Ok(Inst::new(commit)),
        Opcode::CpAsyncWaitGroup => {
            let mut inst = Inst::new(wait_group);
            inst.imm = d.integer(d.operand(i, 0)?)? as u64;
            return Ok(inst);
        }
        Opcode::CpAsyncWaitAll => return Ok(Inst::new(wait_all)),
        _ => {}
    }
    let (to, symbol_space) = d.address(d.operand(i, 0)?)?;
    let mut op = CpAsyncOp {
        to,
        from: Addr { base: AddrBase::Fixed, offset: 0 },
        space: StateSpace::Shared,
        size: 0,
        source: None,
        noinc: i.has(Modifier::Noinc),
    };
    let exec = if i.opcode() == Opcode::CpAsyncMbarrierArrive {
        op.space = match space_of(i) {
            StateSpace::Generic => symbol_space.unwrap_or(StateSpace::Generic),
            space => space,
        };
        arrive
    } else {
        op.from = d.address(d.operand(i, 1)?)?.0;
        op.size = d.integer(d.operand(i, 2)?)? as u32;
        if !matches!(op.size, 4 | 8 | 16) {
            return Err(format!("cp.async copies 4, 8 or 16 bytes, not {}", op.size));
        }
        op.source = match i.operands.get(3) {
            // The last operand is the cache policy where there is one.
            Some(_) if i.has(Modifier::L2CacheHint) && i.operands.len() == 4 => None,
            Some(o @ Operand::Not(_)) => {
                let (p, negated) = d.predicate(o)?;
                Some((Value::Pred(p), negated))
            }
            Some(o @ Operand::Register(_)) => match d.destination(o)? {
                v @ (Value::Pred(_) | Value::R32(_)) => Some((v, false)),
                _ => return Err("the source size is not a 32-bit register".to_owned()),
            },
            Some(o) => Some((Value::R32(d.s32(o)?), false)),
            None => None,
        };
        copy
    };
    let mut inst = Inst::new(exec);
    inst.detail = Detail::CpAsync(Box::new(op));
    Ok(inst)
}

fn copy(inst: &Inst, warp: &mut Warp, cx: &mut Cx<'_>) -> Step {
    let Detail::CpAsync(op) = &inst.detail else { return Step::Stop };
    let to = resolve(warp, StateSpace::Shared, &op.to);
    let from = resolve(warp, StateSpace::Global, &op.from);
    let mut mask = drop_misaligned(cx, warp, &to.addresses, warp.mask, op.size);
    mask = drop_outside_shared(cx, warp, &to.addresses, mask, op.size);
    let mut copies = LaneCopies {
        mask: 0,
        group: 0,
        rank: cx.rank,
        size: op.size,
        to: [0; LANES],
        from: from.addresses,
        read: [op.size as u8; LANES],
    };
    let mut reading = 0;
    for lane in lanes(mask) {
        let (rank, offset) = window::split_shared(to.addresses[lane] as u32, cx.rank);
        if rank != cx.rank {
            mask &= !(1 << lane);
            let address = Some(to.addresses[lane]);
            cx.find(warp, 1 << lane, FindingKind::OutOfBounds, address, || {
                format!("cp.async writes to block {rank} of the cluster; only the own block's shared memory may be written (PTX ISA 9.7.9.25.3.1)")
            });
            continue;
        }
        copies.to[lane] = offset;
        let bytes = match op.source {
            None => op.size,
            Some((Value::Pred(p), negated)) => {
                match (warp.p[p as usize] >> lane & 1 != 0) != negated {
                    true => 0,
                    false => op.size,
                }
            }
            Some((Value::R32(r), _)) => {
                let bytes = warp.r32[r as usize][lane];
                if bytes > op.size {
                    cx.find(warp, 1 << lane, FindingKind::Undefined, None, || {
                        format!("cp.async reads {bytes} bytes and writes {}; it may read fewer, not more (PTX ISA 9.7.9.25.3.1)", op.size)
                    });
                }
                bytes.min(op.size)
            }
            Some(_) => op.size,
        };
        copies.read[lane] = bytes as u8;
        reading |= u32::from(bytes > 0) << lane;
    }
    let good = drop_misaligned(cx, warp, &from.addresses, reading & mask, op.size);
    let readable = drop_unreadable(cx, warp, &copies, good);
    // What cannot be read is written as zeros, so that only the cause is reported.
    for lane in lanes(mask & reading & !readable) {
        copies.read[lane] = 0;
    }
    record(cx, warp, &copies, mask);
    if cx.completes_at_once() {
        copies.mask = mask;
        move_bytes(cx.cluster, cx.env, &copies);
        return Step::Next;
    }
    // Lanes of different groups are kept apart; mostly there is one.
    while mask != 0 {
        let group = warp.cp_async.committed[mask.trailing_zeros() as usize];
        let same =
            lanes(mask).filter(|&l| warp.cp_async.committed[l] == group).fold(0, |m, l| m | 1 << l);
        copies.mask = same;
        copies.group = group;
        warp.cp_async.queue.push_back(copies.clone());
        mask &= !same;
    }
    Step::Next
}

/// Reports lanes whose source is outside of every allocation, and sources that nothing wrote.
fn drop_unreadable(cx: &mut Cx<'_>, warp: &Warp, copies: &LaneCopies, mask: u32) -> u32 {
    let env = cx.env;
    let (mut good, mut unwritten) = (mask, 0u32);
    let mut last: Option<usize> = None;
    for lane in lanes(mask) {
        let (address, bytes) = (copies.from[lane], u64::from(copies.read[lane]));
        let known = last.and_then(|at| Some((at, env.memory[at].offset(address, bytes)?)));
        let Some((at, offset)) = known.or_else(|| env.find(address, bytes)) else {
            good &= !(1 << lane);
            report_outside_global(cx, warp, lane, address, bytes);
            continue;
        };
        last = Some(at);
        let check = env.options.checks.uninitialised;
        if check && !env.memory[at].is_written(offset, bytes as usize) {
            unwritten |= 1 << lane;
        }
    }
    if unwritten != 0 {
        let address = copies.from[unwritten.trailing_zeros() as usize];
        cx.find(warp, unwritten, FindingKind::UninitialisedGlobal, Some(address), || {
            format!("cp.async reads bytes at {address:#x} that nothing wrote")
        });
    }
    good
}

/// Tells the race detector what is written: neighbours in one piece.
fn record(cx: &mut Cx<'_>, warp: &Warp, copies: &LaneCopies, mask: u32) {
    let checks = cx.env.options.checks;
    if !checks.races && !checks.protocol {
        return;
    }
    let actor = cx.cluster.race.cp_async_actor(warp);
    let mut left = mask;
    while left != 0 {
        let first = left.trailing_zeros() as usize;
        let (mut last, mut run) = (first, 1u32 << first);
        while last + 1 < LANES
            && left >> (last + 1) & 1 != 0
            && copies.to[last + 1] == copies.to[last] + copies.size
            && warp.cp_async.committed[last + 1] == warp.cp_async.committed[first]
        {
            last += 1;
            run |= 1 << last;
        }
        left &= !run;
        let (offset, len) = (copies.to[first], copies.size * run.count_ones());
        mbarrier_state::range_access(cx, warp, run, cx.rank, offset, len);
        if checks.races {
            let access = RangeAccess {
                kind: Kind::Write,
                proxy: Proxy::Generic,
                rank: copies.rank,
                offset,
                len,
                actor,
                count: warp.cp_async.committed[first] + 1,
            };
            crate::check::race::range_access(cx, warp, run, &access);
        }
    }
}

/// Moves the bytes of copies: what is not read is zero.
pub(crate) fn move_bytes(state: &mut ClusterState, env: &Env<'_>, copies: &LaneCopies) {
    let cta = &mut state.ctas[copies.rank as usize];
    let size = copies.size as usize;
    let mut last: Option<usize> = None;
    for lane in lanes(copies.mask) {
        let mut bytes = [0; 16];
        let (address, read) = (copies.from[lane], usize::from(copies.read[lane]));
        if read > 0 {
            let len = read as u64;
            let known = last.and_then(|at| Some((at, env.memory[at].offset(address, len)?)));
            if let Some((at, offset)) = known.or_else(|| env.find(address, len)) {
                last = Some(at);
                env.memory[at].bytes.read(offset, &mut bytes[..read]);
            }
        }
        let to = copies.to[lane] as usize;
        cta.shared[to..to + size].copy_from_slice(&bytes[..size]);
        cta.mark_written(copies.to[lane], copies.size);
    }
}

fn commit(_: &Inst, warp: &mut Warp, _: &mut Cx<'_>) -> Step {
    for lane in lanes(warp.mask) {
        warp.cp_async.committed[lane] += 1;
    }
    Step::Next
}

fn wait_all(inst: &Inst, warp: &mut Warp, cx: &mut Cx<'_>) -> Step {
    // As commit_group followed by wait_group 0 (PTX ISA 9.7.9.25.3.3).
    commit(inst, warp, cx);
    wait(warp, cx, 0)
}

fn wait_group(inst: &Inst, warp: &mut Warp, cx: &mut Cx<'_>) -> Step {
    wait(warp, cx, u32::try_from(inst.imm).unwrap_or(u32::MAX))
}

/// Waits until at most `left` of the newest groups of each lane are under way.
fn wait(warp: &mut Warp, cx: &mut Cx<'_>, left: u32) -> Step {
    let mut done = [0; LANES];
    for lane in lanes(warp.mask) {
        done[lane] = warp.cp_async.committed[lane].saturating_sub(left);
    }
    let mask = warp.mask;
    let CpAsyncState { queue, .. } = &mut warp.cp_async;
    for copies in queue.iter_mut() {
        let over = lanes(copies.mask & mask)
            .filter(|&l| copies.group < done[l])
            .fold(0, |m, l| m | 1u32 << l);
        if over != 0 {
            let rest = copies.mask & !over;
            copies.mask = over;
            move_bytes(cx.cluster, cx.env, copies);
            copies.mask = rest;
        }
    }
    queue.retain(|c| c.mask != 0);
    if warp.cp_async.arriving && done.iter().any(|&d| d > 0) {
        pending::complete_lane_copies(cx.cluster, cx.env, warp.actor);
        warp.cp_async.arriving = false;
    }
    let seen = done.iter().copied().max().unwrap_or(0);
    if seen > 0 {
        // Of the generic proxy: no fence is implied.
        let actor = cx.cluster.race.cp_async_actor(warp);
        warp.clock.see_generic(actor, seen);
    }
    Step::Next
}

/// `cp.async.mbarrier.arrive`: the lanes arrive when all their copies so far are there.
fn arrive(inst: &Inst, warp: &mut Warp, cx: &mut Cx<'_>) -> Step {
    let Detail::CpAsync(op) = &inst.detail else { return Step::Stop };
    let (places, good) = locate(cx, warp, op.space, &op.to, true);
    let mut arrivals = Vec::new();
    let mut mask = 0;
    for lane in lanes(good) {
        let place = places[lane];
        if !mbarrier_state::check_use(cx, warp, lane, place, Use::Arrive) {
            continue;
        }
        if !op.noinc {
            mbarrier_state::raise_pending(cx, warp, lane, place);
        }
        arrivals.push(place);
        mask |= 1 << lane;
    }
    // A wait on the mbarrier makes the copies visible, to the generic proxy (PTX ISA 9.7.13.15.16).
    let actor = cx.cluster.race.cp_async_actor(warp);
    let count = lanes(mask).map(|l| warp.cp_async.committed[l] + 1).max().unwrap_or(0);
    let mut given: Vec<_> = arrivals.clone();
    given.sort_unstable();
    given.dedup();
    for place in given {
        mbarrier_state::release_copies(cx, warp, place, (actor, count));
    }
    let mut copies = Vec::new();
    for c in &mut warp.cp_async.queue {
        if c.mask & mask != 0 {
            let mut taken = c.clone();
            taken.mask &= mask;
            c.mask &= !mask;
            copies.push(taken);
        }
    }
    warp.cp_async.queue.retain(|c| c.mask != 0);
    warp.cp_async.arriving = true;
    let who = Who::of(warp, cx.cta().id, mask);
    let transfer = Transfer::LaneCopies { copies, arrivals };
    let signal = Signal::Arrivals { actor: warp.actor };
    let at_once = cx.completes_at_once();
    pending::start(cx.cluster, cx.env, Work { who, transfer, signal, read: None }, at_once);
    Step::Next
}

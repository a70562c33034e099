//! Clusters: addresses of other blocks' shared memory and the cluster barrier (PTX ISA 9.7.9.23, 9.7.13.3).

use std::collections::BTreeMap;

use zeroforge_ptx::{Instruction, Modifier, Opcode, Operand, Type};

use crate::check::clock::Clock;
use crate::check::{WarpAccess, lanes};
use crate::machine::context::{Cx, Who};
use crate::machine::warp::{Wait, Warp};
use crate::memory::window::{self, Place};
use crate::program::decode::{Decoder, Reason};
use crate::program::inst::{Inst, Step};
use crate::report::FindingKind;

/// The barrier of a cluster.
#[derive(Debug, Default)]
pub(crate) struct ClusterBarrier {
    /// Threads that came in this generation and still run.
    pub(crate) arrived: u32,
    /// How often it completed.
    pub(crate) generation: u64,
    pub(crate) gathering: Clock,
    pub(crate) released: Clock,
    /// As these, of all that came: a relaxed arrival orders execution, if not memory.
    gathering_order: Clock,
    order: Clock,
    /// Lanes that came in this generation, and lanes that came and have not waited yet, by warp of the
    /// cluster.
    came: Vec<u32>,
    owing: Vec<u32>,
}

impl ClusterBarrier {
    fn lanes_of(list: &mut Vec<u32>, warp: u32) -> &mut u32 {
        let at = warp as usize;
        if list.len() <= at {
            list.resize(at + 1, 0);
        }
        &mut list[at]
    }
}

/// What others and copies did to a block's shared memory, and what the block had seen of it when its threads left.
#[derive(Debug, Default)]
pub(crate) struct RemoteUses {
    /// The last use by an actor: its count, and who.
    last: BTreeMap<u32, (u32, Who)>,
    seen: Clock,
}

impl RemoteUses {
    /// Whether a cluster barrier, a relaxed one too, brought the block what an actor did up to a count.
    pub(crate) fn has_seen(&self, actor: u32, count: u32) -> bool {
        self.seen.seen(actor) >= count
    }
}

pub(crate) fn decode(d: &mut Decoder<'_>, i: &Instruction) -> Result<Inst, Reason> {
    let shared = i.has(Modifier::SharedCluster);
    let wide = i.ty() == Some(Type::U64);
    match i.opcode() {
        Opcode::Mapa => {
            let mut inst = Inst::new(match (shared, wide) {
                (true, false) => map_shared,
                (true, true) => map_shared_wide,
                (false, true) => map_generic,
                (false, false) => {
                    return Err("generic addresses have 64 bits; use mapa.u64".to_owned());
                }
            });
            (inst.d, inst.a) = match wide {
                true => (d.d64(d.operand(i, 0)?)?, source64(d, i, 1, shared)?),
                false => (d.d32(d.operand(i, 0)?)?, d.s32(d.operand(i, 1)?)?),
            };
            inst.b = d.s32(d.operand(i, 2)?)?;
            Ok(inst)
        }
        Opcode::Getctarank => {
            let mut inst = Inst::new(match (shared, wide) {
                (true, false) => rank_of_shared,
                (true, true) => rank_of_shared_wide,
                (false, true) => rank_of_generic,
                (false, false) => {
                    return Err("generic addresses have 64 bits; use getctarank.u64".to_owned());
                }
            });
            inst.d = d.d32(d.operand(i, 0)?)?;
            inst.a = match wide {
                true => source64(d, i, 1, shared)?,
                false => d.s32(d.operand(i, 1)?)?,
            };
            Ok(inst)
        }
        Opcode::BarrierClusterArrive => {
            let mut inst = Inst::new(arrive);
            inst.imm = flags(i);
            Ok(inst)
        }
        _ => {
            let mut inst = Inst::new(wait);
            inst.imm = flags(i);
            Ok(inst)
        }
    }
}

/// A 64-bit address; that of a variable is generic where the instruction wants it so.
fn source64(d: &mut Decoder<'_>, i: &Instruction, at: usize, shared: bool) -> Result<u32, Reason> {
    let operand = d.operand(i, at)?;
    if let (Operand::Symbol(symbol, offset), false) = (operand, shared) {
        let address = d.symbol(*symbol)?.address.wrapping_add(*offset as u64);
        return Ok(d.constant64(address | window::SHARED));
    }
    d.s64(operand)
}

const ALIGNED: u64 = 1;
const RELAXED: u64 = 2;

fn flags(i: &Instruction) -> u64 {
    let bit = |m, bit| if i.has(m) { bit } else { 0 };
    bit(Modifier::Aligned, ALIGNED) | bit(Modifier::Relaxed, RELAXED)
}

/// The address in another block; reports ranks that are not there.
fn mapped(cx: &mut Cx<'_>, warp: &Warp, lane: usize, address: u32, rank: u32) -> u32 {
    let blocks = cx.cluster.ctas.len() as u32;
    if rank >= blocks {
        cx.find(warp, 1 << lane, FindingKind::OutOfBounds, Some(u64::from(address)), || {
            format!("mapa to block {rank} of a cluster of {blocks}")
        });
    }
    window::cluster_address(rank.min(254), address)
}

fn map_shared(inst: &Inst, warp: &mut Warp, cx: &mut Cx<'_>) -> Step {
    for lane in lanes(warp.mask) {
        let (a, rank) = (warp.r32[inst.a as usize][lane], warp.r32[inst.b as usize][lane]);
        warp.r32[inst.d as usize][lane] = mapped(cx, warp, lane, a, rank);
    }
    Step::Next
}

fn map_shared_wide(inst: &Inst, warp: &mut Warp, cx: &mut Cx<'_>) -> Step {
    for lane in lanes(warp.mask) {
        let (a, rank) = (warp.r64[inst.a as usize][lane], warp.r32[inst.b as usize][lane]);
        warp.r64[inst.d as usize][lane] = u64::from(mapped(cx, warp, lane, a as u32, rank));
    }
    Step::Next
}

fn map_generic(inst: &Inst, warp: &mut Warp, cx: &mut Cx<'_>) -> Step {
    for lane in lanes(warp.mask) {
        let (a, rank) = (warp.r64[inst.a as usize][lane], warp.r32[inst.b as usize][lane]);
        let Place::Shared(address) = window::place(a) else {
            cx.find(warp, 1 << lane, FindingKind::Undefined, Some(a), || {
                format!("mapa of {a:#x}, which is not a shared address")
            });
            continue;
        };
        let mapped = mapped(cx, warp, lane, address, rank);
        warp.r64[inst.d as usize][lane] = window::SHARED | u64::from(mapped);
    }
    Step::Next
}

fn rank_of_shared(inst: &Inst, warp: &mut Warp, cx: &mut Cx<'_>) -> Step {
    let own = cx.rank;
    warp.map1_32(inst.d, inst.a, |a| window::split_shared(a, own).0);
    Step::Next
}

fn rank_of_shared_wide(inst: &Inst, warp: &mut Warp, cx: &mut Cx<'_>) -> Step {
    for lane in lanes(warp.mask) {
        let address = warp.r64[inst.a as usize][lane] as u32;
        warp.r32[inst.d as usize][lane] = window::split_shared(address, cx.rank).0;
    }
    Step::Next
}

fn rank_of_generic(inst: &Inst, warp: &mut Warp, cx: &mut Cx<'_>) -> Step {
    for lane in lanes(warp.mask) {
        let a = warp.r64[inst.a as usize][lane];
        let Place::Shared(address) = window::place(a) else {
            cx.find(warp, 1 << lane, FindingKind::Undefined, Some(a), || {
                format!("getctarank of {a:#x}, which is not a shared address")
            });
            continue;
        };
        warp.r32[inst.d as usize][lane] = window::split_shared(address, cx.rank).0;
    }
    Step::Next
}

/// Holds lanes of an aligned instruction until the whole warp is there. True if it is not yet.
fn gathers(inst: &Inst, warp: &mut Warp, cx: &mut Cx<'_>) -> bool {
    if inst.imm & ALIGNED == 0 || warp.mask == warp.live {
        return false;
    }
    if warp.mask != warp.active {
        cx.find(warp, warp.mask, FindingKind::Divergence, None, || {
            "an aligned cluster barrier is reached by some lanes of the warp only (PTX ISA 9.7.13.3)"
                .to_owned()
        });
        return false;
    }
    warp.wait_for_lanes();
    true
}

fn arrive(inst: &Inst, warp: &mut Warp, cx: &mut Cx<'_>) -> Step {
    if gathers(inst, warp, cx) {
        return Step::Wait;
    }
    let mask = warp.mask;
    let barrier = &mut cx.cluster.barrier;
    let owing = ClusterBarrier::lanes_of(&mut barrier.owing, warp.actor);
    let twice = *owing & mask;
    *owing |= mask;
    let came = ClusterBarrier::lanes_of(&mut barrier.came, warp.actor);
    let new = mask & !*came;
    *came |= mask;
    barrier.arrived += new.count_ones();
    barrier.gathering_order.acquire(&warp.clock);
    if inst.imm & RELAXED == 0 {
        warp.release_to(&mut barrier.gathering);
    } else if let Some(fenced) = &warp.fenced {
        // A fence before it makes a relaxed arrival release what came before the fence (PTX ISA 8.8).
        barrier.gathering.acquire(&fenced.0);
    }
    warp.order_lanes();
    if twice != 0 {
        cx.find(warp, twice, FindingKind::BarrierMisuse, None, || {
            "barrier.cluster.arrive twice without barrier.cluster.wait between (PTX ISA 9.7.13.3)"
                .to_owned()
        });
    }
    complete_if_full(cx);
    Step::Next
}

fn wait(inst: &Inst, warp: &mut Warp, cx: &mut Cx<'_>) -> Step {
    if gathers(inst, warp, cx) {
        return Step::Wait;
    }
    let mask = warp.mask;
    let barrier = &mut cx.cluster.barrier;
    let missing = mask & !*ClusterBarrier::lanes_of(&mut barrier.owing, warp.actor);
    if *ClusterBarrier::lanes_of(&mut barrier.came, warp.actor) & mask & !missing != 0 {
        // The instruction runs again when the barrier is complete.
        warp.wait = Some(Wait::Cluster { generation: barrier.generation });
        return Step::Wait;
    }
    *ClusterBarrier::lanes_of(&mut barrier.owing, warp.actor) &= !mask;
    warp.clock.acquire(&barrier.released);
    let order = &cx.cluster.barrier.order;
    cx.cluster.ctas[cx.rank as usize].remote.seen.acquire(order);
    if missing != 0 {
        cx.find(warp, missing, FindingKind::BarrierMisuse, None, || {
            "barrier.cluster.wait without barrier.cluster.arrive before it (PTX ISA 9.7.13.3)"
                .to_owned()
        });
    }
    Step::Next
}

fn complete_if_full(cx: &mut Cx<'_>) {
    let live = cx.cluster.ctas.iter().map(|c| c.live_threads).sum::<u32>();
    let barrier = &mut cx.cluster.barrier;
    if barrier.arrived < live || barrier.came.iter().all(|&c| c == 0) {
        return;
    }
    barrier.arrived = 0;
    barrier.came.fill(0);
    barrier.generation += 1;
    std::mem::swap(&mut barrier.released, &mut barrier.gathering);
    barrier.gathering.clear();
    std::mem::swap(&mut barrier.order, &mut barrier.gathering_order);
    barrier.gathering_order.clear();
    cx.cluster.events += 1;
}

/// A warp uses the shared memory of another block now or, under an actor and count, that of any block by a
/// copy that it starts. Reported if that block is gone; whether it stays long enough is checked when it leaves.
pub(crate) fn remote_access(
    cx: &mut Cx<'_>,
    warp: &Warp,
    lanes: u32,
    rank: u32,
    under: Option<(u32, u32)>,
) {
    if !cx.env.options.checks.protocol {
        return;
    }
    let who = Who::of(warp, cx.cta().id, lanes);
    let Some(cta) = cx.cluster.ctas.get_mut(rank as usize) else { return };
    if cta.live_threads == 0 {
        let [x, y, z] = cta.id;
        cx.cluster.findings.add(FindingKind::ClusterExit, who, None, None, || {
            format!("the shared memory of block ({x}, {y}, {z}) is used after all its threads have exited; end the kernel with a cluster barrier")
        });
        return;
    }
    let (actor, count) = under.unwrap_or((warp.actor, warp.clock.now()));
    cta.remote.last.insert(actor, (count, who));
}

/// Loads and stores that go to other blocks.
pub(crate) fn watch(cx: &mut Cx<'_>, warp: &Warp, access: &WarpAccess<'_>) {
    for lane in lanes(access.lanes) {
        let (rank, _) = window::split_shared(access.addresses[lane] as u32, cx.rank);
        if rank != cx.rank {
            remote_access(cx, warp, 1 << lane, rank, None);
        }
    }
}

/// Lanes leave. When they are the last of their block, every use of its shared memory by copies and other
/// blocks must have happened before: a cluster barrier does that, or an mbarrier that the block waited for.
/// Bulk stores that a thread started can be waited for by that thread only.
pub(crate) fn thread_exited(warp: &Warp, cx: &mut Cx<'_>, who: Who) {
    let lanes = who.lanes;
    let protocol = cx.env.options.checks.protocol;
    let barrier = &mut cx.cluster.barrier;
    let came = ClusterBarrier::lanes_of(&mut barrier.came, warp.actor);
    let left = *came & lanes;
    *came &= !lanes;
    barrier.arrived -= left.count_ones();
    *ClusterBarrier::lanes_of(&mut barrier.owing, warp.actor) &= !lanes;
    complete_if_full(cx);
    let cta = cx.cta();
    cta.remote.seen.acquire(&warp.clock);
    if protocol && let Some(by) = warp.bulk.unread(lanes) {
        cx.cluster.findings.add(FindingKind::ClusterExit, by, Some(who), None, || {
            "the thread ends while this copy may still read the block's shared memory; wait with cp.async.bulk.wait_group.read 0 before".to_owned()
        });
    }
    let cta = cx.cta();
    if cta.live_threads > 0 {
        return;
    }
    let remote = std::mem::take(&mut cta.remote);
    let id = cta.id;
    for (actor, (count, by)) in remote.last {
        let part = remote.seen.seen_part(actor, count, by.lanes, crate::check::clock::GENERIC);
        if remote.seen.seen(actor) < count && !part {
            cx.cluster.findings.add(FindingKind::ClusterExit, by, Some(who), None, || {
                format!("the shared memory of block ({}, {}, {}) is used here, but nothing keeps that block from exiting before: let it wait for the copy, or end the kernel with a cluster barrier", id[0], id[1], id[2])
            });
        }
    }
    crate::ops::registers::block_exited(cx);
}

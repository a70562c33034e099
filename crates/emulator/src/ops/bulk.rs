//! Bulk copies without a tensor map, and their groups (PTX ISA 9.7.9.25.4, 9.7.9.25.6); `st.async` and
//! `red.async` (9.7.9.12, 9.7.13.7), which complete on mbarriers as they do.

use zeroforge_ptx::{Instruction, Modifier, Opcode, StateSpace, Type};

use crate::check::global::GlobalRange;
use crate::check::race::RangeAccess;
use crate::check::{Kind, Proxy, lanes};
use crate::machine::context::{Cx, Who};
use crate::machine::warp::{LANES, Warp};
use crate::memory::window;
use crate::ops::bulk_copy::{Operation, Reduction};
use crate::ops::mbarrier::{Place, locate};
use crate::ops::mbarrier_state::{self, Use};
use crate::ops::memory::{get_value, report_outside_global, resolve};
use crate::ops::pending::{self, SharedRange, Signal, Transfer, Work};
use crate::program::decode::{Decoder, Reason};
use crate::program::inst::{Addr, Detail, Inst, NO_REGISTER, Step, Value};
use crate::report::FindingKind;

/// Operands.
#[derive(Debug)]
pub(crate) struct BulkOp {
    to: Addr,
    from: Addr,
    /// Register of the size.
    size: u32,
    /// The mbarrier.
    barrier: Addr,
    /// Register of the mask of a multicast, or [`NO_REGISTER`].
    multicast: u32,
    reduction: Option<Reduction>,
    /// Of `st.async` and `red.async`: elements and their registers.
    ty: Type,
    values: Vec<Value>,
}

/// Bulk groups of a warp's threads.
#[derive(Debug, Default)]
pub(crate) struct BulkState {
    /// Groups that each lane has committed.
    committed: [u32; LANES],
    /// Groups whose last store is not older, and groups whose sources each lane knows to be read.
    started: [u32; LANES],
    read: [u32; LANES],
    last: Option<Who>,
}

impl BulkState {
    /// Lanes that started stores and have not waited until their sources were read, and where the last one
    /// was started.
    pub(crate) fn unread(&self, mask: u32) -> Option<Who> {
        let unread = lanes(mask).any(|l| self.started[l] > self.read[l]);
        self.last.filter(|_| unread)
    }
}

const NOWHERE: Addr = Addr { base: crate::program::inst::AddrBase::Fixed, offset: 0 };

pub(crate) fn decode(d: &mut Decoder<'_>, i: &Instruction) -> Result<Inst, Reason> {
    use Opcode as O;
    match i.opcode() {
        O::CpAsyncBulkCommitGroup => return Ok(Inst::new(commit)),
        O::CpAsyncBulkWaitGroup => {
            let read = i.has(Modifier::Read);
            let mut inst = Inst::new(if read { wait_read } else { wait });
            inst.imm = d.integer(d.operand(i, 0)?)? as u64;
            return Ok(inst);
        }
        O::CpAsyncBulkPrefetch => return decode_prefetch(d, i),
        O::StAsync | O::RedAsync => return decode_values(d, i),
        _ => {}
    }
    if i.has(Modifier::CpMask) {
        return Err("cp.async.bulk with .cp_mask is not on Hopper".to_owned());
    }
    let reduction = match i.opcode() {
        O::CpReduceAsyncBulk => {
            let operation = Operation::of(i)?;
            let ty = i.ty().ok_or_else(|| "the reduction has no type".to_owned())?;
            let reduction = Reduction { operation, ty };
            if !reduction.is_valid() {
                return Err(format!("there is no {operation:?} of {ty:?}"));
            }
            Some(reduction)
        }
        _ => None,
    };
    let (to, _) = d.address(d.operand(i, 0)?)?;
    let (from, _) = d.address(d.operand(i, 1)?)?;
    let size = d.s32(d.operand(i, 2)?)?;
    let completes = i.has(Modifier::MbarrierCompleteTxBytes);
    let (barrier, _) = match completes {
        true => d.address(d.operand(i, 3)?)?,
        false => (NOWHERE, None),
    };
    let multicast = match i.has(Modifier::MulticastCluster) {
        true => d.s32(d.operand(i, 4)?)?,
        false => NO_REGISTER,
    };
    // Two shared spaces and no global one: between blocks.
    let mut inst = Inst::new(match (completes, i.has(Modifier::Global)) {
        (true, true) => load,
        (true, false) => between_blocks,
        (false, _) => store,
    });
    let op =
        BulkOp { to, from, size, barrier, multicast, reduction, ty: Type::B8, values: Vec::new() };
    inst.detail = Detail::Bulk(Box::new(op));
    Ok(inst)
}

fn decode_prefetch(d: &mut Decoder<'_>, i: &Instruction) -> Result<Inst, Reason> {
    let (from, _) = d.address(d.operand(i, 0)?)?;
    let size = d.s32(d.operand(i, 1)?)?;
    let mut inst = Inst::new(prefetch);
    let op = BulkOp {
        to: NOWHERE,
        from,
        size,
        barrier: NOWHERE,
        multicast: NO_REGISTER,
        reduction: None,
        ty: Type::B8,
        values: Vec::new(),
    };
    inst.detail = Detail::Bulk(Box::new(op));
    Ok(inst)
}

fn decode_values(d: &mut Decoder<'_>, i: &Instruction) -> Result<Inst, Reason> {
    let ty = i.ty().ok_or_else(|| "the store has no type".to_owned())?;
    let (to, _) = d.address(d.operand(i, 0)?)?;
    let operand = d.operand(i, 1)?.clone();
    let mut values = Vec::new();
    for element in d.elements(&operand) {
        values.push(d.source(element, ty)?);
    }
    let (barrier, _) = d.address(d.operand(i, 2)?)?;
    let reduction = match i.opcode() {
        Opcode::RedAsync => Some(Reduction { operation: Operation::of(i)?, ty }),
        _ => None,
    };
    let mut inst = Inst::new(store_values);
    let op = BulkOp {
        to,
        from: NOWHERE,
        size: NO_REGISTER,
        barrier,
        multicast: NO_REGISTER,
        reduction,
        ty,
        values,
    };
    inst.detail = Detail::Bulk(Box::new(op));
    Ok(inst)
}

/// A lane of a warp that starts a copy.
#[derive(Clone, Copy)]
pub(crate) struct Starter {
    pub(crate) lane: usize,
    pub(crate) who: Who,
}

impl Starter {
    pub(crate) fn new(cx: &mut Cx<'_>, warp: &Warp, lane: usize) -> Starter {
        Starter { lane, who: Who::of(warp, cx.cta().id, 1 << lane) }
    }
}

/// Checks a range of shared memory that a copy uses; None if it is not there. A copy to a misaligned place
/// is reported and made all the same, so that only the cause is reported.
pub(crate) fn shared_range(
    cx: &mut Cx<'_>,
    s: Starter,
    warp: &Warp,
    address: u32,
    len: u32,
    align: u32,
) -> Option<SharedRange> {
    let (rank, offset) = window::split_shared(address, cx.rank);
    let blocks = cx.cluster.ctas.len();
    let shown = Some(u64::from(address));
    let Some(cta) = cx.cluster.ctas.get(rank as usize) else {
        cx.cluster.findings.add(FindingKind::OutOfBounds, s.who, None, shown, || {
            format!("shared address {address:#x} names block {rank} of a cluster of {blocks}")
        });
        return None;
    };
    if !offset.is_multiple_of(align) {
        cx.cluster.findings.add(FindingKind::Misaligned, s.who, None, shown, || {
            format!("shared offset {offset:#x} is not a multiple of the {align} bytes that the copy needs")
        });
    }
    if cta.range(offset, len).is_none() {
        let size = cta.shared.len() as u32 - window::SHARED_START;
        cx.cluster.findings.add(FindingKind::OutOfBounds, s.who, None, shown, || {
            format!("the copy uses {len} bytes at shared offset {offset:#x}; the block has {size} bytes from {:#x} on", window::SHARED_START)
        });
        return None;
    }
    mbarrier_state::range_access(cx, warp, 1 << s.lane, rank, offset, len);
    Some(SharedRange { rank, offset, len })
}

/// Checks a range of global memory that a copy uses. False after a finding that makes the copy impossible.
pub(crate) fn global_range(
    cx: &mut Cx<'_>,
    s: Starter,
    warp: &Warp,
    address: u64,
    len: u64,
    kind: Kind,
) -> bool {
    let env = cx.env;
    let Some((at, offset)) = env.find(address, len) else {
        report_outside_global(cx, warp, s.lane, address, len);
        return false;
    };
    let allocation = &env.memory[at];
    if kind != Kind::Read && allocation.read_only {
        cx.cluster.findings.add(FindingKind::ReadOnly, s.who, None, Some(address), || {
            format!("a copy into constant memory at {address:#x}")
        });
        return false;
    }
    if kind != Kind::Write
        && env.options.checks.uninitialised
        && let Some(first) = allocation.first_unwritten(offset, len as usize)
    {
        let first = allocation.base + first as u64;
        cx.cluster.findings.add(FindingKind::UninitialisedGlobal, s.who, None, Some(first), || {
            format!("the copy reads {len} bytes at {address:#x}; nothing wrote {first:#x}")
        });
    }
    true
}

/// The mbarrier on which a copy into shared memory completes, as it is when the copy starts.
#[derive(Clone, Copy)]
pub(crate) struct Target {
    place: Place,
    actor: u32,
    count: u32,
    phase: u32,
}

/// Checks the mbarrier of a copy.
pub(crate) fn target(cx: &mut Cx<'_>, s: Starter, warp: &Warp, place: Place) -> Option<Target> {
    if !mbarrier_state::check_use(cx, warp, s.lane, place, Use::Copy) {
        return None;
    }
    let (actor, count, phase) = mbarrier_state::copy_target(cx, place);
    Some(Target { place, actor, count, phase })
}

/// Tells the race detector what a copy that completes on an mbarrier does to shared memory.
pub(crate) fn record_shared(
    cx: &mut Cx<'_>,
    s: Starter,
    warp: &Warp,
    range: SharedRange,
    target: Target,
    (kind, proxy): (Kind, Proxy),
) {
    let under = Some((target.actor, target.count));
    crate::ops::cluster::remote_access(cx, warp, 1 << s.lane, range.rank, under);
    if cx.env.options.checks.races {
        let access = RangeAccess {
            kind,
            proxy,
            rank: range.rank,
            offset: range.offset,
            len: range.len,
            actor: target.actor,
            count: target.count,
        };
        crate::check::race::range_access(cx, warp, 1 << s.lane, &access);
    }
}

/// The same of global memory.
pub(crate) fn record_global(
    cx: &mut Cx<'_>,
    s: Starter,
    warp: &Warp,
    kind: Kind,
    (address, len): (u64, u64),
    (actor, count): (u32, u32),
) {
    if cx.env.options.checks.races {
        let access = GlobalRange { kind, address, len, actor, count };
        crate::check::global::range_access(cx, warp, 1 << s.lane, &access);
    }
}

impl Target {
    /// Actor and count of the copy.
    pub(crate) fn stamp(self) -> (u32, u32) {
        (self.actor, self.count)
    }

    pub(crate) fn signal(self, bytes: u32) -> Signal {
        Signal::Mbarrier { place: self.place, bytes, phase: self.phase }
    }

    /// Signals bytes that cannot be copied, so that only the cause is reported and not also a deadlock.
    pub(crate) fn give_up(self, cx: &mut Cx<'_>, s: Starter, bytes: u32) {
        let bytes = i64::from(bytes);
        mbarrier_state::complete_tx(cx.cluster, cx.env, self.place, bytes, s.who, Some(self.phase));
    }
}

/// Starts work.
pub(crate) fn start(cx: &mut Cx<'_>, s: Starter, transfer: Transfer, signal: Signal) {
    let at_once = cx.completes_at_once();
    let work = Work { who: s.who, transfer, signal, read: None };
    pending::start(cx.cluster, cx.env, work, at_once);
}

/// Size of a bulk copy: a multiple of 16 (PTX ISA 9.7.9.25.4.1).
fn size_of(cx: &mut Cx<'_>, s: Starter, op: &BulkOp, warp: &Warp) -> Option<u32> {
    let size = warp.r32[op.size as usize][s.lane];
    if !size.is_multiple_of(16) {
        cx.cluster.findings.add(FindingKind::Misaligned, s.who, None, None, || {
            format!("a bulk copy of {size} bytes; the size must be a multiple of 16")
        });
        return None;
    }
    Some(size)
}

/// Reports a misaligned global address. True if it is aligned.
fn is_aligned(cx: &mut Cx<'_>, s: Starter, address: u64) -> bool {
    if !address.is_multiple_of(16) {
        cx.cluster.findings.add(FindingKind::Misaligned, s.who, None, Some(address), || {
            format!("a bulk copy at {address:#x}; the address must be a multiple of 16")
        });
        return false;
    }
    true
}

/// Ranks of a multicast mask; blocks that are not there are reported.
pub(crate) fn ranks(cx: &mut Cx<'_>, s: Starter, mask: u32) -> Vec<u32> {
    let blocks = cx.cluster.ctas.len() as u32;
    let mask = mask & 0xffff;
    if mask >> blocks.min(31) != 0 {
        cx.cluster.findings.add(FindingKind::OutOfBounds, s.who, None, None, || {
            format!("multicast to blocks {mask:#06x} of a cluster of {blocks}")
        });
    }
    (0..blocks.min(16)).filter(|r| mask >> r & 1 != 0).collect()
}

/// The destinations of a load and their mbarriers: one, or with multicast one per block of the mask at the
/// same offsets (PTX ISA 9.7.9.25.4.1).
pub(crate) fn destinations(
    cx: &mut Cx<'_>,
    s: Starter,
    warp: &Warp,
    to: SharedRange,
    barrier: Place,
    multicast: u32,
) -> Vec<(SharedRange, Place)> {
    if multicast == NO_REGISTER {
        if to.rank != barrier.rank && cx.env.options.checks.protocol {
            cx.cluster.findings.add(
                FindingKind::MbarrierMisuse,
                s.who,
                None,
                Some(barrier.address()),
                || {
                    format!("the copy writes to block {} and signals an mbarrier of block {}; both must be in one block (PTX ISA 9.7.9.25.4.1)", to.rank, barrier.rank)
                },
            );
        }
        return vec![(to, barrier)];
    }
    let ranks = ranks(cx, s, warp.r32[multicast as usize][s.lane]);
    ranks.into_iter().map(|rank| (SharedRange { rank, ..to }, Place { rank, ..barrier })).collect()
}

fn load(inst: &Inst, warp: &mut Warp, cx: &mut Cx<'_>) -> Step {
    let Detail::Bulk(op) = &inst.detail else { return Step::Stop };
    let (barriers, good) = locate(cx, warp, StateSpace::SharedCluster, &op.barrier, false);
    for lane in lanes(good) {
        let s = Starter::new(cx, warp, lane);
        let Some(size) = size_of(cx, s, op, warp) else { continue };
        let from = op.from.lane(warp, lane);
        is_aligned(cx, s, from);
        let to = shared_range(cx, s, warp, op.to.lane(warp, lane) as u32, size, 16);
        // What cannot be read comes as zeros.
        let readable = global_range(cx, s, warp, from, u64::from(size), Kind::Read);
        let range = to.unwrap_or(SharedRange { rank: barriers[lane].rank, offset: 0, len: 0 });
        for (to_range, place) in destinations(cx, s, warp, range, barriers[lane], op.multicast) {
            let Some(target) = target(cx, s, warp, place) else { continue };
            if to.is_none() {
                target.give_up(cx, s, size);
                continue;
            }
            record_shared(cx, s, warp, to_range, target, (Kind::Write, Proxy::Async));
            let stamp = target.stamp();
            if readable {
                record_global(cx, s, warp, Kind::Read, (from, u64::from(size)), stamp);
            }
            start(cx, s, Transfer::Load { from, to: to_range }, target.signal(size));
        }
    }
    Step::Next
}

fn between_blocks(inst: &Inst, warp: &mut Warp, cx: &mut Cx<'_>) -> Step {
    let Detail::Bulk(op) = &inst.detail else { return Step::Stop };
    let (barriers, good) = locate(cx, warp, StateSpace::SharedCluster, &op.barrier, false);
    for lane in lanes(good) {
        let s = Starter::new(cx, warp, lane);
        let Some(size) = size_of(cx, s, op, warp) else { continue };
        let from = shared_range(cx, s, warp, op.from.lane(warp, lane) as u32, size, 16);
        let to = shared_range(cx, s, warp, op.to.lane(warp, lane) as u32, size, 16);
        let Some(target) = target(cx, s, warp, barriers[lane]) else { continue };
        let (Some(from), Some(to)) = (from, to) else {
            target.give_up(cx, s, size);
            continue;
        };
        destinations(cx, s, warp, to, barriers[lane], NO_REGISTER);
        let kind = if op.reduction.is_some() { Kind::Atomic } else { Kind::Write };
        record_shared(cx, s, warp, from, target, (Kind::Read, Proxy::Async));
        record_shared(cx, s, warp, to, target, (kind, Proxy::Async));
        let transfer = Transfer::Shared { from, to, reduction: op.reduction };
        start(cx, s, transfer, target.signal(size));
    }
    Step::Next
}

/// What the writes of a thread's open bulk group are recorded under.
pub(crate) fn write_stamp(cx: &Cx<'_>, warp: &Warp, lane: usize) -> (u32, u32) {
    (cx.cluster.race.bulk_write_actor(warp), warp.bulk.committed[lane] + 1)
}

/// Starts a copy of the open bulk group.
pub(crate) fn start_store(cx: &mut Cx<'_>, s: Starter, warp: &mut Warp, transfer: Transfer) {
    let group = warp.bulk.committed[s.lane];
    warp.bulk.started[s.lane] = group + 1;
    warp.bulk.last = Some(s.who);
    let signal = Signal::Group { actor: warp.actor, lane: s.lane as u32, group };
    start(cx, s, transfer, signal);
}

/// Tells the race detector that a store of the open bulk group reads shared memory.
pub(crate) fn record_source(cx: &mut Cx<'_>, s: Starter, warp: &Warp, from: SharedRange) {
    if cx.env.options.checks.races {
        let (actor, count) = (cx.cluster.race.bulk_actor(warp), warp.bulk.committed[s.lane] + 1);
        let access = RangeAccess {
            kind: Kind::Read,
            proxy: Proxy::Async,
            rank: from.rank,
            offset: from.offset,
            len: from.len,
            actor,
            count,
        };
        crate::check::race::range_access(cx, warp, 1 << s.lane, &access);
    }
}

/// Whether the source of a store is in the own block.
pub(crate) fn is_own(cx: &mut Cx<'_>, s: Starter, from: SharedRange) -> bool {
    if from.rank != cx.rank {
        cx.cluster.findings.add(FindingKind::OutOfBounds, s.who, None, None, || {
            format!("the source is in the shared memory of block {}; it must be in the own block's (.shared::cta)", from.rank)
        });
    }
    from.rank == cx.rank
}

fn store(inst: &Inst, warp: &mut Warp, cx: &mut Cx<'_>) -> Step {
    let Detail::Bulk(op) = &inst.detail else { return Step::Stop };
    for lane in lanes(warp.mask) {
        let s = Starter::new(cx, warp, lane);
        let Some(size) = size_of(cx, s, op, warp) else { continue };
        let to = op.to.lane(warp, lane);
        if !is_aligned(cx, s, to) {
            continue;
        }
        let from = shared_range(cx, s, warp, op.from.lane(warp, lane) as u32, size, 16);
        let Some(from) = from.filter(|&f| is_own(cx, s, f)) else { continue };
        let kind = if op.reduction.is_some() { Kind::Atomic } else { Kind::Write };
        if !global_range(cx, s, warp, to, u64::from(size), kind) {
            continue;
        }
        record_source(cx, s, warp, from);
        let stamp = write_stamp(cx, warp, lane);
        record_global(cx, s, warp, kind, (to, u64::from(size)), stamp);
        start_store(cx, s, warp, Transfer::Store { from, to, reduction: op.reduction });
    }
    Step::Next
}

fn prefetch(inst: &Inst, warp: &mut Warp, cx: &mut Cx<'_>) -> Step {
    let Detail::Bulk(op) = &inst.detail else { return Step::Stop };
    for lane in lanes(warp.mask) {
        let s = Starter::new(cx, warp, lane);
        let Some(size) = size_of(cx, s, op, warp) else { continue };
        let from = op.from.lane(warp, lane);
        if is_aligned(cx, s, from) && cx.env.find(from, u64::from(size)).is_none() {
            report_outside_global(cx, warp, lane, from, u64::from(size));
        }
    }
    Step::Next
}

fn commit(_: &Inst, warp: &mut Warp, _: &mut Cx<'_>) -> Step {
    for lane in lanes(warp.mask) {
        warp.bulk.committed[lane] += 1;
    }
    Step::Next
}

fn wait(inst: &Inst, warp: &mut Warp, cx: &mut Cx<'_>) -> Step {
    wait_groups(inst, warp, cx, false)
}

fn wait_read(inst: &Inst, warp: &mut Warp, cx: &mut Cx<'_>) -> Step {
    wait_groups(inst, warp, cx, true)
}

/// Waits until at most `inst.imm` of the newest groups are under way: completes the others now, which is
/// the latest moment.
fn wait_groups(inst: &Inst, warp: &mut Warp, cx: &mut Cx<'_>, read: bool) -> Step {
    let left = u32::try_from(inst.imm).unwrap_or(u32::MAX);
    let (reads, writes) = {
        let race = &cx.cluster.race;
        (race.bulk_actor(warp), race.bulk_write_actor(warp))
    };
    for lane in lanes(warp.mask) {
        let done = warp.bulk.committed[lane].saturating_sub(left);
        if done == 0 {
            continue;
        }
        warp.bulk.read[lane] = warp.bulk.read[lane].max(done);
        let thread = (warp.actor, lane as u32);
        pending::complete_groups(cx.cluster, cx.env, thread, done, read);
        warp.clock.see(reads, done);
        if !read {
            warp.clock.see(writes, done);
        }
    }
    Step::Next
}

fn store_values(inst: &Inst, warp: &mut Warp, cx: &mut Cx<'_>) -> Step {
    let Detail::Bulk(op) = &inst.detail else { return Step::Stop };
    let size = op.ty.bytes();
    let len = size * op.values.len() as u32;
    let (barriers, good) = locate(cx, warp, StateSpace::SharedCluster, &op.barrier, false);
    let to = resolve(warp, StateSpace::SharedCluster, &op.to);
    for lane in lanes(good) {
        let s = Starter::new(cx, warp, lane);
        let range = shared_range(cx, s, warp, to.addresses[lane] as u32, len, len);
        let Some(target) = target(cx, s, warp, barriers[lane]) else { continue };
        let Some(range) = range else {
            target.give_up(cx, s, len);
            continue;
        };
        destinations(cx, s, warp, range, barriers[lane], NO_REGISTER);
        let mut bytes = [0; 32];
        for (k, &value) in op.values.iter().enumerate() {
            let at = k * size as usize;
            let bits = get_value(warp, value, lane).to_le_bytes();
            bytes[at..at + size as usize].copy_from_slice(&bits[..size as usize]);
        }
        let kind = if op.reduction.is_some() { Kind::Atomic } else { Kind::Write };
        record_shared(cx, s, warp, range, target, (kind, Proxy::Generic));
        let transfer = Transfer::Values { bytes, to: range, reduction: op.reduction };
        start(cx, s, transfer, target.signal(len));
    }
    Step::Next
}

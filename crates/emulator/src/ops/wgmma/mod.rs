//! Warpgroup matrix products (PTX ISA 9.7.15).
//!
//! Each warp computes the 16 rows of the tile that its registers hold. A wgmma reads shared memory when it
//! is computed: at `wgmma.wait_group` by default, as late as it may, or when it is issued; never before an
//! earlier one of its warp. Fragments of A in registers are taken when it is issued: that they are left alone
//! until it is complete is checked ([`watch`]).

mod operand;
mod product;
pub(crate) mod watch;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use zeroforge_ptx::{Instruction, Modifier, Opcode, Operand, Type};

use crate::check::{Kind, Proxy, race};
use crate::machine::context::{Cx, Who};
use crate::machine::warp::{ALL, Lanes32, Wait, Warp};
use crate::ops::half::{f16_of_f32, f32_of_f16};
use crate::ops::matrix::whole_warp;
use crate::program::decode::{Decoder, Reason};
use crate::program::inst::{Detail, Inst, Step};
use crate::report::FindingKind;
use operand::{Element, Footprint, Layout, Unit, Units};
use product::Accumulator;

/// What accumulators hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sum {
    F32,
    /// Two in a register.
    F16,
    S32 {
        saturate: bool,
    },
}

/// Where A is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// In shared memory; the register with its descriptor.
    Shared(u32),
    Registers([u32; 4]),
}

/// Operands of a `wgmma.mma_async`.
#[derive(Debug)]
pub(crate) struct WgmmaOp {
    n: u32,
    sum: Sum,
    a_element: Element,
    b_element: Element,
    d: Vec<u32>,
    a: Source,
    b: u32,
    /// `scale-d`: the predicate and whether it is negated.
    scale: (u32, bool),
    negate_a: bool,
    negate_b: bool,
    a_mn_major: bool,
    b_mn_major: bool,
    /// Watched registers.
    d_watched: Vec<u32>,
    a_watched: Vec<u32>,
}

/// A product that was started and is not computed.
#[derive(Debug)]
struct Pending {
    pc: u32,
    a: PendingA,
    /// Units of B in shared memory.
    b: Arc<Units>,
    /// Whether D is added.
    accumulate: bool,
    group: u64,
    /// How many the warp executed before it.
    number: u64,
}

#[derive(Debug)]
enum PendingA {
    Units(Arc<Units>),
    Registers(Box<[Lanes32; 4]>),
}

/// Products that a warp started and has not waited for.
#[derive(Debug, Default)]
pub(crate) struct WgmmaState {
    queue: VecDeque<Pending>,
    /// Groups committed.
    committed: u64,
    /// Wgmmas executed, to compare with the other warps of the warpgroup.
    executed: u64,
    registers: watch::Registers,
    buffers: Buffers,
    /// What the group that is open reads, and the place of its first wgmma.
    reads: Footprint,
    first_pc: Option<u32>,
}

/// What the warps of a warpgroup must agree about, and operands that they share.
#[derive(Debug, Default)]
pub(crate) struct WarpgroupState {
    /// Wgmmas that not all four warps have executed; the first has number `first`.
    sequence: VecDeque<Shared>,
    first: u64,
    /// Per warp, the group up to which it came to wait.
    waited: [u64; 4],
    units: HashMap<UnitsKey, Arc<Units>>,
    cache: Vec<Spread>,
    /// The place in `cache` that is given up next.
    oldest: usize,
}

/// A wgmma as the first warp executed it.
#[derive(Debug)]
struct Shared {
    pc: u32,
    warp: u32,
    descriptors: [u64; 2],
    accumulate: bool,
    warps: u32,
}

/// B spread over lanes, with the bytes that it was made from.
#[derive(Debug, Default)]
struct Spread {
    first_unit: u32,
    key: (u32, Option<Element>, bool, bool),
    raw: Vec<Unit>,
    lanes: Vec<[f32; 8]>,
}

/// Descriptor, order, elements in a unit, first row, rows.
type UnitsKey = (u64, bool, u32, u32, u32);

/// Descriptors whose units a block remembers.
const REMEMBERED: usize = 1024;

/// Operands of B that a block keeps spread: the k-steps of a few tiles.
const CACHED: usize = 32;

pub(crate) fn decode(d: &mut Decoder<'_>, i: &Instruction) -> Result<Inst, Reason> {
    match i.opcode() {
        Opcode::WgmmaFence => Ok(Inst::new(fence)),
        Opcode::WgmmaCommitGroup => Ok(Inst::new(commit)),
        Opcode::WgmmaWaitGroup => {
            let mut inst = Inst::new(wait);
            inst.imm = u64::try_from(d.integer(d.operand(i, 0)?)?)
                .map_err(|_| "the number of groups is negative".to_owned())?;
            Ok(inst)
        }
        _ => decode_product(d, i),
    }
}

fn decode_product(d: &mut Decoder<'_>, i: &Instruction) -> Result<Inst, Reason> {
    let n = i.modifiers.iter().find_map(|m| match m {
        Modifier::Shape { n, .. } => Some(u32::from(*n)),
        _ => None,
    });
    let n = n.ok_or_else(|| "a wgmma without a shape".to_owned())?;
    let types: Vec<Type> = i.types().collect();
    let &[sum, a_type, b_type] = &types[..] else {
        return Err("a wgmma needs three types".to_owned());
    };
    let sum = match sum {
        Type::F32 => Sum::F32,
        Type::F16 => Sum::F16,
        Type::S32 => Sum::S32 { saturate: i.has(Modifier::Satfinite) },
        other => return Err(format!("accumulators of {}", other.text())),
    };
    let element = |ty| match ty {
        Type::F16 => Ok(Element::F16),
        Type::Bf16 => Ok(Element::Bf16),
        Type::Tf32 => Ok(Element::Tf32),
        Type::E4m3 => Ok(Element::E4m3),
        Type::E5m2 => Ok(Element::E5m2),
        Type::S8 => Ok(Element::S8),
        Type::U8 => Ok(Element::U8),
        other => Err(format!("wgmma of {} is not emulated", other.text())),
    };
    let (a_element, b_element) = (element(a_type)?, element(b_type)?);
    let mut registers = Vec::new();
    let operand = d.operand(i, 0)?.clone();
    for e in d.elements(&operand) {
        registers.push(d.d32(e)?);
    }
    let per_register = if sum == Sum::F16 { 4 } else { 2 };
    if registers.len() as u32 != n / per_register {
        return Err(format!("{} accumulator registers for N = {n}", registers.len()));
    }
    let d_watched = d.watched(&operand);
    let a_operand = d.operand(i, 1)?.clone();
    let a = match &a_operand {
        Operand::Vector(list) if list.len() == 4 => {
            let mut a = [0; 4];
            for (a, e) in a.iter_mut().zip(list) {
                *a = d.s32(e)?;
            }
            Source::Registers(a)
        }
        Operand::Vector(_) => return Err("A in registers needs four of them".to_owned()),
        other => Source::Shared(d.s64(other)?),
    };
    let b = d.s64(&d.operand(i, 2)?.clone())?;
    let scale = d.predicate(d.operand(i, 3)?)?;
    let mut rest = Vec::new();
    for operand in &i.operands[4..] {
        rest.push(d.integer(operand)?);
    }
    let scale_of = |at: usize| match rest.get(at).copied().unwrap_or(1) {
        1 => Ok(false),
        -1 => Ok(true),
        other => Err(format!("an operand's scale is 1 or -1, not {other}")),
    };
    let (negate_a, negate_b) = (scale_of(0)?, scale_of(1)?);
    // With A in registers, only B's order is given.
    let orders = rest.get(2..).unwrap_or_default();
    let (a_mn_major, b_mn_major) = match (a, orders) {
        (_, []) => (false, false),
        (Source::Shared(_), [a, b]) => (*a == 1, *b == 1),
        (Source::Registers(_), [b]) => (false, *b == 1),
        _ => return Err("transposes are given for the operands in shared memory".to_owned()),
    };
    let half = matches!(a_element, Element::F16 | Element::Bf16);
    if (a_mn_major || b_mn_major) && !half {
        return Err("only operands of 16-bit types may be MN-major".to_owned());
    }
    let op = WgmmaOp {
        n,
        sum,
        a_element,
        b_element,
        d: registers,
        a,
        b,
        scale,
        negate_a,
        negate_b,
        a_mn_major,
        b_mn_major,
        d_watched,
        a_watched: d.watched(&a_operand),
    };
    let mut inst = Inst::new(issue);
    inst.detail = Detail::Wgmma(Box::new(op));
    Ok(inst)
}

fn fence(_: &Inst, warp: &mut Warp, cx: &mut Cx<'_>) -> Step {
    if let Some(step) = whole_warp(warp, cx, "wgmma.fence") {
        return step;
    }
    warp.wgmma.registers.fence();
    Step::Next
}

fn commit(_: &Inst, warp: &mut Warp, cx: &mut Cx<'_>) -> Step {
    if let Some(step) = whole_warp(warp, cx, "wgmma.commit_group") {
        return step;
    }
    warp.wgmma.committed += 1;
    record_reads(warp, cx);
    Step::Next
}

/// Tells the race detector what the wgmmas of the group that was just committed read. They were issued with the
/// same knowledge of others: nothing between a wgmma and its commit is ordered by either.
fn record_reads(warp: &mut Warp, cx: &mut Cx<'_>) {
    let Some(first) = warp.wgmma.first_pc.take() else { return };
    let (rank, actor) = (cx.rank, cx.cluster.race.wgmma_actor(warp));
    let count = warp.wgmma.committed as u32;
    let mut reads = std::mem::take(&mut warp.wgmma.reads);
    // Findings are about the wgmma.
    let pc = std::mem::replace(&mut warp.pc, first);
    reads.take_ranges(|offset, len| {
        let (kind, proxy) = (Kind::Read, Proxy::Async);
        let access = race::RangeAccess { kind, proxy, rank, offset, len, actor, count };
        race::range_access(cx, warp, warp.mask, &access);
    });
    warp.pc = pc;
    warp.wgmma.reads = reads;
}

fn wait(inst: &Inst, warp: &mut Warp, cx: &mut Cx<'_>) -> Step {
    if let Some(step) = whole_warp(warp, cx, "wgmma.wait_group") {
        return step;
    }
    let group = warp.wgmma.committed.saturating_sub(inst.imm);
    while warp.wgmma.queue.front().is_some_and(|p| p.group <= group) {
        compute_next(warp, cx);
    }
    // A wgmma is one operation of four warps: it is complete for none of them before all have started it and
    // its operands are read. Kernels rely on it: one thread of the warpgroup frees the slot of a pipeline.
    let threads = cx.env.config.block.iter().product::<u32>();
    // Of a warpgroup that is not whole, which was reported, the others never come.
    let whole = (warp.index / 4 + 1) * 128 <= threads;
    let state = &mut cx.cta().warpgroups[(warp.index / 4) as usize];
    let own = &mut state.waited[(warp.index % 4) as usize];
    let first = *own < group;
    *own = group.max(*own);
    let all = state.all_waited(group);
    cx.cluster.events += u64::from(first);
    if whole && !all {
        warp.wait = Some(Wait::Warpgroup { index: warp.index / 4, group });
        return Step::Wait;
    }
    warp.wgmma.registers.land(group);
    if group > 0 {
        warp.clock.see(cx.cluster.race.wgmma_actor(warp), group as u32);
    }
    Step::Next
}

fn issue(inst: &Inst, warp: &mut Warp, cx: &mut Cx<'_>) -> Step {
    if let Some(step) = whole_warp(warp, cx, "wgmma.mma_async") {
        return step;
    }
    let Detail::Wgmma(op) = &inst.detail else { return Step::Stop };
    let group = warp.wgmma.committed + 1;
    let registers = watch::Use { d: &op.d_watched, a: &op.a_watched, shape: op.shape(), group };
    watch::take(warp, cx, &registers);

    let a_descriptor = match op.a {
        Source::Shared(r) => Some(uniform(warp, cx, r, "A")),
        Source::Registers(_) => None,
    };
    let b_descriptor = uniform(warp, cx, op.b, "B");
    let (p, negated) = op.scale;
    let scale = if negated { !warp.p[p as usize] } else { warp.p[p as usize] } & warp.mask;
    if scale != 0 && scale != warp.mask && cx.env.options.checks.protocol {
        cx.find(warp, warp.mask, FindingKind::WgmmaMismatch, None, || {
            "scale-d differs between the lanes of the warp".to_owned()
        });
    }
    let accumulate = scale != 0;
    agree(warp, cx, [a_descriptor.unwrap_or(0), b_descriptor], accumulate);
    if warp.index.is_multiple_of(4) {
        cx.cluster.wgmmas += 1;
    }

    let first_row = 16 * (warp.index % 4);
    let b = Matrix {
        name: "B",
        descriptor: b_descriptor,
        mn_major: op.b_mn_major,
        element: op.b_element,
        rows: op.n,
        part: 0..op.n,
    };
    let b = units(warp, cx, &b);
    let a = match (op.a, a_descriptor) {
        (Source::Registers(a), _) => {
            Some(PendingA::Registers(Box::new(a.map(|r| warp.r32[r as usize]))))
        }
        (Source::Shared(_), descriptor) => {
            let a = Matrix {
                name: "A",
                descriptor: descriptor.unwrap_or(0),
                mn_major: op.a_mn_major,
                element: op.a_element,
                rows: 64,
                part: first_row..first_row + 16,
            };
            units(warp, cx, &a).map(PendingA::Units)
        }
    };
    // One whose operands cannot be read was reported; it leaves its accumulator as it is.
    if let (Some(a), Some(b)) = (a, b) {
        let number = warp.wgmma.executed - 1;
        let pending = Pending { pc: warp.pc, a, b, accumulate, group, number };
        warp.wgmma.queue.push_back(pending);
        if cx.completes_at_once() {
            while !warp.wgmma.queue.is_empty() {
                compute_next(warp, cx);
            }
        }
    }
    Step::Next
}

impl WgmmaOp {
    /// A number that differs between shapes whose accumulators cannot be chained.
    fn shape(&self) -> u32 {
        self.n << 2
            | match self.sum {
                Sum::F32 => 0,
                Sum::F16 => 1,
                Sum::S32 { .. } => 2,
            }
    }
}

/// The descriptor that all lanes must have.
fn uniform(warp: &Warp, cx: &mut Cx<'_>, r: u32, name: &str) -> u64 {
    let lanes = &warp.r64[r as usize];
    let first = lanes[(warp.mask.trailing_zeros() % 32) as usize];
    let mut other = 0;
    for lane in crate::check::lanes(warp.mask) {
        other |= u32::from(lanes[lane] != first) << lane;
    }
    if other != 0 && cx.env.options.checks.protocol {
        cx.find(warp, other, FindingKind::WgmmaMismatch, None, || {
            format!("the descriptor of {name} differs between the lanes of the warp")
        });
    }
    first
}

/// All four warps of a warpgroup must execute the same wgmma (PTX ISA 9.7.15.1, 9.7.15.5.2).
fn agree(warp: &mut Warp, cx: &mut Cx<'_>, descriptors: [u64; 2], accumulate: bool) {
    let number = warp.wgmma.executed;
    warp.wgmma.executed += 1;
    let cta_id = cx.cta().id;
    let who = Who::of(warp, cta_id, warp.mask);
    let threads = cx.env.config.block.iter().product::<u32>();
    let group = warp.index / 4;
    let protocol = cx.env.options.checks.protocol;
    if (group + 1) * 128 > threads || warp.live != ALL {
        if protocol {
            cx.find(warp, warp.mask, FindingKind::WgmmaMismatch, None, || {
                format!(
                    "a wgmma needs the 128 threads of four warps, the first a multiple of four; the block has {threads} threads and {} lanes of the warp live",
                    warp.live.count_ones()
                )
            });
        }
        return;
    }
    let cta = &mut cx.cluster.ctas[cx.rank as usize];
    let state = &mut cta.warpgroups[group as usize];
    let at = (number - state.first) as usize;
    let bit = 1 << (warp.index % 4);
    let Some(first) = state.sequence.get_mut(at) else {
        let shared = Shared { pc: warp.pc, warp: warp.index, descriptors, accumulate, warps: bit };
        state.sequence.push_back(shared);
        return;
    };
    first.warps |= bit;
    let other = Who { cta: cta_id, warp: first.warp, lanes: ALL, pc: first.pc };
    let difference = if first.pc != warp.pc {
        Some("another instruction".to_owned())
    } else if first.descriptors != descriptors {
        let [a, b] = first.descriptors;
        Some(format!(
            "descriptors {a:#x} and {b:#x}, here they are {:#x} and {:#x}",
            descriptors[0], descriptors[1]
        ))
    } else if first.accumulate != accumulate {
        Some(format!("scale-d {}, here it is {accumulate}", first.accumulate))
    } else {
        None
    };
    if first.warps == 15 && at == 0 {
        state.sequence.pop_front();
        state.first += 1;
    }
    if let Some(difference) = difference.filter(|_| protocol) {
        cx.cluster.findings.add(FindingKind::WgmmaMismatch, who, Some(other), None, || {
            format!(
                "wgmma {} of the warpgroup is not the same in all four warps: another warp has {difference}",
                number + 1
            )
        });
    }
}

/// An operand in shared memory.
struct Matrix {
    name: &'static str,
    descriptor: u64,
    mn_major: bool,
    element: Element,
    /// Rows of the whole, and those that the warp reads.
    rows: u32,
    part: std::ops::Range<u32>,
}

/// Where the units of an operand are, if all are in shared memory.
fn units(warp: &mut Warp, cx: &mut Cx<'_>, m: &Matrix) -> Option<Arc<Units>> {
    let rows = m.part.end - m.part.start;
    let key = (m.descriptor, m.mn_major, m.element.per_unit(), m.part.start, rows);
    let known = cx.cta().warpgroups.first().and_then(|w| w.units.get(&key)).cloned();
    let units = match known {
        Some(units) => units,
        None => {
            let units = Arc::new(Units::new(find_units(warp, cx, m)?));
            if let Some(shared) = cx.cta().warpgroups.first_mut() {
                if shared.units.len() >= REMEMBERED {
                    shared.units.clear();
                }
                shared.units.insert(key, Arc::clone(&units));
            }
            units
        }
    };
    let checks = cx.env.options.checks;
    if checks.races || checks.uninitialised {
        warp.wgmma.reads.add(&units);
        warp.wgmma.first_pc.get_or_insert(warp.pc);
    }
    Some(units)
}

/// Takes a descriptor apart; reports one that is wrong.
fn find_units(warp: &Warp, cx: &mut Cx<'_>, m: &Matrix) -> Option<Vec<u32>> {
    let layout = match Layout::new(m.descriptor, m.mn_major, m.element, m.rows) {
        Ok(layout) => layout,
        Err(reason) => {
            cx.find(warp, warp.mask, FindingKind::BadDescriptor, Some(m.descriptor), || {
                format!("the descriptor {:#x} of {}: {reason}", m.descriptor, m.name)
            });
            return None;
        }
    };
    let mut units = Vec::new();
    layout.units(m.part.start, m.part.end - m.part.start, &mut units);
    let (low, high) = units.iter().fold((u32::MAX, 0), |(l, h), &u| (l.min(u), h.max(u)));
    if cx.cta().range(low, 16).is_none() || cx.cta().range(high, 16).is_none() {
        let start = crate::memory::window::SHARED_START;
        let size = cx.cta().shared.len() as u32 - start;
        cx.find(warp, warp.mask, FindingKind::OutOfBounds, Some(u64::from(high)), || {
            format!(
                "{} by descriptor {:#x} is read from shared offset {low:#x} to {:#x}; the block has {size} bytes from {start:#x} on",
                m.name,
                m.descriptor,
                high + 16
            )
        });
        return None;
    }
    Some(units)
}

/// Buffers for operands, kept between products.
#[derive(Debug, Default)]
struct Buffers {
    raw: Vec<Unit>,
    a: Vec<[f32; 32]>,
}

/// Computes the oldest product.
fn compute_next(warp: &mut Warp, cx: &mut Cx<'_>) {
    let Some(pending) = warp.wgmma.queue.pop_front() else { return };
    let kernel = cx.env.kernel;
    let Detail::Wgmma(op) = &kernel.code[pending.pc as usize].detail else { return };
    let mut buffers = std::mem::take(&mut warp.wgmma.buffers);
    let cta = &mut cx.cluster.ctas[cx.rank as usize];
    match &pending.a {
        PendingA::Units(units) => {
            operand::gather(&cta.shared, &units.offsets, &mut buffers.raw);
            let (raw, out) = (&buffers.raw, &mut buffers.a);
            operand::spread_a(raw, op.a_element, op.a_mn_major, op.negate_a, out);
        }
        PendingA::Registers(a) => {
            operand::spread_registers(a, op.a_element, op.negate_a, &mut buffers.a);
        }
    }
    operand::gather(&cta.shared, &pending.b.offsets, &mut buffers.raw);
    // Warpgroups of a block often share B, so they share what was made of it.
    let Some(shared) = cta.warpgroups.first_mut() else { return };
    let key = (op.n, Some(op.b_element), op.b_mn_major, op.negate_b);
    let b = shared.spread(pending.b.offsets[0], key, &buffers.raw);
    let a = &buffers.a[..];
    match op.sum {
        Sum::F32 => {
            if !pending.accumulate {
                clear(&mut warp.r32, &op.d);
            }
            let mut d = Accumulator { registers: &mut warp.r32, d: &op.d };
            product::multiply(&mut d, a, b);
        }
        Sum::S32 { saturate } => {
            if !pending.accumulate {
                clear(&mut warp.r32, &op.d);
            }
            let mut d = Accumulator { registers: &mut warp.r32, d: &op.d };
            product::multiply_integers(&mut d, a, b, saturate);
        }
        Sum::F16 => {
            // In f32, and rounded at the end.
            let mut wide = vec![[0u32; 32]; 2 * op.d.len()];
            let places: Vec<u32> = (0..wide.len() as u32).collect();
            if pending.accumulate {
                for (pair, &d) in wide.chunks_exact_mut(2).zip(&op.d) {
                    let bits = &warp.r32[d as usize];
                    pair[0] = bits.map(|h| f32_of_f16(h & 0xffff).to_bits());
                    pair[1] = bits.map(|h| f32_of_f16(h >> 16).to_bits());
                }
            }
            let mut d = Accumulator { registers: &mut wide, d: &places };
            product::multiply(&mut d, a, b);
            for (pair, &d) in wide.chunks_exact(2).zip(&op.d) {
                warp.r32[d as usize] = std::array::from_fn(|lane| {
                    let half = |x: u32| f16_of_f32(f32::from_bits(x));
                    half(pair[1][lane]) << 16 | half(pair[0][lane])
                });
            }
        }
    }
    warp.wgmma.buffers = buffers;
    for [from, to] in warp.wgmma.registers.copies(&op.d_watched, pending.number) {
        warp.r32[to as usize] = warp.r32[from as usize];
    }
}

fn clear(registers: &mut [Lanes32], d: &[u32]) {
    for &d in d {
        registers[d as usize] = [0; 32];
    }
}

impl WarpgroupState {
    /// Whether all warps came to wait for a group.
    pub(crate) fn all_waited(&self, group: u64) -> bool {
        self.waited.iter().all(|&w| w >= group)
    }

    /// B spread over lanes; made anew unless the same bytes were there before.
    fn spread(
        &mut self,
        first_unit: u32,
        key: (u32, Option<Element>, bool, bool),
        raw: &[Unit],
    ) -> &[[f32; 8]] {
        let found = self.cache.iter().position(|s| s.first_unit == first_unit && s.key == key);
        let at = match found {
            Some(at) => at,
            None if self.cache.len() < CACHED => {
                self.cache.push(Spread::default());
                self.cache.len() - 1
            }
            None => {
                self.oldest = (self.oldest + 1) % CACHED;
                self.oldest
            }
        };
        let entry = &mut self.cache[at];
        let (n, element, mn_major, negate) = key;
        if let Some(element) = element.filter(|_| found.is_none() || entry.raw != raw) {
            operand::spread_b(raw, element, mn_major, negate, n as usize, &mut entry.lanes);
            entry.raw.clear();
            entry.raw.extend_from_slice(raw);
            (entry.first_unit, entry.key) = (first_unit, key);
        }
        &entry.lanes
    }
}

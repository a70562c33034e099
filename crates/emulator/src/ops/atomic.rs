//! Atomics and reductions (PTX ISA 9.7.13.5, 9.7.13.6).
//!
//! Lanes of one instruction take their turns from the lowest up. In global memory every element is replaced
//! in one step, whatever other host threads do.

use half::{bf16, f16};
use zeroforge_ptx::{Instruction, Modifier, Opcode, StateSpace, Type};

use crate::check::{Kind, WarpAccess, global_access, lanes, shared_access};
use crate::machine::context::Cx;
use crate::machine::warp::{LANES, Warp};
use crate::memory::window;
use crate::ops::memory::{
    drop_misaligned, drop_outside_shared, get_value, report_outside_global, resolve, set_value,
};
use crate::program::decode::{Decoder, Reason, space_of};
use crate::program::inst::{Addr, Detail, Inst, Step, Value};
use crate::report::FindingKind;

/// The new contents of an element from the old and the operands.
type Apply = fn(old: u64, b: u64, c: u64) -> u64;

/// Operands.
#[derive(Debug)]
pub(crate) struct AtomicOp {
    space: StateSpace,
    address: Addr,
    /// Bytes of an element.
    size: u32,
    /// In global memory, where f32 sums flush subnormals, and in shared memory, where they do not.
    global: Apply,
    shared: Apply,
    /// Whether what was there before matters: not for an exchange whose result nobody reads.
    reads: bool,
    /// Registers of the elements: results, operands, and the value that `cas` stores.
    results: Vec<Value>,
    b: Vec<Value>,
    c: Option<Value>,
    acquire: bool,
    release: bool,
}

pub(crate) fn decode(d: &mut Decoder<'_>, i: &Instruction) -> Result<Inst, Reason> {
    let ty = i.ty().ok_or_else(|| "an atomic without a type".to_owned())?;
    if ty == Type::B128 {
        return Err("128-bit atomics are not emulated".to_owned());
    }
    let returns = i.opcode() == Opcode::Atom;
    let first = usize::from(returns);
    let (address, symbol_space) = d.address(d.operand(i, first)?)?;
    let mut space = space_of(i);
    if space == StateSpace::Generic {
        space = symbol_space.unwrap_or(space);
    }
    if !matches!(
        space,
        StateSpace::Generic | StateSpace::Global | StateSpace::Shared | StateSpace::SharedCluster
    ) {
        return Err("atomics work on global and shared memory only (PTX ISA 9.7.13.5)".to_owned());
    }
    let operand = d.operand(i, first + 1)?.clone();
    let mut b = Vec::new();
    for element in d.elements(&operand) {
        b.push(d.source(element, ty)?);
    }
    let mut results = vec![Value::Sink; b.len()];
    if returns {
        let operand = d.operand(i, 0)?.clone();
        let elements = d.elements(&operand);
        // One `_` may stand for a whole vector.
        if elements.len() == b.len() {
            results = elements.iter().map(|e| d.destination(e)).collect::<Result<_, _>>()?;
        } else if !matches!(elements, [zeroforge_ptx::Operand::Sink]) {
            return Err("result and operand have different numbers of elements".to_owned());
        }
    }
    let c = match i.has(Modifier::Cas) {
        true => Some(d.source(d.operand(i, first + 2)?, ty)?),
        false => None,
    };
    let (global, shared) = apply(i, ty)?;
    let reads = !i.has(Modifier::Exch) || results.iter().any(|r| *r != Value::Sink);
    let both = i.has(Modifier::AcqRel);
    let op = AtomicOp {
        space,
        address,
        size: ty.bytes(),
        global,
        shared,
        reads,
        results,
        b,
        c,
        acquire: both || i.has(Modifier::Acquire),
        release: both || i.has(Modifier::Release),
    };
    let mut inst = Inst::new(execute);
    inst.detail = Detail::Atomic(Box::new(op));
    Ok(inst)
}

/// The function of an operation on a type, for global and for shared memory.
fn apply(i: &Instruction, ty: Type) -> Result<(Apply, Apply), Reason> {
    let operations = [
        Modifier::Add,
        Modifier::Min,
        Modifier::Max,
        Modifier::Inc,
        Modifier::Dec,
        Modifier::And,
        Modifier::Or,
        Modifier::Xor,
        Modifier::Exch,
        Modifier::Cas,
    ];
    let op = operations.into_iter().find(|&m| i.has(m));
    let op = op.ok_or_else(|| "no operation is named".to_owned())?;
    let wide = ty.bits() == 64;
    let apply: Apply = match (op, ty) {
        (Modifier::Add, Type::F32) => return Ok((add_f32_flushed, add_f32)),
        (Modifier::Add, Type::F64) => |old, b, _| {
            let sum = f64::from_bits(old) + f64::from_bits(b);
            if sum.is_nan() { 0x7fff_ffff_ffff_ffff } else { sum.to_bits() }
        },
        (Modifier::Add, Type::F16) => |old, b, _| half_op(old, b, add_f16),
        (Modifier::Add, Type::Bf16) => |old, b, _| half_op(old, b, add_bf16),
        (Modifier::Add, Type::F16x2) => |old, b, _| pair_op(old, b, add_f16),
        (Modifier::Add, Type::Bf16x2) => |old, b, _| pair_op(old, b, add_bf16),
        (Modifier::Min, Type::F16) => |old, b, _| half_op(old, b, extreme_f16::<false>),
        (Modifier::Max, Type::F16) => |old, b, _| half_op(old, b, extreme_f16::<true>),
        (Modifier::Min, Type::Bf16) => |old, b, _| half_op(old, b, extreme_bf16::<false>),
        (Modifier::Max, Type::Bf16) => |old, b, _| half_op(old, b, extreme_bf16::<true>),
        (Modifier::Min, Type::F16x2) => |old, b, _| pair_op(old, b, extreme_f16::<false>),
        (Modifier::Max, Type::F16x2) => |old, b, _| pair_op(old, b, extreme_f16::<true>),
        (Modifier::Min, Type::Bf16x2) => |old, b, _| pair_op(old, b, extreme_bf16::<false>),
        (Modifier::Max, Type::Bf16x2) => |old, b, _| pair_op(old, b, extreme_bf16::<true>),
        (_, ty) if ty.is_float() => {
            return Err(format!("{} does not exist for type .{}", op.text(), ty.text()));
        }
        (Modifier::Add, _) if wide => |old, b, _| old.wrapping_add(b),
        (Modifier::Add, _) => |old, b, _| u64::from((old as u32).wrapping_add(b as u32)),
        (Modifier::Min, Type::S32) => |old, b, _| (old as i32).min(b as i32) as u32 as u64,
        (Modifier::Max, Type::S32) => |old, b, _| (old as i32).max(b as i32) as u32 as u64,
        (Modifier::Min, Type::S64) => |old, b, _| (old as i64).min(b as i64) as u64,
        (Modifier::Max, Type::S64) => |old, b, _| (old as i64).max(b as i64) as u64,
        (Modifier::Min, _) => |old, b, _| old.min(b),
        (Modifier::Max, _) => |old, b, _| old.max(b),
        (Modifier::Inc, _) => |old, b, _| if old >= b { 0 } else { old + 1 },
        (Modifier::Dec, _) => |old, b, _| if old == 0 || old > b { b } else { old - 1 },
        (Modifier::And, _) => |old, b, _| old & b,
        (Modifier::Or, _) => |old, b, _| old | b,
        (Modifier::Xor, _) => |old, b, _| old ^ b,
        (Modifier::Exch, _) => |_, b, _| b,
        _ => |old, b, c| if old == b { c } else { old },
    };
    Ok((apply, apply))
}

fn canonical(sum: f32) -> u64 {
    u64::from(if sum.is_nan() { 0x7fff_ffff } else { sum.to_bits() })
}

fn add_f32(old: u64, b: u64, _: u64) -> u64 {
    canonical(f32::from_bits(old as u32) + f32::from_bits(b as u32))
}

/// In global memory subnormals count as zeros (PTX ISA 9.7.13.5).
fn add_f32_flushed(old: u64, b: u64, _: u64) -> u64 {
    let flush = |v: f32| if v.abs() < f32::MIN_POSITIVE { 0.0f32.copysign(v) } else { v };
    let value = |bits: u64| flush(f32::from_bits(bits as u32));
    canonical(flush(value(old) + value(b)))
}

fn half_op(old: u64, b: u64, f: impl Fn(u16, u16) -> u16) -> u64 {
    u64::from(f(old as u16, b as u16))
}

fn pair_op(old: u64, b: u64, f: impl Fn(u16, u16) -> u16) -> u64 {
    half_op(old, b, &f) | half_op(old >> 16, b >> 16, &f) << 16
}

/// An f32 has more than twice the bits of either format, so rounding its sum again rounds only once.
fn add_f16(a: u16, b: u16) -> u16 {
    let sum = f16::from_bits(a).to_f32() + f16::from_bits(b).to_f32();
    if sum.is_nan() { 0x7fff } else { f16::from_f32(sum).to_bits() }
}

fn add_bf16(a: u16, b: u16) -> u16 {
    let sum = bf16::from_bits(a).to_f32() + bf16::from_bits(b).to_f32();
    if sum.is_nan() { 0x7fff } else { bf16::from_f32(sum).to_bits() }
}

/// The smaller or larger: a NaN loses, and minus zero is below plus zero.
fn extreme<const MAX: bool>([a, b]: [u16; 2], [x, y]: [f32; 2]) -> u16 {
    match (x.is_nan(), y.is_nan()) {
        (true, true) => 0x7fff,
        (true, false) => b,
        (false, true) => a,
        _ => match (x.total_cmp(&y).is_ge(), MAX) {
            (true, true) | (false, false) => a,
            _ => b,
        },
    }
}

fn extreme_f16<const MAX: bool>(a: u16, b: u16) -> u16 {
    extreme::<MAX>([a, b], [a, b].map(|v| f16::from_bits(v).to_f32()))
}

fn extreme_bf16<const MAX: bool>(a: u16, b: u16) -> u16 {
    extreme::<MAX>([a, b], [a, b].map(|v| bf16::from_bits(v).to_f32()))
}

fn execute(inst: &Inst, warp: &mut Warp, cx: &mut Cx<'_>) -> Step {
    let Detail::Atomic(op) = &inst.detail else { return Step::Stop };
    if op.release {
        crate::ops::fence::release(warp, cx);
    }
    let r = resolve(warp, op.space, &op.address);
    let bytes = op.size * op.b.len() as u32;
    let mask = drop_misaligned(cx, warp, &r.addresses, warp.mask, bytes);
    let nowhere = (r.local | r.param) & mask;
    if nowhere != 0 {
        cx.find(warp, nowhere, FindingKind::Undefined, None, || {
            "an atomic on local or parameter memory; only global and shared memory have them (PTX ISA 9.7.13.5)"
                .to_owned()
        });
    }
    if r.shared & mask != 0 {
        on_shared(op, warp, cx, &r.addresses, r.shared & mask, bytes);
    }
    if r.global & mask != 0 {
        on_global(op, warp, cx, &r.addresses, r.global & mask, bytes);
    }
    if op.acquire {
        crate::ops::fence::acquire(warp, cx);
    }
    Step::Next
}

fn on_shared(
    op: &AtomicOp,
    warp: &mut Warp,
    cx: &mut Cx<'_>,
    addresses: &[u64; LANES],
    mask: u32,
    bytes: u32,
) {
    let mask = drop_outside_shared(cx, warp, addresses, mask, bytes);
    let kind = if op.reads { Kind::Atomic } else { Kind::Write };
    let access = WarpAccess::new(kind, addresses, mask, bytes, true);
    shared_access(cx, warp, &access);
    let size = op.size as usize;
    for lane in lanes(mask) {
        let (rank, offset) = window::split_shared(addresses[lane] as u32, cx.rank);
        let c = op.c.map_or(0, |c| get_value(warp, c, lane) as u64);
        for (k, (&b, &result)) in op.b.iter().zip(&op.results).enumerate() {
            let at = offset as usize + k * size;
            let b = get_value(warp, b, lane) as u64;
            let place = &mut cx.cluster.ctas[rank as usize].shared[at..at + size];
            let mut old = [0; 8];
            old[..size].copy_from_slice(place);
            let old = u64::from_le_bytes(old);
            let new = (op.shared)(old, b, c);
            place.copy_from_slice(&new.to_le_bytes()[..size]);
            set_value(warp, result, lane, u128::from(old), op.size, false);
        }
    }
}

fn on_global(
    op: &AtomicOp,
    warp: &mut Warp,
    cx: &mut Cx<'_>,
    addresses: &[u64; LANES],
    mask: u32,
    bytes: u32,
) {
    let env = cx.env;
    let check = env.options.checks.uninitialised && op.reads;
    let (mut good, mut unwritten) = (0u32, 0u32);
    for lane in lanes(mask) {
        let address = addresses[lane];
        let Some((at, offset)) = env.find(address, u64::from(bytes)) else {
            report_outside_global(cx, warp, lane, address, u64::from(bytes));
            continue;
        };
        let allocation = &env.memory[at];
        if allocation.read_only {
            cx.find(warp, 1 << lane, FindingKind::ReadOnly, Some(address), || {
                format!("an atomic on constant memory at {address:#x}")
            });
            continue;
        }
        good |= 1 << lane;
        if check && !allocation.is_written(offset, bytes as usize) {
            unwritten |= 1 << lane;
        }
        let c = op.c.map_or(0, |c| get_value(warp, c, lane) as u64);
        for (k, (&b, &result)) in op.b.iter().zip(&op.results).enumerate() {
            let b = get_value(warp, b, lane) as u64;
            let at = offset + k * op.size as usize;
            let old = allocation.bytes.update(at, op.size as usize, |old| (op.global)(old, b, c));
            set_value(warp, result, lane, u128::from(old), op.size, false);
        }
        allocation.mark_written(offset, bytes as usize);
    }
    if unwritten != 0 {
        let address = addresses[unwritten.trailing_zeros() as usize];
        cx.find(warp, unwritten, FindingKind::UninitialisedGlobal, Some(address), || {
            format!("an atomic on {bytes} bytes at {address:#x} that nothing wrote; set them first")
        });
    }
    let access = WarpAccess::new(Kind::Atomic, addresses, good, bytes, true);
    global_access(cx, warp, &access);
}

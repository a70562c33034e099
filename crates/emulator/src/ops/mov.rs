//! Moves, addresses of symbols, special registers, address-space conversions (PTX ISA 9.7.9.1-20).

use zeroforge_ptx::{Instruction, Modifier, Opcode, Operand, SpecialRegister, StateSpace, Type};

use crate::machine::context::Cx;
use crate::machine::warp::{ALL, LANES, Warp};
use crate::memory::window::{self, Place};
use crate::program::decode::{Decoder, Reason, space_of};
use crate::program::inst::{Detail, Inst, Step, Value};

pub(crate) fn decode(d: &mut Decoder<'_>, i: &Instruction) -> Result<Inst, Reason> {
    match i.opcode() {
        Opcode::Cvta => decode_cvta(d, i),
        Opcode::Isspacep => {
            let mut inst = Inst::new(is_space);
            inst.d = match d.destination(d.operand(i, 0)?)? {
                Value::Pred(p) => p,
                _ => return Err("a predicate destination is needed".to_owned()),
            };
            inst.a = d.s64(d.operand(i, 1)?)?;
            inst.imm = space_of(i) as u64;
            Ok(inst)
        }
        _ => decode_mov(d, i),
    }
}

fn decode_mov(d: &mut Decoder<'_>, i: &Instruction) -> Result<Inst, Reason> {
    let ty = i.ty().ok_or_else(|| "mov without a type".to_owned())?;
    let (to, from) = (d.operand(i, 0)?, d.operand(i, 1)?);
    match (to, from) {
        (Operand::Vector(parts), _) => {
            let whole = d.source(from, ty)?;
            let parts: Result<Vec<_>, _> = parts.iter().map(|p| d.destination(p)).collect();
            let mut values = vec![whole];
            values.extend(parts?);
            let mut inst = Inst::new(unpack);
            inst.imm = u64::from(ty.bits()) / (values.len() as u64 - 1).max(1);
            inst.detail = Detail::Registers(values.into());
            Ok(inst)
        }
        (_, Operand::Vector(parts)) => {
            let width = ty.bits() / (parts.len() as u32).max(1);
            let part = match width {
                8 => Type::B8,
                16 => Type::B16,
                32 => Type::B32,
                64 => Type::B64,
                _ => return Err("a vector of this width cannot be packed".to_owned()),
            };
            let mut values = vec![d.destination(to)?];
            for p in parts {
                values.push(d.source(p, part)?);
            }
            let mut inst = Inst::new(pack);
            inst.imm = u64::from(width);
            inst.detail = Detail::Registers(values.into());
            Ok(inst)
        }
        (_, Operand::Special(register)) => decode_special(d, to, *register),
        _ => {
            let (to, from) = match ty {
                Type::Pred => (d.destination(to)?, d.predicate(from)?),
                _ => (d.destination(to)?, (0, false)),
            };
            let mut inst = Inst::new(match to {
                Value::Pred(p) => {
                    let mut inst = Inst::new(if from.1 { mov_not } else { mov_pred });
                    (inst.d, inst.a) = (p, from.0);
                    return Ok(inst);
                }
                Value::R32(_) => mov32,
                Value::R64(_) => mov64,
                Value::R128(_) => mov128,
                Value::Sink => |_, _, _| Step::Next,
            });
            let source = d.operand(i, 1)?;
            match to {
                Value::R32(r) => (inst.d, inst.a) = (r, mov_source32(d, source, ty)?),
                Value::R64(r) => (inst.d, inst.a) = (r, mov_source64(d, source)?),
                Value::R128(r) => match d.source(source, Type::B128)? {
                    Value::R128(s) => (inst.d, inst.a) = (r, s),
                    _ => return Err("a 128-bit source is needed".to_owned()),
                },
                _ => {}
            }
            Ok(inst)
        }
    }
}

/// A shared symbol's address is an offset in the own block's memory; a local symbol's is the thread's.
fn mov_source32(d: &mut Decoder<'_>, operand: &Operand, ty: Type) -> Result<u32, Reason> {
    match d.source(operand, if ty.bits() <= 32 { ty } else { Type::B32 })? {
        Value::R32(r) => Ok(r),
        _ => Err("a 32-bit source is needed".to_owned()),
    }
}

fn mov_source64(d: &mut Decoder<'_>, operand: &Operand) -> Result<u32, Reason> {
    d.s64(operand)
}

fn mov32(inst: &Inst, warp: &mut Warp, _: &mut Cx<'_>) -> Step {
    warp.map1_32(inst.d, inst.a, |a| a);
    Step::Next
}

fn mov64(inst: &Inst, warp: &mut Warp, _: &mut Cx<'_>) -> Step {
    let a = warp.r64[inst.a as usize];
    let mask = warp.mask;
    let d = &mut warp.r64[inst.d as usize];
    for l in 0..LANES {
        d[l] = if mask >> l & 1 != 0 { a[l] } else { d[l] };
    }
    Step::Next
}

fn mov128(inst: &Inst, warp: &mut Warp, cx: &mut Cx<'_>) -> Step {
    for half in 0..2 {
        let mut part = Inst::new(mov64);
        (part.d, part.a) = (inst.d + half, inst.a + half);
        mov64(&part, warp, cx);
    }
    Step::Next
}

fn mov_pred(inst: &Inst, warp: &mut Warp, _: &mut Cx<'_>) -> Step {
    warp.set_predicate(inst.d, warp.p[inst.a as usize]);
    Step::Next
}

fn mov_not(inst: &Inst, warp: &mut Warp, _: &mut Cx<'_>) -> Step {
    warp.set_predicate(inst.d, !warp.p[inst.a as usize]);
    Step::Next
}

/// The bits of a value in a lane, as 128 bits.
fn bits(warp: &Warp, value: Value, lane: usize) -> u128 {
    match value {
        Value::R32(r) => u128::from(warp.r32[r as usize][lane]),
        Value::R64(r) => u128::from(warp.r64[r as usize][lane]),
        Value::R128(r) => {
            let (low, high) = (warp.r64[r as usize][lane], warp.r64[r as usize + 1][lane]);
            u128::from(high) << 64 | u128::from(low)
        }
        Value::Pred(_) | Value::Sink => 0,
    }
}

fn set_bits(warp: &mut Warp, value: Value, lane: usize, bits: u128) {
    match value {
        Value::R32(r) => warp.r32[r as usize][lane] = bits as u32,
        Value::R64(r) => warp.r64[r as usize][lane] = bits as u64,
        Value::R128(r) => {
            warp.r64[r as usize][lane] = bits as u64;
            warp.r64[r as usize + 1][lane] = (bits >> 64) as u64;
        }
        Value::Pred(_) | Value::Sink => {}
    }
}

/// `mov.b64 {a, b}, r`.
fn unpack(inst: &Inst, warp: &mut Warp, _: &mut Cx<'_>) -> Step {
    let Detail::Registers(values) = &inst.detail else { return Step::Stop };
    let width = inst.imm as u32;
    let mask = (1u128 << width) - 1;
    for lane in crate::check::lanes(warp.mask) {
        let whole = bits(warp, values[0], lane);
        for (k, &part) in values[1..].iter().enumerate() {
            set_bits(warp, part, lane, whole >> (width * k as u32) & mask);
        }
    }
    Step::Next
}

/// `mov.b64 r, {a, b}`.
fn pack(inst: &Inst, warp: &mut Warp, _: &mut Cx<'_>) -> Step {
    let Detail::Registers(values) = &inst.detail else { return Step::Stop };
    let width = inst.imm as u32;
    let mask = (1u128 << width) - 1;
    for lane in crate::check::lanes(warp.mask) {
        let whole = values[1..]
            .iter()
            .enumerate()
            .fold(0, |w, (k, &v)| w | (bits(warp, v, lane) & mask) << (width * k as u32));
        set_bits(warp, values[0], lane, whole);
    }
    Step::Next
}

/// Special registers are read by number: see `special`.
fn decode_special(
    d: &mut Decoder<'_>,
    to: &Operand,
    register: SpecialRegister,
) -> Result<Inst, Reason> {
    let mut inst = match d.destination(to)? {
        Value::R32(r) => {
            let mut inst = Inst::new(read_special32);
            inst.d = r;
            inst
        }
        Value::R64(r) => {
            let mut inst = Inst::new(read_special64);
            inst.d = r;
            inst
        }
        Value::Sink => return Ok(Inst::new(|_, _, _| Step::Next)),
        _ => return Err("a special register cannot be moved there".to_owned()),
    };
    inst.detail = Detail::Special(register);
    Ok(inst)
}

fn read_special32(inst: &Inst, warp: &mut Warp, cx: &mut Cx<'_>) -> Step {
    let Detail::Special(register) = inst.detail else { return Step::Stop };
    for lane in crate::check::lanes(warp.mask) {
        warp.r32[inst.d as usize][lane] = special(register, warp, cx, lane) as u32;
    }
    Step::Next
}

fn read_special64(inst: &Inst, warp: &mut Warp, cx: &mut Cx<'_>) -> Step {
    let Detail::Special(register) = inst.detail else { return Step::Stop };
    for lane in crate::check::lanes(warp.mask) {
        warp.r64[inst.d as usize][lane] = special(register, warp, cx, lane);
    }
    Step::Next
}

/// Value of a special register (PTX ISA 10). Clocks count the warp's instructions: no time is modelled.
fn special(register: SpecialRegister, warp: &Warp, cx: &mut Cx<'_>, lane: usize) -> u64 {
    use SpecialRegister as S;
    let config = cx.env.config;
    let cta = cx.cta().id;
    let axis = |a: u8| (a as usize).min(2);
    let clusters = |a: u8| config.grid[axis(a)] / config.cluster[axis(a)];
    let size = config.cluster.iter().product::<u32>();
    let bit = 1u32 << lane;
    let shared = cx.env.kernel.shared_bytes(config.dynamic_shared);
    match register {
        S::Tid(a) => u64::from(warp.tid[axis(a)][lane]),
        S::Ntid(a) => u64::from(config.block[axis(a)]),
        S::Ctaid(a) => u64::from(cta[axis(a)]),
        S::Nctaid(a) => u64::from(config.grid[axis(a)]),
        S::Clusterid(a) => u64::from(cx.cluster.id[axis(a)]),
        S::Nclusterid(a) => u64::from(clusters(a)),
        S::ClusterCtaid(a) => u64::from(cta[axis(a)] % config.cluster[axis(a)]),
        S::ClusterNctaid(a) => u64::from(config.cluster[axis(a)]),
        S::ClusterCtarank => u64::from(cx.rank),
        S::ClusterNctarank => u64::from(size),
        S::IsExplicitCluster => u64::from(size > 1),
        S::Laneid => lane as u64,
        S::Warpid => u64::from(warp.index),
        S::Nwarpid => u64::from(config.block.iter().product::<u32>().div_ceil(32)),
        S::Smid => {
            let linear = u64::from(cta[0])
                + u64::from(config.grid[0])
                    * (u64::from(cta[1]) + u64::from(config.grid[1]) * u64::from(cta[2]));
            linear % u64::from(cx.env.device.sm_count)
        }
        S::Nsmid => u64::from(cx.env.device.sm_count),
        S::Gridid => 1,
        S::LanemaskEq => u64::from(bit),
        S::LanemaskLe => u64::from(bit | (bit - 1)),
        S::LanemaskLt => u64::from(bit - 1),
        S::LanemaskGe => u64::from(!(bit - 1)),
        S::LanemaskGt => u64::from(!(bit | (bit - 1))),
        S::Clock | S::Clock64 | S::Globaltimer | S::GlobaltimerLo => warp.executed,
        S::ClockHi | S::GlobaltimerHi => warp.executed >> 32,
        S::DynamicSmemSize => u64::from(config.dynamic_shared),
        S::TotalSmemSize => u64::from(shared),
        S::AggrSmemSize => u64::from(shared + window::SHARED_START),
        S::ReservedSmemOffsetBegin => 0,
        S::ReservedSmemOffsetEnd | S::ReservedSmemOffsetCap => u64::from(window::SHARED_START),
        _ => 0,
    }
}

/// Generic address of address 0 of a space.
fn window_of(space: StateSpace) -> u64 {
    match space {
        StateSpace::Shared | StateSpace::SharedCluster => window::SHARED,
        StateSpace::Local => window::LOCAL,
        StateSpace::Param => window::PARAM,
        StateSpace::Global | StateSpace::Const | StateSpace::Generic | StateSpace::Register => 0,
    }
}

fn decode_cvta(d: &mut Decoder<'_>, i: &Instruction) -> Result<Inst, Reason> {
    let window = window_of(space_of(i));
    let (to, from) = (d.operand(i, 0)?, d.operand(i, 1)?);
    let mut inst = Inst::new(add_window);
    inst.imm = if i.has(Modifier::To) { window.wrapping_neg() } else { window };
    if i.ty().is_some_and(|t| t.bits() == 32) {
        return Err("32-bit generic addresses do not exist on sm_90".to_owned());
    }
    inst.d = d.d64(to)?;
    inst.a = match from {
        Operand::Symbol(symbol, offset) => {
            let place = d.symbol(*symbol)?;
            d.constant64(place.address.wrapping_add(*offset as u64))
        }
        other => d.s64(other)?,
    };
    Ok(inst)
}

fn add_window(inst: &Inst, warp: &mut Warp, _: &mut Cx<'_>) -> Step {
    let a = warp.r64[inst.a as usize];
    for lane in crate::check::lanes(warp.mask) {
        warp.r64[inst.d as usize][lane] = a[lane].wrapping_add(inst.imm);
    }
    Step::Next
}

fn is_space(inst: &Inst, warp: &mut Warp, _: &mut Cx<'_>) -> Step {
    let mut bits = 0;
    for lane in 0..LANES {
        let place = window::place(warp.r64[inst.a as usize][lane]);
        let space = match place {
            Place::Global(_) => StateSpace::Global,
            Place::Shared(_) => StateSpace::Shared,
            Place::Local(_) => StateSpace::Local,
            Place::Param(_) => StateSpace::Param,
        };
        let asked = inst.imm;
        let same = asked == space as u64
            || (space == StateSpace::Shared && asked == StateSpace::SharedCluster as u64);
        bits |= u32::from(same) << lane;
    }
    warp.set_predicate(inst.d, bits & ALL);
    Step::Next
}

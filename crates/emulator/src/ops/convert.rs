//! Conversions (PTX ISA 9.7.9.21-22).

use zeroforge_ptx::{Instruction, Modifier, Opcode, Operand, Type};

use crate::check::lanes;
use crate::machine::context::Cx;
use crate::machine::warp::Warp;
use crate::ops::float::{flush32, rounding};
use crate::ops::half::{bf16_of_f32, f16_of_f32, f32_of_bf16, f32_of_f16};
use crate::ops::soft::{
    self, BF16, Exact, F16, F32, Format, Round, TF32, e4m3_of, e5m2_of, f32_of_e4m3, f32_of_e5m2,
    narrow,
};
use crate::program::decode::{Decoder, Reason};
use crate::program::inst::{Detail, Exec, Inst, Step, Value};

/// Operands of a conversion that has no path of its own.
#[derive(Debug)]
pub(crate) struct ConvertOp {
    to: Type,
    from: Type,
    round: Option<Round>,
    flush: bool,
    saturate: bool,
    finite: bool,
    relu: bool,
    destination: Value,
    /// Bits of the destination register, into which narrower integers are extended.
    width: u32,
    /// Sources: one, the two of packed forms, or the three of `cvt.pack`.
    sources: Vec<Value>,
}

pub(crate) fn decode(d: &mut Decoder<'_>, i: &Instruction) -> Result<Inst, Reason> {
    let mut types = i.types();
    let (Some(to), Some(from)) = (types.next(), types.next()) else {
        return Err("a conversion needs two types".to_owned());
    };
    let destination = d.destination(d.operand(i, 0)?)?;
    let width = width_of(d, d.operand(i, 0)?, to);
    let mut sources = Vec::new();
    for operand in &i.operands[1..] {
        sources.push(source(d, operand, from)?);
    }
    let op = ConvertOp {
        to,
        from,
        round: rounding(i),
        flush: i.has(Modifier::Ftz),
        saturate: i.has(Modifier::Sat),
        finite: i.has(Modifier::Satfinite),
        relu: i.has(Modifier::Relu),
        destination,
        width,
        sources,
    };
    if i.opcode() == Opcode::CvtPack {
        let mut inst = Inst::new(execute_pack);
        inst.detail = Detail::Convert(Box::new(op));
        return Ok(inst);
    }
    if let Some(inst) = fast(d, &op)? {
        return Ok(inst);
    }
    let mut inst = Inst::new(match op.sources.len() {
        1 => execute,
        2 => execute_pair,
        _ => return Err("too many operands".to_owned()),
    });
    inst.detail = Detail::Convert(Box::new(op));
    Ok(inst)
}

/// A source register may be wider than the type (PTX ISA 9.4.1): its lowest bits count.
fn source(d: &mut Decoder<'_>, operand: &Operand, ty: Type) -> Result<Value, Reason> {
    match operand {
        Operand::Register(_) => d.destination(operand),
        other => d.source(other, ty),
    }
}

/// Bits of the register that an operand names.
fn width_of(d: &Decoder<'_>, operand: &Operand, ty: Type) -> u32 {
    let declared = match operand {
        Operand::Register(r) => {
            let body = d.flat.frames[d.frame as usize].function.body.as_ref();
            body.and_then(|b| b.registers.get(r.0 as usize)).map(|r| r.ty.bits())
        }
        _ => None,
    };
    declared.unwrap_or(ty.bits())
}

/// Conversions that kernels are full of have functions of their own.
fn fast(d: &Decoder<'_>, op: &ConvertOp) -> Result<Option<Inst>, Reason> {
    use Type as T;
    let plain = !(op.saturate || op.finite || op.relu || op.flush);
    let nearest = op.round == Some(Round::Nearest);
    // A register wider than its type is left to the others.
    let wide = |ty: Type, v: &Value| ty.bits() <= 32 && matches!(v, Value::R64(_));
    if !plain || wide(op.to, &op.destination) || op.sources.iter().any(|s| wide(op.from, s)) {
        return Ok(None);
    }
    macro_rules! of32 {
        ($f:expr) => {
            |i, w, _| {
                w.map1_32(i.d, i.a, $f);
                Step::Next
            }
        };
    }
    let exec: Exec = match (op.to, op.from, &op.sources[..], op.destination) {
        (T::F16x2, T::F32, _, Value::R32(_)) if nearest => |i, w, _| {
            w.map2_32(i.d, i.a, i.b, |a, b| {
                f16_of_f32(f32::from_bits(a)) << 16 | f16_of_f32(f32::from_bits(b))
            });
            Step::Next
        },
        (T::Bf16x2, T::F32, _, Value::R32(_)) if nearest => |i, w, _| {
            w.map2_32(i.d, i.a, i.b, |a, b| {
                bf16_of_f32(f32::from_bits(a)) << 16 | bf16_of_f32(f32::from_bits(b))
            });
            Step::Next
        },
        (T::F16, T::F32, _, Value::R32(_)) if nearest => of32!(|a| f16_of_f32(f32::from_bits(a))),
        (T::Bf16, T::F32, _, Value::R32(_)) if nearest => of32!(|a| bf16_of_f32(f32::from_bits(a))),
        (T::F32, T::F16, [Value::R32(_)], _) => of32!(|a| canonical(f32_of_f16(a & 0xffff))),
        (T::F32, T::Bf16, [Value::R32(_)], _) => of32!(|a| canonical(f32_of_bf16(a & 0xffff))),
        (T::F32, T::S32, [Value::R32(_)], _) if nearest => of32!(|a| (a as i32 as f32).to_bits()),
        (T::F32, T::U32, [Value::R32(_)], _) if nearest => of32!(|a| (a as f32).to_bits()),
        // Rust's casts saturate and make NaN zero, as PTX's conversions to 32 bits do.
        (T::S32, T::F32, _, Value::R32(_)) if op.round == Some(Round::Zero) && op.width == 32 => {
            of32!(|a| f32::from_bits(a) as i32 as u32)
        }
        (T::U32, T::F32, _, Value::R32(_)) if op.round == Some(Round::Zero) && op.width == 32 => {
            of32!(|a| f32::from_bits(a) as u32)
        }
        (T::U64 | T::S64, T::U32, [Value::R32(_)], _) => |i, w, _| {
            widen(i, w, u64::from);
            Step::Next
        },
        (T::U64 | T::S64, T::S32, [Value::R32(_)], _) => |i, w, _| {
            widen(i, w, |a| i64::from(a as i32) as u64);
            Step::Next
        },
        (T::U32 | T::S32, T::U64 | T::S64, [Value::R64(_)], Value::R32(_)) => |i, w, _| {
            for lane in lanes(w.mask) {
                w.r32[i.d as usize][lane] = w.r64[i.a as usize][lane] as u32;
            }
            Step::Next
        },
        (T::U32 | T::S32, T::U16, [Value::R32(_)], Value::R32(_)) => of32!(|a| a & 0xffff),
        (T::U32 | T::S32, T::S16, [Value::R32(_)], Value::R32(_)) => of32!(|a| a as i16 as u32),
        (T::U32 | T::S32, T::U8, [Value::R32(_)], Value::R32(_)) => of32!(|a| a & 0xff),
        (T::U16, T::U32 | T::S32, [Value::R32(_)], Value::R32(_)) => of32!(|a| a & 0xffff),
        _ => return Ok(None),
    };
    let index = |v: Value| match v {
        Value::R32(r) | Value::R64(r) => Ok(r),
        _ => Err("a register of 32 or 64 bits is needed".to_owned()),
    };
    let mut inst = Inst::new(exec);
    inst.d = match op.destination {
        Value::Sink if op.to.bits() == 64 => d.d64(&Operand::Sink)?,
        Value::Sink => d.d32(&Operand::Sink)?,
        other => index(other)?,
    };
    inst.a = index(op.sources[0])?;
    inst.b = op.sources.get(1).map_or(Ok(inst.a), |&v| index(v))?;
    Ok(Some(inst))
}

#[inline(always)]
fn widen(i: &Inst, warp: &mut Warp, f: impl Fn(u32) -> u64) {
    let a = warp.r32[i.a as usize];
    let mask = warp.mask;
    for (lane, d) in warp.r64[i.d as usize].iter_mut().enumerate() {
        if mask >> lane & 1 != 0 {
            *d = f(a[lane]);
        }
    }
}

#[inline(always)]
fn canonical(x: f32) -> u32 {
    if x.is_nan() { F32.nan as u32 } else { x.to_bits() }
}

#[inline]
fn read(warp: &Warp, v: Value, lane: usize) -> u64 {
    match v {
        Value::R32(r) => u64::from(warp.r32[r as usize][lane]),
        Value::R64(r) => warp.r64[r as usize][lane],
        _ => 0,
    }
}

fn write(warp: &mut Warp, op: &ConvertOp, lane: usize, bits: u64) {
    match op.destination {
        Value::R32(r) => {
            let kept = if op.width < 32 { bits & ((1 << op.width) - 1) } else { bits };
            warp.r32[r as usize][lane] = kept as u32;
        }
        Value::R64(r) => warp.r64[r as usize][lane] = bits,
        _ => {}
    }
}

fn execute(inst: &Inst, warp: &mut Warp, _: &mut Cx<'_>) -> Step {
    let Detail::Convert(op) = &inst.detail else { return Step::Stop };
    for lane in lanes(warp.mask) {
        let bits = op.convert(read(warp, op.sources[0], lane));
        write(warp, op, lane, bits);
    }
    Step::Next
}

/// The packed forms: the first source becomes the upper half.
fn execute_pair(inst: &Inst, warp: &mut Warp, _: &mut Cx<'_>) -> Step {
    let Detail::Convert(op) = &inst.detail else { return Step::Stop };
    for lane in lanes(warp.mask) {
        let [a, b] = [0, 1].map(|k| {
            let x = f32::from_bits(read(warp, op.sources[k], lane) as u32);
            op.float(f64::from(if op.flush { flush32(x) } else { x }), op.element())
        });
        let shift = op.to.bits() / 2;
        write(warp, op, lane, a << shift | b);
    }
    Step::Next
}

/// `cvt.pack` (PTX ISA 9.7.9.22).
fn execute_pack(inst: &Inst, warp: &mut Warp, _: &mut Cx<'_>) -> Step {
    let Detail::Convert(op) = &inst.detail else { return Step::Stop };
    let bits = op.to.bits();
    let (low, high) = limits(op.to);
    for lane in lanes(warp.mask) {
        let [a, b] = [0, 1].map(|k| {
            let x = i128::from(read(warp, op.sources[k], lane) as u32 as i32);
            x.clamp(low, high) as u64 & ((1 << bits) - 1)
        });
        let c = op.sources.get(2).map_or(0, |&c| read(warp, c, lane));
        write(warp, op, lane, c << (2 * bits) & 0xffff_ffff | a << bits | b);
    }
    Step::Next
}

/// Smallest and largest value of an integer type.
fn limits(ty: Type) -> (i128, i128) {
    let bits = ty.bits();
    match ty.is_signed() {
        true => (-(1 << (bits - 1)), (1 << (bits - 1)) - 1),
        false => (0, (1 << bits) - 1),
    }
}

/// The value of an integer type in the lowest bits.
fn integer(bits: u64, ty: Type) -> i128 {
    let unused = 64 - ty.bits();
    match ty.is_signed() {
        true => i128::from((bits << unused) as i64 >> unused),
        false => i128::from(bits << unused >> unused),
    }
}

fn format(ty: Type) -> Format {
    match ty {
        Type::F16 | Type::F16x2 => F16,
        Type::Bf16 | Type::Bf16x2 => BF16,
        Type::F32 => F32,
        Type::Tf32 => TF32,
        _ => soft::F64,
    }
}

impl ConvertOp {
    /// The type of one value of a packed destination.
    fn element(&self) -> Type {
        match self.to {
            Type::F16x2 => Type::F16,
            Type::Bf16x2 => Type::Bf16,
            Type::E4m3x2 => Type::E4m3,
            Type::E5m2x2 => Type::E5m2,
            other => other,
        }
    }

    /// Converts the bits of one source.
    fn convert(&self, bits: u64) -> u64 {
        let x = match self.from {
            Type::F16 => f64::from(f32_of_f16(bits as u32 & 0xffff)),
            Type::Bf16 => f64::from(f32_of_bf16(bits as u32 & 0xffff)),
            Type::F32 => {
                let x = f32::from_bits(bits as u32);
                f64::from(if self.flush { flush32(x) } else { x })
            }
            Type::F64 => f64::from_bits(bits),
            Type::F16x2 => {
                let of =
                    |h: u64| self.float(f64::from(f32_of_f16(h as u32 & 0xffff)), self.element());
                return of(bits >> 16) << 8 | of(bits);
            }
            Type::E4m3x2 | Type::E5m2x2 => {
                let of = |h: u64| {
                    let x = match self.from {
                        Type::E4m3x2 => f32_of_e4m3(h as u32 & 0xff),
                        _ => f32_of_e5m2(h as u32 & 0xff),
                    };
                    self.float(f64::from(x), self.element())
                };
                return of(bits >> 8) << 16 | of(bits);
            }
            _ => return self.integer(integer(bits, self.from)),
        };
        if self.to.is_float() { self.float(x, self.to) } else { self.to_integer(x) }
    }

    /// To an integer. Values out of range become the nearest limit; of NaN, PTX makes zero, or with 64 bits on
    /// either side the highest bit alone.
    fn to_integer(&self, x: f64) -> u64 {
        if x.is_nan() {
            let wide = self.from == Type::F64 || self.to.bits() == 64;
            let value = if wide { 1 << (self.to.bits() - 1) } else { 0 };
            return integer(value, self.to) as u64;
        }
        // Saturating casts from f64 hold every 64-bit limit.
        let value = round_to_integer(x, self.round.unwrap_or(Round::Zero)) as i128;
        let (low, high) = limits(self.to);
        value.clamp(low, high) as u64
    }

    fn integer(&self, value: i128) -> u64 {
        if !self.to.is_float() {
            let (low, high) = limits(self.to);
            let value = if self.saturate { value.clamp(low, high) } else { value };
            return integer(value as u64, self.to) as u64;
        }
        let exact = Exact {
            negative: value < 0,
            mantissa: value.unsigned_abs(),
            exponent: 0,
            sticky: false,
        };
        let f = format(self.to);
        let bits = exact.round(f, self.round.unwrap_or(Round::Nearest));
        if !self.saturate {
            return bits;
        }
        // Integers in [0, 1] are 0 and 1.
        let one = u128::from(value >= 1);
        Exact { negative: false, mantissa: one, ..exact }.round(f, Round::Nearest)
    }

    /// To a floating-point type.
    fn float(&self, x: f64, to: Type) -> u64 {
        let mut x = x;
        let mode = self.round.unwrap_or(Round::Nearest);
        // `.rni` and its kin between equal types round to an integer.
        if self.round.is_some() && self.to == self.from {
            x = round_to_integer(x, mode);
        }
        if self.saturate {
            x = if x > 0.0 { x.min(1.0) } else { 0.0 };
        }
        // NaN stays.
        if self.relu && x <= 0.0 {
            x = 0.0;
        }
        match to {
            Type::E4m3 => return u64::from(e4m3_of(x)),
            Type::E5m2 => return u64::from(e5m2_of(x)),
            Type::F64 => return if x.is_nan() { soft::F64.nan } else { x.to_bits() },
            _ => {}
        }
        let f = format(to);
        let mut bits = narrow(x, f, mode);
        if self.finite && bits & !f.sign_bit() == f.infinity() {
            bits -= 1;
        }
        match to {
            Type::Tf32 if x.is_nan() => F32.nan,
            // The 13 lowest bits of a tf32 are zero.
            Type::Tf32 => bits << 13,
            Type::F32 if self.flush => u64::from(flush32(f32::from_bits(bits as u32)).to_bits()),
            _ => bits,
        }
    }
}

/// Rounds to an integer, keeping the sign of zeros.
fn round_to_integer(x: f64, mode: Round) -> f64 {
    match mode {
        Round::Nearest => x.round_ties_even(),
        Round::Away => x.round(),
        Round::Zero => x.trunc(),
        Round::Down => x.floor(),
        Round::Up => x.ceil(),
    }
}

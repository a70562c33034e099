//! Arithmetic of f16, bf16 and their packed forms (PTX ISA 9.7.4).
//!
//! Results are computed in f32 so that rounding them to the narrow format rounds the exact value once:
//! sums in f32 need at least 2p + 2 bits for that (Figueroa 1995: 24 >= 2·11 + 2), and sums of subnormals are
//! exact; products of f16 are exact in f32 (22 bits); products of bf16 may be below f32's range, so they
//! are exact in f64 and then rounded to odd in f32, as are fused multiply-adds.

use zeroforge_ptx::{Instruction, Modifier, Opcode, Type};

use crate::machine::context::Cx;
use crate::machine::warp::Warp;
use crate::ops::float;
use crate::ops::soft::sum_to_odd;
use crate::program::decode::{Decoder, Reason};
use crate::program::inst::{Exec, Inst, Step, Value};

/// An f16 as f32; exact.
#[inline(always)]
pub(crate) fn f32_of_f16(h: u32) -> f32 {
    let magnitude = h & 0x7fff;
    // Shifted into place, the exponent is 112 too small; subnormal numbers become normal by this too.
    let scaled = f32::from_bits(magnitude << 13) * f32::from_bits(0x7780_0000);
    let special = if magnitude >= 0x7c00 { 0x7f80_0000 } else { 0 };
    f32::from_bits(scaled.to_bits() | special | (h & 0x8000) << 16)
}

/// A bf16 as f32; exact.
#[inline(always)]
pub(crate) fn f32_of_bf16(h: u32) -> f32 {
    f32::from_bits(h << 16)
}

/// Rounds to nearest f16; NaN becomes 0x7fff.
#[inline(always)]
pub(crate) fn f16_of_f32(x: f32) -> u32 {
    let bits = x.to_bits();
    let magnitude = bits & 0x7fff_ffff;
    let sign = bits >> 16 & 0x8000;
    let normal =
        magnitude.wrapping_add(0xfff + (magnitude >> 13 & 1)).wrapping_sub(112 << 23) >> 13;
    // Beside 0.5, the last bit of an f32 is that of an f16 subnormal: the addition rounds.
    let small = (f32::from_bits(magnitude) + 0.5).to_bits().wrapping_sub(0.5f32.to_bits());
    let finite = if magnitude < 0x3880_0000 { small } else { normal };
    let out = if magnitude >= 0x4780_0000 { 0x7c00 } else { finite };
    if magnitude > 0x7f80_0000 { 0x7fff } else { sign | out }
}

/// Rounds to nearest bf16; NaN becomes 0x7fff.
#[inline(always)]
pub(crate) fn bf16_of_f32(x: f32) -> u32 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
    if bits & 0x7fff_ffff > 0x7f80_0000 { 0x7fff } else { rounded }
}

/// Rounds to f32, to odd: rounding the result to a narrower format rounds the exact value once.
#[inline(always)]
fn f32_to_odd(x: f64) -> f32 {
    let r = x as f32;
    let back = f64::from(r);
    let bits = r.to_bits();
    let fix = back != x && !x.is_nan() && bits & 1 == 0;
    let step = if back.abs() < x.abs() { 1 } else { u32::MAX };
    f32::from_bits(bits.wrapping_add(if fix { step } else { 0 }))
}

/// A 16-bit format.
trait Half {
    const INFINITY: u32;
    fn widen(h: u32) -> f32;
    fn narrow(x: f32) -> u32;
    fn mul(a: f32, b: f32) -> f32;
}

struct F16;
struct Bf16;

impl Half for F16 {
    const INFINITY: u32 = 0x7c00;
    #[inline(always)]
    fn widen(h: u32) -> f32 {
        f32_of_f16(h)
    }
    #[inline(always)]
    fn narrow(x: f32) -> u32 {
        f16_of_f32(x)
    }
    #[inline(always)]
    fn mul(a: f32, b: f32) -> f32 {
        a * b
    }
}

impl Half for Bf16 {
    const INFINITY: u32 = 0x7f80;
    #[inline(always)]
    fn widen(h: u32) -> f32 {
        f32_of_bf16(h)
    }
    #[inline(always)]
    fn narrow(x: f32) -> u32 {
        bf16_of_f32(x)
    }
    #[inline(always)]
    fn mul(a: f32, b: f32) -> f32 {
        f32_to_odd(f64::from(a) * f64::from(b))
    }
}

/// Bits of `imm`.
const FLUSH: u64 = 1;
const SATURATE: u64 = 2;
const RELU: u64 = 4;
const KEEP_NAN: u64 = 8;
const XORSIGN: u64 = 16;

pub(crate) fn decode(d: &mut Decoder<'_>, i: &Instruction) -> Result<Inst, Reason> {
    let ty = i.ty().ok_or_else(|| "arithmetic without a type".to_owned())?;
    let exec = match ty {
        Type::F16 => pick::<F16, false>(i.opcode()),
        Type::F16x2 => pick::<F16, true>(i.opcode()),
        Type::Bf16 => pick::<Bf16, false>(i.opcode()),
        Type::Bf16x2 => pick::<Bf16, true>(i.opcode()),
        other => return Err(format!("no arithmetic of {} here", other.text())),
    };
    let exec = exec.ok_or_else(|| format!("{:?} of {} is not emulated", i.opcode(), ty.text()))?;
    let mut inst = Inst::new(exec);
    inst.d = d.d32(d.operand(i, 0)?)?;
    let sources = i.operands.len() - 1;
    let mut source = |at: usize| {
        let operand = d.operand(i, at.min(sources))?.clone();
        match d.source(&operand, ty)? {
            Value::R32(r) => Ok(r),
            _ => Err("a 16- or 32-bit register is needed".to_owned()),
        }
    };
    // A source that is not there is another one: read, not used.
    (inst.a, inst.b, inst.c) = (source(1)?, source(2)?, source(3)?);
    let flags = [
        (Modifier::Ftz, FLUSH),
        (Modifier::Sat, SATURATE),
        (Modifier::Relu, RELU),
        (Modifier::NaN, KEEP_NAN),
        (Modifier::Xorsign, XORSIGN),
    ];
    inst.imm = flags.iter().filter(|(m, _)| i.has(*m)).map(|(_, f)| f).sum();
    Ok(inst)
}

#[inline(always)]
fn flush<H: Half>(h: u32) -> u32 {
    // Below the smallest normal number.
    let smallest = if H::INFINITY == 0x7c00 { 0x400 } else { 0x80 };
    if h & 0x7fff < smallest { h & 0x8000 } else { h }
}

/// Runs an operation on the halves of the lanes of the mask.
#[inline(always)]
fn each<H: Half, const PACKED: bool>(
    i: &Inst,
    warp: &mut Warp,
    f: impl Fn(u32, u32, u32) -> u32,
) -> Step {
    let flushes = i.imm & FLUSH != 0;
    let one = |a, b, c| {
        if flushes {
            flush::<H>(f(flush::<H>(a), flush::<H>(b), flush::<H>(c)))
        } else {
            f(a, b, c)
        }
    };
    warp.map3_32(i.d, [i.a, i.b, i.c], |a, b, c| {
        let low = one(a & 0xffff, b & 0xffff, c & 0xffff);
        if PACKED { low | one(a >> 16, b >> 16, c >> 16) << 16 } else { low }
    });
    Step::Next
}

/// As [`each`], in f32, and rounded.
#[inline(always)]
fn arithmetic<H: Half, const PACKED: bool>(
    i: &Inst,
    warp: &mut Warp,
    f: impl Fn(f32, f32, f32) -> f32,
) -> Step {
    let flags = i.imm;
    each::<H, PACKED>(i, warp, |a, b, c| {
        let mut r = f(H::widen(a), H::widen(b), H::widen(c));
        if flags & SATURATE != 0 {
            r = if r > 0.0 { r.min(1.0) } else { 0.0 };
        }
        // NaN stays (PTX ISA 9.7.4.4).
        if flags & RELU != 0 && r <= 0.0 {
            r = 0.0;
        }
        H::narrow(r)
    })
}

fn pick<H: Half, const PACKED: bool>(opcode: Opcode) -> Option<Exec> {
    fn extreme<H: Half, const PACKED: bool, const MIN: bool>(
        i: &Inst,
        warp: &mut Warp,
        _: &mut Cx<'_>,
    ) -> Step {
        let (keep_nan, xorsign) = (i.imm & KEEP_NAN != 0, i.imm & XORSIGN != 0);
        each::<H, PACKED>(i, warp, |a, b, _| {
            float::extreme::<MIN>([a, b], [0x8000, H::INFINITY, 0x7fff], keep_nan, xorsign)
        })
    }
    use Opcode as O;
    Some(match opcode {
        O::Add => |i, w, _| arithmetic::<H, PACKED>(i, w, |a, b, _| a + b),
        O::Sub => |i, w, _| arithmetic::<H, PACKED>(i, w, |a, b, _| a - b),
        O::Mul => |i, w, _| arithmetic::<H, PACKED>(i, w, |a, b, _| H::mul(a, b)),
        O::Fma => |i, w, _| {
            arithmetic::<H, PACKED>(i, w, |a, b, c| {
                f32_to_odd(sum_to_odd(f64::from(a) * f64::from(b), f64::from(c)))
            })
        },
        O::Neg => |i, w, _| each::<H, PACKED>(i, w, |a, _, _| a ^ 0x8000),
        O::Abs => |i, w, _| each::<H, PACKED>(i, w, |a, _, _| a & 0x7fff),
        O::Min => extreme::<H, PACKED, true>,
        O::Max => extreme::<H, PACKED, false>,
        O::Ex2 => |i, w, _| arithmetic::<H, PACKED>(i, w, |a, _, _| float::exp2(a) as f32),
        O::Tanh => |i, w, _| arithmetic::<H, PACKED>(i, w, |a, _, _| float::tanh(a)),
        _ => return None,
    })
}

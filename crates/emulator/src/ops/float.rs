//! Arithmetic of f32 and f64 (PTX ISA 9.7.3).
//!
//! Rounding to nearest uses the host's arithmetic where that rounds once, and f64 with a step to odd for the
//! fused multiply-add of f32, which needs no FMA instruction and so gives the same everywhere. Other
//! directions are computed exactly ([`soft`](crate::ops::soft)). The approximations are polynomials in f64,
//! nearer to the true value than the ISA asks, and the same on every host.

use zeroforge_ptx::{Instruction, Modifier, Opcode, Type};

use crate::machine::context::Cx;
use crate::machine::warp::Warp;
use crate::ops::soft::{self, F32, F64, Round, sum_to_odd};
use crate::program::decode::{Decoder, Reason};
use crate::program::inst::{Exec, Inst, Step};

/// Bits of the NaN that f32 operations give.
const NAN32: u32 = F32.nan as u32;

pub(crate) fn decode(d: &mut Decoder<'_>, i: &Instruction) -> Result<Inst, Reason> {
    let ty = i.types().last().ok_or_else(|| "arithmetic without a type".to_owned())?;
    let flush = i.has(Modifier::Ftz);
    let saturate = i.has(Modifier::Sat);
    let round = rounding(i);
    let exact = round.is_some_and(|r| r != Round::Nearest);
    let exec = match ty {
        Type::F32 if exact => exact32(i.opcode()),
        Type::F32 => nearest32(i, flush, saturate),
        Type::F64 if exact => exact64(i.opcode()),
        Type::F64 => nearest64(i, flush),
        other => return Err(format!("no arithmetic of {} here", other.text())),
    };
    let exec = exec.ok_or_else(|| format!("{:?} of {} is not emulated", i.opcode(), ty.text()))?;
    let mut inst = Inst::new(exec);
    let sources = i.operands.len() - 1;
    let destination = d.operand(i, 0)?;
    inst.d = match (i.opcode(), ty) {
        (Opcode::Testp, _) => match d.destination_predicate(destination)? {
            Some(p) => p,
            None => return Err("testp needs a destination".to_owned()),
        },
        (_, Type::F32) => d.d32(destination)?,
        _ => d.d64(destination)?,
    };
    let mut source = |at: usize| {
        let operand = d.operand(i, at.min(sources))?.clone();
        match ty {
            Type::F32 => d.s32(&operand),
            _ => d.s64(&operand),
        }
    };
    // A source that is not there is another one: read, not used.
    (inst.a, inst.b, inst.c) = (source(1)?, source(2)?, source(3)?);
    let round = round.unwrap_or(Round::Nearest).code();
    inst.imm = round | u64::from(flush) << 8 | u64::from(saturate) << 9;
    Ok(inst)
}

/// The rounding that an instruction names.
pub(crate) fn rounding(i: &Instruction) -> Option<Round> {
    let all = [
        (Modifier::Rn, Round::Nearest),
        (Modifier::Rz, Round::Zero),
        (Modifier::Rm, Round::Down),
        (Modifier::Rp, Round::Up),
        (Modifier::Rna, Round::Away),
        (Modifier::Rni, Round::Nearest),
        (Modifier::Rzi, Round::Zero),
        (Modifier::Rmi, Round::Down),
        (Modifier::Rpi, Round::Up),
    ];
    all.iter().find(|(m, _)| i.has(*m)).map(|&(_, r)| r)
}

/// Subnormal numbers become zeros of their sign.
#[inline(always)]
pub(crate) fn flush32(x: f32) -> f32 {
    let bits = x.to_bits();
    f32::from_bits(if bits & 0x7f80_0000 == 0 { bits & 0x8000_0000 } else { bits })
}

/// Into [0, 1]; NaN becomes +0 (PTX ISA 9.7.3).
#[inline(always)]
fn saturate32(x: f32) -> f32 {
    if x > 0.0 { if x < 1.0 { x } else { 1.0 } } else { 0.0 }
}

#[inline(always)]
fn bits32(x: f32) -> u32 {
    if x.is_nan() { NAN32 } else { x.to_bits() }
}

/// `a * b + c` of f32, rounded once: the product is exact in f64, the sum is rounded to odd there.
#[inline(always)]
pub(crate) fn fma32(a: f32, b: f32, c: f32) -> f32 {
    sum_to_odd(f64::from(a) * f64::from(b), f64::from(c)) as f32
}

/// An operation of f32 in one rounding to nearest. Those with fewer operands ignore the last.
trait Op32 {
    fn run(a: f32, b: f32, c: f32) -> f32;
}

/// An operation of f64.
trait Op64 {
    fn run(a: f64, b: f64, c: f64) -> f64;
}

macro_rules! operations {
    ($trait:ident, $ty:ty, $($name:ident = |$a:ident, $b:ident, $c:ident| $body:expr;)*) => {
        $(struct $name;
        impl $trait for $name {
            #[inline(always)]
            #[allow(unused_variables, reason = "not every operation has three operands")]
            fn run($a: $ty, $b: $ty, $c: $ty) -> $ty {
                $body
            }
        })*
    };
}

operations! {
    Op32, f32,
    Add = |a, b, c| a + b;
    Sub = |a, b, c| a - b;
    Mul = |a, b, c| a * b;
    Fma = |a, b, c| fma32(a, b, c);
    Div = |a, b, c| a / b;
    DivApprox = |a, b, c| div_approx(a, b);
    Rcp = |a, b, c| 1.0 / a;
    Sqrt = |a, b, c| a.sqrt();
    Rsqrt = |a, b, c| (1.0 / f64::from(a).sqrt()) as f32;
    Sin = |a, b, c| sin_cos(f64::from(a)).0 as f32;
    Cos = |a, b, c| sin_cos(f64::from(a)).1 as f32;
    Lg2 = |a, b, c| log2(f64::from(a)) as f32;
    Ex2 = |a, b, c| exp2(a) as f32;
    Tanh = |a, b, c| tanh(a);
}

operations! {
    Op64, f64,
    Add64 = |a, b, c| a + b;
    Sub64 = |a, b, c| a - b;
    Mul64 = |a, b, c| a * b;
    Fma64 = |a, b, c| a.mul_add(b, c);
    Div64 = |a, b, c| a / b;
    Rcp64 = |a, b, c| 1.0 / a;
    Sqrt64 = |a, b, c| a.sqrt();
    Rsqrt64 = |a, b, c| 1.0 / a.sqrt();
    RcpGross = |a, b, c| upper(1.0 / upper_flushed(a));
    RsqrtGross = |a, b, c| upper(1.0 / upper_flushed(a).sqrt());
}

fn run32<O: Op32, const FLUSH: bool, const SATURATE: bool>(
    i: &Inst,
    warp: &mut Warp,
    _: &mut Cx<'_>,
) -> Step {
    warp.map3_32(i.d, [i.a, i.b, i.c], |a, b, c| {
        let [mut a, mut b, mut c] = [a, b, c].map(f32::from_bits);
        if FLUSH {
            (a, b, c) = (flush32(a), flush32(b), flush32(c));
        }
        let mut r = O::run(a, b, c);
        if FLUSH {
            r = flush32(r);
        }
        if SATURATE { saturate32(r).to_bits() } else { bits32(r) }
    });
    Step::Next
}

fn run64<O: Op64>(i: &Inst, warp: &mut Warp, _: &mut Cx<'_>) -> Step {
    each64(i, warp, |a, b, c| {
        let r = O::run(f64::from_bits(a), f64::from_bits(b), f64::from_bits(c));
        if r.is_nan() { F64.nan } else { r.to_bits() }
    })
}

#[inline(always)]
fn each64(i: &Inst, warp: &mut Warp, f: impl Fn(u64, u64, u64) -> u64) -> Step {
    let [a, b, c] = [i.a, i.b, i.c].map(|r| warp.r64[r as usize]);
    let mask = warp.mask;
    let d = &mut warp.r64[i.d as usize];
    for (lane, d) in d.iter_mut().enumerate() {
        if mask >> lane & 1 != 0 {
            *d = f(a[lane], b[lane], c[lane]);
        }
    }
    Step::Next
}

fn pick32<O: Op32>(flush: bool, saturate: bool) -> Exec {
    match (flush, saturate) {
        (false, false) => run32::<O, false, false>,
        (false, true) => run32::<O, false, true>,
        (true, false) => run32::<O, true, false>,
        (true, true) => run32::<O, true, true>,
    }
}

fn nearest32(i: &Instruction, flush: bool, saturate: bool) -> Option<Exec> {
    use Opcode as O;
    Some(match i.opcode() {
        O::Add => pick32::<Add>(flush, saturate),
        O::Sub => pick32::<Sub>(flush, saturate),
        O::Mul => pick32::<Mul>(flush, saturate),
        O::Fma | O::Mad => pick32::<Fma>(flush, saturate),
        O::Div if i.has(Modifier::Approx) => pick32::<DivApprox>(flush, saturate),
        O::Div => pick32::<Div>(flush, saturate),
        O::Rcp => pick32::<Rcp>(flush, saturate),
        O::Sqrt => pick32::<Sqrt>(flush, saturate),
        O::Rsqrt => pick32::<Rsqrt>(flush, saturate),
        O::Sin => pick32::<Sin>(flush, saturate),
        O::Cos => pick32::<Cos>(flush, saturate),
        O::Lg2 => pick32::<Lg2>(flush, saturate),
        O::Ex2 => pick32::<Ex2>(flush, saturate),
        O::Tanh => pick32::<Tanh>(flush, saturate),
        O::Abs if flush => |i, w, _| bits(i, w, |a, _| flush32(f32::from_bits(a)).abs().to_bits()),
        O::Abs => |i, w, _| bits(i, w, |a, _| a & 0x7fff_ffff),
        O::Neg if flush => |i, w, _| bits(i, w, |a, _| (-flush32(f32::from_bits(a))).to_bits()),
        O::Neg => |i, w, _| bits(i, w, |a, _| a ^ 0x8000_0000),
        // The sign of the first operand, the rest of the second (PTX ISA 9.7.3.2).
        O::Copysign => |i, w, _| bits(i, w, |a, b| a & 0x8000_0000 | b & 0x7fff_ffff),
        O::Min => extreme32::<true>(flush, i.has(Modifier::NaN), xorsign(i)),
        O::Max => extreme32::<false>(flush, i.has(Modifier::NaN), xorsign(i)),
        O::Testp => return test(i),
        _ => return None,
    })
}

/// Whether `.xorsign.abs` is there.
pub(crate) fn xorsign(i: &Instruction) -> bool {
    i.has(Modifier::Xorsign)
}

#[inline(always)]
fn bits(i: &Inst, warp: &mut Warp, f: impl Fn(u32, u32) -> u32) -> Step {
    warp.map2_32(i.d, i.a, i.b, f);
    Step::Next
}

/// Minimum or maximum of bits of a format, given as its NaN's and infinity's bits and sign bit (PTX ISA
/// 9.7.3.11): -0 is below +0, NaN loses unless `keep_nan`; with `xorsign` the magnitudes are compared and the
/// signs multiplied.
#[inline(always)]
pub(crate) fn extreme<const MIN: bool>(
    [a, b]: [u32; 2],
    [sign_bit, infinity, nan]: [u32; 3],
    keep_nan: bool,
    xorsign: bool,
) -> u32 {
    let magnitude = sign_bit - 1;
    let sign = if xorsign { (a ^ b) & sign_bit } else { 0 };
    let (a, b) = if xorsign { (a & magnitude, b & magnitude) } else { (a, b) };
    let (a_nan, b_nan) = (a & magnitude > infinity, b & magnitude > infinity);
    // In order of value: negative numbers have their bits turned over.
    let key = |x: u32| if x & sign_bit != 0 { !x & (sign_bit | magnitude) } else { x | sign_bit };
    let first = if MIN { key(a) <= key(b) } else { key(a) >= key(b) };
    let both = if first { a } else { b };
    let either = if a_nan { b } else { both };
    let either = if b_nan { a } else { either };
    let is_nan = if keep_nan { a_nan | b_nan } else { a_nan & b_nan };
    if is_nan { nan } else { either | sign }
}

fn extreme32<const MIN: bool>(flush: bool, keep_nan: bool, xorsign: bool) -> Exec {
    fn run<const MIN: bool, const FLUSH: bool, const NAN: bool, const XORSIGN: bool>(
        i: &Inst,
        warp: &mut Warp,
        _: &mut Cx<'_>,
    ) -> Step {
        bits(i, warp, |a, b| {
            let f = |x| if FLUSH { flush32(f32::from_bits(x)).to_bits() } else { x };
            extreme::<MIN>([f(a), f(b)], [0x8000_0000, 0x7f80_0000, NAN32], NAN, XORSIGN)
        })
    }
    match (flush, keep_nan, xorsign) {
        (false, false, false) => run::<MIN, false, false, false>,
        (false, false, true) => run::<MIN, false, false, true>,
        (false, true, false) => run::<MIN, false, true, false>,
        (false, true, true) => run::<MIN, false, true, true>,
        (true, false, false) => run::<MIN, true, false, false>,
        (true, false, true) => run::<MIN, true, false, true>,
        (true, true, false) => run::<MIN, true, true, false>,
        (true, true, true) => run::<MIN, true, true, true>,
    }
}

fn extreme64<const MIN: bool>(a: u64, b: u64) -> u64 {
    let (x, y) = (f64::from_bits(a), f64::from_bits(b));
    match (x.is_nan(), y.is_nan()) {
        (true, true) => F64.nan,
        (true, false) => b,
        (false, true) => a,
        // `total_cmp` puts -0 below +0.
        (false, false) if (x.total_cmp(&y) == std::cmp::Ordering::Greater) == MIN => b,
        _ => a,
    }
}

fn nearest64(i: &Instruction, flush: bool) -> Option<Exec> {
    use Opcode as O;
    Some(match i.opcode() {
        O::Add => run64::<Add64>,
        O::Sub => run64::<Sub64>,
        O::Mul => run64::<Mul64>,
        O::Fma | O::Mad => run64::<Fma64>,
        O::Div => run64::<Div64>,
        O::Rcp if i.has(Modifier::Approx) => run64::<RcpGross>,
        O::Rcp => run64::<Rcp64>,
        O::Sqrt => run64::<Sqrt64>,
        O::Rsqrt if flush => run64::<RsqrtGross>,
        O::Rsqrt => run64::<Rsqrt64>,
        O::Abs => |i, w, _| each64(i, w, |a, _, _| a & (u64::MAX >> 1)),
        O::Neg => |i, w, _| each64(i, w, |a, _, _| a ^ 1 << 63),
        O::Copysign => |i, w, _| each64(i, w, |a, b, _| a & 1 << 63 | b & (u64::MAX >> 1)),
        O::Min => |i, w, _| each64(i, w, |a, b, _| extreme64::<true>(a, b)),
        O::Max => |i, w, _| each64(i, w, |a, b, _| extreme64::<false>(a, b)),
        O::Testp => return test(i),
        _ => return None,
    })
}

fn exact32(opcode: Opcode) -> Option<Exec> {
    fn run(i: &Inst, warp: &mut Warp, f: impl Fn([u64; 3], Round) -> u64) -> Step {
        let (round, flush, saturate) =
            (Round::of_code(i.imm), i.imm >> 8 & 1 != 0, i.imm >> 9 & 1 != 0);
        warp.map3_32(i.d, [i.a, i.b, i.c], |a, b, c| {
            let take = |x| if flush { flush32(f32::from_bits(x)).to_bits() } else { x };
            let mut r = f([a, b, c].map(|x| u64::from(take(x))), round) as u32;
            if flush {
                r = flush32(f32::from_bits(r)).to_bits();
            }
            if saturate { saturate32(f32::from_bits(r)).to_bits() } else { r }
        });
        Step::Next
    }
    const ONE: u64 = 0x3f80_0000;
    const SIGN: u64 = 1 << 31;
    Some(match opcode {
        Opcode::Add => |i, w, _| run(i, w, |[a, b, _], r| soft::fma(F32, a, ONE, b, r)),
        Opcode::Sub => |i, w, _| run(i, w, |[a, b, _], r| soft::fma(F32, a, ONE, b ^ SIGN, r)),
        Opcode::Mul => |i, w, _| run(i, w, |[a, b, _], r| soft::mul(F32, a, b, r)),
        Opcode::Fma | Opcode::Mad => |i, w, _| run(i, w, |[a, b, c], r| soft::fma(F32, a, b, c, r)),
        Opcode::Div => |i, w, _| run(i, w, |[a, b, _], r| soft::div(F32, a, b, r)),
        Opcode::Rcp => |i, w, _| run(i, w, |[a, _, _], r| soft::div(F32, ONE, a, r)),
        Opcode::Sqrt => |i, w, _| run(i, w, |[a, _, _], r| soft::sqrt(F32, a, r)),
        _ => return None,
    })
}

fn exact64(opcode: Opcode) -> Option<Exec> {
    fn run(i: &Inst, warp: &mut Warp, f: impl Fn([u64; 3], Round) -> u64) -> Step {
        let round = Round::of_code(i.imm);
        each64(i, warp, |a, b, c| f([a, b, c], round))
    }
    const ONE: u64 = 0x3ff0_0000_0000_0000;
    const SIGN: u64 = 1 << 63;
    Some(match opcode {
        Opcode::Add => |i, w, _| run(i, w, |[a, b, _], r| soft::fma(F64, a, ONE, b, r)),
        Opcode::Sub => |i, w, _| run(i, w, |[a, b, _], r| soft::fma(F64, a, ONE, b ^ SIGN, r)),
        Opcode::Mul => |i, w, _| run(i, w, |[a, b, _], r| soft::mul(F64, a, b, r)),
        Opcode::Fma | Opcode::Mad => |i, w, _| run(i, w, |[a, b, c], r| soft::fma(F64, a, b, c, r)),
        Opcode::Div => |i, w, _| run(i, w, |[a, b, _], r| soft::div(F64, a, b, r)),
        Opcode::Rcp => |i, w, _| run(i, w, |[a, _, _], r| soft::div(F64, ONE, a, r)),
        Opcode::Sqrt => |i, w, _| run(i, w, |[a, _, _], r| soft::sqrt(F64, a, r)),
        _ => return None,
    })
}

/// `testp` (PTX ISA 9.7.3.1). A zero is neither normal nor subnormal.
fn test(i: &Instruction) -> Option<Exec> {
    use std::num::FpCategory as C;
    fn run<const MASK: u32>(i: &Inst, warp: &mut Warp, wide: bool) -> Step {
        let mut bits = 0;
        for lane in crate::check::lanes(warp.mask) {
            let class = match wide {
                true => f64::from_bits(warp.r64[i.a as usize][lane]).classify(),
                false => f32::from_bits(warp.r32[i.a as usize][lane]).classify(),
            };
            bits |= (MASK >> class as u32 & 1) << lane;
        }
        warp.set_predicate(i.d, bits);
        Step::Next
    }
    const fn of(classes: &[C]) -> u32 {
        let (mut mask, mut at) = (0, 0);
        while at < classes.len() {
            mask |= 1 << classes[at] as u32;
            at += 1;
        }
        mask
    }
    macro_rules! pick {
        ($($modifier:ident = $classes:expr;)*) => {
            match i.ty() {
                $(Some(Type::F64) if i.has(Modifier::$modifier) =>
                    Some(|i, w, _| run::<{ of(&$classes) }>(i, w, true)),
                Some(_) if i.has(Modifier::$modifier) =>
                    Some(|i, w, _| run::<{ of(&$classes) }>(i, w, false)),)*
                _ => None,
            }
        };
    }
    pick! {
        Finite = [C::Zero, C::Subnormal, C::Normal];
        Infinite = [C::Infinite];
        Number = [C::Zero, C::Subnormal, C::Normal, C::Infinite];
        Notanumber = [C::Nan];
        Normal = [C::Normal];
        Subnormal = [C::Subnormal];
    }
}

/// `div.approx`: `a * (1 / b)`, whose reciprocal vanishes for the largest divisors (PTX ISA 9.7.3.8).
#[inline(always)]
fn div_approx(a: f32, b: f32) -> f32 {
    let large = b.abs() > f32::from_bits(0x7e80_0000) && b.is_finite();
    if large { a * 0f32.copysign(b) } else { a / b }
}

/// The upper half of an f64, as the gross approximations read and give it (PTX ISA 9.7.3.14, 9.7.3.17).
fn upper(x: f64) -> f64 {
    let kept = f64::from_bits(x.to_bits() & 0xffff_ffff_0000_0000);
    if x.is_subnormal() { 0f64.copysign(x) } else { kept }
}

fn upper_flushed(x: f64) -> f64 {
    if x.is_nan() { x } else { upper(x) }
}

/// 2^x, correct to 37 bits.
#[inline(always)]
pub(crate) fn exp2(x: f32) -> f64 {
    exp2_of(f64::from(x))
}

#[inline(always)]
fn exp2_of(x: f64) -> f64 {
    // Beyond these, the result is 0 or infinity in f32.
    let y = if x > 130.0 { 130.0 } else { x };
    let y = if y < -160.0 { -160.0 } else { y };
    // Adding 1.5 * 2^52 rounds to an integer, which is then in the lowest bits.
    const MAGIC: f64 = 6_755_399_441_055_744.0;
    let shifted = y + MAGIC;
    let n = shifted.to_bits();
    let f = (y - (shifted - MAGIC)) * std::f64::consts::LN_2;
    // The series of e^f for |f| <= ln 2 / 2.
    let mut p = 1.0 / 362_880.0;
    p = p * f + 1.0 / 40_320.0;
    p = p * f + 1.0 / 5_040.0;
    p = p * f + 1.0 / 720.0;
    p = p * f + 1.0 / 120.0;
    p = p * f + 1.0 / 24.0;
    p = p * f + 1.0 / 6.0;
    p = p * f + 0.5;
    p = p * f + 1.0;
    p = p * f + 1.0;
    let scale = f64::from_bits(n.wrapping_add(1023) << 52);
    if x.is_nan() { f64::NAN } else { p * scale }
}

/// The logarithm to base 2 of an f32.
pub(crate) fn log2(x: f64) -> f64 {
    if x.is_nan() || x < 0.0 {
        return f64::NAN;
    }
    if x == 0.0 {
        return f64::NEG_INFINITY;
    }
    if x.is_infinite() {
        return x;
    }
    let bits = x.to_bits();
    let mut n = (bits >> 52) as i32 - 1023;
    let mut m = f64::from_bits(bits & ((1 << 52) - 1) | 1023 << 52);
    if m > std::f64::consts::SQRT_2 {
        m /= 2.0;
        n += 1;
    }
    // ln m = 2 (s + s^3/3 + s^5/5 + ...), |s| <= 0.172.
    let s = (m - 1.0) / (m + 1.0);
    let q = s * s;
    let mut sum = 0.0;
    for k in (0..12).rev() {
        sum = sum * q + 1.0 / f64::from(2 * k + 1);
    }
    f64::from(n) + sum * s * (2.0 * std::f64::consts::LOG2_E)
}

/// Sine and cosine of an f32. Beyond ±100 π the ISA promises nothing; the reduction here is good to 2^20.
fn sin_cos(x: f64) -> (f64, f64) {
    if !x.is_finite() {
        return (f64::NAN, f64::NAN);
    }
    if x == 0.0 {
        return (x, 1.0);
    }
    // π/2 in two parts; the first has 33 bits, so that its product with a count below 2^20 is exact.
    const HIGH: f64 = 1.570_796_326_734_125_6;
    const LOW: f64 = 6.077_100_506_506_192e-11;
    let n = (x * std::f64::consts::FRAC_2_PI).round();
    let r = (x - n * HIGH) - n * LOW;
    let q = r * r;
    let (mut s, mut c) = (0.0, 0.0);
    for k in (1..=8).rev() {
        let k = f64::from(2 * k);
        s = (1.0 + s) * -q / (k * (k + 1.0));
        c = (1.0 + c) * -q / (k * (k - 1.0));
    }
    let (s, c) = (r + r * s, 1.0 + c);
    // Which quarter; counts too large for i64 have no meaning left.
    match n as i64 & 3 {
        0 => (s, c),
        1 => (c, -s),
        2 => (-s, -c),
        _ => (-c, s),
    }
}

/// The hyperbolic tangent.
pub(crate) fn tanh(x: f32) -> f32 {
    let y = f64::from(x);
    if x.abs() < 0.125 {
        let q = y * y;
        let series =
            1.0 - q * (1.0 / 3.0 - q * (2.0 / 15.0 - q * (17.0 / 315.0 - q * 62.0 / 2835.0)));
        return (y * series) as f32;
    }
    if x.is_nan() {
        return x;
    }
    let e = exp2_of(2.0 * y.abs() * std::f64::consts::LOG2_E);
    ((1.0 - 2.0 / (e + 1.0)) as f32).copysign(x)
}

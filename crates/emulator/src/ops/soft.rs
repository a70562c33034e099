//! Floating point in integers: exact values and their rounding in every direction.
//!
//! What the host's arithmetic does in one correctly rounded step is done there; directed rounding, narrow
//! formats and everything that would be rounded twice is done here.

/// How a value is rounded to a format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Round {
    /// To nearest, ties to even.
    Nearest,
    /// To nearest, ties away from zero.
    Away,
    Zero,
    Down,
    Up,
}

impl Round {
    /// As a number, to be kept in an instruction.
    pub(crate) fn code(self) -> u64 {
        match self {
            Round::Nearest => 0,
            Round::Away => 1,
            Round::Zero => 2,
            Round::Down => 3,
            Round::Up => 4,
        }
    }

    /// From its number.
    pub(crate) fn of_code(code: u64) -> Round {
        match code & 7 {
            1 => Round::Away,
            2 => Round::Zero,
            3 => Round::Down,
            4 => Round::Up,
            _ => Round::Nearest,
        }
    }

    /// Whether the magnitude goes up, by what is cut off: against the half of a unit, and whether
    /// anything is.
    #[inline(always)]
    fn up(self, negative: bool, odd: bool, half: std::cmp::Ordering, inexact: bool) -> bool {
        use std::cmp::Ordering::{Equal, Greater};
        match self {
            Round::Nearest => half == Greater || (half == Equal && odd),
            Round::Away => half != std::cmp::Ordering::Less,
            Round::Zero => false,
            Round::Down => negative && inexact,
            Round::Up => !negative && inexact,
        }
    }
}

/// An IEEE binary format with infinities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Format {
    /// Bits of the exponent.
    pub(crate) exponent: u32,
    /// Stored bits of the significand.
    pub(crate) fraction: u32,
    /// The NaN that operations give (PTX ISA 9.7.3, 9.7.4: canonical NaNs).
    pub(crate) nan: u64,
}

pub(crate) const F16: Format = Format { exponent: 5, fraction: 10, nan: 0x7fff };
pub(crate) const BF16: Format = Format { exponent: 8, fraction: 7, nan: 0x7fff };
/// With its 13 zero bits at the end cut off.
pub(crate) const TF32: Format = Format { exponent: 8, fraction: 10, nan: 0x3ffff };
pub(crate) const F32: Format = Format { exponent: 8, fraction: 23, nan: 0x7fff_ffff };
pub(crate) const F64: Format = Format { exponent: 11, fraction: 52, nan: 0x7ff8_0000_0000_0000 };
pub(crate) const E5M2: Format = Format { exponent: 5, fraction: 2, nan: 0x7f };

impl Format {
    /// Bits of positive infinity.
    pub(crate) const fn infinity(self) -> u64 {
        ((1 << self.exponent) - 1) << self.fraction
    }

    /// Exponent of the smallest normal number.
    const fn smallest(self) -> i32 {
        2 - (1 << (self.exponent - 1))
    }

    /// The bit of the sign.
    pub(crate) const fn sign_bit(self) -> u64 {
        1 << (self.exponent + self.fraction)
    }

    /// What a value beyond all finite ones becomes.
    fn overflow(self, negative: bool, mode: Round) -> u64 {
        match (mode, negative) {
            (Round::Zero, _) | (Round::Down, false) | (Round::Up, true) => self.infinity() - 1,
            _ => self.infinity(),
        }
    }
}

/// A number taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Number {
    Nan,
    Infinity(bool),
    Finite(Exact),
}

/// ±mantissa · 2^exponent. With `sticky`, a little more than that in magnitude: less than a unit of the
/// mantissa, which then has many more bits than any format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exact {
    pub(crate) negative: bool,
    pub(crate) mantissa: u128,
    pub(crate) exponent: i32,
    pub(crate) sticky: bool,
}

/// Takes the bits of a number apart.
pub(crate) fn unpack(bits: u64, f: Format) -> Number {
    let negative = bits & f.sign_bit() != 0;
    let magnitude = bits & (f.sign_bit() - 1);
    if magnitude > f.infinity() {
        return Number::Nan;
    }
    if magnitude == f.infinity() {
        return Number::Infinity(negative);
    }
    let biased = (magnitude >> f.fraction) as i32;
    let fraction = magnitude & ((1 << f.fraction) - 1);
    let (mantissa, biased) = match biased {
        0 => (fraction, 1),
        b => (fraction | 1 << f.fraction, b),
    };
    Number::Finite(Exact {
        negative,
        mantissa: u128::from(mantissa),
        exponent: f.smallest() + biased - 1 - f.fraction as i32,
        sticky: false,
    })
}

impl Exact {
    /// Rounds to a format; subnormal numbers are kept.
    pub(crate) fn round(self, f: Format, mode: Round) -> u64 {
        let sign = if self.negative { f.sign_bit() } else { 0 };
        if self.mantissa == 0 {
            return sign;
        }
        let fraction = f.fraction as i32;
        let top = 127 - self.mantissa.leading_zeros() as i32 + self.exponent;
        let unit = top.max(f.smallest()) - fraction;
        let drop = unit - self.exponent;
        let (kept, half, inexact) = match drop {
            ..=0 => {
                let kept = self.mantissa << -drop;
                (kept, std::cmp::Ordering::Less, self.sticky)
            }
            1..=127 => {
                let cut = self.mantissa & ((1 << drop) - 1);
                let half = cut.cmp(&(1 << (drop - 1)));
                let half = if self.sticky { half.then(std::cmp::Ordering::Greater) } else { half };
                (self.mantissa >> drop, half, cut != 0 || self.sticky)
            }
            128 => {
                let half = self.mantissa.cmp(&(1 << 127));
                let half = if self.sticky { half.then(std::cmp::Ordering::Greater) } else { half };
                (0, half, true)
            }
            _ => (0, std::cmp::Ordering::Less, true),
        };
        let up = mode.up(self.negative, kept & 1 != 0, half, inexact);
        // The leading bit of the significand counts the exponent up by one; a carry does too.
        let scale = (unit + fraction - f.smallest()) as u64;
        if scale > 1 << f.exponent {
            return sign | f.overflow(self.negative, mode);
        }
        let bits = (scale << f.fraction) + kept as u64 + u64::from(up);
        sign | if bits >= f.infinity() { f.overflow(self.negative, mode) } else { bits }
    }

    fn is_zero(self) -> bool {
        self.mantissa == 0
    }

    fn times(self, other: Exact) -> Exact {
        Exact {
            negative: self.negative != other.negative,
            mantissa: self.mantissa * other.mantissa,
            exponent: self.exponent + other.exponent,
            sticky: false,
        }
    }

    /// The sum; of an exact zero from different signs, the sign is that which the rounding gives.
    fn plus(self, other: Exact, mode: Round) -> Exact {
        if self.is_zero() && other.is_zero() {
            let negative = match self.negative == other.negative {
                true => self.negative,
                false => mode == Round::Down,
            };
            return Exact { negative, ..self };
        }
        if self.is_zero() {
            return other;
        }
        if other.is_zero() {
            return self;
        }
        // Both with the highest bit at 126, so that a carry has room.
        let high = |x: Exact| {
            let shift = x.mantissa.leading_zeros() as i32 - 1;
            let mantissa = if shift < 0 { x.mantissa >> 1 } else { x.mantissa << shift };
            Exact { mantissa, exponent: x.exponent - shift, ..x }
        };
        let (a, b) = (high(self), high(other));
        let (big, small) = match (a.exponent, a.mantissa) >= (b.exponent, b.mantissa) {
            true => (a, b),
            false => (b, a),
        };
        let distance = big.exponent - small.exponent;
        let (low, cut) = match distance {
            0 => (small.mantissa, false),
            1..=127 => {
                let cut = small.mantissa & ((1 << distance) - 1) != 0;
                (small.mantissa >> distance, cut)
            }
            _ => (0, true),
        };
        if big.negative == small.negative {
            return Exact { mantissa: big.mantissa + low, sticky: cut, ..big };
        }
        // big - (low + a little) = (big - low - 1) + a little.
        let mantissa = big.mantissa - low - u128::from(cut);
        let negative = if mantissa == 0 && !cut { mode == Round::Down } else { big.negative };
        Exact { negative, mantissa, exponent: big.exponent, sticky: cut }
    }
}

/// a · b + c, rounded once.
pub(crate) fn fma(f: Format, a: u64, b: u64, c: u64, mode: Round) -> u64 {
    use Number::{Finite, Infinity, Nan};
    match (unpack(a, f), unpack(b, f), unpack(c, f)) {
        (Nan, _, _) | (_, Nan, _) | (_, _, Nan) => f.nan,
        (Finite(a), Finite(b), Finite(c)) => a.times(b).plus(c, mode).round(f, mode),
        (Finite(_), Finite(_), Infinity(_)) => c,
        (a, b, c) => {
            let zero = |n| matches!(n, Finite(x) if Exact::is_zero(x));
            let negative = sign(a) != sign(b);
            let opposed = matches!(c, Infinity(n) if n != negative);
            if zero(a) || zero(b) || opposed { f.nan } else { infinity(f, negative) }
        }
    }
}

/// a · b.
pub(crate) fn mul(f: Format, a: u64, b: u64, mode: Round) -> u64 {
    use Number::{Finite, Nan};
    match (unpack(a, f), unpack(b, f)) {
        (Nan, _) | (_, Nan) => f.nan,
        (Finite(a), Finite(b)) => a.times(b).round(f, mode),
        (a, b) => {
            let zero = |n| matches!(n, Finite(x) if Exact::is_zero(x));
            if zero(a) || zero(b) { f.nan } else { infinity(f, sign(a) != sign(b)) }
        }
    }
}

/// a / b.
pub(crate) fn div(f: Format, a: u64, b: u64, mode: Round) -> u64 {
    use Number::{Finite, Infinity, Nan};
    match (unpack(a, f), unpack(b, f)) {
        (Nan, _) | (_, Nan) | (Infinity(_), Infinity(_)) => f.nan,
        (Infinity(n), Finite(b)) => infinity(f, n != b.negative),
        (Finite(a), Infinity(n)) => infinity(f, a.negative != n) & f.sign_bit(),
        (Finite(a), Finite(b)) => {
            let negative = a.negative != b.negative;
            match (a.is_zero(), b.is_zero()) {
                (true, true) => f.nan,
                (false, true) => infinity(f, negative),
                (true, false) => infinity(f, negative) & f.sign_bit(),
                (false, false) => {
                    let shift = a.mantissa.leading_zeros();
                    let n = a.mantissa << shift;
                    Exact {
                        negative,
                        mantissa: n / b.mantissa,
                        exponent: a.exponent - shift as i32 - b.exponent,
                        sticky: n % b.mantissa != 0,
                    }
                    .round(f, mode)
                }
            }
        }
    }
}

/// Square root.
pub(crate) fn sqrt(f: Format, a: u64, mode: Round) -> u64 {
    match unpack(a, f) {
        Number::Nan | Number::Infinity(true) => f.nan,
        Number::Infinity(false) => a,
        Number::Finite(x) if x.is_zero() => a,
        Number::Finite(x) if x.negative => f.nan,
        Number::Finite(x) => {
            let shift = x.mantissa.leading_zeros() as i32;
            // An even exponent.
            let shift = shift - ((x.exponent - shift) & 1);
            let n = x.mantissa << shift;
            let root = n.isqrt();
            Exact {
                negative: false,
                mantissa: root,
                exponent: (x.exponent - shift) / 2,
                sticky: root * root != n,
            }
            .round(f, mode)
        }
    }
}

fn sign(n: Number) -> bool {
    match n {
        Number::Nan => false,
        Number::Infinity(negative) => negative,
        Number::Finite(x) => x.negative,
    }
}

fn infinity(f: Format, negative: bool) -> u64 {
    f.infinity() | if negative { f.sign_bit() } else { 0 }
}

/// Rounds an f64 to a narrower format; a NaN becomes the format's.
#[inline]
pub(crate) fn narrow(x: f64, f: Format, mode: Round) -> u64 {
    let bits = x.to_bits();
    let negative = bits >> 63 != 0;
    let sign = if negative { f.sign_bit() } else { 0 };
    let magnitude = bits & (u64::MAX >> 1);
    let infinity = 0x7ff << 52;
    if magnitude >= infinity {
        return if magnitude > infinity { f.nan } else { sign | f.infinity() };
    }
    if magnitude == 0 {
        return sign;
    }
    if magnitude >> 52 == 0 {
        // Subnormal in f64: below every subnormal of a narrower format.
        let up = mode.up(negative, false, std::cmp::Ordering::Less, true);
        return sign | u64::from(up);
    }
    let out = cut(magnitude, negative, f.smallest(), f.fraction, mode);
    sign | if out >= f.infinity() { f.overflow(negative, mode) } else { out }
}

/// Rounds a normal f64, given by the bits of its magnitude, to this many fraction bits and numbers the
/// result as if exponents had no end.
#[inline]
fn cut(magnitude: u64, negative: bool, smallest: i32, fraction: u32, mode: Round) -> u64 {
    let exponent = (magnitude >> 52) as i32 - 1023;
    let mantissa = magnitude & ((1 << 52) - 1) | 1 << 52;
    let unit = exponent.max(smallest) - fraction as i32;
    let drop = unit - (exponent - 52);
    let (kept, half, inexact) = match drop {
        0 => (mantissa, std::cmp::Ordering::Less, false),
        1..=63 => {
            let cut = mantissa & ((1 << drop) - 1);
            (mantissa >> drop, cut.cmp(&(1 << (drop - 1))), cut != 0)
        }
        _ => (0, std::cmp::Ordering::Less, true),
    };
    let up = mode.up(negative, kept & 1 != 0, half, inexact);
    let scale = (unit + fraction as i32 - smallest) as u64;
    (scale << fraction) + kept + u64::from(up)
}

/// Rounds to nearest e4m3, which has no infinities: beyond 448 is 448, NaN is 0x7f (PTX ISA 5.2.3, 9.7.9.21).
#[inline]
pub(crate) fn e4m3_of(x: f64) -> u32 {
    let magnitude = x.to_bits() & (u64::MAX >> 1);
    if x.is_nan() {
        return 0x7f;
    }
    let sign = if x.is_sign_negative() { 0x80 } else { 0 };
    if magnitude >> 52 == 0 {
        return sign;
    }
    sign | cut(magnitude, false, -6, 3, Round::Nearest).min(0x7e) as u32
}

/// Rounds to nearest e5m2; beyond 57,344 is 57,344, NaN is 0x7f.
#[inline]
pub(crate) fn e5m2_of(x: f64) -> u32 {
    if x.is_nan() {
        return 0x7f;
    }
    narrow(x.clamp(-57_344.0, 57_344.0), E5M2, Round::Nearest) as u32
}

/// An e4m3 as f32.
pub(crate) fn f32_of_e4m3(bits: u32) -> f32 {
    let magnitude = bits & 0x7f;
    let value = match (magnitude >> 3, magnitude & 7) {
        (15, 7) => f32::NAN,
        (0, m) => m as f32 / 512.0,
        (e, m) => f32::from_bits((e + 120) << 23 | m << 20),
    };
    if bits & 0x80 != 0 { -value } else { value }
}

/// An e5m2 as f32: the upper half of an f16.
pub(crate) fn f32_of_e5m2(bits: u32) -> f32 {
    crate::ops::half::f32_of_f16((bits & 0xff) << 8)
}

/// An f64 sum rounded to odd: rounding it again, to a format of at most 51 bits, gives what rounding the
/// exact sum once would (Boldo and Melquiond, "Emulation of FMA and correctly rounded sums", 2008).
/// Neither operand may be so large that the sum overflows.
#[inline(always)]
pub(crate) fn sum_to_odd(a: f64, b: f64) -> f64 {
    let sum = a + b;
    // Knuth's exact error of the sum.
    let b_part = sum - a;
    let error = (a - (sum - b_part)) + (b - b_part);
    let bits = sum.to_bits();
    // Not for infinities and NaN, whose error is NaN.
    let fix = error.abs() > 0.0 && bits & 1 == 0;
    let away = (error > 0.0) == (sum > 0.0);
    let step = if away { 1 } else { u64::MAX };
    f64::from_bits(bits.wrapping_add(if fix { step } else { 0 }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers() -> impl Iterator<Item = u64> {
        let mut x = 0x9e37_79b9_97f4_a7c1u64;
        std::iter::from_fn(move || {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            Some(x)
        })
    }

    #[test]
    fn nearest_agrees_with_the_host() {
        let mut n = numbers();
        let mut next = move || n.next().expect("endless");
        for i in 0..300_000 {
            let (mut a, mut b, mut c) = (next(), next(), next());
            if i % 2 == 0 {
                // Exponents near each other, so that sums cancel.
                b = a ^ (b & 0x800f_0000_0000_ffff);
                c = a.wrapping_mul(2) >> 1 ^ (c & 0x8000_0000_00ff_ffff);
                a = a & !(0x7ff << 52) | 0x3ff << 52;
            }
            let f = |x: u64| f64::from_bits(x);
            let same = |got: u64, want: f64| {
                let ok = got == want.to_bits() || want.is_nan() && got == F64.nan;
                assert!(ok, "{a:#x} {b:#x} {c:#x}: {got:#x} {:#x}", want.to_bits());
            };
            same(fma(F64, a, b, c, Round::Nearest), f(a).mul_add(f(b), f(c)));
            same(mul(F64, a, b, Round::Nearest), f(a) * f(b));
            same(div(F64, a, b, Round::Nearest), f(a) / f(b));
            same(sqrt(F64, a, Round::Nearest), f(a).sqrt());
            let (a, b, c) = (a as u32, b as u32, c as u32);
            let f = |x: u32| f32::from_bits(x);
            let same = |got: u64, want: f32| {
                let ok = got as u32 == want.to_bits() || want.is_nan() && got == F32.nan;
                assert!(ok, "{a:#x} {b:#x} {c:#x}: {got:#x} {:#x}", want.to_bits());
            };
            let [x, y, z] = [a, b, c].map(u64::from);
            same(fma(F32, x, y, z, Round::Nearest), f(a).mul_add(f(b), f(c)));
            same(fma(F32, x, 0x3f80_0000, z, Round::Nearest), f(a) + f(c));
            same(div(F32, x, y, Round::Nearest), f(a) / f(b));
            same(sqrt(F32, x, Round::Nearest), f(a).sqrt());
            let product = f64::from(f(a)) * f64::from(f(b));
            same(
                u64::from((sum_to_odd(product, f64::from(f(c))) as f32).to_bits()),
                f(a).mul_add(f(b), f(c)),
            );
        }
    }

    #[test]
    fn directions_enclose_the_exact_value() {
        let mut n = numbers();
        let mut next = move || n.next().expect("endless");
        for _ in 0..200_000 {
            let [a, b, c] = [next(), next(), next()].map(|x| x & 0xffff);
            for f in [F16, BF16] {
                let at = |mode| {
                    let bits = fma(f, a, b, c, mode);
                    let Number::Finite(x) = unpack(bits, f) else { return None };
                    let v = x.mantissa as f64 * f64::from(x.exponent).exp2();
                    Some(if x.negative { -v } else { v })
                };
                let all = (at(Round::Down), at(Round::Up), at(Round::Nearest), at(Round::Zero));
                let (Some(down), Some(up), Some(near), Some(zero)) = all else { continue };
                assert!(down <= near && near <= up, "{a:#x} {b:#x} {c:#x}");
                assert_eq!(zero, if down >= 0.0 { down } else { up });
                let bits = |m| fma(f, a, b, c, m);
                let (d, u) = (bits(Round::Down), bits(Round::Up));
                let gap = d & 0x7fff;
                assert!(gap.abs_diff(u & 0x7fff) <= 1 || down == up);
            }
        }
    }

    #[test]
    fn narrowing_agrees_with_exact_rounding() {
        let mut n = numbers();
        let modes = [Round::Nearest, Round::Away, Round::Zero, Round::Down, Round::Up];
        for i in 0..500_000 {
            let mut x = n.next().expect("endless");
            if i % 2 == 0 {
                // Into the range of f16.
                x = x & !(0x7ff << 52) | (980 + (x >> 52) % 70) << 52;
            }
            for f in [F16, BF16, TF32, F32, E5M2] {
                for mode in modes {
                    let want = match unpack(x, F64) {
                        Number::Nan => f.nan,
                        Number::Infinity(n) => infinity(f, n),
                        Number::Finite(v) => v.round(f, mode),
                    };
                    assert_eq!(narrow(f64::from_bits(x), f, mode), want, "{x:#x} {f:?} {mode:?}");
                }
            }
        }
    }
}

//! The products themselves.
//!
//! Every element of the accumulator is `fma(a, b, d)` over k in order, each step rounded once. The hardware
//! leaves order and rounding open (PTX ISA 9.7.15.5.2); this order is the same whatever the host has: with
//! FMA instructions in vectors, without them by the exact emulation that `fma.f32` uses too.

use crate::ops::float::fma32;
use crate::ops::soft::F32;

/// Accumulator registers of a warp: register `d[j]` of `registers`, j = 4 (n / 8) + 2 h + n % 2 (see
/// `operand::spread_b`).
pub(crate) struct Accumulator<'a> {
    pub(crate) registers: &'a mut [[u32; 32]],
    pub(crate) d: &'a [u32],
}

/// `d += a b` in f32. `a` has 2 K rows of lanes, half the rows of the tile first; `b` has K rows.
pub(crate) fn multiply(d: &mut Accumulator<'_>, a: &[[f32; 32]], b: &[[f32; 8]]) {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma") {
        #[allow(unsafe_code, reason = "a function for a processor that has these instructions")]
        // SAFETY: the processor has them, as was just asked.
        unsafe {
            multiply_fma(d, a, b);
        }
        return;
    }
    multiply_with(d, a, b, portable_fma);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn multiply_fma(d: &mut Accumulator<'_>, a: &[[f32; 32]], b: &[[f32; 8]]) {
    multiply_with(d, a, b, f32::mul_add);
}

/// A fused multiply-add without relying on the processor; where the target always has one, that.
#[inline(always)]
fn portable_fma(a: f32, b: f32, c: f32) -> f32 {
    if cfg!(any(target_arch = "aarch64", target_feature = "fma")) {
        a.mul_add(b, c)
    } else {
        fma32(a, b, c)
    }
}

#[inline(always)]
fn multiply_with(
    d: &mut Accumulator<'_>,
    a: &[[f32; 32]],
    b: &[[f32; 8]],
    fma: impl Fn(f32, f32, f32) -> f32 + Copy,
) {
    let count = d.d.len() / 2;
    let columns = a.len() / 2;
    for (h, a) in a.chunks_exact(columns).enumerate() {
        // Two accumulator registers at a time share what is loaded of A; both stay in vectors.
        for j in (0..count).step_by(2) {
            let [p, q] = [0, 1].map(|o| d.d[2 * j + 2 * h + o] as usize);
            let (mut x, mut y) = (load(&d.registers[p]), load(&d.registers[q]));
            for (a, b) in a.iter().zip(b[j..].chunks(count)) {
                let [b0, b1, ..] = b else { break };
                for c in 0..4 {
                    for l in 0..8 {
                        let a = a[8 * c + l];
                        x[c][l] = fma(a, b0[l], x[c][l]);
                        y[c][l] = fma(a, b1[l], y[c][l]);
                    }
                }
            }
            store(&x, &mut d.registers[p]);
            store(&y, &mut d.registers[q]);
        }
    }
}

#[inline(always)]
fn load(register: &[u32; 32]) -> [[f32; 8]; 4] {
    let mut out = [[0.0; 8]; 4];
    for c in 0..4 {
        for l in 0..8 {
            out[c][l] = f32::from_bits(register[8 * c + l]);
        }
    }
    out
}

#[inline(always)]
fn store(values: &[[f32; 8]; 4], register: &mut [u32; 32]) {
    for c in 0..4 {
        for l in 0..8 {
            let x = values[c][l];
            register[8 * c + l] = if x.is_nan() { F32.nan as u32 } else { x.to_bits() };
        }
    }
}

/// As [`multiply`], of 8-bit integers given by the bits of the operands; sums are exact, since 32 products
/// have 21 bits, and then added with wrap-around or saturation.
pub(crate) fn multiply_integers(
    d: &mut Accumulator<'_>,
    a: &[[f32; 32]],
    b: &[[f32; 8]],
    saturate: bool,
) {
    let count = d.d.len() / 2;
    let columns = a.len() / 2;
    for (h, a) in a.chunks_exact(columns).enumerate() {
        for j in 0..count {
            let place = d.d[4 * (j / 2) + 2 * h + j % 2] as usize;
            let mut sums = [0i32; 32];
            for (a, b) in a.iter().zip(b[j..].chunks(count)) {
                for (l, sum) in sums.iter_mut().enumerate() {
                    // Both have at most 9 bits with sign, and 16 bits suffice for the factors.
                    *sum += a[l].to_bits() as i32 * b[0][l % 8].to_bits() as i32;
                }
            }
            for (d, sum) in d.registers[place].iter_mut().zip(sums) {
                let x = *d as i32;
                *d = (if saturate { x.saturating_add(sum) } else { x.wrapping_add(sum) }) as u32;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With and without the processor's instructions, bit for bit; small products included.
    #[test]
    fn every_way_gives_the_same_bits() {
        let mut x = 12345u32;
        let mut next = || {
            x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            // Few bits, as operands have, and exponents from subnormal products to large ones.
            f32::from_bits(x & 0x80ff_0000 | (x >> 3 & 0x3f | 0x20) << 24 & 0x7f00_0000)
        };
        let a: Vec<[f32; 32]> = (0..32).map(|_| std::array::from_fn(|_| next())).collect();
        let b: Vec<[f32; 8]> = (0..16 * 16).map(|_| std::array::from_fn(|_| next())).collect();
        let d: Vec<u32> = (0..32).collect();
        let start: Vec<[u32; 32]> =
            (0..32).map(|_| std::array::from_fn(|_| next().to_bits())).collect();
        let (mut one, mut two) = (start.clone(), start);
        multiply(&mut Accumulator { registers: &mut one, d: &d }, &a, &b);
        multiply_with(&mut Accumulator { registers: &mut two, d: &d }, &a, &b, fma32);
        for (one, two) in one.iter().flatten().zip(two.iter().flatten()) {
            let (x, y) = (f32::from_bits(*one), f32::from_bits(*two));
            assert!(one == two || x.is_nan() && y.is_nan(), "{one:#x} {two:#x}");
        }
    }
}

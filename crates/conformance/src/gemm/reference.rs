//! What a product is: in f64, and plainly in the kernel's own types.

use half::{bf16, f16};
use zeroforge_kernels::gemm::{Activation, Element};

/// Arithmetic of one of the two results.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Precision {
    /// f64 throughout.
    Exact,
    /// Sums and epilogue in f32 (i32 for i8), one after the other.
    Plain,
}

impl Precision {
    /// A value as this arithmetic holds it.
    pub(super) fn hold(self, v: f64) -> f64 {
        match self {
            Precision::Exact => v,
            Precision::Plain => f64::from(v as f32),
        }
    }
}

/// The value of an e4m3 byte (OCP 8-bit floating point, 5.3).
pub(super) fn from_e4m3(bits: u8) -> f64 {
    let sign = if bits & 0x80 == 0 { 1.0 } else { -1.0 };
    let (exponent, fraction) = (i32::from(bits >> 3 & 15), f64::from(bits & 7));
    sign * match (exponent, bits & 7) {
        (15, 7) => f64::NAN,
        (0, _) => fraction / 8.0 * 2f64.powi(-6),
        _ => (1.0 + fraction / 8.0) * 2f64.powi(exponent - 7),
    }
}

/// The nearest e4m3, ties to even; values beyond the largest become it.
pub(super) fn to_e4m3(v: f64) -> u8 {
    let sign = if v.is_sign_negative() { 0x80 } else { 0 };
    if v.is_nan() {
        return 0x7f;
    }
    let v = v.abs().min(448.0);
    let exponent = (v.log2().floor() as i32).clamp(-6, 8);
    let unit = 2f64.powi(exponent - 3);
    // Adding the bits of fraction and exponent carries over where rounding reaches the next power of two.
    let units = (v / unit).round_ties_even() as i32;
    let bits = (exponent + 6) * 8 + units;
    sign | bits.clamp(0, 0x7e) as u8
}

/// Values as bytes of a type.
pub(super) fn encode(element: Element, values: &[f64]) -> Vec<u8> {
    match element {
        Element::Bf16 => values.iter().flat_map(|v| bf16::from_f64(*v).to_le_bytes()).collect(),
        Element::F16 => values.iter().flat_map(|v| f16::from_f64(*v).to_le_bytes()).collect(),
        Element::E4m3 => values.iter().map(|v| to_e4m3(*v)).collect(),
        Element::I8 => values.iter().map(|v| v.round_ties_even() as i8 as u8).collect(),
        Element::F32 => values.iter().flat_map(|v| (*v as f32).to_le_bytes()).collect(),
        Element::I32 => values.iter().flat_map(|v| (*v as i32).to_le_bytes()).collect(),
    }
}

/// Bytes of a type as values.
pub(super) fn decode(element: Element, bytes: &[u8]) -> Vec<f64> {
    match element {
        Element::Bf16 => {
            bytes.as_chunks().0.iter().map(|c| bf16::from_le_bytes(*c).to_f64()).collect()
        }
        Element::F16 => {
            bytes.as_chunks().0.iter().map(|c| f16::from_le_bytes(*c).to_f64()).collect()
        }
        Element::E4m3 => bytes.iter().map(|b| from_e4m3(*b)).collect(),
        Element::I8 => bytes.iter().map(|b| f64::from(*b as i8)).collect(),
        Element::F32 => {
            bytes.as_chunks().0.iter().map(|c| f64::from(f32::from_le_bytes(*c))).collect()
        }
        Element::I32 => {
            bytes.as_chunks().0.iter().map(|c| f64::from(i32::from_le_bytes(*c))).collect()
        }
    }
}

/// An activation's value in f64.
pub(super) fn activate(f: Activation, v: f64) -> f64 {
    match f {
        Activation::Relu => {
            if v < 0.0 {
                0.0
            } else {
                v
            }
        }
        Activation::Gelu => 0.5 * v * (1.0 + erf(v / std::f64::consts::SQRT_2)),
        Activation::GeluTanh => {
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (v + 0.044715 * v * v * v);
            0.5 * v * (1.0 + inner.tanh())
        }
        Activation::Silu => v / (1.0 + (-v).exp()),
        Activation::Sigmoid => 1.0 / (1.0 + (-v).exp()),
        Activation::Tanh => v.tanh(),
    }
}

/// The error function: its series near zero, the continued fraction of its complement elsewhere (Abramowitz and
/// Stegun, 7.1.6 and 7.1.14).
fn erf(x: f64) -> f64 {
    if x.is_nan() {
        return x;
    }
    let a = x.abs();
    let scale = (-a * a).exp() / std::f64::consts::PI.sqrt();
    if a < 3.0 {
        let (mut term, mut sum, mut n) = (a, a, 0.0);
        while term > sum * 1e-17 {
            n += 1.0;
            term *= 2.0 * a * a / (2.0 * n + 1.0);
            sum += term;
        }
        return (2.0 * scale * sum).copysign(x);
    }
    if a > 6.0 {
        return 1f64.copysign(x);
    }
    let fraction = (1..60).rev().fold(a, |f, k| a + f64::from(k) / 2.0 / f);
    (1.0 - scale / fraction).copysign(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_e4m3_survives_a_round_trip() {
        for bits in 0..=255u8 {
            let v = from_e4m3(bits);
            let back = to_e4m3(v);
            assert!(
                back == bits || v.is_nan() && back & 0x7f == 0x7f,
                "{bits:#x} is {v} is {back:#x}"
            );
        }
        for (v, wanted) in [
            (449.0, 448.0),
            (1e30, 448.0),
            (-f64::INFINITY, -448.0),
            (1.0625, 1.0),
            (1.19, 1.25),
            (0.001, 2f64.powi(-9)),
            (0.9999, 1.0),
        ] {
            assert_eq!(from_e4m3(to_e4m3(v)), wanted, "{v}");
        }
    }

    #[test]
    fn erf_has_known_values() {
        for (x, y) in [
            (0.5, 0.520_499_877_813_046_5),
            (2.0, 0.995_322_265_018_952_7),
            (3.5, 0.999_999_256_901_627_7),
        ] {
            assert!((erf(x) - y).abs() < 1e-15 && (erf(-x) + y).abs() < 1e-15, "{x}: {}", erf(x));
        }
    }
}

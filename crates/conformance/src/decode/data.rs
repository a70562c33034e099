//! Tensors with gaps, e4m3, rotary tables.

use std::ops::Range;

use zeroforge_artifact::DType;
use zeroforge_kernels::decode::Rotary;

use crate::random::Random;
use crate::tensor::round;

/// A tensor [unit, head, row, column] in bytes, with a gap behind every row.
#[derive(Clone)]
pub(super) struct Tensor {
    pub(super) shape: [i64; 4],
    /// Elements from one unit, head, row to the next.
    pub(super) strides: [i64; 3],
    element: usize,
    pub(super) bytes: Vec<u8>,
}

/// Elements between rows: 16 bytes or more in every type.
const GAP: i64 = 16;

impl Tensor {
    /// All bytes `fill`. With `heads_inside` a row of all heads follows another, else a head of all rows.
    pub(super) fn new(shape: [i64; 4], element: usize, heads_inside: bool, fill: u8) -> Tensor {
        let [units, heads, rows, columns] = shape;
        let pitch = columns + GAP;
        let strides = if heads_inside {
            [rows * heads * pitch, pitch, heads * pitch]
        } else {
            [rows * heads * pitch, rows * pitch, pitch]
        };
        let elements = (units * rows * heads * pitch) as usize;
        Tensor { shape, strides, element, bytes: vec![fill; elements * element] }
    }

    /// The bytes of a row.
    pub(super) fn row(&self, unit: i64, head: i64, row: i64) -> Range<usize> {
        let first = unit * self.strides[0] + head * self.strides[1] + row * self.strides[2];
        let first = first as usize * self.element;
        first..first + self.shape[3] as usize * self.element
    }
}

/// Every index of a shape, the last counting fastest.
pub(super) fn indices(shape: [i64; 3]) -> impl Iterator<Item = [i64; 3]> {
    (0..shape[0])
        .flat_map(move |a| (0..shape[1]).flat_map(move |b| (0..shape[2]).map(move |c| [a, b, c])))
}

/// Fisher and Yates.
pub(super) fn shuffle(items: &mut [i64], random: &mut Random) {
    for i in (1..items.len()).rev() {
        items.swap(i, random.range(0, i as i64) as usize);
    }
}

/// The value of an e4m3 code (OCP FP8: bias 7, no infinity, all ones is NaN).
pub(super) fn from_e4m3(code: u8) -> f64 {
    let (exponent, fraction) = (i32::from(code >> 3 & 15), f64::from(code & 7));
    let magnitude = match (exponent, code & 7) {
        (15, 7) => f64::NAN,
        (0, _) => fraction / 8.0 * 2f64.powi(-6),
        _ => (1.0 + fraction / 8.0) * 2f64.powi(exponent - 7),
    };
    if code & 0x80 == 0 { magnitude } else { -magnitude }
}

/// The nearest code, the even one of two; too large becomes the largest.
pub(super) fn to_e4m3(x: f64) -> u8 {
    let sign = if x.is_sign_negative() { 0x80 } else { 0 };
    let magnitude = x.abs().min(448.0);
    let exponent = if magnitude < 2f64.powi(-6) { -6 } else { magnitude.log2().floor() as i32 };
    // Eighths: 8 to 16 of a normal number, where 16 carries into the exponent, fewer of a subnormal one.
    let eighths = (magnitude * 2f64.powi(3 - exponent)).round_ties_even() as i32;
    sign | ((exponent + 6) * 8 + eighths) as u8
}

/// Cosines and sines of positions, `[positions, dim / 2]`.
pub(super) fn rotary_table(positions: i64, dim: i64) -> (Vec<f64>, Vec<f64>) {
    let angles = |f: fn(f64) -> f64| {
        (0..positions)
            .flat_map(|p| {
                (0..dim / 2).map(move |i| f(p as f64 * 10000f64.powf(-2.0 * i as f64 / dim as f64)))
            })
            .collect()
    };
    (angles(f64::cos), angles(f64::sin))
}

/// A row, rotated, with the tables as the kernel has them: `stored` is what becomes of products and sums.
pub(super) fn rotate(
    row: &[f64],
    rotary: Rotary,
    [cos, sin]: [&[f64]; 2],
    dtype: DType,
    stored: fn(f64) -> f64,
) -> Vec<f64> {
    let half = rotary.dim as usize / 2;
    let mut out = row.to_vec();
    for i in 0..half {
        let (a, b) = if rotary.interleaved { (2 * i, 2 * i + 1) } else { (i, i + half) };
        let (c, s) = (round(dtype, cos[i]), round(dtype, sin[i]));
        out[a] = stored(stored(row[a] * c) - stored(row[b] * s));
        out[b] = stored(stored(row[b] * c) + stored(row[a] * s));
    }
    out
}

/// As f32.
pub(super) fn single(x: f64) -> f64 {
    f64::from(x as f32)
}

/// As it is.
pub(super) fn exact(x: f64) -> f64 {
    x
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e4m3_codes_round_to_themselves_and_ties_to_even() {
        for code in (0..=255u8).filter(|c| c & 0x7f != 0x7f) {
            assert_eq!(to_e4m3(from_e4m3(code)), code);
        }
        assert_eq!(from_e4m3(0x7e), 448.0);
        assert_eq!(to_e4m3(1e9), 0x7e);
        // Between 1 and 1.125.
        assert_eq!(to_e4m3(1.0625), 0x38);
        assert!(from_e4m3(0xff).is_nan());
    }

    #[test]
    fn rotations_keep_lengths_of_pairs() {
        let (cos, sin) = rotary_table(5, 16);
        let row: Vec<f64> = (0..32).map(f64::from).collect();
        for interleaved in [false, true] {
            let rotary = Rotary { dim: 16, interleaved };
            let tables = [&cos[24..32], &sin[24..32]];
            let out = rotate(&row, rotary, tables, DType::F64, exact);
            let (a, b) = if interleaved { (2, 3) } else { (1, 9) };
            assert!((out[a].hypot(out[b]) - row[a].hypot(row[b])).abs() < 1e-9);
            assert_eq!(out[16..], row[16..]);
        }
    }
}

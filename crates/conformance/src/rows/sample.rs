//! `sample` against its definition in f64: the same random words, filters and scores.

use zeroforge_artifact::{DType, Expr};
use zeroforge_kernels::Refusal;
use zeroforge_kernels::rows::{Rows, Sample, SampleArgs, sample};

use super::select::{awkward, first_largest};
use super::{Case, Layout, values};
use crate::random::Random;
use crate::tensor::encode;

/// Difference of scores, and of shares of probability, that f32 may decide either way.
const CLOSE: f64 = 2e-4;

/// Philox 4x32 with 10 rounds (Salmon et al., SC 2011).
pub fn philox(mut c: [u32; 4], key: u64) -> [u32; 4] {
    let (mut k0, mut k1) = (key as u32, (key >> 32) as u32);
    for _ in 0..10 {
        let a = u64::from(c[0]) * 0xd251_1f53;
        let b = u64::from(c[2]) * 0xcd9e_8d57;
        c = [(b >> 32) as u32 ^ c[1] ^ k0, b as u32, (a >> 32) as u32 ^ c[3] ^ k1, a as u32];
        k0 = k0.wrapping_add(0x9e37_79b9);
        k1 = k1.wrapping_add(0xbb67_ae85);
    }
    c
}

struct Drawn {
    spec: Sample,
    seed: i64,
    offset: i64,
}

impl Drawn {
    fn gumbel(&self, row: usize, index: usize) -> f64 {
        let counter = [
            (index / 4) as u32,
            row as u32,
            self.offset as u32,
            (self.offset.cast_unsigned() >> 32) as u32,
        ];
        let bits = philox(counter, self.seed.cast_unsigned())[index % 4];
        let u = (f64::from(bits >> 9) + 0.5) / f64::from(1u32 << 23);
        -(-u.ln()).ln()
    }

    /// Whether a token may be the draw of a row.
    fn allows(&self, x: &[f64], row: usize, token: i64) -> Result<(), String> {
        let Some(token) = usize::try_from(token).ok().filter(|&t| t < x.len()) else {
            return Err(format!("of row {row} is {token}, which is no index"));
        };
        let first = first_largest(x);
        let top = x[first];
        if !top.is_finite() || self.spec.temperature == 0.0 {
            return match token == first {
                true => Ok(()),
                false => Err(format!("of row {row} is {token} instead of {first}")),
            };
        }
        let temperature = f64::from(self.spec.temperature);
        // How much lies above each, in count and in weight; equal ones share it.
        let mut order: Vec<usize> = (0..x.len()).collect();
        order.sort_by(|&a, &b| x[b].total_cmp(&x[a]));
        let mut weight = vec![0f64; x.len()];
        let mut higher = vec![0f64; x.len()];
        let (mut above, mut group, mut mass, mut group_mass) = (0i64, 0i64, 0f64, 0f64);
        for (place, &i) in order.iter().enumerate() {
            if place > 0 && x[i] < x[order[place - 1]] {
                (above, mass) = (above + group, mass + group_mass);
                (group, group_mass) = (0, 0.0);
            }
            if self.spec.top_k == 0 || above < self.spec.top_k {
                weight[i] = ((x[i] - top) / temperature).exp();
            }
            higher[i] = mass;
            (group, group_mass) = (group + 1, group_mass + weight[i]);
        }
        let total = mass + group_mass;
        // How far within the filters: above CLOSE surely kept, below -CLOSE surely not.
        let margin = |i: usize| {
            if weight[i] == 0.0 {
                return -1.0;
            }
            let nucleus = match self.spec.top_p < 1.0 {
                true => f64::from(self.spec.top_p) - higher[i] / total,
                false => 1.0,
            };
            let floor = match self.spec.min_p > 0.0 {
                true => weight[i] / f64::from(self.spec.min_p) - 1.0,
                false => 1.0,
            };
            // The likeliest is always kept.
            if x[i] == top { 1.0 } else { nucleus.min(floor) }
        };
        let score = |i: usize| (x[i] - top) / temperature + self.gumbel(row, i);
        if margin(token) < -CLOSE {
            return Err(format!("of row {row} is {token}, which the filters drop"));
        }
        let better = (0..x.len()).find(|&i| score(i) > score(token) + CLOSE && margin(i) > CLOSE);
        match better {
            Some(i) => Err(format!("of row {row} is {token}, but {i} scores higher")),
            None => Ok(()),
        }
    }
}

pub(super) fn case(random: &mut Random) -> Result<Case, Refusal> {
    let spec = Sample {
        dtype: random.pick(&[DType::F32, DType::Bf16, DType::F16]),
        temperature: random.pick(&[0.0, 0.3, 1.0, 1.0, 2.5]),
        top_k: random.pick(&[0, 0, 1, 5, 40]),
        top_p: random.pick(&[1.0, 1.0, 0.01, 0.5, 0.95]),
        min_p: random.pick(&[0.0, 0.0, 0.05, 1.0]),
    };
    let (rows, most) = (random.range(1, 4), random.pick(&[1, 5, 300, 2500]));
    let length = random.range(1, most);
    let x = match random.one_in(3) {
        true => awkward(random, spec.dtype, rows, length),
        false => values(random, spec.dtype, rows * length, 4.0),
    };
    let drawn = Drawn {
        spec,
        seed: random.bits().cast_signed(),
        offset: random.bits().cast_signed() >> random.range(0, 60),
    };
    let (seed, offset) = (Expr::constant(drawn.seed), Expr::constant(drawn.offset));
    let bytes = encode(spec.dtype, &x);
    let judge = Box::new(move |got: &[u8]| {
        let tokens = got.as_chunks().0.iter().map(|c| i64::from_le_bytes(*c));
        tokens
            .zip(x.chunks(length as usize))
            .enumerate()
            .try_for_each(|(row, (token, x))| drawn.allows(x, row, token))
    });
    let mut layout = Layout::new(random);
    let args = SampleArgs {
        rows: Expr::constant(rows),
        length: Expr::constant(length),
        logits: layout.matrix(&bytes, rows, length, spec.dtype.size()),
        tokens: layout.output_array("tokens", 8 * rows as usize, judge),
        seed,
        offset,
    };
    Ok(layout.case(format!("{spec:?}, {rows} rows of {length}"), sample(spec, &args)?))
}

/// A case of many rows that are all one: every index must come as often as its probability says, within five standard
/// deviations.
///
/// # Errors
/// If the arguments are refused.
pub fn frequencies(rows: i64) -> Result<Case, Refusal> {
    let spec = Sample { dtype: DType::F32, temperature: 2.0, top_k: 4, top_p: 1.0, min_p: 0.0 };
    let x = [1.0, 3.0, -1.0, 0.5, 2.0];
    let weights: Vec<f64> = [0.5f64, 1.5, f64::NEG_INFINITY, 0.25, 1.0].map(f64::exp).to_vec();
    let total: f64 = weights.iter().sum();
    let mut random = Random::new(3);
    let mut layout = Layout::new(&mut random);
    layout.buffers.push(encode(DType::F32, &x));
    let judge = Box::new(move |got: &[u8]| {
        let mut counts = [0f64; 5];
        for token in got.as_chunks().0.iter().map(|c| i64::from_le_bytes(*c)) {
            counts[token.clamp(0, 4) as usize] += 1.0;
        }
        let n = rows as f64;
        for (i, (&count, weight)) in counts.iter().zip(&weights).enumerate() {
            let p = weight / total;
            let deviation = (n * p * (1.0 - p)).sqrt();
            if (count - n * p).abs() > 5.0 * deviation {
                return Err(format!("have {i} {count} times in {n} where {} are due", n * p));
            }
        }
        Ok(())
    });
    let args = SampleArgs {
        rows: Expr::constant(rows),
        length: Expr::constant(5),
        logits: Rows { buffer: 0, offset: Expr::constant(0), stride: Expr::constant(0) },
        tokens: layout.output_array("tokens", 8 * rows as usize, judge),
        seed: Expr::constant(42),
        offset: Expr::constant(7),
    };
    Ok(layout.case("one row many times".to_owned(), sample(spec, &args)?))
}

//! Attention: `zf_attention_params` of `abi.h`.

use std::mem::offset_of;

use zeroforge_artifact::DType;
use zeroforge_artifact::abi::zf_attention_params;

use super::view::{Block, View};
use super::{Fault, MAX_LENGTH, Memory, Output, count, parallel, plain, stored};
use crate::kernel_spec::{AttentionSpec, MaskKind};

struct Problem<'a> {
    spec: &'a AttentionSpec,
    q: (View<'a>, [i64; 4]),
    k: (View<'a>, [i64; 4]),
    v: (View<'a>, [i64; 4]),
    o: (View<'a>, [i64; 4]),
    mask: (View<'a>, [i64; 4]),
    group: i64,
    keys: i64,
    offset: i64,
    window: i64,
    scale: f32,
}

pub(super) fn compute(
    spec: &AttentionSpec,
    block: Block<'_>,
    memory: &dyn Memory,
) -> Result<Vec<Output>, Fault> {
    let operand = |index: u32, dtype: DType, at: usize| -> Result<_, Fault> {
        Ok((View::new(memory, index, dtype, block.u64(at)?), block.strides(at)?))
    };
    let mask = match spec.mask {
        MaskKind::None | MaskKind::Bool => DType::Bool,
        MaskKind::Additive(dtype) => dtype,
    };
    let size = |at: usize| block.i64(at);
    let batch = size(offset_of!(zf_attention_params, batch))?;
    let heads = size(offset_of!(zf_attention_params, heads))?;
    let kv_heads = size(offset_of!(zf_attention_params, kv_heads))?;
    let queries = size(offset_of!(zf_attention_params, queries))?;
    let keys = size(offset_of!(zf_attention_params, keys))?;
    let rows = stored(&[batch, heads, queries])?;
    stored(&[rows as i64, spec.value_dim])?;
    count(&[keys])?;
    if keys > 8 * MAX_LENGTH {
        return Err(Fault::Sizes(format!("attention to {keys} keys")));
    }
    if rows == 0 {
        return Ok(Vec::new());
    }
    if kv_heads < 1 || heads % kv_heads != 0 {
        return Err(Fault::Sizes(format!("{heads} heads over {kv_heads}")));
    }
    let problem = Problem {
        spec,
        q: operand(0, spec.dtype, offset_of!(zf_attention_params, q))?,
        k: operand(1, spec.dtype, offset_of!(zf_attention_params, k))?,
        v: operand(2, spec.dtype, offset_of!(zf_attention_params, v))?,
        o: operand(3, spec.dtype, offset_of!(zf_attention_params, o))?,
        mask: operand(4, mask, offset_of!(zf_attention_params, mask))?,
        group: heads / kv_heads,
        keys,
        offset: size(offset_of!(zf_attention_params, offset))?,
        window: size(offset_of!(zf_attention_params, window))?,
        scale: block.f32(offset_of!(zf_attention_params, scale))?,
    };
    let work = count(&[rows as i64, keys.max(1), spec.head_dim + spec.value_dim])?;
    let parts = parallel(rows, work, |range| {
        let mut output = Output::new(spec.dtype);
        for row in range {
            let row = row as i64;
            problem.row(
                row / queries / heads,
                row / queries % heads,
                row % queries,
                &mut output,
            )?;
        }
        Ok(output)
    })?;
    let mut all = Output::new(spec.dtype);
    parts.into_iter().for_each(|part| all.append(part));
    Ok(vec![all])
}

fn at(strides: &[i64; 4], index: [i64; 3]) -> i64 {
    let terms = index.iter().zip(strides).map(|(i, s)| i.wrapping_mul(*s));
    terms.fold(0, i64::wrapping_add)
}

/// Largest of a row; NaN wins.
fn largest(values: impl Iterator<Item = f64>) -> f64 {
    values.fold(f64::NEG_INFINITY, |a, b| if b > a || b.is_nan() { b } else { a })
}

impl Problem<'_> {
    fn visible(&self, query: i64, key: i64) -> bool {
        let position = query.wrapping_add(self.offset);
        (!self.spec.causal || key <= position)
            && (!self.spec.window || key > position.wrapping_sub(self.window))
    }

    /// Exact and plain scores of a query; minus infinity where hidden.
    fn scores(&self, batch: i64, head: i64, query: i64) -> Result<Vec<(f64, f64)>, Fault> {
        let round = |v: f64| plain::round(self.spec.dtype, v);
        let (q, k) = (&self.q, &self.k);
        let row = at(&q.1, [batch, head, query]);
        let wanted: Vec<f64> = (0..self.spec.head_dim)
            .map(|d| q.0.float(row.wrapping_add(d)))
            .collect::<Result<_, _>>()?;
        let mut scores = Vec::with_capacity(self.keys as usize);
        for key in 0..self.keys {
            if !self.visible(query, key) {
                scores.push((f64::NEG_INFINITY, f64::NEG_INFINITY));
                continue;
            }
            let start = at(&k.1, [batch, head / self.group, key]);
            let (mut exact, mut sum) = (0.0f64, 0.0f32);
            for (d, &a) in wanted.iter().enumerate() {
                let b = k.0.float(start.wrapping_add(d as i64))?;
                exact += a * b;
                sum = plain::add_product(sum, plain::split(a as f32), plain::split(b as f32));
            }
            exact *= f64::from(self.scale);
            let mut plain = round(f64::from(round(sum.into()) as f32 * self.scale));
            let m = &self.mask;
            let masked = at(&m.1, [batch, head, query]).wrapping_add(key.wrapping_mul(m.1[3]));
            match self.spec.mask {
                MaskKind::None => {}
                MaskKind::Bool if m.0.int(masked)? != 0 => {}
                MaskKind::Bool => (exact, plain) = (f64::NEG_INFINITY, f64::NEG_INFINITY),
                MaskKind::Additive(_) => {
                    let added = m.0.float(masked)?;
                    exact += added;
                    plain = round(f64::from(plain as f32 + added as f32));
                }
            }
            scores.push((exact, plain));
        }
        Ok(scores)
    }

    fn row(&self, batch: i64, head: i64, query: i64, output: &mut Output) -> Result<(), Fault> {
        let round = |v: f64| plain::round(self.spec.dtype, v);
        let scores = self.scores(batch, head, query)?;
        // A row that sees nothing is zero.
        let hidden = scores.iter().all(|s| s.0 == f64::NEG_INFINITY);
        let top = (largest(scores.iter().map(|s| s.0)), largest(scores.iter().map(|s| s.1)));
        let weights: Vec<(f64, f32)> = scores
            .iter()
            .map(|s| match hidden {
                true => (0.0, 0.0),
                false => ((s.0 - top.0).exp(), (s.1 as f32 - top.1 as f32).exp()),
            })
            .collect();
        let sums = weights.iter().fold((0.0f64, 0.0f32), |s, w| (s.0 + w.0, s.1 + w.1));
        let sums = if hidden { (1.0, 1.0) } else { sums };
        let dims = self.spec.value_dim as usize;
        let (mut exact, mut plain) = (vec![0.0f64; dims], vec![0.0f32; dims]);
        let mut magnitudes = vec![0.0f64; dims];
        for (key, weight) in weights.iter().enumerate() {
            // A hidden key takes no part, whatever its value is.
            if weight.0 == 0.0 && weight.1 == 0.0 {
                continue;
            }
            let start = at(&self.v.1, [batch, head / self.group, key as i64]);
            // A plain implementation stores the weights.
            let stored = plain::split(round(f64::from(weight.1 / sums.1)) as f32);
            for d in 0..dims {
                let value = self.v.0.float(start.wrapping_add(d as i64))?;
                exact[d] += weight.0 * value;
                magnitudes[d] += (weight.0 * value).abs();
                plain[d] = plain::add_product(plain[d], stored, plain::split(value as f32));
            }
        }
        output.note_sum(magnitudes.into_iter().fold(0.0, f64::max) / sums.0);
        let start = at(&self.o.1, [batch, head, query]);
        for d in 0..dims {
            let address = self.o.0.address(start.wrapping_add(d as i64))?;
            output.push_float(address, exact[d] / sums.0, plain[d].into());
        }
        Ok(())
    }
}

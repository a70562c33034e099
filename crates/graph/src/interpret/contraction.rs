//! Matrix products, convolutions, attention, pooling.

use super::tensor::{each_index, strides};
use super::{InterpretError, Precision, Result, ResultType, Tensor};
use crate::op::{Op, PositionMask, ReduceOp};

/// `None` if the op is of another family.
pub(super) fn evaluate(
    op: &Op,
    inputs: &[&Tensor],
    result: &ResultType,
    _: Precision,
) -> Result<Option<Vec<Tensor>>> {
    let (dtype, shape) = (result.dtype, result.shape.clone());
    let values = match op {
        Op::MatMul { transpose_b } => matmul(inputs[0], inputs[1], *transpose_b, result)?,
        Op::Conv { stride, padding, dilation, groups, bias } => {
            let window = Window { stride, padding, dilation };
            conv(inputs, &window, *groups, *bias, result)?
        }
        Op::ConvTranspose { stride, padding, dilation, groups, bias, .. } => {
            let padding: Vec<_> = padding.iter().map(|&p| (p, p)).collect();
            let window = Window { stride, padding: &padding, dilation };
            conv_transpose(inputs, &window, *groups, *bias, result)?
        }
        Op::Attention { scale, mask, position } => {
            let mask = if *mask { inputs.get(3).copied() } else { None };
            attention(inputs, mask, *scale, position.as_ref(), result)?
        }
        Op::Pool { op, kernel, stride, padding, dilation, count_include_pad } => {
            if !inputs[0].dtype.is_float() {
                let reason = format!("windows of {} are not known", inputs[0].dtype);
                return Err(InterpretError::Range(reason));
            }
            let window = Window { stride, padding, dilation };
            pool(inputs[0], *op, kernel, &window, *count_include_pad, result)?
        }
        Op::AdaptiveAvgPool { .. } => adaptive(inputs[0], result)?,
        _ => return Ok(None),
    };
    Ok(Some(vec![Tensor::float(dtype, shape, values)]))
}

fn flat(index: impl IntoIterator<Item = usize>, steps: &[usize]) -> usize {
    index.into_iter().zip(steps).map(|(i, s)| i * s).sum()
}

fn matmul(a: &Tensor, b: &Tensor, transpose_b: bool, result: &ResultType) -> Result<Vec<f64>> {
    let rank = result.shape.len();
    let (m, n) = (result.shape[rank - 2], result.shape[rank - 1]);
    let k = a.shape[a.shape.len() - 1];
    let batch = &result.shape[..rank - 2];
    let with = |rows: usize, columns: usize| [batch, &[rows, columns]].concat();
    let (a, b) =
        (a.expand(&with(m, k))?, b.expand(&if transpose_b { with(n, k) } else { with(k, n) })?);
    let (a, b) = (a.floats_or_ints()?, b.floats_or_ints()?);
    let count: usize = batch.iter().product();
    let mut out = Vec::with_capacity(count * m * n);
    for s in 0..count {
        let (a, b) = (&a[s * m * k..], &b[s * k * n..]);
        for i in 0..m {
            for j in 0..n {
                let product =
                    |p: usize| a[i * k + p] * if transpose_b { b[j * k + p] } else { b[p * n + j] };
                out.push((0..k).map(product).sum());
            }
        }
    }
    Ok(out)
}

impl Tensor {
    fn floats_or_ints(&self) -> Result<&[f64]> {
        match self.floats() {
            Ok(values) => Ok(values),
            Err(_) => Err(InterpretError::Range(format!(
                "a product of matrices of {} is not known",
                self.dtype
            ))),
        }
    }
}

struct Window<'a> {
    stride: &'a [usize],
    padding: &'a [(usize, usize)],
    dilation: &'a [usize],
}

impl Window<'_> {
    /// Input position under output `i` and tap `t` of an axis; `None` in the padding.
    fn source(&self, axis: usize, i: usize, t: usize, n: usize) -> Option<usize> {
        let at = i * self.stride[axis] + t * self.dilation[axis];
        at.checked_sub(self.padding[axis].0).filter(|&at| at < n)
    }

    fn sources(&self, index: &[usize], tap: &[usize], shape: &[usize]) -> Option<Vec<usize>> {
        (0..shape.len()).map(|a| self.source(a, index[a], tap[a], shape[a])).collect()
    }
}

fn conv(
    inputs: &[&Tensor],
    window: &Window<'_>,
    groups: usize,
    bias: bool,
    result: &ResultType,
) -> Result<Vec<f64>> {
    let (x, w) = (inputs[0], inputs[1]);
    let (xs, ws) = (strides(&x.shape), strides(&w.shape));
    let (xv, wv) = (x.floats()?, w.floats()?);
    let bias = if bias { Some(inputs[2].floats()?) } else { None };
    let per_group = w.shape[1];
    let filters = w.shape[0] / groups;
    let mut out = Vec::new();
    each_index(&result.shape, |index| {
        let (batch, filter, at) = (index[0], index[1], &index[2..]);
        let first = filter / filters.max(1) * per_group;
        let mut sum = bias.map_or(0.0, |b| b[filter]);
        each_index(&w.shape[2..], |tap| {
            let Some(source) = window.sources(at, tap, &x.shape[2..]) else { return };
            let inside = flat(source, &xs[2..]);
            let tap = flat(tap.iter().copied(), &ws[2..]);
            for c in 0..per_group {
                sum += xv[batch * xs[0] + (first + c) * xs[1] + inside]
                    * wv[filter * ws[0] + c * ws[1] + tap];
            }
        });
        out.push(sum);
    });
    Ok(out)
}

fn conv_transpose(
    inputs: &[&Tensor],
    window: &Window<'_>,
    groups: usize,
    bias: bool,
    result: &ResultType,
) -> Result<Vec<f64>> {
    let (x, w) = (inputs[0], inputs[1]);
    let (xv, wv) = (x.floats()?, w.floats()?);
    let (ws, os) = (strides(&w.shape), strides(&result.shape));
    let count = super::tensor::numel(&result.shape).unwrap_or(0);
    let mut out = vec![0.0; count];
    let filters = w.shape[1];
    let per_group = x.shape[1] / groups;
    if bias {
        let bias = inputs[2].floats()?;
        out.iter_mut().enumerate().for_each(|(i, v)| *v = bias[i / os[1] % result.shape[1]]);
    }
    // Every input element adds its multiple of the kernel to the output.
    let mut at = 0;
    each_index(&x.shape, |index| {
        let value = xv[at];
        at += 1;
        let (batch, channel) = (index[0], index[1]);
        each_index(&w.shape[2..], |tap| {
            let target = window.sources(&index[2..], tap, &result.shape[2..]);
            let Some(target) = target else { return };
            let inside = flat(target, &os[2..]);
            let tap = flat(tap.iter().copied(), &ws[2..]);
            for f in 0..filters {
                let filter = channel / per_group * filters + f;
                out[batch * os[0] + filter * os[1] + inside] +=
                    value * wv[channel * ws[0] + f * ws[1] + tap];
            }
        });
    });
    Ok(out)
}

fn attention(
    inputs: &[&Tensor],
    mask: Option<&Tensor>,
    scale: f64,
    position: Option<&PositionMask>,
    result: &ResultType,
) -> Result<Vec<f64>> {
    let (q, k, v) = (inputs[0], inputs[1], inputs[2]);
    let [batch, heads, queries, width] = q.shape[..] else {
        return Err(InterpretError::internal("attention has four axes"));
    };
    let (kv_heads, keys) = (k.shape[1], k.shape[2]);
    let value_width = v.shape[3];
    let mask = mask.map(|m| m.expand(&[batch, heads, queries, keys])).transpose()?;
    let offset = match position {
        Some(p) => p.offset.as_const().ok_or(InterpretError::internal("an unbound offset"))?,
        None => 0,
    };
    let visible = |i: usize, j: usize| {
        let Some(p) = position else { return true };
        let (q, j) = (i as i64 + offset, j as i64);
        (!p.causal || j <= q) && p.window.is_none_or(|w| j > q.saturating_sub(w))
    };
    let (qv, kv, vv) = (q.floats()?, k.floats()?, v.floats()?);
    let mut out = Vec::with_capacity(super::tensor::numel(&result.shape).unwrap_or(0));
    for row in 0..batch * heads * queries {
        let (b, h, i) = (row / queries / heads, row / queries % heads, row % queries);
        let group = b * kv_heads + h / (heads / kv_heads);
        let query = &qv[row * width..][..width];
        let mut scores = Vec::with_capacity(keys);
        for j in 0..keys {
            let key = &kv[(group * keys + j) * width..][..width];
            let mut score = query.iter().zip(key).map(|(a, b)| a * b).sum::<f64>() * scale;
            match &mask {
                Some(m) if m.dtype.is_float() => score += m.floats()?[row * keys + j],
                Some(m) if m.ints()?[row * keys + j] == 0 => score = f64::NEG_INFINITY,
                _ => {}
            }
            scores.push(if visible(i, j) { score } else { f64::NEG_INFINITY });
        }
        let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let hidden = scores.iter().all(|s| *s == f64::NEG_INFINITY);
        let weights: Vec<f64> =
            scores.iter().map(|s| if hidden { 0.0 } else { (s - max).exp() }).collect();
        let sum: f64 = if hidden { 1.0 } else { weights.iter().sum() };
        for d in 0..value_width {
            let value = |j: usize| vv[(group * keys + j) * value_width + d];
            // A hidden key takes no part, whatever its value is.
            let part = |(j, w): (usize, &f64)| if *w == 0.0 { 0.0 } else { w * value(j) };
            out.push(weights.iter().enumerate().map(part).sum::<f64>() / sum);
        }
    }
    Ok(out)
}

fn pool(
    x: &Tensor,
    op: ReduceOp,
    kernel: &[usize],
    window: &Window<'_>,
    count_include_pad: bool,
    result: &ResultType,
) -> Result<Vec<f64>> {
    let (steps, values) = (strides(&x.shape), x.floats()?);
    let mut out = Vec::new();
    each_index(&result.shape, |index| {
        let start = index[0] * steps[0] + index[1] * steps[1];
        let mut elements = Vec::new();
        each_index(kernel, |tap| {
            if let Some(source) = window.sources(&index[2..], tap, &x.shape[2..]) {
                elements.push(values[start + flat(source, &steps[2..])]);
            }
        });
        out.push(if op == ReduceOp::Max {
            let larger =
                |a: f64, &b: &f64| if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) };
            elements.iter().fold(f64::NEG_INFINITY, larger)
        } else {
            let count = if count_include_pad { kernel.iter().product() } else { elements.len() };
            elements.iter().sum::<f64>() / count as f64
        });
    });
    Ok(out)
}

fn adaptive(x: &Tensor, result: &ResultType) -> Result<Vec<f64>> {
    let (steps, values) = (strides(&x.shape), x.floats()?);
    let mut out = Vec::new();
    each_index(&result.shape, |index| {
        let ranges: Vec<(usize, usize)> = (2..index.len())
            .map(|a| {
                let (i, n, m) = (index[a], x.shape[a], result.shape[a]);
                (i * n / m, ((i + 1) * n).div_ceil(m))
            })
            .collect();
        let window: Vec<usize> = ranges.iter().map(|(a, b)| b - a).collect();
        let mut sum = 0.0;
        each_index(&window, |tap| {
            let source = tap.iter().zip(&ranges).map(|(t, r)| t + r.0);
            sum += values[index[0] * steps[0] + index[1] * steps[1] + flat(source, &steps[2..])];
        });
        out.push(sum / window.iter().product::<usize>() as f64);
    });
    Ok(out)
}

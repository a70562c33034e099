//! Reductions, scans, softmax, norms.

use zeroforge_artifact::DType;

use super::tensor::{Data, each_index, strides};
use super::{InterpretError, Precision, Result, ResultType, Tensor};
use crate::op::{Op, ReduceOp};

/// `None` if the op is of another family.
pub(super) fn evaluate(
    op: &Op,
    inputs: &[&Tensor],
    result: &ResultType,
    _: Precision,
) -> Result<Option<Vec<Tensor>>> {
    let (dtype, shape) = (result.dtype, result.shape.clone());
    let operand = |present: bool, at: usize| -> Result<Option<&[f64]>> {
        if present { inputs[at].floats().map(Some) } else { Ok(None) }
    };
    Ok(Some(vec![match op {
        Op::Reduce { op, axes, .. } => reduce(*op, axes, inputs[0], result)?,
        Op::CumSum { axis } => {
            let x = inputs[0];
            let mut data = x.data.clone();
            for line in lines(&x.shape, *axis) {
                for pair in line.windows(2) {
                    match &mut data {
                        Data::Float(v) => v[pair[1]] += v[pair[0]],
                        Data::Int(v) => v[pair[1]] = v[pair[1]].wrapping_add(v[pair[0]]),
                    }
                }
            }
            Tensor { dtype, shape, data }
        }
        Op::Softmax { axis } | Op::LogSoftmax { axis } => {
            let log = matches!(op, Op::LogSoftmax { .. });
            let x = inputs[0].floats()?;
            let mut values = vec![0.0; x.len()];
            for line in lines(&inputs[0].shape, *axis) {
                let row: Vec<f64> = line.iter().map(|&i| x[i]).collect();
                let max = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let sum: f64 = row.iter().map(|v| (v - max).exp()).sum();
                for (&i, v) in line.iter().zip(row) {
                    values[i] = if log { v - max - sum.ln() } else { (v - max).exp() / sum };
                }
            }
            Tensor::float(dtype, shape, values)
        }
        Op::TopK { .. } => return top_k(inputs[0], result).map(Some),
        Op::LayerNorm { axes, eps, weight, bias } => {
            let x = inputs[0].floats()?;
            let (w, b) = (operand(*weight, 1)?, operand(*bias, 1 + usize::from(*weight))?);
            let row: usize = shape[shape.len() - axes..].iter().product();
            let mut values = Vec::with_capacity(x.len());
            for chunk in x.chunks(row.max(1)) {
                let (mean, scale) = statistics(chunk, *eps);
                for (i, v) in chunk.iter().enumerate() {
                    let scaled = (v - mean) * scale * w.map_or(1.0, |w| w[i]);
                    values.push(scaled + b.map_or(0.0, |b| b[i]));
                }
            }
            Tensor::float(dtype, shape, values)
        }
        Op::RmsNorm { axes, eps, weight } => {
            let x = inputs[0].floats()?;
            let w = operand(*weight, 1)?;
            let row: usize = shape[shape.len() - axes..].iter().product();
            let mut values = Vec::with_capacity(x.len());
            for chunk in x.chunks(row.max(1)) {
                let mean = chunk.iter().map(|v| v * v).sum::<f64>() / chunk.len() as f64;
                let scale = 1.0 / (mean + eps).sqrt();
                let weigh = |i: usize| w.map_or(1.0, |w| w[i]);
                values.extend(chunk.iter().enumerate().map(|(i, v)| v * scale * weigh(i)));
            }
            Tensor::float(dtype, shape, values)
        }
        Op::GroupNorm { groups, eps, weight, bias } => {
            let x = inputs[0].floats()?;
            let (w, b) = (operand(*weight, 1)?, operand(*bias, 1 + usize::from(*weight))?);
            let channels = shape[1];
            let inner: usize = shape[2..].iter().product();
            let row = channels / groups * inner;
            let mut values = Vec::with_capacity(x.len());
            for (group, chunk) in x.chunks(row.max(1)).enumerate() {
                let (mean, scale) = statistics(chunk, *eps);
                for (i, v) in chunk.iter().enumerate() {
                    let channel = (group * row + i) / inner % channels;
                    let scaled = (v - mean) * scale * w.map_or(1.0, |w| w[channel]);
                    values.push(scaled + b.map_or(0.0, |b| b[channel]));
                }
            }
            Tensor::float(dtype, shape, values)
        }
        _ => return Ok(None),
    }]))
}

/// Mean and reciprocal standard deviation.
fn statistics(row: &[f64], eps: f64) -> (f64, f64) {
    let n = row.len() as f64;
    let mean = row.iter().sum::<f64>() / n;
    let variance = row.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / n;
    (mean, 1.0 / (variance + eps).sqrt())
}

/// Flat indices of every line along an axis.
fn lines(shape: &[usize], axis: usize) -> Vec<Vec<usize>> {
    let steps = strides(shape);
    let mut starts = shape.to_vec();
    starts[axis] = starts[axis].min(1);
    let mut out = Vec::new();
    each_index(&starts, |index| {
        let start: usize = index.iter().zip(&steps).map(|(i, s)| i * s).sum();
        out.push((0..shape[axis]).map(|i| start + i * steps[axis]).collect());
    });
    out
}

fn reduce(op: ReduceOp, axes: &[usize], x: &Tensor, result: &ResultType) -> Result<Tensor> {
    let (dtype, shape) = (result.dtype, result.shape.clone());
    // Flat indices of the elements behind every result, in order.
    let steps = strides(&x.shape);
    let mut outer = x.shape.clone();
    let mut inner = vec![1; x.shape.len()];
    for &axis in axes {
        inner[axis] = outer[axis];
        outer[axis] = 1;
    }
    let flat = |index: &[usize]| -> usize { index.iter().zip(&steps).map(|(i, s)| i * s).sum() };
    let mut starts = Vec::new();
    each_index(&outer, |index| starts.push(flat(index)));
    let mut offsets = Vec::new();
    each_index(&inner, |index| offsets.push(flat(index)));
    let needs_elements =
        matches!(op, ReduceOp::Max | ReduceOp::Min | ReduceOp::ArgMax | ReduceOp::ArgMin);
    if needs_elements && offsets.is_empty() && !starts.is_empty() {
        return Err(InterpretError::Range("no elements to choose from".to_owned()));
    }
    let position = |better: &dyn Fn(usize, usize) -> bool, start: usize| -> i64 {
        let mut best = 0;
        for i in 1..offsets.len() {
            if better(start + offsets[i], start + offsets[best]) {
                best = i;
            }
        }
        best as i64
    };
    Ok(match (&x.data, op) {
        (Data::Float(v), ReduceOp::ArgMax | ReduceOp::ArgMin) => {
            let better = |a: usize, b: usize| {
                let wins = if op == ReduceOp::ArgMax { v[a] > v[b] } else { v[a] < v[b] };
                !v[b].is_nan() && (v[a].is_nan() || wins)
            };
            let values = starts.iter().map(|&s| position(&better, s)).collect();
            Tensor::int(dtype, shape, values)
        }
        (Data::Int(v), ReduceOp::ArgMax | ReduceOp::ArgMin) => {
            let better =
                |a: usize, b: usize| if op == ReduceOp::ArgMax { v[a] > v[b] } else { v[a] < v[b] };
            let values = starts.iter().map(|&s| position(&better, s)).collect();
            Tensor::int(dtype, shape, values)
        }
        (Data::Float(v), op) => {
            let one = |start: usize| -> Result<f64> {
                let elements = offsets.iter().map(|o| v[start + o]);
                let extreme = |pick: fn(f64, f64) -> f64, from: f64| {
                    elements.clone().fold(from, |a, b| {
                        if a.is_nan() || b.is_nan() { f64::NAN } else { pick(a, b) }
                    })
                };
                Ok(match op {
                    ReduceOp::Sum => elements.sum(),
                    ReduceOp::Mean => elements.sum::<f64>() / offsets.len() as f64,
                    ReduceOp::Prod => elements.product(),
                    ReduceOp::Max => extreme(f64::max, f64::NEG_INFINITY),
                    ReduceOp::Min => extreme(f64::min, f64::INFINITY),
                    _ => return Err(InterpretError::internal("a logical reduction of floats")),
                })
            };
            let values = starts.iter().map(|&s| one(s)).collect::<Result<_>>()?;
            Tensor::float(dtype, shape, values)
        }
        (Data::Int(v), op) => {
            let one = |start: usize| -> Result<i64> {
                let mut elements = offsets.iter().map(|o| v[start + o]);
                Ok(match op {
                    ReduceOp::Sum => elements.fold(0, i64::wrapping_add),
                    ReduceOp::Prod => elements.fold(1, i64::wrapping_mul),
                    ReduceOp::Max => elements.max().unwrap_or_default(),
                    ReduceOp::Min => elements.min().unwrap_or_default(),
                    ReduceOp::Any => i64::from(elements.any(|v| v != 0)),
                    ReduceOp::All => i64::from(elements.all(|v| v != 0)),
                    _ => return Err(InterpretError::internal("a mean of integers")),
                })
            };
            let values = starts.iter().map(|&s| one(s)).collect::<Result<_>>()?;
            Tensor::int(dtype, shape, values)
        }
    })
}

fn top_k(x: &Tensor, result: &ResultType) -> Result<Vec<Tensor>> {
    let last = x.shape.len() - 1;
    let (n, k) = (x.shape[last], result.shape[last]);
    if k > n {
        return Err(InterpretError::Range(format!("the {k} largest of {n} elements")));
    }
    let mut sources = Vec::new();
    let mut indices = Vec::new();
    for line in lines(&x.shape, last) {
        let mut order: Vec<usize> = (0..n).collect();
        // Stable, so that ties keep the lower index first; NaN counts as largest.
        match &x.data {
            Data::Float(v) => order.sort_by(|&a, &b| {
                let (a, b) = (v[line[a]], v[line[b]]);
                b.is_nan()
                    .cmp(&a.is_nan())
                    .then(b.partial_cmp(&a).unwrap_or(std::cmp::Ordering::Equal))
            }),
            Data::Int(v) => order.sort_by(|&a, &b| v[line[b]].cmp(&v[line[a]])),
        }
        for &i in &order[..k] {
            sources.push(Some(line[i]));
            indices.push(i as i64);
        }
    }
    let values = x.pick(result.shape.clone(), &sources, 0.0)?;
    Ok(vec![values, Tensor::int(DType::I64, result.shape.clone(), indices)])
}

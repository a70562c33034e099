//! Views, joins, padding, resampling.

use super::tensor::{Data, each_index, strides};
use super::{InterpretError, Precision, Result, ResultType, Tensor};
use crate::op::{Op, PadMode, UpsampleMode};

/// `None` if the op is of another family.
pub(super) fn evaluate(
    op: &Op,
    inputs: &[&Tensor],
    result: &ResultType,
    _: Precision,
) -> Result<Option<Vec<Tensor>>> {
    let x = match inputs.first() {
        Some(x) => *x,
        None => return Ok(None),
    };
    let shape = result.shape.clone();
    let steps = strides(&x.shape);
    let flat = |index: &[usize]| -> usize { index.iter().zip(&steps).map(|(i, s)| i * s).sum() };
    let known = |e: &zeroforge_artifact::Expr| {
        e.as_const().ok_or_else(|| InterpretError::internal("a size is not bound"))
    };
    Ok(Some(vec![match op {
        Op::Reshape(_) => Tensor { shape, ..x.clone() },
        Op::Permute(perm) => {
            x.pick_by(shape, |at| Some(at.iter().zip(perm).map(|(i, &p)| i * steps[p]).sum()))?
        }
        Op::Expand(_) => x.expand(&shape)?,
        Op::Slice { axis, start, end, step } => {
            let (from, to) = (known(start)?, known(end)?);
            if from < 0 || to > x.shape[*axis] as i64 || (from > to && shape[*axis] > 0) {
                let n = x.shape[*axis];
                return Err(InterpretError::Range(format!("slice {from}..{to} of {n} elements")));
            }
            let step = *step as usize;
            x.pick_by(shape, |at| {
                let mut source = at.to_vec();
                source[*axis] = from as usize + at[*axis] * step;
                Some(flat(&source))
            })?
        }
        Op::Flip(axes) => x.pick_by(shape, |at| {
            let mut source = at.to_vec();
            axes.iter().for_each(|&a| source[a] = x.shape[a] - 1 - at[a]);
            Some(flat(&source))
        })?,
        Op::Concat { axis } => concat(inputs, *axis, shape)?,
        Op::Pad { pads, mode } => {
            let before = pads.iter().map(|p| known(&p.0)).collect::<Result<Vec<i64>>>()?;
            pad(x, &before, *mode, shape)?
        }
        Op::Upsample { mode, .. } => upsample(x, *mode, result)?,
        _ => return Ok(None),
    }]))
}

fn concat(inputs: &[&Tensor], axis: usize, shape: Vec<usize>) -> Result<Tensor> {
    // Rows of everything behind the axis, piece after piece.
    let outer: usize = shape[..axis].iter().product();
    let mut data = match inputs[0].data {
        Data::Float(_) => Data::Float(Vec::new()),
        Data::Int(_) => Data::Int(Vec::new()),
    };
    for row in 0..outer {
        for piece in inputs {
            let n: usize = piece.shape[axis..].iter().product();
            match (&mut data, &piece.data) {
                (Data::Float(out), Data::Float(v)) => out.extend(&v[row * n..][..n]),
                (Data::Int(out), Data::Int(v)) => out.extend(&v[row * n..][..n]),
                _ => return Err(InterpretError::internal("the pieces differ in kind")),
            }
        }
    }
    Ok(Tensor { dtype: inputs[0].dtype, shape, data })
}

fn pad(x: &Tensor, before: &[i64], mode: PadMode, shape: Vec<usize>) -> Result<Tensor> {
    let steps = strides(&x.shape);
    let mut outside = false;
    let mut sources = Vec::new();
    each_index(&shape, |at| {
        let mut flat = Some(0usize);
        for (axis, &i) in at.iter().enumerate() {
            let n = x.shape[axis] as i64;
            let i = i as i64 - before[axis];
            let i = match mode {
                _ if (0..n).contains(&i) => Some(i),
                PadMode::Constant(_) => None,
                PadMode::Replicate => Some(i.clamp(0, n - 1)),
                PadMode::Reflect => Some(if i < 0 { -i } else { 2 * (n - 1) - i }),
            };
            let i = i.filter(|i| {
                let fits = (0..n).contains(i);
                outside |= !fits;
                fits
            });
            flat = flat.zip(i).map(|(f, i)| f + i as usize * steps[axis]);
        }
        sources.push(flat);
    });
    if outside {
        let reason = format!("padding {:?} to {shape:?} reads outside", x.shape);
        return Err(InterpretError::Range(reason));
    }
    let fill = if let PadMode::Constant(value) = mode { value } else { 0.0 };
    x.pick(shape, &sources, fill)
}

/// Lower neighbour, upper neighbour and the upper one's weight of output `i`.
fn neighbours(i: usize, n: usize, out: usize, align_corners: bool) -> (usize, usize, f64) {
    let position = if align_corners {
        if out > 1 { i as f64 * (n as f64 - 1.0) / (out as f64 - 1.0) } else { 0.0 }
    } else {
        ((i as f64 + 0.5) * n as f64 / out as f64 - 0.5).max(0.0)
    };
    let low = (position.floor() as usize).min(n - 1);
    (low, (low + 1).min(n - 1), position - low as f64)
}

fn upsample(x: &Tensor, mode: UpsampleMode, result: &ResultType) -> Result<Tensor> {
    if x.shape.contains(&0) {
        if result.shape.contains(&0) {
            return x.pick(result.shape.clone(), &[], 0.0);
        }
        return Err(InterpretError::Range("resampling of nothing".to_owned()));
    }
    let steps = strides(&x.shape);
    let UpsampleMode::Linear { align_corners } = mode else {
        return x.pick_by(result.shape.clone(), |at| {
            let source = at.iter().enumerate().map(|(a, &i)| i * x.shape[a] / result.shape[a]);
            Some(source.zip(&steps).map(|(i, s)| i * s).sum())
        });
    };
    let values = x.floats()?;
    let mut out = Vec::new();
    each_index(&result.shape, |at| {
        // Every corner of the cell around the position, with its weight.
        let mut corners = vec![(at[0] * steps[0] + at[1] * steps[1], 1.0)];
        for axis in 2..at.len() {
            let (low, high, w) =
                neighbours(at[axis], x.shape[axis], result.shape[axis], align_corners);
            corners = corners
                .into_iter()
                .flat_map(|(flat, weight)| {
                    [
                        (flat + low * steps[axis], weight * (1.0 - w)),
                        (flat + high * steps[axis], weight * w),
                    ]
                })
                .collect();
        }
        out.push(corners.iter().map(|&(flat, weight)| values[flat] * weight).sum());
    });
    Ok(Tensor::float(result.dtype, result.shape.clone(), out))
}

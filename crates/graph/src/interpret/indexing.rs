//! Gathers and scatters.

use super::tensor::{Data, each_index, numel, strides};
use super::{InterpretError, Precision, Result, ResultType, Tensor};
use crate::op::Op;

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
    Ok(Some(vec![match op {
        Op::IndexSelect { axis } => {
            let index = Index::new(inputs[1], x.shape[*axis])?;
            let width = inputs[1].shape.len();
            x.pick_by(shape, |at| {
                let mut source = at[..*axis].to_vec();
                source.push(index.at(&at[*axis..axis + width]));
                source.extend_from_slice(&at[axis + width..]);
                Some(flat(&source))
            })?
        }
        Op::Gather { axis } => {
            inside(&inputs[1].shape, &x.shape, Some(*axis))?;
            let index = Index::new(inputs[1], x.shape[*axis])?;
            x.pick_by(shape, |at| {
                let mut source = at.to_vec();
                source[*axis] = index.at(at);
                Some(flat(&source))
            })?
        }
        Op::IndexMulti { axes } => {
            let targets = multi(x, axes, &inputs[1..])?;
            x.pick(shape, &targets.1.into_iter().map(Some).collect::<Vec<_>>(), 0.0)?
        }
        Op::IndexPut { axes, accumulate } => {
            let (indices, src) = (&inputs[1..=axes.len()], inputs[axes.len() + 1]);
            let (read, targets) = multi(x, axes, indices)?;
            write(x, &targets, &src.expand(&read)?, *accumulate)?
        }
        Op::IndexCopy { axis, accumulate } => {
            let index = Index::new(inputs[1], x.shape[*axis])?;
            let mut targets = Vec::new();
            each_index(&inputs[2].shape, |at| {
                let mut target = at.to_vec();
                target[*axis] = index.at(&at[*axis..=*axis]);
                targets.push(flat(&target));
            });
            write(x, &targets, inputs[2], *accumulate)?
        }
        Op::Scatter { axis, accumulate } => {
            inside(&inputs[1].shape, &x.shape, Some(*axis))?;
            inside(&inputs[1].shape, &inputs[2].shape, None)?;
            let index = Index::new(inputs[1], x.shape[*axis])?;
            let mut targets = Vec::new();
            each_index(&inputs[1].shape, |at| {
                let mut target = at.to_vec();
                target[*axis] = index.at(at);
                targets.push(flat(&target));
            });
            let source_steps = strides(&inputs[2].shape);
            let src = inputs[2].pick_by(inputs[1].shape.clone(), |at| {
                Some(at.iter().zip(&source_steps).map(|(i, s)| i * s).sum())
            })?;
            write(x, &targets, &src, *accumulate)?
        }
        Op::SliceScatter { axis, start, step } => {
            let src = inputs[1];
            let start = start.as_const().and_then(|s| usize::try_from(s).ok());
            let step = *step as usize;
            let mut bounds = x.shape.clone();
            let end = start
                .and_then(|s| s.checked_add(src.shape[*axis].saturating_sub(1).checked_mul(step)?));
            let fits = src.shape[*axis] == 0 || end.is_some_and(|e| e < x.shape[*axis]);
            bounds[*axis] = src.shape[*axis];
            let (Some(start), true, true) = (start, fits, bounds == src.shape) else {
                let reason = format!("a region of {:?} in a tensor of {:?}", src.shape, x.shape);
                return Err(InterpretError::Range(reason));
            };
            let mut targets = Vec::new();
            each_index(&src.shape, |at| {
                let mut target = at.to_vec();
                target[*axis] = start + at[*axis] * step;
                targets.push(flat(&target));
            });
            write(x, &targets, src, false)?
        }
        _ => return Ok(None),
    }]))
}

/// An index operand: negative values count from the end, the others are clamped.
struct Index {
    values: Vec<usize>,
    steps: Vec<usize>,
}

impl Index {
    fn new(index: &Tensor, n: usize) -> Result<Index> {
        if n == 0 && !index.is_empty() {
            return Err(InterpretError::Range("an index into an empty axis".to_owned()));
        }
        let n = n as i64;
        let values = index.ints()?.iter().map(|&i| {
            let i = if i < 0 { i.saturating_add(n) } else { i };
            i.clamp(0, (n - 1).max(0)) as usize
        });
        Ok(Index { values: values.collect(), steps: strides(&index.shape) })
    }

    fn at(&self, index: &[usize]) -> usize {
        self.values[index.iter().zip(&self.steps).map(|(i, s)| i * s).sum::<usize>()]
    }
}

/// Checks that a shape is not larger than another, except along an axis.
fn inside(shape: &[usize], bounds: &[usize], except: Option<usize>) -> Result<()> {
    let ok = shape.iter().zip(bounds).enumerate().all(|(a, (n, b))| Some(a) == except || n <= b);
    if ok {
        return Ok(());
    }
    Err(InterpretError::Range(format!("indices of shape {shape:?} for a tensor of {bounds:?}")))
}

/// The shape that advanced indexing reads, and the flat index of each of its elements.
fn multi(x: &Tensor, axes: &[usize], indices: &[&Tensor]) -> Result<(Vec<usize>, Vec<usize>)> {
    let rank = indices.iter().map(|i| i.shape.len()).max().unwrap_or(0);
    let mut block = vec![1usize; rank];
    for index in indices {
        let skip = rank - index.shape.len();
        for (a, &n) in index.shape.iter().enumerate() {
            if n != 1 {
                block[skip + a] = n;
            }
        }
    }
    let resolved = indices
        .iter()
        .zip(axes)
        .map(|(index, &axis)| Index::new(&index.expand(&block)?, x.shape[axis]))
        .collect::<Result<Vec<Index>>>()?;
    let adjacent = axes.windows(2).all(|w| w[1] == w[0] + 1);
    let place = if adjacent { axes[0] } else { 0 };
    let rest: Vec<usize> = (0..x.shape.len()).filter(|a| !axes.contains(a)).collect();
    let mut shape: Vec<usize> = rest.iter().map(|&a| x.shape[a]).collect();
    shape.splice(place..place, block.iter().copied());
    let steps = strides(&x.shape);
    let mut targets = Vec::with_capacity(numel(&shape).unwrap_or(0));
    each_index(&shape, |at| {
        let chosen = &at[place..place + rank];
        let others = at[..place].iter().chain(&at[place + rank..]);
        let mut flat: usize = rest.iter().zip(others).map(|(&a, i)| steps[a] * i).sum();
        for (index, &axis) in resolved.iter().zip(axes) {
            flat += steps[axis] * index.at(chosen);
        }
        targets.push(flat);
    });
    Ok((shape, targets))
}

/// A copy of `x` with `src` written, element by element, to `targets`.
fn write(x: &Tensor, targets: &[usize], src: &Tensor, accumulate: bool) -> Result<Tensor> {
    let mut out = x.clone();
    match (&mut out.data, &src.data) {
        (Data::Float(out), Data::Float(src)) => {
            for (&t, &v) in targets.iter().zip(src) {
                out[t] = if accumulate { out[t] + v } else { v };
            }
        }
        (Data::Int(out), Data::Int(src)) => {
            for (&t, &v) in targets.iter().zip(src) {
                out[t] = if accumulate { out[t].wrapping_add(v) } else { v };
            }
        }
        _ => return Err(InterpretError::internal("the operands differ in kind")),
    }
    Ok(out)
}

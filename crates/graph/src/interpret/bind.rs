//! Arguments and symbols of a call.

use zeroforge_artifact::program::SymbolDecl;
use zeroforge_artifact::{Expr, Symbol};

use super::{InterpretError, Result, Tensor};
use crate::infer::format_shape;
use crate::ir::Graph;
use crate::op::{Op, PositionMask};

/// Sizes of a shape.
pub(super) fn evaluate(shape: &[Expr], symbols: &[i64]) -> Result<Vec<usize>> {
    shape
        .iter()
        .map(|e| {
            let n = e.eval(symbols)?;
            usize::try_from(n).map_err(|_| InterpretError::Size(format!("size `{e}` is {n}")))
        })
        .collect()
}

/// The inputs in the graph's order.
pub(super) fn arguments<'t>(
    graph: &Graph,
    inputs: &'t [(String, Tensor)],
) -> Result<Vec<&'t Tensor>> {
    let fail = |name: &str, reason: &str| InterpretError::Input {
        name: name.to_owned(),
        reason: reason.to_owned(),
    };
    if let Some((name, _)) =
        inputs.iter().find(|(name, _)| !graph.inputs.iter().any(|i| i.name == *name))
    {
        return Err(fail(name, "the graph has no such input"));
    }
    graph
        .inputs
        .iter()
        .map(|input| {
            let found = inputs.iter().find(|(name, _)| *name == input.name);
            let (_, tensor) = found.ok_or_else(|| fail(&input.name, "it is missing"))?;
            if tensor.dtype != graph.ty(input.value).dtype {
                return Err(fail(&input.name, "it has another element type"));
            }
            if super::tensor::numel(&tensor.shape) != Some(tensor.len()) {
                return Err(fail(&input.name, "its elements do not fill its shape"));
            }
            Ok(tensor)
        })
        .collect()
}

/// Binds every symbol by the sizes of inputs, and checks ranges, sizes and assumptions.
pub(super) fn symbols(graph: &Graph, arguments: &[&Tensor]) -> Result<Vec<i64>> {
    let mut values: Vec<Option<i64>> = vec![None; graph.symbols.len()];
    for (input, tensor) in graph.inputs.iter().zip(arguments) {
        let shape = &graph.ty(input.value).shape;
        if shape.len() != tensor.shape.len() {
            return Err(InterpretError::Input {
                name: input.name.clone(),
                reason: format!("shape {:?} is not {}", tensor.shape, format_shape(shape)),
            });
        }
    }
    // Every size that becomes a*s + b = n once known symbols are put in binds another symbol.
    loop {
        let before = values.iter().flatten().count();
        for (input, tensor) in graph.inputs.iter().zip(arguments) {
            for (size, &n) in graph.ty(input.value).shape.iter().zip(&tensor.shape) {
                let known = |s: Symbol| match values.get(s.0 as usize).copied().flatten() {
                    Some(value) => Expr::constant(value),
                    None => Expr::symbol(s),
                };
                if let Some((a, s, b)) = size.substitute(&known).as_linear()
                    && let Some(rest) = (n as i64).checked_sub(b)
                    && rest.checked_rem(a) == Some(0)
                    && let Some(slot) = values.get_mut(s.0 as usize)
                {
                    slot.get_or_insert(rest / a);
                }
            }
        }
        if values.iter().flatten().count() == before {
            break;
        }
    }
    let unbound = |decl: &SymbolDecl| {
        InterpretError::Size(format!("no input determines the size `{}`", decl.name))
    };
    let values: Vec<i64> = values
        .into_iter()
        .zip(&graph.symbols)
        .map(|(value, decl)| {
            // A symbol that no input shows but that can be one number only.
            let only = (decl.range.min == decl.range.max).then_some(decl.range.min);
            value.or(only).ok_or_else(|| unbound(decl))
        })
        .collect::<Result<_>>()?;
    for (value, decl) in values.iter().zip(&graph.symbols) {
        if !(decl.range.min..=decl.range.max).contains(value) {
            let (min, max) = (decl.range.min, decl.range.max);
            let message = format!("size `{}` is {value}, allowed are {min} to {max}", decl.name);
            return Err(InterpretError::Size(message));
        }
    }
    for (input, tensor) in graph.inputs.iter().zip(arguments) {
        let shape = &graph.ty(input.value).shape;
        if evaluate(shape, &values)? != tensor.shape {
            return Err(InterpretError::Input {
                name: input.name.clone(),
                reason: format!("shape {:?} is not {}", tensor.shape, format_shape(shape)),
            });
        }
    }
    for assumption in &graph.assumptions {
        if assumption.non_negative.eval(&values)? < 0 {
            return Err(InterpretError::Size(assumption.message.clone()));
        }
    }
    Ok(values)
}

/// The op with every size a constant.
pub(super) fn concrete(op: &Op, symbols: &[i64]) -> Result<Op> {
    let one = |e: &Expr| -> Result<Expr> { Ok(Expr::constant(e.eval(symbols)?)) };
    let all = |list: &[Expr]| list.iter().map(one).collect::<Result<Vec<Expr>>>();
    Ok(match op {
        Op::Full { dtype, shape, value } => {
            Op::Full { dtype: *dtype, shape: all(shape)?, value: *value }
        }
        Op::FullInt { dtype, shape, value } => {
            Op::FullInt { dtype: *dtype, shape: all(shape)?, value: one(value)? }
        }
        Op::Iota { dtype, len, start, step } => {
            Op::Iota { dtype: *dtype, len: one(len)?, start: one(start)?, step: *step }
        }
        Op::TopK { k } => Op::TopK { k: one(k)? },
        Op::Attention { scale, mask, position: Some(p) } => {
            let PositionMask { causal, window, offset } = p;
            let position =
                Some(PositionMask { causal: *causal, window: *window, offset: one(offset)? });
            Op::Attention { scale: *scale, mask: *mask, position }
        }
        Op::AdaptiveAvgPool { out } => Op::AdaptiveAvgPool { out: all(out)? },
        Op::Upsample { out, mode } => Op::Upsample { out: all(out)?, mode: *mode },
        Op::SliceScatter { axis, start, step } => {
            Op::SliceScatter { axis: *axis, start: one(start)?, step: *step }
        }
        Op::Reshape(shape) => Op::Reshape(all(shape)?),
        Op::Expand(shape) => Op::Expand(all(shape)?),
        Op::Slice { axis, start, end, step } => {
            Op::Slice { axis: *axis, start: one(start)?, end: one(end)?, step: *step }
        }
        Op::Pad { pads, mode } => Op::Pad {
            pads: pads.iter().map(|(a, b)| Ok((one(a)?, one(b)?))).collect::<Result<_>>()?,
            mode: *mode,
        },
        other => other.clone(),
    })
}

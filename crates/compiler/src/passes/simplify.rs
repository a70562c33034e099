//! Identities of algebra and layout. Exact: every element keeps its bits (but for the payload of a
//! NaN). So `x + 0.0` stays, which turns -0 into 0, and `x - 0.0` goes.

use zeroforge_artifact::{DType, Expr};
use zeroforge_graph::ir::{Node, TensorType, WeightStore};
use zeroforge_graph::op::{BinaryOp, ReduceOp, UnaryOp};
use zeroforge_graph::{Graph, Op, ValueId};

use super::Result;
use super::rewrite::{Rewriter, rewrite};

pub(super) fn run(graph: &Graph, _: Option<&dyn WeightStore>) -> Result<Graph> {
    rewrite("simplify", graph, |r, _, node| {
        let [output] = node.outputs[..] else { return Ok(None) };
        let ty = graph.ty(output);
        let inputs: Vec<ValueId> = node.inputs.iter().map(|&v| r.get(v)).collect();
        let found = match &node.op {
            Op::Unary(op) => unary(r, *op, inputs[0]),
            Op::Binary(op) => binary(r, *op, inputs[0], inputs[1], ty)?,
            Op::Where => choose(r, &inputs, ty)?,
            Op::Cast(dtype) => cast(r, inputs[0], *dtype, ty)?,
            Op::Reduce { op, axes, .. } => {
                // Over no axes, every reduction but the position of an extreme is the identity.
                let position = matches!(op, ReduceOp::ArgMax | ReduceOp::ArgMin);
                (axes.is_empty() && !position).then_some(inputs[0])
            }
            Op::MatMul { transpose_b } => matmul(r, inputs[0], inputs[1], *transpose_b, ty)?,
            op => layout(r, op, &inputs, ty)?,
        };
        Ok(found.map(|v| vec![v]))
    })
}

/// The one value of a tensor that has only one, whatever its shape.
pub(super) fn uniform(r: &Rewriter<'_>, value: ValueId) -> Option<f64> {
    match r.producer(value)?.op {
        // `Full` on integers converts as a cast does.
        Op::Full { dtype, value, .. } if dtype.is_float() || value.fract() == 0.0 => Some(value),
        Op::FullInt { ref value, .. } => {
            value.as_const().filter(|v| v.unsigned_abs() < 1 << 53).map(|v| v as f64)
        }
        _ => None,
    }
}

fn unary(r: &Rewriter<'_>, op: UnaryOp, x: ValueId) -> Option<ValueId> {
    let node = r.producer(x)?;
    let involution = matches!(op, UnaryOp::Neg | UnaryOp::LogicalNot | UnaryOp::BitNot);
    (involution && node.op == Op::Unary(op)).then(|| node.inputs[0])
}

/// Whether `x op c` is `x` for every `x` of the type.
fn is_identity(op: BinaryOp, c: f64, dtype: DType, right: bool) -> bool {
    let float = dtype.is_float();
    let negative_zero = c == 0.0 && c.is_sign_negative();
    match op {
        BinaryOp::Mul => c == 1.0,
        BinaryOp::Div => right && c == 1.0,
        BinaryOp::FloorDiv | BinaryOp::TruncDiv => right && c == 1.0 && !float,
        BinaryOp::Add => c == 0.0 && (!float || negative_zero),
        BinaryOp::Sub => right && c == 0.0 && (!float || !negative_zero),
        BinaryOp::Pow => right && c == 1.0,
        BinaryOp::And => dtype == DType::Bool && c != 0.0,
        BinaryOp::Or | BinaryOp::Xor => c == 0.0,
        BinaryOp::Shl | BinaryOp::Shr => right && c == 0.0,
        _ => false,
    }
}

fn binary(
    r: &mut Rewriter<'_>,
    op: BinaryOp,
    a: ValueId,
    b: ValueId,
    ty: &TensorType,
) -> Result<Option<ValueId>> {
    let dtype = r.ty(a).dtype;
    for (x, other, right) in [(a, b, true), (b, a, false)] {
        let Some(c) = uniform(r, other) else { continue };
        if is_identity(op, c, dtype, right) {
            return r.expand(x, &ty.shape).map(Some);
        }
        let absorbing = match op {
            BinaryOp::And => c == 0.0,
            BinaryOp::Or => dtype == DType::Bool && c != 0.0,
            BinaryOp::Mul => dtype.is_int() && c == 0.0,
            _ => false,
        };
        if absorbing {
            return r.full(ty.dtype, &ty.shape, c).map(Some);
        }
    }
    // The same twice.
    if a == b && matches!(op, BinaryOp::And | BinaryOp::Or | BinaryOp::Min | BinaryOp::Max) {
        return Ok(Some(a));
    }
    Ok(None)
}

fn choose(r: &mut Rewriter<'_>, inputs: &[ValueId], ty: &TensorType) -> Result<Option<ValueId>> {
    let (condition, a, b) = (inputs[0], inputs[1], inputs[2]);
    let chosen = match uniform(r, condition) {
        Some(c) => Some(if c != 0.0 { a } else { b }),
        None if a == b => Some(a),
        None => None,
    };
    chosen.map(|v| r.expand(v, &ty.shape)).transpose()
}

/// Whether every value of `from` is one of `to`.
fn holds(to: DType, from: DType) -> bool {
    use DType::*;
    if to == from {
        return true;
    }
    match from {
        Bool => true,
        U8 => matches!(to, I16 | I32 | I64 | F16 | F32 | F64),
        I8 => matches!(to, I16 | I32 | I64 | F16 | Bf16 | F32 | F64),
        I16 => matches!(to, I32 | I64 | F32 | F64),
        I32 => matches!(to, I64 | F64),
        I64 => false,
        F16 | Bf16 => matches!(to, F32 | F64),
        F32 => to == F64,
        F64 => false,
    }
}

fn cast(
    r: &mut Rewriter<'_>,
    x: ValueId,
    dtype: DType,
    ty: &TensorType,
) -> Result<Option<ValueId>> {
    if r.ty(x).dtype == dtype {
        return Ok(Some(x));
    }
    let Some(node) = r.producer(x) else { return Ok(None) };
    match node.op {
        // What the inner cast keeps, the outer one sees.
        Op::Cast(between) => {
            let source = node.inputs[0];
            let from = r.ty(source).dtype;
            // A number that became bool is 0 or 1, and nothing else is kept through bool.
            if !holds(between, from) {
                return Ok(None);
            }
            if from == dtype {
                return Ok(Some(source));
            }
            r.emit(Op::Cast(dtype), &[source]).map(Some)
        }
        Op::Full { dtype: from, value, .. } if dtype.is_float() && from.is_float() => {
            // In f64, the value is not yet that of `from`.
            if from == DType::F64 || f64::from(value as f32) == value && from == DType::F32 {
                return r.full(dtype, &ty.shape, value).map(Some);
            }
            Ok(None)
        }
        _ => Ok(None),
    }
}

/// The permutation that exchanges the last two axes.
pub(super) fn swaps_last(perm: &[usize]) -> bool {
    let n = perm.len();
    n >= 2
        && perm[..n - 2].iter().enumerate().all(|(i, p)| i == *p)
        && perm[n - 2] == n - 1
        && perm[n - 1] == n - 2
}

fn matmul(
    r: &mut Rewriter<'_>,
    a: ValueId,
    b: ValueId,
    transpose_b: bool,
    ty: &TensorType,
) -> Result<Option<ValueId>> {
    let Some(node) = r.producer(b) else { return Ok(None) };
    let inner = node.inputs.first().copied();
    match (&node.op, inner) {
        (Op::Permute(perm), Some(inner)) if swaps_last(perm) => {
            r.emit(Op::MatMul { transpose_b: !transpose_b }, &[a, inner]).map(Some)
        }
        // A batch of copies: the product broadcasts by itself.
        (Op::Expand(_), Some(inner)) => {
            let (rank, kept) = (r.ty(b).rank(), r.ty(inner).rank());
            let same = kept >= 2 && r.ty(b).shape[rank - 2..] == r.ty(inner).shape[kept - 2..];
            let batch = &ty.shape[..ty.rank() - 2];
            let lead = &r.ty(a).shape[..r.ty(a).rank() - 2];
            if same && batch == lead {
                return r.emit(Op::MatMul { transpose_b }, &[a, inner]).map(Some);
            }
            Ok(None)
        }
        _ => Ok(None),
    }
}

/// The operand of a node of the new graph, with its op.
fn behind(r: &Rewriter<'_>, x: ValueId) -> Option<(Op, ValueId)> {
    let node: &Node = r.producer(x)?;
    let first = *node.inputs.first()?;
    Some((node.op.clone(), first))
}

fn layout(
    r: &mut Rewriter<'_>,
    op: &Op,
    inputs: &[ValueId],
    ty: &TensorType,
) -> Result<Option<ValueId>> {
    let Some(&x) = inputs.first() else { return Ok(None) };
    let keeps_elements = matches!(
        op,
        Op::Reshape(_) | Op::Permute(_) | Op::Expand(_) | Op::Slice { .. } | Op::Flip(_)
    );
    if keeps_elements {
        // One value everywhere: only the shape changes.
        let moved = match r.producer(x).map(|n| &n.op) {
            Some(Op::Full { dtype, value, .. }) => {
                Some(Op::Full { dtype: *dtype, shape: ty.shape.clone(), value: *value })
            }
            Some(Op::FullInt { dtype, value, .. }) => {
                let (dtype, value) = (*dtype, value.clone());
                Some(Op::FullInt { dtype, shape: ty.shape.clone(), value })
            }
            _ => None,
        };
        if let Some(op) = moved {
            return r.emit(op, &[]).map(Some);
        }
    }
    let same_shape = r.ty(x).shape == ty.shape;
    let inner = behind(r, x);
    match (op, inner) {
        (Op::Reshape(_) | Op::Expand(_), _) if same_shape => Ok(Some(x)),
        (Op::Reshape(_), Some((Op::Reshape(_), source))) => r.reshape(source, &ty.shape).map(Some),
        (Op::Expand(_), Some((Op::Expand(_), source))) => r.expand(source, &ty.shape).map(Some),
        (Op::Permute(perm), _) if perm.iter().enumerate().all(|(i, p)| i == *p) => Ok(Some(x)),
        (Op::Permute(perm), Some((Op::Permute(first), source))) => {
            let both: Vec<usize> = perm.iter().map(|&p| first[p]).collect();
            if both.iter().enumerate().all(|(i, p)| i == *p) {
                return Ok(Some(source));
            }
            r.emit(Op::Permute(both), &[source]).map(Some)
        }
        (Op::Slice { start, step: 1, .. }, _) if same_shape && start.is(0) => Ok(Some(x)),
        (
            Op::Slice { axis, start, end, step },
            Some((Op::Slice { axis: inner_axis, start: offset, step: 1, .. }, source)),
        ) if *axis == inner_axis => {
            let (start, end) = (offset.clone() + start.clone(), offset + end.clone());
            r.emit(Op::Slice { axis: *axis, start, end, step: *step }, &[source]).map(Some)
        }
        (Op::Flip(axes), _) if axes.is_empty() => Ok(Some(x)),
        (Op::Flip(axes), Some((Op::Flip(first), source))) if *axes == first => Ok(Some(source)),
        (Op::Concat { .. }, _) if inputs.len() == 1 => Ok(Some(x)),
        (Op::Pad { pads, .. }, _) if pads.iter().all(|(a, b)| nothing(a) && nothing(b)) => {
            Ok(Some(x))
        }
        _ => Ok(None),
    }
}

fn nothing(pad: &Expr) -> bool {
    pad.is(0)
}

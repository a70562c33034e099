//! Root-mean-square norms, written out, become one op.
//!
//! Transformers writes `weight * (x * rsqrt(mean(x * x) + eps))`, for narrow floats with the inside
//! in f32. Equal but for rounding: the op rounds once where the original rounds at each step.

use zeroforge_graph::ir::{Node, WeightStore};
use zeroforge_graph::op::{BinaryOp, ReduceOp, UnaryOp};
use zeroforge_graph::{Graph, Op, ValueId};

use super::Result;
use super::rewrite::{Rewriter, rewrite, use_counts};

pub(super) fn run(graph: &Graph, _: Option<&dyn WeightStore>) -> Result<Graph> {
    let uses = use_counts(graph);
    // Norms come first, without weight; a multiplication or conversion behind one joins it.
    rewrite("recognize_norm", graph, |r, _, node| {
        let found = match node.op {
            Op::Binary(BinaryOp::Mul | BinaryOp::Div) => match norm(graph, node) {
                Some((x, op)) => {
                    let x = r.get(x);
                    Some(r.emit(op, &[x])?)
                }
                None => weigh(r, &uses, node)?,
            },
            Op::Cast(_) => narrow(r, &uses, node)?,
            _ => None,
        };
        Ok(found.map(|v| vec![v]))
    })
}

fn full(graph: &Graph, value: ValueId) -> Option<f64> {
    match graph.producer(value)?.op {
        Op::Full { value, .. } => Some(value),
        _ => None,
    }
}

/// `x` and the norm if the node is `x * rsqrt(mean(x * x) + eps)`.
fn norm(graph: &Graph, node: &Node) -> Option<(ValueId, Op)> {
    let [a, b] = node.inputs[..] else { return None };
    let candidates: &[(ValueId, ValueId)] =
        if node.op == Op::Binary(BinaryOp::Mul) { &[(a, b), (b, a)] } else { &[(a, b)] };
    candidates.iter().find_map(|&(x, scale)| {
        let shifted = match (&node.op, graph.producer(scale)?) {
            (Op::Binary(BinaryOp::Div), n) if n.op == Op::Unary(UnaryOp::Sqrt) => n.inputs[0],
            (Op::Binary(BinaryOp::Mul), n) if n.op == Op::Unary(UnaryOp::Rsqrt) => n.inputs[0],
            (Op::Binary(BinaryOp::Mul), n) if n.op == Op::Unary(UnaryOp::Recip) => {
                let root = graph.producer(n.inputs[0])?;
                (root.op == Op::Unary(UnaryOp::Sqrt)).then(|| root.inputs[0])?
            }
            _ => return None,
        };
        let sum = graph.producer(shifted)?;
        if sum.op != Op::Binary(BinaryOp::Add) {
            return None;
        }
        let (mean, eps) = match (full(graph, sum.inputs[0]), full(graph, sum.inputs[1])) {
            (None, Some(eps)) => (sum.inputs[0], eps),
            (Some(eps), None) => (sum.inputs[1], eps),
            _ => return None,
        };
        let mean = graph.producer(mean)?;
        let Op::Reduce { op: ReduceOp::Mean, axes, keep_dims: true } = &mean.op else {
            return None;
        };
        // All trailing axes from the first on.
        let rank = graph.ty(x).rank();
        let first = rank.checked_sub(axes.len())?;
        if axes.is_empty() || !axes.iter().copied().eq(first..rank) || eps.is_nan() || eps < 0.0 {
            return None;
        }
        let square = graph.producer(mean.inputs[0])?;
        let is_square = match square.op {
            Op::Binary(BinaryOp::Mul) => square.inputs == [x, x],
            Op::Binary(BinaryOp::Pow) => {
                square.inputs[0] == x && full(graph, square.inputs[1]) == Some(2.0)
            }
            _ => false,
        };
        let same_type = graph.ty(node.outputs[0]) == graph.ty(x);
        let op = Op::RmsNorm { axes: axes.len(), eps, weight: false };
        (is_square && same_type).then_some((x, op))
    })
}

/// The operand and the op of a norm without weight that only the visited node reads.
fn plain_norm(r: &Rewriter<'_>, uses: &[usize], old: ValueId) -> Option<(ValueId, usize, f64)> {
    let node = r.producer(r.get(old))?;
    match node.op {
        Op::RmsNorm { axes, eps, weight: false } if uses[old.0 as usize] == 1 => {
            Some((node.inputs[0], axes, eps))
        }
        _ => None,
    }
}

/// `norm * weight` with a weight of the normalised axes.
fn weigh(r: &mut Rewriter<'_>, uses: &[usize], node: &Node) -> Result<Option<ValueId>> {
    if node.op != Op::Binary(BinaryOp::Mul) {
        return Ok(None);
    }
    let (a, b) = (node.inputs[0], node.inputs[1]);
    for (normed, weight) in [(a, b), (b, a)] {
        let Some((x, axes, eps)) = plain_norm(r, uses, normed) else { continue };
        let weight = r.get(weight);
        let shape = &r.ty(x).shape;
        if r.ty(weight).shape == shape[shape.len() - axes..] && r.ty(weight).dtype == r.ty(x).dtype
        {
            return r.emit(Op::RmsNorm { axes, eps, weight: true }, &[x, weight]).map(Some);
        }
    }
    Ok(None)
}

/// A norm of widened numbers, narrowed again: the op computes in at least f32 anyway.
fn narrow(r: &mut Rewriter<'_>, uses: &[usize], node: &Node) -> Result<Option<ValueId>> {
    let Op::Cast(to) = node.op else { return Ok(None) };
    let Some((wide, axes, eps)) = plain_norm(r, uses, node.inputs[0]) else { return Ok(None) };
    let Some(widen) = r.producer(wide) else { return Ok(None) };
    let Op::Cast(between) = widen.op else { return Ok(None) };
    let source = widen.inputs[0];
    let from = r.ty(source).dtype;
    if from != to || !from.is_float() || from.size() >= between.size() {
        return Ok(None);
    }
    r.emit(Op::RmsNorm { axes, eps, weight: false }, &[source]).map(Some)
}

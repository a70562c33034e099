//! `softmax(q k^T * scale + mask) v`, written out in products, becomes one attention.
//!
//! Core ATen dissolves scaled_dot_product_attention into two batched products around a softmax, with
//! heads folded into the batch by reshapes, the square root of the scale on either side, and a
//! `where` that gives zeros for rows with no visible key. Eager implementations write the same with
//! one scale and no `where`. Equal but for rounding.
//!
//! A plain softmax gives NaN where a row hides every key, attention gives zeros: without the `where`
//! only masks are accepted that leave a finite score in every row.

use zeroforge_artifact::Expr;
use zeroforge_graph::ir::{Node, WeightStore};
use zeroforge_graph::op::{BinaryOp, ReduceOp, UnaryOp};
use zeroforge_graph::{Graph, Op, ValueId};

use super::Result;
use super::affine::{Form, Forms, negated};
use super::rewrite::{Rewriter, rewrite, use_counts};
use super::simplify::swaps_last;

pub(super) fn run(graph: &Graph, _: Option<&dyn WeightStore>) -> Result<Graph> {
    let uses = use_counts(graph);
    let mut forms = None;
    rewrite("recognize_attention", graph, |r, _, node| {
        let Some(found) = find(graph, &uses, &mut forms, node) else { return Ok(None) };
        build(r, node, &found).map(|v| Some(vec![v]))
    })
}

/// Attention in products, all ids of the old graph.
struct Found {
    /// Batch, heads, queries, keys.
    scores: [Expr; 4],
    scale: f64,
    q: ValueId,
    k: ValueId,
    /// Whether `k` is stored with width before keys.
    k_transposed: bool,
    v: ValueId,
    mask: Option<Mask>,
}

/// What is done to the scores before the softmax.
#[derive(Clone, Copy)]
enum Mask {
    /// A tensor is added.
    Add(ValueId),
    /// Scores are kept where this is true, and are this number elsewhere.
    Keep(ValueId, f64),
    /// The same where this is false.
    Hide(ValueId, f64),
}

fn full(graph: &Graph, value: ValueId) -> Option<f64> {
    match graph.producer(value)?.op {
        Op::Full { value, .. } => Some(value),
        _ => None,
    }
}

/// The operand of a reshape that leaves the last two axes as they are.
fn folded(graph: &Graph, value: ValueId) -> Option<ValueId> {
    let node = graph.producer(value)?;
    let Op::Reshape(shape) = &node.op else { return None };
    let from = &graph.ty(node.inputs[0]).shape;
    let (n, m) = (shape.len(), from.len());
    let same = n >= 2 && m >= 2 && shape[n - 2..] == from[m - 2..];
    same.then(|| node.inputs[0])
}

/// `x` and `c` if the value is `x * c` or `x / (1/c)` with a finite number that keeps the shape.
fn scaled(graph: &Graph, value: ValueId) -> Option<(ValueId, f64)> {
    let node = graph.producer(value)?;
    let (x, c) = match node.op {
        Op::Binary(BinaryOp::Mul) => {
            match (full(graph, node.inputs[0]), full(graph, node.inputs[1])) {
                (None, Some(c)) => (node.inputs[0], c),
                (Some(c), None) => (node.inputs[1], c),
                _ => return None,
            }
        }
        Op::Binary(BinaryOp::Div) => (node.inputs[0], 1.0 / full(graph, node.inputs[1])?),
        _ => return None,
    };
    (c.is_finite() && c != 0.0 && graph.ty(x) == graph.ty(value)).then_some((x, c))
}

/// Follows scales, foldings and at most one exchange of the last two axes down to a factor of the
/// scores. Gives the factor with shape `[lead..., a, b]` whose `lead` holds batch and heads.
struct Factor {
    value: ValueId,
    scale: f64,
    swapped: bool,
}

fn factor(graph: &Graph, value: ValueId, lead: &[Expr], may_swap: bool) -> Factor {
    let mut found = Factor { value, scale: 1.0, swapped: false };
    let mut at = Factor { value, scale: 1.0, swapped: false };
    loop {
        let shape = &graph.ty(at.value).shape;
        let split = shape.len() == lead.len() + 2 && shape[..lead.len()] == *lead;
        if split {
            found = Factor { ..at };
        }
        if let Some((x, c)) = scaled(graph, at.value) {
            at = Factor { value: x, scale: at.scale * c, ..at };
        } else if let Some(x) = folded(graph, at.value).filter(|_| !split) {
            at.value = x;
        } else if let Some(node) = graph.producer(at.value)
            && let Op::Permute(perm) = &node.op
            && swaps_last(perm)
            && may_swap
            && !at.swapped
        {
            at = Factor { value: node.inputs[0], swapped: true, ..at };
        } else {
            return found;
        }
    }
}

/// The softmax under a `where` that gives zeros for rows with no visible key, and whether there was
/// such a `where`.
fn safe(graph: &Graph, value: ValueId) -> Option<(&Node, bool)> {
    let node = graph.producer(value)?;
    match node.op {
        Op::Softmax { .. } => Some((node, false)),
        Op::Where => {
            let softmax = graph.producer(node.inputs[2])?;
            let zero = full(graph, node.inputs[1])? == 0.0;
            let is_softmax = matches!(softmax.op, Op::Softmax { .. });
            let condition = graph.producer(node.inputs[0])?;
            let hidden = match &condition.op {
                // Rows of -inf are where a softmax of numbers is NaN.
                Op::Unary(UnaryOp::IsNan) => condition.inputs[0] == node.inputs[2],
                Op::Unary(UnaryOp::LogicalNot) => {
                    no_finite(graph, condition.inputs[0], *softmax.inputs.first()?)
                }
                _ => false,
            };
            (zero && is_softmax && hidden).then_some((softmax, true))
        }
        _ => None,
    }
}

/// Whether a value is `any(scores != -inf)` over the last axis.
fn no_finite(graph: &Graph, value: ValueId, scores: ValueId) -> bool {
    let check = || {
        let any = graph.producer(value)?;
        let last = graph.ty(scores).rank().checked_sub(1)?;
        let over_keys = matches!(&any.op, Op::Reduce { op: ReduceOp::Any, axes, keep_dims: true } if *axes == [last]);
        let inner = graph.producer(*any.inputs.first()?)?;
        let (compare, negated) = match inner.op {
            Op::Unary(UnaryOp::LogicalNot) => (graph.producer(inner.inputs[0])?, true),
            _ => (inner, false),
        };
        let equals = match compare.op {
            Op::Binary(BinaryOp::Eq) => negated,
            Op::Binary(BinaryOp::Ne) => !negated,
            _ => return None,
        };
        let (a, b) = (compare.inputs[0], compare.inputs[1]);
        let low = full(graph, b)? == f64::NEG_INFINITY;
        Some(over_keys && equals && a == scores && low)
    };
    check().unwrap_or(false)
}

/// Whether every query sees the first key: `i * a + constant >= 0` at `j = 0`, for all `i`.
fn shows_first_key(forms: &Forms, form: Option<&Form>) -> bool {
    let Some(Form::All(conditions)) = form else { return false };
    conditions.iter().all(|c| {
        let [before @ .., i, _] = &c.coefficients[..] else { return false };
        before.iter().all(|c| *c == 0) && *i >= 0 && forms.non_negative(&c.constant)
    })
}

/// Whether adding the mask leaves a number in every row, whatever the inputs are.
fn leaves_a_number(graph: &Graph, forms: &Forms, mask: ValueId) -> bool {
    let Some(node) = graph.producer(mask) else { return false };
    match &node.op {
        Op::Full { value, .. } => value.is_finite(),
        Op::Expand(_) => leaves_a_number(graph, forms, node.inputs[0]),
        Op::Where => match (full(graph, node.inputs[1]), full(graph, node.inputs[2])) {
            (Some(a), Some(b)) if a.is_finite() && b.is_finite() => true,
            (Some(a), Some(f64::NEG_INFINITY)) if a.is_finite() => {
                shows_first_key(forms, forms.get(node.inputs[0]))
            }
            _ => false,
        },
        _ => false,
    }
}

/// Whether attention with this mask is what the softmax gives.
fn is_equal(graph: &Graph, forms: &Forms, mask: Mask, is_safe: bool) -> bool {
    let low = match mask {
        Mask::Add(value) => return is_safe || leaves_a_number(graph, forms, value),
        Mask::Keep(_, low) | Mask::Hide(_, low) => low,
    };
    if is_safe && low == f64::NEG_INFINITY {
        return true;
    }
    // A row of only -inf is NaN, a row of one low number is an average; a row that shows a key is
    // neither, if the number is so low that its weight is 0.
    let sees = match mask {
        Mask::Keep(c, _) => shows_first_key(forms, forms.get(c)),
        Mask::Hide(c, _) => {
            let form = forms.get(c).and_then(negated);
            shows_first_key(forms, form.as_ref())
        }
        Mask::Add(_) => false,
    };
    sees && low <= LOW
}

/// Scores this low have weight 0 next to any score above -1e30.
const LOW: f64 = -3e38;

/// The scores and the mask of `where(condition, scores, low)`.
fn masked(graph: &Graph, node: &Node) -> Option<(ValueId, Mask)> {
    if node.op != Op::Where {
        return None;
    }
    let [condition, a, b] = node.inputs[..] else { return None };
    match (full(graph, a), full(graph, b)) {
        (None, Some(low)) => Some((a, Mask::Keep(condition, low))),
        (Some(low), None) => Some((b, Mask::Hide(condition, low))),
        _ => None,
    }
}

fn find(graph: &Graph, uses: &[usize], forms: &mut Option<Forms>, node: &Node) -> Option<Found> {
    // Weights of the values must not be needed elsewhere: they would be computed twice.
    let once = |v: ValueId| uses[v.0 as usize] == 1;
    let Op::MatMul { transpose_b: false } = node.op else { return None };
    let (mut weights, values) = (node.inputs[0], node.inputs[1]);
    if !graph.ty(weights).dtype.is_float() || !once(weights) {
        return None;
    }
    while let Some(inner) = folded(graph, weights) {
        if !once(inner) {
            return None;
        }
        weights = inner;
    }
    let (softmax, is_safe) = safe(graph, weights)?;
    let Op::Softmax { axis } = softmax.op else { return None };
    let mut scores = *softmax.inputs.first()?;
    let shape = graph.ty(scores).shape.clone();
    if axis + 1 != shape.len() {
        return None;
    }
    // Batch and heads stand before queries and keys; without heads there is one.
    let full_shape: [Expr; 4] = match &shape[..] {
        [b, h, q, k] => [b.clone(), h.clone(), q.clone(), k.clone()],
        [b, q, k] => [Expr::constant(1), b.clone(), q.clone(), k.clone()],
        _ => return None,
    };
    let lead = &shape[..shape.len() - 2];
    // Readers of the scores that belong to the pattern: the softmax and the search for -inf.
    let readers = if is_safe { 2 } else { 1 };
    let nan_check = is_safe && uses[softmax.outputs[0].0 as usize] == 2;
    if uses[scores.0 as usize] > readers || (!nan_check && !once(softmax.outputs[0])) {
        return None;
    }

    let mut mask = None;
    let mut scale = 1.0;
    loop {
        let producer = graph.producer(scores)?;
        if matches!(producer.op, Op::MatMul { .. }) {
            break;
        }
        let next = if let Some(x) = folded(graph, scores) {
            x
        } else if let Some((x, c)) = scaled(graph, scores) {
            scale *= c;
            x
        } else if producer.op == Op::Binary(BinaryOp::Add)
            && mask.is_none()
            && scale == 1.0
            && graph.ty(scores).shape == shape
        {
            let (a, b) = (producer.inputs[0], producer.inputs[1]);
            let (x, m) = if leads_to_product(graph, a) { (a, b) } else { (b, a) };
            if graph.ty(x).shape != shape {
                return None;
            }
            mask = Some(Mask::Add(m));
            x
        } else if let Some((x, m)) = masked(graph, producer)
            && mask.is_none()
            && scale == 1.0
            && graph.ty(scores).shape == shape
            && graph.ty(x).shape == shape
        {
            mask = Some(m);
            x
        } else {
            return None;
        };
        if !once(next) {
            return None;
        }
        scores = next;
    }
    let product = graph.producer(scores)?;
    let Op::MatMul { transpose_b } = product.op else { return None };
    // The product must not broadcast.
    let rank = graph.ty(scores).rank();
    let batch = &graph.ty(scores).shape[..rank - 2];
    for &v in &product.inputs {
        if graph.ty(v).rank() != rank || graph.ty(v).shape[..rank - 2] != *batch {
            return None;
        }
    }
    let values_ty = graph.ty(values);
    let node_rank = graph.ty(node.outputs[0]).rank();
    let weights_batch = &graph.ty(node.inputs[0]).shape[..node_rank - 2];
    if values_ty.rank() != node_rank || values_ty.shape[..node_rank - 2] != *weights_batch {
        return None;
    }
    if let Some(mask) = mask {
        let forms = forms.get_or_insert_with(|| Forms::of(graph));
        if !is_equal(graph, forms, mask, is_safe) {
            return None;
        }
    }
    let q = factor(graph, product.inputs[0], lead, false);
    let k = factor(graph, product.inputs[1], lead, true);
    let v = factor(graph, values, lead, false);
    // The scale of values is no part of the scores; leave such a product alone.
    let v = if v.scale == 1.0 { v.value } else { values };
    Some(Found {
        scores: full_shape,
        scale: scale * q.scale * k.scale,
        q: q.value,
        k: k.value,
        k_transposed: transpose_b == k.swapped,
        v,
        mask,
    })
}

/// Whether a value is a product, but for scales and foldings.
fn leads_to_product(graph: &Graph, mut value: ValueId) -> bool {
    loop {
        if let Some(x) = folded(graph, value) {
            value = x;
        } else if let Some((x, _)) = scaled(graph, value) {
            value = x;
        } else {
            return matches!(graph.producer(value).map(|n| &n.op), Some(Op::MatMul { .. }));
        }
    }
}

fn build(r: &mut Rewriter<'_>, node: &Node, found: &Found) -> Result<ValueId> {
    let [batch, heads, queries, keys] = found.scores.clone();
    let four = |r: &mut Rewriter<'_>, v: ValueId, rows: &Expr| {
        let value = r.get(v);
        let width = r.ty(value).shape[r.ty(value).rank() - 1].clone();
        r.reshape(value, &[batch.clone(), heads.clone(), rows.clone(), width])
    };
    let q = four(r, found.q, &queries)?;
    let k = if found.k_transposed {
        let value = r.get(found.k);
        let rank = r.ty(value).rank();
        let width = r.ty(value).shape[rank - 2].clone();
        let value = r.reshape(value, &[batch.clone(), heads.clone(), width, keys.clone()])?;
        r.emit(Op::Permute(vec![0, 1, 3, 2]), &[value])?
    } else {
        four(r, found.k, &keys)?
    };
    let v = four(r, found.v, &keys)?;
    let mut inputs = vec![q, k, v];
    match found.mask {
        None => {}
        Some(Mask::Add(m) | Mask::Keep(m, _)) => inputs.push(r.get(m)),
        Some(Mask::Hide(m, _)) => {
            let hidden = r.get(m);
            inputs.push(r.emit(Op::Unary(UnaryOp::LogicalNot), &[hidden])?);
        }
    }
    let op = Op::Attention { scale: found.scale, mask: found.mask.is_some(), position: None };
    let out = r.emit(op, &inputs)?;
    let shape = r.old.ty(node.outputs[0]).shape.clone();
    r.reshape(out, &shape)
}

//! Masks that depend on positions only become part of the attention that uses them.
//!
//! Exporters build causal and sliding masks out of `arange`, comparisons and `and`, often mixed with
//! a padding mask. What is proved (by [`affine`](super::affine)) to be `j <= i + offset` or
//! `j > i + offset - window` moves into [`PositionMask`]; the rest of the conjunction stays the mask
//! operand, or nothing. Additive masks `where(visible, 0, -inf)` count as `visible`. Exact: a hidden
//! key has weight 0 either way.
//!
//! On the way, bool tensors that are the same everywhere become constants, and reads of a tensor at
//! its own positions become reshapes.

use zeroforge_artifact::{DType, Expr};
use zeroforge_graph::ir::{Node, WeightStore};
use zeroforge_graph::op::{BinaryOp, PositionMask};
use zeroforge_graph::{Graph, Op, ValueId};

use super::Result;
use super::affine::{Affine, Form, Forms};
use super::rewrite::{Rewriter, rewrite};

pub(super) fn run(graph: &Graph, _: Option<&dyn WeightStore>) -> Result<Graph> {
    let forms = Forms::of(graph);
    rewrite("recognize_mask", graph, |r, _, node| {
        let [output] = node.outputs[..] else { return Ok(None) };
        let found = match &node.op {
            Op::Attention { .. } => attention(r, &forms, node)?,
            Op::IndexMulti { axes } => read_in_place(r, &forms, node, axes)?,
            // Creation is as plain as it gets.
            Op::Full { .. } => None,
            _ => match forms.get(output) {
                Some(Form::All(c)) if c.is_empty() => same_everywhere(r, node, 1.0)?,
                Some(Form::Never) => same_everywhere(r, node, 0.0)?,
                _ => None,
            },
        };
        Ok(found.map(|v| vec![v]))
    })
}

fn same_everywhere(r: &mut Rewriter<'_>, node: &Node, value: f64) -> Result<Option<ValueId>> {
    let shape = r.old.ty(node.outputs[0]).shape.clone();
    r.full(DType::Bool, &shape, value).map(Some)
}

/// `x[iota, iota]`, every axis of `x` read by one axis of the result in order, is a reshape.
fn read_in_place(
    r: &mut Rewriter<'_>,
    forms: &Forms,
    node: &Node,
    axes: &[usize],
) -> Result<Option<ValueId>> {
    let graph = r.old;
    let x = node.inputs[0];
    let (shape, result) = (&graph.ty(x).shape, &graph.ty(node.outputs[0]).shape);
    // Only reads of all axes: the block of indices is then the whole result.
    if axes.len() != shape.len() {
        return Ok(None);
    }
    let mut spread = vec![Expr::constant(1); result.len()];
    let mut next = 0;
    for (&index, n) in node.inputs[1..].iter().zip(shape) {
        let function = forms.inside(graph, index, n);
        let Some(function) = function.filter(|f| f.constant.is(0)) else { return Ok(None) };
        let skip = result.len() - function.coefficients.len();
        let moving: Vec<usize> =
            (0..function.coefficients.len()).filter(|&a| function.coefficients[a] != 0).collect();
        match moving[..] {
            // The index is 0 throughout; that reads everything only of an axis of size 1.
            [] if n.is(1) => {}
            [a] if function.coefficients[a] == 1 && skip + a >= next && result[skip + a] == *n => {
                spread[skip + a] = n.clone();
                next = skip + a + 1;
            }
            _ => return Ok(None),
        }
    }
    let mapped = r.get(x);
    let spread = r.reshape(mapped, &spread)?;
    r.expand(spread, result).map(Some)
}

/// A part of a mask; all parts together are the mask.
struct Leaf {
    /// The part, as it is added or and-ed.
    value: ValueId,
    /// What is visible by it, if it is nothing but a condition.
    condition: Option<ValueId>,
    /// Whether it hides by a finite number instead of `-inf`.
    finite: bool,
}

/// The parts of a mask.
fn leaves(graph: &Graph, mask: ValueId, out: &mut Vec<Leaf>) {
    let producer = graph.producer(mask);
    let float = graph.ty(mask).dtype.is_float();
    match producer {
        Some(node) if node.op == Op::Binary(BinaryOp::And) && !float => {
            node.inputs.iter().for_each(|&v| leaves(graph, v, out));
        }
        Some(node) if node.op == Op::Binary(BinaryOp::Add) && float => {
            node.inputs.iter().for_each(|&v| leaves(graph, v, out));
        }
        // A stretched conjunction is the conjunction of what is stretched; a hidden axis of size 1
        // broadcasts anyway.
        Some(node) if matches!(node.op, Op::Expand(_)) => leaves(graph, node.inputs[0], out),
        Some(node) if node.op == Op::Where && float => {
            let constant = |v: ValueId| match graph.producer(v).map(|n| &n.op) {
                Some(Op::Full { value, .. }) => Some(*value),
                _ => None,
            };
            let hides = |v: f64| v == f64::NEG_INFINITY || is_lowest(v, graph.ty(mask).dtype);
            let (then, other) = (constant(node.inputs[1]), constant(node.inputs[2]));
            let condition = match (then, other) {
                (Some(0.0), Some(low)) if hides(low) => Some((node.inputs[0], low)),
                _ => None,
            };
            out.push(Leaf {
                value: mask,
                condition: condition.map(|(c, _)| c),
                finite: condition.is_some_and(|(_, low)| low.is_finite()),
            });
        }
        _ => {
            let condition = (!float).then_some(mask);
            out.push(Leaf { value: mask, condition, finite: false });
        }
    }
}

/// The lowest number of a type of at least f32's range. Added to a score it leaves nothing of it
/// (for scores below 1e30), and the weight of the key is 0 as soon as another key is visible.
fn is_lowest(v: f64, dtype: DType) -> bool {
    match dtype {
        DType::F32 => v == f64::from(f32::MIN),
        DType::Bf16 => v == f64::from(half_lowest()),
        _ => false,
    }
}

/// The lowest bf16 number: all bits of the exponent but the last, all of the mantissa.
fn half_lowest() -> f32 {
    f32::from_bits(0xff7f_0000)
}

/// Positions that a mask leaves visible: `j <= i + end` and `j >= i + start`.
#[derive(Default)]
struct Band {
    end: Option<Expr>,
    start: Option<Expr>,
}

impl Band {
    /// Adds a condition on `(batch, head, query, key)`; `None` if it is of another kind or does not
    /// go together with what is there.
    fn add(&mut self, condition: &Affine, queries: &Expr, keys: &Expr) -> Option<()> {
        let [.., i, j] = condition.coefficients[..] else { return None };
        let others = &condition.coefficients[..condition.coefficients.len() - 2];
        if others.iter().any(|c| *c != 0) {
            return None;
        }
        // An axis of size 1 has any coefficient.
        let is = |c: i64, wanted: i64, n: &Expr| c == wanted || c == 0 && n.is(1);
        let slot = if is(i, 1, queries) && is(j, -1, keys) && (i, j) != (0, 0) {
            let end = condition.constant.clone();
            (&mut self.end, end)
        } else if is(i, -1, queries) && is(j, 1, keys) && (i, j) != (0, 0) {
            (&mut self.start, -condition.constant.clone())
        } else {
            return None;
        };
        match slot {
            (known @ None, bound) => {
                *known = Some(bound);
                Some(())
            }
            (Some(known), bound) => (*known == bound).then_some(()),
        }
    }

    fn mask(&self) -> Option<PositionMask> {
        // j > i + offset - window is j >= i + start.
        let window = |offset: &Expr, start: &Expr| {
            let window = offset.clone() - start.clone() + Expr::constant(1);
            window.as_const().filter(|w| *w >= 1)
        };
        match (&self.end, &self.start) {
            (None, None) => None,
            (Some(end), None) => {
                Some(PositionMask { causal: true, window: None, offset: end.clone() })
            }
            (Some(end), Some(start)) => {
                let window = Some(window(end, start)?);
                Some(PositionMask { causal: true, window, offset: end.clone() })
            }
            (None, Some(start)) => {
                let offset = Expr::constant(0);
                let window = Some(window(&offset, start)?);
                Some(PositionMask { causal: false, window, offset })
            }
        }
    }
}

/// Whether every query sees a key.
fn every_query_sees(forms: &Forms, band: &Band, queries: &Expr, keys: &Expr) -> bool {
    // Key min(i + end, keys - 1) is visible if i + end >= 0 and it is not before i + start.
    let last = keys.clone() - Expr::constant(1);
    let ends = match &band.end {
        Some(end) => forms.non_negative(end),
        None => true,
    };
    let starts = match (&band.start, &band.end) {
        (None, _) => true,
        (Some(start), end) => {
            let reach = queries.clone() - Expr::constant(1) + start.clone();
            let inside = forms.non_negative(&(last - reach));
            let ordered =
                end.as_ref().is_none_or(|end| forms.non_negative(&(end.clone() - start.clone())));
            inside && ordered
        }
    };
    ends && starts
}

fn attention(r: &mut Rewriter<'_>, forms: &Forms, node: &Node) -> Result<Option<ValueId>> {
    let Op::Attention { scale, mask: true, position: None } = node.op else { return Ok(None) };
    let graph = r.old;
    let mask = node.inputs[3];
    let queries = graph.ty(node.inputs[0]).shape[2].clone();
    let keys = graph.ty(node.inputs[1]).shape[2].clone();
    let mut parts = Vec::new();
    leaves(graph, mask, &mut parts);

    let mut band = Band::default();
    let mut rest: Vec<Leaf> = Vec::new();
    let count = parts.len();
    let mut dropped = 0;
    for part in parts {
        let form = part.condition.and_then(|c| forms.get(c));
        let conditions: Option<Vec<Affine>> = match form {
            Some(Form::All(conditions)) => {
                conditions.iter().map(right_aligned).collect::<Option<_>>()
            }
            _ => None,
        };
        let taken = conditions.and_then(|conditions| {
            // A part counts whole or not at all.
            let mut wider = Band { end: band.end.clone(), start: band.start.clone() };
            conditions.iter().try_for_each(|c| wider.add(c, &queries, &keys))?;
            let fits = conditions.is_empty() || wider.mask().is_some();
            // A finite mask hides only next to a visible key, and only if nothing else hides that.
            let safe = !part.finite
                || conditions.is_empty()
                || count == 1 && every_query_sees(forms, &wider, &queries, &keys);
            (fits && safe).then_some(wider)
        });
        match taken {
            Some(wider) => {
                band = wider;
                dropped += 1;
            }
            None => rest.push(part),
        }
    }
    // An additive mask that is nothing but a condition is the condition.
    let float = graph.ty(mask).dtype.is_float();
    let boolean =
        float && !rest.is_empty() && rest.iter().all(|l| l.condition.is_some() && !l.finite);
    if dropped == 0 && !boolean {
        return Ok(None);
    }
    let mut combined: Option<ValueId> = None;
    let op = if float && !boolean { BinaryOp::Add } else { BinaryOp::And };
    for leaf in &rest {
        let value = if boolean { leaf.condition.unwrap_or(leaf.value) } else { leaf.value };
        let value = r.get(value);
        combined = Some(match combined {
            None => value,
            Some(before) => r.emit(Op::Binary(op), &[before, value])?,
        });
    }
    let mut inputs: Vec<ValueId> = node.inputs[..3].iter().map(|&v| r.get(v)).collect();
    inputs.extend(combined);
    let op = Op::Attention { scale, mask: combined.is_some(), position: band.mask() };
    r.emit(op, &inputs).map(Some)
}

/// A condition on the last four axes of scores.
fn right_aligned(condition: &Affine) -> Option<Affine> {
    let mut coefficients = vec![0; 4usize.checked_sub(condition.coefficients.len())?];
    coefficients.extend_from_slice(&condition.coefficients);
    Some(Affine { coefficients, constant: condition.constant.clone() })
}

//! Updates of part of a tensor: index_copy, index_put, scatter, slice_scatter.
//!
//! The old contents are copied first, unless the result takes over the storage of the input or
//! buffer that it replaces. Accumulating updates gather instead: each element sums what is written
//! to it, so that the result does not depend on the order of parallel writes.

use zeroforge_artifact::Expr;
use zeroforge_graph::op::BinaryOp;
use zeroforge_graph::{NodeId, Op, ValueId};

use super::elementwise::{emit_into, push_loop};
use super::expression::KernelBuilder;
use super::strided::StridedView;
use super::{LowerError, Lowering};
use crate::loop_ir::{Fold, InstId, InstKind, Stage};

pub(crate) fn emit(lowering: &mut Lowering<'_>, chain: &[NodeId]) -> Result<bool, LowerError> {
    let graph = lowering.graph;
    let id = chain[0];
    let node = graph.node(id);
    let (x, out) = (node.inputs[0], node.outputs[0]);
    let accumulate = match &node.op {
        Op::IndexCopy { accumulate, .. }
        | Op::IndexPut { accumulate, .. }
        | Op::Scatter { accumulate, .. } => *accumulate,
        _ => false,
    };
    if accumulate {
        return gather_sum(lowering, id);
    }
    let in_place = lowering.in_place.contains_key(&out);
    let target = lowering.allocate(out, None);
    if !in_place {
        emit_into(lowering, x, target.clone())?;
    }
    write(lowering, id, &target)?;
    lowering.placed.insert(out, target);
    Ok(true)
}

/// The shape over which an update runs, and the operand that holds the new values.
fn update_space(lowering: &Lowering<'_>, id: NodeId) -> (Vec<Expr>, ValueId) {
    let graph = lowering.graph;
    let node = graph.node(id);
    let src = node.inputs[node.inputs.len() - 1];
    match &node.op {
        Op::IndexPut { axes, .. } => {
            // The shape that IndexMulti would give; src broadcasts to it.
            let x = &graph.ty(node.inputs[0]).shape;
            let indices = &node.inputs[1..node.inputs.len() - 1];
            let rank = indices.iter().map(|&v| graph.ty(v).rank()).max().unwrap_or(0);
            let mut block = vec![Expr::constant(1); rank];
            for &index in indices {
                let shape = &graph.ty(index).shape;
                for (i, n) in shape.iter().enumerate() {
                    if !n.is(1) {
                        block[rank - shape.len() + i] = n.clone();
                    }
                }
            }
            let adjacent = axes.windows(2).all(|w| w[1] == w[0] + 1);
            let place = if adjacent { axes.first().copied().unwrap_or(0) } else { 0 };
            let mut shape: Vec<Expr> =
                (0..x.len()).filter(|i| !axes.contains(i)).map(|i| x[i].clone()).collect();
            shape.splice(place..place, block);
            (shape, src)
        }
        Op::Scatter { .. } => (graph.ty(node.inputs[1]).shape.clone(), src),
        _ => (graph.ty(src).shape.clone(), src),
    }
}

/// Where the element of the update space at `index` is written.
fn target_index(
    lowering: &mut Lowering<'_>,
    builder: &mut KernelBuilder,
    id: NodeId,
    index: &[InstId],
) -> Result<Vec<InstId>, LowerError> {
    let graph = lowering.graph;
    let node = graph.node(id);
    let shape = graph.ty(node.inputs[0]).shape.clone();
    match &node.op {
        Op::IndexCopy { axis, .. } => {
            let at = builder.value_at(lowering, node.inputs[1], &index[*axis..=*axis], None)?;
            let mut target = index.to_vec();
            target[*axis] = builder.wrap_index(at, &shape[*axis]);
            Ok(target)
        }
        Op::Scatter { axis, .. } => {
            let at = builder.value_at(lowering, node.inputs[1], index, None)?;
            let mut target = index.to_vec();
            target[*axis] = builder.wrap_index(at, &shape[*axis]);
            Ok(target)
        }
        Op::IndexPut { axes, .. } => {
            let indices = &node.inputs[1..node.inputs.len() - 1];
            builder.multi_index(lowering, &shape, axes, indices, index, None)
        }
        Op::SliceScatter { axis, start, step } => {
            let mut target = index.to_vec();
            let step = builder.int(*step);
            let scaled = builder.mul(target[*axis], step);
            let start = builder.size(start);
            target[*axis] = builder.add(scaled, start);
            Ok(target)
        }
        _ => Err(lowering.unsupported(id, "not an update")),
    }
}

/// The new value at a point of the update space.
fn new_value(
    lowering: &mut Lowering<'_>,
    builder: &mut KernelBuilder,
    src: ValueId,
    index: &[InstId],
) -> Result<InstId, LowerError> {
    let shape = lowering.graph.ty(src).shape.clone();
    let skip = index.len() - shape.len();
    let mut at = Vec::with_capacity(shape.len());
    for (n, &i) in shape.iter().zip(&index[skip..]) {
        at.push(if n.is(1) { builder.int(0) } else { i });
    }
    builder.value_at(lowering, src, &at, None)
}

fn write(lowering: &mut Lowering<'_>, id: NodeId, target: &StridedView) -> Result<(), LowerError> {
    let (mut space, src) = update_space(lowering, id);
    let dtype = lowering.graph.ty(src).dtype;
    let mut builder = KernelBuilder::for_nodes(&[id]);
    let scalar = space.is_empty();
    if scalar {
        space.push(Expr::constant(1));
    }
    let row = space.len() - 1;
    let mut index: Vec<InstId> = (0..row).map(|i| builder.outer(i)).collect();
    index.push(builder.inner(0));
    let point = if scalar { &[][..] } else { &index[..] };
    let place = target_index(lowering, &mut builder, id, point)?;
    let value = new_value(lowering, &mut builder, src, point)?;
    let operand = builder.operand(target.storage, &target.offset, dtype, true);
    let at = builder.offset(&place, &target.strides);
    let store = Stage::Store { operand, index: at, value, guard: None };
    let inner = space.split_off(row);
    push_loop(lowering, builder, (space, inner), vec![store], Expr::constant(0));
    Ok(())
}

/// `out[p] = x[p] + sum over the update space of (its target == p ? src : 0)`.
fn gather_sum(lowering: &mut Lowering<'_>, id: NodeId) -> Result<bool, LowerError> {
    let graph = lowering.graph;
    let node = graph.node(id);
    let (x, out) = (node.inputs[0], node.outputs[0]);
    let ty = graph.ty(out).clone();
    let (space, src) = update_space(lowering, id);
    let mut builder = KernelBuilder::for_nodes(&[id]);
    let place: Vec<InstId> = (0..ty.rank()).map(|i| builder.outer(i)).collect();
    let index: Vec<InstId> = (0..space.len()).map(|i| builder.inner(i)).collect();
    let target = target_index(lowering, &mut builder, id, &index)?;
    let mut hit = builder.body.push(InstKind::Int(1), zeroforge_artifact::DType::Bool);
    for (&a, &b) in target.iter().zip(&place) {
        let equal = builder.binary(BinaryOp::Eq, a, b);
        hit = builder.binary(BinaryOp::And, hit, equal);
    }
    let v = new_value(lowering, &mut builder, src, &index)?;
    let zero = builder.constant(0.0, ty.dtype);
    let v = builder.select(hit, v, zero);
    let acc_dtype = builder.body.inst(v).dtype;
    let acc = builder.body.push(InstKind::Acc(0), acc_dtype);
    let old = builder.value_at(lowering, x, &place, None)?;
    let sum = builder.add(old, acc);
    let view = lowering.allocate(out, None);
    let operand = builder.operand(view.storage, &view.offset, ty.dtype, true);
    let at = builder.offset(&place, &view.strides);
    let stages = vec![
        Stage::Reduce { fold: Fold::Sum, value: v },
        Stage::Store { operand, index: at, value: sum, guard: None },
    ];
    let inner = if space.is_empty() { vec![Expr::constant(1)] } else { space };
    push_loop(lowering, builder, (ty.shape.clone(), inner), stages, Expr::constant(0));
    lowering.placed.insert(out, view);
    Ok(true)
}

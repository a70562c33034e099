//! Convolutions as contractions: `W[O, C*k] x patches[C*k, positions]` per image and channel group.
//!
//! The patch matrix is written by a loop kernel (im2col), except for 1x1 convolutions with unit
//! stride and no padding, which read the image itself.

use zeroforge_artifact::Expr;
use zeroforge_graph::op::BinaryOp;
use zeroforge_graph::{NodeId, Op, ValueId};

use super::elementwise::{dense, push_loop};
use super::expression::KernelBuilder;
use super::gemm::{Problem, emit_problem, emit_split_rows};
use super::{LowerError, Lowering, StorageId};
use crate::kernel_spec::BLayout;
use crate::launch::View;
use crate::loop_ir::{InstId, Stage};

pub(crate) fn emit(lowering: &mut Lowering<'_>, chain: &[NodeId]) -> Result<bool, LowerError> {
    let graph = lowering.graph;
    let node = graph.node(chain[0]);
    let Op::Conv { stride, padding, dilation, groups, bias } = &node.op else { return Ok(false) };
    let (x, w) = (node.inputs[0], node.inputs[1]);
    let (x_ty, w_ty) = (graph.ty(x).clone(), graph.ty(w).clone());
    let shape = graph.ty(node.outputs[0]).shape.clone();
    let rank = shape.len();
    let bias = if *bias { node.inputs.get(2).copied() } else { None };
    let groups = Expr::constant(*groups as i64);
    let positions = Expr::product(&shape[2..]);
    let taps = Expr::product(&w_ty.shape[1..]);
    let filters = shape[1].floor_div(&groups);

    let pointwise = w_ty.shape[2..].iter().all(|k| k.is(1))
        && stride.iter().all(|&s| s == 1)
        && padding.iter().all(|&p| p == (0, 0));
    let patches = if pointwise {
        dense(lowering, x)?.storage
    } else {
        patches(lowering, chain[0], x, &w_ty.shape, &shape, (stride, padding, dilation))?
    };
    let weight = dense(lowering, w)?;
    let zero = Expr::constant(0);
    let one = Expr::constant(1);
    let problem = Problem {
        a: View {
            storage: weight.storage,
            offset: weight.offset.clone(),
            strides: [zero, filters.clone() * taps.clone(), taps.clone(), one.clone()],
        },
        a_dtype: w_ty.dtype,
        b: View {
            storage: patches,
            offset: Expr::constant(0),
            strides: [
                groups.clone() * taps.clone() * positions.clone(),
                taps.clone() * positions.clone(),
                positions.clone(),
                one,
            ],
        },
        b_dtype: x_ty.dtype,
        b_layout: BLayout::RowMajorKn,
        batch: [shape[0].clone(), groups.clone()],
        m: filters,
        n: positions,
        k: taps,
        // With one group, b1 is no axis of the result and rows are the channels.
        groups: [0..1, 1..1, 1..2, 2..rank],
    };
    if groups.is(1) {
        return emit_problem(lowering, chain, &problem, bias);
    }
    // Channels split into (group, filter): no axis of the result, so nothing is fused but the bias.
    if chain.len() > 1 {
        return Ok(false);
    }
    emit_split_rows(lowering, chain, &problem, bias)
}

/// Writes `[N, C, taps..., positions...]`.
fn patches(
    lowering: &mut Lowering<'_>,
    id: NodeId,
    x: ValueId,
    weight: &[Expr],
    out: &[Expr],
    (stride, padding, dilation): (&[usize], &[(usize, usize)], &[usize]),
) -> Result<StorageId, LowerError> {
    let ty = lowering.graph.ty(x).clone();
    let spatial = stride.len();
    let mut builder = KernelBuilder::for_nodes(&[id]);
    // outer: n, c, taps..., positions but the last; inner: the last position.
    let mut sizes = vec![ty.shape[0].clone(), ty.shape[1].clone()];
    sizes.extend_from_slice(&weight[2..]);
    sizes.extend_from_slice(&out[2..]);
    let row = sizes.len() - 1;
    let mut vars: Vec<InstId> = (0..row).map(|i| builder.outer(i)).collect();
    vars.push(builder.inner(0));
    let mut index = vars[..2].to_vec();
    let mut inside: Option<InstId> = None;
    for i in 0..spatial {
        let step = builder.int(stride[i] as i64);
        let dilate = builder.int(dilation[i] as i64);
        let before = builder.int(padding[i].0 as i64);
        let base = builder.mul(vars[2 + spatial + i], step);
        let tap = builder.mul(vars[2 + i], dilate);
        let at = builder.add(base, tap);
        let at = builder.binary(BinaryOp::Sub, at, before);
        index.push(at);
        if padding[i] != (0, 0) {
            let zero = builder.int(0);
            let n = builder.size(&ty.shape[2 + i]);
            let low = builder.binary(BinaryOp::Ge, at, zero);
            let high = builder.binary(BinaryOp::Lt, at, n);
            let both = builder.binary(BinaryOp::And, low, high);
            inside = Some(builder.and_guard(inside, both));
        }
    }
    let mut value = builder.value_at(lowering, x, &index, inside)?;
    if let Some(inside) = inside {
        let zero = builder.constant(0.0, ty.dtype);
        value = builder.select(inside, value, zero);
    }
    let name = format!("{}.patches", lowering.graph.value(x).name);
    let storage = lowering.allocate_scratch(name, ty.dtype, Expr::product(&sizes));
    let strides = super::strided::contiguous_strides(&sizes);
    let target = builder.operand(storage, &Expr::constant(0), ty.dtype, true);
    let at = builder.offset(&vars, &strides);
    let store = Stage::Store { operand: target, index: at, value, guard: None };
    let (outer, inner) = (sizes[..row].to_vec(), sizes[row..].to_vec());
    push_loop(lowering, builder, (outer, inner), vec![store], Expr::constant(0));
    Ok(storage)
}

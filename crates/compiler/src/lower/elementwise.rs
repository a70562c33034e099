//! Kernels that store one unevaluated value, element by element.

use std::ops::Range;

use zeroforge_artifact::Expr;
use zeroforge_artifact::program::BUFFER_ALIGN;
use zeroforge_graph::op::{BinaryOp, UnaryOp};
use zeroforge_graph::{Op, ValueId};

use super::expression::KernelBuilder;
use super::strided::{StridedView, contiguous_strides};
use super::{LowerError, LoweredStep, Lowering, decide, origin_of};
use crate::kernel_spec::KernelSpec;
use crate::launch::{Launch, LoopLaunch};
use crate::loop_ir::{InstId, LoopKernel, LoopSizes, Operand, Stage};

/// Merged axes of an index space: which original axes each kernel axis covers, and its variable.
pub(crate) struct Axes {
    /// Consecutive ranges that cover the original axes in order.
    pub(crate) groups: Vec<Range<usize>>,
    /// One variable per group.
    pub(crate) vars: Vec<InstId>,
}

/// Strides of a view over merged axes; `None` if an axis group is not one run in memory.
pub(crate) fn group_strides(view: &StridedView, groups: &[Range<usize>]) -> Option<Vec<Expr>> {
    let mut strides = Vec::with_capacity(groups.len());
    for group in groups {
        let axes: Vec<usize> = group.clone().filter(|&i| !view.shape[i].is(1)).collect();
        for pair in axes.windows(2) {
            let inner = view.strides[pair[1]].clone() * view.shape[pair[1]].clone();
            if view.strides[pair[0]] != inner {
                return None;
            }
        }
        strides.push(axes.last().map_or(Expr::constant(0), |&i| view.strides[i].clone()));
    }
    Some(strides)
}

/// The memory that a pointwise tree reads, as views broadcast to `shape`; `None` if some leaf is
/// not a strided view of memory.
fn leaves(
    lowering: &mut Lowering<'_>,
    value: ValueId,
    shape: &[Expr],
    out: &mut Vec<StridedView>,
) -> Option<()> {
    if out.len() > 32 {
        return None;
    }
    if let Some(view) = lowering.placed_view(value) {
        out.push(view.broadcast(shape)?);
        return Some(());
    }
    let graph = lowering.graph;
    let node = graph.producer(value)?;
    match &node.op {
        Op::Full { .. } | Op::FullInt { .. } => Some(()),
        op if decide::is_pointwise(op) => {
            node.inputs.iter().try_for_each(|&v| leaves(lowering, v, shape, out))
        }
        _ => None,
    }
}

/// The value of a pointwise tree over merged axes. Every leaf must be a view that
/// [`group_strides`] accepts; `None` otherwise.
pub(crate) fn pointwise_at(
    builder: &mut KernelBuilder,
    lowering: &mut Lowering<'_>,
    value: ValueId,
    shape: &[Expr],
    axes: &Axes,
    known: &[(ValueId, InstId)],
) -> Option<InstId> {
    if let Some((_, inst)) = known.iter().find(|(v, _)| *v == value) {
        return Some(*inst);
    }
    let graph = lowering.graph;
    if let Some(view) = lowering.placed_view(value) {
        let view = view.broadcast(shape)?;
        let strides = group_strides(&view, &axes.groups)?;
        let view = StridedView { strides, ..view };
        return Some(builder.load(&view, graph.ty(value).dtype, &axes.vars, None));
    }
    let node = graph.producer(value)?;
    let id = lowering.node_of(value)?;
    if !builder.nodes.contains(&id) {
        builder.nodes.push(id);
    }
    let mut operand = |builder: &mut KernelBuilder, i: usize| {
        pointwise_at(builder, lowering, node.inputs[i], shape, axes, known)
    };
    match &node.op {
        Op::Full { value, dtype, .. } => Some(builder.constant(*value, *dtype)),
        Op::FullInt { value, dtype, .. } => {
            let v = builder.size(value);
            Some(builder.cast(*dtype, v))
        }
        Op::Unary(op) => {
            let a = operand(builder, 0)?;
            Some(builder.unary(*op, a))
        }
        Op::Binary(op) => {
            let (a, b) = (operand(builder, 0)?, operand(builder, 1)?);
            Some(builder.binary(*op, a, b))
        }
        Op::Where => {
            let (c, a, b) = (operand(builder, 0)?, operand(builder, 1)?, operand(builder, 2)?);
            Some(builder.select(c, a, b))
        }
        Op::Cast(to) => {
            let a = operand(builder, 0)?;
            Some(builder.cast(*to, a))
        }
        _ => None,
    }
}

/// Merges neighbouring axes that every view walks as one.
fn merge_axes(shape: &[Expr], views: &[StridedView]) -> Vec<Range<usize>> {
    let mut groups: Vec<Range<usize>> = Vec::new();
    for axis in 0..shape.len() {
        if let Some(last) = groups.last_mut() {
            let merged = std::slice::from_ref(&(last.start..axis + 1)).to_vec();
            if views.iter().all(|v| group_strides_of_one(v, &merged[0])) {
                last.end = axis + 1;
                continue;
            }
        }
        groups.push(axis..axis + 1);
    }
    groups
}

fn group_strides_of_one(view: &StridedView, group: &Range<usize>) -> bool {
    group_strides(view, std::slice::from_ref(group)).is_some()
}

/// Stores a value in memory of its own.
pub(crate) fn emit(lowering: &mut Lowering<'_>, value: ValueId) -> Result<(), LowerError> {
    let target = lowering.allocate(value, None);
    emit_into(lowering, value, target.clone())?;
    lowering.placed.insert(value, target);
    Ok(())
}

/// Stores a value (which may also be in memory elsewhere) into `target`.
pub(crate) fn emit_into(
    lowering: &mut Lowering<'_>,
    value: ValueId,
    target: StridedView,
) -> Result<(), LowerError> {
    let dtype = lowering.graph.ty(value).dtype;
    let shape = target.shape.clone();
    let mut builder = KernelBuilder::default();

    let mut views = vec![target.clone()];
    let strided = leaves(lowering, value, &shape, &mut views).is_some();
    let groups = if strided {
        merge_axes(&shape, &views)
    } else {
        (0..shape.len()).map(|i| i..i + 1).collect()
    };
    let mut sizes: Vec<Expr> = groups.iter().map(|g| Expr::product(&shape[g.clone()])).collect();
    if sizes.is_empty() {
        sizes.push(Expr::constant(1));
    }
    // The last axis is the row; the others are parallel.
    let row = sizes.len() - 1;
    let mut vars: Vec<InstId> = (0..row).map(|i| builder.outer(i)).collect();
    vars.push(builder.inner(0));

    let (result, index) = if strided {
        let axes = Axes { groups: groups.clone(), vars: vars[..groups.len()].to_vec() };
        let result = pointwise_at(&mut builder, lowering, value, &shape, &axes, &[]);
        let result = result.ok_or_else(|| LowerError::Inconsistent {
            value: lowering.graph.value(value).name.clone(),
            reason: "a strided tree has a leaf that is none",
        })?;
        let strides = group_strides(&target, &groups).unwrap_or_default();
        (result, builder.offset(&vars, &strides))
    } else {
        let index = vars[..shape.len()].to_vec();
        let result = builder.value_at(lowering, value, &index, None)?;
        (result, builder.offset(&index, &target.strides))
    };
    let operand = builder.operand(target.storage, &target.offset, dtype, true);
    let store = Stage::Store { operand, index, value: result, guard: None };
    let flops = Expr::product(&shape) * Expr::constant(builder.float_ops());
    push_loop(
        lowering,
        builder,
        (sizes[..row].to_vec(), sizes[row..].to_vec()),
        vec![store],
        flops,
    );
    Ok(())
}

/// Adds a finished loop kernel as a step.
pub(crate) fn push_loop(
    lowering: &mut Lowering<'_>,
    mut builder: KernelBuilder,
    (outer, inner): (Vec<Expr>, Vec<Expr>),
    stages: Vec<Stage>,
    flops: Expr,
) {
    let outer_extents = outer.iter().map(|e| builder.extent(e)).collect();
    let inner_extents = inner.iter().map(|e| builder.extent(e)).collect();
    let launch = LoopLaunch {
        operands: builder.operands.iter().map(|(storage, at, _)| (*storage, at.clone())).collect(),
        ints: builder.ints.clone(),
        sizes: LoopSizes { outer, inner },
    };
    builder.nodes.sort();
    let origin = origin_of(lowering.graph, &builder.nodes);
    let mut reads = Vec::new();
    let mut writes = Vec::new();
    for (i, (storage, _, operand)) in builder.operands.iter().enumerate() {
        let i = i as u32;
        if operand.written {
            writes.push(*storage);
        }
        let loaded = builder.body.insts.iter().any(
            |inst| matches!(inst.kind, crate::loop_ir::InstKind::Load { operand, .. } if operand == i),
        );
        if loaded {
            reads.push(*storage);
        }
    }
    // Buffers begin at multiples of BUFFER_ALIGN; what an offset adds is known up to its divisors.
    let aligned = |offset: &Expr, operand: &Operand| {
        let bytes = offset.clone() * Expr::constant(operand.dtype.size() as i64);
        Operand { align: bytes.power_of_two_divisor(BUFFER_ALIGN as u32), ..*operand }
    };
    let mut multiples: Vec<u32> =
        builder.ints.iter().map(|e| e.power_of_two_divisor(BUFFER_ALIGN as u32)).collect();
    while multiples.last() == Some(&1) {
        multiples.pop();
    }
    let kernel = LoopKernel {
        operands: builder.operands.iter().map(|(_, offset, o)| aligned(offset, o)).collect(),
        ints: builder.ints.len() as u32,
        multiples,
        outer: outer_extents,
        inner: inner_extents,
        body: builder.body,
        stages,
    };
    lowering.push_step(LoweredStep {
        spec: KernelSpec::Loop(kernel),
        launch: Launch::Loop(launch),
        reads,
        writes,
        workspace: None,
        origin,
        flops,
    });
}

impl KernelBuilder {
    /// Floating-point operations per element, a transcendental counted as eight.
    pub(crate) fn float_ops(&self) -> i64 {
        use crate::loop_ir::InstKind;
        self.body
            .insts
            .iter()
            .filter(|i| i.dtype.is_float())
            .map(|i| match &i.kind {
                InstKind::Binary(BinaryOp::Pow | BinaryOp::Atan2, ..) => 16,
                InstKind::Binary(..) | InstKind::Select(..) => 1,
                InstKind::Unary(op, _) => match op {
                    UnaryOp::Neg | UnaryOp::Abs | UnaryOp::Relu => 1,
                    _ => 8,
                },
                _ => 0,
            })
            .sum()
    }
}

/// A whole value as a dense row-major view, copying it if its memory is laid out otherwise.
pub(crate) fn dense(
    lowering: &mut Lowering<'_>,
    value: ValueId,
) -> Result<StridedView, LowerError> {
    let view = lowering.strided(value)?;
    if view.is_contiguous() {
        return Ok(StridedView { strides: contiguous_strides(&view.shape), ..view });
    }
    copy(lowering, value)
}

/// A fresh row-major copy of a value.
pub(crate) fn copy(lowering: &mut Lowering<'_>, value: ValueId) -> Result<StridedView, LowerError> {
    let ty = lowering.graph.ty(value).clone();
    let name = format!("{}.copy", lowering.graph.value(value).name);
    let storage = lowering.allocate_scratch(name, ty.dtype, ty.numel());
    let target = StridedView::contiguous(storage, &ty.shape);
    emit_into(lowering, value, target.clone())?;
    Ok(target)
}

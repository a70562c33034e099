//! Contractions with their epilogue.

use std::ops::Range;

use zeroforge_artifact::{DType, Expr};
use zeroforge_graph::ir::Def;
use zeroforge_graph::{NodeId, Op, ValueId};

use super::elementwise::{Axes, copy, group_strides, pointwise_at};
use super::expression::{KernelBuilder, compute_dtype};
use super::strided::StridedView;
use super::{LowerError, LoweredStep, Lowering, StorageId, origin_of};
use crate::kernel_spec::{BLayout, Epilogue, GemmSpec, KernelSpec, MAX_EPILOGUE_OPERANDS};
use crate::launch::{GemmLaunch, Launch, View};
use crate::loop_ir::{InstId, InstKind};

/// Everything about a contraction but its epilogue.
pub(super) struct Problem {
    pub(super) a: View,
    pub(super) a_dtype: DType,
    pub(super) b: View,
    pub(super) b_dtype: DType,
    pub(super) b_layout: BLayout,
    pub(super) batch: [Expr; 2],
    pub(super) m: Expr,
    pub(super) n: Expr,
    pub(super) k: Expr,
    /// The axes of the result that b0, b1, m and n stand for.
    pub(super) groups: [Range<usize>; 4],
}

fn zero() -> Expr {
    Expr::constant(0)
}

fn one() -> Expr {
    Expr::constant(1)
}

/// The B operand as the kernel will see it.
enum BOperand {
    Packed {
        storage: StorageId,
        panel: Expr,
        nr: u32,
    },
    /// A view whose last axis is contiguous and is N (`kn`) or K.
    View {
        view: StridedView,
        kn: bool,
    },
}

pub(crate) fn emit(lowering: &mut Lowering<'_>, chain: &[NodeId]) -> Result<bool, LowerError> {
    let graph = lowering.graph;
    let node = graph.node(chain[0]);
    let Op::MatMul { transpose_b } = node.op else { return Ok(false) };
    let (a, b, out) = (node.inputs[0], node.inputs[1], node.outputs[0]);
    let (a_ty, b_ty) = (graph.ty(a).clone(), graph.ty(b).clone());
    let shape = graph.ty(out).shape.clone();
    let rank = shape.len();
    let (m, n) = (shape[rank - 2].clone(), shape[rank - 1].clone());
    let k = a_ty.shape[a_ty.rank() - 1].clone();
    if !a_ty.dtype.is_float() {
        return Err(lowering.unsupported(
            chain[0],
            format!("a matrix product of {} has no kernel; cast the operands to float", a_ty.dtype),
        ));
    }

    let mut a_view = lowering.strided(a)?;
    let contiguous_k = a_view.strides[a_ty.rank() - 1].is(1) || k.is(1);
    if !contiguous_k {
        a_view = copy(lowering, a)?;
    }
    let b_operand = b_operand(lowering, chain[0], b, transpose_b, &k, &n, a_ty.dtype)?;
    let shared_b = b_ty.shape[..b_ty.rank() - 2].iter().all(|n| n.is(1));

    for attempt in 0..2 {
        if attempt == 1 {
            a_view = copy(lowering, a)?;
        }
        for groups in splits(rank, shared_b) {
            let Some(problem) =
                problem(&a_view, a_ty.dtype, &b_operand, b_ty.dtype, &shape, groups, (&m, &n, &k))
            else {
                continue;
            };
            if emit_problem(lowering, chain, &problem, None)? {
                return Ok(true);
            }
        }
        if a_view.is_contiguous() {
            break;
        }
    }
    if chain.len() > 1 {
        return Ok(false);
    }
    // Alone and still not expressible: more than two independent batch strides. Copy B densely too.
    let BOperand::View { .. } = b_operand else { return Ok(false) };
    let dense_b = copy_broadcast(lowering, b, &shape[..rank - 2])?;
    let b_operand = BOperand::View { view: dense_b, kn: !transpose_b };
    let dense_a = copy_broadcast(lowering, a, &shape[..rank - 2])?;
    let groups = [0..0, 0..rank - 2, rank - 2..rank - 1, rank - 1..rank];
    let dims = (&m, &n, &k);
    match problem(&dense_a, a_ty.dtype, &b_operand, b_ty.dtype, &shape, groups, dims) {
        Some(problem) => emit_problem(lowering, chain, &problem, None),
        None => Ok(false),
    }
}

/// Candidate assignments of the result's axes to (b0, b1, m, n), best first.
fn splits(rank: usize, shared_b: bool) -> Vec<[Range<usize>; 4]> {
    let (m, n) = (rank - 2, rank - 1);
    let mut out = Vec::new();
    if shared_b {
        // A weight: all leading axes are rows.
        out.push([0..0, 0..0, 0..n, n..rank]);
    }
    out.push([0..0, 0..m, m..n, n..rank]);
    for cut in 1..m {
        out.push([0..cut, cut..m, m..n, n..rank]);
    }
    out
}

/// Batch strides of an operand whose batch axes broadcast to the result's.
fn batch_view(view: &StridedView, shape: &[Expr]) -> Option<StridedView> {
    let rank = view.shape.len();
    let mut full = shape[..shape.len() - 2].to_vec();
    full.extend_from_slice(&view.shape[rank - 2..]);
    view.broadcast(&full)
}

fn problem(
    a: &StridedView,
    a_dtype: DType,
    b: &BOperand,
    b_dtype: DType,
    shape: &[Expr],
    groups: [Range<usize>; 4],
    (_, n, k): (&Expr, &Expr, &Expr),
) -> Option<Problem> {
    let size = |group: &Range<usize>| Expr::product(&shape[group.clone()]);
    // A's axes line up with the result's, with K in the place of N.
    let a_view = batch_view(a, shape)?;
    let a_strides = group_strides(&a_view, &groups[..3])?;
    let a = View {
        storage: a.storage,
        offset: a.offset.clone(),
        strides: [a_strides[0].clone(), a_strides[1].clone(), a_strides[2].clone(), one()],
    };
    let rows_include_batch = groups[2].len() > 1;
    let (b, b_layout) = match b {
        BOperand::Packed { storage, panel, nr } => (
            View {
                storage: *storage,
                offset: zero(),
                strides: [zero(), zero(), panel.clone(), one()],
            },
            BLayout::Panels { nr: *nr },
        ),
        BOperand::View { view, kn } => {
            let layout = if *kn { BLayout::RowMajorKn } else { BLayout::RowMajorNk };
            let rank = view.shape.len();
            let row = view.strides[rank - 2].clone();
            let strides = if rows_include_batch {
                [zero(), zero(), row, one()]
            } else {
                let full = batch_view(view, shape)?;
                let s = group_strides(&full, &groups[..2])?;
                [s[0].clone(), s[1].clone(), row, one()]
            };
            (View { storage: view.storage, offset: view.offset.clone(), strides }, layout)
        }
    };
    Some(Problem {
        a,
        a_dtype,
        b,
        b_dtype,
        b_layout,
        batch: [size(&groups[0]), size(&groups[1])],
        m: size(&groups[2]),
        n: n.clone(),
        k: k.clone(),
        groups,
    })
}

fn b_operand(
    lowering: &mut Lowering<'_>,
    node: NodeId,
    b: ValueId,
    transpose_b: bool,
    k: &Expr,
    n: &Expr,
    a_dtype: DType,
) -> Result<BOperand, LowerError> {
    let graph = lowering.graph;
    // A weight, or a transposed weight: packed at compile time if the backend wants that.
    let (source, flipped) = match graph.producer(b) {
        Some(p) if p.op == Op::Permute(vec![1, 0]) => (p.inputs[0], true),
        _ => (b, false),
    };
    if let Def::Weight(index) = graph.value(source).def
        && !graph.weights[index as usize].mutable
        && graph.ty(b).rank() == 2
        && let (Some(k), Some(n)) = (k.as_const(), n.as_const())
    {
        let transposed = transpose_b != flipped;
        let spec = GemmSpec {
            a: a_dtype,
            b: graph.ty(b).dtype,
            c: a_dtype,
            b_layout: BLayout::RowMajorNk,
            m: None,
            n: Some(n),
            k: Some(k),
            epilogue: Epilogue::default(),
        };
        if let BLayout::Panels { nr } = lowering.backend.weight_layout(&spec, transposed) {
            let storage = lowering.packed_weight(index, nr, transposed, (n, k));
            let panel = Expr::constant(k.saturating_mul(i64::from(nr)));
            return Ok(BOperand::Packed { storage, panel, nr });
        }
    }
    let view = lowering.strided(b)?;
    let rank = view.shape.len();
    let (rows, columns) = (&view.strides[rank - 2], &view.strides[rank - 1]);
    let contiguous = |stride: &Expr, n: &Expr| stride.is(1) || n.is(1);
    if contiguous(columns, &view.shape[rank - 1]) {
        return Ok(BOperand::View { view, kn: !transpose_b });
    }
    if contiguous(rows, &view.shape[rank - 2]) {
        let mut perm: Vec<usize> = (0..rank).collect();
        perm.swap(rank - 2, rank - 1);
        let view = view.apply(&Op::Permute(perm)).ok_or_else(|| LowerError::Inconsistent {
            value: graph.value(b).name.clone(),
            reason: "a transposed view is not strided",
        })?;
        return Ok(BOperand::View { view, kn: transpose_b });
    }
    let _ = node;
    Ok(BOperand::View { view: copy(lowering, b)?, kn: !transpose_b })
}

/// A dense copy of a value with its batch axes expanded.
fn copy_broadcast(
    lowering: &mut Lowering<'_>,
    value: ValueId,
    batch: &[Expr],
) -> Result<StridedView, LowerError> {
    let view = copy(lowering, value)?;
    let rank = view.shape.len();
    let mut full = batch.to_vec();
    full.extend_from_slice(&view.shape[rank - 2..]);
    // Broadcast strides within a single merged batch axis exist only if nothing or everything is
    // broadcast; anything else was refused by the caller's dense copies before.
    view.broadcast(&full).ok_or_else(|| LowerError::Inconsistent {
        value: lowering.graph.value(value).name.clone(),
        reason: "batch axes do not broadcast",
    })
}

/// Emits a contraction with the chain's pointwise nodes as epilogue; `row_bias` is added to each
/// row first (a convolution's bias). False if the chain does not fit an epilogue.
pub(super) fn emit_problem(
    lowering: &mut Lowering<'_>,
    chain: &[NodeId],
    problem: &Problem,
    row_bias: Option<ValueId>,
) -> Result<bool, LowerError> {
    let graph = lowering.graph;
    let anchor = graph.node(chain[0]).outputs[0];
    let result = graph.node(chain[chain.len() - 1]).outputs[0];
    let (ty, acc_ty) = (graph.ty(result).clone(), graph.ty(anchor).clone());

    let mut builder = KernelBuilder::for_nodes(chain);
    let acc_dtype = compute_dtype(problem.a_dtype);
    let mut acc = builder.body.push(InstKind::Acc(0), acc_dtype);
    let vars: Vec<InstId> = (0..4).map(|i| builder.outer(i)).collect();
    if let Some(bias) = row_bias {
        acc = add_row_bias(lowering, &mut builder, problem, bias, acc, &vars)?;
    }
    let axes = Axes { groups: problem.groups.to_vec(), vars: vars.clone() };
    let known = [(anchor, acc)];
    let Some(value) = pointwise_at(&mut builder, lowering, result, &acc_ty.shape, &axes, &known)
    else {
        return Ok(false);
    };
    if builder.operands.len() > MAX_EPILOGUE_OPERANDS {
        return Ok(false);
    }
    let (epilogue, extras) = match epilogue(&builder, value, &vars) {
        Some(parts) => parts,
        None => return Ok(false),
    };

    let target = lowering.allocate(result, None);
    let Some(c_strides) = group_strides(&target, &problem.groups) else { return Ok(false) };
    let c = View {
        storage: target.storage,
        offset: target.offset.clone(),
        strides: [c_strides[0].clone(), c_strides[1].clone(), c_strides[2].clone(), one()],
    };
    push_gemm(lowering, chain, problem, &c, ty.dtype, epilogue, &extras);
    lowering.placed.insert(result, target);
    Ok(true)
}

/// Emits a contraction whose rows are one slice of an axis of the result (a convolution group):
/// the result is addressed as `[b0, b1, m, n]` with `b1 * m` the sliced axis. Nothing but the bias
/// is fused.
pub(super) fn emit_split_rows(
    lowering: &mut Lowering<'_>,
    chain: &[NodeId],
    problem: &Problem,
    row_bias: Option<ValueId>,
) -> Result<bool, LowerError> {
    let result = lowering.graph.node(chain[0]).outputs[0];
    let dtype = lowering.graph.ty(result).dtype;
    let mut builder = KernelBuilder::for_nodes(chain);
    let mut acc = builder.body.push(InstKind::Acc(0), compute_dtype(problem.a_dtype));
    let vars: Vec<InstId> = (0..4).map(|i| builder.outer(i)).collect();
    if let Some(bias) = row_bias {
        acc = add_row_bias(lowering, &mut builder, problem, bias, acc, &vars)?;
    }
    let Some((epilogue, extras)) = epilogue(&builder, acc, &vars) else { return Ok(false) };
    let target = lowering.allocate(result, None);
    let (m, n) = (&problem.m, &problem.n);
    let image = problem.batch[1].clone() * m.clone() * n.clone();
    let c = View {
        storage: target.storage,
        offset: target.offset.clone(),
        strides: [image, m.clone() * n.clone(), n.clone(), one()],
    };
    push_gemm(lowering, chain, problem, &c, dtype, epilogue, &extras);
    lowering.placed.insert(result, target);
    Ok(true)
}

/// Adds `bias[b1 * m + row]` to the accumulator.
fn add_row_bias(
    lowering: &mut Lowering<'_>,
    builder: &mut KernelBuilder,
    problem: &Problem,
    bias: ValueId,
    acc: InstId,
    vars: &[InstId],
) -> Result<InstId, LowerError> {
    let view = lowering.strided(bias)?;
    let stride = view.strides[0].clone();
    let strides = vec![zero(), problem.m.clone() * stride.clone(), stride];
    let view = StridedView { strides, ..view };
    let v = builder.load(&view, lowering.graph.ty(bias).dtype, &vars[..3], None);
    let v = builder.cast(builder.body.inst(acc).dtype, v);
    Ok(builder.add(acc, v))
}

/// Turns the builder's expressions into the form of [`Epilogue`]: each operand's strides are
/// parameters `4*i ..`, loads are `sum(Outer * Param)` with zero strides left out.
fn epilogue(
    builder: &KernelBuilder,
    value: InstId,
    vars: &[InstId],
) -> Option<(Epilogue, Vec<View>)> {
    if matches!(builder.body.inst(value).kind, InstKind::Acc(0)) && builder.operands.is_empty() {
        return Some((Epilogue::default(), Vec::new()));
    }
    let mut out = KernelBuilder::default();
    let mut extras: Vec<View> = Vec::new();
    let mut map: Vec<Option<InstId>> = vec![None; builder.body.insts.len()];
    for (i, inst) in builder.body.insts.iter().enumerate() {
        let get = |id: &InstId| map[id.0 as usize];
        let kind = match &inst.kind {
            InstKind::Load { operand, index, guard: None } => {
                let (storage, offset, declared) = &builder.operands[*operand as usize];
                let strides = linear_strides(builder, *index, vars)?;
                // Loads of one memory with different strides are different operands.
                let at = extras
                    .iter()
                    .position(|e| {
                        e.storage == *storage && e.offset == *offset && e.strides == strides
                    })
                    .unwrap_or_else(|| {
                        extras.push(View {
                            storage: *storage,
                            offset: offset.clone(),
                            strides: strides.clone(),
                        });
                        out.operands.push((*storage, offset.clone(), *declared));
                        extras.len() - 1
                    });
                if extras.len() > MAX_EPILOGUE_OPERANDS {
                    return None;
                }
                let mut index = out.int(0);
                for (axis, stride) in strides.iter().enumerate() {
                    if stride.is(0) {
                        continue;
                    }
                    let var = out.outer(axis);
                    let term = if stride.is(1) {
                        var
                    } else {
                        let param = (4 * at + axis) as u32;
                        let stride = out.body.push(InstKind::Param(param), DType::I64);
                        out.mul(var, stride)
                    };
                    index = out.add(index, term);
                }
                InstKind::Load { operand: at as u32, index, guard: None }
            }
            InstKind::Load { .. } => return None,
            // Sizes of the builder are not available in an epilogue; index arithmetic that used
            // them is dropped because loads are rebuilt above.
            InstKind::Param(_) => continue,
            InstKind::Unary(op, a) => match get(a) {
                Some(a) => InstKind::Unary(*op, a),
                None => continue,
            },
            InstKind::Binary(op, a, b) => match (get(a), get(b)) {
                (Some(a), Some(b)) => InstKind::Binary(*op, a, b),
                _ => continue,
            },
            InstKind::Select(c, a, b) => match (get(c), get(a), get(b)) {
                (Some(c), Some(a), Some(b)) => InstKind::Select(c, a, b),
                _ => continue,
            },
            InstKind::Cast(to, a) => match get(a) {
                Some(a) => InstKind::Cast(*to, a),
                None => continue,
            },
            kind => kind.clone(),
        };
        map[i] = Some(out.body.push(kind, inst.dtype));
    }
    let result = map[value.0 as usize]?;
    let (body, result) = prune(&out.body, result);
    let extra = out.operands.iter().map(|(_, _, o)| o.dtype).collect();
    Some((Epilogue { extra, body, result: Some(result) }, extras))
}

/// Drops instructions that the result does not need.
fn prune(body: &crate::loop_ir::Body, result: InstId) -> (crate::loop_ir::Body, InstId) {
    let mut needed = vec![false; body.insts.len()];
    needed[result.0 as usize] = true;
    for i in (0..body.insts.len()).rev() {
        if needed[i] {
            for operand in operands_of(&body.insts[i].kind) {
                needed[operand.0 as usize] = true;
            }
        }
    }
    let mut map = vec![InstId(0); body.insts.len()];
    let mut out = crate::loop_ir::Body::default();
    for (i, inst) in body.insts.iter().enumerate().filter(|(i, _)| needed[*i]) {
        let m = |id: InstId| map[id.0 as usize];
        let kind = match inst.kind.clone() {
            InstKind::Load { operand, index, guard } => {
                InstKind::Load { operand, index: m(index), guard: guard.map(m) }
            }
            InstKind::Unary(op, a) => InstKind::Unary(op, m(a)),
            InstKind::Binary(op, a, b) => InstKind::Binary(op, m(a), m(b)),
            InstKind::Select(c, a, b) => InstKind::Select(m(c), m(a), m(b)),
            InstKind::Cast(to, a) => InstKind::Cast(to, m(a)),
            kind => kind,
        };
        map[i] = out.push(kind, inst.dtype);
    }
    (out, map[result.0 as usize])
}

fn operands_of(kind: &InstKind) -> Vec<InstId> {
    match kind {
        InstKind::Load { index, guard, .. } => std::iter::once(*index).chain(*guard).collect(),
        InstKind::Unary(_, a) | InstKind::Cast(_, a) => vec![*a],
        InstKind::Binary(_, a, b) => vec![*a, *b],
        InstKind::Select(c, a, b) => vec![*c, *a, *b],
        _ => Vec::new(),
    }
}

/// Reads `sum(var * stride)` back from index arithmetic.
fn linear_strides(builder: &KernelBuilder, index: InstId, vars: &[InstId]) -> Option<[Expr; 4]> {
    let mut strides = [zero(), zero(), zero(), zero()];
    add_linear(builder, index, vars, &mut strides)?;
    Some(strides)
}

fn add_linear(
    builder: &KernelBuilder,
    index: InstId,
    vars: &[InstId],
    strides: &mut [Expr; 4],
) -> Option<()> {
    use zeroforge_graph::op::BinaryOp;
    if let Some(axis) = vars.iter().position(|&v| v == index) {
        strides[axis] = strides[axis].clone() + one();
        return Some(());
    }
    match &builder.body.inst(index).kind {
        InstKind::Int(0) => Some(()),
        InstKind::Binary(BinaryOp::Add, a, b) => {
            add_linear(builder, *a, vars, strides)?;
            add_linear(builder, *b, vars, strides)
        }
        InstKind::Binary(BinaryOp::Mul, a, b) => {
            let axis = vars.iter().position(|v| v == a)?;
            let stride = match builder.body.inst(*b).kind {
                InstKind::Int(v) => Expr::constant(v),
                InstKind::Param(p) => builder.ints[p as usize].clone(),
                _ => return None,
            };
            strides[axis] = strides[axis].clone() + stride;
            Some(())
        }
        _ => None,
    }
}

fn push_gemm(
    lowering: &mut Lowering<'_>,
    chain: &[NodeId],
    problem: &Problem,
    c: &View,
    c_dtype: DType,
    epilogue: Epilogue,
    extras: &[View],
) {
    let Problem { batch, m, n, k, .. } = problem;
    let mut reads = vec![problem.a.storage, problem.b.storage];
    reads.extend(extras.iter().map(|e| e.storage));
    let flops = Expr::product([&batch[0], &batch[1], m, n, k]) * Expr::constant(2);
    lowering.push_step(LoweredStep {
        spec: KernelSpec::Gemm(GemmSpec {
            a: problem.a_dtype,
            b: problem.b_dtype,
            c: c_dtype,
            b_layout: problem.b_layout,
            m: m.as_const(),
            n: n.as_const(),
            k: k.as_const(),
            epilogue,
        }),
        launch: Launch::Gemm(Box::new(GemmLaunch {
            a: problem.a.clone(),
            b: problem.b.clone(),
            c: c.clone(),
            extra: extras.to_vec(),
            batch: batch.clone(),
            m: m.clone(),
            n: n.clone(),
            k: k.clone(),
        })),
        reads,
        writes: vec![c.storage],
        workspace: None,
        origin: origin_of(lowering.graph, chain),
        flops,
    });
}

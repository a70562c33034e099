//! Kernels over rows: reductions, norms, softmax, scans, pooling, top-k.
//!
//! The parallel axes of the kernel are those that survive, the inner axes those that are folded.
//! Pointwise producers are recomputed inside the folds; a chain of pointwise consumers is computed
//! in the store stage.

use zeroforge_artifact::{DType, Expr};
use zeroforge_graph::op::{BinaryOp, ReduceOp, UnaryOp};
use zeroforge_graph::{NodeId, Op, ValueId};

use super::elementwise::push_loop;
use super::expression::{KernelBuilder, compute_dtype};
use super::{LowerError, Lowering};
use crate::loop_ir::{Fold, InstId, InstKind, Stage};

/// A row kernel being built.
struct Row<'l, 'g> {
    lowering: &'l mut Lowering<'g>,
    builder: KernelBuilder,
    stages: Vec<Stage>,
    outer: Vec<Expr>,
    inner: Vec<Expr>,
    folds: u32,
}

pub(crate) fn emit(lowering: &mut Lowering<'_>, chain: &[NodeId]) -> Result<bool, LowerError> {
    let graph = lowering.graph;
    let node = graph.node(chain[0]);
    let x = node.inputs.first().copied();
    let mut row = Row {
        lowering,
        builder: KernelBuilder::for_nodes(chain),
        stages: Vec::new(),
        outer: Vec::new(),
        inner: Vec::new(),
        folds: 0,
    };
    let Some(x) = x else { return Ok(false) };
    match &node.op {
        Op::Reduce { op, axes, keep_dims } => row.reduce(chain, x, *op, axes, *keep_dims)?,
        Op::Softmax { axis } => row.softmax(chain, x, *axis, false)?,
        Op::LogSoftmax { axis } => row.softmax(chain, x, *axis, true)?,
        Op::LayerNorm { axes, eps, .. } => {
            let first = graph.ty(x).rank() - axes;
            let index = row.trailing_axes(x, first);
            let (mean, scale) = row.mean_and_scale(x, &index, *eps)?;
            let mut v = row.at(x, &index)?;
            v = row.builder.binary(BinaryOp::Sub, v, mean);
            v = row.builder.mul(v, scale);
            v = row.affine(chain[0], v, &index[first..])?;
            row.store(chain, &index, v)?;
        }
        Op::RmsNorm { axes, eps, .. } => {
            let first = graph.ty(x).rank() - axes;
            let index = row.trailing_axes(x, first);
            let v = row.at(x, &index)?;
            let square = row.builder.mul(v, v);
            let sum = row.fold(Fold::Sum, square);
            let mean = row.divide_by_row(sum);
            let scale = row.rsqrt(mean, *eps);
            let v = row.builder.mul(v, scale);
            let v = row.affine(chain[0], v, &index[first..])?;
            row.store(chain, &index, v)?;
        }
        Op::GroupNorm { groups, eps, .. } => row.group_norm(chain, x, *groups, *eps)?,
        Op::CumSum { axis } => row.cumsum(chain, x, *axis)?,
        Op::TopK { .. } => row.top_k(chain[0], x)?,
        Op::Pool { .. } => row.pool(chain, x)?,
        Op::AdaptiveAvgPool { out } => row.adaptive_pool(chain, x, out)?,
        Op::ConvTranspose { .. } => row.conv_transpose(chain, x)?,
        _ => return Ok(false),
    }
    Ok(true)
}

impl Row<'_, '_> {
    fn dtype(&self, value: ValueId) -> DType {
        compute_dtype(self.lowering.graph.ty(value).dtype)
    }

    fn shape(&self, value: ValueId) -> Vec<Expr> {
        self.lowering.graph.ty(value).shape.clone()
    }

    fn at(&mut self, value: ValueId, index: &[InstId]) -> Result<InstId, LowerError> {
        self.builder.value_at(self.lowering, value, index, None)
    }

    /// Adds a parallel axis. An axis of one has the index 0, the form in which broadcasting spells
    /// it too, so that the results of stages are found under the index they were defined with.
    fn push_outer(&mut self, size: Expr) -> InstId {
        let single = size.is(1);
        self.outer.push(size);
        if single { self.builder.int(0) } else { self.builder.outer(self.outer.len() - 1) }
    }

    /// Adds an axis of the row.
    fn push_inner(&mut self, size: Expr) -> InstId {
        let single = size.is(1);
        self.inner.push(size);
        if single { self.builder.int(0) } else { self.builder.inner(self.inner.len() - 1) }
    }

    /// The index of `x` with axes from `first` on inside the row.
    fn trailing_axes(&mut self, x: ValueId, first: usize) -> Vec<InstId> {
        let shape = self.shape(x);
        let mut index = Vec::with_capacity(shape.len());
        for (axis, n) in shape.into_iter().enumerate() {
            let var = if axis < first { self.push_outer(n) } else { self.push_inner(n) };
            index.push(var);
        }
        index
    }

    fn fold(&mut self, fold: Fold, value: InstId) -> InstId {
        let dtype = match fold {
            Fold::ArgMax | Fold::ArgMin => DType::I64,
            _ => self.builder.body.inst(value).dtype,
        };
        self.stages.push(Stage::Reduce { fold, value });
        self.folds += 1;
        self.builder.body.push(InstKind::Acc(self.folds - 1), dtype)
    }

    fn divide_by_row(&mut self, sum: InstId) -> InstId {
        let dtype = self.builder.body.inst(sum).dtype;
        let n = self.builder.size(&Expr::product(&self.inner));
        let n = self.builder.cast(dtype, n);
        self.builder.binary(BinaryOp::Div, sum, n)
    }

    fn rsqrt(&mut self, variance: InstId, eps: f64) -> InstId {
        let dtype = self.builder.body.inst(variance).dtype;
        let eps = self.builder.constant(eps, dtype);
        let shifted = self.builder.add(variance, eps);
        self.builder.unary(UnaryOp::Rsqrt, shifted)
    }

    fn mean_and_scale(
        &mut self,
        x: ValueId,
        index: &[InstId],
        eps: f64,
    ) -> Result<(InstId, InstId), LowerError> {
        let v = self.at(x, index)?;
        let sum = self.fold(Fold::Sum, v);
        let mean = self.divide_by_row(sum);
        let centred = self.builder.binary(BinaryOp::Sub, v, mean);
        let square = self.builder.mul(centred, centred);
        let sum = self.fold(Fold::Sum, square);
        let variance = self.divide_by_row(sum);
        Ok((mean, self.rsqrt(variance, eps)))
    }

    /// Applies the weight and bias of a norm at their own index.
    fn affine(&mut self, node: NodeId, v: InstId, index: &[InstId]) -> Result<InstId, LowerError> {
        let node = self.lowering.graph.node(node);
        let (weight, bias) = match node.op {
            Op::LayerNorm { weight, bias, .. } | Op::GroupNorm { weight, bias, .. } => {
                (weight, bias)
            }
            Op::RmsNorm { weight, .. } => (weight, false),
            _ => (false, false),
        };
        let mut v = v;
        let dtype = self.builder.body.inst(v).dtype;
        let mut operands = node.inputs[1..].iter();
        if weight && let Some(&w) = operands.next() {
            let w = self.at(w, index)?;
            let w = self.builder.cast(dtype, w);
            v = self.builder.mul(v, w);
        }
        if bias && let Some(&b) = operands.next() {
            let b = self.at(b, index)?;
            let b = self.builder.cast(dtype, b);
            v = self.builder.add(v, b);
        }
        Ok(v)
    }

    /// Ends the kernel: the anchor's result is `v` at `index`; computes the fused chain and stores
    /// its last value.
    fn store(&mut self, chain: &[NodeId], index: &[InstId], v: InstId) -> Result<(), LowerError> {
        let graph = self.lowering.graph;
        let anchor = graph.node(chain[0]).outputs[0];
        self.builder.define(anchor, index, v);
        let result = graph.node(chain[chain.len() - 1]).outputs[0];
        let inst = self.at(result, index)?;
        let target = self.lowering.allocate(result, None);
        self.store_to(&target, graph.ty(result).dtype, index, inst, None);
        self.finish();
        self.lowering.placed.insert(result, target);
        Ok(())
    }

    fn store_to(
        &mut self,
        target: &super::strided::StridedView,
        dtype: DType,
        index: &[InstId],
        value: InstId,
        guard: Option<InstId>,
    ) {
        let operand = self.builder.operand(target.storage, &target.offset, dtype, true);
        let index = self.builder.offset(index, &target.strides);
        self.stages.push(Stage::Store { operand, index, value, guard });
    }

    fn finish(&mut self) {
        if self.inner.is_empty() {
            self.inner.push(Expr::constant(1));
        }
        let builder = std::mem::take(&mut self.builder);
        let (outer, inner) = (std::mem::take(&mut self.outer), std::mem::take(&mut self.inner));
        let points = Expr::product(&outer) * Expr::product(&inner);
        let flops = points * Expr::constant(builder.float_ops() + i64::from(self.folds));
        let stages = std::mem::take(&mut self.stages);
        push_loop(self.lowering, builder, (outer, inner), stages, flops);
    }

    fn reduce(
        &mut self,
        chain: &[NodeId],
        x: ValueId,
        op: ReduceOp,
        axes: &[usize],
        keep_dims: bool,
    ) -> Result<(), LowerError> {
        let mut index = Vec::new();
        let mut out_index = Vec::new();
        for (axis, n) in self.shape(x).into_iter().enumerate() {
            if axes.contains(&axis) {
                index.push(self.push_inner(n));
                if keep_dims {
                    out_index.push(self.builder.int(0));
                }
            } else {
                let var = self.push_outer(n);
                index.push(var);
                out_index.push(var);
            }
        }
        let mut v = self.at(x, &index)?;
        let out = self.lowering.graph.ty(self.lowering.graph.node(chain[0]).outputs[0]).dtype;
        let fold = match op {
            ReduceOp::Sum | ReduceOp::Mean => Fold::Sum,
            ReduceOp::Prod => Fold::Prod,
            ReduceOp::Max => Fold::Max,
            ReduceOp::Min => Fold::Min,
            ReduceOp::Any => Fold::Any,
            ReduceOp::All => Fold::All,
            ReduceOp::ArgMax => Fold::ArgMax,
            ReduceOp::ArgMin => Fold::ArgMin,
        };
        if matches!(op, ReduceOp::Sum | ReduceOp::Prod | ReduceOp::Mean) {
            v = self.builder.cast(compute_dtype(out), v);
        }
        let mut acc = self.fold(fold, v);
        if op == ReduceOp::Mean {
            acc = self.divide_by_row(acc);
        }
        self.store(chain, &out_index, acc)
    }

    fn softmax(
        &mut self,
        chain: &[NodeId],
        x: ValueId,
        axis: usize,
        log: bool,
    ) -> Result<(), LowerError> {
        let mut index = Vec::new();
        for (i, n) in self.shape(x).into_iter().enumerate() {
            index.push(if i == axis { self.push_inner(n) } else { self.push_outer(n) });
        }
        let v = self.at(x, &index)?;
        let max = self.fold(Fold::Max, v);
        let shifted = self.builder.binary(BinaryOp::Sub, v, max);
        let e = self.builder.unary(UnaryOp::Exp, shifted);
        let sum = self.fold(Fold::Sum, e);
        let result = if log {
            let log = self.builder.unary(UnaryOp::Log, sum);
            self.builder.binary(BinaryOp::Sub, shifted, log)
        } else {
            self.builder.binary(BinaryOp::Div, e, sum)
        };
        self.store(chain, &index, result)
    }

    fn group_norm(
        &mut self,
        chain: &[NodeId],
        x: ValueId,
        groups: usize,
        eps: f64,
    ) -> Result<(), LowerError> {
        let shape = self.shape(x);
        let groups = Expr::constant(groups as i64);
        let per_group = shape[1].floor_div(&groups);
        let batch = self.push_outer(shape[0].clone());
        let group = self.push_outer(groups);
        let within = self.push_inner(per_group.clone());
        let per_group = self.builder.size(&per_group);
        let base = self.builder.mul(group, per_group);
        let channel = self.builder.add(base, within);
        let mut index = vec![batch, channel];
        for n in &shape[2..] {
            index.push(self.push_inner(n.clone()));
        }
        let (mean, scale) = self.mean_and_scale(x, &index, eps)?;
        let mut v = self.at(x, &index)?;
        v = self.builder.binary(BinaryOp::Sub, v, mean);
        v = self.builder.mul(v, scale);
        v = self.affine(chain[0], v, &[channel])?;
        self.store(chain, &index, v)
    }

    fn cumsum(&mut self, chain: &[NodeId], x: ValueId, axis: usize) -> Result<(), LowerError> {
        let mut index = Vec::new();
        for (i, n) in self.shape(x).into_iter().enumerate() {
            index.push(if i == axis { self.push_inner(n) } else { self.push_outer(n) });
        }
        let out = self.lowering.graph.node(chain[0]).outputs[0];
        let v = self.at(x, &index)?;
        let v = self.builder.cast(self.dtype(out), v);
        let acc = self.fold(Fold::Scan, v);
        self.store(chain, &index, acc)
    }

    /// Ranks by counting: element `i` goes to place `#{j : x[j] > x[i] or (x[j] == x[i] and j < i)}`.
    fn top_k(&mut self, id: NodeId, x: ValueId) -> Result<(), LowerError> {
        let graph = self.lowering.graph;
        let node = graph.node(id);
        let Op::TopK { k } = &node.op else { return Ok(()) };
        let shape = self.shape(x);
        let mut index = Vec::new();
        for n in &shape {
            index.push(self.push_outer(n.clone()));
        }
        let last = shape.len() - 1;
        let mine = self.at(x, &index)?;
        let at = index[last];
        let other = self.push_inner(shape[last].clone());
        let mut other_index = index.clone();
        other_index[last] = other;
        let theirs = self.at(x, &other_index)?;
        let mut beats = self.builder.binary(BinaryOp::Gt, theirs, mine);
        if self.dtype(x).is_float() {
            // NaN ranks above everything.
            let theirs_nan = self.builder.unary(UnaryOp::IsNan, theirs);
            let mine_nan = self.builder.unary(UnaryOp::IsNan, mine);
            let mine_real = self.builder.unary(UnaryOp::LogicalNot, mine_nan);
            let nan_wins = self.builder.binary(BinaryOp::And, theirs_nan, mine_real);
            beats = self.builder.binary(BinaryOp::Or, beats, nan_wins);
            let equal = self.builder.binary(BinaryOp::Eq, theirs, mine);
            let both = self.builder.binary(BinaryOp::And, theirs_nan, mine_nan);
            let equal = self.builder.binary(BinaryOp::Or, equal, both);
            beats = self.tie(beats, equal, other, at);
        } else {
            let equal = self.builder.binary(BinaryOp::Eq, theirs, mine);
            beats = self.tie(beats, equal, other, at);
        }
        let one = self.builder.cast(DType::I64, beats);
        let rank = self.fold(Fold::Sum, one);
        let k = self.builder.size(k);
        let guard = self.builder.binary(BinaryOp::Lt, rank, k);
        let mut place = index.clone();
        place[last] = rank;
        for (output, value) in node.outputs.iter().zip([mine, at]) {
            let target = self.lowering.allocate(*output, None);
            self.store_to(&target, graph.ty(*output).dtype, &place, value, Some(guard));
            self.lowering.placed.insert(*output, target);
        }
        self.finish();
        Ok(())
    }

    fn tie(&mut self, beats: InstId, equal: InstId, other: InstId, at: InstId) -> InstId {
        let earlier = self.builder.binary(BinaryOp::Lt, other, at);
        let wins = self.builder.binary(BinaryOp::And, equal, earlier);
        self.builder.binary(BinaryOp::Or, beats, wins)
    }

    fn pool(&mut self, chain: &[NodeId], x: ValueId) -> Result<(), LowerError> {
        let graph = self.lowering.graph;
        let node = graph.node(chain[0]);
        let Op::Pool { op, kernel, stride, padding, dilation, count_include_pad } = &node.op else {
            return Ok(());
        };
        let shape = self.shape(x);
        let mut out_index = Vec::new();
        for n in &graph.ty(node.outputs[0]).shape {
            out_index.push(self.push_outer(n.clone()));
        }
        let mut index = out_index[..2].to_vec();
        let mut inside: Option<InstId> = None;
        for (i, &window) in kernel.iter().enumerate() {
            let tap = self.push_inner(Expr::constant(window as i64));
            let step = self.builder.int(stride[i] as i64);
            let dilate = self.builder.int(dilation[i] as i64);
            let before = self.builder.int(padding[i].0 as i64);
            let base = self.builder.mul(out_index[2 + i], step);
            let offset = self.builder.mul(tap, dilate);
            let at = self.builder.add(base, offset);
            let at = self.builder.binary(BinaryOp::Sub, at, before);
            let ok = self.in_range(at, &shape[2 + i]);
            inside = Some(self.builder.and_guard(inside, ok));
            index.push(at);
        }
        let dtype = self.dtype(x);
        let v = self.builder.value_at(self.lowering, x, &index, inside)?;
        let result = if *op == ReduceOp::Max {
            let lowest = if dtype.is_float() { f64::NEG_INFINITY } else { i32::MIN.into() };
            let lowest = self.builder.constant(lowest, dtype);
            let v = match inside {
                Some(inside) => self.builder.select(inside, v, lowest),
                None => v,
            };
            self.fold(Fold::Max, v)
        } else {
            // Guarded loads are zero outside, so the sum needs no select.
            let sum = self.fold(Fold::Sum, v);
            match inside {
                Some(inside) if !count_include_pad => {
                    let one = self.builder.cast(dtype, inside);
                    let count = self.fold(Fold::Sum, one);
                    self.builder.binary(BinaryOp::Div, sum, count)
                }
                _ => self.divide_by_row(sum),
            }
        };
        self.store(chain, &out_index, result)
    }

    fn in_range(&mut self, at: InstId, n: &Expr) -> InstId {
        let zero = self.builder.int(0);
        let n = self.builder.size(n);
        let low = self.builder.binary(BinaryOp::Ge, at, zero);
        let high = self.builder.binary(BinaryOp::Lt, at, n);
        self.builder.binary(BinaryOp::And, low, high)
    }

    fn adaptive_pool(
        &mut self,
        chain: &[NodeId],
        x: ValueId,
        out: &[Expr],
    ) -> Result<(), LowerError> {
        let shape = self.shape(x);
        let mut index = vec![self.push_outer(shape[0].clone()), self.push_outer(shape[1].clone())];
        let mut out_index = index.clone();
        let mut inside: Option<InstId> = None;
        let dtype = self.dtype(x);
        for (i, size) in out.iter().enumerate() {
            let n_in = shape[2 + i].clone();
            let at = self.push_outer(size.clone());
            out_index.push(at);
            // The longest window: ceil(in / out) + 1.
            let tap = self.push_inner(n_in.ceil_div(size) + Expr::constant(1));
            let (n, m, one) =
                (self.builder.size(&n_in), self.builder.size(size), self.builder.int(1));
            let scaled = self.builder.mul(at, n);
            let start = self.builder.binary(BinaryOp::FloorDiv, scaled, m);
            let next = self.builder.add(at, one);
            let next = self.builder.mul(next, n);
            let round = self.builder.binary(BinaryOp::Sub, m, one);
            let next = self.builder.add(next, round);
            let end = self.builder.binary(BinaryOp::FloorDiv, next, m);
            let position = self.builder.add(start, tap);
            let ok = self.builder.binary(BinaryOp::Lt, position, end);
            inside = Some(self.builder.and_guard(inside, ok));
            index.push(position);
        }
        let v = self.builder.value_at(self.lowering, x, &index, inside)?;
        let sum = self.fold(Fold::Sum, v);
        let count = match inside {
            Some(inside) => self.builder.cast(dtype, inside),
            None => self.builder.constant(1.0, dtype),
        };
        let count = self.fold(Fold::Sum, count);
        let mean = self.builder.binary(BinaryOp::Div, sum, count);
        self.store(chain, &out_index, mean)
    }

    /// Gathers: output position `o` takes input `i` through tap `k` where `i*stride + k*dilation == o + pad`.
    fn conv_transpose(&mut self, chain: &[NodeId], x: ValueId) -> Result<(), LowerError> {
        let graph = self.lowering.graph;
        let node = graph.node(chain[0]);
        let Op::ConvTranspose { stride, padding, dilation, groups, bias, .. } = &node.op else {
            return Ok(());
        };
        let (shape, weight) = (self.shape(x), node.inputs[1]);
        let weight_shape = self.shape(weight);
        let mut out_index = Vec::new();
        for n in &graph.ty(node.outputs[0]).shape {
            out_index.push(self.push_outer(n.clone()));
        }
        let groups = Expr::constant(*groups as i64);
        let per_group_in = shape[1].floor_div(&groups);
        let per_group_out = self.builder.size(&weight_shape[1]);
        let within = self.push_inner(per_group_in.clone());
        let group = self.builder.binary(BinaryOp::FloorDiv, out_index[1], per_group_out);
        let filter = self.builder.binary(BinaryOp::Rem, out_index[1], per_group_out);
        let per_group_in = self.builder.size(&per_group_in);
        let base = self.builder.mul(group, per_group_in);
        let channel = self.builder.add(base, within);
        let mut index = vec![out_index[0], channel];
        let mut weight_index = vec![channel, filter];
        let mut inside: Option<InstId> = None;
        for i in 0..stride.len() {
            let tap = self.push_inner(weight_shape[2 + i].clone());
            let pad = self.builder.int(padding[i] as i64);
            let dilate = self.builder.int(dilation[i] as i64);
            let step = self.builder.int(stride[i] as i64);
            let zero = self.builder.int(0);
            let shifted = self.builder.add(out_index[2 + i], pad);
            let offset = self.builder.mul(tap, dilate);
            let scaled = self.builder.binary(BinaryOp::Sub, shifted, offset);
            let at = self.builder.binary(BinaryOp::FloorDiv, scaled, step);
            let rem = self.builder.binary(BinaryOp::Rem, scaled, step);
            let exact = self.builder.binary(BinaryOp::Eq, rem, zero);
            let ok = self.in_range(at, &shape[2 + i]);
            let ok = self.builder.binary(BinaryOp::And, ok, exact);
            inside = Some(self.builder.and_guard(inside, ok));
            index.push(at);
            weight_index.push(tap);
        }
        let v = self.builder.value_at(self.lowering, x, &index, inside)?;
        let w = self.at(weight, &weight_index)?;
        let product = self.builder.mul(v, w);
        let mut sum = self.fold(Fold::Sum, product);
        if *bias {
            let b = self.at(node.inputs[2], &[out_index[1]])?;
            sum = self.builder.add(sum, b);
        }
        self.store(chain, &out_index, sum)
    }
}

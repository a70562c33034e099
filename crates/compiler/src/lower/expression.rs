//! Index lambdas: the scalar value of a tensor at a symbolic index.
//!
//! [`KernelBuilder::value_at`] walks from a value to what is in memory and emits the arithmetic on
//! the way. Layout ops, concatenation, padding and gathers only change the index.

use std::collections::HashMap;

use zeroforge_artifact::{DType, Expr};
use zeroforge_graph::op::{BinaryOp, PadMode, UnaryOp, UpsampleMode};
use zeroforge_graph::{NodeId, Op, ValueId};

use super::strided::{StridedView, reshape_groups};
use super::{LowerError, Lowering, StorageId};
use crate::loop_ir::{Body, Extent, InstId, InstKind, Operand};

/// The type in which values of a memory type are computed.
pub(crate) fn compute_dtype(memory: DType) -> DType {
    match memory {
        DType::Bool => DType::Bool,
        DType::U8 | DType::I8 | DType::I16 | DType::I32 => DType::I32,
        DType::I64 => DType::I64,
        DType::F16 | DType::Bf16 | DType::F32 => DType::F32,
        DType::F64 => DType::F64,
    }
}

/// A kernel under construction: expressions, operands and integer parameters.
#[derive(Default)]
pub(crate) struct KernelBuilder {
    pub(crate) body: Body,
    /// Operand memory: storage, element offset, declaration.
    pub(crate) operands: Vec<(StorageId, Expr, Operand)>,
    /// Integer parameters.
    pub(crate) ints: Vec<Expr>,
    /// Nodes computed inside this kernel, in order of discovery.
    pub(crate) nodes: Vec<NodeId>,
    memo: HashMap<(ValueId, Vec<InstId>, Option<InstId>), InstId>,
}

impl KernelBuilder {
    /// An empty kernel that computes these nodes.
    pub(crate) fn for_nodes(nodes: &[NodeId]) -> KernelBuilder {
        KernelBuilder { nodes: nodes.to_vec(), ..KernelBuilder::default() }
    }

    pub(crate) fn int(&mut self, value: i64) -> InstId {
        self.body.push(InstKind::Int(value), DType::I64)
    }

    pub(crate) fn float(&mut self, value: f64, dtype: DType) -> InstId {
        self.body.push(InstKind::FloatBits(value.to_bits()), dtype)
    }

    /// A size as an I64: a constant or a parameter.
    pub(crate) fn size(&mut self, size: &Expr) -> InstId {
        match size.as_const() {
            Some(value) => self.int(value),
            None => {
                let param = self.param(size);
                self.body.push(InstKind::Param(param), DType::I64)
            }
        }
    }

    fn param(&mut self, size: &Expr) -> u32 {
        let at = self.ints.iter().position(|e| e == size).unwrap_or_else(|| {
            self.ints.push(size.clone());
            self.ints.len() - 1
        });
        at as u32
    }

    /// A loop extent.
    pub(crate) fn extent(&mut self, size: &Expr) -> Extent {
        match size.as_const() {
            Some(value) => Extent::Const(value),
            None => Extent::Param(self.param(size)),
        }
    }

    pub(crate) fn outer(&mut self, axis: usize) -> InstId {
        self.body.push(InstKind::Outer(axis as u32), DType::I64)
    }

    pub(crate) fn inner(&mut self, axis: usize) -> InstId {
        self.body.push(InstKind::Inner(axis as u32), DType::I64)
    }

    pub(crate) fn unary(&mut self, op: UnaryOp, a: InstId) -> InstId {
        let dtype = match op {
            UnaryOp::IsNan | UnaryOp::IsInf | UnaryOp::LogicalNot => DType::Bool,
            _ => self.body.inst(a).dtype,
        };
        self.body.push(InstKind::Unary(op, a), dtype)
    }

    pub(crate) fn binary(&mut self, op: BinaryOp, a: InstId, b: InstId) -> InstId {
        let as_int = |body: &Body, id: InstId| match body.inst(id).kind {
            InstKind::Int(v) if body.inst(id).dtype == DType::I64 => Some(v),
            _ => None,
        };
        // Index arithmetic folds here so that printed kernels stay readable.
        let (x, y) = (as_int(&self.body, a), as_int(&self.body, b));
        match (op, x, y) {
            (BinaryOp::Add, Some(0), _) => return b,
            (BinaryOp::Add | BinaryOp::Sub, _, Some(0)) => return a,
            (BinaryOp::Mul, Some(1), _) => return b,
            (BinaryOp::Mul | BinaryOp::FloorDiv, _, Some(1)) => return a,
            (BinaryOp::Mul, Some(0), _) => return a,
            (BinaryOp::Mul, _, Some(0)) => return b,
            (BinaryOp::Rem, _, Some(1)) => return self.int(0),
            (BinaryOp::FloorDiv | BinaryOp::Rem, Some(0), _) => return a,
            (BinaryOp::Add, Some(x), Some(y)) => return self.int(x.wrapping_add(y)),
            (BinaryOp::Sub, Some(x), Some(y)) => return self.int(x.wrapping_sub(y)),
            (BinaryOp::Mul, Some(x), Some(y)) => return self.int(x.wrapping_mul(y)),
            _ => {}
        }
        let dtype = if op.is_comparison() { DType::Bool } else { self.body.inst(a).dtype };
        self.body.push(InstKind::Binary(op, a, b), dtype)
    }

    pub(crate) fn add(&mut self, a: InstId, b: InstId) -> InstId {
        self.binary(BinaryOp::Add, a, b)
    }

    pub(crate) fn mul(&mut self, a: InstId, b: InstId) -> InstId {
        self.binary(BinaryOp::Mul, a, b)
    }

    pub(crate) fn select(&mut self, cond: InstId, a: InstId, b: InstId) -> InstId {
        let dtype = self.body.inst(a).dtype;
        self.body.push(InstKind::Select(cond, a, b), dtype)
    }

    /// Converts to the compute type of `to`, rounding or narrowing to `to` where that differs.
    pub(crate) fn cast(&mut self, to: DType, a: InstId) -> InstId {
        let dtype = compute_dtype(to);
        if self.body.inst(a).dtype == dtype && to == dtype {
            return a;
        }
        self.body.push(InstKind::Cast(to, a), dtype)
    }

    pub(crate) fn and_guard(&mut self, a: Option<InstId>, b: InstId) -> InstId {
        match a {
            Some(a) if a != b => self.binary(BinaryOp::And, a, b),
            _ => b,
        }
    }

    /// The index of an operand, adding it if it is new.
    pub(crate) fn operand(
        &mut self,
        storage: StorageId,
        offset: &Expr,
        dtype: DType,
        written: bool,
    ) -> u32 {
        let found = self
            .operands
            .iter()
            .position(|(s, o, operand)| *s == storage && o == offset && operand.dtype == dtype);
        let at = found.unwrap_or_else(|| {
            self.operands.push((storage, offset.clone(), Operand { dtype, written, align: 0 }));
            self.operands.len() - 1
        });
        self.operands[at].2.written |= written;
        at as u32
    }

    /// `sum(index[i] * strides[i])`.
    pub(crate) fn offset(&mut self, index: &[InstId], strides: &[Expr]) -> InstId {
        let mut sum = self.int(0);
        for (&i, stride) in index.iter().zip(strides) {
            if !stride.is(0) {
                let stride = self.size(stride);
                let term = self.mul(i, stride);
                sum = self.add(sum, term);
            }
        }
        sum
    }

    /// Reads a view at an index.
    pub(crate) fn load(
        &mut self,
        view: &StridedView,
        dtype: DType,
        index: &[InstId],
        guard: Option<InstId>,
    ) -> InstId {
        let operand = self.operand(view.storage, &view.offset, dtype, false);
        let index = self.offset(index, &view.strides);
        self.body.push(InstKind::Load { operand, index, guard }, compute_dtype(dtype))
    }

    /// Declares what `value_at(value, index)` is, for results of this kernel's own stages.
    pub(crate) fn define(&mut self, value: ValueId, index: &[InstId], inst: InstId) {
        self.memo.insert((value, index.to_vec(), None), inst);
    }

    /// The index of an operand that broadcasts to `to`.
    fn broadcast_index(&mut self, from: &[Expr], index: &[InstId]) -> Vec<InstId> {
        let skip = index.len() - from.len();
        from.iter()
            .zip(&index[skip..])
            .map(|(n, &i)| if n.is(1) { self.int(0) } else { i })
            .collect()
    }

    /// The value of a tensor at an index; memory is only read where `guard` holds.
    pub(crate) fn value_at(
        &mut self,
        lowering: &mut Lowering<'_>,
        value: ValueId,
        index: &[InstId],
        guard: Option<InstId>,
    ) -> Result<InstId, LowerError> {
        if let Some(&inst) = self.memo.get(&(value, index.to_vec(), None)) {
            return Ok(inst);
        }
        let key = (value, index.to_vec(), guard);
        if let Some(&inst) = self.memo.get(&key) {
            return Ok(inst);
        }
        let inst = match lowering.placed_view(value) {
            Some(view) => {
                let dtype = lowering.graph.ty(value).dtype;
                self.load(&view, dtype, index, guard)
            }
            None => self.compute_at(lowering, value, index, guard)?,
        };
        self.memo.insert(key, inst);
        Ok(inst)
    }

    fn compute_at(
        &mut self,
        lowering: &mut Lowering<'_>,
        value: ValueId,
        index: &[InstId],
        guard: Option<InstId>,
    ) -> Result<InstId, LowerError> {
        let graph = lowering.graph;
        let Some(id) = lowering.node_of(value) else {
            return Err(LowerError::Inconsistent {
                value: graph.value(value).name.clone(),
                reason: "an input without memory",
            });
        };
        if !self.nodes.contains(&id) {
            self.nodes.push(id);
        }
        let node = graph.node(id);
        let input = |i: usize| node.inputs[i];
        let shape = |i: usize| &graph.ty(node.inputs[i]).shape;
        let dtype = graph.ty(value).dtype;
        match &node.op {
            Op::Full { value, .. } => Ok(self.constant(*value, dtype)),
            Op::FullInt { value, .. } => {
                let v = self.size(value);
                Ok(self.cast(dtype, v))
            }
            Op::Iota { start, step, .. } => {
                let step = self.int(*step);
                let scaled = self.mul(index[0], step);
                let start = self.size(start);
                let v = self.add(scaled, start);
                Ok(self.cast(dtype, v))
            }
            Op::Unary(op) => {
                let a = self.value_at(lowering, input(0), index, guard)?;
                Ok(self.unary(*op, a))
            }
            Op::Binary(op) => {
                let (ia, ib) =
                    (self.broadcast_index(shape(0), index), self.broadcast_index(shape(1), index));
                let a = self.value_at(lowering, input(0), &ia, guard)?;
                let b = self.value_at(lowering, input(1), &ib, guard)?;
                Ok(self.binary(*op, a, b))
            }
            Op::Where => {
                let mut at = [InstId(0); 3];
                for (i, at) in at.iter_mut().enumerate() {
                    let index = self.broadcast_index(shape(i), index);
                    *at = self.value_at(lowering, input(i), &index, guard)?;
                }
                Ok(self.select(at[0], at[1], at[2]))
            }
            Op::Cast(to) => {
                let a = self.value_at(lowering, input(0), index, guard)?;
                Ok(self.cast(*to, a))
            }
            Op::Reshape(_) => {
                let source = self.reshape_index(shape(0), &graph.ty(value).shape, index);
                self.value_at(lowering, input(0), &source, guard)
            }
            Op::Permute(perm) => {
                let mut source = vec![InstId(0); perm.len()];
                for (i, &p) in perm.iter().enumerate() {
                    source[p] = index[i];
                }
                self.value_at(lowering, input(0), &source, guard)
            }
            Op::Expand(_) => {
                let source = self.broadcast_index(shape(0), index);
                self.value_at(lowering, input(0), &source, guard)
            }
            Op::Slice { axis, start, step, .. } => {
                let mut source = index.to_vec();
                let step = self.int(*step);
                let scaled = self.mul(source[*axis], step);
                let start = self.size(start);
                source[*axis] = self.add(scaled, start);
                self.value_at(lowering, input(0), &source, guard)
            }
            Op::Flip(axes) => {
                let mut source = index.to_vec();
                for &axis in axes {
                    let last = self.size(&(shape(0)[axis].clone() - Expr::constant(1)));
                    source[axis] = self.binary(BinaryOp::Sub, last, source[axis]);
                }
                self.value_at(lowering, input(0), &source, guard)
            }
            Op::Concat { axis } => self.concat_at(lowering, value, *axis, index, guard),
            Op::Pad { pads, mode } => self.pad_at(lowering, value, pads, *mode, index, guard),
            Op::IndexSelect { axis } => {
                let rank = graph.ty(input(1)).rank();
                let at = index[*axis..*axis + rank].to_vec();
                let at = self.value_at(lowering, input(1), &at, guard)?;
                let at = self.wrap_index(at, &shape(0)[*axis]);
                let mut source = index[..*axis].to_vec();
                source.push(at);
                source.extend_from_slice(&index[*axis + rank..]);
                self.value_at(lowering, input(0), &source, guard)
            }
            Op::Gather { axis } => {
                let at = self.value_at(lowering, input(1), index, guard)?;
                let mut source = index.to_vec();
                source[*axis] = self.wrap_index(at, &shape(0)[*axis]);
                self.value_at(lowering, input(0), &source, guard)
            }
            Op::IndexMulti { axes } => {
                let source =
                    self.multi_index(lowering, shape(0), axes, &node.inputs[1..], index, guard)?;
                self.value_at(lowering, input(0), &source, guard)
            }
            Op::SliceScatter { axis, start, step } => {
                let n = self.size(&shape(1)[*axis]);
                let (start, step) = (self.size(start), self.int(*step));
                let zero = self.int(0);
                let from = self.binary(BinaryOp::Sub, index[*axis], start);
                let at = self.binary(BinaryOp::FloorDiv, from, step);
                let rem = self.binary(BinaryOp::Rem, from, step);
                let aligned = self.binary(BinaryOp::Eq, rem, zero);
                let low = self.binary(BinaryOp::Ge, from, zero);
                let high = self.binary(BinaryOp::Lt, at, n);
                let inside = self.binary(BinaryOp::And, low, high);
                let inside = self.binary(BinaryOp::And, inside, aligned);
                let mut source = index.to_vec();
                source[*axis] = at;
                let within = self.and_guard(guard, inside);
                let new = self.value_at(lowering, input(1), &source, Some(within))?;
                let old = self.value_at(lowering, input(0), index, guard)?;
                Ok(self.select(inside, new, old))
            }
            Op::Upsample { out, mode } => {
                self.upsample_at(lowering, value, out, *mode, index, guard)
            }
            op => Err(LowerError::Inconsistent {
                value: format!("{} = {op:?}", graph.value(value).name),
                reason: "a kernel of its own was not emitted before its reader",
            }),
        }
    }

    /// A constant of a memory type, in its compute type.
    pub(crate) fn constant(&mut self, value: f64, memory: DType) -> InstId {
        match compute_dtype(memory) {
            DType::Bool => self.body.push(InstKind::Int(i64::from(value != 0.0)), DType::Bool),
            // `as` truncates and saturates as Cast does.
            dtype @ (DType::I32 | DType::I64) => self.body.push(InstKind::Int(value as i64), dtype),
            dtype => {
                let rounded = match memory {
                    DType::F32 => f64::from(value as f32),
                    _ => value,
                };
                self.float(rounded, dtype)
            }
        }
    }

    /// The source index of a reshape.
    fn reshape_index(&mut self, from: &[Expr], to: &[Expr], index: &[InstId]) -> Vec<InstId> {
        let groups = reshape_groups(from, to).unwrap_or_else(|| vec![(0..from.len(), 0..to.len())]);
        let mut source = Vec::with_capacity(from.len());
        for (from_axes, to_axes) in groups {
            let to_axes: Vec<usize> = to_axes.filter(|&i| !to[i].is(1)).collect();
            let mut linear = self.int(0);
            for &i in &to_axes {
                let n = self.size(&to[i]);
                let scaled = self.mul(linear, n);
                linear = self.add(scaled, index[i]);
            }
            let mut rest: Vec<InstId> = Vec::new();
            let last = from_axes.clone().find(|&i| !from[i].is(1));
            for i in from_axes.rev() {
                if from[i].is(1) {
                    rest.push(self.int(0));
                } else if Some(i) == last {
                    // The outermost axis of the group takes what is left; no modulo needed.
                    rest.push(linear);
                } else {
                    let n = self.size(&from[i]);
                    rest.push(self.binary(BinaryOp::Rem, linear, n));
                    linear = self.binary(BinaryOp::FloorDiv, linear, n);
                }
            }
            source.extend(rest.into_iter().rev());
        }
        source
    }

    /// An index from data: negative counts from the end, out of range is clamped.
    pub(crate) fn wrap_index(&mut self, at: InstId, n: &Expr) -> InstId {
        let at = self.cast(DType::I64, at);
        let (n, zero) = (self.size(n), self.int(0));
        let negative = self.binary(BinaryOp::Lt, at, zero);
        let wrapped = self.add(at, n);
        let at = self.select(negative, wrapped, at);
        let one = self.int(1);
        let last = self.binary(BinaryOp::Sub, n, one);
        let at = self.binary(BinaryOp::Min, at, last);
        self.binary(BinaryOp::Max, at, zero)
    }

    /// Source index of advanced indexing: `indices` for `axes` of a tensor of shape `from`.
    pub(crate) fn multi_index(
        &mut self,
        lowering: &mut Lowering<'_>,
        from: &[Expr],
        axes: &[usize],
        indices: &[ValueId],
        index: &[InstId],
        guard: Option<InstId>,
    ) -> Result<Vec<InstId>, LowerError> {
        let rank = indices.iter().map(|&v| lowering.graph.ty(v).rank()).max().unwrap_or(0);
        let adjacent = axes.windows(2).all(|w| w[1] == w[0] + 1);
        let place = if adjacent { axes.first().copied().unwrap_or(0) } else { 0 };
        let block = index[place..place + rank].to_vec();
        let mut others = index[..place].iter().chain(&index[place + rank..]).copied();
        let mut source = Vec::with_capacity(from.len());
        for (axis, n) in from.iter().enumerate() {
            if let Some(i) = axes.iter().position(|&a| a == axis) {
                let shape = lowering.graph.ty(indices[i]).shape.clone();
                let at = self.broadcast_index(&shape, &block);
                let at = self.value_at(lowering, indices[i], &at, guard)?;
                source.push(self.wrap_index(at, n));
            } else {
                let zero = self.int(0);
                source.push(others.next().unwrap_or(zero));
            }
        }
        Ok(source)
    }

    fn concat_at(
        &mut self,
        lowering: &mut Lowering<'_>,
        value: ValueId,
        axis: usize,
        index: &[InstId],
        guard: Option<InstId>,
    ) -> Result<InstId, LowerError> {
        let graph = lowering.graph;
        let Some(node) = graph.producer(value) else { return Ok(index[0]) };
        let mut starts = Vec::new();
        let mut start = Expr::constant(0);
        for &piece in &node.inputs {
            starts.push(start.clone());
            start = start + graph.ty(piece).shape[axis].clone();
        }
        // The last piece is the default; earlier ones are chosen by "index below my end".
        let mut result: Option<InstId> = None;
        for (i, &piece) in node.inputs.iter().enumerate().rev() {
            let from = self.size(&starts[i]);
            let at = self.binary(BinaryOp::Sub, index[axis], from);
            let mut source = index.to_vec();
            source[axis] = at;
            let mut inside = guard;
            if i > 0 {
                let low = self.binary(BinaryOp::Ge, index[axis], from);
                inside = Some(self.and_guard(inside, low));
            }
            let below = match starts.get(i + 1) {
                Some(end) => {
                    let end = self.size(end);
                    let below = self.binary(BinaryOp::Lt, index[axis], end);
                    inside = Some(self.and_guard(inside, below));
                    Some(below)
                }
                None => None,
            };
            let v = self.value_at(lowering, piece, &source, inside)?;
            result = Some(match (result, below) {
                (Some(rest), Some(below)) => self.select(below, v, rest),
                _ => v,
            });
        }
        result.ok_or_else(|| LowerError::Inconsistent {
            value: graph.value(value).name.clone(),
            reason: "a concatenation of nothing",
        })
    }

    fn pad_at(
        &mut self,
        lowering: &mut Lowering<'_>,
        value: ValueId,
        pads: &[(Expr, Expr)],
        mode: PadMode,
        index: &[InstId],
        guard: Option<InstId>,
    ) -> Result<InstId, LowerError> {
        let graph = lowering.graph;
        let Some(node) = graph.producer(value) else { return Ok(index[0]) };
        let ty = graph.ty(node.inputs[0]);
        let mut source = index.to_vec();
        let mut inside: Option<InstId> = None;
        for (axis, (before, after)) in pads.iter().enumerate() {
            if before.is(0) && after.is(0) {
                continue;
            }
            let zero = self.int(0);
            let before = self.size(before);
            let n = self.size(&ty.shape[axis]);
            let one = self.int(1);
            let last = self.binary(BinaryOp::Sub, n, one);
            let at = self.binary(BinaryOp::Sub, index[axis], before);
            source[axis] = match mode {
                PadMode::Constant(_) => {
                    let low = self.binary(BinaryOp::Ge, at, zero);
                    let high = self.binary(BinaryOp::Lt, at, n);
                    let both = self.binary(BinaryOp::And, low, high);
                    inside = Some(self.and_guard(inside, both));
                    at
                }
                PadMode::Replicate => {
                    let at = self.binary(BinaryOp::Max, at, zero);
                    self.binary(BinaryOp::Min, at, last)
                }
                PadMode::Reflect => {
                    // |at|, then mirrored at the far edge: last - |last - |at||.
                    let at = self.unary(UnaryOp::Abs, at);
                    let over = self.binary(BinaryOp::Sub, last, at);
                    let over = self.unary(UnaryOp::Abs, over);
                    self.binary(BinaryOp::Sub, last, over)
                }
            };
        }
        let guarded = match inside {
            Some(inside) => Some(self.and_guard(guard, inside)),
            None => guard,
        };
        let v = self.value_at(lowering, node.inputs[0], &source, guarded)?;
        match (inside, mode) {
            (Some(inside), PadMode::Constant(fill)) => {
                let fill = self.constant(fill, ty.dtype);
                Ok(self.select(inside, v, fill))
            }
            _ => Ok(v),
        }
    }

    fn upsample_at(
        &mut self,
        lowering: &mut Lowering<'_>,
        value: ValueId,
        out: &[Expr],
        mode: UpsampleMode,
        index: &[InstId],
        guard: Option<InstId>,
    ) -> Result<InstId, LowerError> {
        let graph = lowering.graph;
        let Some(node) = graph.producer(value) else { return Ok(index[0]) };
        let from = &graph.ty(node.inputs[0]).shape;
        let lead = from.len() - out.len();
        match mode {
            UpsampleMode::Nearest => {
                let mut source = index.to_vec();
                for (i, size) in out.iter().enumerate() {
                    let (n_in, n_out) = (self.size(&from[lead + i]), self.size(size));
                    let scaled = self.mul(index[lead + i], n_in);
                    source[lead + i] = self.binary(BinaryOp::FloorDiv, scaled, n_out);
                }
                self.value_at(lowering, node.inputs[0], &source, guard)
            }
            UpsampleMode::Linear { align_corners } => {
                // Per axis: two neighbours and the weight of the second.
                let dtype = compute_dtype(graph.ty(value).dtype);
                let mut axes = Vec::new();
                for (i, size) in out.iter().enumerate() {
                    axes.push(self.linear_taps(
                        index[lead + i],
                        &from[lead + i],
                        size,
                        align_corners,
                        dtype,
                    ));
                }
                let mut sum: Option<InstId> = None;
                for corner in 0..1usize << axes.len() {
                    let mut source = index.to_vec();
                    let mut weight: Option<InstId> = None;
                    for (i, taps) in axes.iter().enumerate() {
                        let second = corner >> i & 1 == 1;
                        source[lead + i] = if second { taps.high } else { taps.low };
                        let w = if second { taps.weight } else { taps.complement };
                        weight = Some(match weight {
                            Some(weight) => self.mul(weight, w),
                            None => w,
                        });
                    }
                    let mut v = self.value_at(lowering, node.inputs[0], &source, guard)?;
                    if let Some(weight) = weight {
                        v = self.mul(v, weight);
                    }
                    sum = Some(match sum {
                        Some(sum) => self.add(sum, v),
                        None => v,
                    });
                }
                sum.ok_or_else(|| lowering.unsupported(NodeId(0), "no spatial axes"))
            }
        }
    }

    fn linear_taps(
        &mut self,
        at: InstId,
        from: &Expr,
        to: &Expr,
        align_corners: bool,
        dtype: DType,
    ) -> LinearTaps {
        let (n_in, n_out) = (self.size(from), self.size(to));
        let (zero, one) = (self.int(0), self.int(1));
        let last = self.binary(BinaryOp::Sub, n_in, one);
        let (f_zero, f_one, half) =
            (self.float(0.0, dtype), self.float(1.0, dtype), self.float(0.5, dtype));
        let x = self.cast(dtype, at);
        let x = if align_corners {
            let span = self.binary(BinaryOp::Sub, n_out, one);
            let span = self.binary(BinaryOp::Max, span, one);
            let (a, b) = (self.cast(dtype, last), self.cast(dtype, span));
            let scale = self.binary(BinaryOp::Div, a, b);
            self.mul(x, scale)
        } else {
            let (a, b) = (self.cast(dtype, n_in), self.cast(dtype, n_out));
            let scale = self.binary(BinaryOp::Div, a, b);
            let x = self.add(x, half);
            let x = self.mul(x, scale);
            let x = self.binary(BinaryOp::Sub, x, half);
            self.binary(BinaryOp::Max, x, f_zero)
        };
        let floor = self.unary(UnaryOp::Floor, x);
        let weight = self.binary(BinaryOp::Sub, x, floor);
        let complement = self.binary(BinaryOp::Sub, f_one, weight);
        let low = self.cast(DType::I64, floor);
        let low = self.binary(BinaryOp::Min, low, last);
        let low = self.binary(BinaryOp::Max, low, zero);
        let high = self.add(low, one);
        let high = self.binary(BinaryOp::Min, high, last);
        LinearTaps { low, high, weight, complement }
    }
}

/// The two source positions of linear interpolation along one axis.
struct LinearTaps {
    low: InstId,
    high: InstId,
    weight: InstId,
    complement: InstId,
}

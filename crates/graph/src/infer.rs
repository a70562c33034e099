//! Shape and dtype inference, and with it checked construction of nodes.

use zeroforge_artifact::{DType, Expr};

use crate::ir::{Graph, Origin, TensorType, ValueId};
use crate::op::{Op, PadMode, ReduceOp, UnaryOp};

/// Most axes a tensor may have.
pub const MAX_RANK: usize = 16;

/// Why an operation is not valid on its operands.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum InferError {
    /// Wrong number of operands.
    #[error("{op} takes {expected} operands, found {found}")]
    Arity {
        /// The op.
        op: &'static str,
        /// How many it takes.
        expected: String,
        /// How many it got.
        found: usize,
    },
    /// An operand has the wrong element type.
    #[error("{op}: operand {operand} has type {found}, expected {expected}")]
    Type {
        /// The op.
        op: &'static str,
        /// Index of the operand.
        operand: usize,
        /// What it is.
        found: DType,
        /// What it must be.
        expected: String,
    },
    /// An operand has the wrong shape.
    #[error("{op}: operand {operand} has shape {found}, {reason}")]
    Shape {
        /// The op.
        op: &'static str,
        /// Index of the operand.
        operand: usize,
        /// Its shape.
        found: String,
        /// What is wrong with it.
        reason: String,
    },
    /// An attribute is out of range.
    #[error("{op}: {reason}")]
    Attribute {
        /// The op.
        op: &'static str,
        /// What is wrong.
        reason: String,
    },
}

/// `[2, s0, 3]`.
pub fn format_shape(shape: &[Expr]) -> String {
    let parts: Vec<String> = shape.iter().map(Expr::to_string).collect();
    format!("[{}]", parts.join(", "))
}

/// The op's name as the text form has it.
pub fn op_name(op: &Op) -> &'static str {
    match op {
        Op::Full { .. } => "full",
        Op::FullInt { .. } => "full_int",
        Op::Iota { .. } => "iota",
        Op::Unary(op) => unary_name(*op),
        Op::Binary(op) => binary_name(*op),
        Op::Where => "where",
        Op::Cast(_) => "cast",
        Op::Reduce { op, .. } => reduce_name(*op),
        Op::CumSum { .. } => "cumsum",
        Op::Softmax { .. } => "softmax",
        Op::LogSoftmax { .. } => "log_softmax",
        Op::TopK { .. } => "top_k",
        Op::LayerNorm { .. } => "layer_norm",
        Op::RmsNorm { .. } => "rms_norm",
        Op::GroupNorm { .. } => "group_norm",
        Op::MatMul { .. } => "matmul",
        Op::Conv { .. } => "conv",
        Op::ConvTranspose { .. } => "conv_transpose",
        Op::Attention { .. } => "attention",
        Op::Pool { .. } => "pool",
        Op::AdaptiveAvgPool { .. } => "adaptive_avg_pool",
        Op::Upsample { .. } => "upsample",
        Op::IndexSelect { .. } => "index_select",
        Op::Gather { .. } => "gather",
        Op::IndexMulti { .. } => "index_multi",
        Op::IndexCopy { .. } => "index_copy",
        Op::IndexPut { .. } => "index_put",
        Op::Scatter { .. } => "scatter",
        Op::SliceScatter { .. } => "slice_scatter",
        Op::Reshape(_) => "reshape",
        Op::Permute(_) => "permute",
        Op::Expand(_) => "expand",
        Op::Slice { .. } => "slice",
        Op::Flip(_) => "flip",
        Op::Concat { .. } => "concat",
        Op::Pad { .. } => "pad",
    }
}

/// The text form of a unary op.
pub fn unary_name(op: UnaryOp) -> &'static str {
    use UnaryOp::*;
    match op {
        Neg => "neg",
        Abs => "abs",
        Sign => "sign",
        Exp => "exp",
        Expm1 => "expm1",
        Log => "log",
        Log1p => "log1p",
        Sqrt => "sqrt",
        Rsqrt => "rsqrt",
        Recip => "recip",
        Sin => "sin",
        Cos => "cos",
        Tanh => "tanh",
        Erf => "erf",
        Sigmoid => "sigmoid",
        Relu => "relu",
        Silu => "silu",
        Gelu => "gelu",
        GeluTanh => "gelu_tanh",
        Floor => "floor",
        Ceil => "ceil",
        Round => "round",
        Trunc => "trunc",
        LogicalNot => "not",
        BitNot => "bit_not",
        IsNan => "is_nan",
        IsInf => "is_inf",
    }
}

/// The text form of a binary op.
pub fn binary_name(op: crate::op::BinaryOp) -> &'static str {
    use crate::op::BinaryOp::*;
    match op {
        Add => "add",
        Sub => "sub",
        Mul => "mul",
        Div => "div",
        FloorDiv => "floor_div",
        TruncDiv => "trunc_div",
        Rem => "rem",
        Fmod => "fmod",
        Pow => "pow",
        Min => "min",
        Max => "max",
        Atan2 => "atan2",
        Eq => "eq",
        Ne => "ne",
        Lt => "lt",
        Le => "le",
        Gt => "gt",
        Ge => "ge",
        And => "and",
        Or => "or",
        Xor => "xor",
        Shl => "shl",
        Shr => "shr",
    }
}

/// The text form of a reduction.
pub fn reduce_name(op: ReduceOp) -> &'static str {
    match op {
        ReduceOp::Sum => "reduce_sum",
        ReduceOp::Mean => "reduce_mean",
        ReduceOp::Prod => "reduce_prod",
        ReduceOp::Max => "reduce_max",
        ReduceOp::Min => "reduce_min",
        ReduceOp::Any => "reduce_any",
        ReduceOp::All => "reduce_all",
        ReduceOp::ArgMax => "arg_max",
        ReduceOp::ArgMin => "arg_min",
    }
}

/// The shape that two shapes broadcast to; the index of the first axis (from the right) that does
/// not match otherwise. Sizes that differ symbolically do not match: importers specialise or
/// assert first.
pub fn broadcast_shapes(a: &[Expr], b: &[Expr]) -> std::result::Result<Vec<Expr>, usize> {
    let rank = a.len().max(b.len());
    let mut out = Vec::with_capacity(rank);
    for i in 0..rank {
        let get = |s: &[Expr]| (i + s.len()).checked_sub(rank).map(|i| s[i].clone());
        out.push(match (get(a), get(b)) {
            (Some(x), Some(y)) if x == y || y.is(1) => x,
            (Some(x), Some(y)) if x.is(1) => y,
            (Some(x), None) | (None, Some(x)) => x,
            _ => return Err(rank - 1 - i),
        });
    }
    Ok(out)
}

struct Operands<'a> {
    op: &'static str,
    types: &'a [&'a TensorType],
}

type Result<T> = std::result::Result<T, InferError>;

impl Operands<'_> {
    fn arity(&self, expected: usize) -> Result<()> {
        if self.types.len() == expected {
            return Ok(());
        }
        Err(InferError::Arity {
            op: self.op,
            expected: expected.to_string(),
            found: self.types.len(),
        })
    }

    fn at_least(&self, expected: usize) -> Result<()> {
        if self.types.len() >= expected {
            return Ok(());
        }
        let expected = format!("at least {expected}");
        Err(InferError::Arity { op: self.op, expected, found: self.types.len() })
    }

    fn shape_error<T>(&self, operand: usize, reason: impl Into<String>) -> Result<T> {
        Err(InferError::Shape {
            op: self.op,
            operand,
            found: format_shape(&self.types[operand].shape),
            reason: reason.into(),
        })
    }

    fn attribute<T>(&self, reason: impl Into<String>) -> Result<T> {
        Err(InferError::Attribute { op: self.op, reason: reason.into() })
    }

    fn dtype(&self, operand: usize, ok: bool, expected: &str) -> Result<()> {
        if ok {
            return Ok(());
        }
        Err(InferError::Type {
            op: self.op,
            operand,
            found: self.types[operand].dtype,
            expected: expected.to_owned(),
        })
    }

    fn same_dtype(&self, operand: usize, as_operand: usize) -> Result<()> {
        let expected = self.types[as_operand].dtype;
        self.dtype(operand, self.types[operand].dtype == expected, expected.name())
    }

    fn float(&self, operand: usize) -> Result<()> {
        self.dtype(operand, self.types[operand].dtype.is_float(), "a float type")
    }

    fn integer(&self, operand: usize) -> Result<()> {
        self.dtype(operand, self.types[operand].dtype.is_int(), "an integer type")
    }

    fn axis(&self, operand: usize, axis: usize) -> Result<()> {
        if axis < self.types[operand].rank() {
            return Ok(());
        }
        self.shape_error(operand, format!("which has no axis {axis}"))
    }

    fn rank(&self, operand: usize, rank: usize) -> Result<()> {
        if self.types[operand].rank() == rank {
            return Ok(());
        }
        self.shape_error(operand, format!("expected {rank} axes"))
    }

    fn shape_is(&self, operand: usize, expected: &[Expr]) -> Result<()> {
        if self.types[operand].shape == expected {
            return Ok(());
        }
        self.shape_error(operand, format!("expected {}", format_shape(expected)))
    }

    fn broadcast(&self, a: usize, b: usize) -> Result<Vec<Expr>> {
        broadcast_shapes(&self.types[a].shape, &self.types[b].shape).or_else(|axis| {
            let other = format_shape(&self.types[a].shape);
            self.shape_error(
                b,
                format!("which does not broadcast with {other} (axis {axis} from the right)"),
            )
        })
    }
}

/// The types of an op's results.
pub fn infer(op: &Op, types: &[&TensorType]) -> Result<Vec<TensorType>> {
    let o = Operands { op: op_name(op), types };
    let one = |dtype, shape: Vec<Expr>| Ok(vec![TensorType::new(dtype, shape)]);
    match op {
        Op::Full { dtype, shape, .. } => {
            o.arity(0)?;
            rank_limit(&o, shape.len())?;
            one(*dtype, shape.clone())
        }
        Op::FullInt { dtype, shape, .. } => {
            o.arity(0)?;
            rank_limit(&o, shape.len())?;
            if !dtype.is_int() {
                return o.attribute(format!("{dtype} is not an integer type"));
            }
            one(*dtype, shape.clone())
        }
        Op::Iota { dtype, len, .. } => {
            o.arity(0)?;
            if *dtype == DType::Bool {
                return o.attribute("bool has no arithmetic sequence");
            }
            one(*dtype, vec![len.clone()])
        }
        Op::Unary(u) => {
            o.arity(1)?;
            let ty = types[0];
            match u {
                UnaryOp::LogicalNot => o.dtype(0, ty.dtype == DType::Bool, "bool")?,
                UnaryOp::BitNot => o.integer(0)?,
                UnaryOp::Neg | UnaryOp::Abs | UnaryOp::Sign | UnaryOp::Relu => {
                    o.dtype(0, ty.dtype != DType::Bool, "a number type")?;
                }
                _ => o.float(0)?,
            }
            let dtype = match u {
                UnaryOp::IsNan | UnaryOp::IsInf => DType::Bool,
                _ => ty.dtype,
            };
            one(dtype, ty.shape.clone())
        }
        Op::Binary(b) => {
            use crate::op::BinaryOp::*;
            o.arity(2)?;
            o.same_dtype(1, 0)?;
            let dtype = types[0].dtype;
            match b {
                Div | Atan2 => o.float(0)?,
                And | Or | Xor => o.dtype(0, !dtype.is_float(), "bool or an integer type")?,
                Shl | Shr => o.integer(0)?,
                Eq | Ne | Lt | Le | Gt | Ge | Min | Max => {}
                _ => o.dtype(0, dtype != DType::Bool, "a number type")?,
            }
            let shape = o.broadcast(0, 1)?;
            one(if b.is_comparison() { DType::Bool } else { dtype }, shape)
        }
        Op::Where => {
            o.arity(3)?;
            o.dtype(0, types[0].dtype == DType::Bool, "bool")?;
            o.same_dtype(2, 1)?;
            let values = TensorType::new(types[1].dtype, o.broadcast(1, 2)?);
            let pair = Operands { op: o.op, types: &[types[0], &values] };
            one(values.dtype, pair.broadcast(0, 1)?)
        }
        Op::Cast(dtype) => {
            o.arity(1)?;
            one(*dtype, types[0].shape.clone())
        }
        Op::Reduce { op, axes, keep_dims } => {
            o.arity(1)?;
            reduce(&o, *op, axes, *keep_dims)
        }
        Op::CumSum { axis } => {
            o.arity(1)?;
            o.axis(0, *axis)?;
            o.dtype(0, types[0].dtype != DType::Bool, "a number type")?;
            one(types[0].dtype, types[0].shape.clone())
        }
        Op::Softmax { axis } | Op::LogSoftmax { axis } => {
            o.arity(1)?;
            o.axis(0, *axis)?;
            o.float(0)?;
            one(types[0].dtype, types[0].shape.clone())
        }
        Op::TopK { k } => {
            o.arity(1)?;
            let Some(last) = types[0].rank().checked_sub(1) else {
                return o.shape_error(0, "expected at least one axis");
            };
            let mut shape = types[0].shape.clone();
            shape[last] = k.clone();
            Ok(vec![
                TensorType::new(types[0].dtype, shape.clone()),
                TensorType::new(DType::I64, shape),
            ])
        }
        Op::LayerNorm { axes, weight, bias, .. } => norm(&o, *axes, &[*weight, *bias]),
        Op::RmsNorm { axes, weight, .. } => norm(&o, *axes, &[*weight]),
        Op::GroupNorm { groups, weight, bias, .. } => {
            o.arity(1 + usize::from(*weight) + usize::from(*bias))?;
            o.float(0)?;
            if types[0].rank() < 2 {
                return o.shape_error(0, "expected [N, C, ...]");
            }
            let channels = &types[0].shape[1];
            if *groups == 0 || !channels.modulo(&Expr::constant(*groups as i64)).is(0) {
                return o
                    .shape_error(0, format!("whose channels do not split into {groups} groups"));
            }
            (1..types.len()).try_for_each(|i| o.shape_is(i, std::slice::from_ref(channels)))?;
            one(types[0].dtype, types[0].shape.clone())
        }
        Op::MatMul { transpose_b } => matmul(&o, *transpose_b),
        Op::Conv { stride, padding, dilation, groups, bias } => {
            o.arity(2 + usize::from(*bias))?;
            conv(&o, stride, padding, dilation, *groups)
        }
        Op::ConvTranspose { stride, padding, output_padding, dilation, groups, bias } => {
            o.arity(2 + usize::from(*bias))?;
            conv_transpose(&o, stride, padding, output_padding, dilation, *groups)
        }
        Op::Attention { mask, .. } => attention(&o, *mask),
        Op::Pool { op, kernel, stride, padding, dilation, .. } => {
            o.arity(1)?;
            if !matches!(op, ReduceOp::Max | ReduceOp::Mean) {
                return o.attribute("only max and mean windows exist");
            }
            let spatial = spatial_axes(&o, 0, kernel.len())?;
            lengths(&o, kernel.len(), &[stride.len(), padding.len(), dilation.len()])?;
            let mut shape = types[0].shape[..2].to_vec();
            for (i, n) in spatial.iter().enumerate() {
                shape.push(window(&o, n, kernel[i] as i64, stride[i], padding[i], dilation[i])?);
            }
            one(types[0].dtype, shape)
        }
        Op::AdaptiveAvgPool { out } | Op::Upsample { out, .. } => {
            o.arity(1)?;
            o.dtype(
                0,
                types[0].dtype.is_float() || matches!(op, Op::Upsample { .. }),
                "a float type",
            )?;
            spatial_axes(&o, 0, out.len())?;
            let mut shape = types[0].shape[..2].to_vec();
            shape.extend_from_slice(out);
            one(types[0].dtype, shape)
        }
        Op::IndexSelect { axis } => {
            o.arity(2)?;
            o.axis(0, *axis)?;
            o.integer(1)?;
            let mut shape = types[0].shape.clone();
            shape.splice(*axis..=*axis, types[1].shape.iter().cloned());
            rank_limit(&o, shape.len())?;
            one(types[0].dtype, shape)
        }
        Op::Gather { axis } => {
            o.arity(2)?;
            o.axis(0, *axis)?;
            o.integer(1)?;
            o.rank(1, types[0].rank())?;
            one(types[0].dtype, types[1].shape.clone())
        }
        Op::IndexMulti { axes } => {
            o.arity(1 + axes.len())?;
            one(types[0].dtype, multi_index_shape(&o, axes)?)
        }
        Op::IndexCopy { axis, .. } => {
            o.arity(3)?;
            o.axis(0, *axis)?;
            o.integer(1)?;
            o.rank(1, 1)?;
            o.same_dtype(2, 0)?;
            let mut shape = types[0].shape.clone();
            shape[*axis] = types[1].shape[0].clone();
            o.shape_is(2, &shape)?;
            one(types[0].dtype, types[0].shape.clone())
        }
        Op::IndexPut { axes, .. } => {
            o.arity(2 + axes.len())?;
            let src = types.len() - 1;
            o.same_dtype(src, 0)?;
            let read = Operands { op: o.op, types: &types[..src] };
            let shape = multi_index_shape(&read, axes)?;
            if broadcast_shapes(&shape, &types[src].shape).as_ref() != Ok(&shape) {
                let expected = format!("which does not broadcast to {}", format_shape(&shape));
                return o.shape_error(src, expected);
            }
            one(types[0].dtype, types[0].shape.clone())
        }
        Op::Scatter { axis, .. } => {
            o.arity(3)?;
            o.axis(0, *axis)?;
            o.integer(1)?;
            o.rank(1, types[0].rank())?;
            o.same_dtype(2, 0)?;
            o.rank(2, types[0].rank())?;
            one(types[0].dtype, types[0].shape.clone())
        }
        Op::SliceScatter { axis, step, .. } => {
            o.arity(2)?;
            o.axis(0, *axis)?;
            o.same_dtype(1, 0)?;
            o.rank(1, types[0].rank())?;
            if *step < 1 {
                return o.attribute(format!("step {step} is not positive"));
            }
            one(types[0].dtype, types[0].shape.clone())
        }
        Op::Reshape(shape) => {
            o.arity(1)?;
            rank_limit(&o, shape.len())?;
            if Expr::product(shape) != types[0].numel() {
                return o.shape_error(
                    0,
                    format!("which has not the elements of {}", format_shape(shape)),
                );
            }
            one(types[0].dtype, shape.clone())
        }
        Op::Permute(perm) => {
            o.arity(1)?;
            o.rank(0, perm.len())?;
            let mut seen = vec![false; perm.len()];
            for &p in perm {
                match seen.get_mut(p) {
                    Some(seen) if !*seen => *seen = true,
                    _ => return o.attribute(format!("{perm:?} is no permutation")),
                }
            }
            one(types[0].dtype, perm.iter().map(|&p| types[0].shape[p].clone()).collect())
        }
        Op::Expand(shape) => {
            o.arity(1)?;
            rank_limit(&o, shape.len())?;
            if broadcast_shapes(shape, &types[0].shape).as_ref() != Ok(shape) {
                return o
                    .shape_error(0, format!("which does not expand to {}", format_shape(shape)));
            }
            one(types[0].dtype, shape.clone())
        }
        Op::Slice { axis, start, end, step } => {
            o.arity(1)?;
            o.axis(0, *axis)?;
            if *step < 1 {
                return o.attribute(format!("step {step} is not positive"));
            }
            let mut shape = types[0].shape.clone();
            shape[*axis] = (end.clone() - start.clone()).ceil_div(&Expr::constant(*step));
            if shape[*axis].as_const().is_some_and(|n| n < 0) {
                return o.attribute(format!("slice {start}..{end} ends before it starts"));
            }
            one(types[0].dtype, shape)
        }
        Op::Flip(axes) => {
            o.arity(1)?;
            axes.iter().try_for_each(|&axis| o.axis(0, axis))?;
            one(types[0].dtype, types[0].shape.clone())
        }
        Op::Concat { axis } => {
            o.at_least(1)?;
            o.axis(0, *axis)?;
            let mut shape = types[0].shape.clone();
            for (i, ty) in types.iter().enumerate().skip(1) {
                o.same_dtype(i, 0)?;
                o.rank(i, shape.len())?;
                for (a, n) in ty.shape.iter().enumerate() {
                    if a != *axis && *n != shape[a] {
                        return o
                            .shape_error(i, format!("which differs from operand 0 at axis {a}"));
                    }
                }
                shape[*axis] = shape[*axis].clone() + ty.shape[*axis].clone();
            }
            one(types[0].dtype, shape)
        }
        Op::Pad { pads, mode } => {
            o.arity(1)?;
            o.rank(0, pads.len())?;
            let negative = |e: &Expr| e.as_const().is_some_and(|v| v < 0);
            if !matches!(mode, PadMode::Constant(_))
                && pads.iter().any(|(a, b)| negative(a) || negative(b))
            {
                return o.attribute("only constant padding may crop");
            }
            let shape = types[0].shape.iter().zip(pads);
            let shape = shape.map(|(n, (a, b))| n.clone() + a.clone() + b.clone()).collect();
            one(types[0].dtype, shape)
        }
    }
}

fn rank_limit(o: &Operands<'_>, rank: usize) -> Result<()> {
    if rank > MAX_RANK {
        return o.attribute(format!("{rank} axes are more than the limit of {MAX_RANK}"));
    }
    Ok(())
}

fn reduce(
    o: &Operands<'_>,
    op: ReduceOp,
    axes: &[usize],
    keep_dims: bool,
) -> Result<Vec<TensorType>> {
    let ty = o.types[0];
    if axes.windows(2).any(|w| w[0] >= w[1]) {
        return o.attribute(format!("axes {axes:?} are not sorted and distinct"));
    }
    axes.iter().try_for_each(|&axis| o.axis(0, axis))?;
    let dtype = match op {
        ReduceOp::Any | ReduceOp::All => {
            o.dtype(0, ty.dtype == DType::Bool, "bool")?;
            DType::Bool
        }
        ReduceOp::ArgMax | ReduceOp::ArgMin => {
            if axes.len() != 1 {
                return o.attribute("takes exactly one axis");
            }
            DType::I64
        }
        ReduceOp::Mean => {
            o.float(0)?;
            ty.dtype
        }
        ReduceOp::Sum | ReduceOp::Prod => {
            o.dtype(0, ty.dtype != DType::Bool, "a number type")?;
            ty.dtype
        }
        ReduceOp::Max | ReduceOp::Min => ty.dtype,
    };
    let mut shape = Vec::new();
    for (axis, n) in ty.shape.iter().enumerate() {
        match (axes.contains(&axis), keep_dims) {
            (true, true) => shape.push(Expr::constant(1)),
            (true, false) => {}
            (false, _) => shape.push(n.clone()),
        }
    }
    Ok(vec![TensorType::new(dtype, shape)])
}

fn norm(o: &Operands<'_>, axes: usize, optional: &[bool]) -> Result<Vec<TensorType>> {
    o.arity(1 + optional.iter().filter(|p| **p).count())?;
    o.float(0)?;
    let ty = o.types[0];
    let Some(first) = ty.rank().checked_sub(axes) else {
        return o.shape_error(0, format!("which has fewer than {axes} axes"));
    };
    for i in 1..o.types.len() {
        o.float(i)?;
        o.shape_is(i, &ty.shape[first..])?;
    }
    Ok(vec![ty.clone()])
}

fn matmul(o: &Operands<'_>, transpose_b: bool) -> Result<Vec<TensorType>> {
    o.arity(2)?;
    o.same_dtype(1, 0)?;
    let (a, b) = (o.types[0], o.types[1]);
    for (i, ty) in [a, b].into_iter().enumerate() {
        if ty.rank() < 2 {
            return o.shape_error(i, "expected at least two axes");
        }
    }
    let (m, k) = (&a.shape[a.rank() - 2], &a.shape[a.rank() - 1]);
    let (rows, columns) = (&b.shape[b.rank() - 2], &b.shape[b.rank() - 1]);
    let (b_k, n) = if transpose_b { (columns, rows) } else { (rows, columns) };
    if k != b_k {
        return o.shape_error(1, format!("whose contracted size is {b_k}, expected {k}"));
    }
    let batch = |t: &TensorType| t.shape[..t.rank() - 2].to_vec();
    let (ba, bb) = (TensorType::new(a.dtype, batch(a)), TensorType::new(b.dtype, batch(b)));
    let pair = Operands { op: o.op, types: &[&ba, &bb] };
    let mut shape = pair.broadcast(0, 1)?;
    shape.push(m.clone());
    shape.push(n.clone());
    Ok(vec![TensorType::new(a.dtype, shape)])
}

fn spatial_axes<'a>(o: &'a Operands<'_>, operand: usize, count: usize) -> Result<&'a [Expr]> {
    if !(1..=3).contains(&count) {
        return o.attribute(format!("{count} spatial axes; 1 to 3 are known"));
    }
    o.rank(operand, count + 2)?;
    Ok(&o.types[operand].shape[2..])
}

fn lengths(o: &Operands<'_>, expected: usize, found: &[usize]) -> Result<()> {
    if found.iter().any(|&n| n != expected) {
        return o.attribute(format!("stride, padding and dilation need {expected} entries each"));
    }
    Ok(())
}

/// `floor((n + pads - dilation * (kernel - 1) - 1) / stride) + 1`.
fn window(
    o: &Operands<'_>,
    n: &Expr,
    kernel: i64,
    stride: usize,
    (before, after): (usize, usize),
    dilation: usize,
) -> Result<Expr> {
    let limit = 1 << 20;
    if stride == 0 || dilation == 0 || kernel < 1 {
        return o.attribute("kernel, stride and dilation must be positive");
    }
    if [stride, before, after, dilation].iter().any(|&v| v > limit) || kernel > limit as i64 {
        return o
            .attribute(format!("kernel, stride, padding and dilation must be at most {limit}"));
    }
    let reach = dilation as i64 * (kernel - 1) + 1;
    let span = n.clone() + Expr::constant(before as i64 + after as i64 - reach);
    if span.as_const().is_some_and(|s| s < 0) {
        return o.shape_error(0, format!("smaller than the window of {reach}"));
    }
    Ok(span.floor_div(&Expr::constant(stride as i64)) + Expr::constant(1))
}

fn static_kernel(o: &Operands<'_>, size: &Expr) -> Result<i64> {
    match size.as_const() {
        Some(k) => Ok(k),
        None => o.shape_error(1, "a kernel of symbolic size"),
    }
}

fn conv(
    o: &Operands<'_>,
    stride: &[usize],
    padding: &[(usize, usize)],
    dilation: &[usize],
    groups: usize,
) -> Result<Vec<TensorType>> {
    o.float(0)?;
    o.same_dtype(1, 0)?;
    let spatial = spatial_axes(o, 0, stride.len())?;
    lengths(o, stride.len(), &[padding.len(), dilation.len()])?;
    o.rank(1, stride.len() + 2)?;
    let (x, w) = (o.types[0], o.types[1]);
    if groups == 0 || x.shape[1] != w.shape[1].clone() * Expr::constant(groups as i64) {
        return o.shape_error(
            1,
            format!("which does not match {groups} groups of the input's channels"),
        );
    }
    if !w.shape[0].modulo(&Expr::constant(groups as i64)).is(0) {
        return o.shape_error(1, format!("whose filters do not split into {groups} groups"));
    }
    if let Some(bias) = o.types.get(2) {
        o.same_dtype(2, 0)?;
        if bias.shape != w.shape[..1] {
            return o.shape_error(2, "expected one value per filter");
        }
    }
    let mut shape = vec![x.shape[0].clone(), w.shape[0].clone()];
    for (i, n) in spatial.iter().enumerate() {
        let kernel = static_kernel(o, &w.shape[2 + i])?;
        shape.push(window(o, n, kernel, stride[i], padding[i], dilation[i])?);
    }
    Ok(vec![TensorType::new(x.dtype, shape)])
}

fn conv_transpose(
    o: &Operands<'_>,
    stride: &[usize],
    padding: &[usize],
    output_padding: &[usize],
    dilation: &[usize],
    groups: usize,
) -> Result<Vec<TensorType>> {
    o.float(0)?;
    o.same_dtype(1, 0)?;
    let spatial = spatial_axes(o, 0, stride.len())?;
    lengths(o, stride.len(), &[padding.len(), output_padding.len(), dilation.len()])?;
    o.rank(1, stride.len() + 2)?;
    let (x, w) = (o.types[0], o.types[1]);
    if groups == 0 || x.shape[1] != w.shape[0] {
        return o.shape_error(1, "whose first axis is not the input's channels");
    }
    if !x.shape[1].modulo(&Expr::constant(groups as i64)).is(0) {
        return o.shape_error(0, format!("whose channels do not split into {groups} groups"));
    }
    let filters = w.shape[1].clone() * Expr::constant(groups as i64);
    if let Some(bias) = o.types.get(2)
        && bias.shape != std::slice::from_ref(&filters)
    {
        return o.shape_error(2, "expected one value per filter");
    }
    let mut shape = vec![x.shape[0].clone(), filters];
    for (i, n) in spatial.iter().enumerate() {
        let kernel = static_kernel(o, &w.shape[2 + i])?;
        let scaled = (n.clone() - Expr::constant(1)) * Expr::constant(stride[i] as i64);
        let reach = (dilation[i] as i64).saturating_mul(kernel - 1);
        let rest = reach + output_padding[i] as i64 + 1 - 2 * padding[i] as i64;
        shape.push(scaled + Expr::constant(rest));
    }
    Ok(vec![TensorType::new(x.dtype, shape)])
}

fn attention(o: &Operands<'_>, mask: bool) -> Result<Vec<TensorType>> {
    o.arity(3 + usize::from(mask))?;
    for i in 0..3 {
        o.float(i)?;
        o.same_dtype(i, 0)?;
        o.rank(i, 4)?;
    }
    let (q, k, v) = (&o.types[0].shape, &o.types[1].shape, &o.types[2].shape);
    if k[0] != q[0] || k[3] != q[3] {
        return o.shape_error(1, "whose batch or head dimension differs from q's");
    }
    if v[0] != k[0] || v[1] != k[1] || v[2] != k[2] {
        return o.shape_error(2, "whose batch, heads or length differ from k's");
    }
    if !q[1].modulo(&k[1]).is(0) {
        return o.shape_error(1, "whose heads do not divide q's");
    }
    if mask {
        let ty = o.types[3];
        let ok = ty.dtype == DType::Bool || ty.dtype == o.types[0].dtype;
        o.dtype(3, ok, "bool or the type of q")?;
        let scores = [q[0].clone(), q[1].clone(), q[2].clone(), k[2].clone()];
        if broadcast_shapes(&scores, &ty.shape).as_deref() != Ok(&scores[..]) {
            let expected = format!("which does not broadcast to {}", format_shape(&scores));
            return o.shape_error(3, expected);
        }
    }
    let shape = vec![q[0].clone(), q[1].clone(), q[2].clone(), v[3].clone()];
    Ok(vec![TensorType::new(o.types[0].dtype, shape)])
}

fn multi_index_shape(o: &Operands<'_>, axes: &[usize]) -> Result<Vec<Expr>> {
    if axes.is_empty() || axes.windows(2).any(|w| w[0] >= w[1]) {
        return o.attribute(format!("axes {axes:?} are not sorted, distinct and non-empty"));
    }
    let mut block: Vec<Expr> = Vec::new();
    for (i, &axis) in axes.iter().enumerate() {
        o.axis(0, axis)?;
        o.integer(1 + i)?;
        block = match broadcast_shapes(&block, &o.types[1 + i].shape) {
            Ok(shape) => shape,
            Err(_) => {
                return o.shape_error(1 + i, "which does not broadcast with the other indices");
            }
        };
    }
    let adjacent = axes.windows(2).all(|w| w[1] == w[0] + 1);
    let place = if adjacent { axes[0] } else { 0 };
    let x = &o.types[0].shape;
    let mut shape: Vec<Expr> =
        (0..x.len()).filter(|i| !axes.contains(i)).map(|i| x[i].clone()).collect();
    shape.splice(place..place, block);
    rank_limit(o, shape.len())?;
    Ok(shape)
}

/// An invalid node.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("node `{node}`{at}: {source}")]
pub struct GraphError {
    /// The exporter's node name.
    pub node: String,
    /// ` (file.py:12)` or nothing.
    pub at: String,
    /// What is wrong.
    pub source: InferError,
}

impl Graph {
    /// Appends a node with inferred result types.
    pub fn push(
        &mut self,
        op: Op,
        inputs: &[ValueId],
        origin: Origin,
    ) -> std::result::Result<Vec<ValueId>, GraphError> {
        let types: Vec<&TensorType> = inputs.iter().map(|&v| self.ty(v)).collect();
        match infer(&op, &types) {
            Ok(types) => Ok(self.add_node(op, inputs, types, origin)),
            Err(source) => Err(GraphError {
                at: if origin.source.is_empty() {
                    String::new()
                } else {
                    format!(" ({})", origin.source)
                },
                node: origin.node,
                source,
            }),
        }
    }
}

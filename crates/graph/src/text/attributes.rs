//! Attributes of nodes in the text form.

use std::str::FromStr;

use zeroforge_artifact::Expr;

use crate::ir::TensorType;
use crate::op::{BinaryOp, Op, PadMode, PositionMask, ReduceOp, UnaryOp, UpsampleMode};

/// A fault at a byte of the text.
pub(super) struct Fault {
    pub(super) at: usize,
    pub(super) message: String,
}

pub(super) type Result<T> = std::result::Result<T, Fault>;

pub(super) fn fault<T>(at: usize, message: impl Into<String>) -> Result<T> {
    Err(Fault { at, message: message.into() })
}

/// A piece of the text and where it starts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece<'a> {
    pub(super) text: &'a str,
    pub(super) at: usize,
}

impl<'a> Piece<'a> {
    pub(super) fn trim(self) -> Piece<'a> {
        let start = self.text.len() - self.text.trim_start().len();
        Piece { text: self.text.trim(), at: self.at + start }
    }

    /// Splits at commas outside brackets; nothing for blank text.
    pub(super) fn split(self) -> Vec<Piece<'a>> {
        let mut out = Vec::new();
        let (mut depth, mut start) = (0usize, 0);
        for (i, c) in self.text.char_indices() {
            match c {
                '(' | '[' => depth += 1,
                ')' | ']' => depth = depth.saturating_sub(1),
                ',' if depth == 0 => {
                    out.push(Piece { text: &self.text[start..i], at: self.at + start }.trim());
                    start = i + 1;
                }
                _ => {}
            }
        }
        if !out.is_empty() || !self.text.trim().is_empty() {
            out.push(Piece { text: &self.text[start..], at: self.at + start }.trim());
        }
        out
    }

    pub(super) fn parse<T: FromStr>(self, what: &str) -> Result<T> {
        self.text.parse().or_else(|_| fault(self.at, format!("expected {what}")))
    }

    pub(super) fn expr(self) -> Result<Expr> {
        self.text.parse().or_else(|e| fault(self.at, format!("{e}")))
    }

    /// The inside of brackets.
    fn inside(self, open: char, close: char) -> Result<Piece<'a>> {
        let inner = self.text.strip_prefix(open).and_then(|t| t.strip_suffix(close));
        match inner {
            Some(text) => Ok(Piece { text, at: self.at + 1 }),
            None => fault(self.at, format!("expected `{open}...{close}`")),
        }
    }

    pub(super) fn list<T>(self, item: impl Fn(Piece<'a>) -> Result<T>) -> Result<Vec<T>> {
        self.inside('[', ']')?.split().into_iter().map(item).collect()
    }

    fn pairs<T>(self, item: impl Fn(Piece<'a>) -> Result<T>) -> Result<Vec<(T, T)>> {
        self.list(|pair| match pair.inside('(', ')')?.split().as_slice() {
            [a, b] => Ok((item(*a)?, item(*b)?)),
            _ => fault(pair.at, "expected a pair `(before, after)`"),
        })
    }
}

/// The attributes of one node, taken one by one.
pub(super) struct Attributes<'a> {
    pub(super) op: &'a str,
    pub(super) at: usize,
    pub(super) items: Vec<(&'a str, Option<Piece<'a>>, usize)>,
}

impl<'a> Attributes<'a> {
    fn flag(&mut self, key: &str) -> Result<bool> {
        match self.items.iter().position(|(k, ..)| *k == key) {
            None => Ok(false),
            Some(i) => match self.items.remove(i) {
                (_, None, _) => Ok(true),
                (_, Some(piece), _) => fault(piece.at, format!("`{key}` takes no value")),
            },
        }
    }

    fn optional(&mut self, key: &str) -> Result<Option<Piece<'a>>> {
        match self.items.iter().position(|(k, ..)| *k == key) {
            None => Ok(None),
            Some(i) => match self.items.remove(i) {
                (_, Some(piece), _) => Ok(Some(piece)),
                (_, None, at) => fault(at, format!("`{key}` needs a value")),
            },
        }
    }

    fn piece(&mut self, key: &str) -> Result<Piece<'a>> {
        match self.optional(key)? {
            Some(piece) => Ok(piece),
            None => fault(self.at, format!("{} needs `{key}`", self.op)),
        }
    }

    fn number<T: FromStr>(&mut self, key: &str) -> Result<T> {
        self.piece(key)?.parse("a number")
    }

    fn expr(&mut self, key: &str) -> Result<Expr> {
        self.piece(key)?.expr()
    }

    fn sizes(&mut self, key: &str) -> Result<Vec<usize>> {
        self.piece(key)?.list(|p| p.parse("a number"))
    }

    fn size_pairs(&mut self, key: &str) -> Result<Vec<(usize, usize)>> {
        self.piece(key)?.pairs(|p| p.parse("a number"))
    }

    /// The op, with what its result's type says about it.
    pub(super) fn op(mut self, ty: &TensorType) -> Result<Op> {
        let op = self.build(ty)?;
        match self.items.first() {
            None => Ok(op),
            Some((key, _, at)) => fault(*at, format!("{} has no attribute `{key}`", self.op)),
        }
    }

    fn build(&mut self, ty: &TensorType) -> Result<Op> {
        if let Some(op) = unary(self.op) {
            return Ok(Op::Unary(op));
        }
        if let Some(op) = binary(self.op) {
            return Ok(Op::Binary(op));
        }
        if let Some(op) = reduction(self.op) {
            let (axes, keep_dims) = (self.sizes("axes")?, self.flag("keep_dims")?);
            return Ok(Op::Reduce { op, axes, keep_dims });
        }
        let (dtype, shape) = (ty.dtype, ty.shape.clone());
        let spatial = || shape.get(2..).unwrap_or_default().to_vec();
        Ok(match self.op {
            "full" => Op::Full { dtype, value: self.number("value")?, shape },
            "full_int" => Op::FullInt { dtype, value: self.expr("value")?, shape },
            "iota" => {
                let [len] = shape.as_slice() else {
                    return fault(self.at, "iota has one axis");
                };
                let (start, step) = (self.expr("start")?, self.number("step")?);
                Op::Iota { dtype, len: len.clone(), start, step }
            }
            "where" => Op::Where,
            "cast" => Op::Cast(dtype),
            "cumsum" => Op::CumSum { axis: self.number("axis")? },
            "softmax" => Op::Softmax { axis: self.number("axis")? },
            "log_softmax" => Op::LogSoftmax { axis: self.number("axis")? },
            "top_k" => Op::TopK { k: self.expr("k")? },
            "layer_norm" => Op::LayerNorm {
                axes: self.number("axes")?,
                eps: self.number("eps")?,
                weight: self.flag("weight")?,
                bias: self.flag("bias")?,
            },
            "rms_norm" => Op::RmsNorm {
                axes: self.number("axes")?,
                eps: self.number("eps")?,
                weight: self.flag("weight")?,
            },
            "group_norm" => Op::GroupNorm {
                groups: self.number("groups")?,
                eps: self.number("eps")?,
                weight: self.flag("weight")?,
                bias: self.flag("bias")?,
            },
            "matmul" => Op::MatMul { transpose_b: self.flag("transpose_b")? },
            "conv" => Op::Conv {
                stride: self.sizes("stride")?,
                padding: self.size_pairs("padding")?,
                dilation: self.sizes("dilation")?,
                groups: self.number("groups")?,
                bias: self.flag("bias")?,
            },
            "conv_transpose" => Op::ConvTranspose {
                stride: self.sizes("stride")?,
                padding: self.sizes("padding")?,
                output_padding: self.sizes("output_padding")?,
                dilation: self.sizes("dilation")?,
                groups: self.number("groups")?,
                bias: self.flag("bias")?,
            },
            "attention" => {
                let (scale, mask) = (self.number("scale")?, self.flag("mask")?);
                let causal = self.flag("causal")?;
                let window = self.optional("window")?.map(|p| p.parse("a number")).transpose()?;
                let offset = self.optional("offset")?.map(Piece::expr).transpose()?;
                let position = match offset {
                    Some(offset) => Some(PositionMask { causal, window, offset }),
                    None if causal || window.is_some() => {
                        return fault(self.at, "`causal` and `window` need `offset`");
                    }
                    None => None,
                };
                Op::Attention { scale, mask, position }
            }
            "pool" => {
                let op = self.piece("op")?;
                let op = match op.text {
                    "max" => ReduceOp::Max,
                    "mean" => ReduceOp::Mean,
                    _ => return fault(op.at, "expected `max` or `mean`"),
                };
                Op::Pool {
                    op,
                    kernel: self.sizes("kernel")?,
                    stride: self.sizes("stride")?,
                    padding: self.size_pairs("padding")?,
                    dilation: self.sizes("dilation")?,
                    count_include_pad: self.flag("count_include_pad")?,
                }
            }
            "adaptive_avg_pool" => Op::AdaptiveAvgPool { out: spatial() },
            "upsample" => {
                let mode = self.piece("mode")?;
                let mode = match mode.text {
                    "nearest" => UpsampleMode::Nearest,
                    "linear" => UpsampleMode::Linear { align_corners: false },
                    "linear_corners" => UpsampleMode::Linear { align_corners: true },
                    _ => {
                        let known = "expected `nearest`, `linear` or `linear_corners`";
                        return fault(mode.at, known);
                    }
                };
                Op::Upsample { out: spatial(), mode }
            }
            "index_select" => Op::IndexSelect { axis: self.number("axis")? },
            "gather" => Op::Gather { axis: self.number("axis")? },
            "index_multi" => Op::IndexMulti { axes: self.sizes("axes")? },
            "index_copy" => {
                Op::IndexCopy { axis: self.number("axis")?, accumulate: self.flag("accumulate")? }
            }
            "index_put" => {
                Op::IndexPut { axes: self.sizes("axes")?, accumulate: self.flag("accumulate")? }
            }
            "scatter" => {
                Op::Scatter { axis: self.number("axis")?, accumulate: self.flag("accumulate")? }
            }
            "slice_scatter" => Op::SliceScatter {
                axis: self.number("axis")?,
                start: self.expr("start")?,
                step: self.number("step")?,
            },
            "reshape" => Op::Reshape(shape),
            "permute" => Op::Permute(self.sizes("perm")?),
            "expand" => Op::Expand(shape),
            "slice" => Op::Slice {
                axis: self.number("axis")?,
                start: self.expr("start")?,
                end: self.expr("end")?,
                step: self.number("step")?,
            },
            "flip" => Op::Flip(self.sizes("axes")?),
            "concat" => Op::Concat { axis: self.number("axis")? },
            "pad" => {
                let pads = self.piece("pads")?.pairs(Piece::expr)?;
                let mode = if self.flag("reflect")? {
                    PadMode::Reflect
                } else if self.flag("replicate")? {
                    PadMode::Replicate
                } else {
                    PadMode::Constant(self.number("value")?)
                };
                Op::Pad { pads, mode }
            }
            other => return fault(self.at, format!("unknown op `{other}`")),
        })
    }
}

fn unary(name: &str) -> Option<UnaryOp> {
    use UnaryOp::*;
    [
        Neg, Abs, Sign, Exp, Expm1, Log, Log1p, Sqrt, Rsqrt, Recip, Sin, Cos, Tanh, Erf, Sigmoid,
        Relu, Silu, Gelu, GeluTanh, Floor, Ceil, Round, Trunc, LogicalNot, BitNot, IsNan, IsInf,
    ]
    .into_iter()
    .find(|op| crate::infer::unary_name(*op) == name)
}

fn binary(name: &str) -> Option<BinaryOp> {
    use BinaryOp::*;
    [
        Add, Sub, Mul, Div, FloorDiv, TruncDiv, Rem, Fmod, Pow, Min, Max, Atan2, Eq, Ne, Lt, Le,
        Gt, Ge, And, Or, Xor, Shl, Shr,
    ]
    .into_iter()
    .find(|op| crate::infer::binary_name(*op) == name)
}

fn reduction(name: &str) -> Option<ReduceOp> {
    use ReduceOp::*;
    [Sum, Mean, Prod, Max, Min, Any, All, ArgMax, ArgMin]
        .into_iter()
        .find(|op| crate::infer::reduce_name(*op) == name)
}

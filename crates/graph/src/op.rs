//! The operations of the graph, with their exact meaning.
//!
//! The set is small on purpose: importers decompose into it, passes rewrite within it, and every
//! consumer (verifier, interpreter, both code generators) matches on it exhaustively. Values are
//! logical row-major tensors; strides and storage are the compiler's business, so layout ops
//! ([`Op::Permute`], [`Op::Slice`], ...) are pure and free until proven otherwise.
//!
//! Axes are non-negative and in range everywhere (importers normalise). Broadcasting is NumPy's:
//! shapes align at the right and a dimension of 1 stretches. It is implicit in [`Op::Binary`] and
//! [`Op::Where`] and nowhere else.

use serde::{Deserialize, Serialize};
use zeroforge_artifact::{DType, Expr};

/// An elementwise function of one operand. The result has the operand's dtype unless said.
/// Transcendental functions are defined on floats only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnaryOp {
    /// `-x`.
    Neg,
    /// `|x|`.
    Abs,
    /// -1, 0 or 1; NaN stays NaN.
    Sign,
    /// `e^x`.
    Exp,
    /// `e^x - 1`.
    Expm1,
    /// Natural logarithm.
    Log,
    /// `ln(1 + x)`.
    Log1p,
    /// Square root.
    Sqrt,
    /// `1 / sqrt(x)`.
    Rsqrt,
    /// `1 / x`.
    Recip,
    /// Sine.
    Sin,
    /// Cosine.
    Cos,
    /// Hyperbolic tangent.
    Tanh,
    /// Error function.
    Erf,
    /// `1 / (1 + e^-x)`.
    Sigmoid,
    /// `max(x, 0)`, NaN stays NaN; also on integers.
    Relu,
    /// `x * sigmoid(x)`.
    Silu,
    /// `x/2 * (1 + erf(x / sqrt 2))`.
    Gelu,
    /// `x/2 * (1 + tanh(sqrt(2/pi) * (x + 0.044715 x^3)))`.
    GeluTanh,
    /// Rounds down.
    Floor,
    /// Rounds up.
    Ceil,
    /// Rounds half to even.
    Round,
    /// Rounds towards zero.
    Trunc,
    /// Logical not; bool in, bool out.
    LogicalNot,
    /// Bitwise complement of an integer.
    BitNot,
    /// Whether x is NaN; bool out.
    IsNan,
    /// Whether x is infinite; bool out.
    IsInf,
}

/// An elementwise function of two operands of one dtype (importers insert the casts).
/// Comparisons give bool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BinaryOp {
    /// `a + b` (integers wrap).
    Add,
    /// `a - b`.
    Sub,
    /// `a * b`.
    Mul,
    /// True division; floats only.
    Div,
    /// Quotient rounded to negative infinity; floats and integers. Integer division by zero gives 0.
    FloorDiv,
    /// Quotient rounded to zero; floats and integers. Integer division by zero gives 0.
    TruncDiv,
    /// Remainder with the sign of the divisor (`torch.remainder`). Integer `x mod 0` is 0.
    Rem,
    /// Remainder with the sign of the dividend (`torch.fmod`). Integer `x fmod 0` is 0.
    Fmod,
    /// `a^b`; integers: by repeated multiplication, a negative exponent gives 0 unless |a| is 1.
    Pow,
    /// The smaller; NaN wins.
    Min,
    /// The larger; NaN wins.
    Max,
    /// `atan2(a, b)`; floats only.
    Atan2,
    /// `a == b`.
    Eq,
    /// `a != b`.
    Ne,
    /// `a < b`.
    Lt,
    /// `a <= b`.
    Le,
    /// `a > b`.
    Gt,
    /// `a >= b`.
    Ge,
    /// Bitwise on integers, logical on bool.
    And,
    /// Bitwise on integers, logical on bool.
    Or,
    /// Bitwise on integers, logical on bool.
    Xor,
    /// `a << b`; integers; amounts outside `0..bits` give 0.
    Shl,
    /// Arithmetic `a >> b`; integers; amounts outside `0..bits` give the sign.
    Shr,
}

impl BinaryOp {
    /// Whether the result is bool.
    pub const fn is_comparison(self) -> bool {
        use BinaryOp::*;
        matches!(self, Eq | Ne | Lt | Le | Gt | Ge)
    }
}

/// A reduction over axes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ReduceOp {
    /// Sum. An empty sum is 0. f16 and bf16 accumulate in f32.
    Sum,
    /// Arithmetic mean; floats only.
    Mean,
    /// Product.
    Prod,
    /// Maximum; NaN wins; the axes must not be empty.
    Max,
    /// Minimum; NaN wins; the axes must not be empty.
    Min,
    /// Logical or; bool only.
    Any,
    /// Logical and; bool only.
    All,
    /// Index (i64) of the first maximum along exactly one axis; NaN counts as largest.
    ArgMax,
    /// Index (i64) of the first minimum along exactly one axis.
    ArgMin,
}

/// How positions outside the input are filled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum PadMode {
    /// With a constant.
    Constant(f64),
    /// Mirrored without repeating the edge.
    Reflect,
    /// The edge repeated.
    Replicate,
}

/// Resampling of the spatial axes of an `[N, C, spatial...]` tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UpsampleMode {
    /// `src = floor(dst * in / out)`.
    Nearest,
    /// Linear per axis, clamped at the edge.
    Linear {
        /// Whether corner centres align (`align_corners`).
        align_corners: bool,
    },
}

/// A positional mask known at compile time, applied inside attention without being stored.
/// With `qpos = i + offset`, key `j` is visible iff
/// `(!causal || j <= qpos) && window.is_none_or(|w| j > qpos - w)`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PositionMask {
    /// Keys after the query are hidden.
    pub causal: bool,
    /// Number of keys visible up to and including the query position.
    pub window: Option<i64>,
    /// Added to the query index: `key_len - query_len` aligns the mask at the bottom right.
    pub offset: Expr,
}

/// An operation. Operand order is given as `(a, b, ...)`; `?` marks an optional operand whose
/// presence is recorded by the op.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    // ---- creation -------------------------------------------------------------------------
    /// `()`: a tensor of `shape` filled with `value` (converted to `dtype` as a cast would; i64 is
    /// exact through [`Op::FullInt`]).
    Full {
        /// Element type.
        dtype: DType,
        /// Shape.
        shape: Vec<Expr>,
        /// Fill value; bool is 0 or 1.
        value: f64,
    },
    /// `()`: an integer tensor of `shape` filled with a symbolic value. With an empty shape this is
    /// how a size enters the data flow.
    FullInt {
        /// Integer element type.
        dtype: DType,
        /// Shape.
        shape: Vec<Expr>,
        /// Fill value.
        value: Expr,
    },
    /// `()`: `[start, start + step, ...]` of `len` integers.
    Iota {
        /// Integer or float element type.
        dtype: DType,
        /// Length.
        len: Expr,
        /// First value.
        start: Expr,
        /// Difference.
        step: i64,
    },

    // ---- elementwise ----------------------------------------------------------------------
    /// `(x)`.
    Unary(UnaryOp),
    /// `(a, b)`, broadcasting.
    Binary(BinaryOp),
    /// `(cond: bool, a, b)`, broadcasting: `cond ? a : b`.
    Where,
    /// `(x)`: converts the element type. Float to integer truncates and saturates, NaN gives 0;
    /// float to float rounds to nearest even; to bool is `x != 0`.
    Cast(DType),

    // ---- reductions and scans -------------------------------------------------------------
    /// `(x)`: reduces over `axes`, which are sorted and distinct.
    Reduce {
        /// What is computed.
        op: ReduceOp,
        /// Reduced axes.
        axes: Vec<usize>,
        /// Whether reduced axes stay as 1.
        keep_dims: bool,
    },
    /// `(x)`: inclusive running sum along `axis`.
    CumSum {
        /// The axis.
        axis: usize,
    },
    /// `(x)`: `exp(x - max) / sum(exp(x - max))` along `axis`, computed in at least f32.
    /// A row of only `-inf` gives NaN, as torch does.
    Softmax {
        /// The axis.
        axis: usize,
    },
    /// `(x)`: logarithm of [`Op::Softmax`].
    LogSoftmax {
        /// The axis.
        axis: usize,
    },
    /// `(x)`: the `k` largest along the last axis as two outputs
    /// (values, i64 indices), sorted in descending order, ties by lower index.
    TopK {
        /// How many.
        k: Expr,
    },

    // ---- norms ----------------------------------------------------------------------------
    /// `(x, weight?, bias?)`: normalises over the last `axes` axes; weight and bias have their shape.
    LayerNorm {
        /// Number of trailing axes.
        axes: usize,
        /// Added to the variance.
        eps: f64,
        /// Whether operand `weight` is present.
        weight: bool,
        /// Whether operand `bias` is present.
        bias: bool,
    },
    /// `(x, weight?)`: `x / sqrt(mean(x^2) + eps) * weight` over the last `axes` axes, in at least f32.
    RmsNorm {
        /// Number of trailing axes.
        axes: usize,
        /// Added to the mean square.
        eps: f64,
        /// Whether operand `weight` is present.
        weight: bool,
    },
    /// `(x: [N, C, ...], weight?: [C], bias?: [C])`.
    GroupNorm {
        /// Number of channel groups.
        groups: usize,
        /// Added to the variance.
        eps: f64,
        /// Whether operand `weight` is present.
        weight: bool,
        /// Whether operand `bias` is present.
        bias: bool,
    },

    // ---- contractions ---------------------------------------------------------------------
    /// `(a: [..., M, K], b)`: matrix product over the last two axes, batch axes broadcast, in at
    /// least f32. `b` is `[..., K, N]`, or `[..., N, K]` when `transpose_b`. Ranks are >= 2.
    /// The result has dtype of `a`.
    MatMul {
        /// Whether `b` is stored transposed (a torch Linear weight).
        transpose_b: bool,
    },
    /// `(x: [N, C, spatial...], w: [O, C/groups, k...], bias?: [O])`, 1 to 3 spatial axes.
    Conv {
        /// Per spatial axis.
        stride: Vec<usize>,
        /// Before and after, per spatial axis.
        padding: Vec<(usize, usize)>,
        /// Per spatial axis.
        dilation: Vec<usize>,
        /// Channel groups.
        groups: usize,
        /// Whether operand `bias` is present.
        bias: bool,
    },
    /// `(x: [N, C, spatial...], w: [C, O/groups, k...], bias?: [O])`: the gradient of [`Op::Conv`].
    ConvTranspose {
        /// Per spatial axis.
        stride: Vec<usize>,
        /// Per spatial axis.
        padding: Vec<usize>,
        /// Per spatial axis.
        output_padding: Vec<usize>,
        /// Per spatial axis.
        dilation: Vec<usize>,
        /// Channel groups.
        groups: usize,
        /// Whether operand `bias` is present.
        bias: bool,
    },
    /// `(q: [B, H, Sq, D], k: [B, Hkv, Sk, D], v: [B, Hkv, Sk, Dv], mask?)`, `H % Hkv == 0`;
    /// query head `h` uses key head `h / (H / Hkv)`.
    /// `softmax(q k^T * scale + mask) v` in at least f32. `mask` broadcasts to `[B, H, Sq, Sk]`:
    /// bool (true = visible) or the dtype of `q` (added). A row with no visible key gives zeros.
    Attention {
        /// Multiplies the scores.
        scale: f64,
        /// Whether operand `mask` is present.
        mask: bool,
        /// A further mask that depends on positions only.
        position: Option<PositionMask>,
    },

    // ---- pooling and resampling -----------------------------------------------------------
    /// `(x: [N, C, spatial...])`: windowed maximum or mean. Padding counts as `-inf` for Max.
    Pool {
        /// Max or Mean (other reductions are refused by the verifier).
        op: ReduceOp,
        /// Window per spatial axis.
        kernel: Vec<usize>,
        /// Per spatial axis.
        stride: Vec<usize>,
        /// Before and after, per spatial axis.
        padding: Vec<(usize, usize)>,
        /// Per spatial axis.
        dilation: Vec<usize>,
        /// Mean: whether padding counts in the divisor.
        count_include_pad: bool,
    },
    /// `(x: [N, C, spatial...])`: mean over windows `floor(i*in/out) .. ceil((i+1)*in/out)`.
    AdaptiveAvgPool {
        /// Output size per spatial axis.
        out: Vec<Expr>,
    },
    /// `(x: [N, C, spatial...])`.
    Upsample {
        /// Output size per spatial axis.
        out: Vec<Expr>,
        /// Interpolation.
        mode: UpsampleMode,
    },

    // ---- gather and scatter ---------------------------------------------------------------
    /// `(x, index: integer)`: replaces axis `axis` of `x` by the shape of `index`:
    /// `out[a.., i.., b..] = x[a.., index[i..], b..]`. Embedding is `axis = 0`. Negative indices
    /// count from the end; indices out of range are the caller's error and read as clamped.
    IndexSelect {
        /// The axis.
        axis: usize,
    },
    /// `(x, index)`, equal ranks: `out[i..] = x[i.. with i[axis] = index[i..]]` (`torch.gather`).
    Gather {
        /// The axis.
        axis: usize,
    },
    /// `(x, index...)`: advanced indexing. Indices for the axes in `axes` (sorted, distinct) broadcast together to
    /// a shape that replaces them: at the place of the first axis when `axes` are adjacent, else in front.
    IndexMulti {
        /// Indexed axes, one per index operand.
        axes: Vec<usize>,
    },
    /// `(x, index: [n], src)`: a copy of `x` with `out[.., index[i], ..] = src[.., i, ..]` along
    /// `axis` (`index_copy`), or added when `accumulate`. Static-cache updates are this.
    IndexCopy {
        /// The axis.
        axis: usize,
        /// Adds instead of replacing.
        accumulate: bool,
    },
    /// `(x, index..., src)`: a copy of `x` with the positions that [`Op::IndexMulti`] would read
    /// replaced by `src` (broadcast), or added to when `accumulate` (`index_put`).
    IndexPut {
        /// Indexed axes, one per index operand.
        axes: Vec<usize>,
        /// Adds instead of replacing.
        accumulate: bool,
    },
    /// `(x, index, src)`, equal ranks: `out[i.. with i[axis] = index[i..]] = src[i..]`
    /// (`torch.scatter`), or added when `accumulate`.
    Scatter {
        /// The axis.
        axis: usize,
        /// Adds instead of replacing.
        accumulate: bool,
    },
    /// `(x, src)`: a copy of `x` with the region that [`Op::Slice`] would read replaced by `src`.
    SliceScatter {
        /// The axis.
        axis: usize,
        /// First index.
        start: Expr,
        /// Step, at least 1.
        step: i64,
    },

    // ---- layout ---------------------------------------------------------------------------
    /// `(x)`: the same elements in row-major order under another shape.
    Reshape(Vec<Expr>),
    /// `(x)`: output axis `i` is input axis `perm[i]`.
    Permute(Vec<usize>),
    /// `(x)`: broadcasts to `shape`, aligning at the right.
    Expand(Vec<Expr>),
    /// `(x)`: elements `start, start + step, ...` below `end` of `axis`; bounds are already clamped
    /// to the axis.
    Slice {
        /// The axis.
        axis: usize,
        /// First index.
        start: Expr,
        /// One past the last index.
        end: Expr,
        /// Step, at least 1.
        step: i64,
    },
    /// `(x)`: reverses axes.
    Flip(Vec<usize>),
    /// `(x...)`: joins along `axis`.
    Concat {
        /// The axis.
        axis: usize,
    },
    /// `(x)`: adds `before` and `after` elements per axis; negative crops (Constant only).
    Pad {
        /// Per axis of `x`: before and after.
        pads: Vec<(Expr, Expr)>,
        /// What is filled in.
        mode: PadMode,
    },
}

//! What the middle of the compiler asks a backend for: one kernel, independent of the target.

use std::fmt;

use serde::{Deserialize, Serialize};
use zeroforge_artifact::{DType, abi};

use crate::loop_ir::{Body, InstId, LoopKernel};

/// A kernel to generate. Equal specs give one kernel; the backend names its entry after the
/// content hash.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KernelSpec {
    /// Elementwise, reductions, norms, layout.
    Loop(LoopKernel),
    /// Contraction with fused epilogue.
    Gemm(GemmSpec),
    /// Fused attention.
    Attention(AttentionSpec),
}

impl KernelSpec {
    /// Bytes of the parameter block that holds the operands and sizes of a launch as the spec has them.
    pub fn param_bytes(&self) -> u64 {
        match self {
            KernelSpec::Loop(kernel) => 8 * (kernel.operands.len() as u64 + u64::from(kernel.ints)),
            KernelSpec::Gemm(_) => size_of::<abi::zf_gemm_params>() as u64,
            KernelSpec::Attention(_) => size_of::<abi::zf_attention_params>() as u64,
        }
    }
}

/// How the B operand of a contraction lies in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BLayout {
    /// `[K, N]`, N contiguous, row stride given.
    RowMajorKn,
    /// `[N, K]`, K contiguous, row stride given (a torch Linear weight).
    RowMajorNk,
    /// A weight packed at compile time by the `PackPanels` weight
    /// transform: panels of `nr` columns, `[ceil(N/nr)][K][nr]`, zero padded.
    Panels {
        /// Columns per panel.
        nr: u32,
    },
}

/// Columns per panel of a packed weight, the same for every target, so that an artifact holds each
/// weight once. 48 four-byte columns are three vectors of 512 bits, six of 256 and whole sectors of a
/// GPU's memory; 32 where 48 would pad.
pub fn panel_columns(n: Option<i64>) -> u32 {
    if n.is_some_and(|n| n % 48 == 0) { 48 } else { 32 }
}

/// Most extra operands an epilogue may load.
pub const MAX_EPILOGUE_OPERANDS: usize = 6;

/// `C[b0, b1, m, n] = epilogue(sum_k A[b0, b1, m, k] * B[b0, b1, k, n])`.
///
/// Parameter block: `zf_gemm_params` of `abi.h`. A's K axis is contiguous; its row and batch
/// strides are free. C's N axis is contiguous. Accumulates in F32 (F64 for F64).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GemmSpec {
    /// Memory type of A.
    pub a: DType,
    /// Memory type of B.
    pub b: DType,
    /// Memory type of C.
    pub c: DType,
    /// Layout of B.
    pub b_layout: BLayout,
    /// M when static, for tile selection.
    pub m: Option<i64>,
    /// N when static.
    pub n: Option<i64>,
    /// K when static.
    pub k: Option<i64>,
    /// What happens to the accumulator before the store.
    pub epilogue: Epilogue,
}

/// Pointwise work on the accumulator: a [`Body`] in which `Acc(0)` is the product (F32 or F64),
/// `Outer(0..4)` are b0, b1, m, n, and `Load { operand: i, index, .. }` reads extra operand `i`
/// (`index` is an I64 expression built from `Outer` and `Param(4*i .. 4*i+4)`, the four
/// element strides of that operand in `zf_gemm_params::extra[i]`). The middle always builds the
/// index as `b0*s0 + b1*s1 + m*s2 + n*s3`, with the terms of strides known to be zero left out and
/// a stride known to be one not multiplied, so that backends can see broadcast and contiguity.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Epilogue {
    /// Memory types of the extra operands.
    pub extra: Vec<DType>,
    /// Expressions; empty means "store the accumulator".
    pub body: Body,
    /// The stored value; `None` with an empty body.
    pub result: Option<InstId>,
}

/// How a mask operand enters attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MaskKind {
    /// No mask operand.
    None,
    /// One byte per score, nonzero = visible.
    Bool,
    /// Added to the scaled score, in this type.
    Additive(DType),
}

/// `O = softmax(Q K^T * scale + mask) V` per batch and head, with [`zeroforge_graph::Op::Attention`]'s
/// meaning. Parameter block: `zf_attention_params` of `abi.h`; the last axis of Q, K, V and O is
/// contiguous, every other stride is free (mask: all four strides free, 0 broadcasts).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AttentionSpec {
    /// Memory type of Q, K, V and O.
    pub dtype: DType,
    /// Head dimension of Q and K; static.
    pub head_dim: i64,
    /// Head dimension of V and O; static.
    pub value_dim: i64,
    /// Mask operand.
    pub mask: MaskKind,
    /// Keys after `i + offset` hidden (the offset is a parameter).
    pub causal: bool,
    /// A sliding window (its width is a parameter).
    pub window: bool,
}

impl fmt::Display for KernelSpec {
    /// One line for people: `gemm f32[?x384x1536] panels16 +epilogue(2)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = |v: Option<i64>| v.map_or("?".to_owned(), |v| v.to_string());
        match self {
            KernelSpec::Loop(k) => {
                let kind = if k.is_elementwise() { "elementwise" } else { "reduction" };
                write!(f, "{kind} {} operands {} stages", k.operands.len(), k.stages.len())
            }
            KernelSpec::Gemm(g) => {
                write!(f, "gemm {}x{}->{} ", g.a, g.b, g.c)?;
                write!(f, "[{}x{}x{}] ", size(g.m), size(g.n), size(g.k))?;
                match g.b_layout {
                    BLayout::RowMajorKn => f.write_str("kn")?,
                    BLayout::RowMajorNk => f.write_str("nk")?,
                    BLayout::Panels { nr } => write!(f, "panels{nr}")?,
                }
                write!(f, " epilogue {} insts", g.epilogue.body.insts.len())
            }
            KernelSpec::Attention(a) => {
                write!(f, "attention {} d{} dv{}", a.dtype, a.head_dim, a.value_dim)?;
                if a.causal {
                    f.write_str(" causal")?;
                }
                if a.window {
                    f.write_str(" window")?;
                }
                match a.mask {
                    MaskKind::None => Ok(()),
                    MaskKind::Bool => f.write_str(" bool mask"),
                    MaskKind::Additive(d) => write!(f, " {d} mask"),
                }
            }
        }
    }
}

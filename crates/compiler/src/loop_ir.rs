//! The loop IR: one kernel as a loop nest over an index space, printed as C and as CUDA C++.
//!
//! A [`LoopKernel`] covers everything that is not a contraction or attention: elementwise chains,
//! gathers, layout changes, reductions, norms and softmax, with whatever pointwise work was fused
//! around them. Layout ops do not appear: they have become index arithmetic inside loads.
//!
//! ```text
//! for each point of `outer` (parallel):          // one row
//!     for each stage in order:                   // each stage is one loop over `inner`
//!         Reduce: acc = fold(op, value)          // acc usable by later stages
//!         Store:  operand[index] = value
//! ```
//!
//! An elementwise kernel is one whose stages are all stores; printers may then flatten, tile and
//! vectorise `outer x inner` as they like. Expressions are typed instructions in [`Body`], in
//! topological order; what depends on no inner index is the same for the whole row and printers
//! hoist it.

use serde::{Deserialize, Serialize};
use zeroforge_artifact::{DType, Expr};
use zeroforge_graph::op::{BinaryOp, UnaryOp};

/// Index of an instruction in its [`Body`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct InstId(pub u32);

/// A typed instruction. Arithmetic happens in `dtype`; f16 and bf16 appear only as the memory type
/// of operands: loads convert to F32, stores convert back. Index arithmetic is I64, predicates are
/// Bool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Inst {
    /// What is computed.
    pub kind: InstKind,
    /// Type of the result: Bool, I32, I64, F32 or F64 (U8, I8, I16 widen to I32 on load).
    pub dtype: DType,
}

/// The instructions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InstKind {
    /// An integer constant.
    Int(i64),
    /// A float constant, by bits of f64 so that kernels compare exactly.
    FloatBits(u64),
    /// The i64 kernel parameter `ints[i]` (a symbolic size or stride evaluated at bind time).
    Param(u32),
    /// Index along `outer[i]`.
    Outer(u32),
    /// Index along `inner[i]`; only inside stages.
    Inner(u32),
    /// Result of an earlier reduce stage. In a contraction's epilogue `Acc(0)` is the accumulated
    /// product.
    Acc(u32),
    /// `operand[index]`, an element offset; when `guard` is false nothing is read and the value is 0.
    Load {
        /// Which operand.
        operand: u32,
        /// I64 element offset.
        index: InstId,
        /// Bool.
        guard: Option<InstId>,
    },
    /// Elementwise; same meaning as in the graph.
    Unary(UnaryOp, InstId),
    /// Elementwise on equal types; same meaning as in the graph. On I64 index arithmetic FloorDiv
    /// and Rem have a non-negative dividend and a positive divisor unless `signed` work needs more:
    /// printers must be right for every value.
    Binary(BinaryOp, InstId, InstId),
    /// `cond ? a : b`.
    Select(InstId, InstId, InstId),
    /// Conversion, with the graph's Cast semantics. A cast to F16 or Bf16 is a rounding: the result
    /// is held in F32 but takes only values of that type (then `dtype` is F32 and this names the
    /// rounding type).
    Cast(DType, InstId),
}

/// Instructions in topological order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Body {
    /// The instructions.
    pub insts: Vec<Inst>,
}

impl Body {
    /// Appends an instruction, reusing an equal one.
    pub fn push(&mut self, kind: InstKind, dtype: DType) -> InstId {
        let inst = Inst { kind, dtype };
        if let Some(at) = self.insts.iter().position(|i| *i == inst) {
            return InstId(at as u32);
        }
        self.insts.push(inst);
        InstId(self.insts.len() as u32 - 1)
    }

    /// The instruction behind an id.
    ///
    /// # Panics
    /// If the id is of another body.
    pub fn inst(&self, id: InstId) -> &Inst {
        &self.insts[id.0 as usize]
    }
}

/// A size in a kernel: baked in or passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Extent {
    /// Known at compile time.
    Const(i64),
    /// The i64 kernel parameter `ints[i]`.
    Param(u32),
}

/// Memory that a kernel touches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Operand {
    /// Element type in memory.
    pub dtype: DType,
    /// Whether the kernel writes it. A written operand overlaps no other operand unless the same
    /// elements are read and written at the same point (in-place elementwise).
    pub written: bool,
    /// A power of two that divides the address in every launch; 0 where no more is known than that elements are
    /// aligned.
    #[serde(default, skip_serializing_if = "is_unknown")]
    pub align: u32,
}

fn is_unknown(align: &u32) -> bool {
    *align == 0
}

/// How a reduce stage folds. Float sums of F32 accumulate in F32 (printers use several partial
/// sums), argmin/argmax give the I64 inner index, ties to the lowest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fold {
    /// Sum.
    Sum,
    /// Product.
    Prod,
    /// Maximum; NaN wins.
    Max,
    /// Minimum; NaN wins.
    Min,
    /// Logical or.
    Any,
    /// Logical and.
    All,
    /// Linear inner index of the first maximum.
    ArgMax,
    /// Linear inner index of the first minimum.
    ArgMin,
    /// Inclusive running sum: `Acc` of the next store stage is the prefix up to its inner index.
    /// Only as the stage directly before one store stage, on one inner axis.
    Scan,
}

/// One loop over `inner`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// `acc[k] = fold(value)`, where `k` counts the reduce stages before this one.
    Reduce {
        /// How.
        fold: Fold,
        /// What is folded; its dtype is the accumulator's.
        value: InstId,
    },
    /// `operand[index] = value`, converted to the operand's dtype; skipped where `guard` is false.
    Store {
        /// Which operand.
        operand: u32,
        /// I64 element offset.
        index: InstId,
        /// The value.
        value: InstId,
        /// Bool.
        guard: Option<InstId>,
    },
}

/// A loop-nest kernel. Two equal kernels are one kernel: `entry` is not part of it.
///
/// Parameter block: `operands.len()` addresses (u64), then `ints.len()` i64 values, 8-byte aligned,
/// in order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LoopKernel {
    /// Memory operands.
    pub operands: Vec<Operand>,
    /// Number of i64 parameters.
    pub ints: u32,
    /// For each of the first parameters, a power of two that divides its value in every launch; 1 for those beyond.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub multiples: Vec<u32>,
    /// Parallel index space, outermost first.
    pub outer: Vec<Extent>,
    /// Row index space, outermost first; the last axis is the one to vectorise. Never empty: a
    /// kernel with no natural row has one of extent 1.
    pub inner: Vec<Extent>,
    /// Expressions.
    pub body: Body,
    /// Stages in order.
    pub stages: Vec<Stage>,
}

impl LoopKernel {
    /// Whether every stage is a store.
    pub fn is_elementwise(&self) -> bool {
        self.stages.iter().all(|s| matches!(s, Stage::Store { .. }))
    }

    /// A power of two that divides parameter `ints[i]`.
    pub fn multiple(&self, param: u32) -> i64 {
        self.multiples.get(param as usize).map_or(1, |&m| i64::from(m))
    }

    /// Size of the parameter block in bytes.
    pub fn param_bytes(&self) -> u32 {
        8 * (self.operands.len() as u32 + self.ints)
    }
}

/// A [`LoopKernel`] with the sizes of one launch, for choosing grids and tasks.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LoopSizes {
    /// Extent of each `outer` axis.
    pub outer: Vec<Expr>,
    /// Extent of each `inner` axis.
    pub inner: Vec<Expr>,
}

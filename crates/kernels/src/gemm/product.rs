//! What the f32 and the skinny products have in common: where B lies, operands, result.

use zeroforge_artifact::Expr;

use super::plan::{Operand, refuse};
use super::{Element, Epilogue};
use crate::Refusal;

/// Most operands of an epilogue (`ZF_MAX_EPILOGUE_OPERANDS`).
const MAX_EXTRA: usize = zeroforge_artifact::abi::ZF_MAX_EPILOGUE_OPERANDS as usize;

/// How B lies in memory (`zf::BLayout`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Weights {
    /// `[N, K]`, K contiguous: a torch Linear weight.
    Nk,
    /// `[K, N]`, N contiguous.
    Kn,
    /// `[ceil(N / columns)][K][columns]`, the last panel padded with zeros.
    Panels {
        /// Columns of a panel.
        columns: u32,
    },
}

impl std::fmt::Display for Weights {
    /// As it stands in a kernel's description.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Weights::Nk => f.write_str("weights by rows of k"),
            Weights::Kn => f.write_str("weights by rows of n"),
            Weights::Panels { columns } => write!(f, "weights in panels of {columns}"),
        }
    }
}

impl Weights {
    /// Its name in device code, and the columns of a panel.
    pub(super) fn text(self) -> (&'static str, u32) {
        match self {
            Weights::Nk => ("zf::BLayout::NK", 0),
            Weights::Kn => ("zf::BLayout::KN", 0),
            Weights::Panels { columns } => ("zf::BLayout::PANELS", columns),
        }
    }
}

/// Operands and sizes of a launch of `C[b0, b1, m, n] = epilogue(sum_k A[b0, b1, m, k] * B[b0, b1, k, n])`. Strides
/// are in elements; a batch stride of 0 shares the operand.
#[derive(Clone, Debug, PartialEq)]
pub struct Product {
    /// Batch extents.
    pub batch: [Expr; 2],
    /// Rows of A and C.
    pub m: Expr,
    /// Columns of C.
    pub n: Expr,
    /// Length of the sums.
    pub k: Expr,
    /// A, strides {b0, b1, row, 1}.
    pub a: Operand,
    /// B, strides {b0, b1, row, 1}, where a row is an n, a k or a panel.
    pub b: Operand,
    /// C, strides {b0, b1, row, 1}.
    pub c: Operand,
    /// Operands of the epilogue, strides {b0, b1, row, column}.
    pub extra: Vec<Operand>,
}

impl Product {
    /// The rules that do not depend on the kernel.
    pub(super) fn check(&self, epilogue: &Epilogue) -> Result<(), Refusal> {
        let wanted = epilogue.elements().len();
        if self.extra.len() != wanted {
            return refuse(
                "extra",
                format!("has {} operands; the epilogue reads {wanted}", self.extra.len()),
            );
        }
        for (name, size) in [
            ("m", &self.m),
            ("n", &self.n),
            ("k", &self.k),
            ("batch", &self.batch[0]),
            ("batch", &self.batch[1]),
        ] {
            if size.as_const().is_some_and(|n| !(1..1 << 30).contains(&n)) {
                return refuse(name, format!("is {size}; 1 to 2^30 - 1 are allowed"));
            }
        }
        for (name, operand, size) in
            [("a", &self.a, &self.k), ("b", &self.b, &self.n), ("c", &self.c, &self.n)]
        {
            if !operand.strides[3].is(1) && !size.is(1) {
                return refuse(
                    name,
                    format!(
                        "has stride `{}` along its contiguous axis; it must be 1",
                        operand.strides[3]
                    ),
                );
            }
        }
        Ok(())
    }
}

/// What an instance can store.
pub(super) fn check_result(out: Element, epilogue: &Epilogue) -> Result<(), Refusal> {
    if !matches!(out, Element::F32 | Element::Bf16 | Element::F16) {
        return refuse("c", format!("is {out:?}; these products store f32, bf16 and f16"));
    }
    if epilogue.gate.is_some() {
        return refuse(
            "epilogue",
            "has a gate, which these products do not; gate in a kernel behind",
        );
    }
    let extras = epilogue.elements().len();
    if extras > MAX_EXTRA {
        return refuse("extra", format!("has {extras} operands; at most {MAX_EXTRA} are allowed"));
    }
    if epilogue.copied().is_some() {
        return refuse(
            "extra",
            "is read by tensor copies, which this kernel has none of; give it as `Full`",
        );
    }
    Ok(())
}

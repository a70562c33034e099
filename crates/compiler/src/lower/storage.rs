//! The memory that lowered steps name: storages, before any of them has an address.

use zeroforge_artifact::{DType, Expr};

/// Index into [`super::Lowered::storages`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StorageId(pub u32);

/// A region of memory, dense, holding one tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Storage {
    /// For inspection.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// Number of elements (for packed weights, including padding).
    pub numel: Expr,
    /// What backs it.
    pub kind: StorageKind,
}

impl Storage {
    /// Size in bytes.
    pub fn bytes(&self) -> Expr {
        self.numel.clone() * Expr::constant(self.dtype.size() as i64)
    }
}

/// What backs a storage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StorageKind {
    /// Scratch of one call, placed by the memory plan.
    Temporary,
    /// [`zeroforge_graph::Graph::weights`] at this index, laid out as said.
    Weight {
        /// Index of the graph's weight.
        weight: u32,
        /// How its bytes are laid out.
        layout: WeightLayout,
    },
    /// The caller's input of this index.
    Input(u32),
    /// The program's output of this index.
    Output(u32),
    /// A module buffer that lives across calls; starts as this weight of the graph.
    State(u32),
}

/// The layout of a weight in the artifact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WeightLayout {
    /// As the graph has it, row-major.
    RowMajor,
    /// GEMM panels of `nr` columns; `transposed` when the weight is stored `[N, K]`.
    Panels {
        /// Columns per panel.
        nr: u32,
        /// Whether the weight is `[N, K]` (else `[K, N]`).
        transposed: bool,
    },
}

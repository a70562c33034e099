//! What a target must provide. Two implementations: `cpu` and `cuda`.

use zeroforge_artifact::Expr;

use crate::kernel_spec::{BLayout, GemmSpec, KernelSpec, LaunchSizes};

/// A target's code generator. Pure: the same spec gives the same text.
pub trait Backend: Send + Sync {
    /// Source of one kernel, complete but for the target's shared prelude.
    fn generate(&self, spec: &KernelSpec) -> Result<KernelSource, CodegenError>;

    /// The launch grid (CUDA) or task counts (CPU) of a generated kernel for symbolic sizes. Depends
    /// on nothing but its arguments.
    fn grid(&self, spec: &KernelSpec, source: &KernelSource, sizes: &LaunchSizes) -> [Expr; 3];

    /// How a constant B operand of this contraction should lie in memory; the middle then stores the
    /// weight that way and sets [`GemmSpec::b_layout`]. `transposed` says that the weight is
    /// `[N, K]`.
    fn weight_layout(&self, spec: &GemmSpec, transposed: bool) -> BLayout;
}

/// Generated source of one kernel.
#[derive(Clone, Debug, PartialEq)]
pub struct KernelSource {
    /// Entry point name, unique by content: `zf_<kind>_<hash>`.
    pub entry: String,
    /// Source text of the kernel.
    pub text: String,
    /// Threads per block (CUDA); 1 on the CPU.
    pub block: u32,
    /// Dynamic shared memory (CUDA) or scratch bytes per worker (CPU).
    pub shared_bytes: u32,
    /// Size of the parameter block.
    pub param_bytes: u32,
    /// One line for people.
    pub doc: String,
    /// Tile or block sizes that [`Backend::grid`] needs, meaning private to the backend.
    pub tile: [i64; 4],
}

/// A spec that the backend cannot generate.
#[derive(Debug, thiserror::Error)]
pub enum CodegenError {
    /// The backend has no kernel for it.
    #[error("target {target} has no kernel for {spec}: {reason}")]
    Unsupported {
        /// Target name.
        target: String,
        /// The spec, one line.
        spec: String,
        /// What is missing.
        reason: String,
    },
    /// Writing source text failed.
    #[error("writing kernel source failed: {0}")]
    Format(#[from] std::fmt::Error),
}

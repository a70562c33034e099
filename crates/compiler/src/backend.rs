//! What a target must provide. Two implementations: `cpu` and `cuda`.

use zeroforge_artifact::program::Param;
use zeroforge_artifact::{Expr, SymbolRange};

use crate::kernel_spec::{BLayout, GemmSpec, KernelSpec};
use crate::launch::Launch;
use crate::lower::StorageId;

/// A target's code generator. Pure: equal arguments give equal results.
pub trait Backend: Send + Sync {
    /// The kernel for a launch of a spec, and how it is launched; symbols have values in `ranges`. Which of
    /// its kernels a backend takes may depend on the launch (strides that a copy engine can follow), so one
    /// spec may have several.
    fn plan(
        &self,
        spec: &KernelSpec,
        launch: &Launch,
        ranges: &[SymbolRange],
    ) -> Result<Planned, CodegenError>;

    /// How a constant B operand of this contraction should lie in memory; the middle then stores the
    /// weight that way and sets [`GemmSpec::b_layout`]. `transposed` says that the weight is
    /// `[N, K]`.
    fn weight_layout(&self, spec: &GemmSpec, transposed: bool) -> BLayout;
}

/// A kernel, and how a step launches it.
#[derive(Clone, Debug, PartialEq)]
pub struct Planned {
    /// The kernel. Equal sources are one kernel.
    pub source: KernelSource,
    /// The launch grid (CUDA; tiles of a persistent kernel) or task counts (CPU).
    pub grid: [Expr; 3],
    /// Its parameters, unless they are [`Launch::block`].
    pub own: Option<OwnParams>,
}

/// Parameters of a kernel that takes a launch in a form of its own.
#[derive(Clone, Debug, PartialEq)]
pub struct OwnParams {
    /// What is written where. Buffers are indices into `buffers`, offsets in bytes.
    pub params: Vec<Param>,
    /// What the parameters point to.
    pub buffers: Vec<PlanBuffer>,
    /// Bytes of [`PlanBuffer::Workspace`].
    pub workspace: Expr,
    /// Bytes of [`PlanBuffer::Counters`].
    pub counters: u32,
}

/// What a parameter points to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlanBuffer {
    /// An operand's memory.
    Storage(StorageId),
    /// Memory of this step alone, not initialised.
    Workspace,
    /// Words that are zero before and after the step.
    Counters,
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
    /// Blocks of a cluster; 1 for none.
    pub cluster: u32,
    /// Resident blocks per SM of a persistent kernel.
    pub blocks_per_sm: Option<u32>,
    /// One line for people.
    pub doc: String,
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

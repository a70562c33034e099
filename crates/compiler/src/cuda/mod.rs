//! The CUDA backend: kernels as CUDA C++ on the layers of `kernels/`, compiled to PTX and cubin.
//!
//! A generated source chooses a tile and spells the fused expressions; what is written by hand is in
//! `kernels/` and included by name. Contractions and attention have two kinds of kernels: by tensor copies and
//! wgmma (`zeroforge-kernels`), where types, strides and sizes allow that for every value of the symbols, and by
//! mma.sync for everything else. A kernel's description says which it is and, of the second kind, why.

mod compile;
mod contraction;
mod flash_attention;
mod loops;
mod mma_attention;
mod mma_gemm;
mod nvrtc;
mod tensor_gemm;
mod toolchain;

use zeroforge_artifact::{DType, Expr, SymbolRange, Target};

pub use compile::{CudaCompileError, CudaModule, compile, compile_source, kernel_source};
pub use nvrtc::Nvrtc;
pub use toolchain::{Found, NVDISASM, NVRTC, Wheel, find_nvdisasm, find_nvrtc, toolchain_folder};

use zeroforge_kernels::{Instance, Plan};

use crate::backend::{Backend, CodegenError, KernelSource, OwnParams, PlanBuffer, Planned};
use crate::kernel_spec::{BLayout, GemmSpec, KernelSpec, panel_columns};
use crate::launch::Launch;

/// Stands for the entry name while the text is hashed.
const ENTRY: &str = "zf_kernel_entry";
/// Shared memory that a block may have on Hopper (CUDA C++ Programming Guide, compute capability 9.0).
const MAX_SHARED_BYTES: i64 = 227 * 1024;

/// SMs of the slice that kernels are chosen for if nothing else is said: MIG 3g.71gb of an H200, which ZeroGPU lends.
const DEFAULT_SMS: u32 = 60;

/// Generates CUDA C++.
#[derive(Clone, Copy, Debug)]
pub struct CudaBackend {
    target: Target,
    sms: u32,
}

/// A kernel of `zeroforge-kernels` with its launch.
struct TensorKernel {
    instance: Instance,
    plan: Plan,
    /// What the plan's buffer numbers stand for.
    buffers: Vec<PlanBuffer>,
    /// Bytes of counters.
    counters: u32,
}

/// Whether a size is never zero.
fn at_least_one(size: &Expr, ranges: &[SymbolRange]) -> bool {
    size.bounds(ranges).min >= 1
}

/// Text and launch shape of a kernel before it has a name.
struct Generated {
    text: String,
    kind: &'static str,
    block: u32,
    shared_bytes: i64,
    param_bytes: u32,
    /// Blocks that share a unit of work.
    cluster: u32,
    tile: [i64; 4],
}

impl CudaBackend {
    /// A backend for an architecture.
    pub fn new(target: Target) -> CudaBackend {
        CudaBackend { target, sms: DEFAULT_SMS }
    }

    /// Kernels chosen for a slice of so many SMs, if it is not the one that ZeroGPU lends; they run on every other
    /// one too.
    pub fn for_sms(self, sms: Option<u32>) -> CudaBackend {
        CudaBackend { sms: sms.unwrap_or(DEFAULT_SMS), ..self }
    }

    /// The kernel by tensor copies and wgmma, or why there is none.
    fn tensor_kernel(
        &self,
        spec: &KernelSpec,
        launch: &Launch,
        ranges: &[SymbolRange],
    ) -> Result<TensorKernel, String> {
        if self.target != Target::SM_90A {
            return Err(format!("{} has no wgmma", self.target));
        }
        match (spec, launch) {
            (KernelSpec::Gemm(gemm), Launch::Gemm(launch)) => {
                contraction::choose(gemm, launch, ranges, self.sms)
            }
            (KernelSpec::Attention(attention), Launch::Attention(launch)) => {
                flash_attention::plan_launch(attention, launch, ranges)
            }
            _ => Err("a loop nest".to_owned()),
        }
    }

    /// What a kernel of `zeroforge-kernels` is to a program.
    fn planned(spec: &KernelSpec, kernel: TensorKernel) -> Planned {
        let TensorKernel { instance, plan, buffers, counters } = kernel;
        let mut params = plan.params;
        params.sort_by_key(|p| p.at);
        let source = KernelSource {
            entry: instance.entry,
            text: instance.source,
            block: instance.block,
            shared_bytes: instance.shared_bytes,
            param_bytes: instance.param_bytes,
            cluster: instance.cluster,
            blocks_per_sm: instance.blocks_per_sm,
            doc: format!("{spec}; {}", instance.doc),
        };
        let own = OwnParams { params, buffers, workspace: plan.workspace, counters };
        Planned { source, grid: plan.grid, own: Some(own) }
    }

    fn unsupported(&self, spec: &KernelSpec, reason: String) -> CodegenError {
        CodegenError::Unsupported {
            target: self.target.to_string(),
            spec: spec.to_string(),
            reason,
        }
    }
}

/// Blocks of a launch of a generated kernel. All grids are one-dimensional: a kernel takes its block index
/// apart itself.
fn blocks(spec: &KernelSpec, tile: [i64; 4], launch: &Launch) -> Expr {
    let size = |i: usize| Expr::constant(tile[i]);
    match (spec, launch) {
        (KernelSpec::Loop(kernel), Launch::Loop(l)) => {
            let rows = Expr::product(&l.sizes.outer);
            let points = rows.clone() * Expr::product(&l.sizes.inner);
            let work = if kernel.is_elementwise() { points } else { rows };
            work.ceil_div(&size(0))
        }
        (KernelSpec::Gemm(_), Launch::Gemm(l)) => {
            let batch = l.batch[0].clone() * l.batch[1].clone();
            match tile[2] {
                // One thread per element.
                1 => (batch * l.m.clone() * l.n.clone()).ceil_div(&size(0)),
                _ => batch * l.m.ceil_div(&size(0)) * l.n.ceil_div(&size(1)),
            }
        }
        (KernelSpec::Attention(_), Launch::Attention(l)) => {
            l.batch.clone() * l.heads.clone() * l.queries.ceil_div(&size(0))
        }
        // A launch of another kind: nothing to do.
        _ => Expr::constant(0),
    }
}

impl Backend for CudaBackend {
    fn plan(
        &self,
        spec: &KernelSpec,
        launch: &Launch,
        ranges: &[SymbolRange],
    ) -> Result<Planned, CodegenError> {
        let mut doc = spec.to_string();
        if !matches!(spec, KernelSpec::Loop(_)) {
            match self.tensor_kernel(spec, launch, ranges) {
                Ok(kernel) => return Ok(CudaBackend::planned(spec, kernel)),
                Err(reason) => doc = format!("{doc}; mma.sync: {reason}"),
            }
        }
        let generated = match spec {
            KernelSpec::Loop(kernel) => loops::generate(kernel)?,
            KernelSpec::Gemm(gemm) => mma_gemm::generate(gemm)?,
            KernelSpec::Attention(attention) => mma_attention::generate(attention)?,
        };
        if generated.shared_bytes > MAX_SHARED_BYTES {
            let reason = format!(
                "it would need {} bytes of shared memory, a block has {MAX_SHARED_BYTES}",
                generated.shared_bytes
            );
            return Err(self.unsupported(spec, reason));
        }
        let hash = blake3::hash(generated.text.as_bytes()).to_hex();
        let entry = format!("zf_{}_{}", generated.kind, &hash.as_str()[..16]);
        let source = KernelSource {
            text: generated.text.replace(ENTRY, &entry),
            entry,
            block: generated.block,
            shared_bytes: generated.shared_bytes as u32,
            param_bytes: generated.param_bytes,
            cluster: generated.cluster,
            blocks_per_sm: None,
            doc,
        };
        let blocks =
            blocks(spec, generated.tile, launch) * Expr::constant(generated.cluster.into());
        Ok(Planned { source, grid: [blocks, Expr::constant(1), Expr::constant(1)], own: None })
    }

    /// The CPU's panels, so that an artifact for both holds a weight once; 16-bit weights as the model has them,
    /// which is how wgmma reads them.
    fn weight_layout(&self, spec: &GemmSpec, transposed: bool) -> BLayout {
        let wgmma = self.target == Target::SM_90A && spec.a == spec.b;
        match spec.b {
            DType::Bf16 | DType::F16 if wgmma && transposed => BLayout::RowMajorNk,
            DType::Bf16 | DType::F16 if wgmma => BLayout::RowMajorKn,
            _ => BLayout::Panels { nr: panel_columns(spec.n) },
        }
    }
}

/// What shared memory holds for operands of these types: 16-bit floats as they are, everything else
/// as f32.
fn staged_type(dtypes: &[DType]) -> &'static str {
    match dtypes {
        [DType::Bf16, rest @ ..] if rest.iter().all(|&d| d == DType::Bf16) => "zf_bf16",
        [DType::F16, rest @ ..] if rest.iter().all(|&d| d == DType::F16) => "zf_f16",
        _ => "float",
    }
}

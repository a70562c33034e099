//! The CUDA backend: kernels as CUDA C++ on the layers of `kernels/`, compiled to PTX and cubin.
//!
//! A generated source chooses a tile and spells the fused expressions; what is written by hand is in
//! `kernels/` and included by name.

mod attention;
mod compile;
mod gemm;
mod loops;
mod nvrtc;
mod toolchain;

use zeroforge_artifact::{DType, Expr, SymbolRange, Target};

pub use compile::{CudaCompileError, CudaModule, compile, compile_source, kernel_source};
pub use nvrtc::Nvrtc;
pub use toolchain::{Found, NVDISASM, NVRTC, Wheel, find_nvdisasm, find_nvrtc, toolchain_folder};

use crate::backend::{Backend, CodegenError, KernelSource, Planned};
use crate::kernel_spec::{BLayout, GemmSpec, KernelSpec, panel_columns};
use crate::launch::Launch;

/// Stands for the entry name while the text is hashed.
const ENTRY: &str = "zf_kernel_entry";
/// Shared memory that a block may have on Hopper (CUDA C++ Programming Guide, compute capability 9.0).
const MAX_SHARED_BYTES: i64 = 227 * 1024;

/// Generates CUDA C++.
#[derive(Clone, Copy, Debug)]
pub struct CudaBackend {
    target: Target,
}

/// Text and launch shape of a kernel before it has a name.
struct Generated {
    text: String,
    kind: &'static str,
    block: u32,
    shared_bytes: i64,
    param_bytes: u32,
    tile: [i64; 4],
}

impl CudaBackend {
    /// A backend for an architecture.
    pub fn new(target: Target) -> CudaBackend {
        CudaBackend { target }
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
        _: &[SymbolRange],
    ) -> Result<Planned, CodegenError> {
        let generated = match spec {
            KernelSpec::Loop(kernel) => loops::generate(kernel)?,
            KernelSpec::Gemm(gemm) => gemm::generate(gemm)?,
            KernelSpec::Attention(attention) => attention::generate(attention)?,
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
            cluster: 1,
            blocks_per_sm: None,
            doc: spec.to_string(),
        };
        let blocks = blocks(spec, generated.tile, launch);
        Ok(Planned { source, grid: [blocks, Expr::constant(1), Expr::constant(1)], own: None })
    }

    /// The CPU's panels, so that an artifact for both holds a weight once.
    fn weight_layout(&self, spec: &GemmSpec, _: bool) -> BLayout {
        BLayout::Panels { nr: panel_columns(spec.n) }
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

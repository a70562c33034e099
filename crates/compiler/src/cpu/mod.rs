//! The x86-64 backend: kernels as freestanding C, compiled by the host's C compiler into one shared
//! object per instruction-set level.

mod attention;
mod compile;
mod gemm;
mod loops;

use zeroforge_artifact::abi::{zf_attention_params, zf_gemm_params};
use zeroforge_artifact::{CpuIsa, DType, Expr};

pub use compile::{CpuCompileError, HostCompiler, compile};

use crate::backend::{Backend, CodegenError, KernelSource};
use crate::kernel_spec::{BLayout, GemmSpec, KernelSpec, LaunchSizes, panel_columns};

/// Shared declarations of all kernels.
const PRELUDE: &str = include_str!("prelude.h");
/// Integer arithmetic, the same on every target.
const INTEGER: &str = include_str!("../../../../kernels/include/zeroforge/integer.h");
/// The parameter blocks.
const ABI: &str = include_str!("../../../../kernels/include/zeroforge/abi.h");
/// Stands for the entry name while the text is hashed.
const ENTRY: &str = "zf_kernel_entry";

/// Generates C for one instruction-set level.
#[derive(Clone, Copy, Debug)]
pub struct CpuBackend {
    isa: CpuIsa,
}

impl CpuBackend {
    /// A backend for a level.
    pub fn new(isa: CpuIsa) -> CpuBackend {
        CpuBackend { isa }
    }
}

impl Backend for CpuBackend {
    fn generate(&self, spec: &KernelSpec) -> Result<KernelSource, CodegenError> {
        let (text, kind, shared_bytes, param_bytes) = match spec {
            KernelSpec::Loop(kernel) => {
                (loops::print(kernel, ENTRY)?, "loop", 0, kernel.param_bytes())
            }
            KernelSpec::Gemm(gemm) => (
                gemm::print(self.isa, gemm, ENTRY)?,
                "gemm",
                gemm::scratch_bytes(self.isa, gemm),
                size_of::<zf_gemm_params>() as u32,
            ),
            KernelSpec::Attention(attention) => (
                attention::print(self.isa, attention, ENTRY)?,
                "attention",
                attention::scratch_bytes(self.isa, attention),
                size_of::<zf_attention_params>() as u32,
            ),
        };
        let shared_bytes = u32::try_from(shared_bytes).map_err(|_| CodegenError::Unsupported {
            target: self.isa.name().to_owned(),
            spec: spec.to_string(),
            reason: format!("it would need {shared_bytes} bytes of scratch memory"),
        })?;
        let hash = blake3::hash(text.as_bytes()).to_hex();
        let entry = format!("zf_{kind}_{}", &hash.as_str()[..16]);
        Ok(KernelSource {
            text: text.replace(ENTRY, &entry),
            entry,
            block: 1,
            shared_bytes,
            param_bytes,
            doc: spec.to_string(),
            tile: [0; 4],
        })
    }

    fn grid(&self, spec: &KernelSpec, _: &KernelSource, sizes: &LaunchSizes) -> [Expr; 3] {
        let tasks = match (spec, sizes) {
            (KernelSpec::Loop(kernel), LaunchSizes::Loop(sizes)) => loops::tasks(kernel, sizes),
            (KernelSpec::Gemm(gemm), LaunchSizes::Gemm { batch, m, n, .. }) => {
                gemm::tasks(self.isa, gemm, batch, m, n)
            }
            (KernelSpec::Attention(_), LaunchSizes::Attention { batch, heads, queries, .. }) => {
                attention::tasks(batch, heads, queries)
            }
            // Sizes of another kind: nothing to launch.
            _ => Expr::constant(0),
        };
        [tasks, Expr::constant(1), Expr::constant(1)]
    }

    fn weight_layout(&self, spec: &GemmSpec, transposed: bool) -> BLayout {
        let packs = matches!(spec.b, DType::F32 | DType::F16 | DType::Bf16) && spec.a != DType::F64
            || spec.a == DType::F64 && spec.b == DType::F64;
        match (packs, transposed) {
            (true, _) => BLayout::Panels { nr: panel_columns(spec.n) },
            (false, true) => BLayout::RowMajorNk,
            (false, false) => BLayout::RowMajorKn,
        }
    }
}

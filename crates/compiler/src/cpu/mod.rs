//! The x86-64 backend: kernels as freestanding C, compiled by the host's C compiler into one shared
//! object per instruction-set level.

mod attention;
mod compile;
mod gemm;
mod loops;

use zeroforge_artifact::{CpuIsa, DType, Expr, SymbolRange};

pub use compile::{CpuCompileError, HostCompiler, compile};

use crate::backend::{Backend, CodegenError, KernelSource, Planned};
use crate::kernel_spec::{BLayout, GemmSpec, KernelSpec, panel_columns};
use crate::launch::Launch;

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
    fn plan(
        &self,
        spec: &KernelSpec,
        launch: &Launch,
        _: &[SymbolRange],
    ) -> Result<Planned, CodegenError> {
        let (text, kind, shared_bytes) = match spec {
            KernelSpec::Loop(kernel) => (loops::print(kernel, ENTRY)?, "loop", 0),
            KernelSpec::Gemm(gemm) => {
                (gemm::print(self.isa, gemm, ENTRY)?, "gemm", gemm::scratch_bytes(self.isa, gemm))
            }
            KernelSpec::Attention(attention) => (
                attention::print(self.isa, attention, ENTRY)?,
                "attention",
                attention::scratch_bytes(self.isa, attention),
            ),
        };
        let tasks = match (spec, launch) {
            (KernelSpec::Loop(kernel), Launch::Loop(l)) => loops::tasks(kernel, &l.sizes),
            (KernelSpec::Gemm(gemm), Launch::Gemm(l)) => {
                gemm::tasks(self.isa, gemm, &l.batch, &l.m, &l.n)
            }
            (KernelSpec::Attention(_), Launch::Attention(l)) => {
                attention::tasks(&l.batch, &l.heads, &l.queries)
            }
            // A launch of another kind: nothing to do.
            _ => Expr::constant(0),
        };
        let shared_bytes = u32::try_from(shared_bytes).map_err(|_| CodegenError::Unsupported {
            target: self.isa.name().to_owned(),
            spec: spec.to_string(),
            reason: format!("it would need {shared_bytes} bytes of scratch memory"),
        })?;
        let hash = blake3::hash(text.as_bytes()).to_hex();
        let entry = format!("zf_{kind}_{}", &hash.as_str()[..16]);
        let source = KernelSource {
            text: text.replace(ENTRY, &entry),
            entry,
            block: 1,
            shared_bytes,
            param_bytes: u32::try_from(spec.param_bytes()).unwrap_or(u32::MAX),
            cluster: 1,
            blocks_per_sm: None,
            doc: spec.to_string(),
        };
        Ok(Planned { source, grid: [tasks, Expr::constant(1), Expr::constant(1)], own: None })
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

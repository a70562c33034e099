//! The compiler of a run: every instance compiled and its PTX read once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use zeroforge_artifact::{ProgramError, Target};
use zeroforge_compiler::backend::KernelSource;
use zeroforge_compiler::cache::Cache;
use zeroforge_compiler::cuda::{CudaCompileError, CudaModule, Nvrtc, compile, find_nvrtc};
use zeroforge_emulator::tensor_map::TensorMapError;
use zeroforge_emulator::{LaunchError, MemoryError};
use zeroforge_kernels::Instance;
use zeroforge_runtime::RunError;

/// Why a case could not be run.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// No compiler, or it rejected a source.
    #[error(transparent)]
    Compile(#[from] CudaCompileError),
    /// NVRTC's PTX is not understood.
    #[error("`{entry}`: {reason}")]
    Ptx {
        /// The kernel.
        entry: String,
        /// What is wrong.
        reason: String,
    },
    /// Emulated memory.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// A launch that the card would refuse.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// Arguments outside of the kernel's contract.
    #[error(transparent)]
    Refused(#[from] zeroforge_kernels::Refusal),
    /// A plan that breaks the rules of programs.
    #[error("`{entry}`: {source}")]
    Plan {
        /// The kernel.
        entry: String,
        /// The rule.
        source: ProgramError,
    },
    /// A plan that cannot be bound, or a GPU that fails.
    #[error(transparent)]
    Run(#[from] RunError),
    /// A tensor map that the driver would refuse.
    #[error(transparent)]
    TensorMap(#[from] TensorMapError),
}

/// An instance, compiled.
pub struct Compiled {
    /// PTX and machine code.
    pub code: CudaModule,
    /// The PTX, parsed.
    pub module: zeroforge_ptx::module::Module,
}

/// Compiles instances, each once.
pub struct Bench {
    nvrtc: Nvrtc,
    cache: Cache,
    modules: Mutex<HashMap<String, Arc<Compiled>>>,
}

impl Bench {
    /// With the user's compiler and kernel cache.
    ///
    /// # Errors
    /// If there is no compiler.
    pub fn open() -> Result<Bench, BenchError> {
        let found = find_nvrtc().ok_or(CudaCompileError::NoCompiler)?;
        let nvrtc = Nvrtc::load(&found.path)?;
        Ok(Bench { nvrtc, cache: Cache::user(), modules: Mutex::default() })
    }

    /// An instance's code.
    ///
    /// # Errors
    /// If the compiler rejects it.
    pub fn module(&self, instance: &Instance) -> Result<Arc<Compiled>, BenchError> {
        if let Some(module) =
            self.modules.lock().unwrap_or_else(PoisonError::into_inner).get(&instance.entry)
        {
            return Ok(Arc::clone(module));
        }
        let source = KernelSource {
            entry: instance.entry.clone(),
            text: instance.source.clone(),
            block: instance.block,
            shared_bytes: instance.shared_bytes,
            param_bytes: instance.param_bytes,
            cluster: instance.cluster,
            blocks_per_sm: instance.blocks_per_sm,
            doc: instance.doc.clone(),
        };
        let compiled = compile(
            &self.nvrtc,
            &[source],
            Target::Cuda { sm: 90, arch_specific: true },
            &self.cache,
            &|_, _| (),
        )?;
        let code = compiled.into_iter().next().ok_or(CudaCompileError::NoCompiler)?;
        let malformed = |reason: String| BenchError::Ptx { entry: instance.entry.clone(), reason };
        let text = std::str::from_utf8(&code.ptx).map_err(|e| malformed(e.to_string()))?;
        let module = zeroforge_ptx::parse(text).map_err(|e| malformed(e.to_string()))?;
        zeroforge_ptx::verify(&module).map_err(|e| malformed(e.to_string()))?;
        let module = Arc::new(Compiled { code, module });
        let mut modules = self.modules.lock().unwrap_or_else(PoisonError::into_inner);
        modules.insert(instance.entry.clone(), Arc::clone(&module));
        Ok(module)
    }
}

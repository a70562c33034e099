//! The whole way from a graph to the bytes of an artifact.

use std::collections::HashMap;

use zeroforge_artifact::container::SectionKind;
use zeroforge_artifact::manifest::{
    Layout, Manifest, ModuleEntry, Provenance, TargetEntry, WeightEntry, WeightStorage,
};
use zeroforge_artifact::{ArtifactBuilder, ArtifactError, Target, abi, weights};
use zeroforge_graph::ir::{Bytes, WeightData, WeightStore};
use zeroforge_graph::{Graph, VerifyError, verify};

use crate::backend::{Backend, CodegenError};
use crate::cache::Cache;
use crate::cpu::{self, CpuBackend, CpuCompileError, HostCompiler};
use crate::cuda::host::{HostBuildError, HostCxx};
use crate::cuda::{self, CudaBackend, CudaCompileError, CudaModule, Nvrtc};
use crate::lower::{self, LowerError, WeightLayout};
use crate::memory_plan;
use crate::passes::{self, PassError};
use crate::schedule::{self, Schedule};

/// What to compile for, and how.
#[derive(Clone, Debug)]
pub struct CompileOptions {
    /// Targets, in the order in which they are stored.
    pub targets: Vec<Target>,
    /// BLAKE3 of the model file, hexadecimal, for provenance.
    pub model_hash: String,
    /// Keep weights that come from files outside the artifact.
    pub external_weights: bool,
    /// Where compiled kernels are kept.
    pub cache: Cache,
}

/// A step of the work, for progress displays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Kernels are being chosen for a target.
    Lower(Target),
    /// Kernels are being compiled: done, total.
    Compile(Target, usize, usize),
    /// Weights are being laid out: done, total.
    Weights(usize, usize),
}

/// Why a graph could not be compiled.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// The graph breaks a rule.
    #[error("the graph is not valid: {0}")]
    Graph(#[from] VerifyError),
    /// A pass failed.
    #[error(transparent)]
    Pass(#[from] PassError),
    /// Some node has no kernel.
    #[error(transparent)]
    Lower(#[from] LowerError),
    /// A kernel could not be generated.
    #[error(transparent)]
    Codegen(#[from] CodegenError),
    /// The host compiler.
    #[error(transparent)]
    Cpu(#[from] CpuCompileError),
    /// The device compiler.
    #[error(transparent)]
    Cuda(#[from] CudaCompileError),
    /// Device kernels built for the host.
    #[error(transparent)]
    Host(#[from] HostBuildError),
    /// The artifact.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    /// A weight has no data, or not the size that the graph says.
    #[error("weight `{name}`: {reason}")]
    Weight {
        /// Its name in the model.
        name: String,
        /// What is wrong and what to do.
        reason: String,
    },
    /// An architecture that kernels are not written for.
    #[error(
        "target {0} is not supported; kernels need sm_80 or newer, and sm_90a is what ZeroGPU has"
    )]
    Target(Target),
}

/// A compiled target before it is packed.
struct Compiled {
    schedule: Schedule,
    modules: Vec<Module>,
}

enum Module {
    Elf(Vec<u8>),
    Cuda(CudaModule),
}

/// Oldest compute capability (times ten) with the instructions that the kernels use: cp.async, bf16
/// and tf32 products.
const OLDEST_SM: u32 = 80;

/// Checks a graph and runs the passes on it.
pub fn prepare(graph: &Graph, store: &dyn WeightStore) -> Result<Graph, CompileError> {
    verify(graph)?;
    Ok(passes::optimize(graph, Some(store))?)
}

/// Compiles a graph into an artifact; the passes run here.
pub fn compile(
    graph: &Graph,
    store: &dyn WeightStore,
    options: &CompileOptions,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<Vec<u8>, CompileError> {
    let graph = &prepare(graph, store)?;
    let mut compilers = Vec::new();
    let mut compiled = Vec::new();
    for &target in &options.targets {
        progress(Progress::Lower(target));
        compiled.push(compile_target(graph, target, options, progress, &mut compilers)?);
    }
    pack(graph, store, options, compiled, compilers, progress)
}

fn compile_target(
    graph: &Graph,
    target: Target,
    options: &CompileOptions,
    progress: &(dyn Fn(Progress) + Sync),
    compilers: &mut Vec<String>,
) -> Result<Compiled, CompileError> {
    let report = |done, total| progress(Progress::Compile(target, done, total));
    let mut remember = |version: &str| {
        if !compilers.iter().any(|c| c == version) {
            compilers.push(version.to_owned());
        }
    };
    match target {
        Target::Cpu { isa } => {
            let backend = CpuBackend::new(isa);
            let schedule = schedule_for(graph, &backend, target)?;
            let compiler = HostCompiler::find()?;
            remember(&compiler.version);
            let elf = cpu::compile(&compiler, &schedule.sources, isa, &options.cache, &report)?;
            Ok(Compiled { schedule, modules: vec![Module::Elf(elf)] })
        }
        Target::Cuda { sm, .. } if sm < OLDEST_SM => Err(CompileError::Target(target)),
        Target::Cuda { .. } => {
            // Found before any work, so that a missing compiler is said at once.
            let found = cuda::find_nvrtc().ok_or(CudaCompileError::NoCompiler)?;
            let nvrtc = Nvrtc::load(&found.path)?;
            remember(&nvrtc.version());
            let schedule = schedule_for(graph, &CudaBackend::new(target), target)?;
            let modules =
                cuda::compile(&nvrtc, &schedule.sources, target, &options.cache, &report)?;
            Ok(Compiled { schedule, modules: modules.into_iter().map(Module::Cuda).collect() })
        }
    }
}

/// Compiles a graph's device kernels as C++ for the host, into an artifact that the CPU runtime
/// executes. It checks what the kernels compute where there is no GPU; it is slow.
pub fn compile_device_on_host(
    graph: &Graph,
    store: &dyn WeightStore,
    target: Target,
    compiler: &HostCxx,
) -> Result<Vec<u8>, CompileError> {
    let graph = &prepare(graph, store)?;
    let mut schedule = schedule_for(graph, &CudaBackend::new(target), target)?;
    let elf = compiler.build(&schedule.sources)?;
    schedule.program.target = Target::X86_64_V3;
    for kernel in &mut schedule.program.kernels {
        // One object holds all kernels, and a task is a block.
        kernel.module = 0;
        kernel.block = 1;
        kernel.shared_bytes = 0;
    }
    let options = CompileOptions {
        targets: vec![Target::X86_64_V3],
        model_hash: String::new(),
        external_weights: false,
        cache: Cache::none(),
    };
    let compiled = Compiled { schedule, modules: vec![Module::Elf(elf)] };
    pack(graph, store, &options, vec![compiled], Vec::new(), &|_| {})
}

/// Lowers a prepared graph for a backend and assembles its program.
pub fn schedule_for(
    graph: &Graph,
    backend: &dyn Backend,
    target: Target,
) -> Result<Schedule, CompileError> {
    let lowered = lower::lower(graph, backend)?;
    let plan = memory_plan::plan(&lowered);
    debug_assert_eq!(memory_plan::check(&lowered, &plan), Ok(()));
    Ok(schedule::build(graph, &lowered, &plan, backend, target)?)
}

/// Row-major bytes of a weight.
fn weight_bytes(
    graph: &Graph,
    store: &dyn WeightStore,
    weight: u32,
) -> Result<Bytes, CompileError> {
    let weight = &graph.weights[weight as usize];
    let fail = |reason: String| CompileError::Weight { name: weight.name.clone(), reason };
    match &weight.data {
        WeightData::Inline(bytes) => Ok(bytes.clone()),
        WeightData::Source(key) => store.bytes(key).map_err(fail),
        WeightData::Unbound => {
            Err(fail("it has no data; name the file that holds it with --weights".to_owned()))
        }
    }
}

fn pack(
    graph: &Graph,
    store: &dyn WeightStore,
    options: &CompileOptions,
    compiled: Vec<Compiled>,
    compilers: Vec<String>,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<Vec<u8>, CompileError> {
    let mut builder = ArtifactBuilder::new();
    let mut entries: Vec<WeightEntry> = Vec::new();
    // Equal bytes in equal layout are stored once, also across targets and tied weights.
    let mut stored: HashMap<(String, Vec<i64>, WeightLayout), u32> = HashMap::new();
    let mut targets = Vec::new();
    let total = compiled.iter().map(|c| c.schedule.weights.len()).sum();
    let mut done = 0;
    for Compiled { schedule, modules } in compiled {
        let mut weight_map = Vec::with_capacity(schedule.weights.len());
        for w in &schedule.weights {
            done += 1;
            progress(Progress::Weights(done, total));
            let source = &graph.weights[w.weight as usize];
            let fail = |reason: String| CompileError::Weight { name: source.name.clone(), reason };
            let shape = graph.ty(source.value).static_shape();
            let shape = shape
                .ok_or_else(|| fail("its shape is symbolic; weights must be static".into()))?;
            let bytes = weight_bytes(graph, store, w.weight)?;
            let hash = blake3::hash(bytes.as_slice()).to_hex().to_string();
            let key = (hash.clone(), shape.clone(), w.layout);
            if let Some(&at) = stored.get(&key) {
                weight_map.push(at);
                continue;
            }
            let layout = match w.layout {
                WeightLayout::RowMajor => Layout::RowMajor,
                WeightLayout::Panels { nr, transposed } => Layout::Panels { nr, transposed },
            };
            let element = w.dtype.size();
            let laid = weights::lay_out(&layout, &shape, element, bytes.as_slice())
                .map_err(|e| fail(e.to_string()))?;
            let storage = match &source.data {
                WeightData::Source(tensor) if options.external_weights => {
                    WeightStorage::External { tensor: tensor.clone(), hash }
                }
                _ => builder.add_weight(&laid),
            };
            entries.push(WeightEntry {
                name: source.name.clone(),
                dtype: w.dtype,
                shape,
                layout,
                bytes: laid.len() as u64,
                storage,
            });
            let at = entries.len() as u32 - 1;
            stored.insert(key, at);
            weight_map.push(at);
        }
        let text = serde_json::to_vec(&schedule.program).map_err(|e| ArtifactError::Invalid {
            what: "program".into(),
            reason: e.to_string(),
        })?;
        let program = builder.add_section(SectionKind::Program, text);
        let modules = modules
            .into_iter()
            .map(|m| match m {
                Module::Elf(bytes) => {
                    ModuleEntry::Elf(builder.add_section(SectionKind::Elf, bytes))
                }
                Module::Cuda(module) => ModuleEntry::Cuda {
                    cubin: builder.add_section(SectionKind::Cubin, module.cubin),
                    ptx: builder.add_section(SectionKind::Ptx, module.ptx),
                },
            })
            .collect();
        targets.push(TargetEntry {
            target: schedule.program.target,
            program,
            modules,
            weights: weight_map,
            abi_version: abi::ZF_ABI_VERSION,
        });
    }
    let manifest = Manifest {
        name: graph.name.clone(),
        provenance: Provenance {
            generator: concat!("zeroforge ", env!("CARGO_PKG_VERSION")).to_owned(),
            model_hash: options.model_hash.clone(),
            compilers,
            options: Vec::new(),
        },
        targets,
        weights: entries,
    };
    Ok(builder.finish(&manifest)?)
}

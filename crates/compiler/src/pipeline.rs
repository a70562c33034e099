//! The whole way from a graph to the bytes of an artifact.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use zeroforge_artifact::container::{Assembled, Piece, SectionKind};
use zeroforge_artifact::manifest::{
    Layout, Manifest, ModuleEntry, Provenance, TargetEntry, WeightEntry, WeightStorage,
};
use zeroforge_artifact::{ArtifactBuilder, ArtifactError, SymbolRange, Target, abi, weights};
use zeroforge_graph::ir::{Bytes, WeightData, WeightStore};
use zeroforge_graph::{Graph, VerifyError, verify};

use crate::backend::{Backend, CodegenError};
use crate::cache::Cache;
use crate::cpu::{self, CpuBackend, CpuCompileError, HostCompiler};
use crate::cuda::{self, CudaBackend, CudaCompileError, CudaModule, Nvrtc};
use crate::lower::{self, LowerError, WeightLayout};
use crate::memory_plan;
use crate::passes::{self, PassError};
use crate::schedule::{self, Schedule, ScheduledWeight};
use crate::spec_file;

/// What to compile for, and how.
#[derive(Clone, Debug)]
pub struct CompileOptions {
    /// Targets, in the order in which they are stored.
    pub targets: Vec<Target>,
    /// BLAKE3 of the model file, hexadecimal, for provenance.
    pub model_hash: String,
    /// Keep weights that come from files outside the artifact.
    pub external_weights: bool,
    /// SMs of the slice that kernels for a GPU are chosen for; those of the slice that ZeroGPU lends if `None`. What is
    /// chosen runs on every slice.
    pub sms: Option<u32>,
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
) -> Result<Assembled, CompileError> {
    let graph = &prepare(graph, store)?;
    let mut compilers = Compilers::default();
    let mut compiled = Vec::new();
    for &target in &options.targets {
        progress(Progress::Lower(target));
        compiled.push(compile_target(graph, target, options, progress, &mut compilers)?);
    }
    pack(graph, store, options, compiled, compilers.versions, progress)
}

/// Compilers that a run has used.
#[derive(Default)]
struct Compilers {
    /// Found once: asking it for its version takes as long as reading many cached kernels.
    host: Option<HostCompiler>,
    versions: Vec<String>,
}

fn compile_target(
    graph: &Graph,
    target: Target,
    options: &CompileOptions,
    progress: &(dyn Fn(Progress) + Sync),
    compilers: &mut Compilers,
) -> Result<Compiled, CompileError> {
    let report = |done, total| progress(Progress::Compile(target, done, total));
    let versions = &mut compilers.versions;
    let mut remember = |version: &str| {
        if !versions.iter().any(|v| v == version) {
            versions.push(version.to_owned());
        }
    };
    match target {
        Target::Cpu { isa } => {
            let backend = CpuBackend::new(isa);
            let schedule = schedule_for(graph, &backend, target)?;
            let compiler = match &mut compilers.host {
                Some(compiler) => compiler,
                none => none.insert(HostCompiler::find()?),
            };
            remember(&compiler.version);
            let elf = cpu::compile(compiler, &schedule.sources, isa, &options.cache, &report)?;
            Ok(Compiled { schedule, modules: vec![Module::Elf(elf)] })
        }
        Target::Cuda { sm, .. } if sm < OLDEST_SM => Err(CompileError::Target(target)),
        Target::Cuda { .. } => {
            // Found before any work, so that a missing compiler is said at once.
            let found = cuda::find_nvrtc().ok_or(CudaCompileError::NoCompiler)?;
            let nvrtc = Nvrtc::load(&found.path)?;
            remember(&nvrtc.version());
            let backend = CudaBackend::new(target).for_sms(options.sms);
            let schedule = schedule_for(graph, &backend, target)?;
            let modules =
                cuda::compile(&nvrtc, &schedule.sources, target, &options.cache, &report)?;
            Ok(Compiled { schedule, modules: modules.into_iter().map(Module::Cuda).collect() })
        }
    }
}

/// Lowers a prepared graph for a backend and assembles its program.
pub fn schedule_for(
    graph: &Graph,
    backend: &dyn Backend,
    target: Target,
) -> Result<Schedule, CompileError> {
    let mut lowered = lower::lower(graph, backend)?;
    let ranges: Vec<SymbolRange> = graph.symbols.iter().map(|s| s.range).collect();
    let planned = schedule::choose(&mut lowered, backend, &ranges)?;
    let plan = memory_plan::plan(&lowered);
    debug_assert_eq!(memory_plan::check(&lowered, &plan), Ok(()));
    Ok(schedule::build(graph, &lowered, &planned, &plan, target)?)
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

/// The weights of an artifact, and which of them each scheduled weight is.
struct StoredWeights {
    entries: Vec<WeightEntry>,
    places: Vec<u32>,
}

/// Lays weights out, in parallel. Equal bytes in equal layout are stored once, also across targets and
/// for tied weights.
fn store_weights(
    graph: &Graph,
    store: &dyn WeightStore,
    options: &CompileOptions,
    scheduled: &[ScheduledWeight],
    builder: &mut ArtifactBuilder,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<StoredWeights, CompileError> {
    let fail = |weight: u32, reason: String| CompileError::Weight {
        name: graph.weights[weight as usize].name.clone(),
        reason,
    };
    let mut used: Vec<u32> = scheduled.iter().map(|w| w.weight).collect();
    used.sort_unstable();
    used.dedup();
    let sources = parallel(&used, |&weight| {
        let bytes = weight_bytes(graph, store, weight)?;
        let hash = blake3::hash(bytes.as_slice());
        Ok((bytes, hash))
    })?;
    let source = |weight: u32| &sources[used.partition_point(|&u| u < weight)];

    // What is stored, in order of first use.
    let mut unique: Vec<(&ScheduledWeight, Vec<i64>)> = Vec::new();
    let mut index: HashMap<(blake3::Hash, Vec<i64>, WeightLayout), u32> = HashMap::new();
    let mut places = Vec::with_capacity(scheduled.len());
    for w in scheduled {
        let shape = graph.ty(graph.weights[w.weight as usize].value).static_shape();
        let shape = shape.ok_or_else(|| {
            fail(w.weight, "its shape is symbolic; weights must be static".to_owned())
        })?;
        let key = (source(w.weight).1, shape.clone(), w.layout);
        let place = *index.entry(key).or_insert_with(|| {
            unique.push((w, shape));
            unique.len() as u32 - 1
        });
        places.push(place);
    }
    let layout_of = |w: &ScheduledWeight| match w.layout {
        WeightLayout::RowMajor => Layout::RowMajor,
        WeightLayout::Panels { nr, transposed } => Layout::Panels { nr, transposed },
    };
    let done = AtomicUsize::new(0);
    let laid_out = parallel(&unique, |(w, shape)| {
        let (bytes, hash) = source(w.weight);
        let size = weights::stored_bytes(&Layout::RowMajor, shape, w.dtype.size());
        let laid = match layout_of(w) {
            // As the model has it: nothing is copied.
            Layout::RowMajor if size == Some(bytes.as_slice().len() as u64) => {
                (Box::new(bytes.clone()) as Piece, *hash)
            }
            layout => {
                let laid = weights::lay_out(&layout, shape, w.dtype.size(), bytes.as_slice())
                    .map_err(|e| fail(w.weight, e.to_string()))?;
                let hash = blake3::hash(&laid);
                (Box::new(laid) as Piece, hash)
            }
        };
        progress(Progress::Weights(1 + done.fetch_add(1, Ordering::Relaxed), unique.len()));
        Ok(laid)
    })?;
    let mut entries = Vec::with_capacity(unique.len());
    for ((w, shape), (piece, hash)) in unique.into_iter().zip(laid_out) {
        let weight = &graph.weights[w.weight as usize];
        let bytes = (*piece).as_ref().len() as u64;
        let storage = match &weight.data {
            WeightData::Source(tensor) if options.external_weights => WeightStorage::External {
                tensor: tensor.clone(),
                hash: source(w.weight).1.to_hex().to_string(),
            },
            _ => builder.add_weight(piece, &hash),
        };
        let (name, layout) = (weight.name.clone(), layout_of(w));
        entries.push(WeightEntry { name, dtype: w.dtype, shape, layout, bytes, storage });
    }
    Ok(StoredWeights { entries, places })
}

/// Applies a function to every item on all cores; results in order, the first error wins.
fn parallel<T: Sync, R: Send>(
    items: &[T],
    f: impl Fn(&T) -> Result<R, CompileError> + Sync,
) -> Result<Vec<R>, CompileError> {
    let next = AtomicUsize::new(0);
    let worker = || -> Result<Vec<(usize, R)>, CompileError> {
        let mut results = Vec::new();
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(i) else { return Ok(results) };
            results.push((i, f(item)?));
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(items.len());
    let mut results = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        let mut all = Vec::with_capacity(items.len());
        for handle in handles {
            match handle.join() {
                Ok(part) => all.extend(part?),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        Ok::<_, CompileError>(all)
    })?;
    results.sort_unstable_by_key(|r| r.0);
    Ok(results.into_iter().map(|r| r.1).collect())
}

fn pack(
    graph: &Graph,
    store: &dyn WeightStore,
    options: &CompileOptions,
    compiled: Vec<Compiled>,
    compilers: Vec<String>,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<Assembled, CompileError> {
    let mut builder = ArtifactBuilder::new();
    let scheduled: Vec<ScheduledWeight> =
        compiled.iter().flat_map(|c| &c.schedule.weights).cloned().collect();
    let stored = store_weights(graph, store, options, &scheduled, &mut builder, progress)?;
    let mut stored_at = stored.places.into_iter();
    let mut targets = Vec::new();
    for Compiled { schedule, modules } in compiled {
        let weight_map = stored_at.by_ref().take(schedule.weights.len()).collect();
        let program = builder.add_program(&schedule.program)?;
        let kernels = match schedule.program.target.is_cuda() {
            true => {
                let specs = spec_file::encode(&schedule.specs);
                Some(builder.add_section(SectionKind::Kernels, specs))
            }
            false => None,
        };
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
            kernels,
        });
    }
    let manifest = Manifest {
        name: graph.name.clone(),
        provenance: Provenance {
            generator: concat!("zeroforge ", env!("CARGO_PKG_VERSION")).to_owned(),
            model_hash: options.model_hash.clone(),
            compilers,
            options: options.sms.map(|sms| format!("sms {sms}")).into_iter().collect(),
        },
        targets,
        weights: stored.entries,
    };
    Ok(builder.finish(&manifest)?)
}

//! Lowered steps, generated kernels and the memory plan put together: the program of one target.

use std::collections::HashMap;

use zeroforge_artifact::program::{
    Buffer, Guard, Kernel, Param, ParamValue, Place, Port, Program, Step,
};
use zeroforge_artifact::{DType, Expr, SymbolRange, Target};
use zeroforge_graph::Graph;
use zeroforge_graph::ir::OutputKind;

use crate::backend::{Backend, CodegenError, KernelSource, PlanBuffer, Planned};
use crate::kernel_spec::KernelSpec;
use crate::launch::Arg;
use crate::lower::{Lowered, Storage, StorageId, StorageKind, WeightLayout};
use crate::memory_plan::MemoryPlan;
use crate::spec_file::{Arguments, Specs};

/// A weight as one target wants it stored.
#[derive(Clone, Debug, PartialEq)]
pub struct ScheduledWeight {
    /// Index into [`Graph::weights`].
    pub weight: u32,
    /// Its layout.
    pub layout: WeightLayout,
    /// Element type.
    pub dtype: DType,
}

/// The program of one target with what it refers to.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// The program. Weight places index [`Schedule::weights`]; kernel modules index
    /// [`Schedule::sources`].
    pub program: Program,
    /// Unique kernels in order of first use.
    pub sources: Vec<KernelSource>,
    /// What each of them computes, and of what.
    pub specs: Specs,
    /// Weights in order of first use.
    pub weights: Vec<ScheduledWeight>,
}

/// Stands for the counters' buffer, which comes behind all others.
const COUNTERS: u32 = u32::MAX;

/// Has a backend choose and generate the kernels of a lowered graph; steps are given the workspaces that they
/// ask for.
pub fn choose(
    lowered: &mut Lowered,
    backend: &dyn Backend,
    ranges: &[SymbolRange],
) -> Result<Vec<Planned>, CodegenError> {
    let mut planned = Vec::with_capacity(lowered.steps.len());
    for step in &mut lowered.steps {
        let kernel = backend.plan(&step.spec, &step.launch, ranges)?;
        if let Some(own) = &kernel.own
            && !own.workspace.is(0)
        {
            step.workspace = Some(StorageId(lowered.storages.len() as u32));
            lowered.storages.push(Storage {
                name: format!("{}.workspace", step.origin),
                dtype: DType::U8,
                numel: own.workspace.clone(),
                kind: StorageKind::Temporary,
            });
        }
        planned.push(kernel);
    }
    Ok(planned)
}

/// The index of a kernel, added if it is new.
fn kernel_of(
    kernels: &mut Vec<Kernel>,
    sources: &mut Vec<KernelSource>,
    specs: &mut Specs,
    planned: &Planned,
    spec: &KernelSpec,
    target: Target,
) -> u32 {
    let source = &planned.source;
    let mut known = kernels.iter().zip(&specs.kernels);
    // One source may be the kernel of several specs, whose sizes it takes as parameters.
    if let Some(at) = known.position(|(k, s)| k.entry == source.entry && s == spec) {
        return at as u32;
    }
    let module = sources.iter().position(|s| s.entry == source.entry).unwrap_or_else(|| {
        sources.push(source.clone());
        sources.len() - 1
    });
    kernels.push(Kernel {
        entry: source.entry.clone(),
        // The CPU links all kernels into one object; CUDA has a module per source.
        module: if target.is_cuda() { module as u32 } else { 0 },
        param_bytes: source.param_bytes,
        block: source.block,
        shared_bytes: source.shared_bytes,
        cluster: source.cluster,
        blocks_per_sm: source.blocks_per_sm,
        doc: source.doc.clone(),
    });
    specs.kernels.push(spec.clone());
    kernels.len() as u32 - 1
}

/// Assembles the program of a lowered graph from its kernels and the memory plan.
pub fn build(
    graph: &Graph,
    lowered: &Lowered,
    planned: &[Planned],
    plan: &MemoryPlan,
    target: Target,
) -> Result<Schedule, CodegenError> {
    let mut weights: Vec<ScheduledWeight> = Vec::new();
    let mut buffers: Vec<Buffer> = Vec::new();
    // Buffers in order of first use, so that weights stream in execution order.
    let mut buffer_of: HashMap<u32, u32> = HashMap::new();
    let mut place = |storage: u32, weights: &mut Vec<ScheduledWeight>| -> u32 {
        if let Some(&at) = buffer_of.get(&storage) {
            return at;
        }
        let s = &lowered.storages[storage as usize];
        let mut weight_index = |weight: u32, layout: WeightLayout| {
            let entry = ScheduledWeight { weight, layout, dtype: s.dtype };
            let at = weights.iter().position(|w| *w == entry).unwrap_or_else(|| {
                weights.push(entry);
                weights.len() - 1
            });
            at as u32
        };
        let place = match &s.kind {
            StorageKind::Temporary => {
                let (slot, offset) = plan.places[storage as usize].unwrap_or((0, 0));
                Place::Arena { slot, offset }
            }
            StorageKind::Weight { weight, layout } => Place::Weight(weight_index(*weight, *layout)),
            StorageKind::Input(i) => Place::Input(*i),
            StorageKind::Output(i) => Place::Output(*i),
            StorageKind::State(weight) => {
                Place::State { initial: Some(weight_index(*weight, WeightLayout::RowMajor)) }
            }
        };
        buffers.push(Buffer { name: s.name.clone(), place, bytes: s.bytes() });
        let at = buffers.len() as u32 - 1;
        buffer_of.insert(storage, at);
        at
    };

    let mut sources: Vec<KernelSource> = Vec::new();
    let mut specs = Specs::default();
    let mut kernels: Vec<Kernel> = Vec::new();
    let mut steps = Vec::with_capacity(lowered.steps.len());
    let counters = planned.iter().filter_map(|p| p.own.as_ref()).map(|own| own.counters).max();
    let counters = counters.filter(|&bytes| bytes > 0);
    for (at, (step, planned)) in lowered.steps.iter().zip(planned).enumerate() {
        let kernel = kernel_of(&mut kernels, &mut sources, &mut specs, planned, &step.spec, target);
        // The block that the spec has: the kernel's own, or for the reference only.
        let mut block = Vec::new();
        for (at, arg) in step.launch.block() {
            let value = match arg {
                Arg::Address { storage, offset } => {
                    let size = lowered.storages[storage.0 as usize].dtype.size() as i64;
                    ParamValue::Address {
                        buffer: place(storage.0, &mut weights),
                        offset: offset * Expr::constant(size),
                    }
                }
                Arg::I64(value) => ParamValue::I64(value),
                Arg::F32(value) => ParamValue::F32Bits(value.to_bits()),
            };
            // Bytes not covered are zero, so zeros need no entry.
            if !matches!(&value, ParamValue::I64(v) if v.is(0)) {
                block.push(Param { at, value });
            }
        }
        let params = match &planned.own {
            None => block,
            Some(own) => {
                specs.arguments.push(Arguments { step: at as u32, params: block });
                let mut buffer_of = |buffer: PlanBuffer| match buffer {
                    PlanBuffer::Storage(storage) => Some(place(storage.0, &mut weights)),
                    PlanBuffer::Workspace => step.workspace.map(|s| place(s.0, &mut weights)),
                    PlanBuffer::Counters => counters.map(|_| COUNTERS),
                };
                let mut params = Vec::with_capacity(own.params.len());
                for param in &own.params {
                    let mut param = param.clone();
                    let buffer = match &mut param.value {
                        ParamValue::Address { buffer, .. } => Some(buffer),
                        ParamValue::TensorMap(map) => Some(&mut map.buffer),
                        _ => None,
                    };
                    if let Some(buffer) = buffer {
                        let known = own.buffers.get(*buffer as usize).copied();
                        *buffer = known.and_then(&mut buffer_of).ok_or_else(|| {
                            CodegenError::Unsupported {
                                target: target.to_string(),
                                spec: step.spec.to_string(),
                                reason: format!(
                                    "its kernel names buffer {buffer}, which it does not have; this is a bug in zeroforge"
                                ),
                            }
                        })?;
                    }
                    params.push(param);
                }
                params
            }
        };
        let mut ids = |storages: &mut dyn Iterator<Item = &StorageId>| {
            let mut ids: Vec<u32> = Vec::new();
            for s in storages {
                let id = place(s.0, &mut weights);
                if !ids.contains(&id) {
                    ids.push(id);
                }
            }
            ids
        };
        let reads = ids(&mut step.reads.iter());
        let writes = ids(&mut step.writes.iter().chain(&step.workspace));
        steps.push(Step {
            kernel,
            grid: planned.grid.clone(),
            params,
            reads,
            writes,
            origin: step.origin.clone(),
            flops: step.flops.clone(),
        });
    }

    let mut port = |name: &str, value, storage: u32, mutates| {
        let ty = graph.ty(value);
        Port {
            name: name.to_owned(),
            dtype: ty.dtype,
            shape: ty.shape.clone(),
            buffer: place(storage, &mut weights),
            mutates,
        }
    };
    let inputs = graph
        .inputs
        .iter()
        .zip(&lowered.inputs)
        .map(|(input, storage)| port(&input.name, input.value, storage.0, None))
        .collect();
    let outputs = graph
        .outputs
        .iter()
        .zip(&lowered.outputs)
        .filter_map(|(output, storage)| {
            let mutates = match output.kind {
                OutputKind::User => None,
                OutputKind::InputMutation(i) => Some(i),
                // The state itself; nothing is returned.
                OutputKind::BufferMutation(_) => return None,
            };
            Some(port(&output.name, output.value, storage.0, mutates))
        })
        .collect();

    if let Some(bytes) = counters {
        let at = buffers.len() as u32;
        let (name, bytes) = ("counters".to_owned(), Expr::constant(bytes.into()));
        buffers.push(Buffer { name, place: Place::Counters, bytes });
        for param in steps.iter_mut().flat_map(|s: &mut Step| &mut s.params) {
            if let ParamValue::Address { buffer, .. } = &mut param.value
                && *buffer == COUNTERS
            {
                *buffer = at;
            }
        }
    }
    let program = Program {
        target,
        symbols: graph.symbols.clone(),
        guards: graph
            .assumptions
            .iter()
            .map(|a| Guard { non_negative: a.non_negative.clone(), message: a.message.clone() })
            .collect(),
        buffers,
        arena_slots: plan.slots.clone(),
        inputs,
        outputs,
        kernels,
        steps,
        signature: graph.signature.clone(),
    };
    Ok(Schedule { program: renumber_outputs(program), sources, specs, weights })
}

/// Output places were numbered by the graph's outputs; buffer mutations are no ports, so the places
/// follow the ports that remain.
fn renumber_outputs(mut program: Program) -> Program {
    for i in 0..program.outputs.len() {
        let buffer = program.outputs[i].buffer as usize;
        if let Place::Output(at) = &mut program.buffers[buffer].place {
            *at = i as u32;
        }
    }
    program
}

//! Lowered steps, generated kernels and the memory plan put together: the program of one target.

use std::collections::HashMap;

use zeroforge_artifact::program::{
    Buffer, Guard, Kernel, Param, ParamValue, Place, Port, Program, Step,
};
use zeroforge_artifact::{DType, Expr, Target};
use zeroforge_graph::Graph;
use zeroforge_graph::ir::OutputKind;

use crate::backend::{Backend, CodegenError, KernelSource};
use crate::lower::{Arg, Lowered, StorageKind, WeightLayout};
use crate::memory_plan::MemoryPlan;
use crate::spec_file::Specs;

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

/// Generates the kernels of a lowered graph and assembles the program.
pub fn build(
    graph: &Graph,
    lowered: &Lowered,
    plan: &MemoryPlan,
    backend: &dyn Backend,
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
    let mut kernel_of: HashMap<String, u32> = HashMap::new();
    let mut steps = Vec::with_capacity(lowered.steps.len());
    for step in &lowered.steps {
        let source = backend.generate(&step.spec)?;
        let grid = backend.grid(&step.spec, &source, &step.sizes);
        let kernel = match kernel_of.get(&source.entry) {
            Some(&at) => at,
            None => {
                let at = kernels.len() as u32;
                kernels.push(Kernel {
                    entry: source.entry.clone(),
                    // The CPU links all kernels into one object; CUDA has a module per kernel.
                    module: if target.is_cuda() { at } else { 0 },
                    param_bytes: source.param_bytes,
                    block: source.block,
                    shared_bytes: source.shared_bytes,
                    cluster: 1,
                    blocks_per_sm: None,
                    doc: source.doc.clone(),
                });
                kernel_of.insert(source.entry.clone(), at);
                sources.push(source);
                specs.kernels.push(step.spec.clone());
                at
            }
        };
        let mut params = Vec::with_capacity(step.params.len());
        for (at, arg) in &step.params {
            let value = match arg {
                Arg::Address { storage, offset } => {
                    let size = lowered.storages[storage.0 as usize].dtype.size() as i64;
                    ParamValue::Address {
                        buffer: place(storage.0, &mut weights),
                        offset: offset.clone() * Expr::constant(size),
                    }
                }
                Arg::I64(value) => ParamValue::I64(value.clone()),
                Arg::F32(value) => ParamValue::F32Bits(value.to_bits()),
            };
            // Bytes not covered are zero, so zeros need no entry.
            if !matches!(&value, ParamValue::I64(v) if v.is(0)) {
                params.push(Param { at: *at, value });
            }
        }
        params.sort_by_key(|p| p.at);
        let mut ids = |storages: &[crate::lower::StorageId]| {
            let mut ids: Vec<u32> = Vec::new();
            for s in storages {
                let id = place(s.0, &mut weights);
                if !ids.contains(&id) {
                    ids.push(id);
                }
            }
            ids
        };
        let (reads, writes) = (ids(&step.reads), ids(&step.writes));
        steps.push(Step {
            kernel,
            grid,
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

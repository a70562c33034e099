//! A GPU as a device: weights and code stay on it, inputs and outputs are copied for each call.

use std::sync::Arc;
use std::time::Instant;

use zeroforge_artifact::container::SectionKind;
use zeroforge_artifact::manifest::ModuleEntry;
use zeroforge_artifact::program::{BUFFER_ALIGN, Place, Program};
use zeroforge_artifact::{ArtifactError, Target};

use super::driver::{Gpu, Kernel, Memory, Stream, encode_tensor_map, launch_failed};
use super::software;
use crate::bind::blocks;
use crate::device::{Call, Device, StepTime, Weights, check_size};
use crate::{Model, RunError};

/// Index of the target whose machine code a GPU executes. `sm_90a` runs on 9.0 only; without the `a` code
/// also runs on later minor versions of its major one (CUDA C++ Programming Guide, 5.1).
pub(crate) fn choose_target(model: &Model, gpu: &Gpu) -> Result<usize, RunError> {
    let (major, minor) = gpu.capability;
    let fits = |target: Target| match target {
        Target::Cuda { sm, arch_specific: true } => sm == major * 10 + minor,
        Target::Cuda { sm, arch_specific: false } => sm / 10 == major && sm % 10 <= minor,
        Target::Cpu { .. } => false,
    };
    let targets = &model.manifest().targets;
    let best = targets.iter().enumerate().filter(|(_, t)| fits(t.target)).max_by_key(|(_, t)| {
        match t.target {
            Target::Cuda { sm, arch_specific } => (arch_specific, sm),
            Target::Cpu { .. } => (false, 0),
        }
    });
    best.map(|(i, _)| i).ok_or_else(|| {
        let found: Vec<String> = targets.iter().map(|t| t.target.to_string()).collect();
        ArtifactError::NoTarget {
            wanted: format!("code for {} (compute capability {major}.{minor})", gpu.name),
            found: found.join(", "),
        }
        .into()
    })
}

/// A program's code and weights on a GPU. Fields are dropped in order: the stream is idle between
/// calls.
#[derive(Debug)]
pub(crate) struct CudaDevice {
    kernels: Vec<Kernel>,
    stream: Stream,
    /// All weights in one allocation, and where each starts.
    weights: Memory,
    offsets: Vec<u64>,
    /// Mutable buffers and counters, by buffer.
    states: Vec<(u32, Memory)>,
    arena: Memory,
    /// Copies of the caller's inputs and outputs, by port; grown as calls need.
    inputs: Vec<Memory>,
    outputs: Vec<Memory>,
    gpu: Arc<Gpu>,
}

impl CudaDevice {
    /// Loads a target's code and copies its weights.
    pub(crate) fn new(
        model: &Model,
        target: usize,
        program: &Program,
        weights: &Weights,
        gpu: Arc<Gpu>,
    ) -> Result<CudaDevice, RunError> {
        let modules = &model.manifest().targets[target].modules;
        let mut kernels = Vec::with_capacity(program.kernels.len());
        for kernel in &program.kernels {
            let Some(ModuleEntry::Cuda { cubin, ptx }) = modules.get(kernel.module as usize) else {
                return Err(RunError::Device {
                    device: "cuda".to_owned(),
                    reason: format!("the artifact has no machine code for `{}`", kernel.entry),
                });
            };
            let code = model.artifact.section(*cubin, SectionKind::Cubin)?;
            if software::is_loaded() {
                software::register(code, model.artifact.section(*ptx, SectionKind::Ptx)?)?;
            }
            kernels.push(gpu.load(code, &kernel.entry, kernel.shared_bytes)?);
        }
        let stream = gpu.stream()?;
        let mut offsets = Vec::with_capacity(weights.len());
        let mut total = 0u64;
        for i in 0..weights.len() as u32 {
            offsets.push(total);
            total += (weights.bytes(i)?.len() as u64).next_multiple_of(BUFFER_ALIGN);
        }
        let memory = gpu.alloc(usize::try_from(total).unwrap_or(usize::MAX))?;
        for (i, &offset) in offsets.iter().enumerate() {
            stream.upload(&memory, offset as usize, weights.bytes(i as u32)?)?;
        }
        Ok(CudaDevice {
            kernels,
            stream,
            weights: memory,
            offsets,
            states: Vec::new(),
            arena: gpu.alloc(0)?,
            inputs: Vec::new(),
            outputs: Vec::new(),
            gpu,
        })
    }

    /// Makes a list of allocations at least as large as asked.
    fn grow(
        gpu: &Arc<Gpu>,
        list: &mut Vec<Memory>,
        sizes: impl Iterator<Item = usize>,
    ) -> Result<(), RunError> {
        for (i, bytes) in sizes.enumerate() {
            match list.get(i) {
                Some(memory) if memory.bytes >= bytes => {}
                Some(_) => list[i] = gpu.alloc(bytes)?,
                None => list.push(gpu.alloc(bytes)?),
            }
        }
        Ok(())
    }

    fn addresses(&self, call: &Call<'_>) -> Result<Vec<u64>, RunError> {
        let mut addresses = Vec::with_capacity(call.program.buffers.len());
        for (i, buffer) in call.program.buffers.iter().enumerate() {
            let bytes = call.bound.buffer_bytes[i];
            addresses.push(match buffer.place {
                Place::Arena { slot, offset } => {
                    self.arena.address + call.bound.slots[slot as usize] + offset
                }
                Place::Weight(w) => self.weights.address + self.offsets[w as usize],
                Place::Input(p) => {
                    check_size(&call.inputs[p as usize], &buffer.name, bytes)?;
                    self.inputs[p as usize].address
                }
                Place::Output(p) => {
                    check_size(&call.outputs[p as usize], &buffer.name, bytes)?;
                    self.outputs[p as usize].address
                }
                Place::State { .. } | Place::Counters => self
                    .states
                    .iter()
                    .find(|(b, m)| *b == i as u32 && m.bytes as u64 == bytes)
                    .map_or(0, |(_, m)| m.address),
            });
        }
        Ok(addresses)
    }
}

impl Device for CudaDevice {
    fn name(&self) -> String {
        self.gpu.name.clone()
    }

    fn reset(&mut self, program: &Program, weights: &Weights) -> Result<(), RunError> {
        self.gpu.make_current()?;
        self.states.clear();
        for (i, buffer) in program.buffers.iter().enumerate() {
            let initial = match &buffer.place {
                Place::State { initial } => *initial,
                Place::Counters => None,
                _ => continue,
            };
            let bytes = buffer.bytes.eval(&[])?;
            let memory = self.gpu.alloc(usize::try_from(bytes).unwrap_or(0))?;
            match weights.initial(&buffer.name, initial, bytes)? {
                Some(source) => self.stream.upload(&memory, 0, source)?,
                None => self.stream.clear(&memory)?,
            }
            self.states.push((i as u32, memory));
        }
        Ok(())
    }

    fn state(&self, buffer: u32) -> Result<Option<Vec<u8>>, RunError> {
        let Some((_, memory)) = self.states.iter().find(|(b, _)| *b == buffer) else {
            return Ok(None);
        };
        self.gpu.make_current()?;
        let mut bytes = vec![0; memory.bytes];
        self.stream.download(&mut bytes, memory, 0)?;
        Ok(Some(bytes))
    }

    fn call(&mut self, mut call: Call<'_>) -> Result<(), RunError> {
        self.gpu.make_current()?;
        if self.arena.bytes < call.bound.arena_bytes {
            self.arena = self.gpu.alloc(call.bound.arena_bytes)?;
        }
        let gpu = Arc::clone(&self.gpu);
        let sizes = |list: &[crate::Tensor]| {
            list.iter().map(|t| t.bytes().len()).collect::<Vec<_>>().into_iter()
        };
        CudaDevice::grow(&gpu, &mut self.inputs, sizes(call.inputs))?;
        CudaDevice::grow(&gpu, &mut self.outputs, sizes(call.outputs))?;
        for (tensor, memory) in call.inputs.iter().zip(&self.inputs) {
            self.stream.upload(memory, 0, tensor.bytes())?;
        }
        let addresses = self.addresses(&call)?;
        let bound = &mut *call.bound;
        for step in &mut bound.steps {
            for &(word, buffer, offset) in &step.addresses {
                bound.params[step.params + word] = addresses[buffer as usize] + offset;
            }
            let kernel = &call.program.kernels[step.kernel];
            let origin = &call.program.steps[step.step].origin;
            for map in &mut step.maps {
                let address = addresses[map.buffer as usize] + map.offset;
                // The sizes are those of the binding; only memory that moved asks for a new map.
                if map.encoded != Some(address) {
                    let words = encode_tensor_map(map, address, origin)?;
                    let at = step.params + map.word;
                    bound.params[at..at + words.len()].copy_from_slice(&words);
                    map.encoded = Some(address);
                }
            }
            let grid = blocks(call.program, step, self.gpu.sm_count)?;
            let words = kernel.param_bytes.div_ceil(8) as usize;
            let params = &bound.params[step.params..step.params + words];
            let start = call.profile.is_some().then(Instant::now);
            // SAFETY: the program was validated: the block has the kernel's size, every address lies in
            // GPU memory of the size that the program states, which `self` keeps until after the wait
            // below; the compiler that wrote both keeps accesses inside it, for which the artifact's
            // hash (and, under a policy, its signature) vouches.
            unsafe {
                self.stream.launch(
                    &self.kernels[step.kernel],
                    grid,
                    kernel.block,
                    kernel.shared_bytes,
                    params,
                )
            }
            .map_err(|e| launch_failed(&kernel.doc, origin, e))?;
            if let (Some(start), Some(profile)) = (start, call.profile.as_deref_mut()) {
                self.stream.wait()?;
                let time = start.elapsed();
                profile.push(StepTime::of(call.program, step.step, &bound.symbols, time));
            }
        }
        self.stream.wait()?;
        for port in &call.program.outputs {
            match call.program.buffers[port.buffer as usize].place {
                Place::Output(p) => {
                    let to = call.outputs[p as usize].bytes_mut();
                    self.stream.download(to, &self.outputs[p as usize], 0)?;
                }
                // Updated in place.
                Place::Input(p) => {
                    let to = call.inputs[p as usize].bytes_mut();
                    self.stream.download(to, &self.inputs[p as usize], 0)?;
                }
                // An output that is state or a weight is read from there.
                Place::State { .. } | Place::Counters | Place::Weight(_) | Place::Arena { .. } => {}
            }
        }
        Ok(())
    }
}

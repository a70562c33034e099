//! The CPU as a device: one arena, the caller's tensors used where they are.

use std::time::Instant;

use zeroforge_artifact::DType;
use zeroforge_artifact::container::SectionKind;
use zeroforge_artifact::manifest::ModuleEntry;
use zeroforge_artifact::program::{Place, Program};

use super::{EntryPoint, Object, Pool};
use crate::device::{Call, Device, StepTime, Weights, check_size};
use crate::{Model, RunError, SessionOptions, Tensor};

/// A program's code on this machine.
#[derive(Debug)]
pub(crate) struct CpuDevice {
    /// Keeps the code mapped; `entries` point into it.
    _object: Object,
    entries: Vec<EntryPoint>,
    pool: Pool,
    /// One per buffer that is state.
    states: Vec<(u32, Tensor)>,
    scratch: Tensor,
    scratch_stride: usize,
    arena: Tensor,
}

fn memory(bytes: usize) -> Result<Tensor, RunError> {
    Tensor::zeros(DType::U8, &[i64::try_from(bytes).unwrap_or(i64::MAX)])
}

impl CpuDevice {
    /// Maps the code of a target that the machine can execute.
    pub(crate) fn new(
        model: &Model,
        target: usize,
        program: &Program,
        options: &SessionOptions,
    ) -> Result<CpuDevice, RunError> {
        let Some(ModuleEntry::Elf(section)) = model.manifest().targets[target].modules.first()
        else {
            return Err(RunError::Device {
                device: "cpu".to_owned(),
                reason: "the artifact's CPU target has no object".to_owned(),
            });
        };
        let elf = model.artifact.section(*section, SectionKind::Elf)?;
        // SAFETY: `section` has checked the hash, the caller that the machine has the level.
        let object = unsafe { Object::load(elf) }?;
        let entries = program
            .kernels
            .iter()
            .map(|k| object.entry(&k.entry).map(EntryPoint))
            .collect::<Result<Vec<_>, _>>()?;
        let threads = options
            .threads
            .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
        let pool = Pool::new(threads);
        let stride = program.kernels.iter().map(|k| k.shared_bytes as usize).max().unwrap_or(0);
        let scratch_stride = stride.next_multiple_of(4096);
        Ok(CpuDevice {
            _object: object,
            entries,
            states: Vec::new(),
            scratch: memory(scratch_stride.saturating_mul(pool.threads()))?,
            scratch_stride,
            arena: memory(0)?,
            pool,
        })
    }

    /// The address of every buffer.
    fn addresses(&mut self, call: &mut Call<'_>) -> Result<Vec<u64>, RunError> {
        let arena = self.arena.bytes_mut().as_mut_ptr() as u64;
        let mut addresses = Vec::with_capacity(call.program.buffers.len());
        for (i, buffer) in call.program.buffers.iter().enumerate() {
            let bytes = call.bound.buffer_bytes[i];
            let of = |tensor: &mut Tensor| {
                check_size(tensor, &buffer.name, bytes)?;
                Ok::<u64, RunError>(tensor.bytes_mut().as_mut_ptr() as u64)
            };
            addresses.push(match buffer.place {
                Place::Arena { slot, offset } => arena + call.bound.slots[slot as usize] + offset,
                Place::Weight(w) => call.weights.bytes(w)?.as_ptr() as u64,
                Place::Input(p) => of(&mut call.inputs[p as usize])?,
                Place::Output(p) => of(&mut call.outputs[p as usize])?,
                Place::State { .. } => match self.states.iter_mut().find(|(b, _)| *b == i as u32) {
                    Some((_, tensor)) => of(tensor)?,
                    None => 0,
                },
                // Validation leaves them to CUDA targets.
                Place::Counters => 0,
            });
        }
        Ok(addresses)
    }
}

impl Device for CpuDevice {
    fn name(&self) -> String {
        let threads = self.pool.threads();
        format!("cpu, {threads} thread{}", if threads == 1 { "" } else { "s" })
    }

    fn reset(&mut self, program: &Program, weights: &Weights) -> Result<(), RunError> {
        self.states.clear();
        for (i, buffer) in program.buffers.iter().enumerate() {
            let Place::State { initial } = &buffer.place else { continue };
            // States belong to weights, whose sizes are constant.
            let bytes = buffer.bytes.eval(&[])?;
            let mut tensor = Tensor::zeros(DType::U8, &[bytes])?;
            if let Some(source) = weights.initial(&buffer.name, *initial, bytes)? {
                tensor.bytes_mut().copy_from_slice(source);
            }
            self.states.push((i as u32, tensor));
        }
        Ok(())
    }

    fn state(&self, buffer: u32) -> Result<Option<Vec<u8>>, RunError> {
        let found = self.states.iter().find(|(b, _)| *b == buffer);
        Ok(found.map(|(_, tensor)| tensor.bytes().to_vec()))
    }

    fn call(&mut self, mut call: Call<'_>) -> Result<(), RunError> {
        if self.arena.bytes().len() < call.bound.arena_bytes {
            self.arena = memory(call.bound.arena_bytes)?;
        }
        let addresses = self.addresses(&mut call)?;
        let bound = call.bound;
        let scratch = self.scratch.bytes_mut().as_mut_ptr();
        for step in &bound.steps {
            for &(word, buffer, offset) in &step.addresses {
                bound.params[step.params + word] = addresses[buffer as usize] + offset;
            }
            let tasks = step.grid.iter().fold(1u64, |p, &g| p.saturating_mul(g));
            let tasks = i64::try_from(tasks).unwrap_or(i64::MAX);
            let params = bound.params[step.params..].as_ptr().cast::<u8>();
            let start = call.profile.is_some().then(Instant::now);
            let entry = self.entries[step.kernel].0;
            // SAFETY: the program was validated: the block has the kernel's size, every address lies
            // in a live buffer of the size that the program states, and the compiler that wrote both
            // kernel and program keeps accesses inside those sizes; the artifact's hash (and, under
            // a policy, its signature) vouches that it did. Scratch has one stretch per thread.
            unsafe { self.pool.run(entry, params, tasks, scratch, self.scratch_stride) };
            if let (Some(start), Some(profile)) = (start, call.profile.as_deref_mut()) {
                let time = start.elapsed();
                profile.push(StepTime::of(call.program, step.step, &bound.symbols, time));
            }
        }
        Ok(())
    }
}

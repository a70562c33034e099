//! A program bound to a device, ready to run again and again.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use zeroforge_artifact::container::SectionKind;
use zeroforge_artifact::manifest::{ModuleEntry, WeightStorage};
use zeroforge_artifact::program::{Place, Port, Program};

use crate::bind::{Bound, bind, bind_symbols, describe};
use crate::cpu::{Object, Pool};
use crate::{Model, RunError, Tensor};

/// Most shape sets whose bindings are kept.
const MAX_BINDINGS: usize = 64;

/// How to run a model.
#[derive(Clone, Debug, Default)]
pub struct SessionOptions {
    /// Threads on the CPU, the caller's included; all available ones if `None`.
    pub threads: Option<usize>,
    /// Files that hold external weights.
    pub external_weights: Vec<PathBuf>,
    /// Record the time of every step.
    pub profile: bool,
}

/// Where the time of a call went.
#[derive(Clone, Debug, Default)]
pub struct Phases {
    /// Checking inputs and evaluating sizes.
    pub bind: Duration,
    /// Steps.
    pub compute: Duration,
    /// Everything, from call to return.
    pub total: Duration,
}

/// The time of one step of the last call.
#[derive(Clone, Debug)]
pub struct StepTime {
    /// The model's nodes.
    pub origin: String,
    /// The kernel.
    pub kernel: String,
    /// How long.
    pub time: Duration,
    /// Floating-point operations.
    pub flops: i64,
}

/// A model on the CPU.
#[derive(Debug)]
pub struct Session {
    program: Arc<Program>,
    model: Model,
    /// Keeps the code mapped; `entries` point into it.
    _object: Object,
    entries: Vec<crate::cpu::EntryPoint>,
    pool: Pool,
    /// Addresses of the target's weights: mapped from the artifact or laid out at load.
    weights: Vec<Weight>,
    /// One per buffer that is state.
    states: Vec<(u32, Tensor)>,
    scratch: Tensor,
    scratch_stride: usize,
    arena: Tensor,
    bindings: Vec<Bound>,
    options: SessionOptions,
    phases: Phases,
    profile: Vec<StepTime>,
}

#[derive(Debug)]
enum Weight {
    /// In the mapped artifact, by index into the manifest's weights.
    Mapped(u32),
    /// In memory of our own.
    Owned(Tensor),
}

impl Session {
    /// Prepares the best CPU target of a model for this machine.
    pub fn cpu(model: &Model, options: SessionOptions) -> Result<Session, RunError> {
        let target = model.cpu_target()?;
        let program = model.artifact.program(target)?;
        let entry = &model.manifest().targets[target];
        if entry.abi_version != zeroforge_artifact::abi::ZF_ABI_VERSION {
            return Err(RunError::Device {
                device: "cpu".to_owned(),
                reason: format!(
                    "the artifact's kernels have parameter layout {}, this runtime has {}; compile the model again",
                    entry.abi_version,
                    zeroforge_artifact::abi::ZF_ABI_VERSION
                ),
            });
        }
        let Some(ModuleEntry::Elf(section)) = entry.modules.first() else {
            return Err(RunError::Device {
                device: "cpu".to_owned(),
                reason: "the artifact's CPU target has no object".to_owned(),
            });
        };
        let elf = model.artifact.section(*section, SectionKind::Elf)?;
        // SAFETY: `section` has checked the hash, `cpu_target` that the machine has the level.
        let object = unsafe { Object::load(elf) }?;
        let entries = program
            .kernels
            .iter()
            .map(|k| object.entry(&k.entry).map(crate::cpu::EntryPoint))
            .collect::<Result<Vec<_>, _>>()?;
        let mut weights = Vec::with_capacity(entry.weights.len());
        for &w in &entry.weights {
            weights.push(match &model.manifest().weights[w as usize].storage {
                WeightStorage::Embedded { .. } => Weight::Mapped(w),
                WeightStorage::External { .. } => {
                    Weight::Owned(crate::external::load(model, w, &options.external_weights)?)
                }
            });
        }
        let threads = options
            .threads
            .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
        let pool = Pool::new(threads);
        let stride = program.kernels.iter().map(|k| k.shared_bytes as usize).max().unwrap_or(0);
        let scratch_stride = stride.next_multiple_of(4096);
        let scratch_bytes = scratch_stride.saturating_mul(pool.threads());
        let mut session = Session {
            states: Vec::new(),
            scratch: Tensor::zeros(zeroforge_artifact::DType::U8, &[scratch_bytes as i64])?,
            scratch_stride,
            arena: Tensor::zeros(zeroforge_artifact::DType::U8, &[0])?,
            bindings: Vec::new(),
            model: model.clone(),
            program: Arc::new(program),
            _object: object,
            entries,
            pool,
            weights,
            options,
            phases: Phases::default(),
            profile: Vec::new(),
        };
        session.reset()?;
        Ok(session)
    }

    /// The program.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// Number of executing threads.
    pub fn threads(&self) -> usize {
        self.pool.threads()
    }

    /// Where the time of the last call went.
    pub fn phases(&self) -> &Phases {
        &self.phases
    }

    /// The steps of the last call, if profiling is on.
    pub fn profile(&self) -> &[StepTime] {
        &self.profile
    }

    /// Puts mutable buffers back to their initial contents.
    pub fn reset(&mut self) -> Result<(), RunError> {
        self.states.clear();
        for (i, buffer) in self.program.buffers.iter().enumerate() {
            let Place::State { initial } = &buffer.place else { continue };
            // States belong to weights, whose sizes are constant.
            let bytes = buffer.bytes.eval(&[])?;
            let mut tensor = Tensor::zeros(zeroforge_artifact::DType::U8, &[bytes])?;
            if let Some(w) = initial {
                let source = self.weight(*w)?;
                if source.len() != tensor.bytes().len() {
                    return Err(RunError::Size {
                        what: format!("state `{}`", buffer.name),
                        value: bytes,
                        reason: "its initial contents have another size",
                    });
                }
                tensor.bytes_mut().copy_from_slice(source);
            }
            self.states.push((i as u32, tensor));
        }
        Ok(())
    }

    /// The bytes of a mutable buffer of the model, by its name.
    pub fn state(&self, name: &str) -> Option<&[u8]> {
        let buffers = &self.program.buffers;
        let found = self.states.iter().find(|(b, _)| buffers[*b as usize].name == name);
        found.map(|(_, tensor)| tensor.bytes())
    }

    /// The stored bytes of a weight of the target.
    fn weight(&self, index: u32) -> Result<&[u8], RunError> {
        let bytes = match &self.weights[index as usize] {
            Weight::Mapped(w) => self.model.artifact.weight_bytes(*w),
            Weight::Owned(tensor) => Some(tensor.bytes()),
        };
        bytes.ok_or_else(|| RunError::Weight {
            name: index.to_string(),
            reason: "it is not in the artifact".to_owned(),
        })
    }

    /// Runs the model on named inputs and returns its named outputs, in the exported order. An output
    /// that is the new value of an input is returned under its own name.
    pub fn run(
        &mut self,
        inputs: Vec<(String, Tensor)>,
    ) -> Result<Vec<(String, Tensor)>, RunError> {
        let start = Instant::now();
        let mut inputs = self.order_inputs(inputs)?;
        let shapes: Vec<&[i64]> = inputs.iter().map(Tensor::shape).collect();
        let symbols = bind_symbols(&self.program, &shapes)?;
        let at = match self.bindings.iter().position(|b| b.symbols == symbols) {
            Some(at) => at,
            None => {
                let bound = bind(&self.program, symbols)?;
                self.check_weights(&bound)?;
                if self.bindings.len() >= MAX_BINDINGS {
                    self.bindings.remove(0);
                }
                self.bindings.push(bound);
                self.bindings.len() - 1
            }
        };
        let arena_bytes = self.bindings[at].arena_bytes;
        if self.arena.bytes().len() < arena_bytes {
            self.arena = Tensor::zeros(zeroforge_artifact::DType::U8, &[arena_bytes as i64])?;
        }
        let program = Arc::clone(&self.program);
        let mut outputs = Vec::with_capacity(program.outputs.len());
        for (port, shape) in program.outputs.iter().zip(&self.bindings[at].outputs) {
            // Outputs that live in an input need no memory of their own.
            let own = !matches!(program.buffers[port.buffer as usize].place, Place::Input(_));
            outputs.push(Tensor::zeros(port.dtype, if own { shape } else { &[0] })?);
        }
        let addresses = self.addresses(at, &mut inputs, &mut outputs)?;
        self.phases.bind = start.elapsed();

        let compute = Instant::now();
        self.launch(at, &addresses);
        self.phases.compute = compute.elapsed();

        let mut named: Vec<(String, Tensor)> = Vec::with_capacity(outputs.len());
        for (at, (port, output)) in program.outputs.iter().zip(outputs).enumerate() {
            // An output whose buffer is an input was updated in place: the input's memory moves on.
            let earlier = program.outputs[..at].iter().position(|p| p.buffer == port.buffer);
            let value = match (program.buffers[port.buffer as usize].place.clone(), earlier) {
                (Place::Input(_), Some(same)) => named[same].1.clone(),
                (Place::Input(i), None) => std::mem::replace(&mut inputs[i as usize], output),
                _ => output,
            };
            named.push((port.name.clone(), value));
        }
        self.phases.total = start.elapsed();
        Ok(named)
    }

    /// Brings inputs into the program's order.
    fn order_inputs(&self, mut given: Vec<(String, Tensor)>) -> Result<Vec<Tensor>, RunError> {
        let expected = || {
            let ports = self.program.inputs.iter();
            let list: Vec<String> =
                ports.map(|p| format!("`{}` ({})", p.name, describe(&self.program, p))).collect();
            if list.is_empty() { "no inputs".to_owned() } else { list.join(", ") }
        };
        let mut ordered = Vec::with_capacity(self.program.inputs.len());
        for port in &self.program.inputs {
            let at = given.iter().position(|(name, _)| *name == port.name);
            let Some(at) = at else {
                return Err(RunError::MissingInput {
                    name: port.name.clone(),
                    expected: expected(),
                });
            };
            let (_, tensor) = given.swap_remove(at);
            if tensor.dtype() != port.dtype {
                return Err(RunError::InputType {
                    name: port.name.clone(),
                    found: tensor.dtype(),
                    expected: port.dtype,
                });
            }
            ordered.push(tensor);
        }
        match given.into_iter().next() {
            None => Ok(ordered),
            Some((name, _)) => Err(RunError::UnknownInput {
                hint: did_you_mean(&name, &self.program.inputs),
                name,
                expected: expected(),
            }),
        }
    }

    /// Stored weights must be as large as the program believes.
    fn check_weights(&self, bound: &Bound) -> Result<(), RunError> {
        for (buffer, &bytes) in self.program.buffers.iter().zip(&bound.buffer_bytes) {
            if let Place::Weight(w) = buffer.place
                && self.weight(w)?.len() as u64 != bytes
            {
                return Err(RunError::Weight {
                    name: buffer.name.clone(),
                    reason: format!(
                        "it has {} bytes, the program needs {bytes}",
                        self.weight(w)?.len()
                    ),
                });
            }
        }
        Ok(())
    }

    /// The address of every buffer.
    fn addresses(
        &mut self,
        at: usize,
        inputs: &mut [Tensor],
        outputs: &mut [Tensor],
    ) -> Result<Vec<u64>, RunError> {
        let arena = self.arena.bytes_mut().as_mut_ptr() as u64;
        let mut addresses = Vec::with_capacity(self.program.buffers.len());
        for (i, buffer) in self.program.buffers.iter().enumerate() {
            let bytes = self.bindings[at].buffer_bytes[i];
            let of = |tensor: &mut Tensor| {
                if tensor.bytes().len() as u64 == bytes {
                    return Ok(tensor.bytes_mut().as_mut_ptr() as u64);
                }
                Err(RunError::Size {
                    what: format!("buffer `{}`", buffer.name),
                    value: bytes as i64,
                    reason: "its tensor has another size",
                })
            };
            addresses.push(match buffer.place {
                Place::Arena { slot, offset } => {
                    arena + self.bindings[at].slots[slot as usize] + offset
                }
                Place::Weight(w) => self.weight(w)?.as_ptr() as u64,
                Place::Input(p) => of(&mut inputs[p as usize])?,
                Place::Output(p) => of(&mut outputs[p as usize])?,
                Place::State { .. } => match self.states.iter_mut().find(|(b, _)| *b == i as u32) {
                    Some((_, tensor)) => of(tensor)?,
                    None => 0,
                },
            });
        }
        Ok(addresses)
    }

    fn launch(&mut self, at: usize, addresses: &[u64]) {
        self.profile.clear();
        let bound = &mut self.bindings[at];
        let scratch = self.scratch.bytes_mut().as_mut_ptr();
        for step in &bound.steps {
            for &(word, buffer, offset) in &step.addresses {
                bound.params[step.params + word] = addresses[buffer as usize] + offset;
            }
            let tasks = step.grid.iter().fold(1u64, |p, &g| p.saturating_mul(g));
            let tasks = i64::try_from(tasks).unwrap_or(i64::MAX);
            let params = bound.params[step.params..].as_ptr().cast::<u8>();
            let start = self.options.profile.then(Instant::now);
            let entry = self.entries[step.kernel].0;
            // SAFETY: the program was validated: the block has the kernel's size, every address lies
            // in a live buffer of the size that the program states, and the compiler that wrote both
            // kernel and program keeps accesses inside those sizes; the artifact's hash (and, under
            // a policy, its signature) vouches that it did. Scratch has one stretch per thread.
            unsafe { self.pool.run(entry, params, tasks, scratch, self.scratch_stride) };
            if let Some(start) = start {
                let info = &self.program.steps[step.step];
                let kernel = &self.program.kernels[step.kernel];
                self.profile.push(StepTime {
                    origin: info.origin.clone(),
                    kernel: kernel.doc.clone(),
                    time: start.elapsed(),
                    flops: info.flops.eval(&bound.symbols).unwrap_or(0),
                });
            }
        }
    }
}

/// ` (did you mean `x`?)` for a name close to a known one.
fn did_you_mean(name: &str, ports: &[Port]) -> String {
    let best = ports.iter().map(|p| (distance(name, &p.name), &p.name)).min();
    match best {
        Some((d, known)) if d <= 1 + known.len() / 3 => format!(" (did you mean `{known}`?)"),
        _ => String::new(),
    }
}

/// Levenshtein distance.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()]
}

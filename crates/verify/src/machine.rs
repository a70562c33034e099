//! A program on the emulated card: its memory, and its steps one by one.
//!
//! Every buffer has an allocation of its own, also those that share a place in a session's arena: an access
//! that leaves its buffer or reads what no step wrote is found, whatever lies next to it in a session. How
//! buffers share memory is checked where a session runs on the software device.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::PathBuf;

use zeroforge_artifact::Target;
use zeroforge_artifact::container::SectionKind;
use zeroforge_artifact::manifest::ModuleEntry;
use zeroforge_artifact::program::{Kernel, ParamValue, Place, Program};
use zeroforge_compiler::kernel_spec::KernelSpec;
use zeroforge_compiler::reference::{self, Output, Values, Verdict, judge};
use zeroforge_compiler::spec_file::{self, Specs};
use zeroforge_emulator::tensor_map::{
    DataType, Interleave, L2Promotion, OobFill, Swizzle, TENSOR_MAP_BYTES, TensorMap,
    TensorMapError, TiledArguments,
};
use zeroforge_emulator::{Device, DeviceMemory, LaunchConfig, Report, launch};
use zeroforge_runtime::bind::{
    Bound, BoundMap, BoundStep, bind, bind_params, bind_symbols, blocks, check_weights,
    order_inputs,
};
use zeroforge_runtime::{Model, RunError, Tensor, Weights};

use crate::VerifyError;
use crate::snapshot::Snapshot;

/// Memory of the emulated card: an H200's.
const CARD_BYTES: u64 = 141 << 30;

/// What executes steps.
#[derive(Debug)]
pub enum Engine {
    /// The emulator: one loaded module per kernel.
    Emulator(Vec<zeroforge_emulator::Program>),
    /// The specs themselves, in plain arithmetic of the kernels' types.
    Reference,
}

/// What is done with a step besides executing it.
#[derive(Clone, Debug)]
pub struct StepChecks {
    /// Compare what it writes with the reference.
    pub reference: bool,
    /// How the emulator runs it.
    pub options: zeroforge_emulator::Options,
}

/// Bytes that a kernel changed and must not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stray {
    /// Name of the buffer.
    pub buffer: String,
    /// The first changed byte.
    pub offset: usize,
    /// How many bytes.
    pub bytes: usize,
}

/// What happened in a step.
#[derive(Debug)]
pub struct Outcome {
    /// Index of the step in the program.
    pub step: usize,
    /// Index of its kernel.
    pub kernel: usize,
    /// What the emulator says.
    pub report: Report,
    /// What the reference says, if it was asked.
    pub verdict: Option<Verdict>,
    /// Bytes that should have stayed as they were.
    pub strays: Vec<Stray>,
}

/// A program with its memory.
#[derive(Debug)]
pub struct Machine {
    program: Program,
    specs: Specs,
    weights: Weights,
    engine: Engine,
    memory: DeviceMemory,
    device: Device,
    weight_addresses: Vec<u64>,
    /// Mutable buffers and counters by index: address and size.
    states: BTreeMap<u32, (u64, usize)>,
}

/// The PTX of a kernel, decoded.
fn load(
    model: &Model,
    target: usize,
    kernel: &Kernel,
    memory: &DeviceMemory,
) -> Result<zeroforge_emulator::Program, VerifyError> {
    let unusable = |reason: String| VerifyError::Ptx { kernel: kernel.entry.clone(), reason };
    let modules = &model.manifest().targets[target].modules;
    let Some(ModuleEntry::Cuda { cubin, ptx }) = modules.get(kernel.module as usize) else {
        return Err(unusable("the artifact has none".to_owned()));
    };
    // What a GPU would load must be there too; its hash is checked on the way.
    let section = |index: u32, kind: SectionKind| -> Result<&[u8], VerifyError> {
        Ok(model.artifact().section(index, kind).map_err(RunError::from)?)
    };
    if !section(*cubin, SectionKind::Cubin)?.starts_with(b"\x7fELF") {
        return Err(unusable("the machine code beside it is no ELF".to_owned()));
    }
    let text = std::str::from_utf8(section(*ptx, SectionKind::Ptx)?);
    let text = text.map_err(|e| unusable(e.to_string()))?;
    let module = zeroforge_ptx::parse(text).map_err(|e| unusable(e.to_string()))?;
    zeroforge_ptx::verify(&module).map_err(|e| unusable(e.to_string()))?;
    let loaded = zeroforge_emulator::Program::load(&module, memory)
        .map_err(|source| VerifyError::Load { kernel: kernel.entry.clone(), source })?;
    let Some(entry) = loaded.kernel(&kernel.entry) else {
        return Err(unusable("it has no such entry".to_owned()));
    };
    let cluster: u32 = entry.limits.required_cluster.unwrap_or([1; 3]).iter().product();
    if cluster != kernel.cluster {
        let stated = kernel.cluster;
        return Err(unusable(format!(
            "its clusters have {cluster} blocks, the program says {stated}"
        )));
    }
    Ok(loaded)
}

/// The device target of a model that the emulator executes.
fn target_of(model: &Model) -> Result<usize, VerifyError> {
    let targets = &model.manifest().targets;
    let rank = |target: Target| match target {
        Target::Cuda { sm: 90, arch_specific } => Some(arch_specific),
        // Plain code for an older architecture runs on a newer one of its kind only; what 8.x kernels
        // use is all in 9.0.
        _ => None,
    };
    let best = (0..targets.len()).filter(|&i| rank(targets[i].target).is_some());
    best.max_by_key(|&i| rank(targets[i].target)).ok_or_else(|| {
        let found: Vec<String> = targets.iter().map(|t| t.target.to_string()).collect();
        VerifyError::NoTarget(found.join(", "))
    })
}

impl Machine {
    /// A model's device program on the emulator.
    pub fn emulator(model: &Model, weights: &[PathBuf]) -> Result<Machine, VerifyError> {
        let target = target_of(model)?;
        let program = model.program(target)?;
        let memory = DeviceMemory::new(CARD_BYTES);
        let mut programs = Vec::with_capacity(program.kernels.len());
        for kernel in &program.kernels {
            programs.push(load(model, target, kernel, &memory)?);
        }
        Machine::new(model, target, program, weights, Engine::Emulator(programs), memory)
    }

    /// A model's device program, executed by what its kernels must compute.
    pub fn reference(model: &Model, weights: &[PathBuf]) -> Result<Machine, VerifyError> {
        let target = target_of(model)?;
        let program = model.program(target)?;
        let memory = DeviceMemory::new(CARD_BYTES);
        Machine::new(model, target, program, weights, Engine::Reference, memory)
    }

    fn new(
        model: &Model,
        target: usize,
        program: Program,
        weights: &[PathBuf],
        engine: Engine,
        memory: DeviceMemory,
    ) -> Result<Machine, VerifyError> {
        let specs = model.artifact().kernel_specs(target).map_err(RunError::from)?;
        let specs = spec_file::decode(specs.ok_or(VerifyError::NoSpecs)?, &program)?;
        let weights = Weights::of(model, target, weights)?;
        let mut weight_addresses = Vec::with_capacity(weights.len());
        for i in 0..weights.len() as u32 {
            let bytes = weights.bytes(i)?;
            // No kernel may write to a weight.
            let address = memory.alloc_constant(bytes.len().max(1) as u64)?;
            memory.write(address, bytes)?;
            weight_addresses.push(address);
        }
        let mut machine = Machine {
            program,
            specs,
            weights,
            engine,
            memory,
            device: Device::default(),
            weight_addresses,
            states: BTreeMap::new(),
        };
        machine.reset()?;
        Ok(machine)
    }

    /// Emulates a card of so many SMs. Persistent kernels have a grid of that size: with few of them each
    /// block takes many tiles.
    pub fn set_sms(&mut self, sms: u32) {
        self.device = Device::hopper(sms);
    }

    /// The program.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// What each kernel computes.
    pub fn specs(&self) -> &[KernelSpec] {
        &self.specs.kernels
    }

    /// The weights.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// Puts mutable buffers back to their initial contents.
    pub fn reset(&mut self) -> Result<(), VerifyError> {
        for (address, _) in std::mem::take(&mut self.states).into_values() {
            self.memory.free(address)?;
        }
        for (i, buffer) in self.program.buffers.iter().enumerate() {
            let initial = match &buffer.place {
                Place::State { initial } => *initial,
                Place::Counters => None,
                _ => continue,
            };
            let size = buffer.bytes.eval(&[]).map_err(RunError::from)?;
            let bytes = usize::try_from(size).unwrap_or(0);
            let address = self.memory.alloc(bytes.max(1) as u64)?;
            match self.weights.initial(&buffer.name, initial, size)? {
                Some(source) => self.memory.write(address, source)?,
                None => self.memory.fill(address, &[0], bytes as u64)?,
            }
            self.states.insert(i as u32, (address, bytes));
        }
        Ok(())
    }

    /// The contents of a mutable buffer of the model, by its name.
    pub fn state(&self, name: &str) -> Result<Option<Vec<u8>>, VerifyError> {
        for (i, (address, bytes)) in &self.states {
            if self.program.buffers[*i as usize].name == name {
                let mut contents = vec![0; *bytes];
                self.memory.read(*address, &mut contents)?;
                return Ok(Some(contents));
            }
        }
        Ok(None)
    }

    /// Binds the sizes of a call.
    pub(crate) fn bind(
        &self,
        inputs: Vec<(String, Tensor)>,
    ) -> Result<(Vec<Tensor>, Bound), VerifyError> {
        let inputs = order_inputs(&self.program, inputs)?;
        let shapes: Vec<&[i64]> = inputs.iter().map(Tensor::shape).collect();
        let bound = bind(&self.program, bind_symbols(&self.program, &shapes)?)?;
        check_weights(&self.program, &bound, &self.weights)?;
        Ok((inputs, bound))
    }

    /// Runs the model on named inputs and returns its outputs. `checks` says what is done with each step,
    /// by its index and kernel; `seen` may end the call after any step, and no outputs are returned then.
    pub fn call(
        &mut self,
        inputs: Vec<(String, Tensor)>,
        checks: &mut dyn FnMut(usize, usize) -> StepChecks,
        seen: &mut dyn FnMut(Outcome) -> ControlFlow<()>,
    ) -> Result<Option<Vec<(String, Tensor)>>, VerifyError> {
        let (inputs, mut bound) = self.bind(inputs)?;
        let addresses = self.place(&inputs, &bound)?;
        let steps = std::mem::take(&mut bound.steps);
        let mut ended = false;
        for step in &steps {
            let wanted = checks(step.step, step.kernel);
            let outcome = self.step(step, &bound, &addresses, &wanted)?;
            if seen(outcome).is_break() {
                ended = true;
                break;
            }
        }
        let mut outputs = Vec::with_capacity(self.program.outputs.len());
        if !ended {
            for (port, shape) in self.program.outputs.iter().zip(&bound.outputs) {
                let mut tensor = Tensor::zeros(port.dtype, shape)?;
                self.memory.read(addresses[port.buffer as usize], tensor.bytes_mut())?;
                outputs.push((port.name.clone(), tensor));
            }
        }
        for (buffer, &address) in self.program.buffers.iter().zip(&addresses) {
            if !matches!(buffer.place, Place::Weight(_) | Place::State { .. } | Place::Counters) {
                self.memory.free(address)?;
            }
        }
        Ok((!ended).then_some(outputs))
    }

    /// Memory for the buffers of a call.
    fn place(&self, inputs: &[Tensor], bound: &Bound) -> Result<Vec<u64>, VerifyError> {
        let mut addresses = Vec::with_capacity(self.program.buffers.len());
        for (i, (buffer, &bytes)) in
            self.program.buffers.iter().zip(&bound.buffer_bytes).enumerate()
        {
            addresses.push(match buffer.place {
                Place::Weight(w) => self.weight_addresses[w as usize],
                Place::State { .. } | Place::Counters => {
                    self.states.get(&(i as u32)).map_or(0, |s| s.0)
                }
                Place::Input(p) => {
                    let address = self.memory.alloc(bytes)?;
                    self.memory.write(address, inputs[p as usize].bytes())?;
                    address
                }
                Place::Arena { .. } | Place::Output(_) => self.memory.alloc(bytes)?,
            });
        }
        Ok(addresses)
    }

    fn step(
        &self,
        step: &BoundStep,
        bound: &Bound,
        addresses: &[u64],
        checks: &StepChecks,
    ) -> Result<Outcome, VerifyError> {
        let kernel = &self.program.kernels[step.kernel];
        let info = &self.program.steps[step.step];
        let words = kernel.param_bytes.div_ceil(8) as usize;
        let mut block = bound.params[step.params..step.params + words].to_vec();
        for &(word, buffer, offset) in &step.addresses {
            block[word] = addresses[buffer as usize] + offset;
        }
        for map in &step.maps {
            let address = addresses[map.buffer as usize] + map.offset;
            let encoded = encode(map, address).map_err(|source| VerifyError::TensorMap {
                step: step.step,
                origin: info.origin.clone(),
                source,
            })?;
            for (word, bytes) in block[map.word..].iter_mut().zip(encoded.as_chunks::<8>().0) {
                *word = u64::from_le_bytes(*bytes);
            }
        }
        let mut params: Vec<u8> = block.iter().flat_map(|w| w.to_le_bytes()).collect();
        params.truncate(kernel.param_bytes as usize);

        let mut touched: Vec<u32> = step.addresses.iter().map(|a| a.1).collect();
        touched.extend(step.maps.iter().map(|m| m.buffer));
        touched.extend(info.reads.iter().chain(&info.writes));
        touched.sort_unstable();
        touched.dedup();
        // What a step writes that is no argument of its spec is memory for itself.
        let arguments = self.specs.arguments(step.step);
        if let Some(arguments) = arguments {
            let is_argument = |buffer: u32| {
                arguments.iter().any(
                    |p| matches!(p.value, ParamValue::Address { buffer: b, .. } if b == buffer),
                )
            };
            touched.retain(|b| is_argument(*b) || !info.writes.contains(b));
        }
        let computes = checks.reference || matches!(self.engine, Engine::Reference);
        let mut before = Snapshot::default();
        let mut outputs = Vec::new();
        if computes {
            for &buffer in &touched {
                self.add(&mut before, buffer, bound, addresses)?;
            }
            let spec = &self.specs.kernels[step.kernel];
            let arguments = match arguments {
                Some(arguments) => {
                    let bytes = spec.param_bytes() as usize;
                    let address_of = |buffer: u32| addresses[buffer as usize];
                    Cow::Owned(bind_params(bound, arguments, bytes, &info.origin, &address_of)?)
                }
                None => Cow::Borrowed(&params[..]),
            };
            outputs = reference::compute(spec, &arguments, &before).map_err(|source| {
                let (step, origin) = (step.step, info.origin.clone());
                VerifyError::Reference { step, origin, source }
            })?;
        }
        let report = match &self.engine {
            Engine::Reference => {
                for output in &outputs {
                    self.write_plain(output)?;
                }
                Report::default()
            }
            Engine::Emulator(programs) => {
                let program = &programs[step.kernel];
                self.launch(step, &info.origin, program, params, &checks.options)?
            }
        };
        let (mut verdict, mut strays) = (None, Vec::new());
        if checks.reference {
            let mut after = Snapshot::default();
            for &buffer in &touched {
                if !matches!(self.program.buffers[buffer as usize].place, Place::Weight(_)) {
                    self.add(&mut after, buffer, bound, addresses)?;
                }
            }
            verdict = Some(judge(&outputs, &after));
            let names: BTreeMap<u64, &str> = touched
                .iter()
                .map(|&b| (addresses[b as usize], self.program.buffers[b as usize].name.as_str()))
                .collect();
            strays = find_strays(&outputs, &before, &after, &names);
        }
        Ok(Outcome { step: step.step, kernel: step.kernel, report, verdict, strays })
    }

    fn add<'a>(
        &'a self,
        snapshot: &mut Snapshot<'a>,
        buffer: u32,
        bound: &Bound,
        addresses: &[u64],
    ) -> Result<(), VerifyError> {
        let address = addresses[buffer as usize];
        let bytes = match self.program.buffers[buffer as usize].place {
            Place::Weight(w) => Cow::Borrowed(self.weights.bytes(w)?),
            _ => {
                let size = usize::try_from(bound.buffer_bytes[buffer as usize]).unwrap_or(0);
                let mut bytes = vec![0; size];
                self.memory.read(address, &mut bytes)?;
                Cow::Owned(bytes)
            }
        };
        snapshot.add(address, bytes);
        Ok(())
    }

    fn launch(
        &self,
        step: &BoundStep,
        origin: &str,
        program: &zeroforge_emulator::Program,
        params: Vec<u8>,
        options: &zeroforge_emulator::Options,
    ) -> Result<Report, VerifyError> {
        let kernel = &self.program.kernels[step.kernel];
        // As a session launches: one dimension.
        let blocks = blocks(&self.program, step, self.device.sm_count)?;
        let limits = program.kernel(&kernel.entry).map(|k| k.limits.required_cluster);
        let config = LaunchConfig {
            grid: [blocks, 1, 1],
            block: [kernel.block, 1, 1],
            cluster: limits.flatten().unwrap_or([1, 1, 1]),
            dynamic_shared: kernel.shared_bytes,
            params,
        };
        launch(program, &kernel.entry, &config, &self.memory, &self.device, options).map_err(
            |source| VerifyError::Launch { step: step.step, origin: origin.to_owned(), source },
        )
    }

    /// Writes what the plain computation gives.
    fn write_plain(&self, output: &Output) -> Result<(), VerifyError> {
        use half::{bf16, f16};
        use zeroforge_artifact::DType;
        let size = output.dtype.size();
        for (i, &address) in output.addresses.iter().enumerate() {
            let bytes = match &output.values {
                Values::Int(values) => values[i].to_le_bytes(),
                Values::Float { plain, .. } => {
                    let v = plain[i];
                    let mut bytes = [0; 8];
                    match output.dtype {
                        DType::F16 => {
                            bytes[..2].copy_from_slice(&f16::from_f64(v).to_le_bytes());
                        }
                        DType::Bf16 => {
                            bytes[..2].copy_from_slice(&bf16::from_f64(v).to_le_bytes());
                        }
                        DType::F32 => bytes[..4].copy_from_slice(&(v as f32).to_le_bytes()),
                        _ => bytes = v.to_le_bytes(),
                    }
                    bytes
                }
            };
            self.memory.write(address, &bytes[..size])?;
        }
        Ok(())
    }
}

/// A tensor map of the emulated card.
fn encode(map: &BoundMap, address: u64) -> Result<[u8; TENSOR_MAP_BYTES], TensorMapError> {
    let unknown = |argument| TensorMapError::Unsupported {
        argument,
        reason: "the emulator does not know it".to_owned(),
    };
    let map = TensorMap::tiled(&TiledArguments {
        dtype: DataType::from_raw(map.data_type.raw()).ok_or(unknown("tensorDataType"))?,
        address,
        dims: &map.dims,
        strides: &map.strides,
        box_dims: &map.box_dims,
        element_strides: &map.element_strides,
        interleave: Interleave::None,
        swizzle: Swizzle::from_raw(map.swizzle.raw()).ok_or(unknown("swizzle"))?,
        l2_promotion: L2Promotion::from_raw(map.l2_promotion.raw())
            .ok_or(unknown("l2Promotion"))?,
        oob_fill: OobFill::Zero,
    })?;
    Ok(map.encode())
}

/// Changes outside of what the reference writes.
fn find_strays(
    outputs: &[Output],
    before: &Snapshot<'_>,
    after: &Snapshot<'_>,
    names: &BTreeMap<u64, &str>,
) -> Vec<Stray> {
    let mut strays = Vec::new();
    for ((start, old), (_, new)) in after
        .regions()
        .filter_map(|(start, new)| Some((before.regions().find(|r| r.0 == start)?, (start, new))))
    {
        if old == new {
            continue;
        }
        let mut covered = vec![false; new.len()];
        for output in outputs {
            let size = output.dtype.size();
            for &address in &output.addresses {
                let at = address.wrapping_sub(start) as usize;
                if let Some(bytes) = covered.get_mut(at..at.saturating_add(size)) {
                    bytes.fill(true);
                }
            }
        }
        let mut changed = (0..new.len()).filter(|&i| old[i] != new[i] && !covered[i]);
        if let Some(first) = changed.next() {
            strays.push(Stray {
                buffer: names.get(&start).copied().unwrap_or_default().to_owned(),
                offset: first,
                bytes: 1 + changed.count(),
            });
        }
    }
    strays
}

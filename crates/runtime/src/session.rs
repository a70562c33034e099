//! A program bound to a device, ready to run again and again.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use zeroforge_artifact::program::{Place, Program};

use crate::bind::{Bound, bind, bind_symbols, check_weights, order_inputs};
use crate::cpu::CpuDevice;
use crate::cuda::{self, CudaDevice, Gpu};
use crate::device::{Call, Device, StepTime, Weights};
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
    /// Steps, and copies to and from a GPU.
    pub compute: Duration,
    /// Everything, from call to return.
    pub total: Duration,
}

/// A model on a device.
#[derive(Debug)]
pub struct Session {
    program: Arc<Program>,
    device: Box<dyn Device>,
    weights: Weights,
    bindings: Vec<Bound>,
    options: SessionOptions,
    phases: Phases,
    profile: Vec<StepTime>,
}

impl Session {
    /// Prepares the best CPU target of a model for this machine.
    pub fn cpu(model: &Model, options: SessionOptions) -> Result<Session, RunError> {
        let target = model.cpu_target()?;
        let program = model.program(target)?;
        let weights = Weights::of(model, target, &options.external_weights)?;
        let device = CpuDevice::new(model, target, &program, &options)?;
        Session::new(program, Box::new(device), weights, options)
    }

    /// Prepares a model on the GPU of an index: makes a context, loads the code, copies the weights.
    ///
    /// # Errors
    /// [`RunError::Device`] without a driver or GPU; an artifact error if it has no code for the GPU.
    pub fn cuda(model: &Model, ordinal: u32, options: SessionOptions) -> Result<Session, RunError> {
        let gpu = Gpu::open(ordinal)?;
        let target = cuda::choose_target(model, &gpu)?;
        let program = model.program(target)?;
        let weights = Weights::of(model, target, &options.external_weights)?;
        let device = CudaDevice::new(model, target, &program, &weights, gpu)?;
        Session::new(program, Box::new(device), weights, options)
    }

    fn new(
        program: Program,
        device: Box<dyn Device>,
        weights: Weights,
        options: SessionOptions,
    ) -> Result<Session, RunError> {
        let mut session = Session {
            program: Arc::new(program),
            device,
            weights,
            bindings: Vec::new(),
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

    /// The device, for people: `cpu, 2 threads` or a GPU's name.
    pub fn device(&self) -> String {
        self.device.name()
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
        self.device.reset(&self.program, &self.weights)
    }

    /// The contents of a mutable buffer of the model, by its name; `None` if it has none of that name.
    pub fn state(&self, name: &str) -> Result<Option<Vec<u8>>, RunError> {
        for (i, buffer) in self.program.buffers.iter().enumerate() {
            if matches!(buffer.place, Place::State { .. }) && buffer.name == name {
                return self.device.state(i as u32);
            }
        }
        Ok(None)
    }

    /// Runs the model on named inputs and returns its named outputs, in the exported order. An output
    /// that is the new value of an input is returned under its own name.
    pub fn run(
        &mut self,
        inputs: Vec<(String, Tensor)>,
    ) -> Result<Vec<(String, Tensor)>, RunError> {
        let start = Instant::now();
        let mut inputs = order_inputs(&self.program, inputs)?;
        let shapes: Vec<&[i64]> = inputs.iter().map(Tensor::shape).collect();
        let symbols = bind_symbols(&self.program, &shapes)?;
        let at = match self.bindings.iter().position(|b| b.symbols == symbols) {
            Some(at) => at,
            None => {
                let bound = bind(&self.program, symbols)?;
                check_weights(&self.program, &bound, &self.weights)?;
                if self.bindings.len() >= MAX_BINDINGS {
                    self.bindings.remove(0);
                }
                self.bindings.push(bound);
                self.bindings.len() - 1
            }
        };
        let program = Arc::clone(&self.program);
        let mut outputs = Vec::with_capacity(program.outputs.len());
        for (port, shape) in program.outputs.iter().zip(&self.bindings[at].outputs) {
            // Outputs that live in an input need no memory of their own.
            let own = !matches!(program.buffers[port.buffer as usize].place, Place::Input(_));
            outputs.push(Tensor::zeros(port.dtype, if own { shape } else { &[0] })?);
        }
        self.phases.bind = start.elapsed();

        let compute = Instant::now();
        self.profile.clear();
        self.device.call(Call {
            program: &program,
            weights: &self.weights,
            bound: &mut self.bindings[at],
            inputs: &mut inputs,
            outputs: &mut outputs,
            profile: self.options.profile.then_some(&mut self.profile),
        })?;
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
}

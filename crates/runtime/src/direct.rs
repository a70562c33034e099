//! Kernels launched without an artifact: a program of constant sizes whose buffers are all the caller's.

use std::sync::Arc;
use std::time::Duration;

use zeroforge_artifact::program::{Place, Program};

use crate::RunError;
use crate::bind::{bind, blocks};
use crate::cuda::{Gpu, Kernel, Memory, Stream, encode_tensor_map, launch_failed, register};

/// Machine code of one kernel, and the PTX it was made from (the software device executes that).
#[derive(Clone, Copy, Debug)]
pub struct Code<'a> {
    /// An ELF for the GPU's architecture.
    pub cubin: &'a [u8],
    /// PTX text.
    pub ptx: &'a [u8],
}

/// A GPU on which programs of constant sizes run, each call complete in itself.
#[derive(Debug)]
pub struct DirectGpu {
    stream: Stream,
    gpu: Arc<Gpu>,
}

/// What a run gave.
#[derive(Clone, Debug)]
pub struct DirectRun {
    /// Contents of the buffers afterwards, in the program's order.
    pub buffers: Vec<Vec<u8>>,
    /// Time of one execution of all steps by the GPU's clock: the least of the timed ones; `None` if none was.
    pub time: Option<Duration>,
}

impl DirectGpu {
    /// The GPU of an index, with a context on it.
    ///
    /// # Errors
    /// [`RunError::Device`] without a driver or such a GPU.
    pub fn open(ordinal: u32) -> Result<DirectGpu, RunError> {
        let gpu = Gpu::open(ordinal)?;
        Ok(DirectGpu { stream: gpu.stream()?, gpu })
    }

    /// The GPU's name.
    pub fn name(&self) -> &str {
        &self.gpu.name
    }

    /// Its streaming multiprocessors, of a slice its own.
    pub fn sm_count(&self) -> u32 {
        self.gpu.sm_count
    }

    /// Major and minor compute capability.
    pub fn capability(&self) -> (u32, u32) {
        self.gpu.capability
    }

    /// Runs a program whose buffers are all in the place `Input`, without symbols and weights: once, and then
    /// `timed` times more between two events each. `buffers` holds their contents, of the stated sizes.
    ///
    /// # Errors
    /// If the program is not valid or not of that kind, or the driver fails.
    pub fn run(
        &self,
        program: &Program,
        code: &[Code<'_>],
        buffers: &[Vec<u8>],
        timed: u32,
    ) -> Result<DirectRun, RunError> {
        let refuse = |reason: String| RunError::Device { device: "cuda".to_owned(), reason };
        program.validate(code.len(), 0).map_err(|e| refuse(e.to_string()))?;
        if !program.symbols.is_empty() {
            return Err(refuse(
                "a direct launch has constant sizes, the program has symbols".to_owned(),
            ));
        }
        let mut bound = bind(program, Vec::new())?;
        if buffers.len() != program.buffers.len() {
            let (found, wanted) = (buffers.len(), program.buffers.len());
            return Err(refuse(format!("{found} buffers were given, the program has {wanted}")));
        }
        for (i, (buffer, bytes)) in program.buffers.iter().zip(buffers).enumerate() {
            if !matches!(buffer.place, Place::Input(_))
                || bound.buffer_bytes[i] != bytes.len() as u64
            {
                let (name, wanted) = (&buffer.name, bound.buffer_bytes[i]);
                let found = bytes.len();
                return Err(refuse(format!(
                    "`{name}` is no input of {wanted} bytes, {found} were given"
                )));
            }
        }
        self.gpu.make_current()?;
        let mut kernels: Vec<Kernel> = Vec::with_capacity(program.kernels.len());
        for kernel in &program.kernels {
            let code = code[kernel.module as usize];
            register(code.cubin, code.ptx)?;
            kernels.push(self.gpu.load(code.cubin, &kernel.entry, kernel.shared_bytes)?);
        }
        let mut memory: Vec<Memory> = Vec::with_capacity(buffers.len());
        for bytes in buffers {
            let allocation = self.gpu.alloc(bytes.len())?;
            self.stream.upload(&allocation, 0, bytes)?;
            memory.push(allocation);
        }
        for step in &mut bound.steps {
            for &(word, buffer, offset) in &step.addresses {
                bound.params[step.params + word] = memory[buffer as usize].address + offset;
            }
            for map in &step.maps {
                let address = memory[map.buffer as usize].address + map.offset;
                let words = encode_tensor_map(map, address, &program.steps[step.step].origin)?;
                let at = step.params + map.word;
                bound.params[at..at + words.len()].copy_from_slice(&words);
            }
        }
        let queue = || -> Result<(), RunError> {
            for step in &bound.steps {
                let kernel = &program.kernels[step.kernel];
                let grid = blocks(program, step, self.gpu.sm_count)?;
                let words = kernel.param_bytes.div_ceil(8) as usize;
                let params = &bound.params[step.params..step.params + words];
                // SAFETY: the program was validated: the block has the kernel's size and every address lies in
                // an allocation of the stated size, alive until after the waits below; that the code keeps
                // inside of them is the word of the compiler that made both, as for artifacts.
                unsafe {
                    let kernel_code = &kernels[step.kernel];
                    self.stream.launch(kernel_code, grid, kernel.block, kernel.shared_bytes, params)
                }
                .map_err(|e| launch_failed(&kernel.doc, &program.steps[step.step].origin, e))?;
            }
            Ok(())
        };
        queue()?;
        self.stream.wait()?;
        let mut contents: Vec<Vec<u8>> = buffers.iter().map(|b| vec![0; b.len()]).collect();
        for (to, from) in contents.iter_mut().zip(&memory) {
            self.stream.download(to, from, 0)?;
        }
        let mut time = None;
        for _ in 0..timed {
            let one = self.stream.time(&queue)?;
            time = Some(time.map_or(one, |least: Duration| least.min(one)));
        }
        Ok(DirectRun { buffers: contents, time })
    }
}

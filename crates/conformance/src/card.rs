//! The devices that cases run on: the emulator, or a GPU. Either takes a plan as a program of one step, checked by
//! the rules of programs and bound by the runtime's own code.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use zeroforge_artifact::program::{Buffer, Kernel, Place, Port, Program, Signature, Step};
use zeroforge_artifact::{DType, Expr, Target};
use zeroforge_emulator::tensor_map::{
    DataType, Interleave, L2Promotion, OobFill, Swizzle, TENSOR_MAP_BYTES, TensorMap,
    TiledArguments,
};
use zeroforge_emulator::{Device, DeviceMemory, LaunchConfig, Options, Report, launch};
use zeroforge_kernels::{Instance, Plan};
use zeroforge_runtime::bind::{BoundMap, bind, blocks};
use zeroforge_runtime::direct::{Code, DirectGpu};

use crate::bench::{Bench, BenchError};

/// Memory of an emulated card: more than any case takes.
const CARD_BYTES: u64 = 4 << 30;
/// What a GPU's buffers hold before something is written: NaN in every float type.
const POISON: u8 = 0xff;

/// A card with a case's buffers.
pub struct Card {
    device: On,
}

enum On {
    Emulator {
        memory: DeviceMemory,
        device: Device,
        /// Address and size.
        buffers: Vec<(u64, u64)>,
    },
    Gpu {
        gpu: Rc<DirectGpu>,
        contents: RefCell<Vec<Vec<u8>>>,
        timed: u32,
        time: Cell<Option<Duration>>,
    },
}

impl Card {
    /// An emulated Hopper slice with this many SMs.
    pub fn new(sms: u32) -> Card {
        Card {
            device: On::Emulator {
                memory: DeviceMemory::new(CARD_BYTES),
                device: Device::hopper(sms),
                buffers: Vec::new(),
            },
        }
    }

    /// A GPU. Launches are repeated `timed` times for [`Card::time`].
    pub fn gpu(gpu: &Rc<DirectGpu>, timed: u32) -> Card {
        let gpu = Rc::clone(gpu);
        Card { device: On::Gpu { gpu, contents: RefCell::default(), timed, time: Cell::new(None) } }
    }

    /// A buffer with contents; its number in plans. On the emulator an access outside of it is a finding.
    ///
    /// # Errors
    /// If the card is full.
    pub fn buffer(&mut self, bytes: &[u8]) -> Result<u32, BenchError> {
        match &mut self.device {
            On::Emulator { memory, buffers, .. } => {
                let address = memory.alloc(bytes.len().max(1) as u64)?;
                memory.write(address, bytes)?;
                buffers.push((address, bytes.len() as u64));
                Ok(buffers.len() as u32 - 1)
            }
            On::Gpu { contents, .. } => {
                let contents = contents.get_mut();
                contents.push(bytes.to_vec());
                Ok(contents.len() as u32 - 1)
            }
        }
    }

    /// A buffer that nothing wrote: on the emulator reading it is a finding, a GPU finds NaN.
    ///
    /// # Errors
    /// If the card is full.
    pub fn unwritten(&mut self, bytes: usize) -> Result<u32, BenchError> {
        match &mut self.device {
            On::Emulator { memory, buffers, .. } => {
                let address = memory.alloc(bytes.max(1) as u64)?;
                buffers.push((address, bytes as u64));
                Ok(buffers.len() as u32 - 1)
            }
            On::Gpu { .. } => self.buffer(&vec![POISON; bytes]),
        }
    }

    /// Contents of a buffer.
    ///
    /// # Errors
    /// If the card's memory cannot be read.
    ///
    /// # Panics
    /// If there is no such buffer.
    pub fn read(&self, buffer: u32) -> Result<Vec<u8>, BenchError> {
        match &self.device {
            On::Emulator { memory, buffers, .. } => {
                let (address, bytes) = buffers[buffer as usize];
                let mut out = vec![0; bytes as usize];
                memory.read(address, &mut out)?;
                Ok(out)
            }
            On::Gpu { contents, .. } => Ok(contents.borrow()[buffer as usize].clone()),
        }
    }

    /// The least time that the GPU took for the last launch; `None` on the emulator, which has no time.
    pub fn time(&self) -> Option<Duration> {
        match &self.device {
            On::Emulator { .. } => None,
            On::Gpu { time, .. } => time.get(),
        }
    }

    /// Launches an instance by a plan of constant sizes. On the emulator with the checks of `options`, whose
    /// findings are in the report.
    ///
    /// # Errors
    /// If the plan or the kernel is malformed, or the GPU fails.
    pub fn launch(
        &self,
        bench: &Bench,
        instance: &Instance,
        plan: &Plan,
        options: &Options,
    ) -> Result<Report, BenchError> {
        let compiled = bench.module(instance)?;
        let program = self.program(instance, plan);
        program
            .validate(1, 0)
            .map_err(|source| BenchError::Plan { entry: instance.entry.clone(), source })?;
        match &self.device {
            On::Emulator { memory, device, buffers } => {
                let loaded =
                    zeroforge_emulator::Program::load(&compiled.module, memory).map_err(|e| {
                        BenchError::Ptx { entry: instance.entry.clone(), reason: e.to_string() }
                    })?;
                let report = emulate(&program, &loaded, memory, device, buffers, options);
                loaded.unload(memory);
                report
            }
            On::Gpu { gpu, contents, timed, time } => {
                let code = Code { cubin: &compiled.code.cubin, ptx: &compiled.code.ptx };
                let run = gpu.run(&program, &[code], &contents.borrow(), *timed)?;
                *contents.borrow_mut() = run.buffers;
                time.set(run.time);
                Ok(Report::default())
            }
        }
    }

    fn sizes(&self) -> Vec<u64> {
        match &self.device {
            On::Emulator { buffers, .. } => buffers.iter().map(|b| b.1).collect(),
            On::Gpu { contents, .. } => contents.borrow().iter().map(|b| b.len() as u64).collect(),
        }
    }

    /// The launch as a program of one step, all buffers the caller's.
    fn program(&self, instance: &Instance, plan: &Plan) -> Program {
        let sizes = self.sizes();
        let bytes = |i: usize| Expr::constant(sizes[i] as i64);
        let indices = || 0..sizes.len() as u32;
        Program {
            target: Target::Cuda { sm: 90, arch_specific: true },
            symbols: Vec::new(),
            guards: Vec::new(),
            buffers: indices()
                .map(|i| Buffer {
                    name: format!("buffer {i}"),
                    place: Place::Input(i),
                    bytes: bytes(i as usize),
                })
                .collect(),
            arena_slots: Vec::new(),
            inputs: indices()
                .map(|i| Port {
                    name: format!("buffer {i}"),
                    dtype: DType::U8,
                    shape: vec![bytes(i as usize)],
                    buffer: i,
                    mutates: None,
                })
                .collect(),
            outputs: Vec::new(),
            kernels: vec![Kernel {
                entry: instance.entry.clone(),
                module: 0,
                param_bytes: instance.param_bytes,
                block: instance.block,
                shared_bytes: instance.shared_bytes,
                cluster: instance.cluster,
                blocks_per_sm: instance.blocks_per_sm,
                doc: instance.doc.clone(),
            }],
            steps: vec![Step {
                kernel: 0,
                grid: plan.grid.clone(),
                params: plan.params.clone(),
                reads: indices().collect(),
                writes: indices().collect(),
                origin: instance.doc.clone(),
                flops: Expr::constant(0),
            }],
            signature: Signature::default(),
        }
    }
}

fn emulate(
    program: &Program,
    loaded: &zeroforge_emulator::Program,
    memory: &DeviceMemory,
    device: &Device,
    buffers: &[(u64, u64)],
    options: &Options,
) -> Result<Report, BenchError> {
    let mut bound = bind(program, Vec::new())?;
    let kernel = &program.kernels[0];
    // A step without work is not among the bound ones.
    let Some(step) = bound.steps.first() else { return Ok(Report::default()) };
    let words = kernel.param_bytes.div_ceil(8) as usize;
    let block = &mut bound.params[step.params..step.params + words];
    for &(word, buffer, offset) in &step.addresses {
        block[word] = buffers[buffer as usize].0 + offset;
    }
    let mut params: Vec<u8> = block.iter().flat_map(|w| w.to_le_bytes()).collect();
    params.truncate(kernel.param_bytes as usize);
    for map in &step.maps {
        let encoded = encode(map, buffers[map.buffer as usize].0 + map.offset)?;
        params[map.word * 8..map.word * 8 + TENSOR_MAP_BYTES].copy_from_slice(&encoded);
    }
    let config = LaunchConfig {
        grid: [blocks(program, step, device.sm_count)?, 1, 1],
        block: [kernel.block, 1, 1],
        cluster: [kernel.cluster, 1, 1],
        dynamic_shared: kernel.shared_bytes,
        params,
    };
    Ok(launch(loaded, &kernel.entry, &config, memory, device, options)?)
}

/// A map as the emulator reads it.
fn encode(map: &BoundMap, address: u64) -> Result<[u8; TENSOR_MAP_BYTES], BenchError> {
    // Every value of the artifact's types has the driver's number, which the emulator knows.
    let known = "a number of the driver API";
    Ok(TensorMap::tiled(&TiledArguments {
        dtype: DataType::from_raw(map.data_type.raw()).expect(known),
        address,
        dims: &map.dims,
        strides: &map.strides,
        box_dims: &map.box_dims,
        element_strides: &map.element_strides,
        interleave: Interleave::None,
        swizzle: Swizzle::from_raw(map.swizzle.raw()).expect(known),
        l2_promotion: L2Promotion::from_raw(map.l2_promotion.raw()).expect(known),
        oob_fill: OobFill::Zero,
    })?
    .encode())
}

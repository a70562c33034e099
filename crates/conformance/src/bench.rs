//! A place to run kernels: instances compiled once, the emulator as the device.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use zeroforge_artifact::program::{Param, ParamValue};
use zeroforge_artifact::{Expr, Target};
use zeroforge_compiler::backend::KernelSource;
use zeroforge_compiler::cache::Cache;
use zeroforge_compiler::cuda::{CudaCompileError, CudaModule, Nvrtc, compile, find_nvrtc};
use zeroforge_emulator::tensor_map::{self, TENSOR_MAP_BYTES};
use zeroforge_emulator::{
    Device, DeviceMemory, LaunchConfig, LaunchError, MemoryError, Options, Program, Report, launch,
};
use zeroforge_kernels::{Instance, Plan};

/// Why a case could not be run.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// No compiler, or it rejected a source.
    #[error(transparent)]
    Compile(#[from] CudaCompileError),
    /// NVRTC's PTX is not understood.
    #[error("`{entry}`: {reason}")]
    Ptx {
        /// The kernel.
        entry: String,
        /// What is wrong.
        reason: String,
    },
    /// Emulated memory.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// A launch that the card would refuse.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// A plan that cannot be evaluated.
    #[error("`{entry}`, {what}: {reason}")]
    Plan {
        /// The kernel.
        entry: String,
        /// Which part of the plan.
        what: String,
        /// Why.
        reason: String,
    },
}

/// Compiles instances, each once.
pub struct Bench {
    nvrtc: Nvrtc,
    cache: Cache,
    modules: Mutex<HashMap<String, Arc<CudaModule>>>,
}

impl Bench {
    /// With the user's compiler and kernel cache.
    ///
    /// # Errors
    /// If there is no compiler.
    pub fn open() -> Result<Bench, BenchError> {
        let found = find_nvrtc().ok_or(CudaCompileError::NoCompiler)?;
        let nvrtc = Nvrtc::load(&found.path)?;
        Ok(Bench { nvrtc, cache: Cache::user(), modules: Mutex::default() })
    }

    /// PTX and machine code of an instance.
    ///
    /// # Errors
    /// If the compiler rejects it.
    pub fn module(&self, instance: &Instance) -> Result<Arc<CudaModule>, BenchError> {
        if let Some(module) =
            self.modules.lock().unwrap_or_else(PoisonError::into_inner).get(&instance.entry)
        {
            return Ok(Arc::clone(module));
        }
        let source = KernelSource {
            entry: instance.entry.clone(),
            text: instance.source.clone(),
            block: instance.block,
            shared_bytes: instance.shared_bytes,
            param_bytes: instance.param_bytes,
            doc: instance.doc.clone(),
            tile: [0; 4],
        };
        let compiled = compile(
            &self.nvrtc,
            &[source],
            Target::Cuda { sm: 90, arch_specific: true },
            &self.cache,
            &|_, _| (),
        )?;
        let module = Arc::new(compiled.into_iter().next().ok_or(CudaCompileError::NoCompiler)?);
        let mut modules = self.modules.lock().unwrap_or_else(PoisonError::into_inner);
        modules.insert(instance.entry.clone(), Arc::clone(&module));
        Ok(module)
    }
}

/// An emulated card with a case's buffers.
pub struct Card {
    memory: DeviceMemory,
    device: Device,
    buffers: Vec<(u64, u64)>,
}

impl Card {
    /// A Hopper slice with this many SMs.
    pub fn new(sms: u32) -> Card {
        Card {
            memory: DeviceMemory::new(4 << 30),
            device: Device::hopper(sms),
            buffers: Vec::new(),
        }
    }

    /// A buffer with contents; its number in plans. An access outside of it is a finding.
    ///
    /// # Errors
    /// If the card is full.
    pub fn buffer(&mut self, bytes: &[u8]) -> Result<u32, BenchError> {
        let address = self.memory.alloc(bytes.len().max(1) as u64)?;
        self.memory.write(address, bytes)?;
        Ok(self.add(address, bytes.len()))
    }

    /// A buffer that nothing wrote: reading it is a finding.
    ///
    /// # Errors
    /// If the card is full.
    pub fn unwritten(&mut self, bytes: usize) -> Result<u32, BenchError> {
        let address = self.memory.alloc(bytes.max(1) as u64)?;
        Ok(self.add(address, bytes))
    }

    fn add(&mut self, address: u64, bytes: usize) -> u32 {
        self.buffers.push((address, bytes as u64));
        self.buffers.len() as u32 - 1
    }

    /// Contents of a buffer.
    ///
    /// # Errors
    /// If there is no such buffer.
    pub fn read(&self, buffer: u32) -> Result<Vec<u8>, BenchError> {
        let (address, bytes) = self.buffers[buffer as usize];
        let mut out = vec![0; bytes as usize];
        self.memory.read(address, &mut out)?;
        Ok(out)
    }

    /// Launches an instance by a plan of constant sizes, all checks of `options` on.
    ///
    /// # Errors
    /// If the plan or the kernel is malformed; what the checkers find is in the report.
    pub fn launch(
        &self,
        bench: &Bench,
        instance: &Instance,
        plan: &Plan,
        options: &Options,
    ) -> Result<Report, BenchError> {
        let module = bench.module(instance)?;
        let malformed = |reason: String| BenchError::Ptx { entry: instance.entry.clone(), reason };
        let text = std::str::from_utf8(&module.ptx).map_err(|e| malformed(e.to_string()))?;
        let parsed = zeroforge_ptx::parse(text).map_err(|e| malformed(e.to_string()))?;
        let program = Program::load(&parsed, &self.memory).map_err(|e| malformed(e.to_string()))?;
        let mut grid = [0u32; 3];
        for (axis, size) in plan.grid.iter().enumerate() {
            let size = self.number(instance, "grid", size)?;
            grid[axis] =
                u32::try_from(size).map_err(|e| self.bad(instance, "grid", e.to_string()))?;
        }
        if grid.contains(&0) {
            return Ok(Report::default());
        }
        if let Some(resident) = instance.blocks_per_sm {
            let most = (self.device.sm_count * resident / instance.cluster * instance.cluster)
                .max(instance.cluster);
            grid[0] = grid[0].min(most);
        }
        let config = LaunchConfig {
            grid,
            block: [instance.block, 1, 1],
            cluster: [instance.cluster, 1, 1],
            dynamic_shared: instance.shared_bytes,
            params: self.params(instance, &plan.params)?,
        };
        let report =
            launch(&program, &instance.entry, &config, &self.memory, &self.device, options);
        program.unload(&self.memory);
        Ok(report?)
    }

    fn bad(&self, instance: &Instance, what: &str, reason: String) -> BenchError {
        BenchError::Plan { entry: instance.entry.clone(), what: what.to_owned(), reason }
    }

    fn number(&self, instance: &Instance, what: &str, size: &Expr) -> Result<i64, BenchError> {
        size.eval(&[]).map_err(|e| self.bad(instance, what, e.to_string()))
    }

    fn params(&self, instance: &Instance, params: &[Param]) -> Result<Vec<u8>, BenchError> {
        let mut block = vec![0u8; instance.param_bytes as usize];
        for param in params {
            let what = format!("parameter at byte {}", param.at);
            let bytes: Vec<u8> = match &param.value {
                ParamValue::Address { buffer, offset } => self
                    .address(instance, &what, *buffer)?
                    .wrapping_add_signed(self.number(instance, &what, offset)?)
                    .to_le_bytes()
                    .to_vec(),
                ParamValue::I64(value) => {
                    self.number(instance, &what, value)?.to_le_bytes().to_vec()
                }
                ParamValue::I32(value) => i32::try_from(self.number(instance, &what, value)?)
                    .map_err(|e| self.bad(instance, &what, e.to_string()))?
                    .to_le_bytes()
                    .to_vec(),
                ParamValue::F32Bits(bits) => bits.to_le_bytes().to_vec(),
                ParamValue::TensorMap(map) => self.tensor_map(instance, &what, map)?.to_vec(),
            };
            let at = param.at as usize;
            block
                .get_mut(at..at + bytes.len())
                .ok_or_else(|| {
                    self.bad(instance, &what, "it leaves the parameter block".to_owned())
                })?
                .copy_from_slice(&bytes);
        }
        Ok(block)
    }

    fn tensor_map(
        &self,
        instance: &Instance,
        what: &str,
        map: &zeroforge_artifact::tensor_map::TensorMap,
    ) -> Result<[u8; TENSOR_MAP_BYTES], BenchError> {
        let sizes = |of: &[Expr]| -> Result<Vec<u64>, BenchError> {
            of.iter().map(|e| Ok(self.number(instance, what, e)?.cast_unsigned())).collect()
        };
        let unknown = || self.bad(instance, what, "the emulator does not know its kind".to_owned());
        let (dims, strides) = (sizes(&map.dims)?, sizes(&map.strides)?);
        let offset = self.number(instance, what, &map.offset)?;
        let encoded = tensor_map::TensorMap::tiled(&tensor_map::TiledArguments {
            dtype: tensor_map::DataType::from_raw(map.data_type.raw()).ok_or_else(unknown)?,
            address: self.address(instance, what, map.buffer)?.wrapping_add_signed(offset),
            dims: &dims,
            strides: &strides,
            box_dims: &map.box_dims,
            element_strides: &map.element_strides,
            interleave: tensor_map::Interleave::None,
            swizzle: tensor_map::Swizzle::from_raw(map.swizzle.raw()).ok_or_else(unknown)?,
            l2_promotion: tensor_map::L2Promotion::from_raw(map.l2_promotion.raw())
                .ok_or_else(unknown)?,
            oob_fill: tensor_map::OobFill::Zero,
        });
        Ok(encoded.map_err(|e| self.bad(instance, what, e.to_string()))?.encode())
    }

    fn address(&self, instance: &Instance, what: &str, buffer: u32) -> Result<u64, BenchError> {
        let found = self.buffers.get(buffer as usize).map(|b| b.0);
        found.ok_or_else(|| self.bad(instance, what, format!("there is no buffer {buffer}")))
    }
}

//! Programs: PTX modules decoded for execution.
//!
//! `flatten` puts the functions that a kernel calls into it, `flow` and `compact` give registers places, `tracked` says which
//! are watched, `decode` gives every symbol and label an index and every instruction the function that executes it, `inst` is what comes out.

pub(crate) mod compact;
pub(crate) mod decode;
pub(crate) mod flatten;
pub(crate) mod flow;
pub(crate) mod inst;
pub(crate) mod tracked;

use std::collections::HashMap;

use zeroforge_ptx::{Function, Module, StateSpace, Symbol, Variable};

use crate::launch::LaunchConfig;
use crate::machine::context::Who;
use crate::memory::{DeviceMemory, MemoryError};
use crate::options::Device;
use crate::program::inst::Inst;
use crate::report::{Party, SourceLine};

/// Why a module cannot be executed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum LoadError {
    /// An instruction that cannot be executed.
    #[error("`{function}`, PTX line {line}: `{instruction}`: {reason}")]
    Instruction {
        /// The function.
        function: String,
        /// Line of the PTX text.
        line: u32,
        /// The instruction.
        instruction: String,
        /// Why.
        reason: String,
    },
    /// A function as a whole cannot be executed.
    #[error("`{function}`: {reason}")]
    Function {
        /// The function.
        function: String,
        /// Why.
        reason: String,
    },
    /// A variable cannot be placed.
    #[error("variable `{name}`: {reason}")]
    Variable {
        /// The variable.
        name: String,
        /// Why.
        reason: String,
    },
    /// The card is full.
    #[error("placing the module's variables: {0}")]
    Memory(#[from] MemoryError),
}

/// A kernel parameter in the parameter block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Param {
    /// Name in the PTX.
    pub name: String,
    /// Offset in bytes.
    pub offset: u32,
    /// Size in bytes.
    pub size: u32,
}

/// The register files of a kernel.
#[derive(Debug, Default)]
pub(crate) struct Files {
    /// Number of 32-bit registers; constants follow them.
    pub(crate) r32: usize,
    pub(crate) r64: usize,
    /// Number of predicates; always-false and always-true follow them.
    pub(crate) predicates: usize,
    pub(crate) constants32: Vec<u32>,
    pub(crate) constants64: Vec<u64>,
    /// Names of the registers whose initialisation is checked at run time.
    pub(crate) tracked: Vec<String>,
}

/// A kernel, ready to run.
pub struct Kernel {
    /// Name.
    pub name: String,
    /// Parameters.
    pub params: Vec<Param>,
    /// Size of the parameter block in bytes.
    pub param_bytes: u32,
    /// Shared memory that the kernel declares, in bytes.
    pub static_shared: u32,
    /// Local memory of one thread, in bytes.
    pub local_bytes: u32,
    /// `.maxntid`, `.reqnctapercluster` and so on.
    pub limits: zeroforge_ptx::module::Limits,
    /// Whether blocks may talk to each other through global memory.
    pub communicates: bool,
    /// 32-bit registers of a thread, a guess from what is live at once; ptxas decides on hardware.
    pub registers: u32,
    pub(crate) files: Files,
    pub(crate) code: Vec<Inst>,
    pub(crate) lines: Vec<SourceLine>,
}

impl std::fmt::Debug for Kernel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kernel")
            .field("name", &self.name)
            .field("params", &self.params)
            .field("instructions", &self.code.len())
            .finish_non_exhaustive()
    }
}

impl Kernel {
    /// Number of instructions, called functions included.
    pub fn instructions(&self) -> usize {
        self.code.len()
    }

    /// Shared memory of a block in bytes, dynamic memory behind the static.
    pub(crate) fn shared_bytes(&self, dynamic: u32) -> u32 {
        self.static_shared + dynamic
    }

    /// Blocks that fit on an SM at once (CUDA C++ Programming Guide, compute capability 9.0); 0 if one is
    /// too large.
    pub fn blocks_per_sm(&self, config: &LaunchConfig, device: &Device) -> u32 {
        let threads = config.block.iter().product::<u32>().next_multiple_of(32).max(32);
        let shared = self.static_shared + config.dynamic_shared + 1024;
        // ptxas gives registers in units of 8 per thread, 256 per warp.
        let registers = self.registers.clamp(16, 255).next_multiple_of(8) * threads;
        (device.threads_per_sm / threads)
            .min(device.shared_per_sm / shared)
            .min(device.registers_per_sm / registers.max(1))
            .min(device.blocks_per_sm)
    }

    /// Turns a place in the code into a line.
    pub(crate) fn party(&self, who: Who) -> Party {
        let at = self.lines.get(who.pc as usize).cloned().unwrap_or_else(|| SourceLine {
            source: None,
            inlined_at: Vec::new(),
            ptx_line: 0,
            instruction: "end of the kernel".to_owned(),
        });
        Party { cta: who.cta, warp: who.warp, lanes: who.lanes, at }
    }
}

/// A module with its variables placed in device memory.
#[derive(Debug)]
pub struct Program {
    kernels: Vec<Kernel>,
    globals: HashMap<String, (u64, u64)>,
}

impl Program {
    /// Decodes all kernels of a module and places its variables. Anything that could not be executed is
    /// refused here, with its line.
    pub fn load(module: &Module, memory: &DeviceMemory) -> Result<Program, LoadError> {
        let mut placed = Vec::with_capacity(module.variables.len());
        let decoded = place_variables(module, memory, &mut placed).and_then(|()| {
            module.entries().map(|function| decode::kernel(module, function, &placed)).collect()
        });
        let kernels: Vec<Kernel> = match decoded {
            Ok(kernels) => kernels,
            Err(e) => {
                for &address in placed.iter().flatten() {
                    if let Err(e) = memory.free(address) {
                        tracing::debug!("a variable of a module that cannot be loaded: {e}");
                    }
                }
                return Err(e);
            }
        };
        let globals = module
            .variables
            .iter()
            .zip(&placed)
            .filter_map(|(v, p)| p.map(|address| (v.name.clone(), (address, v.bytes()))))
            .collect();
        Ok(Program { kernels, globals })
    }

    /// The kernels.
    pub fn kernels(&self) -> &[Kernel] {
        &self.kernels
    }

    /// The kernel of a name.
    pub fn kernel(&self, name: &str) -> Option<&Kernel> {
        self.kernels.iter().find(|k| k.name == name)
    }

    /// Address and size of a variable at module scope.
    pub fn global(&self, name: &str) -> Option<(u64, u64)> {
        self.globals.get(name).copied()
    }

    /// Gives the variables' memory back.
    pub fn unload(&self, memory: &DeviceMemory) {
        for &(address, _) in self.globals.values() {
            if let Err(e) = memory.free(address) {
                tracing::debug!("unloading a variable: {e}");
            }
        }
    }
}

/// Most bytes that one variable may take: more than any card has.
const MAX_VARIABLE_BYTES: u64 = 1 << 38;

/// Addresses of the module's global and constant variables; None for shared ones. After an error, those that
/// were placed before it are there.
fn place_variables(
    module: &Module,
    memory: &DeviceMemory,
    placed: &mut Vec<Option<u64>>,
) -> Result<(), LoadError> {
    let fail = |v: &Variable, reason: &str| LoadError::Variable {
        name: v.name.clone(),
        reason: reason.to_owned(),
    };
    for v in &module.variables {
        placed.push(match v.space {
            StateSpace::Global | StateSpace::Const => {
                let bytes = v.bytes();
                if bytes > MAX_VARIABLE_BYTES {
                    return Err(fail(v, "it is larger than any card's memory"));
                }
                Some(match v.space {
                    StateSpace::Const => memory.alloc_constant(bytes.max(1))?,
                    _ => memory.alloc_zeroed(bytes.max(1))?,
                })
            }
            _ => None,
        });
    }
    for (v, address) in module.variables.iter().zip(placed.iter()) {
        let Some(address) = *address else { continue };
        let size = usize::try_from(v.bytes()).unwrap_or(usize::MAX);
        // A variable without an initialiser is zero (PTX ISA 5.4.4), as its memory is.
        let mut at = 0u64;
        for value in &v.init {
            use zeroforge_ptx::module::InitialValue;
            let bytes = match value {
                InitialValue::Bytes(bytes) => bytes.clone(),
                InitialValue::Address { symbol: Symbol::Global(i), offset, size, .. } => {
                    let base = placed.get(*i as usize).copied().flatten();
                    let base = base.ok_or_else(|| {
                        fail(v, "it is initialised with the address of something that has none")
                    })?;
                    let value = base.wrapping_add(*offset as u64).to_le_bytes();
                    value[..(*size as usize).min(8)].to_vec()
                }
                InitialValue::Address { .. } => {
                    return Err(fail(v, "it is initialised with the address of a function"));
                }
            };
            if at + bytes.len() as u64 > size as u64 {
                return Err(fail(v, "its initialiser is longer than it is"));
            }
            memory.write(address + at, &bytes)?;
            at += bytes.len() as u64;
        }
    }
    Ok(())
}

/// Offsets of a kernel's parameters and the size of the block.
pub(crate) fn param_layout(function: &Function) -> Result<(Vec<Param>, u32), LoadError> {
    let mut params = Vec::new();
    let mut at = 0u64;
    for p in &function.params {
        at = at.next_multiple_of(u64::from(p.align.max(1)));
        // CUDA allows 32,764 bytes from 12.1 on (CUDA C++ Programming Guide, 14.5.10.3).
        if at + p.bytes() > 32_764 {
            return Err(LoadError::Function {
                function: function.name.clone(),
                reason: "its parameters take more than 32,764 bytes".to_owned(),
            });
        }
        params.push(Param { name: p.name.clone(), offset: at as u32, size: p.bytes() as u32 });
        at += p.bytes();
    }
    Ok((params, at as u32))
}

//! Checks an artifact's device kernels with no GPU: each launch of a model is executed on the emulator with all
//! its checkers, and what it wrote is compared with what the kernel's spec says.
//!
//! [`Machine`] holds a program's memory and executes its steps; [`verify`] runs a model once and gives a verdict
//! per kernel; [`inputs`] makes inputs that a model can run on.

#![forbid(unsafe_code)]

pub mod inputs;
mod machine;
mod snapshot;
mod verify;

use zeroforge_compiler::reference::Fault;
use zeroforge_compiler::spec_file::SpecError;
use zeroforge_emulator::tensor_map::TensorMapError;
use zeroforge_emulator::{LaunchError, LoadError, MemoryError};
use zeroforge_runtime::RunError;

pub use machine::{Engine, Machine, Outcome, StepChecks, Stray};
pub use verify::{Event, KernelResult, Options, Steps, Summary, verify};

/// Why a model could not be verified. A kernel that computes something wrong is no error but a result.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// Opening or binding.
    #[error(transparent)]
    Run(#[from] RunError),
    /// What kernels compute is not in the artifact.
    #[error(
        "the artifact does not say what its kernels compute: it has format 1.0 or was stripped; compile the model again"
    )]
    NoSpecs,
    /// No code for a GPU.
    #[error(
        "the artifact has no code for sm_90 or sm_90a; it holds {0}; compile the model with --target sm_90a"
    )]
    NoTarget(String),
    /// What kernels compute is in the artifact and inconsistent.
    #[error(transparent)]
    Specs(#[from] SpecError),
    /// A kernel's PTX cannot be read.
    #[error("the PTX of kernel `{kernel}` cannot be used: {reason}")]
    Ptx {
        /// Entry of the kernel.
        kernel: String,
        /// Why.
        reason: String,
    },
    /// A kernel that cannot be executed.
    #[error("kernel `{kernel}` cannot be executed: {source}")]
    Load {
        /// Entry of the kernel.
        kernel: String,
        /// Why.
        source: LoadError,
    },
    /// A launch that cannot be made.
    #[error("step {step} (`{origin}`): {source}")]
    Launch {
        /// Index of the step.
        step: usize,
        /// What it computes.
        origin: String,
        /// Why.
        source: LaunchError,
    },
    /// A tensor map that cannot be encoded.
    #[error("step {step} (`{origin}`): a tensor map: {source}")]
    TensorMap {
        /// Index of the step.
        step: usize,
        /// What it computes.
        origin: String,
        /// Why.
        source: TensorMapError,
    },
    /// A launch for which there is no reference.
    #[error("step {step} (`{origin}`): {source}")]
    Reference {
        /// Index of the step.
        step: usize,
        /// What it computes.
        origin: String,
        /// Why.
        source: Fault,
    },
    /// The emulated card.
    #[error("the emulated card: {0}")]
    Memory(#[from] MemoryError),
    /// No kernel has the name that was asked for.
    #[error("no kernel of the artifact has `{name}` in its name; it has {known}")]
    NoKernel {
        /// What was asked for.
        name: String,
        /// All kernels.
        known: String,
    },
    /// Sizes that no call can have.
    #[error("{0}")]
    Sizes(String),
}

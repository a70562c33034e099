//! A functional Hopper: executes sm_90a PTX and checks what it does.
//!
//! [`Program::load`] decodes a PTX module, [`DeviceMemory`] is the card's memory, [`launch`](fn@launch) runs a grid
//! and returns a [`Report`] with what the checkers found. Time is not modelled.
//!
//! The way of a launch: `launch` deals clusters to host threads; a cluster (`machine::cluster`) runs its
//! warps in turns; a warp (`machine::warp`) runs its decoded instructions (`ops`), which touch memory
//! through the context (`machine::context`), where the checkers (`check`) watch.

#![deny(unsafe_code)]

mod check;
pub mod launch;
mod machine;
pub mod memory;
mod ops;
pub mod options;
pub mod program;
pub mod report;
pub mod tensor_map;

pub use launch::{LaunchConfig, LaunchError, launch};
pub use memory::{DeviceMemory, MemoryError};
pub use options::{Checks, Device, Options, Schedule};
pub use program::{Kernel, LoadError, Program};
pub use report::{Finding, FindingKind, Party, Report, Severity, SourceLine};

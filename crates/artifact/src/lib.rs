//! What compile time and run time must agree on.
//!
//! This crate is the contract between `zeroforge compile` and the runtime: element types
//! ([`DType`]), symbolic sizes ([`Expr`]), targets ([`Target`]), the executable schedule
//! ([`Program`]) with its parameter blocks, and the `.zfa` container. It knows neither graphs nor
//! devices.

#![forbid(unsafe_code)]

pub mod abi;
pub mod container;
mod dtype;
mod expr;
pub mod manifest;
pub mod program;
mod target;
pub mod tensor_map;
mod validate;
pub mod weights;

pub use container::{Artifact, ArtifactBuilder, ArtifactError};
pub use dtype::{DType, DTypeParseError};
pub use expr::{Expr, ExprError, MAX_EXPR_DEPTH, MAX_EXPR_LEN, Symbol, SymbolRange};
pub use manifest::Manifest;
pub use program::Program;
pub use target::{CpuIsa, Target, TargetParseError};
pub use validate::ProgramError;

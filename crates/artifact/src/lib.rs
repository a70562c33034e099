//! What compile time and run time must agree on.
//!
//! This crate is the contract between `zeroforge compile` and the runtime: element types
//! ([`DType`]), symbolic sizes ([`Expr`]), targets ([`Target`]), the executable schedule
//! ([`Program`]) with its parameter blocks, and the `.zfa` container. It knows neither graphs nor
//! devices.

#![forbid(unsafe_code)]

pub mod abi;
mod dtype;
mod expr;
pub mod program;
mod target;

pub use dtype::{DType, DTypeParseError};
pub use expr::{Expr, ExprError, MAX_EXPR_DEPTH, MAX_EXPR_LEN, Symbol, SymbolRange};
pub use program::Program;
pub use target::{CpuIsa, Target, TargetParseError};

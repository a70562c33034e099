//! The host half of `kernels/`: what can be instantiated, what it accepts, its source text, and how it is launched.
//!
//! A family (a module here) turns a specification into an [`Instance`] (source and launch shape) and, for sizes
//! and operands that may be symbolic, into a [`Plan`] in the terms of [`zeroforge_artifact::program`]: a compiled
//! model and a direct call take the same path. Nothing here needs a compiler or a GPU.

#![forbid(unsafe_code)]

pub mod attention;
pub mod decode;
pub mod gemm;
pub mod headers;
mod plan;
mod refusal;
pub mod rows;
pub mod selection;

pub use plan::{Instance, Plan};
pub use refusal::Refusal;

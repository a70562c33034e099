//! From a verified graph to an artifact.
//!
//! Data flows one way: graph passes -> fusion and selection -> [`kernel_spec`]s with
//! buffers -> a [`backend`] generates and compiles code -> memory plan and schedule -> a
//! `Program` per target in the artifact.

#![deny(unsafe_code)]

pub mod backend;
mod c_expression;
pub mod cache;
pub mod cpu;
pub mod cuda;
pub mod kernel_spec;
pub mod launch;
mod loop_analysis;
pub mod loop_ir;
pub mod lower;
pub mod memory_plan;
pub mod passes;
pub mod pipeline;
pub mod reference;
pub mod schedule;
pub mod spec_file;

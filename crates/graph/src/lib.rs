//! The tensor graph: operations ([`op`]), the graph itself ([`ir`]), symbolic dimensions.
//!
//! Compile side only: the runtime never sees a graph.

#![forbid(unsafe_code)]

pub mod infer;
pub mod ir;
pub mod op;

pub use infer::{GraphError, InferError};
pub use ir::{Graph, NodeId, TensorType, ValueId};
pub use op::Op;

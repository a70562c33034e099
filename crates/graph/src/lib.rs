//! The tensor graph: operations ([`op`]), the graph itself ([`ir`]), its rules ([`verify`](mod@verify)).
//!
//! Compile side only: the runtime never sees a graph.

#![forbid(unsafe_code)]

pub mod infer;
pub mod interpret;
pub mod ir;
pub mod op;
pub mod text;
pub mod verify;
pub mod view;

pub use infer::{GraphError, InferError};
pub use ir::{Graph, NodeId, TensorType, ValueId};
pub use op::Op;
pub use verify::{VerifyError, verify};

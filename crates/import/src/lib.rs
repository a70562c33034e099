//! torch.export archives and weight files into verified graphs.
//!
//! Nothing in an archive is ever executed or evaluated: graphs are JSON, expressions are parsed by
//! a grammar, and pickles are not read.

#![forbid(unsafe_code)]

pub mod archive;
mod gguf;
mod load;
mod lower;
mod pt2;
pub mod weights;

pub use load::{ImportError, ImportOptions, Imported, load_pt2, load_pt2_bytes};
pub use lower::Diagnostic;

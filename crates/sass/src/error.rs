//! What can be wrong with machine code.

use std::path::PathBuf;

/// Why machine code cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SassError {
    /// The file is no cubin, or is damaged.
    #[error("the cubin is damaged: {0}")]
    Cubin(String),
    /// There is no such kernel.
    #[error("no kernel is named `{name}`; there are: {}", have.join(", "))]
    NoKernel {
        /// What was asked for.
        name: String,
        /// What there is.
        have: Vec<String>,
    },
    /// The disassembler cannot be started.
    #[error("the disassembler `{path}` cannot be run: {source}", path = path.display())]
    Run {
        /// Its file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The disassembler failed.
    #[error("the disassembler failed: {0}")]
    Disassembler(String),
    /// The disassembler printed something unknown.
    #[error("line {line} of the disassembly is unknown: {reason}")]
    Text {
        /// Line number, from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// A temporary file.
    #[error("a temporary file for the disassembler: {0}")]
    Io(#[from] std::io::Error),
}

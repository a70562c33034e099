use std::path::PathBuf;

use zeroforge_artifact::{ArtifactError, DType, ExprError};

/// Why a model could not be opened or run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The artifact itself.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    /// An artifact file.
    #[error("`{path}`: {source}")]
    Open {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: ArtifactError,
    },
    /// A file could not be read.
    #[error("{doing} `{path}` failed: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// The operation.
        doing: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// A required input is missing.
    #[error("input `{name}` is missing; the model takes {expected}")]
    MissingInput {
        /// Its name.
        name: String,
        /// All inputs with their types.
        expected: String,
    },
    /// An input that the model does not have.
    #[error("the model has no input `{name}`{hint}; it takes {expected}")]
    UnknownInput {
        /// The name given.
        name: String,
        /// ` (did you mean ...?)` or nothing.
        hint: String,
        /// All inputs with their types.
        expected: String,
    },
    /// An input of the wrong element type.
    #[error("input `{name}` has element type {found}, the model takes {expected}")]
    InputType {
        /// Its name.
        name: String,
        /// What was given.
        found: DType,
        /// What the model takes.
        expected: DType,
    },
    /// An input of the wrong shape.
    #[error("input `{name}` has shape {found:?}, the model takes {expected}: {reason}")]
    InputShape {
        /// Its name.
        name: String,
        /// What was given.
        found: Vec<i64>,
        /// The symbolic shape.
        expected: String,
        /// Which axis, and why.
        reason: String,
    },
    /// A condition on the sizes does not hold.
    #[error("the sizes of this call are not allowed: {0}")]
    Guard(String),
    /// A size could not be computed.
    #[error("binding the sizes of this call failed: {0}")]
    Expr(#[from] ExprError),
    /// A size is negative or too large.
    #[error("{what} would need {value} bytes; {reason}")]
    Size {
        /// What is sized.
        what: String,
        /// How large.
        value: i64,
        /// Why that cannot be.
        reason: &'static str,
    },
    /// A grid that no device launches.
    #[error("{what} has {blocks} blocks, {rule}")]
    Grid {
        /// The grid.
        what: String,
        /// Its blocks.
        blocks: u64,
        /// What is wrong with the number.
        rule: &'static str,
    },
    /// A tensor map that cannot be encoded for the sizes or addresses of a call.
    #[error(
        "the tensor map at byte {at} of the parameters of `{origin}`: {argument} is {value}; {rule}"
    )]
    TensorMap {
        /// The step.
        origin: String,
        /// Its place in the parameter block, in bytes.
        at: usize,
        /// Which argument.
        argument: String,
        /// Its value.
        value: i64,
        /// What it must be.
        rule: &'static str,
    },
    /// An external weight is missing or not what the artifact was built with.
    #[error("weight `{name}`: {reason}")]
    Weight {
        /// The weight.
        name: String,
        /// What is wrong and what to do.
        reason: String,
    },
    /// A signing policy that the artifact does not meet.
    #[error("{0}")]
    Signature(String),
    /// A device or its driver.
    #[error("{device}: {reason}")]
    Device {
        /// The device.
        device: String,
        /// What went wrong and what to do.
        reason: String,
    },
    /// A tensor file or literal.
    #[error("{0}")]
    Tensor(String),
}
